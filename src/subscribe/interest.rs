//! What a core asks a shard to tell it.

use std::sync::Arc;

use super::filter::Filter as Pattern;
use crate::filter::Filter;

/// The changes that a core wants, and what of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interest {
    /// Of which entities.
    pub pattern: Pattern,
    /// In which forms.
    pub forms: Forms,
    /// The filter that the shard asks about each of them.
    pub filter: Option<Arc<Filter>>,
}

/// The forms in which a change is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forms {
    /// A frame for each property, or for the deletion.
    pub frames: bool,
    /// The event as it is stored, also one that changes nothing.
    pub events: bool,
}

impl Interest {
    /// That of a plain subscription.
    pub const fn plain(pattern: Pattern) -> Self {
        let forms = Forms {
            frames: true,
            events: false,
        };
        Self {
            pattern,
            forms,
            filter: None,
        }
    }
}
