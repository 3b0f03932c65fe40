//! The files of certificate and key → what clients are presented with, at start and again at
//! SIGHUP.

use crate::clock;
use crate::limits::{CERTIFICATE_WARNING_SECONDS, TLS_FILE_BYTES_MAX};
use crate::report::{self, LogEvent};
use crate::settings::TlsFiles;
use crate::wire::tls::{CertificateError, Certified, TlsIdentity};
use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

/// Why the server can't speak TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("invalid {name}: can't read {}: {source}", path.display())]
    Unreadable {
        /// The setting.
        name: &'static str,
        /// The file.
        path: Box<Path>,
        /// What the operating system said.
        source: io::Error,
    },
    /// What is in a file can't be used.
    #[error("invalid {name}: {}: {source}", path.display())]
    Unusable {
        /// The setting.
        name: &'static str,
        /// The file.
        path: Box<Path>,
        /// What is wrong.
        source: CertificateError,
    },
}

/// Files that were read, and what came of them.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    files: TlsFiles,
    identity: Arc<TlsIdentity>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let certified = certified(files)?;
        describe("", &certified);
        Ok(Self {
            files: files.clone(),
            identity: Arc::new(TlsIdentity::new(&certified)),
        })
    }

    /// Reads the files again, and says what came of it. If they can't be used, what was read before
    /// stays in use.
    pub(super) fn read_again(&self) {
        match certified(&self.files) {
            Ok(certified) => {
                self.identity.replace(&certified);
                describe(
                    "SIGHUP: certificate and key were read again, for new connections: ",
                    &certified,
                );
            }
            Err(error) => report::say(
                LogEvent::CertificateKept,
                &format!("SIGHUP: the certificate from before stays in use: {error}"),
            ),
        }
    }

    /// What clients are presented with.
    pub(super) fn identity(&self) -> Arc<TlsIdentity> {
        Arc::clone(&self.identity)
    }
}

/// Says until when a certificate is valid: as a warning if clients will not take it for long.
fn describe(before: &str, certified: &Certified) {
    let now = clock::now();
    let line = format!("{before}{}", certified.describe(now));
    if certified.is_doubtful(now, CERTIFICATE_WARNING_SECONDS) {
        report::say(LogEvent::CertificateExpiring, &line);
    } else {
        report::say(LogEvent::CertificateLoaded, &line);
    }
}

/// What is in a file. The thread that reads it waits for the signal to stop as well, so nothing is
/// waited for: a pipe without a writer, or a device without end, is refused.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(TLS_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TLS_FILE_BYTES_MAX {
        let message = format!("it is larger than {TLS_FILE_BYTES_MAX} bytes");
        return Err(io::Error::other(message));
    }
    Ok(bytes)
}

fn certified(files: &TlsFiles) -> Result<Certified, TlsError> {
    let chain = (TlsFiles::CERTIFICATE_VARIABLE, &*files.certificate);
    let key = (TlsFiles::KEY_VARIABLE, &*files.key);
    let read = |(name, path): (&'static str, &Path)| {
        read_file(path).map_err(|source| TlsError::Unreadable {
            name,
            path: path.into(),
            source,
        })
    };
    let (chain_pem, key_pem) = (read(chain)?, zeroize::Zeroizing::new(read(key)?));
    Certified::from_pem(&chain_pem, &key_pem, clock::now()).map_err(|source| {
        let (name, path) = if source.is_about_key() { key } else { chain };
        TlsError::Unusable {
            name,
            path: path.into(),
            source,
        }
    })
}
