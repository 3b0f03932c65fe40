//! The memory that polls hold of their answers.
//!
//! A poll holds little without asking. Before it holds more it waits for a turn among the large
//! answers, and does not read on meanwhile, so the source is not read either. With its turn it may
//! hold all that a poll may ever hold: it never waits for more, so two of them never wait for each
//! other.

use super::gate::{Gate, Pass};
use super::shares::Owner;
use crate::limits::{
    LARGE_ANSWERS_MAX, LARGE_ANSWERS_PER_OWNER_MAX, LARGE_ANSWERS_SHARE, POLL_BYTES_MAX,
    POLL_BYTES_PER_OWNER_MAX, POLL_HELD_BYTES_MAX, POLL_SMALL_BYTES_MAX, POLLS_IN_FLIGHT_MAX,
    POLLS_IN_FLIGHT_PER_OWNER_MAX,
};
use crate::shard::Counters;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const _: () = assert!(
    LARGE_ANSWERS_PER_OWNER_MAX * POLL_HELD_BYTES_MAX
        + POLLS_IN_FLIGHT_PER_OWNER_MAX * POLL_SMALL_BYTES_MAX
        <= POLL_BYTES_PER_OWNER_MAX
);
const _: () = assert!(
    LARGE_ANSWERS_MAX * POLL_HELD_BYTES_MAX + POLLS_IN_FLIGHT_MAX * POLL_SMALL_BYTES_MAX
        <= POLL_BYTES_MAX
);

/// The memory of all polls.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    large: Gate,
    counters: Arc<Counters>,
}

/// What one poll holds. It is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    memory: Memory,
    owner: Owner,
    bytes: usize,
    turn: Option<Pass>,
}

impl Memory {
    /// The bytes that polls hold are counted in `counters`.
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        // With little memory for clients, polls have less of it too.
        let share = counters.memory.usage().limit / LARGE_ANSWERS_SHARE;
        let large = (share / POLL_HELD_BYTES_MAX).clamp(1, LARGE_ANSWERS_MAX);
        Self {
            large: Gate::new(large, LARGE_ANSWERS_PER_OWNER_MAX),
            counters,
        }
    }

    /// For a poll of `owner` that holds nothing yet.
    pub(super) fn hold(&self, owner: &Owner) -> Held {
        Held {
            memory: self.clone(),
            owner: Arc::clone(owner),
            bytes: 0,
            turn: None,
        }
    }
}

impl Held {
    /// The poll holds so much now. Gives its turn among the large ones back if it needs none.
    pub(super) fn set(&mut self, bytes: usize) {
        let total = &self.memory.counters.connector_bytes;
        total.fetch_add(bytes as u64, Relaxed);
        total.fetch_sub(self.bytes as u64, Relaxed);
        self.bytes = bytes;
    }

    /// Nothing more will be read, so a turn among the large ones is given back as soon as it is not
    /// needed.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.set(bytes);
        if bytes <= POLL_SMALL_BYTES_MAX {
            self.turn = None;
        }
    }

    /// True if the poll has to wait for a turn before it reads on.
    pub(super) fn must_wait(&self) -> bool {
        self.bytes > POLL_SMALL_BYTES_MAX && self.turn.is_none()
    }

    /// True if it has its turn.
    pub(super) fn is_large(&self) -> bool {
        self.turn.is_some()
    }

    /// Waits for a turn among the large answers.
    pub(super) async fn wait_for_turn(&mut self) {
        if self.turn.is_none() {
            self.turn = Some(self.memory.large.enter(&self.owner).await);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_polls_hold_is_counted_until_they_end() {
        let counters = Arc::new(Counters::new(1, usize::MAX));
        let memory = Memory::new(Arc::clone(&counters));
        let (mut first, mut second) = (memory.hold(&"a".into()), memory.hold(&"b".into()));
        first.set(POLL_SMALL_BYTES_MAX);
        assert!(!first.must_wait());
        second.set(POLL_HELD_BYTES_MAX);
        assert!(second.must_wait());
        first.set(7);
        let total = || counters.connector_bytes.load(Relaxed);
        assert_eq!(total(), POLL_HELD_BYTES_MAX as u64 + 7);
        drop(second);
        assert_eq!(total(), 7);
        drop(first);
        assert_eq!(total(), 0);
    }
}
