//! What ends by itself in the simulation: when, by the log and the two clocks; that nothing ends
//! early or late, or is forgotten by a start.

use super::Shard;
use crate::engine::Engine;
use crate::log::MemoryLog;
use crate::model::{EndCause, EventView, ExpiryChange, Timestamp};
use std::collections::BTreeMap;

/// Records as the log has them: time and payload.
type Logged<'l> = &'l [(i64, Box<[u8]>)];

/// When each entity expires, as it shows.
type Expiries = BTreeMap<String, i64>;

fn note(expiries: &mut Expiries, event: &EventView<'_>) {
    match event.decided.lifetime.expires {
        _ if event.tombstone => drop(expiries.remove(event.entity_id)),
        ExpiryChange::None => {}
        ExpiryChange::Never => drop(expiries.remove(event.entity_id)),
        ExpiryChange::At(time) => {
            expiries.insert(event.entity_id.to_owned(), time.as_micros());
        }
    }
}

/// When entities expire by a log.
pub(super) fn expiries_of(logged: Logged<'_>) -> Expiries {
    let mut expiries = Expiries::new();
    for (_, bytes) in logged {
        note(&mut expiries, &EventView::decode(bytes).unwrap());
    }
    expiries
}

/// When entities of a state expire.
pub(super) fn expiries(engine: &Engine) -> Expiries {
    let entities = engine.state().list(&crate::state::Query {
        namespace: None,
        prefix: None,
        after: None,
    });
    let of = |entity: crate::state::Entity<'_>| {
        let expires = entity.lifetime().expires?;
        Some((entity.id().to_owned(), expires.as_micros()))
    };
    entities.filter_map(|entity| of(entity.unwrap())).collect()
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
        Self {
            dues: expiries_of(logged),
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
