//! Checkpoints: the state at a position of the log, as immutable files that are used where they are
//! mapped.
//!
//! ```text
//! CheckpointDir   load → Checkpoint { LayerStack, CheckpointMeta }
//!  │              write (changed entities + merged layers → a new layer) → PendingCheckpoint
//!  │              publish (a manifest that names the layers) → remove_unreferenced
//!  └ manifest     which layers, newest first
//! LayerStack      find by id, list by order, over layers from the newest to the oldest
//!  └ layer        header │ blocks of entities │ hash index │ footer │ trailer
//! ```
//!
//! | file | |
//! | --- | --- |
//! | `dir` | a directory of checkpoints and its only writer |
//! | `load` | finding the newest whole checkpoint, and quarantining damaged files |
//! | `view` | reading a directory beside its writer |
//! | `verify` | reading everything, to report what is damaged |
//! | `manifest` | the file that names the layers of a checkpoint |
//! | `stack` | the layers of a checkpoint, newest first |
//! | `cursor` | walking a stack in order of ids |
//! | `layer` | one layer, mapped |
//! | `writer` | writing a layer |
//! | `block` | a block of entities as rkyv stores it |
//! | `index` | the hash index of a layer |
//! | `footer` | the list of a layer's blocks and pages |
//! | `archive` | access to the mapped archives: `unsafe` |
//! | `bits` | a set of bits that several threads set |
//! | `id_hash` | the salted hash of an id |
//! | `entity` | an entity as layers hold it |
//!
//! A checkpoint is a cache of the log, so damage of it costs time and nothing else. Every part is
//! compared with its checksum before it is used; a damaged file is reported and quarantined. A
//! *base* has the same form and replaces a part of the log that retention removed.
//!
//! This folder must not know what a body means, nor the log.

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
