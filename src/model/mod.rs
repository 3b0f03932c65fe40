//! The words that all layers share: identifiers, where they are placed, times and the stored form
//! of an event.
//!
//! Sits at the bottom of the import graph beside `wire` and `limits`; it knows no JSON, no socket
//! and no file.
//!
//! | file | job |
//! | --- | --- |
//! | `event` | the stored form of an event |
//! | `event_test` | every field of it comes back |
//! | `traceparent` | which trace an event is a part of |
//! | `decided` | what the owner of an entity decided of an event |
//! | `entity` | the stored form of an entity, as `flux import` writes it |
//! | `lifetime` | when an entity ends by itself |
//! | `binding` | the binding of an entity to a connection, as it is asked for |
//! | `term` | what an event asks of its owner besides being stored |
//! | `dedup` | for how long the id of an event is known |
//! | `stored` | what became of an event that was stored |
//! | `pack` | stored events on their way to a shard |
//! | `varint` | lengths in stored forms |
//! | `visibility` | who may read a namespace |
//! | `entity_tag` | which state of an entity an answer shows |
//! | `digits` | numbers and UUIDs as text |
//! | `id` | entity ids and their namespaces |
//! | `placement` | id → shard |
//! | `time` | points in time, and RFC 3339 |
//! | `decimal` | exact arithmetic over the text of JSON numbers |
//! | `time_text` | times as clients write them |
//! | `config` | the configuration that can be changed while running |
//! | `durability` | `sync` or `async` |
//! | `commit` | commit points, and what waits for them |
//! | `slicing` | how much of a turn's work is done in one go |
//! | `connector` | what identifies a connector |
//! | `cursor` | places in the order of events, as clients keep them |
//! | `name` | the rule for names |
//! | `scopes` | what a token lets its holder do |
//! | `token_set` | which of a caller's tokens something is about |
//! | `history_start` | where the history of a namespace begins for its readers |

mod binding;
mod commit;
mod config;
mod connector;
mod cursor;
mod decided;
mod decimal;
mod dedup;
mod digits;
mod durability;
mod entity;
mod entity_tag;
mod event;
#[cfg(test)]
mod event_test;
mod history_start;
mod id;
mod lifetime;
mod name;
mod pack;
mod placement;
mod scopes;
mod slicing;
mod stored;
mod term;
mod time;
pub mod time_text;
mod token_set;
mod traceparent;
mod varint;
mod visibility;

pub use binding::{Binding, ConnectionId};
pub use commit::{CommitPoint, CommitQueue};
pub use config::{ConfigPatch, RuntimeConfig};
pub use connector::{BUILT_IN_CONNECTORS, ConnectorId, Sealed};
pub use cursor::{
    CURSOR_CHARS_MAX, Cursor, CursorKey, CursorScope, CursorTooNarrow, InvalidCursor,
    NARROW_CURSOR_CHARS, NarrowCursor,
};
pub use decimal::{Decimal, DecimalError};
pub use dedup::DedupWindow;
pub use digits::{uuid_text, write_decimal, write_hex};
pub use durability::Durability;
pub use entity::{
    EntityDraft, EntityHead, EntityView, RECORD_KIND_ENTITY, StoredChange, VERSION_MAX,
};
pub use entity_tag::EntityTag;
pub use event::{
    Decided, DecidedDraft, EventDecodeError, EventDraft, EventId, EventView, Names, Properties,
    Property, RECORD_KIND_EVENT, Sent,
};
pub use history_start::{HistoryStart, HistoryStarts, Shown};
pub use id::{RESERVED_NAMESPACE, is_reserved, namespace_bytes_of, namespace_of, placement_key};
pub use lifetime::{EndCause, ExpiryChange, Lifetime, LifetimeChange};
pub use name::{NameRule, check_name};
pub use pack::{EventPack, PackedEvent};
pub use placement::{place, place_bytes, place_key};
pub use scopes::{Scope, Scopes};
pub use slicing::Slicing;
pub use stored::{OperationResults, Published, Stored};
pub use term::{Term, TermKind, Terms};
pub use time::{Rfc3339, Timestamp};
pub use token_set::{TOKEN_SET_MAX, TokenSet};
pub use traceparent::TraceParent;
pub use visibility::Visibility;
