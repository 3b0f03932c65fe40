//! What a caller may read: the one gate that every read passes (API contract §16).
//!
//! ```text
//! credentials ─▶ Reader ─┐
//! registry ─▶ private ───┴▶ Readable ─▶ taken along to shards and helper threads
//! ```
//!
//! While no namespace is private, nothing is looked up.

use super::tenants::denied;
use super::{Caller, Context, Credentials};
use crate::api::ApiError;
use crate::auth::{Access, Denied, Extent, PrivateNamespaces, Readable, Reader};
use crate::model::{Scope, Terms};

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

/// Whether a writer is told what its operations led to. It has to be one that may write the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    Told,
    LeftOut,
}

/// What a writer is told of the entity that it writes, which it may not be allowed to read.
/// `terms`: what its event asks of the entity's owner.
///
/// # Errors
/// If a condition would tell it what it may not read.
pub(super) fn judge_terms(
    (access, private): (&Access, &PrivateNamespaces),
    (id, terms): (&str, &[u8]),
) -> Result<Results, ApiError> {
    if terms.is_empty() || private.is_empty() || Reader::of(access.clone()).may_read(private, id) {
        return Ok(Results::Told);
    }
    if Terms::new(terms).any(|term| term.kind.is_condition()) {
        return Err(denied(Denied::NoScope(Scope::Read)));
    }
    Ok(Results::LeftOut)
}

/// The refusal of a call that names nothing but what its caller may not read.
pub(crate) fn not_readable(caller: &Caller<'_>) -> ApiError {
    match caller.credentials {
        Credentials::None => ApiError::TokenMissing,
        _ => ApiError::NotReadable,
    }
}
