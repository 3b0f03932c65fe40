//! A proxy that cuts connections at any byte and delays what they carry, while it is rough.

use super::{sleep_ms, start};
use fastrand::Rng;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes that a connection takes from the server at once if it is a slow one.
const SLOW_BYTES: usize = 2 * 1024;
/// One connection of so many is slow.
const SLOW_SHARE: u32 = 6;

/// See the module.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_rough: AtomicBool,
    connections: AtomicU64,
}

/// What becomes of one direction of a connection while the proxy is rough.
#[derive(Debug)]
struct Fate {
    /// After so many bytes it is cut.
    left: u64,
    is_slow: bool,
    random: Rng,
}

impl Proxy {
    /// A calm one in front of a port.
    pub(crate) fn start(target: u16, seed: u64, is_over: &Arc<AtomicBool>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let (own, is_over) = (Arc::clone(&shared), Arc::clone(is_over));
        start("proxy", move || {
            let mut random = Rng::with_seed(seed);
            for client in listener.incoming() {
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                own.connections.fetch_add(1, Ordering::Relaxed);
                let seed = random.u64(..);
                // Who connects to a server that is down is cut off.
                if let Ok(client) = client
                    && let Ok(server) = TcpStream::connect(("127.0.0.1", target))
                {
                    carry(&own, client, server, seed);
                }
            }
        });
        Self { port, shared }
    }

    pub(crate) fn be_rough(&self) {
        self.shared.is_rough.store(true, Ordering::Release);
    }

    pub(crate) fn be_calm(&self) {
        self.shared.is_rough.store(false, Ordering::Release);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

fn carry(shared: &Arc<Shared>, client: TcpStream, server: TcpStream, seed: u64) {
    let mut random = Rng::with_seed(seed);
    let is_slow = random.u32(..SLOW_SHARE) == 0;
    if is_slow {
        // Else the kernel holds megabytes for it, and no outbox fills.
        set_socket_recv_buffer_size(&server, SLOW_BYTES).expect("an open socket");
    }
    for socket in [&client, &server] {
        // Without it, it is only slower.
        drop(socket.set_nodelay(true));
    }
    let up = Fate {
        left: match random.u32(..8) {
            0 => random.u64(..600),
            1 => random.u64(..20_000),
            _ => u64::MAX,
        },
        is_slow: false,
        random: random.fork(),
    };
    let down = Fate {
        left: match random.u32(..6) {
            0 => random.u64(..600),
            1 | 2 => random.u64(..10_000),
            3 => random.u64(..200_000),
            4 => random.u64(..5_000_000),
            _ => u64::MAX,
        },
        is_slow,
        random,
    };
    let copies = client
        .try_clone()
        .and_then(|client| Ok((client, server.try_clone()?)));
    let Ok((client_too, server_too)) = copies else {
        return;
    };
    let own = Arc::clone(shared);
    start("up", move || pump(&own, (&client_too, &server_too), up));
    let own = Arc::clone(shared);
    start("down", move || pump(&own, (&server, &client), down));
}

/// Carries one direction until it ends or is cut; then both do.
fn pump(shared: &Shared, (mut from, mut to): (&TcpStream, &TcpStream), mut fate: Fate) {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let is_rough = shared.is_rough.load(Ordering::Acquire);
        let most = match (is_rough, fate.is_slow) {
            (false, _) => piece.len(),
            (true, true) => SLOW_BYTES,
            (true, false) => fate.random.usize(1..=piece.len()),
        };
        let len = match from.read(&mut piece[..most]) {
            Ok(0) | Err(_) => break,
            Ok(len) => len,
        };
        if is_rough {
            if fate.is_slow {
                sleep_ms(10);
            } else if fate.random.u32(..16) == 0 {
                sleep_ms(fate.random.u64(..40));
            }
            let cut = usize::try_from(fate.left).unwrap_or(usize::MAX);
            if cut < len {
                // The other side may be gone already.
                drop(to.write_all(&piece[..cut]));
                break;
            }
            fate.left = fate.left.saturating_sub(len as u64);
        }
        if to.write_all(&piece[..len]).is_err() {
            break;
        }
    }
    for socket in [from, to] {
        // The other direction may have done so already.
        drop(socket.shutdown(Shutdown::Both));
    }
}
