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
use crate::history::{AfterPlace, ForwardPart};
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

    fn after(&self) -> Option<&AfterPlace> {
        self.catch_up.as_deref().and_then(|it| it.after.as_ref())
    }

    /// The place from which on a shard tells it, once it is in force.
    fn place(&self, shard: u16) -> Option<Sequence> {
        let index = usize::from(shard.saturating_sub(self.shards.start));
        self.places.get(index).copied()
    }

    /// True if an event that this stream wants was sent to its connection. `handed_out`: every
    /// change of the shard up to here was handed to the streams that are not behind.
    fn has_sent(&self, shard: u16, (id, event): (&str, Sequence), handed_out: Sequence) -> bool {
        if self.is_early(shard, event) {
            return self.early.contains(&(shard, event));
        }
        let place = self.place(shard).unwrap_or_default();
        let has_begun = self.after().is_none_or(|after| after.is_before(id, event));
        has_begun && event <= self.sent_through(shard, handed_out.max(place))
    }

    /// True if an event does not lie behind the place of a stream that is live from the first: it
    /// may come by all the same, before the stream is in force and also after.
    fn is_early(&self, shard: u16, event: Sequence) -> bool {
        self.after().is_none() && self.place(shard).is_none_or(|place| event <= place)
    }

    /// An event is sent for this stream, and its place does not tell of it.
    fn note_sent(&mut self, shard: u16, event: Sequence) {
        if self.is_early(shard, event) && self.early.len() < EARLY_EVENTS_MAX {
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
            if fate == Fate::Push {
                stream.note_sent(from, sequence);
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
                let event = (sequence, current.change.entity_id());
                tail.keep(from, event, &frame);
            } else {
                tail.miss(from, sequence);
            }
        }
        behind
    }

    /// True if a stream of mode `event` may read the logs now. `peers`: those of its connection.
    /// Earlier generations come first, and one stream reads them at a time, to their end: what it
    /// has sent of them is not known before.
    pub(super) fn may_read(&self, index: u32, peers: &[u32]) -> bool {
        let is_sealed = |index: &&u32| self.tail_of(**index).is_some_and(Tail::is_sealed);
        let is_waiting = self.tail_of(index).is_some_and(Tail::is_waiting);
        let has_begun = |index: u32| self.tail_of(index).is_some_and(Tail::has_begun_sealed);
        let turn = |index: &&u32| (!has_begun(**index), **index);
        let first = peers.iter().filter(is_sealed).min_by_key(turn);
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
            let Some(stream) = self.get_mut(*index) else {
                continue;
            };
            let frame = stream
                .tail_mut()
                .and_then(|tail| tail.pop_kept(shard, sequence));
            if frame.is_some() {
                stream.note_sent(shard, sequence);
                popped = frame;
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
            if !self.is_due((index, readers), peers, (place, &view)) {
                continue;
            }
            send((event.sequence, event.time), &view);
            let Some(shard) = shard else {
                continue;
            };
            for peer in peers {
                let stream = self.get_mut(*peer);
                if let Some(stream) = stream.filter(|it| it.wants_stored(&view)) {
                    stream.note_sent(shard, event.sequence);
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::stream_options::{StreamOptions, StreamStart};
    use crate::history::ForwardPlace;
    use crate::model::Cursor;
    use crate::service::catch_up::{CatchUp, Step};
    use crate::service::streams::Framing;
    use crate::service::subscribe::Subscriber;
    use crate::subscribe::{ChangeBatchBuilder, Patterns};

    /// A stream of mode `event` on the only shard, in force from `place` on.
    fn stream(pattern: &str, start: StreamStart, place: u64) -> Stream {
        stream_in(StreamMode::Event, (pattern, start, place))
    }

    fn stream_in(mode: StreamMode, (pattern, start, place): (&str, StreamStart, u64)) -> Stream {
        let options = StreamOptions {
            mode,
            start,
            is_extended: true,
            ..StreamOptions::default()
        };
        let patterns = Patterns::One(Filter::parse(pattern).unwrap());
        let catch_up = CatchUp::begin(&options, (Some("1"), &patterns), (0..1, 1)).unwrap();
        let places = [Sequence::new(place)];
        let mut stream = Stream {
            subscriber: Subscriber {
                index: 3,
                generation: 1,
            },
            patterns,
            options: options.into(),
            shards: 0..1,
            id: Some("1".into()),
            places: places.into(),
            catch_up: catch_up.map(Box::new),
            fate: Fate::Push,
            early: Vec::new(),
            framing: Framing::BARE,
        };
        if let Some(catch_up) = &mut stream.catch_up {
            catch_up.put_in_force(String::new(), &places);
        }
        stream
    }

    fn since(place: u64) -> StreamStart {
        StreamStart::Since(Cursor::of_everything(&[Sequence::new(place)]))
    }

    /// Its logs were looked at: earlier generations are to be read.
    fn begin_sealed(streams: &mut Streams, index: u32) {
        let catch_up = streams.get_mut(index).unwrap().catch_up.as_mut().unwrap();
        assert_eq!(catch_up.step(), Some(Step::Log(ForwardPlace::Check)));
        catch_up.take_check(Some(ForwardPlace::SEALED));
    }

    #[test]
    fn who_has_begun_on_earlier_generations_reads_them_to_their_end() {
        let mut streams = Streams::default();
        let all = streams.add(stream("*", since(10), 100));
        let own = streams.add(stream("n/*", since(5), 100));
        let peers = [all, own];
        begin_sealed(&mut streams, own);
        assert!(streams.may_read(own, &peers));
        let tail = streams.get_mut(own).and_then(Stream::tail_mut).unwrap();
        assert_eq!(tail.ask(), Some(ForwardPlace::SEALED));
        let next = ForwardPlace::Sealed {
            generation: 0,
            shard: 0,
            last: Sequence::new(40),
        };
        tail.take(Some(next), Sequence::new(40));
        begin_sealed(&mut streams, all);
        assert!(streams.may_read(own, &peers) && !streams.may_read(all, &peers));
        let tail = streams.get_mut(own).and_then(Stream::tail_mut).unwrap();
        tail.ask();
        tail.take(None, Sequence::new(60));
        assert!(streams.may_read(all, &peers) && !streams.may_read(own, &peers));
        let has_sent = |event| {
            let own = streams.get(own).unwrap();
            own.has_sent_sealed("n/a", Sequence::new(event))
        };
        assert_eq!([5, 6, 60].map(has_sent), [false, true, true]);
    }

    #[test]
    fn what_is_passed_over_does_not_reach_what_a_client_catches_up_with() {
        let mut streams = Streams::default();
        let indexes = [1, 2].map(|connection| {
            let mut stream = stream_in(StreamMode::Entity, ("h*", since(10), 100));
            stream.subscriber.index = connection;
            let catch_up = stream.catch_up.as_mut().unwrap();
            assert_eq!(catch_up.step(), Some(Step::Log(ForwardPlace::Check)));
            catch_up.take_check(None);
            streams.add(stream)
        });
        let mut builder = ChangeBatchBuilder::new();
        builder.change("house/a", Sequence::new(101));
        builder.deleted(|out| out.push(b'x'));
        let batch = builder.finish();
        let change = batch.changes().next().unwrap();
        let mut found = streams.find(change);
        assert_eq!(found, indexes);
        streams.retain_connections(&mut found, |subscriber| subscriber.index == 1);
        streams.decide(&found, &Current::new(0, change));
        let steps = indexes.map(|index| {
            let catch_up = streams.get_mut(index).unwrap().catch_up.as_mut().unwrap();
            let (shard, last) = (0, Sequence::new(10));
            let log = Step::Log(ForwardPlace::Live { shard, last });
            assert_eq!(catch_up.step(), Some(log));
            let read = (None, Sequence::new(101));
            let changed = catch_up.changed_mut().unwrap();
            changed.take_ids(std::iter::empty(), read, 1).unwrap();
            catch_up.step()
        });
        let asked = Step::Entities(0, vec!["house/a".into()]);
        assert_eq!(steps, [Some(asked), Some(Step::CaughtUp)]);
    }

    #[test]
    fn a_stream_that_is_behind_before_it_is_in_force_reads_nothing_from_before_it() {
        let behind = |start| {
            let mut stream = stream("*", start, 0);
            stream.shards = 0..2;
            let id = stream.id.clone();
            stream.catch_up = match stream.options.start {
                StreamStart::Snapshot => {
                    let call = (Some("1"), &stream.patterns);
                    let begun = CatchUp::begin(&stream.options, call, (0..2, 2));
                    begun.unwrap().map(Box::new)
                }
                _ => Some(Box::new(CatchUp::behind(id, 0..2))),
            };
            // It had no room for event 29 of shard 0.
            stream.fall_behind((0, Sequence::new(29)));
            stream
        };
        let places = [30, 50].map(Sequence::new);
        for start in [StreamStart::Live, StreamStart::Snapshot] {
            let is_snapshot = start == StreamStart::Snapshot;
            let mut stream = behind(start);
            let catch_up = stream.catch_up.as_mut().unwrap();
            if is_snapshot {
                catch_up.put_in_force(String::new(), &places);
            } else {
                catch_up.begin_live(&places);
            }
            assert_eq!(catch_up.is_under_way(), is_snapshot);
            let (shard, last) = (0, Sequence::new(28));
            let place = ForwardPlace::Live { shard, last };
            assert_eq!(catch_up.step(), Some(Step::Log(place)));
            let tail = catch_up.tail_mut().unwrap();
            tail.take(None, Sequence::new(30));
            assert!(tail.is_live() && tail.ask().is_none());
            assert_eq!(tail.read(1), Sequence::new(50));
        }
    }

    #[test]
    fn what_a_live_stream_is_sent_of_before_its_place_is_known_to_have_been_sent() {
        let mut live = stream("*", StreamStart::Live, 104);
        let has_sent = |stream: &Stream, event| {
            stream.has_sent(0, ("n/a", Sequence::new(event)), Sequence::new(105))
        };
        // The change comes by after the shard has said from where on it tells.
        live.note_sent(0, Sequence::new(104));
        live.note_sent(0, Sequence::new(105));
        assert_eq!(live.early, [(0, Sequence::new(104))]);
        let sent = [103, 104, 105, 106].map(|event| has_sent(&live, event));
        assert_eq!(sent, [false, true, true, false]);
    }
}
