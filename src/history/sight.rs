//! What of the past one reader may see.

use crate::auth::Readable;
use crate::model::{HistoryStart, Shown, Timestamp};
use flux_storage::Sequence;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// From where on.
    pub shown: Shown,
    /// Of which ids.
    pub readable: Readable,
}

impl Sight {
    /// Everything.
    pub fn all() -> Self {
        Shown::All.into()
    }

    /// Where the history of the one namespace that is read begins, if anything of it is hidden.
    pub const fn start(&self) -> Option<HistoryStart> {
        self.shown.start()
    }

    /// True if the event of an id is hidden, or the entity by its last event.
    pub fn hides(&self, id: &str, sequence: Sequence, time: Timestamp) -> bool {
        self.shown.hides(id, sequence, time) || !self.readable.holds(id)
    }
}

/// Of whichever ids.
impl From<Shown> for Sight {
    fn from(shown: Shown) -> Self {
        Self {
            shown,
            readable: Readable::all(),
        }
    }
}
