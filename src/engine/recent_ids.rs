//! The ids that producers gave to the last events of a shard: an event that is sent again counts
//! once (API contract §14).
//!
//! ```text
//!  hash of namespace and id ─▶ bucket ─▶ newest entry ─next─▶ older entry ─next─▶ ...
//!
//!  chunks:  │ entries, in the order of the log │ ... │ ... newest │
//! ```
//!
//! An entry holds hashes, not texts: 80 bits of the namespace and the id, 64 of the content, both
//! `SipHash` under keys that are drawn when the process starts and that nobody outside can learn.
//! If each shard takes 100,000 events a second for a year, and remembers a million ids, the chance
//! that any two different ids are taken for the same one is three in a million. So a match needs no
//! look at the log, and a repetition costs no read.
//!
//! Entries leave in the order in which they came, so nothing is ever taken out of a bucket: a link
//! to an entry that has left is known by its number, and ends the chain.
//!
//! An id is known while it is one of the last events of the shard and not older than the window.
//! Both are facts of the log, so a start finds the same ids again ([`RecentIds::note`]).

use crate::model::{
    DedupWindow, EventView, HistoryStart, HistoryStarts, RECORD_KIND_EVENT, Sent, Stored,
    Timestamp, namespace_bytes_of,
};
use flux_storage::{Record, Sequence};
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Entries of a chunk: what is allocated and freed at a time.
const CHUNK_ENTRIES: usize = 1024;

/// Buckets for so many entries each, when all are there: a bucket takes four bytes.
const ENTRIES_PER_BUCKET: usize = 2;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct SentHash {
    id: u64,
    id_more: u16,
    content: u64,
}

/// What is known of an event with an id.
#[derive(Debug, Clone, Copy)]
pub enum Recalled {
    /// Nothing: the server made its id, or ids are not remembered.
    NotSent,
    /// It is new.
    New(SentHash),
    /// It was stored before.
    Duplicate {
        /// Where.
        stored: Stored,
        /// Its answer has results of operations, which the log has.
        has_operations: bool,
    },
    /// Another event was stored under its id, as this number.
    Reused(Sequence),
}

/// One event with an id. Packed: what a million of them take is told to operators.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(2))]
struct Entry {
    id: u64,
    content: u64,
    /// The number of the entry before it in its bucket, its low 32 bits.
    next: u32,
    /// From its chunk's first sequence.
    sequence: u32,
    /// From its chunk's first time.
    milliseconds: i32,
    id_more: u16,
    version: [u8; VERSION_BYTES],
}

/// A version beyond 47 bits is that of an entity with an event each microsecond for four years.
const VERSION_BYTES: usize = 6;

const _: () = assert!(size_of::<Entry>() == 36);

/// Those of the ids and of the contents.
type Keys = (RandomState, RandomState);

#[derive(Debug)]
struct Chunk {
    entries: Vec<Entry>,
    first: (Sequence, Timestamp),
    /// The latest of its entries.
    last: (Sequence, Timestamp),
}

/// See the module.
#[derive(Debug, Default)]
pub struct RecentIds {
    window: DedupWindow,
    keys: Option<Box<Keys>>,
    /// The number of each bucket's newest entry, its low 32 bits. Empty until there is an entry.
    buckets: Box<[u32]>,
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk's first entry. Numbers begin at 1.
    first: u64,
    /// Entries that were added, and so the number of the newest.
    added: u64,
    /// Where the namespaces of this shard begin.
    starts: HistoryStarts,
}

impl RecentIds {
    /// Remembers nothing yet.
    pub fn new(window: DedupWindow) -> Self {
        Self {
            window,
            keys: window.is_open().then(Box::default),
            first: 1,
            ..Self::default()
        }
    }

    /// A namespace begins at its registration: it knows none of the ids that came before.
    pub fn begin(&mut self, namespace: &str, start: HistoryStart) {
        self.starts.insert(namespace, start);
    }

    /// A namespace is deleted.
    pub fn end(&mut self, namespace: &str) {
        self.starts.remove(namespace);
    }

    /// For how long ids are known.
    pub const fn window(&self) -> DedupWindow {
        self.window
    }

    /// What is known of an event that is about to be stored after `appended`, at `now`. `event`:
    /// its form as it came.
    #[inline]
    pub fn recall(&self, event: &[u8], appended: Sequence, now: Timestamp) -> Recalled {
        match self.keys.as_deref().zip(Sent::of(event)) {
            None => Recalled::NotSent,
            Some(sent) => self.recall_sent(sent, appended, now),
        }
    }

    fn recall_sent(
        &self,
        (keys, sent): (&Keys, Sent<'_>),
        appended: Sequence,
        now: Timestamp,
    ) -> Recalled {
        let hash = SentHash::of(keys, &sent);
        let known = self.entries(hash).find(|(entry, place)| {
            let is_same = (entry.id, entry.id_more) == (hash.id, hash.id_more);
            is_same && self.window.holds(*place, appended, now)
        });
        // What came before the registration of its namespace is another owner's.
        let known = known.filter(|(_, (sequence, time))| {
            let namespace = namespace_bytes_of(sent.entity_id);
            let namespace = namespace.and_then(|name| std::str::from_utf8(name).ok());
            let start = namespace.and_then(|name| self.starts.get(name));
            start.is_none_or(|start| !start.hides(*sequence, *time))
        });
        match known {
            None => Recalled::New(hash),
            Some((entry, (sequence, _))) if entry.content != hash.content => {
                Recalled::Reused(sequence)
            }
            Some((entry, (sequence, _))) => {
                let (version, has_operations) = version_of(entry.version);
                Recalled::Duplicate {
                    stored: Stored { sequence, version },
                    has_operations,
                }
            }
        }
    }

    /// An event was stored that was new.
    pub fn remember(
        &mut self,
        hash: SentHash,
        (stored, has_operations): (Stored, bool),
        time: Timestamp,
    ) {
        if self.buckets.is_empty() {
            self.buckets = self.room();
        }
        let bucket = self.bucket(hash.id);
        let place = (stored.sequence, time);
        let Some((chunk, sequence)) = self.chunk_for(place) else {
            return;
        };
        let milliseconds = (time.as_micros() - chunk.first.1.as_micros()) / 1000;
        let saturated = if milliseconds < 0 { i32::MIN } else { i32::MAX };
        let entry = Entry {
            id: hash.id,
            content: hash.content,
            next: 0,
            sequence,
            milliseconds: i32::try_from(milliseconds).unwrap_or(saturated),
            id_more: hash.id_more,
            version: version_bytes(stored.version, has_operations),
        };
        chunk.entries.push(entry);
        chunk.last.0 = chunk.last.0.max(place.0);
        chunk.last.1 = chunk.last.1.max(place.1);
        self.added += 1;
        let newest = &mut self.buckets[bucket];
        let next = std::mem::replace(newest, low_bits(self.added));
        if let Some(entry) = self
            .chunks
            .back_mut()
            .and_then(|chunk| chunk.entries.last_mut())
        {
            entry.next = next;
        }
        self.forget(stored.sequence, time);
    }

    /// Takes in an event of the log, at start. Those of a log come in its order.
    pub fn note(&mut self, record: &Record<'_>) {
        let (event, sequence) = (record.payload, record.sequence);
        let time = Timestamp::from_micros(record.time_micros);
        if record.kind != RECORD_KIND_EVENT {
            return;
        }
        let Some((keys, sent)) = self.keys.as_ref().zip(Sent::of(event)) else {
            return;
        };
        let mut hash = SentHash::of(keys, &sent);
        if sent.decided.has_results()
            && let Ok(view) = EventView::decode(event)
        {
            // Its content is what was sent, not what it came to.
            let mut came = Vec::new();
            view.encode_as_it_came(&mut came);
            if let Some(sent) = Sent::of(&came) {
                hash = SentHash::of(keys, &sent);
            }
        }
        let version = sent.decided.version.unwrap_or(0);
        let known = (Stored { sequence, version }, sent.decided.has_operations());
        self.remember(hash, known, time);
    }

    /// Bytes of heap.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        let entries: usize = self
            .chunks
            .iter()
            .map(|chunk| chunk.entries.capacity())
            .sum();
        entries * size_of::<Entry>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + size_of_val(&*self.buckets)
    }

    fn room(&self) -> Box<[u32]> {
        let events = usize::try_from(self.window.events).unwrap_or(usize::MAX);
        let buckets = events.div_ceil(ENTRIES_PER_BUCKET).next_power_of_two();
        vec![0; buckets].into_boxed_slice()
    }

    /// The bucket of an id: the number of buckets is a power of two.
    fn bucket(&self, id: u64) -> usize {
        let mask = self.buckets.len() as u64 - 1;
        usize::try_from(id & mask).unwrap_or(0)
    }

    /// The chunk that takes an entry at this place, and the entry's distance from its first
    /// sequence.
    fn chunk_for(&mut self, place: (Sequence, Timestamp)) -> Option<(&mut Chunk, u32)> {
        let distance = |chunk: &Chunk| {
            let distance = place.0.get().checked_sub(chunk.first.0.get())?;
            u32::try_from(distance).ok()
        };
        let newest = self.chunks.back();
        let has_room = newest
            .is_some_and(|chunk| chunk.entries.len() < CHUNK_ENTRIES && distance(chunk).is_some());
        if !has_room {
            // Numbers are even: a chunk that ends early leaves some out.
            let begun = self.chunks.len() as u64 * CHUNK_ENTRIES as u64;
            self.added = self.first + begun - 1;
            self.chunks.push_back(Chunk {
                entries: Vec::with_capacity(CHUNK_ENTRIES),
                first: place,
                last: place,
            });
        }
        let chunk = self.chunks.back_mut()?;
        let sequence = distance(chunk)?;
        Some((chunk, sequence))
    }

    /// Drops the chunks all of whose entries are unknown by now.
    fn forget(&mut self, appended: Sequence, now: Timestamp) {
        while self.chunks.len() > 1
            && let Some(oldest) = self.chunks.front()
            && !self.window.holds(oldest.last, appended, now)
        {
            self.chunks.pop_front();
            self.first += CHUNK_ENTRIES as u64;
        }
    }

    /// The entries in the bucket of a hash, newest first, each with its sequence and time.
    fn entries(&self, hash: SentHash) -> impl Iterator<Item = (Entry, (Sequence, Timestamp))> {
        let newest = if self.buckets.is_empty() {
            0
        } else {
            self.buckets[self.bucket(hash.id)]
        };
        // How long ago the entry before this one was added, which is less than for the next.
        let mut age_before = None;
        let mut next = newest;
        std::iter::from_fn(move || {
            let age = low_bits(self.added).wrapping_sub(next);
            let number = self.added.checked_sub(u64::from(age))?;
            let index = number.checked_sub(self.first)?;
            if number == 0 || age_before.is_some_and(|before| age <= before) {
                return None;
            }
            age_before = Some(age);
            let chunk = self
                .chunks
                .get(usize::try_from(index).ok()? / CHUNK_ENTRIES)?;
            let entry = *chunk
                .entries
                .get(usize::try_from(index).ok()? % CHUNK_ENTRIES)?;
            next = entry.next;
            let sequence = chunk.first.0.get() + u64::from(entry.sequence);
            let micros = i64::from(entry.milliseconds) * 1000;
            let time = Timestamp::from_micros(chunk.first.1.as_micros().saturating_add(micros));
            Some((entry, (Sequence::new(sequence), time)))
        })
    }
}

impl SentHash {
    fn of(keys: &Keys, sent: &Sent<'_>) -> Self {
        let namespace = namespace_bytes_of(sent.entity_id);
        let scope = namespace.unwrap_or(sent.entity_id);
        let of_id = |key: &RandomState| {
            let mut hasher = key.build_hasher();
            // No id of an entity holds this byte.
            hasher.write(scope);
            hasher.write(&[0, u8::from(namespace.is_some())]);
            hasher.write(sent.event_id);
            hasher.finish()
        };
        let (flags, rest) = sent.content();
        let mut hasher = keys.1.build_hasher();
        hasher.write(&[1, flags]);
        hasher.write(rest);
        let [.., low, lowest] = of_id(&keys.1).to_be_bytes();
        Self {
            id: of_id(&keys.0),
            id_more: u16::from_be_bytes([low, lowest]),
            content: hasher.finish(),
        }
    }
}

/// The low 32 bits of an entry's number.
const fn low_bits(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Set in an entry's version if the event has operations.
const OPERATIONS: u64 = 1 << (8 * VERSION_BYTES - 1);

fn version_bytes(version: u64, has_operations: bool) -> [u8; VERSION_BYTES] {
    let version = version & (OPERATIONS - 1);
    let version = version | if has_operations { OPERATIONS } else { 0 };
    let mut bytes = [0; VERSION_BYTES];
    bytes.copy_from_slice(&version.to_le_bytes()[..VERSION_BYTES]);
    bytes
}

fn version_of(bytes: [u8; VERSION_BYTES]) -> (u64, bool) {
    let mut version = [0; 8];
    version[..VERSION_BYTES].copy_from_slice(&bytes);
    let version = u64::from_le_bytes(version);
    (version & (OPERATIONS - 1), version & OPERATIONS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventDraft, EventId, Property};
    use std::collections::HashMap;

    fn event(entity_id: &str, event_id: &str, value: &str) -> Vec<u8> {
        let draft = EventDraft {
            entity_id,
            event_id: EventId::Text(event_id),
            stream: "s",
            source: "a",
            timestamp_ms: None,
            key: None,
            schema: None,
            traceparent: None,
            extra: "",
            tombstone: false,
            properties: &[Property { name: "p", value }],
        };
        let mut bytes = Vec::new();
        draft.encode(&mut bytes);
        bytes
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[derive(Debug, PartialEq)]
    enum Known {
        New,
        Duplicate(u64, u64),
        Reused,
    }

    fn ask(ids: &RecentIds, event: &[u8], appended: u64, now: Timestamp) -> Known {
        match ids.recall(event, Sequence::new(appended), now) {
            Recalled::NotSent => panic!("the id was sent"),
            Recalled::New(_) => Known::New,
            Recalled::Reused(_) => Known::Reused,
            Recalled::Duplicate { stored, .. } => {
                Known::Duplicate(stored.sequence.get(), stored.version)
            }
        }
    }

    /// Stores an event as number `sequence`, if it is new.
    fn store(ids: &mut RecentIds, event: &[u8], sequence: u64, now: Timestamp) {
        if let Recalled::New(hash) = ids.recall(event, Sequence::new(sequence - 1), now) {
            let stored = Stored {
                sequence: Sequence::new(sequence),
                version: sequence * 3,
            };
            ids.remember(hash, (stored, false), now);
        }
    }

    const WINDOW: DedupWindow = DedupWindow {
        seconds: 10,
        events: 100,
    };

    #[test]
    fn an_id_is_known_in_its_namespace_with_its_content() {
        let mut ids = RecentIds::new(WINDOW);
        let first = event("n/a", "1", "7");
        assert_eq!(ask(&ids, &first, 0, at(0)), Known::New);
        store(&mut ids, &first, 1, at(0));
        assert_eq!(ask(&ids, &first, 1, at(0)), Known::Duplicate(1, 3));
        assert_eq!(ask(&ids, &event("n/a", "1", "8"), 1, at(0)), Known::Reused);
        assert_eq!(ask(&ids, &event("n/b", "1", "7"), 1, at(0)), Known::Reused);
        assert_eq!(ask(&ids, &event("n/a", "2", "7"), 1, at(0)), Known::New);
        assert_eq!(ask(&ids, &event("m/a", "1", "7"), 1, at(0)), Known::New);
        // Ids without a namespace have none in common.
        store(&mut ids, &event("a", "1", "7"), 2, at(0));
        assert_eq!(ask(&ids, &event("b", "1", "7"), 2, at(0)), Known::New);
        assert_eq!(ask(&ids, &event("a", "1", "8"), 2, at(0)), Known::Reused);
    }

    #[test]
    fn an_id_is_known_for_the_window_and_no_longer() {
        let mut ids = RecentIds::new(WINDOW);
        let first = event("n/a", "1", "7");
        store(&mut ids, &first, 5, at(0));
        assert_eq!(ask(&ids, &first, 104, at(10)), Known::Duplicate(5, 15));
        assert_eq!(
            ask(&ids, &first, 105, at(10)),
            Known::New,
            "100 came after it"
        );
        assert_eq!(ask(&ids, &first, 104, at(11)), Known::New, "it is too old");
        for window in [(0, 100), (10, 0)] {
            let (seconds, events) = window;
            let off = RecentIds::new(DedupWindow { seconds, events });
            let recalled = off.recall(&first, Sequence::ZERO, at(0));
            assert!(matches!(recalled, Recalled::NotSent));
        }
    }

    #[test]
    fn any_history_is_recalled_as_a_map_says_live_and_from_the_log() {
        let window = DedupWindow {
            seconds: 60,
            events: 3000,
        };
        let mut random = fastrand::Rng::with_seed(7);
        let mut ids = RecentIds::new(window);
        let mut known: HashMap<u32, (u64, i64)> = HashMap::new();
        let mut log = Vec::new();
        let (mut sequence, mut now) = (0, 1000);
        for _ in 0..20_000 {
            now += i64::from(random.u8(..100) == 0) * random.i64(-2..6);
            sequence += random.u64(1..4);
            let id = random.u32(..4000);
            let bytes = event("n/a", &id.to_string(), "1");
            let held = known
                .get(&id)
                .filter(|(stored, time)| sequence - 1 - stored < window.events && now - time <= 60);
            let expected = held.map_or(Known::New, |(stored, _)| {
                Known::Duplicate(*stored, stored * 3)
            });
            assert_eq!(ask(&ids, &bytes, sequence - 1, at(now)), expected);
            if expected == Known::New {
                store(&mut ids, &bytes, sequence, at(now));
                known.insert(id, (sequence, now));
                log.push((bytes, sequence, now));
            }
        }
        let mut replayed = RecentIds::new(window);
        for (bytes, stored, time) in log {
            if Sequence::new(stored) >= window.first(Sequence::new(sequence)) {
                replayed.note(&Record {
                    sequence: Sequence::new(stored),
                    time_micros: at(time).as_micros(),
                    kind: RECORD_KIND_EVENT,
                    group: None,
                    payload: &bytes,
                });
            }
        }
        for id in 0..4000 {
            let bytes = event("n/a", &id.to_string(), "1");
            let sequence_of = |ids: &RecentIds| match ask(ids, &bytes, sequence, at(now)) {
                Known::Duplicate(sequence, _) => Some(sequence),
                _ => None,
            };
            assert_eq!(sequence_of(&replayed), sequence_of(&ids));
        }
    }

    #[test]
    fn a_million_ids_take_at_most_forty_bytes_each() {
        let events = 1_000_000;
        let window = DedupWindow {
            seconds: 600,
            events,
        };
        let mut ids = RecentIds::new(window);
        let stored = |sequence| Stored {
            sequence: Sequence::new(sequence),
            version: 1,
        };
        for number in 1..=2 * events + 500 {
            let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let hash = SentHash {
                id,
                id_more: 0,
                content: id,
            };
            ids.remember(hash, (stored(number), false), at(0));
        }
        let bytes = ids.heap_bytes();
        assert!(bytes <= 40_000_000, "{bytes}");
    }
}
