//! Changes on their way to a core's subscribers: a queue of batches that is worked off in slices.
//!
//! ```text
//! batch 1  change 1  change 2  change 3 ...       batch 2 ...      an answer     batch 3 ...
//!          done      ▲ subscriber 4711 of 20,000: the next slice begins behind it
//! ```
//!
//! One batch may concern every connection of the core. A slice is bounded in units of work; what is
//! left is done in later turns, and other connections have their turn in between.
//!
//! Order holds for each subscriber: batches are worked off one after the other, and a shard's
//! answer to a WebSocket client that arrives meanwhile joins the queue behind them. What joins the
//! queue may be seen already: it has passed its commit point.
//!
//! Between two slices a subscription may end, and its connection's index go to another connection.
//! So a slice asks anew who wants the change at hand, and skips the subscribers that had it.
//!
//! The queue counts in the core's memory account. The longer it is, the less the core reads
//! ([`FanOut::read_units`]), since what it reads are events too.
//!
//! Pure: it knows no connection.

use super::delivery::Delivery;
use crate::limits::{
    FAN_OUT_BEHIND_BYTES, FAN_OUT_BYTES_MAX, FAN_OUT_READ_UNITS_MIN, FRAME_BYTES_PER_UNIT,
    PUSH_UNITS, TURN_UNITS_MAX,
};
use crate::shard::RequestId;
use crate::subscribe::{Change, ChangeBatch};
use flux_storage::Sequence;
use std::collections::VecDeque;
use std::sync::Arc;

/// The subscribers of a core.
pub(super) trait Subscribers {
    /// Replaces `hits` with the subscribers that want this entity's changes, ascending.
    fn matches(&self, entity_id: &str, hits: &mut Vec<u32>);
    /// Gives a change to a subscriber.
    fn push(&mut self, subscriber: u32, change: Change<'_>);
    /// Gives a change to streams, which ask for more than its frames. Returns the units that were
    /// spent, and the last connection that was served if others are left.
    fn push_to_streams(&mut self, push: StreamPush<'_>) -> (u64, Option<u32>);
    /// Every change of a shard through this one was given to its subscribers.
    fn finished(&mut self, from: u16, through: Sequence);
    /// Gives a client the answer that it has waited for.
    fn answer(&mut self, request_id: RequestId, delivery: Delivery);
}

/// A change for streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamPush<'p> {
    /// Its shard.
    pub(super) from: u16,
    /// It.
    pub(super) change: Change<'p>,
    /// The subscribers that were given its frames.
    pub(super) told: &'p [u32],
    /// The last connection that was served in the slice before.
    pub(super) served: Option<u32>,
    /// Units that may be spent. 0: one connection is served all the same.
    pub(super) units: u64,
}

enum Waiting {
    Changes(u16, Arc<ChangeBatch>),
    Answer(RequestId, Box<Delivery>),
}

/// See the module.
#[derive(Default)]
pub(crate) struct FanOut {
    waiting: VecDeque<Waiting>,
    /// Heap of the batches in `waiting`.
    bytes: usize,
    /// Where the change at hand begins in the first batch.
    position: usize,
    /// The last subscriber that was given it; `None` at its beginning.
    served: Option<u32>,
    /// The last connection whose streams were given it, once all subscribers have been.
    served_streams: Option<u32>,
    /// Reused: who wants the change at hand.
    hits: Vec<u32>,
}

impl FanOut {
    /// True if nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Heap of the batches that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a batch, behind all others.
    pub(super) fn push(&mut self, from: u16, batch: Arc<ChangeBatch>) {
        self.bytes += batch.heap_bytes();
        self.waiting.push_back(Waiting::Changes(from, batch));
    }

    /// Adds an answer that is not to overtake the changes before it.
    pub(super) fn push_answer(&mut self, request_id: RequestId, delivery: Delivery) {
        let answer = Waiting::Answer(request_id, Box::new(delivery));
        self.waiting.push_back(answer);
    }

    /// Units that the core may read in a turn: fewer, the more changes wait.
    pub(super) fn read_units(&self) -> u64 {
        let room = FAN_OUT_BEHIND_BYTES.saturating_sub(self.bytes) as u64;
        let units = TURN_UNITS_MAX * room / FAN_OUT_BEHIND_BYTES as u64;
        units.max(FAN_OUT_READ_UNITS_MIN)
    }

    /// Units of one slice: more if many changes wait, since the core reads little then.
    pub(super) fn slice_units(&self) -> u64 {
        if self.bytes >= FAN_OUT_BYTES_MAX {
            // No memory is left for more: the core does nothing else until there is.
            return u64::MAX;
        }
        let times = (self.bytes / FAN_OUT_BEHIND_BYTES) as u64 + 1;
        TURN_UNITS_MAX * times.min(4)
    }

    /// Works until so many units are spent, but does one push at least. Returns what was spent.
    pub(super) fn slice(&mut self, units: u64, subscribers: &mut impl Subscribers) -> u64 {
        let mut spent = 0;
        while spent < units {
            match self.waiting.front() {
                None => break,
                Some(Waiting::Changes(from, batch)) => {
                    let (from, batch) = (*from, Arc::clone(batch));
                    spent += self.go_on((from, &batch), units - spent, subscribers);
                    if self.is_over(&batch) {
                        self.waiting.pop_front();
                        self.bytes -= batch.heap_bytes();
                        self.position = 0;
                        subscribers.finished(from, batch.up_to());
                    }
                }
                Some(Waiting::Answer(..)) => {
                    if let Some(Waiting::Answer(request_id, delivery)) = self.waiting.pop_front() {
                        subscribers.answer(request_id, *delivery);
                    }
                    spent += PUSH_UNITS;
                }
            }
        }
        if self.waiting.is_empty() {
            self.trim();
        }
        spent
    }

    /// True if every change of the first batch is done.
    fn is_over(&self, batch: &ChangeBatch) -> bool {
        let is_between = self.served.is_none() && self.served_streams.is_none();
        is_between && batch.changes_from(self.position).next().is_none()
    }

    /// Gives changes of the first batch to their subscribers.
    fn go_on(
        &mut self,
        (from, batch): (u16, &ChangeBatch),
        units: u64,
        subscribers: &mut impl Subscribers,
    ) -> u64 {
        let mut spent = 0;
        let mut changes = batch.changes_from(self.position);
        while spent < units
            && let Some(change) = changes.next()
        {
            self.hits.clear();
            if !change.frames().is_empty() {
                subscribers.matches(change.entity_id(), &mut self.hits);
            }
            let done = self.served.map_or(0, |served| {
                self.hits
                    .partition_point(|subscriber| *subscriber <= served)
            });
            let push_units = PUSH_UNITS + change.frame_bytes() as u64 / FRAME_BYTES_PER_UNIT;
            spent += PUSH_UNITS;
            for &subscriber in self.hits.iter().skip(done) {
                subscribers.push(subscriber, change);
                self.served = Some(subscriber);
                spent += push_units;
                if spent >= units {
                    return spent;
                }
            }
            let (units_of_streams, served) = subscribers.push_to_streams(StreamPush {
                from,
                change,
                told: &self.hits,
                served: self.served_streams,
                // Nobody may have wanted the frames, and the look for that took what was left.
                units: units.saturating_sub(spent),
            });
            spent += units_of_streams;
            self.served_streams = served;
            if served.is_some() {
                return spent;
            }
            self.served = None;
            self.position = changes.position();
        }
        spent
    }

    /// Gives back what a long queue has left.
    fn trim(&mut self) {
        const KEPT: usize = 64;
        self.waiting.shrink_to(KEPT);
        self.hits.clear();
        self.hits.shrink_to(KEPT * KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Reply;
    use crate::subscribe::{ChangeBatchBuilder, Filter, Registry};
    use fastrand::Rng;
    use std::collections::BTreeMap;

    /// Subscribers, and what each was given: the numbers of changes, and of answers with a minus.
    #[derive(Default)]
    struct Watchers {
        registry: Registry<u32>,
        given: BTreeMap<u32, Vec<i64>>,
        pushes: u64,
    }

    impl Watchers {
        fn subscribed(count: u32) -> Self {
            let mut watchers = Self::default();
            for key in 0..count {
                watchers.registry.subscribe(key, &Filter::All);
            }
            watchers
        }
    }

    impl Subscribers for Watchers {
        fn matches(&self, entity_id: &str, hits: &mut Vec<u32>) {
            self.registry.matches(entity_id, hits);
        }

        fn push(&mut self, subscriber: u32, change: Change<'_>) {
            let number = change.entity_id().parse().expect("a number");
            self.given.entry(subscriber).or_default().push(number);
            self.pushes += 1;
        }

        fn push_to_streams(&mut self, _: StreamPush<'_>) -> (u64, Option<u32>) {
            (0, None)
        }

        fn finished(&mut self, _: u16, _: Sequence) {}

        fn answer(&mut self, request_id: RequestId, _: Delivery) {
            let given = self.given.entry(request_id.connection).or_default();
            given.push(-i64::from(request_id.serial));
        }
    }

    /// Changes of entities whose ids are these numbers.
    fn batch(numbers: std::ops::Range<i64>) -> Arc<ChangeBatch> {
        let mut builder = ChangeBatchBuilder::new();
        for number in numbers {
            builder.change(&number.to_string(), Sequence::ZERO);
            builder.deleted(|out| out.extend_from_slice(b"gone"));
        }
        builder.finish()
    }

    fn answer(connection: u32, serial: u32) -> (RequestId, Delivery) {
        let generation = 0;
        let request_id = RequestId {
            connection,
            generation,
            serial,
        };
        (request_id, Delivery::Reply(0, Reply::Controlled))
    }

    #[test]
    fn a_slice_is_bounded_however_many_subscribers_one_change_has() {
        let mut watchers = Watchers::subscribed(10_000);
        let mut fan_out = FanOut::default();
        fan_out.push(0, batch(0..3));
        let mut slices = 0;
        while !fan_out.is_empty() {
            let before = watchers.pushes;
            let units = fan_out.slice(100 * PUSH_UNITS, &mut watchers);
            assert!(units <= 102 * PUSH_UNITS, "{units}");
            assert!(watchers.pushes - before <= 100);
            slices += 1;
        }
        assert!(slices >= 300, "{slices}");
        assert_eq!(watchers.given.len(), 10_000);
        assert!(watchers.given.values().all(|given| *given == [0, 1, 2]));
        assert_eq!(fan_out.bytes(), 0);
    }

    #[test]
    fn a_slice_may_end_within_a_change_that_nobody_wants() {
        for units in 1..4 * PUSH_UNITS {
            let mut watchers = Watchers::subscribed(0);
            let mut fan_out = FanOut::default();
            fan_out.push(0, batch(0..3));
            let mut slices = 0;
            while !fan_out.is_empty() {
                let spent = fan_out.slice(units, &mut watchers);
                assert!(spent > 0 && spent < units + PUSH_UNITS, "{units}: {spent}");
                slices += 1;
            }
            assert!(slices <= 3, "{units}: {slices}");
        }
    }

    #[test]
    fn large_frames_make_slices_of_fewer_pushes() {
        let mut builder = ChangeBatchBuilder::new();
        builder.change("1", Sequence::ZERO);
        builder.deleted(|out| out.resize(64 * 1024, b'x'));
        let mut fan_out = FanOut::default();
        fan_out.push(0, builder.finish());
        let mut watchers = Watchers::subscribed(1_000);
        fan_out.slice(100 * PUSH_UNITS, &mut watchers);
        assert!(watchers.pushes < 3, "{}", watchers.pushes);
        assert!(watchers.pushes > 0);
    }

    /// Slices of any size, and subscribers that come and go between them. The others get each
    /// change once and in order, and each answer between the changes that it came between.
    #[test]
    fn no_batch_and_no_answer_overtakes_another() {
        for seed in 1..=200 {
            let mut random = Rng::with_seed(seed);
            let mut watchers = Watchers::subscribed(20);
            let mut fan_out = FanOut::default();
            let (mut expected, mut next) = (Vec::new(), 0);
            for serial in 1..40 {
                let count = random.i64(1..6);
                fan_out.push(0, batch(next..next + count));
                expected.extend(next..next + count);
                next += count;
                if random.bool() {
                    let (request_id, delivery) = answer(7, serial);
                    fan_out.push_answer(request_id, delivery);
                    expected.push(-i64::from(serial));
                }
                // The odd ones of a higher index come and go.
                let guest = 21 + 2 * random.u32(..5);
                if !watchers.registry.unsubscribe(guest, &Filter::All) {
                    watchers.registry.subscribe(guest, &Filter::All);
                }
                let units = random.u64(1..60) * PUSH_UNITS;
                fan_out.slice(units, &mut watchers);
            }
            while !fan_out.is_empty() {
                fan_out.slice(random.u64(1..60) * PUSH_UNITS, &mut watchers);
            }
            assert_eq!(watchers.given[&7], expected, "seed {seed}");
            let changes: Vec<i64> = (0..next).collect();
            for key in (0..20).filter(|key| *key != 7) {
                assert_eq!(watchers.given[&key], changes, "seed {seed} key {key}");
            }
            for given in watchers.given.values() {
                let changes = given.iter().filter(|number| **number >= 0);
                assert!(changes.is_sorted_by(|a, b| a < b), "seed {seed}");
            }
        }
    }

    #[test]
    fn who_has_left_between_two_slices_is_given_nothing_more() {
        let mut watchers = Watchers::subscribed(10);
        let mut fan_out = FanOut::default();
        fan_out.push(0, batch(0..2));
        // One unit for the change, and four pushes.
        fan_out.slice(5 * PUSH_UNITS, &mut watchers);
        assert!(watchers.given.contains_key(&3));
        assert!(!watchers.given.contains_key(&9));
        for key in [0, 9] {
            assert!(watchers.registry.unsubscribe(key, &Filter::All));
        }
        fan_out.slice(u64::MAX, &mut watchers);
        assert_eq!(watchers.given[&0], [0]);
        assert!(!watchers.given.contains_key(&9));
        assert_eq!(watchers.given[&8], [0, 1]);
    }

    #[test]
    fn the_more_changes_wait_the_less_is_read() {
        let mut fan_out = FanOut::default();
        assert_eq!(fan_out.read_units(), TURN_UNITS_MAX);
        let mut before = TURN_UNITS_MAX;
        while fan_out.bytes() < FAN_OUT_BEHIND_BYTES {
            fan_out.push(0, batch(0..500));
            assert!(fan_out.read_units() < before);
            before = fan_out.read_units();
        }
        assert_eq!(fan_out.read_units(), FAN_OUT_READ_UNITS_MIN);
        assert!(fan_out.slice_units() > TURN_UNITS_MAX);
        fan_out.slice(u64::MAX, &mut Watchers::default());
        assert_eq!(fan_out.read_units(), TURN_UNITS_MAX);
        assert_eq!(fan_out.slice_units(), TURN_UNITS_MAX);
    }
}
