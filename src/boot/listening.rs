//! Where the server listens: on the address that it is given, else on the loopback addresses of
//! both families, since a client may take `localhost` for either.

use super::start_error::{StartError, system};
use crate::reactor::sockets;
use crate::settings::Settings;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Attempts to find a port that is free in both families.
const ATTEMPTS: usize = 16;

/// The addresses of a server, which no other server can take.
pub(super) struct Listening {
    addresses: Vec<SocketAddr>,
    /// For the first core.
    claimed: Vec<TcpListener>,
}

impl Listening {
    /// Takes the addresses of these settings, with this port; 0 picks a free one.
    ///
    /// # Errors
    /// `PortTaken`, `Listen`, `System`.
    pub(super) fn claim(settings: &Settings, port: u16) -> Result<Self, StartError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match Self::attempt(settings, port) {
                Err(StartError::PortTaken { .. }) if port == 0 && attempts < ATTEMPTS => {}
                result => return result,
            }
        }
    }

    fn attempt(settings: &Settings, port: u16) -> Result<Self, StartError> {
        let mut listening = Self {
            addresses: Vec::new(),
            claimed: Vec::new(),
        };
        for ip in &settings.bind {
            let address = SocketAddr::new(*ip, listening.port().unwrap_or(port));
            match sockets::claim(address) {
                Ok(listener) => {
                    let address = listener.local_addr().map_err(system("read the port"))?;
                    listening.addresses.push(address);
                    listening.claimed.push(listener);
                }
                // A machine may have one family only.
                Err(error) if is_missing(&error) && !listening.addresses.is_empty() => {}
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(StartError::PortTaken { address });
                }
                Err(source) => return Err(StartError::Listen { address, source }),
            }
        }
        Ok(listening)
    }

    /// The port, which is the same on each address.
    pub(super) fn port(&self) -> Option<u16> {
        self.addresses.first().map(SocketAddr::port)
    }

    /// Never empty.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A listener on each address, for one more core.
    ///
    /// # Errors
    /// `Listen`.
    pub(super) fn for_core(&mut self) -> Result<Vec<TcpListener>, StartError> {
        if !self.claimed.is_empty() {
            return Ok(std::mem::take(&mut self.claimed));
        }
        let listen = |address: &SocketAddr| {
            let address = *address;
            sockets::listen(address).map_err(|source| StartError::Listen { address, source })
        };
        self.addresses.iter().map(listen).collect()
    }
}

/// True if the machine has no such address.
pub(super) fn is_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}
