//! Streams: subscriptions that ask for more than each property of each change (API contract §13).
//!
//! ```text
//! ChangeBatch ─▶ Streams: which streams name the id ─▶ by connection: Wanted ─▶ Client ─▶ Outbox
//!                                                      what all of its streams    paces
//!                                                      together want
//! ```
//!
//! The shard hands over an event as it is stored, and what filters say of it. A core makes of it
//! the messages that its connections want, each once for all of them.
//!
//! | file | job |
//! | --- | --- |
//! | `wanted` | what the streams of one connection together want of a change |
//! | `frames` | the messages of one change, each made once |
//! | `subscriptions` | the subscriptions of one connection, as far as they catch up |
//! | `access` | what the client of a feed may see |
//! | `feed` | one subscriber: its subscriptions, and the outbox that they fill |
//! | `client` | one connection: changes to its outbox, at its pace |
//! | `events` | the events of one connection: each comes once, and in order |
//! | `catching` | those of one connection that catch up: what they ask |
//! | `read` | what shards and logs have answered, as messages |
//! | `places` | how far a connection's streams are: its cursors |

mod access;
mod catching;
mod client;
mod events;
mod feed;
mod frames;
mod places;
mod read;
mod subscriptions;
mod wanted;

pub(crate) use catching::{Catching, Ended};
pub(crate) use client::Client;
pub(crate) use events::Fate;
pub(crate) use feed::Feed;
pub(crate) use frames::{Current, FrameBuffers, Frames, Framing, write_merged};
pub(crate) use places::{ack_cursor, cursor_text};
pub(crate) use read::{each_event, each_found, write_found};
pub(crate) use wanted::{Wanted, cut_of, selects};

use super::catch_up::{CatchUp, Events};
use super::subscribe::Subscriber;
use crate::api::stream_options::{StreamMode, StreamOptions, StreamStart};
use crate::subscribe::{Change, Filter, Forms, Interest, Patterns, Registry, TooCostly};
use flux_storage::Sequence;
use std::ops::Range;
use std::sync::Arc;

/// A subscription that is no plain one.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Whose.
    pub(crate) subscriber: Subscriber,
    /// To what.
    pub(crate) patterns: Patterns,
    /// How.
    pub(crate) options: Arc<StreamOptions>,
    /// The shards that it concerns.
    pub(crate) shards: Range<u16>,
    /// The client's `id` of its message, JSON text.
    pub(crate) id: Option<Box<str>>,
    /// The places from which on its shards tell it, once it is in force.
    pub(crate) places: Box<[Sequence]>,
    /// How it comes to what is live, if it is not simply that.
    pub(crate) catch_up: Option<Box<CatchUp>>,
    /// What becomes of the change that is handed out.
    pub(crate) fate: Fate,
    /// Events that were pushed before it was in force, each with its shard.
    pub(crate) early: Vec<(u16, Sequence)>,
    /// How its client is sent messages.
    pub(crate) framing: Framing,
}

impl Stream {
    /// What the shards have to tell for it.
    pub(crate) fn interest(pattern: &Filter, options: Option<&StreamOptions>) -> Interest {
        let Some(options) = options else {
            return Interest::plain(pattern.clone());
        };
        let frames = options.mode == StreamMode::Property;
        let is_since = matches!(options.start, StreamStart::Since(_));
        Interest {
            pattern: pattern.clone(),
            forms: Forms {
                frames,
                // While it catches up it has to know whether a property is removed.
                events: !frames || options.filter.is_some() || is_since,
            },
            filter: options.filter.clone(),
        }
    }

    /// What becomes of a change in modes `property` and `entity`.
    fn fate_of_change(&mut self, current: &Current<'_>) -> Fate {
        let Some(catch_up) = self.catch_up.as_deref_mut() else {
            return Fate::Push;
        };
        // In mode `entity` what is whole says by itself what went.
        let is_replaced = self.options.mode == StreamMode::Property && current.is_replacing();
        let sequence = current.change.sequence();
        let events = Events {
            is_replaced,
            last: current.shown_sequence(),
            deleted: sequence.zip(current.tombstone_time()),
        };
        let change = (current.change.entity_id(), events);
        let takes = catch_up.takes(current.from, change, sequence);
        if takes { Fate::Push } else { Fate::Passed }
    }

    /// An event is not pushed: it and what comes after it is read from the log.
    fn fall_behind(&mut self, (from, event): (u16, Sequence)) {
        let shards = self.shards.clone();
        let id = self.id.clone();
        let begin = || Box::new(CatchUp::behind(id, shards));
        let tail = self.catch_up.get_or_insert_with(begin).tail_or_begin();
        tail.pushed(from, Sequence::new(event.get().saturating_sub(1)));
        tail.miss(from, event);
    }

    /// Its filter can't judge a change: it ends with an error, which its connection is told next.
    fn end(&mut self) {
        let shards = self.shards.clone();
        let id = self.id.clone();
        let begin = || Box::new(CatchUp::behind(id, shards));
        self.catch_up.get_or_insert_with(begin).end();
    }
}

/// The streams of a core's connections.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    registry: Registry<u32>,
    slots: Vec<Option<Stream>>,
    vacant: Vec<u32>,
    count: usize,
    /// By shard: every change through this one has been handed to the connections that want it.
    fanned_out: Vec<Sequence>,
    hits: Vec<u32>,
}

impl Streams {
    /// Adds a stream. Returns its index.
    pub(crate) fn add(&mut self, stream: Stream) -> u32 {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        for pattern in stream.patterns.each() {
            self.registry.subscribe(index, pattern);
        }
        self.count += 1;
        if let Some(place) = self.slots.get_mut(index as usize) {
            *place = Some(stream);
        }
        index
    }

    /// Takes a stream away.
    pub(crate) fn remove(&mut self, index: u32) {
        let place = self.slots.get_mut(index as usize);
        if let Some(stream) = place.and_then(Option::take) {
            for pattern in stream.patterns.each() {
                self.registry.unsubscribe(index, pattern);
            }
            self.vacant.push(index);
            self.count -= 1;
            if self.count == 0 {
                self.slots = Vec::new();
                self.vacant = Vec::new();
            }
        }
    }

    /// One stream.
    pub(crate) fn get(&self, index: u32) -> Option<&Stream> {
        self.slots.get(index as usize)?.as_ref()
    }

    /// One stream.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Stream> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// True if there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The streams that name the id of a change, those of a connection together.
    pub(crate) fn find(&mut self, change: Change<'_>) -> Vec<u32> {
        let mut hits = std::mem::take(&mut self.hits);
        self.registry.matches(change.entity_id(), &mut hits);
        let connection = |index: &u32| self.get(*index).map(|it| it.subscriber.index);
        hits.sort_unstable_by_key(|index| (connection(index), *index));
        hits
    }

    /// Leaves out of `found` the streams of connections for which `keeps` is false. It is asked
    /// once about each.
    pub(crate) fn retain_connections(
        &self,
        found: &mut Vec<u32>,
        mut keeps: impl FnMut(Subscriber) -> bool,
    ) {
        let mut last: Option<(Subscriber, bool)> = None;
        found.retain(|index| {
            let Some(subscriber) = self.get(*index).map(|it| it.subscriber) else {
                return false;
            };
            let known = last.filter(|(of, _)| of.index == subscriber.index);
            let is_kept = known.map_or_else(|| keeps(subscriber), |(_, is_kept)| is_kept);
            last = Some((subscriber, is_kept));
            is_kept
        });
    }

    /// Those of the same connection as the first of `found`, and the rest.
    pub(crate) fn split_connection<'f>(
        &self,
        found: &'f [u32],
    ) -> Option<(Subscriber, &'f [u32], &'f [u32])> {
        let subscriber = self.get(*found.first()?)?.subscriber;
        let is_other = |index: &u32| {
            let stream = self.get(*index);
            stream.is_none_or(|stream| stream.subscriber.index != subscriber.index)
        };
        let end = found.iter().position(is_other).unwrap_or(found.len());
        let (own, rest) = found.split_at(end);
        Some((subscriber, own, rest))
    }

    /// Ends those of these streams whose filters can't judge a change, because the entity is too
    /// large. Returns them, each with its connection.
    pub(crate) fn end_costly(
        &mut self,
        served: &[(u32, bool)],
        change: Change<'_>,
    ) -> Vec<(u32, u32)> {
        let mut ended = Vec::new();
        if !change.has_costly() {
            return ended;
        }
        for (index, _) in served {
            let Some(stream) = self.get_mut(*index) else {
                continue;
            };
            let filter = stream.options.filter.as_deref();
            let verdict = filter.and_then(|filter| change.verdict(filter));
            if verdict == Some(Err(TooCostly)) {
                stream.end();
                ended.push((stream.subscriber.index, *index));
            }
        }
        ended
    }

    /// Gives the list that [`Streams::find`] returned back.
    pub(crate) fn give_back(&mut self, found: Vec<u32>) {
        self.hits = found;
    }

    /// Every change of a shard through this one has been handed out.
    pub(crate) fn note_fanned_out(&mut self, shard: u16, through: Sequence) {
        let index = usize::from(shard);
        if self.fanned_out.len() <= index {
            self.fanned_out.resize(index + 1, Sequence::ZERO);
        }
        if let Some(place) = self.fanned_out.get_mut(index) {
            *place = (*place).max(through);
        }
    }

    /// The last change of a shard before and including which all have been handed out.
    pub(crate) fn fanned_out(&self, shard: u16) -> Sequence {
        let place = self.fanned_out.get(usize::from(shard));
        place.copied().unwrap_or(Sequence::ZERO)
    }
}
