//! The words that all layers share: identifiers, times and the stored form of an event.
//!
//! Sits at the bottom of the import graph beside `wire` and `limits`; it knows no JSON, no socket and no file.

mod durability;
mod event;
mod id;
mod pack;
mod time;
mod varint;

pub use durability::Durability;
pub use event::{EventDecodeError, EventDraft, EventId, EventView, Properties, Property};
pub use id::{RESERVED_NAMESPACE, is_reserved, namespace_of, placement_key};
pub use pack::EventPack;
pub use time::{Rfc3339, Timestamp};
