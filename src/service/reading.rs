//! What a caller may read: the one gate that every read passes (API contract §16).
//!
//! ```text
//! credentials ─▶ Reader ─┐
//! registry ─▶ private ───┴▶ Readable ─▶ taken along to shards and helper threads
//! ```
//!
//! While no namespace is private, nothing is looked up.

use super::{Caller, Context, Credentials};
use crate::api::ApiError;
use crate::auth::{Extent, Readable, Reader};

/// An id that no entity has: ids hold no control characters.
pub(crate) const ABSENT_ID: &str = "\u{1}/absent";

impl<L> Context<L> {
    /// Who reads, by what a caller presents.
    pub(crate) fn reader(&self, credentials: &Credentials<'_>) -> Reader {
        self.tenants.reader(credentials, self.router.now)
    }

    /// What a caller may read now: for a read that goes on elsewhere. One that takes long asks
    /// again, since tokens die and namespaces become private meanwhile.
    pub(crate) fn readable(&self, credentials: &Credentials<'_>) -> Readable {
        let private = self.tenants.registry.private();
        let reader = if private.is_empty() {
            Reader::All
        } else {
            self.reader(credentials)
        };
        Readable::new(reader, private.clone())
    }

    /// Whether a caller may read this id now.
    pub(crate) fn may_read(&self, credentials: &Credentials<'_>, id: &str) -> bool {
        let private = self.tenants.registry.private();
        private.is_empty() || self.reader(credentials).may_read(private, id)
    }

    /// Whether a caller may read anything with this prefix now.
    pub(crate) fn may_read_within(&self, credentials: &Credentials<'_>, prefix: &str) -> bool {
        let private = self.tenants.registry.private();
        private.is_empty() || self.reader(credentials).may_read_within(private, prefix)
    }

    /// How much of a namespace a caller may read now.
    pub(crate) fn extent_of(&self, credentials: &Credentials<'_>, name: &str) -> Extent {
        let private = self.tenants.registry.private();
        if private.is_empty() {
            return Extent::Whole;
        }
        self.reader(credentials).extent_of(private, name)
    }
}

/// The refusal of a call that names nothing but what its caller may not read.
pub(crate) fn not_readable(caller: &Caller<'_>) -> ApiError {
    match caller.credentials {
        Credentials::None => ApiError::TokenMissing,
        _ => ApiError::NotReadable,
    }
}
