//! Checkpoints: the state at a position of the log, as immutable files that are used where they are mapped.
//!
//! ```text
//! CheckpointDir   load → Checkpoint { LayerStack, CheckpointMeta }
//!  │              write (changed entities + layers taken in → a layer) → PendingCheckpoint
//!  │              publish (a manifest that names the layers) → remove_unreferenced
//!  └ manifest     which layers, newest first
//! LayerStack      find by id, list by order, over layers from the newest to the oldest
//!  └ layer        header │ blocks of entities │ hash index │ footer │ trailer
//! ```
//!
//! A checkpoint is a cache of the log, so damage of it costs time and nothing else: every part is held to its
//! checksum before it is used, and what does not hold is named and set aside. A *base* has the same form and stands
//! in for a part of the log that was removed.
//!
//! This knows nothing of what a body means, nor of the log.

mod archive;
mod bits;
mod block;
mod cursor;
mod dir;
mod entity;
mod footer;
mod id_hash;
mod index;
mod layer;
mod load;
mod manifest;
mod stack;
mod verify;
mod view;
mod writer;

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod damage_test;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod testing;

pub use cursor::StackCursor;
pub use dir::{CheckpointDir, CheckpointKind, PendingCheckpoint};
pub use entity::{BodyCheck, LayerEntity};
pub use layer::PREFETCH_GROUP_IDS_MAX;
pub use load::{Checkpoint, Load, Quarantined};
pub use manifest::CheckpointMeta;
pub use stack::LayerStack;
pub use verify::CheckpointReport;
pub use view::CheckpointView;
pub use writer::CheckpointThrottle;
