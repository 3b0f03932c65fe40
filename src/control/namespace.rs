//! What the control plane keeps of one namespace. Changes carry it, and the registry holds it.

use crate::auth::TokenHash;
use crate::model::{HistoryStart, Timestamp, Visibility};
use flux_storage::Sequence;

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
    /// The last event of its shard's log before. `None` if a version registered it that did not
    /// record the place.
    pub after: Option<Sequence>,
    /// Who may read it.
    pub visibility: Visibility,
}

impl Namespace {
    /// Where its history begins for its readers.
    pub fn history_start(&self) -> HistoryStart {
        self.after
            .map_or(HistoryStart::At(self.created), HistoryStart::After)
    }
}
