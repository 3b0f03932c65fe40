//! One connection, plain or by TLS, blocking or not.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// What a read may bring at once: one record. With less room nothing more is received.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    is_blocking: bool,
}

impl Stream {
    pub(crate) const fn plain(socket: TcpStream) -> Self {
        Self {
            socket,
            tls: None,
            is_blocking: true,
        }
    }

    /// Shakes hands, blocking.
    ///
    /// # Errors
    /// When the server does not, or is not the one that its certificate is for.
    pub(crate) fn sealed(
        mut socket: TcpStream,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> io::Result<Self> {
        let client = ClientConnection::new(Arc::clone(config), name.clone());
        let mut client = client.map_err(io::Error::other)?;
        while client.is_handshaking() {
            client.complete_io(&mut socket)?;
        }
        // What is written is sent before more is.
        client.set_buffer_limit(None);
        Ok(Self {
            socket,
            tls: Some(Box::new(client)),
            is_blocking: true,
        })
    }

    pub(crate) fn set_nonblocking(&mut self, nonblocking: bool) -> io::Result<()> {
        self.is_blocking = !nonblocking;
        self.socket.set_nonblocking(nonblocking)
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_read_timeout(timeout)
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.socket.set_write_timeout(timeout)
    }

    /// True if records wait for room in the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|client| client.wants_write())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Read for Stream {
    /// All that has arrived, as far as there is room for another record: readiness tells nothing of
    /// what waits decrypted.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(client) = &mut self.tls else {
            return self.socket.read(buffer);
        };
        let mut count = 0;
        loop {
            match client.reader().read(&mut buffer[count..]) {
                // The end, or no room.
                Ok(0) => return Ok(count),
                Ok(read) => count += read,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(count),
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                // A blocking socket is not waited for once there is something.
                Err(_)
                    if count > 0
                        && (self.is_blocking || buffer.len() - count < RECORD_BYTES_MAX) =>
                {
                    return Ok(count);
                }
                Err(_) => match client.read_tls(&mut self.socket) {
                    Ok(_) => {
                        client.process_new_packets().map_err(io::Error::other)?;
                    }
                    Err(error) if count > 0 && error.kind() == ErrorKind::WouldBlock => {
                        return Ok(count);
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.socket.write(bytes);
        }
        self.flush()?;
        if let Some(client) = &mut self.tls {
            client.writer().write_all(bytes)?;
        }
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(client) = &mut self.tls {
            while client.wants_write() {
                client.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }
}

/// A client that trusts the authorities of a file in PEM, and resumes nothing: each handshake is a
/// whole one.
///
/// # Errors
/// When the file can't be read or used.
pub(crate) fn client(ca_file: &OsStr) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
