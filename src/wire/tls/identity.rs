//! What new connections are presented with. It is replaced when the files are read again; old
//! connections keep what they began with.

use super::Certified;
use rustls::ServerConfig;
use std::sync::Arc;

/// See the module. One for all cores: a ticket that one of them gave is taken by the others.
#[derive(Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "read once for each accepted connection, written when files are read again"
)]
pub struct TlsIdentity(std::sync::Mutex<Arc<ServerConfig>>);

#[expect(clippy::disallowed_types, reason = "as the type")]
impl TlsIdentity {
    /// Presents this.
    pub fn new(certified: &Certified) -> Self {
        Self(std::sync::Mutex::new(certified.config()))
    }

    /// What a connection that begins now is presented with.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock())
    }

    /// Presents this from now on. Tickets from before are not taken any more: who comes back with
    /// one sees the new certificate.
    pub fn replace(&self, certified: &Certified) {
        *self.lock() = certified.config();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<ServerConfig>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
