//! What a client has not acknowledged, asked of the kernel: one request and one answer over a
//! netlink socket of the socket diagnosis (`sock_diag(7)`, `linux/inet_diag.h`).
//!
//! It takes about 3 µs, and needs no privilege. The same number comes from `ioctl(SIOCOUTQ)`
//! (tcp(7)), for which there is no safe function. In a sandbox without `AF_NETLINK` nobody is
//! asked, and a kernel without `inet_diag` answers with errors, each after it has looked for the
//! module: it is not asked again after a few. Then a client counts as reading only if its socket
//! takes bytes.

use super::taking::Unacknowledged;
use crate::limits::ACKNOWLEDGED_ERRORS_MAX;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

/// Bytes of a request: a `struct nlmsghdr` and a `struct inet_diag_req_v2`.
const REQUEST_BYTES: u8 = 16 + 56;
/// Where `idiag_wqueue` lies in an answer: in the `struct inet_diag_msg` behind the header.
const WRITE_QUEUE: usize = 16 + 60;
/// Where `idiag_state` lies, and `TCP_LISTEN`.
const STATE: usize = 16 + 1;
const LISTEN: u8 = 10;
/// Where `idiag_timer` and `idiag_retrans` lie, and the timer of retransmissions. A client that
/// reads slowly has another one, of window probes.
const TIMER: usize = 16 + 2;
const RETRANSMITS: u8 = 1;
const RETRANSMISSIONS: usize = 16 + 3;
/// Retransmissions of the same bytes after which the client counts as gone. With the least timeout
/// of Linux they take 1.4 s.
const LOST_RETRANSMISSIONS_MIN: u8 = 3;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`.
const IS_REQUEST: u16 = 1;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `AF_INET` and `AF_INET6`, as the structures have them.
const INET: u8 = 2;
const INET6: u8 = 10;
const NO_EXTENSIONS: u8 = 0;
const ALL_STATES: u32 = u32::MAX;
/// To and from the kernel itself.
const ANY_PORT_ID: u32 = 0;
/// `INET_DIAG_NOCOOKIE`, twice.
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// More than an answer without extensions takes.
const ANSWER_BYTES_MAX: usize = 1024;

/// See the module. One for each core.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    /// `None` if the kernel gives none.
    netlink: Option<OwnedFd>,
    /// Of the last request.
    sequence: u32,
    /// Errors before the first answer.
    errors: u32,
    has_answered: bool,
}

impl Acknowledged {
    /// Opens a descriptor for the questions.
    pub(crate) fn new() -> Self {
        let netlink = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        );
        Self {
            netlink: netlink.ok(),
            sequence: 0,
            errors: 0,
            has_answered: false,
        }
    }

    /// What was given to the kernel for `socket` and its client has not acknowledged. `None` if the
    /// kernel does not say.
    pub(crate) fn missing(&mut self, socket: &TcpStream) -> Option<Unacknowledged> {
        let (Ok(local), Ok(peer)) = (socket.local_addr(), socket.peer_addr()) else {
            // The client is gone: the next read or write will say so.
            return None;
        };
        let missing = self.ask(local, peer);
        self.has_answered |= missing.is_some();
        self.errors += u32::from(missing.is_none());
        if !self.has_answered && self.errors >= ACKNOWLEDGED_ERRORS_MAX {
            self.netlink = None;
        }
        missing
    }

    fn ask(&mut self, local: SocketAddr, peer: SocketAddr) -> Option<Unacknowledged> {
        let netlink = self.netlink.as_ref()?;
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(self.sequence, local, peer);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(netlink, &request, flags).ok()?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        loop {
            // The kernel answers before `send` returns.
            let (count, _) = rustix::net::recv(netlink, &mut answer, RecvFlags::DONTWAIT).ok()?;
            let (sequence, missing) = parse(answer.get(..count)?)?;
            if sequence == self.sequence {
                return missing;
            }
        }
    }
}

/// The question about one connection: `struct nlmsghdr` and `struct inet_diag_req_v2`. Addresses
/// and ports are in network order, all else is in the machine's.
#[expect(
    clippy::host_endian_bytes,
    reason = "netlink(7): the machine's own order"
)]
fn request(sequence: u32, local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize::from(REQUEST_BYTES));
    bytes.extend(u32::from(REQUEST_BYTES).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(IS_REQUEST.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(ANY_PORT_ID.to_ne_bytes());
    let family = if local.is_ipv4() { INET } else { INET6 };
    bytes.extend([family, TCP, NO_EXTENSIONS, 0]);
    bytes.extend(ALL_STATES.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(sixteen_bytes(local.ip()));
    bytes.extend(sixteen_bytes(peer.ip()));
    bytes.extend(scope(local).to_ne_bytes());
    bytes.extend(NO_COOKIE);
    debug_assert_eq!(bytes.len(), usize::from(REQUEST_BYTES));
    bytes
}

/// An address as the structures have it.
fn sixteen_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The interface that a link-local address belongs to, else 0.
fn scope(local: SocketAddr) -> u32 {
    match local {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

/// The sequence of the request that this answers, and what it says; `None` for an error.
#[expect(
    clippy::host_endian_bytes,
    reason = "netlink(7): the machine's own order"
)]
fn parse(answer: &[u8]) -> Option<(u32, Option<Unacknowledged>)> {
    let word = |at: usize| {
        let bytes = answer.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let kind = answer.get(4..6)?;
    let sequence = word(8)?;
    // If the connection is gone, the kernel finds the listening socket, whose queue is another.
    let is_connection = kind == BY_FAMILY.to_ne_bytes() && *answer.get(STATE)? != LISTEN;
    let bytes = word(WRITE_QUEUE).filter(|_| is_connection);
    let is_retransmitting = *answer.get(TIMER)? == RETRANSMITS;
    let retransmissions = *answer.get(RETRANSMISSIONS)?;
    let missing = bytes.map(|bytes| Unacknowledged {
        bytes: u64::from(bytes),
        is_lost: is_retransmitting && retransmissions >= LOST_RETRANSMISSIONS_MIN,
    });
    Some((sequence, missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn falls_as_the_client_reads(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut acknowledged = Acknowledged::new();
        let first = acknowledged.missing(&server).unwrap();
        assert_eq!((first.bytes, first.is_lost), (0, false));
        server.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = server.write(&vec![7; 64 * 1024]) {
            sent += count;
        }
        let before = acknowledged.missing(&server).unwrap().bytes;
        assert!(before > 0 && before <= sent as u64, "{before} of {sent}");
        // So much that the client's kernel makes room, and too little for the server's socket to
        // become writable.
        client.read_exact(&mut vec![0; 512 * 1024]).unwrap();
        let fell = (0..1_000_000).any(|_| acknowledged.missing(&server).unwrap().bytes < before);
        assert!(fell, "{before} bytes at first");
        drop(server);
    }

    #[test]
    fn what_is_not_acknowledged_falls_as_the_client_reads() {
        falls_as_the_client_reads("127.0.0.1:0");
        if TcpListener::bind("[::1]:0").is_ok() {
            falls_as_the_client_reads("[::1]:0");
        }
    }

    #[test]
    fn a_connection_that_is_gone_has_no_number() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let local = server.local_addr().unwrap();
        let mut peer = client.local_addr().unwrap();
        peer.set_ip("127.0.0.2".parse().unwrap());
        let mut acknowledged = Acknowledged::new();
        assert!(acknowledged.ask(local, peer).is_none());
        assert!(acknowledged.missing(&server).is_some(), "the next one");
    }

    #[test]
    fn short_and_foreign_answers_are_no_numbers() {
        let mut answer = vec![0; WRITE_QUEUE + 4];
        for len in 0..answer.len() {
            let parsed = parse(&answer[..len]);
            assert!(parsed.is_none_or(|(_, missing)| missing.is_none()), "{len}");
        }
        // NLMSG_ERROR.
        answer[4] = 2;
        assert!(parse(&answer).is_some_and(|(_, missing)| missing.is_none()));
    }

    #[test]
    fn bytes_that_are_sent_again_and_again_are_lost() {
        let check = |timer, retransmissions, expected| {
            let mut answer = vec![0; WRITE_QUEUE + 4];
            (answer[4], answer[STATE]) = (u8::try_from(BY_FAMILY).unwrap(), 1);
            (answer[TIMER], answer[RETRANSMISSIONS]) = (timer, retransmissions);
            let missing = parse(&answer).unwrap().1.unwrap();
            assert_eq!(missing.is_lost, expected, "{timer}, {retransmissions}");
        };
        check(1, 2, false);
        check(1, 3, true);
        check(4, 9, false);
    }
}
