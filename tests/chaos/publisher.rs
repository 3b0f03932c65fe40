//! Publishers: each event has an id and is sent again until it is answered.

use super::kinds::{NAMESPACES, SINGLES, STATUSES};
use super::support::agent::{Agent, Answer, Call, Protocol};
use super::support::wait_for;
use super::{sleep_ms, start};
use fastrand::Rng;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

/// Entities of each namespace.
const ENTITIES: usize = 60;

/// See the module.
#[derive(Debug)]
pub(crate) struct Publishers {
    count: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_paused: AtomicBool,
    idle: AtomicUsize,
    retries: AtomicUsize,
    #[expect(
        clippy::disallowed_types,
        reason = "the threads of publishers and of the test; no core of a server is involved"
    )]
    acknowledged: std::sync::Mutex<Vec<Acknowledged>>,
}

/// An event that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) event_id: String,
    pub(crate) sequence: u64,
}

impl Publishers {
    pub(crate) fn start(count: usize, port: u16, seed: u64, is_over: &Arc<AtomicBool>) -> Self {
        let shared = Arc::new(Shared::default());
        for number in 0..count {
            let (shared, is_over) = (Arc::clone(&shared), Arc::clone(is_over));
            start("publisher", move || {
                let random = Rng::with_seed(seed ^ number as u64);
                let writer = Writer {
                    number,
                    next: 0,
                    random,
                };
                publish(&shared, writer, port, &is_over);
            });
        }
        Self { count, shared }
    }

    pub(crate) fn go_on(&self) {
        self.shared.idle.store(0, Ordering::Release);
        self.shared.is_paused.store(false, Ordering::Release);
    }

    pub(crate) fn pause(&self) {
        self.shared.is_paused.store(true, Ordering::Release);
    }

    /// Waits until everything is answered.
    pub(crate) fn wait_until_idle(&self) {
        wait_for("the publishers to be answered", || {
            (self.shared.idle.load(Ordering::Acquire) == self.count).then_some(())
        });
    }

    pub(crate) fn retries(&self) -> usize {
        self.shared.retries.load(Ordering::Relaxed)
    }

    /// What was answered since the last time.
    pub(crate) fn take_acknowledged(&self) -> Vec<Acknowledged> {
        let acknowledged = &self.shared.acknowledged;
        std::mem::take(&mut acknowledged.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn publish(shared: &Shared, mut writer: Writer, port: u16, is_over: &AtomicBool) {
    let mut agent = Agent::new(port, Protocol::of(writer.number));
    while !is_over.load(Ordering::Acquire) {
        if shared.is_paused.load(Ordering::Acquire) {
            shared.idle.fetch_add(1, Ordering::AcqRel);
            while shared.is_paused.load(Ordering::Acquire) && !is_over.load(Ordering::Acquire) {
                sleep_ms(5);
            }
            continue;
        }
        let calls: Vec<Call> = (0..writer.random.u32(1..4))
            .map(|_| writer.call())
            .collect();
        let before = agent.retries;
        let answers = agent.ask_all(&calls);
        shared
            .retries
            .fetch_add(agent.retries - before, Ordering::Relaxed);
        let answered = calls.iter().zip(&answers);
        let answered: Vec<_> = answered
            .flat_map(|(call, answer)| read(call, answer))
            .collect();
        let mut acknowledged = shared.acknowledged.lock();
        let acknowledged = acknowledged
            .as_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut());
        acknowledged.extend(answered);
        sleep_ms(writer.random.u64(20..120));
    }
}

/// What an answer acknowledges. Each of these events can be carried out.
fn read(call: &Call, answer: &Answer) -> Vec<Acknowledged> {
    let answer = answer
        .as_ref()
        .unwrap_or_else(|refused| panic!("{refused} to {call:?}"));
    let (events, results) = match call {
        Call::Publish(event) => (std::slice::from_ref(event), std::slice::from_ref(answer)),
        Call::Batch { events, .. } => {
            let results = answer["results"].as_array().expect("results");
            (&events[..], &results[..])
        }
    };
    assert_eq!(events.len(), results.len(), "{answer}");
    let pairs = events.iter().zip(results);
    pairs
        .map(|(event, result)| {
            assert_eq!(event["eventId"], result["eventId"], "{result} to {event}");
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            Acknowledged {
                event_id: text(&event["eventId"]),
                sequence: result["sequence"].as_u64().expect("a sequence"),
            }
        })
        .collect()
}

/// What one publisher says.
#[derive(Debug)]
struct Writer {
    number: usize,
    next: usize,
    random: Rng,
}

impl Writer {
    fn call(&mut self) -> Call {
        let random = &mut self.random;
        if random.u32(..8) == 0 {
            let id = SINGLES[random.usize(..SINGLES.len())];
            return Call::Publish(self.event(id));
        }
        let namespace = NAMESPACES[random.usize(..NAMESPACES.len())];
        let count = random.usize(1..6);
        let (is_batch, atomic) = (random.u32(..3) == 0, random.bool());
        let mut event = |_| {
            let id = format!("{namespace}/{:03}", self.random.usize(..ENTITIES));
            self.event(&id)
        };
        if is_batch {
            let events = (0..count).map(event).collect();
            Call::Batch { events, atomic }
        } else {
            Call::Publish(event(0))
        }
    }

    fn event(&mut self, entity_id: &str) -> Value {
        self.next += 1;
        let event_id = format!("p{}-{}", self.number, self.next);
        let random = &mut self.random;
        let mut properties = Map::new();
        let mut payload = Map::new();
        match random.u32(..20) {
            0 | 1 => drop(properties.insert("__deleted__".into(), json!(true))),
            2 => {}
            3 => drop(payload.insert("unset".into(), json!(["text"]))),
            4 => drop(payload.insert("increment".into(), json!({"count": 1}))),
            5 => {
                properties.insert("status".into(), json!("open"));
                payload.insert("ttl".into(), json!(random.f64().mul_add(1.5, 0.2)));
            }
            kind => {
                let status = STATUSES[random.usize(..STATUSES.len())];
                let changes = [("n", json!(random.u32(..1000))), ("status", json!(status))];
                let changes = changes.into_iter().filter(|_| random.u32(..3) > 0);
                let changes: Vec<_> = changes.collect();
                properties.extend(
                    changes
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value)),
                );
                properties.insert("tag".into(), json!(event_id));
                if kind < 10 {
                    let len = if random.u32(..20) == 0 { 100_000 } else { 100 };
                    properties.insert("text".into(), json!("x".repeat(random.usize(..len))));
                }
            }
        }
        payload.insert("entity_id".into(), json!(entity_id));
        payload.insert("properties".into(), Value::Object(properties));
        json!({"eventId": event_id, "stream": "chaos", "source": "tests", "payload": payload})
    }
}
