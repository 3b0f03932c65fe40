//! Random numbers for new logs and new segments.

use std::hash::{BuildHasher, RandomState};

use crate::format::Identity;

/// The identity of a new log.
pub(crate) fn random_identity() -> Identity {
    Identity(random())
}

/// Unpredictable to whoever chooses payloads, and new every time; the hash keys come from the kernel.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
