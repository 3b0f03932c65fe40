//! Why a server did not start.

use super::preflight::MissingFeature;
use super::tls::TlsError;
use crate::control::ControlError;
use flux_storage::StorageError;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// Why the server did not start. Each message says what and, if that helps, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The machine lacks something.
    #[error(transparent)]
    Machine(#[from] MissingFeature),
    /// The certificate or its key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port is taken.
    #[error("{address} is in use by another program: stop it, or choose another port with --port")]
    PortTaken {
        /// Address and port.
        address: SocketAddr,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another server has the data directory.
    #[error("{0}: stop it, or choose another directory with --data-dir")]
    Locked(Box<StorageError>),
    /// The data directory can't be used.
    #[error("can't use the data directory {}: {source}", path.display())]
    DataDir {
        /// The directory.
        path: Box<Path>,
        /// What the storage found.
        source: Box<StorageError>,
    },
    /// The control log can't be used.
    #[error("can't use the control log {}: {source}", path.display())]
    Control {
        /// Its directory.
        path: Box<Path>,
        /// What is wrong with it.
        source: Box<ControlError>,
    },
    /// The control log is gone.
    #[error(
        "missing: {}: without it no namespace has an owner; restore a backup, or start once with FLUX_AUTH_ENABLED=false \
         to begin without namespaces", path.display()
    )]
    NoControl {
        /// Where it should be.
        path: Box<Path>,
    },
    /// The access log can't be opened.
    #[error("can't open the access log: {source}: FLUX_ACCESS_LOG names it")]
    AccessLog {
        /// What the operating system said.
        source: io::Error,
    },
    /// A core ended with an error.
    #[error("{0}")]
    Core(String),
    /// The operating system refused something that the server can't do without.
    #[error("can't {attempt}: {source}")]
    System {
        /// What was attempted.
        attempt: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

/// For what the operating system has refused.
pub(super) fn system(attempt: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { attempt, source }
}
