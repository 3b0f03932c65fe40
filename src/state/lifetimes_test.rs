//! Any history of entities that expire, with checkpoints, starts and a clock that is set anywhere
//! in it: each ends when the model says, and none is forgotten.

use super::layers_test::Stack;
use super::model_test::{encode_event, step};
use super::*;
use crate::model::{DecidedDraft, ExpiryChange};
use fastrand::Rng;
use std::collections::BTreeMap;

/// A run of one history.
struct Run {
    random: Rng,
    stack: Stack,
    history: Vec<(Sequence, Vec<u8>)>,
    /// Of each entity: when it expires as it shows, when its deadline is reached, whether it is
    /// bound.
    model: BTreeMap<String, (Option<i64>, i64, bool)>,
    now: i64,
    /// The clock that dates events lies ahead of the one of deadlines by so much.
    ahead: i64,
    /// How far it may.
    ahead_max: i64,
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

impl Run {
    fn new(seed: u64, ahead_max: i64) -> Self {
        let mut run = Self {
            random: Rng::with_seed(seed),
            stack: Stack::new(),
            history: Vec::new(),
            model: BTreeMap::new(),
            now: 1_000_000_000,
            ahead: 0,
            ahead_max,
        };
        run.stack.state.begin_run(at(run.now));
        run
    }

    fn apply(&mut self, id: &str, lifetime: LifetimeChange, tombstone: bool) {
        let mut bytes = Vec::new();
        let draft = DecidedDraft {
            lifetime,
            ..DecidedDraft::default()
        };
        draft.encode(&encode_event(id, &[("a", "1")], tombstone), &mut bytes);
        let sequence = self.stack.last.next();
        self.stack.last = sequence;
        self.stack.state.set_ahead(self.ahead);
        let event = EventView::decode(&bytes).unwrap();
        let _: Applied = step(&mut self.stack.state, sequence, at(self.now), &event);
        self.history.push((sequence, bytes));
        if tombstone {
            self.model.remove(id);
            return;
        }
        let (expires, due, is_bound) = self.model.entry(id.to_owned()).or_default();
        *is_bound |= lifetime.linger_ms.is_some();
        match lifetime.expires {
            ExpiryChange::None => {}
            ExpiryChange::Never => *expires = None,
            ExpiryChange::At(time) => {
                *expires = Some(time.as_micros());
                *due = time.as_micros() - self.ahead;
            }
        }
    }

    fn write(&mut self) {
        let id = format!("e{}", self.random.u8(..30));
        // No two events give the same time, as microseconds don't.
        let number = i64::try_from(self.history.len() % 1000).unwrap();
        let ttl = self.random.i64(1..400) * 1000 + number;
        let expires = match self.random.u8(..8) {
            0..4 => ExpiryChange::At(at(self.now + self.ahead + ttl)),
            4 => ExpiryChange::Never,
            _ => ExpiryChange::None,
        };
        let linger_ms = (self.random.u8(..10) == 0).then_some(5);
        let lifetime = LifetimeChange { expires, linger_ms };
        let tombstone = self.random.u8(..12) == 0;
        self.apply(&id, lifetime, tombstone);
    }

    /// Ends what is due, and sees that it is what the model says.
    fn end_due(&mut self) {
        let mut id = String::new();
        loop {
            let mut looks = self.random.usize(..4);
            let found = self.stack.state.find_end(at(self.now), &mut looks, &mut id);
            match found.unwrap() {
                NextEnd::Due => {
                    let (expires, due, _) = self.model[&id];
                    assert!(expires.is_some() && due <= self.now, "{id} at {}", self.now);
                    let ended = id.clone();
                    self.apply(&ended, LifetimeChange::default(), true);
                }
                NextEnd::Unfinished => {}
                NextEnd::None => break,
            }
        }
        for (id, (expires, due, _)) in &self.model {
            assert!(expires.is_none() || *due > self.now, "{id} is forgotten");
        }
        let next = self.stack.state.next_end();
        assert!(next.is_none_or(|next| next > at(self.now)), "{next:?}");
    }

    fn checkpoint_step(&mut self) {
        match (self.stack.immutable.is_some(), self.random.u8(..5)) {
            (false, _) => self.stack.freeze(),
            (true, 0) => drop(self.stack.write()),
            (true, 1) => {
                let through = self.stack.reload();
                for (sequence, bytes) in &self.history {
                    if *sequence > through {
                        let event = EventView::decode(bytes).unwrap();
                        let _: Applied =
                            step(&mut self.stack.state, *sequence, at(self.now), &event);
                    }
                }
                // What a start knows is what entities show, and the clock that dates events.
                self.now += self.ahead;
                self.ahead = 0;
                for (expires, due, _) in self.model.values_mut() {
                    *due = expires.unwrap_or_default();
                }
                self.stack.state.begin_run(at(self.now));
            }
            (true, _) => self.stack.install_checkpoint(),
        }
    }

    fn check(&mut self) {
        for (id, (expires, _, is_bound)) in &self.model {
            let entity = self.stack.state.get(id).unwrap().unwrap();
            let lifetime = entity.lifetime();
            assert_eq!(lifetime.expires, expires.map(at), "{id}");
            assert_eq!(lifetime.linger_ms.is_some(), *is_bound, "{id}");
            assert!(entity.properties().eq([("a", "1")]));
        }
        assert_eq!(self.stack.state.len(), self.model.len());
        let bound = self.model.iter().filter(|(_, (.., is_bound))| *is_bound);
        let bound: Vec<&str> = bound.map(|(id, _)| id.as_str()).collect();
        let found = self.stack.state.bound().unwrap();
        assert_eq!(found.iter().map(|id| &**id).collect::<Vec<_>>(), bound);
    }

    fn go(&mut self) {
        for _ in 0..1500 {
            self.now += self.random.i64(0..10) * 1000;
            if self.ahead_max > 0 && self.random.u8(..100) == 0 {
                self.ahead = self.random.i64(-self.ahead_max..=self.ahead_max) * 1000;
            }
            self.write();
            if self.random.u8(..4) == 0 {
                self.end_due();
            }
            if self.random.u8(..20) == 0 {
                self.checkpoint_step();
                self.check();
            }
        }
        self.now += 100_000_000;
        self.end_due();
        self.check();
    }
}

#[test]
fn entities_end_when_the_model_says_through_checkpoints_and_starts() {
    for seed in 0..6 {
        let run = std::panic::catch_unwind(|| Run::new(seed, 0).go());
        assert!(run.is_ok(), "failed with seed {seed}");
    }
}

#[test]
fn entities_end_after_as_long_as_was_asked_for_however_the_clock_is_set() {
    for seed in 100..106 {
        let run = std::panic::catch_unwind(|| Run::new(seed, 1000).go());
        assert!(run.is_ok(), "failed with seed {seed}");
    }
}

#[test]
fn what_layers_list_is_gone_with_what_it_is_about() {
    let mut run = Run::new(1, 0);
    run.stack.checkpoint();
    let records = run.stack.records();
    for number in 0..100 {
        let expires = ExpiryChange::At(at(run.now + number));
        let lifetime = LifetimeChange {
            expires,
            linger_ms: Some(1),
        };
        run.apply(&format!("e{number}"), lifetime, false);
    }
    run.stack.checkpoint();
    assert!(run.stack.records() >= records + 300);
    run.now += 100;
    run.end_due();
    // The second writes nothing but what the first has taken back.
    run.stack.checkpoint();
    run.stack.checkpoint();
    assert_eq!(run.stack.records(), records);
}

#[test]
fn an_entity_that_does_not_end_by_itself_costs_nothing() {
    let (mut plain, mut ending) = (State::default(), State::default());
    for number in 0..10_000 {
        let event = encode_event(&format!("e{number}"), &[("a", "1")], false);
        let event = EventView::decode(&event).unwrap();
        let _: Applied = step(&mut plain, Sequence::new(number + 1), at(1), &event);
    }
    assert_eq!(plain.lifetimes.heap_bytes(), 0);
    for number in 0..10_000 {
        let mut encoded = Vec::new();
        let draft = DecidedDraft {
            lifetime: LifetimeChange {
                expires: ExpiryChange::At(at(1_800_000_000_000_000)),
                linger_ms: None,
            },
            ..DecidedDraft::default()
        };
        let event = encode_event(&format!("e{number}"), &[("a", "1")], false);
        draft.encode(&event, &mut encoded);
        let event = EventView::decode(&encoded).unwrap();
        let _: Applied = step(&mut ending, Sequence::new(number + 1), at(1), &event);
    }
    let more = ending.heap_bytes() - plain.heap_bytes();
    assert!(more / 10_000 <= 48, "{more}");
}

#[test]
fn a_lease_is_renewed_also_if_the_dates_of_events_stand_still() {
    // As in a namespace whose last event was dated by a clock that lay ahead.
    for checkpoints in 0..3 {
        let mut run = Run::new(1, 0);
        let expires = at(run.now + 3_600_000_000 + 10);
        let lifetime = LifetimeChange {
            expires: ExpiryChange::At(expires),
            linger_ms: None,
        };
        run.ahead = 3_600_000_000;
        run.apply("lease", lifetime, false);
        match checkpoints {
            0 => {}
            1 => run.stack.freeze(),
            _ => run.stack.checkpoint(),
        }
        run.now += 7;
        run.ahead -= 7;
        run.apply("lease", lifetime, false);
        assert_eq!(run.model["lease"].1, run.now + 10);
        run.now += 9;
        run.end_due();
        run.check();
        assert_eq!(run.model.len(), 1, "{checkpoints}: it has one more to go");
        run.now += 1;
        run.end_due();
        assert_eq!(run.model.len(), 0);
    }
}
