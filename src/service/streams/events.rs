//! The events of one connection: each comes once, and in order, however many of its streams want
//! it.
//!
//! ```text
//! live event ─▶ sent already? ─yes─▶ nothing
//!                  │ no
//!                  ├─ a stream that wants it is behind ─▶ all that want it are behind
//!                  └─ else pushed, once
//! log part   ─▶ one read for all streams that are behind on this shard, from the one that is
//!               furthest behind
//! ```
//!
//! Of each stream it is known after which event it begins and up to which its client has everything
//! that it wants. So whether an event was sent is known without a list of what was: it was if it
//! lies between the two for any stream that wants it.
//!
//! A stream that is not behind goes behind too when another one has to send first what both want.
//! Else the newer event would come before older ones of the same subscription.

use super::frames::Current;
use super::read::each_event;
use super::wanted::{cut_of, selects, wants_event};
use super::{Stream, Streams};
use crate::api::stream_options::StreamMode;
use crate::history::ForwardPart;
use crate::limits::EARLY_EVENTS_MAX;
use crate::model::{EventView, Timestamp};
use crate::service::catch_up::Tail;
use crate::subscribe::Filter;
use flux_storage::Sequence;

/// What becomes of a change for one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is pushed if the stream wants it.
    Push,
    /// It was sent already, or the stream does not want it.
    Passed,
    /// In mode `event`: it is sent later, after what comes before it.
    Later,
}

/// Streams that read the log of a shard together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Readers {
    /// Besides the one that asks.
    pub(super) also: Vec<u32>,
    /// What these cover.
    pub(super) patterns: Box<[Filter]>,
    /// After this event.
    pub(super) from: Sequence,
}

impl Stream {
    fn tail(&self) -> Option<&Tail> {
        self.catch_up.as_deref()?.tail()
    }

    fn tail_mut(&mut self) -> Option<&mut Tail> {
        self.catch_up.as_deref_mut()?.tail_mut()
    }

    /// True if an event that this stream wants was sent to its connection. `handed_out`: every
    /// change of the shard up to here was handed to the streams that are not behind.
    fn has_sent(&self, shard: u16, (id, event): (&str, Sequence), handed_out: Sequence) -> bool {
        let after = self.catch_up.as_deref().and_then(|it| it.after.as_ref());
        let index = usize::from(shard.saturating_sub(self.shards.start));
        let place = self.places.get(index).copied();
        let has_begun = match (after, place) {
            (Some(after), _) => after.is_before(id, event),
            (None, Some(place)) => event > place,
            (None, None) => false,
        };
        if !has_begun {
            return self.early.contains(&(shard, event));
        }
        event <= self.sent_through(shard, handed_out.max(place.unwrap_or_default()))
    }

    /// An event is pushed before the stream is in force, which its place will not tell.
    fn note_early(&mut self, shard: u16, event: Sequence) {
        if self.early.len() < EARLY_EVENTS_MAX {
            self.early.push((shard, event));
        }
    }

    fn sent_through(&self, shard: u16, live: Sequence) -> Sequence {
        match self.tail() {
            None => live,
            Some(tail) if tail.is_waiting() || tail.is_sealed() => tail.read(shard),
            Some(tail) => tail.through(shard, live),
        }
    }

    /// True if it has sent an event of an earlier generation.
    fn has_sent_sealed(&self, id: &str, event: Sequence) -> bool {
        let after = self.catch_up.as_deref().and_then(|it| it.after.as_ref());
        let is_read = self
            .tail()
            .is_some_and(|it| !it.is_waiting() && !it.is_sealed());
        is_read && after.is_some_and(|after| after.is_before(id, event))
    }

    fn wants_stored(&self, event: &EventView<'_>) -> bool {
        self.options.mode == StreamMode::Event
            && self.patterns.matches(event.entity_id)
            && selects(&cut_of(&self.options), event)
    }
}

impl Streams {
    /// Decides what becomes of a change for each of these streams, those of a connection together.
    pub(crate) fn decide(&mut self, found: &[u32], current: &Current<'_>) {
        let mut rest = found;
        while let Some((_, own, others)) = self.split_connection(rest) {
            rest = others;
            let events = self.fate_of_event(own, current);
            for index in own {
                let Some(stream) = self.get_mut(*index) else {
                    continue;
                };
                stream.fate = if stream.options.mode != StreamMode::Event {
                    stream.fate_of_change(current)
                } else if events == Fate::Push && stream.tail().is_some_and(Tail::is_waiting) {
                    Fate::Later
                } else {
                    events
                };
            }
        }
    }

    /// What becomes of an event for the streams of one connection that want it.
    fn fate_of_event(&self, own: &[u32], current: &Current<'_>) -> Fate {
        let Some(event) = current.change.sequence() else {
            return Fate::Passed;
        };
        let (shard, id) = (current.from, current.change.entity_id());
        let handed_out = self.fanned_out(shard);
        let mut fate = Fate::Push;
        for stream in own.iter().filter_map(|index| self.get(*index)) {
            if stream.options.mode != StreamMode::Event || !wants_event(stream, current) {
                continue;
            }
            if stream.has_sent(shard, (id, event), handed_out) {
                return Fate::Passed;
            }
            if stream.tail().is_some_and(|tail| tail.blocks(shard)) {
                fate = Fate::Later;
            }
        }
        fate
    }

    /// Notes what became of an event: `served` are streams, each with whether its connection had no
    /// room for it. Returns the streams that are behind from here, each with its connection.
    pub(crate) fn note_event(
        &mut self,
        served: &[(u32, bool)],
        current: &Current<'_>,
    ) -> Vec<(u32, u32)> {
        let mut behind = Vec::new();
        let (from, Some(sequence)) = (current.from, current.change.sequence()) else {
            return behind;
        };
        let mut frame = Vec::new();
        let mut framed_by = None;
        for (index, is_lost) in served {
            let Some(stream) = self.get_mut(*index) else {
                continue;
            };
            if stream.options.mode != StreamMode::Event || !wants_event(stream, current) {
                continue;
            }
            let is_behind = |tail: &Tail| tail.is_waiting() || tail.blocks(from);
            let is_behind = stream.tail().is_some_and(is_behind);
            let goes_behind = match stream.fate {
                Fate::Push => *is_lost,
                Fate::Passed => false,
                Fate::Later => !is_behind,
            };
            if goes_behind {
                stream.fall_behind((from, sequence));
                behind.push((stream.subscriber.index, *index));
                continue;
            }
            let (fate, framing) = (stream.fate, stream.framing);
            if fate == Fate::Push && stream.places.is_empty() {
                stream.note_early(from, sequence);
            }
            let Some(tail) = stream.tail_mut() else {
                continue;
            };
            if !is_behind {
                tail.pushed(from, sequence);
            } else if fate != Fate::Later {
                // Sent for another stream: whoever comes to it passes over it.
            } else if tail.keeps(from, sequence) {
                if framed_by.replace(framing.index) != Some(framing.index) {
                    frame.clear();
                    (framing.frame)(&mut frame, &mut |out| current.write_event(out));
                }
                tail.keep(from, sequence, &frame);
            } else {
                tail.miss(from, sequence);
            }
        }
        behind
    }

    /// True if a stream of mode `event` may read the logs now. `peers`: those of its connection.
    /// Earlier generations come first, and one stream reads them at a time.
    pub(super) fn may_read(&self, index: u32, peers: &[u32]) -> bool {
        let is_sealed = |index: &&u32| self.tail_of(**index).is_some_and(Tail::is_sealed);
        let is_waiting = self.tail_of(index).is_some_and(Tail::is_waiting);
        let first = peers.iter().filter(is_sealed).min();
        is_waiting || first.is_none_or(|first| *first == index)
    }

    /// Who reads the log of a shard together with a stream.
    pub(super) fn readers(&self, index: u32, peers: &[u32], shard: u16) -> Readers {
        let own = self.tail_of(index).map(|tail| tail.read(shard));
        let mut from = own.unwrap_or_default();
        let mut also = Vec::new();
        let mut patterns = Vec::new();
        for peer in peers.iter().filter(|peer| **peer != index) {
            let Some(stream) = self.get(*peer) else {
                continue;
            };
            let takes_part = |tail: &&Tail| tail.blocks(shard) && !tail.is_sealed();
            if let Some(tail) = stream.tail().filter(takes_part) {
                from = from.min(tail.read(shard));
                also.push(*peer);
                patterns.extend_from_slice(stream.patterns.each());
            }
        }
        Readers {
            also,
            patterns: patterns.into(),
            from,
        }
    }

    /// The next of the events that streams of one connection have kept, if it is its turn.
    pub(super) fn pop_kept(&mut self, peers: &[u32]) -> Option<Box<[u8]>> {
        let tails = || peers.iter().filter_map(|index| self.tail_of(*index));
        let (shard, sequence) = tails()
            .flat_map(Tail::kept_next)
            .filter(|(shard, _)| !tails().any(|tail| tail.is_reading(*shard) || tail.is_sealed()))
            .min()?;
        let mut popped = None;
        for index in peers {
            let stream = self.get_mut(*index);
            if let Some(tail) = stream.and_then(Stream::tail_mut)
                && let Some(frame) = tail.pop_kept(shard, sequence)
            {
                popped = Some(frame);
            }
        }
        popped
    }

    /// Takes a part of the logs, which stream `index` has asked for, and `readers` with it. The
    /// events of it that are to be sent are handed to `send`.
    pub(super) fn take_events(
        &mut self,
        (index, readers): (u32, &Readers),
        peers: &[u32],
        part: &ForwardPart,
        mut send: impl FnMut((Sequence, Timestamp), &EventView<'_>),
    ) {
        let shard = self.tail_of(index).and_then(Tail::asked_shard);
        for (event, view) in each_event(part) {
            let place = (shard, event.sequence);
            if self.is_due((index, readers), peers, (place, &view)) {
                send((event.sequence, event.time), &view);
            }
        }
        if let Some(tail) = self.get_mut(index).and_then(Stream::tail_mut) {
            tail.take(part.next, part.through);
        }
        let Some(shard) = shard else {
            return;
        };
        for other in &readers.also {
            if let Some(tail) = self.get_mut(*other).and_then(Stream::tail_mut)
                && tail.read(shard) >= readers.from
            {
                tail.take_live(shard, part.next.is_none(), part.through);
            }
        }
    }

    fn is_due(
        &self,
        (index, readers): (u32, &Readers),
        peers: &[u32],
        ((shard, sequence), event): ((Option<u16>, Sequence), &EventView<'_>),
    ) -> bool {
        let mut is_due = false;
        for peer in peers {
            let Some(stream) = self.get(*peer).filter(|it| it.wants_stored(event)) else {
                continue;
            };
            let id = event.entity_id;
            let is_sent = match shard {
                Some(shard) => stream.has_sent(shard, (id, sequence), self.fanned_out(shard)),
                None => stream.has_sent_sealed(id, sequence),
            };
            if is_sent {
                return false;
            }
            let is_new = |shard| {
                stream
                    .tail()
                    .is_some_and(|tail| tail.is_new(shard, sequence))
            };
            let reads = *peer == index || readers.also.contains(peer);
            is_due |= reads && shard.is_none_or(is_new);
        }
        is_due
    }

    fn tail_of(&self, index: u32) -> Option<&Tail> {
        self.get(index)?.tail()
    }
}
