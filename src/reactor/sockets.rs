//! Listening sockets, accepted ones, and the tick: the few system calls behind a core's
//! descriptors.

use crate::limits::LISTEN_BACKLOG;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

/// Checks that nobody listens on `address`, and picks a port if it names none. `SO_REUSEPORT`
/// would let a second server of the same user take half of the first one's connections without a
/// word; a socket without it does not.
///
/// # Errors
/// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`.
pub(crate) fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    TcpListener::bind(address)?.local_addr()
}

/// A listening socket that others of this process share the address with.
///
/// # Errors
/// As [`probe`].
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, LISTEN_BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// The next connection that waits; `None` if there is none. Small answers leave at once (no
/// Nagle delay).
///
/// # Errors
/// If the process is out of descriptors or memory.
pub(crate) fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(socket) => {
            let socket = TcpStream::from(socket);
            // A client that is gone again makes this fail; reading will tell.
            match socket.set_nodelay(true) {
                Ok(()) | Err(_) => Ok(Some(socket)),
            }
        }
        // The client gave up while it waited: as if it had not been there (accept(2)).
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A descriptor that becomes readable every `interval_ms` milliseconds.
///
/// # Errors
/// If the kernel gives none.
pub(crate) fn timer(interval_ms: u64) -> io::Result<OwnedFd> {
    let timer = timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    let seconds = i64::try_from(interval_ms / 1000).unwrap_or(i64::MAX);
    let nanoseconds = i64::try_from(interval_ms % 1000 * 1_000_000).unwrap_or(0);
    let interval = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let setting = Itimerspec {
        it_interval: interval,
        it_value: interval,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting)?;
    Ok(timer)
}

/// Takes back that a timer has fired.
pub(crate) fn acknowledge(timer: impl AsFd) {
    let mut count = [0; 8];
    match rustix::io::read(timer, &mut count) {
        // Would block if it was taken back before.
        Ok(_) | Err(_) => {}
    }
}
