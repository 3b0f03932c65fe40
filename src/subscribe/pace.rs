//! Changes that come faster than a subscriber wants them: the newest of each is kept until its time
//! has come.
//!
//! ```text
//! change ─▶ is its entity's (or property's) time there? ── yes ──▶ send, and note the next time
//!                                                       └─ no ───▶ keep the newest ─▶ due ─▶ send
//! ```
//!
//! - What is told by property has a time for each property; a deletion goes at once and drops what
//!   is kept of the entity.
//! - What is told by event has a time for each entity, deletions included. A deletion that is kept
//!   goes before the change that made the entity anew.
//!
//! Bounded: while as much is kept as one connection may hold, entities that are not kept yet are
//! sent unpaced, and what grows is sent early. So a bound costs messages and no change.
//!
//! Pure: times are arguments, monotonic microseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::merged::{ChangeHead, EncodeMerged, MergedChange, Part};
use crate::limits::{PACED_BYTES_MAX, PACED_ENTRIES_MAX};
use flux_storage::Sequence;

/// What tables and the allocator add to an entry, bytes, rounded up.
const ENTRY_OVERHEAD_BYTES: usize = 256;

/// Between the parts of a key. Ids hold no control characters.
const SEPARATOR: u8 = 0;
const BY_EVENT: u8 = 1;
const BY_PROPERTY: u8 = 2;

/// Where a change is in the order of events: its shard, and its sequence there.
pub(super) type Place = (u16, Sequence);

/// See the module.
#[derive(Debug, Default)]
pub struct Pacer {
    entries: BTreeMap<Arc<[u8]>, Entry>,
    /// Every entry, by the time at which it is looked at.
    due: BTreeSet<(u64, Arc<[u8]>)>,
    bytes: usize,
}

/// An entity or property that was sent lately.
#[derive(Debug)]
struct Entry {
    /// It is not sent again before.
    next_micros: u64,
    interval_micros: u64,
    /// Of what is kept: its place.
    place: Place,
    kept: Kept,
}

#[derive(Debug, Default)]
struct Kept {
    /// A deletion that is told by event.
    deletion: Option<Box<[u8]>>,
    /// The newest frame of a property.
    update: Option<Box<[u8]>>,
    change: Option<Box<(MergedChange, EncodeMerged)>>,
}

/// Something whose time has come.
#[derive(Debug)]
pub enum Due<'d> {
    /// A property's frame.
    Update {
        /// Whose.
        entity_id: &'d str,
        /// Which.
        property: &'d str,
        /// What the subscriber is told.
        frame: &'d [u8],
    },
    /// The frame of a deletion that is told by event.
    Deleted {
        /// Whose.
        entity_id: &'d str,
        /// What the subscriber is told.
        frame: &'d [u8],
    },
    /// Changes that are told by event.
    Changed {
        /// Whose.
        entity_id: &'d str,
        /// What.
        change: &'d MergedChange,
        /// What makes the frame.
        encode: EncodeMerged,
    },
}

impl Kept {
    const fn is_empty(&self) -> bool {
        self.deletion.is_none() && self.update.is_none() && self.change.is_none()
    }

    fn bytes(&self) -> usize {
        let frame = |frame: &Option<Box<[u8]>>| frame.as_ref().map_or(0, |frame| frame.len());
        let change = self.change.as_ref().map_or(0, |it| it.0.heap_bytes());
        frame(&self.deletion) + frame(&self.update) + change
    }
}

impl Pacer {
    /// A property's new value. True if it is to be sent now; else its frame is kept.
    pub fn update(
        &mut self,
        (now_micros, interval_micros): (u64, u64),
        (entity_id, property): (&str, &str),
        (place, frame): (Place, &[u8]),
    ) -> bool {
        let key = key(entity_id, BY_PROPERTY, property);
        self.keep(&key, (now_micros, interval_micros), place, |kept| {
            kept.update = Some(frame.into());
        })
    }

    /// An entity that is told by property is deleted: what is kept of it is dropped.
    pub fn drop_updates(&mut self, entity_id: &str) {
        let first = key(entity_id, BY_PROPERTY, "");
        let from = (Bound::Included(&*first), Bound::Unbounded);
        let of_entity = self.entries.range_mut::<[u8], _>(from);
        for (_, entry) in of_entity.take_while(|(key, _)| key.starts_with(&first)) {
            self.bytes -= entry.kept.bytes();
            entry.kept = Kept::default();
        }
    }

    /// Drops what is kept of these entities: the subscriber may not read them any more.
    pub fn drop_hidden(&mut self, is_hidden: impl Fn(&str) -> bool) {
        for (key, entry) in &mut self.entries {
            if !entry.kept.is_empty() && is_hidden(entity_id(key)) {
                self.bytes -= entry.kept.bytes();
                entry.kept = Kept::default();
            }
        }
    }

    /// A change that is told by event. True if it is to be sent now; else it is kept.
    pub fn change<'p>(
        &mut self,
        (now_micros, interval_micros): (u64, u64),
        (entity_id, place): (&str, Place),
        (head, parts): (ChangeHead, impl Iterator<Item = Part<'p>>),
        encode: EncodeMerged,
    ) -> bool {
        let key = key(entity_id, BY_EVENT, "");
        self.keep(&key, (now_micros, interval_micros), place, |kept| {
            if let Some(kept) = &mut kept.change {
                kept.0.merge(head, parts);
            } else {
                let change = MergedChange::new(head, parts);
                kept.change = Some(Box::new((change, encode)));
            }
        })
    }

    /// A deletion that is told by event. True if it is to be sent now; else it is kept.
    pub fn deletion(
        &mut self,
        (now_micros, interval_micros): (u64, u64),
        (entity_id, place): (&str, Place),
        frame: &[u8],
    ) -> bool {
        let key = key(entity_id, BY_EVENT, "");
        self.keep(&key, (now_micros, interval_micros), place, |kept| {
            kept.change = None;
            kept.deletion = Some(frame.into());
        })
    }

    /// When the next entry is looked at.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(micros, _)| *micros)
    }

    /// Hands out what is due, and forgets what was not sent for its interval.
    pub fn take_due(&mut self, now_micros: u64, mut deliver: impl FnMut(Due<'_>)) {
        while let Some((micros, _)) = self.due.first()
            && *micros <= now_micros
        {
            let Some((_, key)) = self.due.pop_first() else {
                return;
            };
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            if entry.kept.is_empty() {
                self.entries.remove(&key);
                self.bytes -= key.len() + ENTRY_OVERHEAD_BYTES;
                continue;
            }
            self.bytes -= entry.kept.bytes();
            deliver_first(&key, &mut entry.kept, &mut deliver);
            self.bytes += entry.kept.bytes();
            entry.next_micros = now_micros + entry.interval_micros;
            self.due.insert((entry.next_micros, key));
        }
    }

    /// Hands out all that is kept, whenever it is due, and forgets everything.
    pub fn flush(&mut self, mut deliver: impl FnMut(Due<'_>)) {
        for (key, mut entry) in std::mem::take(&mut self.entries) {
            while !entry.kept.is_empty() {
                deliver_first(&key, &mut entry.kept, &mut deliver);
            }
        }
        self.due.clear();
        self.bytes = 0;
    }

    /// Everything of a shard before this has been sent, as far as it was not replaced by what came
    /// later; `None` if nothing of it is kept. Cost: the entries.
    pub fn first_kept(&self, shard: u16) -> Option<Sequence> {
        let kept = self.entries.values().filter(|it| !it.kept.is_empty());
        let places = kept.map(|it| it.place).filter(|place| place.0 == shard);
        places.map(|(_, sequence)| sequence).min()
    }

    /// Heap that it holds, about.
    pub const fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// True if the change is to be sent now; else `put` puts it to what is kept.
    fn keep(
        &mut self,
        key: &[u8],
        (now_micros, interval_micros): (u64, u64),
        place: Place,
        put: impl FnOnce(&mut Kept),
    ) -> bool {
        let Some((found, entry)) = self.entries.get_key_value(key) else {
            self.note_sent(key, (now_micros, interval_micros), place);
            return true;
        };
        let (old, key) = (entry.next_micros, Arc::clone(found));
        let Some(entry) = self.entries.get_mut(&key) else {
            return true;
        };
        entry.interval_micros = interval_micros;
        if entry.kept.is_empty() && now_micros >= entry.next_micros {
            entry.next_micros = now_micros + interval_micros;
            self.due.remove(&(old, Arc::clone(&key)));
            self.due.insert((now_micros + interval_micros, key));
            return true;
        }
        self.bytes -= entry.kept.bytes();
        put(&mut entry.kept);
        self.bytes += entry.kept.bytes();
        entry.place = place;
        if self.bytes > PACED_BYTES_MAX {
            entry.next_micros = now_micros;
            self.due.remove(&(old, Arc::clone(&key)));
            self.due.insert((now_micros, key));
        }
        false
    }

    /// Notes what is sent now, if there is room.
    fn note_sent(&mut self, key: &[u8], (now_micros, interval_micros): (u64, u64), place: Place) {
        if self.entries.len() >= PACED_ENTRIES_MAX || self.bytes >= PACED_BYTES_MAX {
            return;
        }
        let (key, next_micros) = (Arc::<[u8]>::from(key), now_micros + interval_micros);
        self.bytes += key.len() + ENTRY_OVERHEAD_BYTES;
        self.due.insert((next_micros, Arc::clone(&key)));
        let entry = Entry {
            next_micros,
            interval_micros,
            place,
            kept: Kept::default(),
        };
        self.entries.insert(key, entry);
    }
}

fn key(entity_id: &str, told: u8, property: &str) -> Vec<u8> {
    let id = entity_id.as_bytes();
    [id, &[SEPARATOR, told], property.as_bytes()].concat()
}

/// Whose key it is.
fn entity_id(key: &[u8]) -> &str {
    let id = key.split(|byte| *byte == SEPARATOR).next();
    str::from_utf8(id.unwrap_or_default()).unwrap_or_default()
}

/// Hands out the first of what is kept under a key.
fn deliver_first(key: &[u8], kept: &mut Kept, deliver: &mut impl FnMut(Due<'_>)) {
    let text = str::from_utf8(key).unwrap_or_default();
    let (entity_id, rest) = text.split_once(char::from(SEPARATOR)).unwrap_or_default();
    if let Some(frame) = kept.deletion.take() {
        let frame = &frame;
        deliver(Due::Deleted { entity_id, frame });
    } else if let Some(frame) = kept.update.take() {
        deliver(Due::Update {
            entity_id,
            property: rest.get(1..).unwrap_or_default(),
            frame: &frame,
        });
    } else if let Some(change) = kept.change.take() {
        deliver(Due::Changed {
            entity_id,
            change: &change.0,
            encode: change.1,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use std::collections::HashMap;

    const INTERVAL: u64 = 1000;

    fn head(sequence: u64) -> ChangeHead {
        ChangeHead {
            version: sequence,
            sequence: Sequence::new(sequence),
            time: crate::model::Timestamp::default(),
            is_whole: false,
            matches: true,
            expires: crate::model::ExpiryChange::None,
        }
    }

    fn encode(_: &mut Vec<u8>, _: &str, _: &MergedChange) {}

    /// A line for each message: `id.property frame`, `id gone` or `id name=value ...`.
    fn line(due: &Due<'_>) -> String {
        let text = |frame: &[u8]| String::from_utf8(frame.to_vec()).unwrap();
        match due {
            Due::Update {
                entity_id,
                property,
                frame,
            } => {
                format!("{entity_id}.{property} {}", text(frame))
            }
            Due::Deleted { entity_id, .. } => format!("{entity_id} gone"),
            Due::Changed {
                entity_id, change, ..
            } => {
                let parts = change.parts();
                let parts = parts.map(|(name, value)| format!(" {name}={}", value.unwrap_or("-")));
                format!("{entity_id}{}", parts.collect::<String>())
            }
        }
    }

    fn due(pacer: &mut Pacer, now: u64) -> Vec<String> {
        let mut lines = Vec::new();
        pacer.take_due(now, |due| lines.push(line(&due)));
        lines
    }

    #[test]
    fn the_first_goes_at_once_and_the_newest_when_its_time_has_come() {
        let mut pacer = Pacer::default();
        let update = |pacer: &mut Pacer, now, property, frame: &str, sequence| {
            let place = (0, Sequence::new(sequence));
            pacer.update((now, INTERVAL), ("a", property), (place, frame.as_bytes()))
        };
        assert!(update(&mut pacer, 0, "x", "1", 1));
        assert!(
            update(&mut pacer, 0, "y", "1", 2),
            "a time for each property"
        );
        assert!(!update(&mut pacer, 1, "x", "2", 3));
        assert!(!update(&mut pacer, 2, "x", "3", 4));
        assert_eq!(pacer.first_kept(0), Some(Sequence::new(4)));
        assert_eq!(pacer.first_kept(1), None);
        assert_eq!(pacer.next_due(), Some(INTERVAL));
        assert!(due(&mut pacer, INTERVAL - 1).is_empty());
        assert_eq!(due(&mut pacer, INTERVAL), ["a.x 3"]);
        assert!(!update(&mut pacer, INTERVAL + 1, "x", "4", 5));
        pacer.drop_updates("a");
        assert!(due(&mut pacer, 2 * INTERVAL).is_empty());
        assert_eq!(
            (pacer.entries.len(), pacer.bytes, pacer.due.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn a_deletion_that_is_kept_goes_before_the_entity_made_anew() {
        let mut pacer = Pacer::default();
        let place = (0, Sequence::new(1));
        let pace = (0, INTERVAL);
        let change = |pacer: &mut Pacer, value| {
            let parts = [("x", Some(value))].into_iter();
            pacer.change(pace, ("a", place), (head(1), parts), encode)
        };
        assert!(change(&mut pacer, "1"));
        assert!(!change(&mut pacer, "2"));
        assert!(!pacer.deletion(pace, ("a", place), b"gone"));
        assert!(!change(&mut pacer, "3"));
        assert_eq!(due(&mut pacer, INTERVAL), ["a gone"]);
        assert!(!change(&mut pacer, "4"));
        assert_eq!(due(&mut pacer, 2 * INTERVAL), ["a x=4"]);
        assert!(due(&mut pacer, 3 * INTERVAL).is_empty());
        assert!(change(&mut pacer, "5"));
        assert!(!change(&mut pacer, "6"));
        let mut flushed = Vec::new();
        pacer.flush(|due| flushed.push(line(&due)));
        assert_eq!((flushed, pacer.heap_bytes()), (vec!["a x=6".to_owned()], 0));
    }

    #[test]
    fn no_entity_is_sent_more_often_than_allowed_and_the_last_state_arrives() {
        for seed in 1..=50 {
            let mut random = Rng::with_seed(seed);
            let mut pacer = Pacer::default();
            let (mut model, mut client) = (HashMap::new(), HashMap::new());
            let mut sent: HashMap<String, u64> = HashMap::new();
            let mut now = 0;
            let mut take = |id: &str, value: Option<u64>, now: u64, paced: bool| {
                let last = sent.insert(id.to_owned(), now);
                let waited = last.is_none_or(|last| now - last >= INTERVAL);
                assert!(
                    waited || !paced,
                    "seed {seed}: {id} at {now} after {last:?}"
                );
                client.insert(id.to_owned(), value);
            };
            for sequence in 1..3000 {
                now += random.u64(..60);
                pacer.take_due(now, |due| match due {
                    Due::Deleted { entity_id, .. } => take(entity_id, None, now, true),
                    Due::Changed {
                        entity_id, change, ..
                    } => {
                        take(entity_id, Some(change.head.version), now, true);
                    }
                    Due::Update { .. } => unreachable!(),
                });
                let id = random.u32(..12).to_string();
                let place = (0, Sequence::new(sequence));
                let pace = (now, INTERVAL);
                let value = (random.u32(..5) > 0).then_some(sequence);
                model.insert(id.clone(), value);
                let goes = if value.is_some() {
                    let parts = std::iter::empty();
                    pacer.change(pace, (&id, place), (head(sequence), parts), encode)
                } else {
                    pacer.deletion(pace, (&id, place), b"-")
                };
                if goes {
                    take(&id, value, now, true);
                }
            }
            for _ in 0..3 {
                now += INTERVAL;
                pacer.take_due(now, |due| match due {
                    Due::Deleted { entity_id, .. } => take(entity_id, None, now, true),
                    Due::Changed {
                        entity_id, change, ..
                    } => {
                        take(entity_id, Some(change.head.version), now, true);
                    }
                    Due::Update { .. } => unreachable!(),
                });
            }
            assert_eq!(client, model, "seed {seed}");
            assert_eq!(pacer.heap_bytes(), 0, "seed {seed}");
        }
    }

    #[test]
    fn beyond_the_bound_an_entity_is_sent_unpaced() {
        let mut pacer = Pacer::default();
        let update = |pacer: &mut Pacer, id: &str| {
            let place = (0, Sequence::new(1));
            pacer.update((0, INTERVAL), (id, "x"), (place, b"1"))
        };
        let mut count = 0;
        while pacer.entries.len() < PACED_ENTRIES_MAX && pacer.bytes < PACED_BYTES_MAX {
            assert!(update(&mut pacer, &count.to_string()));
            count += 1;
        }
        for _ in 0..3 {
            assert!(update(&mut pacer, "one more"));
        }
        assert_eq!(pacer.entries.len(), count);
        assert!(!update(&mut pacer, "0"));
        assert!(pacer.heap_bytes() < 2 * PACED_BYTES_MAX);
    }
}
