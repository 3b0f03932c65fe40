//! Listening sockets, accepted ones, and the tick: the few system calls behind a core's
//! descriptors.

use crate::limits::{KERNEL_UNSENT_BYTES_MAX, LISTEN_BACKLOG};
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use socket2::SockRef;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

/// A listening socket on an address that nobody else listens on; [`listen`] makes others beside it.
/// If `address` names no port, the kernel picks one.
///
/// `SO_REUSEPORT` would let a second server of the same user take half of the first one's
/// connections without a word. So this socket gets it only when it listens: one without it has its
/// address to itself, also if two servers start in the same instant.
///
/// # Errors
/// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`.
pub(crate) fn claim(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, LISTEN_BACKLOG)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    Ok(TcpListener::from(socket))
}

/// A listening socket that shares the address with the one that has claimed it.
///
/// # Errors
/// As [`claim`].
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, LISTEN_BACKLOG)?;
    Ok(TcpListener::from(socket))
}

fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Accepted sockets have it from their listener.
    SockRef::from(&socket).set_tcp_notsent_lowat(KERNEL_UNSENT_BYTES_MAX)?;
    Ok(socket)
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
