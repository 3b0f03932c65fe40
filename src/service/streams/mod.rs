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
//! | `client` | one connection: changes to its outbox, at its pace |
//! | `places` | how far a connection's streams are: its cursors |

mod client;
mod frames;
mod places;
mod wanted;

pub(crate) use client::{Client, Pushed};
pub(crate) use frames::{Current, FrameBuffers, Frames, Framing, write_merged};
pub(crate) use places::{ack_cursor, cursor_text};
pub(crate) use wanted::Wanted;

use super::subscribe::Subscriber;
use crate::api::stream_options::{StreamMode, StreamOptions};
use crate::subscribe::{Change, Filter, Forms, Interest, Registry};
use flux_storage::Sequence;
use std::sync::Arc;

/// A subscription that is no plain one.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Whose.
    pub(crate) subscriber: Subscriber,
    /// To what.
    pub(crate) pattern: Filter,
    /// How.
    pub(crate) options: Arc<StreamOptions>,
    /// Shards whose changes did not fit the outbox in mode `event`, each with the last one that
    /// was pushed. Nothing more of them is pushed from here.
    pub(crate) behind: Vec<(u16, Sequence)>,
}

impl Stream {
    /// What the shards have to tell for it.
    pub(crate) fn interest(pattern: &Filter, options: Option<&StreamOptions>) -> Interest {
        let Some(options) = options else {
            return Interest::plain(pattern.clone());
        };
        let frames = options.mode == StreamMode::Property;
        Interest {
            pattern: pattern.clone(),
            forms: Forms {
                frames,
                events: !frames || options.filter.is_some(),
            },
            filter: options.filter.clone(),
        }
    }

    /// True if changes of a shard are not pushed from here.
    pub(crate) fn is_behind(&self, shard: u16) -> bool {
        self.behind.iter().any(|(behind, _)| *behind == shard)
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
        self.registry.subscribe(index, &stream.pattern);
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
            self.registry.unsubscribe(index, &stream.pattern);
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

    /// Gives the list that [`Streams::find`] returned back.
    pub(crate) fn give_back(&mut self, found: Vec<u32>) {
        self.hits = found;
    }

    /// The streams of mode `event` among these whose event did not fit: they are behind from here.
    pub(crate) fn fall_behind(&mut self, found: &[u32], (shard, event): (u16, Sequence)) {
        let before = Sequence::new(event.get().saturating_sub(1));
        for index in found {
            if let Some(stream) = self.get_mut(*index)
                && stream.options.mode == StreamMode::Event
                && !stream.is_behind(shard)
            {
                stream.behind.push((shard, before));
            }
        }
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
