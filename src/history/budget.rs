//! How far a query may go: until nobody waits for it any more, for so many steps, and as long as
//! there is memory to work in.

use super::HistoryError;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// See the module. A *step* is an event that is looked at or applied, or an entity that is listed:
/// about a microsecond. So a query notices that it is cancelled long before 10 ms are over.
#[derive(Debug)]
pub struct Budget {
    /// Set by the core if nobody waits for the answer any more.
    cancelled: Arc<AtomicBool>,
    left: Cell<u64>,
    /// `None`: as much as there is.
    memory: Option<RefCell<Box<dyn WorkingMemory>>>,
    /// What of it is taken.
    held: Cell<usize>,
}

/// What a query works in.
pub trait WorkingMemory: std::fmt::Debug + Send {
    /// Takes more, so that it is `bytes` in all. False if there is not so much.
    fn grow_to(&mut self, bytes: usize) -> bool;
}

/// By so many bytes a query takes more memory.
const STEP_BYTES: usize = 256 * 1024;

impl Budget {
    /// For at most so many steps.
    pub const fn new(cancelled: Arc<AtomicBool>, steps_max: u64) -> Self {
        Self {
            cancelled,
            left: Cell::new(steps_max),
            memory: None,
            held: Cell::new(0),
        }
    }

    /// The same for a query that works in this memory.
    #[must_use]
    pub fn within(self, memory: Box<dyn WorkingMemory>) -> Self {
        Self {
            memory: Some(RefCell::new(memory)),
            ..self
        }
    }

    /// Takes note that the query works in so many bytes.
    ///
    /// # Errors
    /// [`HistoryError::OutOfMemory`].
    pub fn hold(&self, bytes: usize) -> Result<(), HistoryError> {
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        if bytes <= self.held.get() {
            return Ok(());
        }
        let wanted = bytes.next_multiple_of(STEP_BYTES);
        if !memory.borrow_mut().grow_to(wanted) {
            return Err(HistoryError::OutOfMemory);
        }
        self.held.set(wanted);
        Ok(())
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
