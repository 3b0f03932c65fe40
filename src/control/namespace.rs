//! What the control plane keeps of one namespace. Changes carry it, and the registry holds it.

use crate::auth::TokenHash;
use crate::model::Timestamp;

/// A registered namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// `ns_…`, never given twice.
    pub id: Box<str>,
    /// 3 to 32 of `a-z 0-9 - _`.
    pub name: Box<str>,
    /// What is kept of its token.
    pub token: TokenHash,
    /// When it was registered.
    pub created: Timestamp,
}
