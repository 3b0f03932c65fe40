//! What ends by itself in the simulation: when, by the log and the two clocks; that nothing ends
//! early or late, or is forgotten by a start.

use super::Shard;
use crate::engine::Engine;
use crate::log::MemoryLog;
use crate::model::{EndCause, EventView, ExpiryChange, Lifetime, Timestamp};
use std::collections::BTreeMap;

/// Records as the log has them: time and payload.
type Logged<'l> = &'l [(i64, Box<[u8]>)];

/// When each entity expires and how long it lingers, if it does, as it shows.
type Lifetimes = BTreeMap<String, Lifetime>;

/// The lifetimes of entities by a log.
pub(super) fn lifetimes_of(logged: Logged<'_>) -> Lifetimes {
    let mut lifetimes = Lifetimes::new();
    for (_, bytes) in logged {
        let event = EventView::decode(bytes).unwrap();
        let lifetime = lifetimes.entry(event.entity_id.to_owned()).or_default();
        let change = event.decided.lifetime;
        match change.expires {
            ExpiryChange::None => {}
            ExpiryChange::Never => lifetime.expires = None,
            ExpiryChange::At(time) => lifetime.expires = Some(time),
        }
        lifetime.linger_ms = change.linger_ms.or(lifetime.linger_ms);
        if event.tombstone || lifetime.is_endless() {
            lifetimes.remove(event.entity_id);
        }
    }
    lifetimes
}

/// The lifetimes of a state's entities.
pub(super) fn lifetimes(engine: &Engine) -> Lifetimes {
    let entities = engine.state().list(&crate::state::Query {
        namespace: None,
        prefix: None,
        after: None,
    });
    let of = |entity: crate::state::Entity<'_>| (entity.id().to_owned(), entity.lifetime());
    let all = entities.map(|entity| of(entity.unwrap()));
    all.filter(|(_, lifetime)| !lifetime.is_endless()).collect()
}

/// When deadlines are reached, by the clock that goes on evenly.
#[derive(Debug, Default)]
pub(super) struct Ends {
    dues: BTreeMap<String, i64>,
    /// Tombstones of expiry since the start.
    pub(super) ended: u32,
}

impl Ends {
    /// After a start, which knows what entities show.
    pub(super) fn of(logged: Logged<'_>) -> Self {
        let due = |(id, lifetime): (String, Lifetime)| Some((id, lifetime.expires?.as_micros()));
        Self {
            dues: lifetimes_of(logged).into_iter().filter_map(due).collect(),
            ended: 0,
        }
    }

    /// An event was logged at `time` by its date, and at `now` by the clock of deadlines.
    pub(super) fn learn(&mut self, event: &EventView<'_>, (time, now): (i64, Timestamp)) {
        let id = event.entity_id;
        if event.stream == EndCause::Expired.stream() {
            let due = self.dues.get(id);
            assert!(due.is_some_and(|due| *due <= now.as_micros()), "{id} early");
            self.ended += 1;
        }
        match event.decided.lifetime.expires {
            _ if event.tombstone => drop(self.dues.remove(id)),
            ExpiryChange::None => {}
            ExpiryChange::Never => drop(self.dues.remove(id)),
            ExpiryChange::At(expires) => {
                let ttl = expires.as_micros() - time;
                // Dates that differ from the clock by so little are taken to be the same.
                let ahead = time - now.as_micros();
                let due = if ahead.abs() < 100_000 {
                    expires.as_micros()
                } else {
                    now.as_micros() + ttl
                };
                self.dues.insert(id.to_owned(), due);
            }
        }
    }

    /// Nothing is overdue, if the log had room for it.
    pub(super) fn check(&self, shard: &Shard<MemoryLog>) {
        let now = shard.engine().deadline_now().as_micros();
        let is_waiting = shard.ends_retry.is_some();
        for (id, due) in &self.dues {
            assert!(is_waiting || *due > now, "{id} is overdue: {due}, {now}");
        }
    }
}
