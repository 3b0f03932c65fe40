//! Random numbers for new logs and new segments.

use std::hash::{BuildHasher, RandomState};

use crate::format::Identity;
use crate::format::world::World;

/// The identity of a new log.
pub(crate) fn random_identity() -> Identity {
    Identity(random())
}

/// The number of a new world.
pub(crate) fn random_world() -> World {
    World(random().max(1))
}

/// Unpredictable to whoever chooses payloads, and new every time; the hash keys come from the
/// kernel.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
