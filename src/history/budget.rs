//! How far a query may go: until nobody waits for it any more, and for so many steps.

use super::HistoryError;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// See the module. A *step* is an event that is looked at or applied, or an entity that is listed:
/// about a microsecond. So a query notices that it is cancelled long before 10 ms are over.
#[derive(Debug)]
pub struct Budget {
    /// Set by the core if nobody waits for the answer any more.
    cancelled: Arc<AtomicBool>,
    left: Cell<u64>,
}

impl Budget {
    /// For at most so many steps.
    pub const fn new(cancelled: Arc<AtomicBool>, steps_max: u64) -> Self {
        Self {
            cancelled,
            left: Cell::new(steps_max),
        }
    }

    /// Takes note of steps that are about to be made.
    ///
    /// # Errors
    /// [`HistoryError::Cancelled`], [`HistoryError::OverBudget`].
    pub fn spend(&self, steps: u64) -> Result<(), HistoryError> {
        if self.cancelled.load(Relaxed) {
            return Err(HistoryError::Cancelled);
        }
        let left = self.left.get().checked_sub(steps);
        self.left.set(left.ok_or(HistoryError::OverBudget)?);
        Ok(())
    }
}
