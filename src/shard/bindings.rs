//! Which entities of a shard are bound to which connection, and when those go whose connection has
//! ended. Plain bookkeeping: whether an entity is bound at all, the state says.
//!
//! ```text
//! bind ──▶ held by a connection ──its end──▶ lingers until a time ──▶ due
//!             ▲                                   │
//!             └────────────── bind ───────────────┘
//! ```

use crate::api::ApiError;
use crate::limits::{BOUND_ENTITIES_MAX, BOUND_ENTITIES_PER_CONNECTION_MAX};
use crate::model::{Binding, ConnectionId, Timestamp};
use flux_storage::Sequence;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    bound: HashMap<Arc<str>, Bound>,
    held: BTreeMap<ConnectionId, BTreeSet<Arc<str>>>,
    lingering: BTreeSet<(Timestamp, Arc<str>)>,
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    linger_ms: u32,
    /// The event that bound it; `None` if that was before the start.
    event: Option<Sequence>,
    holder: Holder,
}

#[derive(Debug, Clone, Copy)]
enum Holder {
    Connection(ConnectionId),
    /// Its connection has ended. It goes at this time.
    Nobody(Timestamp),
}

impl Bindings {
    /// Whether one more entity may be bound to a connection.
    ///
    /// # Errors
    /// [`ApiError::TooManyBindings`], or [`ApiError::Overloaded`] if as many entities are bound as
    /// may be.
    pub(super) fn check_room(&self, id: &str, connection: ConnectionId) -> Result<(), ApiError> {
        let held = self.held.get(&connection);
        if held.is_some_and(|held| held.contains(id)) {
            return Ok(());
        }
        if held.is_some_and(|held| held.len() >= BOUND_ENTITIES_PER_CONNECTION_MAX) {
            return Err(ApiError::TooManyBindings {
                limit: BOUND_ENTITIES_PER_CONNECTION_MAX,
            });
        }
        if self.bound.len() >= BOUND_ENTITIES_MAX && !self.bound.contains_key(id) {
            return Err(ApiError::Overloaded);
        }
        Ok(())
    }

    /// An event has bound an entity to a connection: the last one counts.
    pub(super) fn bind(&mut self, id: &str, binding: Binding, event: Option<Sequence>) {
        self.forget(id);
        let id: Arc<str> = id.into();
        let held = self.held.entry(binding.connection).or_default();
        held.insert(Arc::clone(&id));
        let bound = Bound {
            linger_ms: binding.linger_ms,
            event,
            holder: Holder::Connection(binding.connection),
        };
        self.bound.insert(id, bound);
    }

    /// Whether a repetition of an event binds its entity, which is bound, to the connection that it
    /// came from: if no other connection holds it by a later event.
    pub(super) fn may_rebind(&self, id: &str, event: Sequence) -> bool {
        let bound = self.bound.get(id);
        bound.is_none_or(|bound| match bound.holder {
            Holder::Connection(_) => bound.event == Some(event),
            Holder::Nobody(_) => true,
        })
    }

    /// The connection of an entity ended before the start. Nothing changes if it was bound since.
    pub(super) fn orphan(&mut self, id: Box<str>, linger_ms: u32, now: Timestamp) {
        if self.bound.contains_key(&*id) {
            return;
        }
        let id: Arc<str> = id.into();
        let until = after(now, linger_ms);
        self.lingering.insert((until, Arc::clone(&id)));
        let bound = Bound {
            linger_ms,
            event: None,
            holder: Holder::Nobody(until),
        };
        self.bound.insert(id, bound);
    }

    /// A connection has ended: what it holds lingers from now on.
    pub(super) fn end_connection(&mut self, connection: ConnectionId, now: Timestamp) {
        for id in self.held.remove(&connection).unwrap_or_default() {
            if let Some(bound) = self.bound.get_mut(&id) {
                let until = after(now, bound.linger_ms);
                bound.holder = Holder::Nobody(until);
                self.lingering.insert((until, id));
            }
        }
    }

    /// An entity is not bound any more.
    pub(super) fn forget(&mut self, id: &str) {
        let Some((id, bound)) = self.bound.remove_entry(id) else {
            return;
        };
        match bound.holder {
            Holder::Nobody(until) => {
                self.lingering.remove(&(until, id));
            }
            Holder::Connection(connection) => {
                if let Some(held) = self.held.get_mut(&connection) {
                    held.remove(&id);
                    if held.is_empty() {
                        self.held.remove(&connection);
                    }
                }
            }
        }
    }

    /// Forgets what [`Bindings::due`] has named. Something is forgotten in any case, so that a loop
    /// over all that is due comes to an end.
    pub(super) fn forget_due(&mut self) {
        let Some((until, id)) = self.lingering.pop_first() else {
            return;
        };
        let bound = self.bound.get(&id);
        if bound.is_some_and(|bound| matches!(bound.holder, Holder::Nobody(its) if its == until)) {
            self.bound.remove(&id);
        }
    }

    /// An entity that has lingered for as long as it may.
    pub(super) fn due(&self, now: Timestamp) -> Option<Arc<str>> {
        let (until, id) = self.lingering.first()?;
        (*until <= now).then(|| Arc::clone(id))
    }
}

fn after(now: Timestamp, linger_ms: u32) -> Timestamp {
    let micros = i64::from(linger_ms) * 1000;
    Timestamp::from_micros(now.as_micros().saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId {
        core: 0,
        index: 1,
        generation: 0,
    };
    const OTHER: ConnectionId = ConnectionId {
        generation: 1,
        ..ONE
    };

    fn bind(bindings: &mut Bindings, id: &str, connection: ConnectionId, event: u64) {
        let linger_ms = 1000;
        let binding = Binding {
            linger_ms,
            connection,
        };
        bindings.bind(id, binding, Some(Sequence::new(event)));
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// All that is due, which is forgotten.
    fn take_due(bindings: &mut Bindings, seconds: i64) -> Vec<String> {
        let mut due = Vec::new();
        while let Some(id) = bindings.due(at(seconds)) {
            bindings.forget_due();
            due.push(id.to_string());
        }
        due
    }

    fn assert_empty(bindings: &Bindings) {
        let Bindings {
            bound,
            held,
            lingering,
        } = bindings;
        assert!(bound.is_empty() && held.is_empty() && lingering.is_empty());
    }

    #[test]
    fn what_a_connection_held_is_due_after_it_lingered() {
        let mut bindings = Bindings::default();
        bind(&mut bindings, "a", ONE, 1);
        bind(&mut bindings, "b", ONE, 2);
        bind(&mut bindings, "c", OTHER, 3);
        assert_eq!(take_due(&mut bindings, 100), [""; 0]);
        bindings.end_connection(ONE, at(5));
        assert_eq!(bindings.due(Timestamp::from_micros(5_999_999)), None);
        assert_eq!(take_due(&mut bindings, 6), ["a", "b"]);
        bindings.end_connection(OTHER, at(6));
        assert_eq!(take_due(&mut bindings, 100), ["c"]);
        assert_empty(&bindings);
    }

    #[test]
    fn the_last_bind_counts() {
        let mut bindings = Bindings::default();
        bind(&mut bindings, "a", ONE, 1);
        bind(&mut bindings, "a", OTHER, 2);
        bindings.end_connection(ONE, at(0));
        assert_eq!(take_due(&mut bindings, 100), [""; 0]);
        bindings.end_connection(OTHER, at(0));
        bind(&mut bindings, "a", ONE, 3);
        assert_eq!(take_due(&mut bindings, 100), [""; 0], "bound anew in time");
        bindings.forget("a");
        bindings.end_connection(ONE, at(0));
        assert_eq!(take_due(&mut bindings, 100), [""; 0], "it is gone");
        assert_empty(&bindings);
    }

    #[test]
    fn a_repetition_binds_unless_a_later_event_did() {
        let mut bindings = Bindings::default();
        let [first, second] = [1, 2].map(Sequence::new);
        assert!(bindings.may_rebind("a", first), "before the start");
        bind(&mut bindings, "a", ONE, 1);
        assert!(bindings.may_rebind("a", first));
        bind(&mut bindings, "a", OTHER, 2);
        assert!(!bindings.may_rebind("a", first));
        assert!(bindings.may_rebind("a", second));
        bindings.end_connection(OTHER, at(0));
        assert!(bindings.may_rebind("a", first), "nobody holds it");
    }

    #[test]
    fn what_was_bound_before_the_start_lingers_unless_it_is_bound_anew() {
        let mut bindings = Bindings::default();
        bind(&mut bindings, "a", ONE, 1);
        for id in ["a", "b"] {
            bindings.orphan(id.into(), 2000, at(1));
        }
        assert_eq!(take_due(&mut bindings, 2), [""; 0]);
        assert_eq!(take_due(&mut bindings, 3), ["b"]);
    }

    #[test]
    fn a_connection_holds_a_bounded_number() {
        let mut bindings = Bindings::default();
        for number in 0..BOUND_ENTITIES_PER_CONNECTION_MAX {
            let id = number.to_string();
            assert_eq!(bindings.check_room(&id, ONE), Ok(()));
            bind(&mut bindings, &id, ONE, 1);
        }
        let limit = BOUND_ENTITIES_PER_CONNECTION_MAX;
        let too_many = Err(ApiError::TooManyBindings { limit });
        assert_eq!(bindings.check_room("more", ONE), too_many);
        assert_eq!(bindings.check_room("0", ONE), Ok(()), "it holds that one");
        assert_eq!(bindings.check_room("more", OTHER), Ok(()));
        bindings.forget("0");
        assert_eq!(bindings.check_room("more", ONE), Ok(()));
    }
}
