//! How a subscription comes from what its client has to what is live: without a gap, without a
//! repeat, and without a buffer that grows.
//!
//! ```text
//! snapshot          Walk     pages of each shard in order of ids ─┐
//! since             Changed  ids from the logs ─▶ entities whole ─┼─▶ live
//! since, events     Tail     events from the logs ────────────────┘
//!                            ▲ and back, when the client reads too slowly
//! ```
//!
//! Each is told of everything that happens to the subscription (a live change, an answer) and says
//! what is to be pushed and what is to be asked next. One thing is asked at a time, and only while
//! the client takes what it was sent; so a slow client costs no more memory than a fast one.
//!
//! Pure: no shard, no socket and no clock. They rely on the order in which a shard's messages reach
//! a core:
//!
//! - An answer that a shard gave when its log ended with event R comes before every change after R.
//! - The changes up to R have come by the time of the shard's next answer to what was asked later.
//!
//! `Shard::last_point` is the commit point of these answers, and `Core::release` sends answers
//! first.
//!
//! | file | job |
//! | --- | --- |
//! | `subscription` | one subscription: which of them it is, and how far it came |
//! | `walk` | a snapshot |
//! | `changed` | the entities that changed since a cursor |
//! | `tail` | the events since a cursor, or since the client fell behind |
//! | `simulation` | for tests: clients and shards in random order, against a model |

mod changed;
#[cfg(test)]
mod simulation;
mod subscription;
mod tail;
mod walk;

pub(crate) use changed::{Changed, ChangedAsk, Events, TooFar};
pub(crate) use subscription::{CatchUp, Step};
pub(crate) use tail::Tail;
pub(crate) use walk::Walk;
