//! What the owner of an entity says of a filter: the subscriber's core does not have the entity.

use std::sync::Arc;

use crate::filter::Filter;

/// Whether an entity matches a filter, before a change and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// It did.
    pub before: bool,
    /// It does.
    pub after: bool,
}

/// The entity is so large that the filter could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooCostly;

/// The same, with the filter.
#[derive(Debug, Clone)]
pub struct FilterVerdict {
    /// Which.
    pub filter: Arc<Filter>,
    /// What it says.
    pub verdict: Result<Verdict, TooCostly>,
}
