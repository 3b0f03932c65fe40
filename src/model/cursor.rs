//! Cursors: places in the order of events, as clients keep them (API contract §13).
//!
//! ```text
//! of a namespace  | kind 2 | hash of its name, 8 | sequence, 8 | crc, 4 |
//! of an id        | kind 3 | hash of the id, 8   | sequence, 8 | crc, 4 |
//! of everything   | kind 4 | shards, 2 | lowest, 8 | shift, 1 | bits, 1 | places | crc, 4 |
//! ```
//!
//! Big-endian, shown as base64url without padding: 28 characters, or up to 1,024. An *id* is one
//! that has no namespace. `crc` is CRC-32 over the bytes before it. The kind is the version too.
//! Kind 1 is an earlier one, which only `before=` of `GET /api/events` still takes.
//!
//! A place is the last event before it. *Of a namespace* that is its sequence. The sequences of a
//! namespace rise through all generations of logs, so the place stays right when the number of
//! shards changes. *Of everything* that is a sequence for each shard at the time: the place of a
//! namespace is the sequence of the shard that it was on, and so stays right too, in whichever log
//! its events lie later. No generation or file is named, so nothing that is moved, restored or
//! copied makes a cursor wrong.
//!
//! *Places* are differences to the lowest of them, `bits` wide, without the lowest `shift` bits of
//! each. Beyond 93 shards the bytes may not suffice for all of them; then places are rounded down:
//! some events come again, and none is left out.
//!
//! A cursor gives no right to anything. Whoever takes one compares it with where the log begins and
//! ends: what retention removed is not there to be read, and a place beyond the end counts as
//! removed.

use super::id::{namespace_of, placement_key};
use super::placement::{key_hash, place_key, reduce};
use crate::limits::SHARDS_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flux_storage::Sequence;

/// Characters of a cursor of one namespace or id.
pub const NARROW_CURSOR_CHARS: usize = 28;
/// Characters of the longest cursor.
pub const CURSOR_CHARS_MAX: usize = 1024;

/// The text of a cursor of one namespace or id.
pub type NarrowCursor = [u8; NARROW_CURSOR_CHARS];

const KIND_NAMESPACE: u8 = 2;
const KIND_ID: u8 = 3;
const KIND_EVERYTHING: u8 = 4;

const NARROW_BYTES: usize = 21;
const CRC_BYTES: usize = 4;
/// Bytes before the places of a cursor of everything.
const HEAD_BYTES: usize = 13;
/// Bits that the places of a cursor of everything may take.
const PLACES_BITS_MAX: usize = (CURSOR_CHARS_MAX / 4 * 3 - HEAD_BYTES - CRC_BYTES) * 8;

const _: () = assert!(NARROW_BYTES.div_ceil(3) * 4 == NARROW_CURSOR_CHARS);
const _: () = assert!(
    PLACES_BITS_MAX / SHARDS_MAX as usize >= 4,
    "with the most shards a place keeps its highest bits"
);

/// What a cursor of one event or entity is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorScope<'k> {
    /// A namespace.
    Namespace(&'k str),
    /// An id that has none.
    Id(&'k str),
}

impl<'k> CursorScope<'k> {
    /// That of an entity.
    pub fn of(entity_id: &'k str) -> Self {
        match namespace_of(entity_id) {
            Some(namespace) => Self::Namespace(namespace),
            None => Self::Id(placement_key(entity_id)),
        }
    }

    /// The namespace or id.
    pub const fn key(self) -> &'k str {
        match self {
            Self::Namespace(key) | Self::Id(key) => key,
        }
    }

    const fn kind(self) -> u8 {
        match self {
            Self::Namespace(_) => KIND_NAMESPACE,
            Self::Id(_) => KIND_ID,
        }
    }
}

/// All of a cursor of one namespace or id but the place, for an answer that is written later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorKey {
    kind: u8,
    hash: u64,
}

impl CursorKey {
    /// That of an entity.
    pub fn of(entity_id: &str) -> Self {
        Self::of_scope(CursorScope::of(entity_id))
    }

    /// That of a namespace or id.
    pub fn of_scope(scope: CursorScope<'_>) -> Self {
        Self {
            kind: scope.kind(),
            hash: key_hash(scope.key()),
        }
    }

    /// The shard of the namespace or id, below `shards`: as [`place_key`] says, without another
    /// look at the name.
    ///
    /// # Panics
    /// If `shards` is 0.
    pub fn place(self, shards: u16) -> u16 {
        reduce(self.hash, shards)
    }

    /// The text of the cursor after an event, without an allocation.
    ///
    /// Every answer to a publish has one: the encoder of a library, which is made for long inputs,
    /// takes three times as long.
    pub fn text(self, last: Sequence) -> NarrowCursor {
        let bytes = narrow_bytes(self.kind, self.hash, last);
        let mut text = [0; NARROW_CURSOR_CHARS];
        let (threes, _) = bytes.as_chunks::<3>();
        let (fours, _) = text.as_chunks_mut::<4>();
        for (four, [first, second, third]) in fours.iter_mut().zip(threes) {
            let bits = u32::from_be_bytes([0, *first, *second, *third]);
            let [[a, b], [c, d]] = [bits >> 12, bits].map(base64_digits);
            *four = [a, b, c, d];
        }
        text
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Places);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Places {
    /// Of a namespace or id.
    One { kind: u8, hash: u64, last: Sequence },
    /// By shard, 1 to [`SHARDS_MAX`] of them.
    Each(Box<[Sequence]>),
}

/// The text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a cursor that a server handed out")]
pub struct InvalidCursor;

/// The cursor does not cover all that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cursor is of another namespace or entity")]
pub struct CursorTooNarrow;

impl Cursor {
    /// The place after an event of a namespace or id.
    pub fn of(scope: CursorScope<'_>, last: Sequence) -> Self {
        Self(Places::One {
            kind: scope.kind(),
            hash: key_hash(scope.key()),
            last,
        })
    }

    /// The place after the last event of each shard.
    ///
    /// # Panics
    /// Without a shard, or with more than [`SHARDS_MAX`].
    pub fn of_everything(last: &[Sequence]) -> Self {
        let is_possible = (1..=usize::from(SHARDS_MAX)).contains(&last.len());
        assert!(is_possible, "a server has 1 to {SHARDS_MAX} shards");
        Self(Places::Each(last.into()))
    }

    /// The last event before the place that belongs to a namespace or id, or an earlier one.
    ///
    /// # Errors
    /// [`CursorTooNarrow`] if it is of another one.
    pub fn last_of(&self, scope: CursorScope<'_>) -> Result<Sequence, CursorTooNarrow> {
        match &self.0 {
            Places::One { kind, hash, last } => {
                let is_own = (*kind, *hash) == (scope.kind(), key_hash(scope.key()));
                is_own.then_some(*last).ok_or(CursorTooNarrow)
            }
            Places::Each(places) => {
                let shards = u16::try_from(places.len()).or(Err(CursorTooNarrow))?;
                let place = places.get(usize::from(place_key(scope.key(), shards)));
                place.copied().ok_or(CursorTooNarrow)
            }
        }
    }

    /// The last event before the place, by shard of the time: an event with this sequence or a
    /// lower one lies before the place if [`place_key`] puts its namespace or id on that shard.
    ///
    /// # Errors
    /// [`CursorTooNarrow`] if it is of one namespace or id.
    pub fn last_of_each(&self) -> Result<&[Sequence], CursorTooNarrow> {
        match &self.0 {
            Places::One { .. } => Err(CursorTooNarrow),
            Places::Each(places) => Ok(places),
        }
    }

    /// The text of a cursor of one namespace or id, without an allocation.
    pub fn text_of(scope: CursorScope<'_>, last: Sequence) -> NarrowCursor {
        CursorKey::of_scope(scope).text(last)
    }

    /// The text that clients keep.
    pub fn encode(&self) -> String {
        match &self.0 {
            Places::One { kind, hash, last } => {
                URL_SAFE_NO_PAD.encode(narrow_bytes(*kind, *hash, *last))
            }
            Places::Each(places) => URL_SAFE_NO_PAD.encode(wide_bytes(places)),
        }
    }

    /// Reads a text that [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// [`InvalidCursor`] for any other.
    pub fn parse(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() > CURSOR_CHARS_MAX {
            return Err(InvalidCursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).or(Err(InvalidCursor))?;
        let (body, crc) = bytes.split_last_chunk().ok_or(InvalidCursor)?;
        if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
            return Err(InvalidCursor);
        }
        let cursor = Self(Places::decode(body).ok_or(InvalidCursor)?);
        // One place has one text.
        if cursor.encode() == text {
            Ok(cursor)
        } else {
            Err(InvalidCursor)
        }
    }
}

impl Places {
    fn decode(body: &[u8]) -> Option<Self> {
        let (kind, mut rest) = body.split_first()?;
        let rest = &mut rest;
        match *kind {
            KIND_NAMESPACE | KIND_ID => {
                let hash = u64::from_be_bytes(take(rest)?);
                let last = Sequence::new(u64::from_be_bytes(take(rest)?));
                let kind = *kind;
                rest.is_empty().then_some(Self::One { kind, hash, last })
            }
            KIND_EVERYTHING => {
                let shards = u16::from_be_bytes(take(rest)?);
                let lowest = u64::from_be_bytes(take(rest)?);
                let [shift, bits] = take(rest)?;
                if !(1..=SHARDS_MAX).contains(&shards) || u32::from(shift) + u32::from(bits) > 64 {
                    return None;
                }
                let mut packed = Bits::of(rest);
                let places = (0..shards).map(|_| {
                    let difference = packed.take(bits)?.checked_shl(shift.into()).unwrap_or(0);
                    lowest.checked_add(difference).map(Sequence::new)
                });
                Some(Self::Each(places.collect::<Option<_>>()?))
            }
            _ => None,
        }
    }
}

fn narrow_bytes(kind: u8, hash: u64, last: Sequence) -> [u8; NARROW_BYTES] {
    let mut bytes = [0; NARROW_BYTES];
    bytes[0] = kind;
    bytes[1..9].copy_from_slice(&hash.to_be_bytes());
    bytes[9..17].copy_from_slice(&last.get().to_be_bytes());
    let crc = crc_of_few(&bytes[..17]);
    bytes[17..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The two characters of base64url for the lowest twelve bits.
fn base64_digits(bits: u32) -> [u8; 2] {
    BASE64_DIGITS[(bits & 0xfff) as usize]
}

/// For each twelve bits. Six at a time take half as many instructions again.
static BASE64_DIGITS: [[u8; 2]; 1 << 12] = {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut pairs = [[0; 2]; 1 << 12];
    let mut bits = 0;
    while bits < pairs.len() {
        pairs[bits] = [DIGITS[bits >> 6], DIGITS[bits & 63]];
        bits += 1;
    }
    pairs
};

/// CRC-32 (IEEE) of a few bytes, on which the vector code of `crc32fast` loses more by its start-up
/// than it gains.
fn crc_of_few(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let crc = words.iter().fold(u32::MAX, |crc, word| {
        let mixed = u64::from_le_bytes(*word) ^ u64::from(crc);
        let tables = CRC_TABLES.iter().rev();
        let shares = mixed.to_le_bytes().into_iter().zip(tables);
        shares.fold(0, |crc, (byte, table)| crc ^ table[usize::from(byte)])
    });
    let crc = rest.iter().fold(crc, |crc, byte| {
        let [lowest, ..] = crc.to_le_bytes();
        CRC_TABLES[0][usize::from(lowest ^ byte)] ^ (crc >> 8)
    });
    !crc
}

/// What each byte adds to a CRC-32, by how many bytes follow it.
static CRC_TABLES: [[u32; 256]; 8] = {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut tables = [[0; 256]; 8];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bits = 0;
        while bits < 64 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bits += 1;
            if bits % 8 == 0 {
                tables[bits / 8 - 1][byte as usize] = crc;
            }
        }
        byte += 1;
    }
    tables
};

fn wide_bytes(places: &[Sequence]) -> Vec<u8> {
    let sequences = || places.iter().map(|place| place.get());
    let lowest = sequences().min().unwrap_or(0);
    let widest = sequences().max().unwrap_or(0) - lowest;
    let needed = u64::BITS - widest.leading_zeros();
    let fits = u32::try_from(PLACES_BITS_MAX / places.len().max(1)).unwrap_or(u32::MAX);
    let bits = needed.min(fits);
    let shift = needed - bits;
    let mut bytes = vec![KIND_EVERYTHING];
    let count = u16::try_from(places.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(&lowest.to_be_bytes());
    for number in [shift, bits] {
        bytes.push(u8::try_from(number).unwrap_or(u8::MAX));
    }
    let mut filled = 0_u32;
    for sequence in sequences() {
        let difference = (sequence - lowest).checked_shr(shift).unwrap_or(0);
        for bit in (0..bits).rev() {
            if filled.is_multiple_of(8) {
                bytes.push(0);
            }
            if difference >> bit & 1 == 1
                && let Some(byte) = bytes.last_mut()
            {
                *byte |= 0x80 >> (filled % 8);
            }
            filled += 1;
        }
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

/// Bits of bytes, highest first.
struct Bits<'b> {
    bytes: &'b [u8],
    taken: usize,
}

impl<'b> Bits<'b> {
    const fn of(bytes: &'b [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    /// The next number of so many bits; `None` if they end before.
    fn take(&mut self, bits: u8) -> Option<u64> {
        let mut number = 0;
        for _ in 0..bits {
            let byte = self.bytes.get(self.taken / 8)?;
            number = number << 1 | u64::from(byte >> (7 - self.taken % 8) & 1);
            self.taken += 1;
        }
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::place;
    use super::*;
    use fastrand::Rng;

    fn sequence(number: u64) -> Sequence {
        Sequence::new(number)
    }

    fn is_opaque(text: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        text.bytes().all(is_allowed)
    }

    #[test]
    fn the_text_of_a_place_never_changes() {
        let check = |cursor: Cursor, text: &str| {
            assert_eq!(cursor.encode(), text);
            assert_eq!(Cursor::parse(text), Ok(cursor));
        };
        let house = CursorScope::Namespace("house");
        check(Cursor::of(house, sequence(71)), GOLDEN[0]);
        check(Cursor::of(CursorScope::Id("room"), sequence(1)), GOLDEN[1]);
        let places = [7, 1_000_000, 0].map(sequence);
        check(Cursor::of_everything(&places), GOLDEN[2]);
        check(Cursor::of_everything(&[sequence(9)]), GOLDEN[3]);
    }

    const GOLDEN: [&str; 4] = [
        "ApSoeYaIHeUUAAAAAAAAAEf1s9tT",
        "A3GVGd7KWW2sAAAAAAAAAAGhFZlK",
        "BAADAAAAAAAAAAAAFAAAf0JAAAAAQtS45A",
        "BAABAAAAAAAAAAkAAAGSyFs",
    ];

    #[test]
    fn a_cursor_of_a_namespace_is_short_and_good_for_it_alone() {
        let mut random = Rng::with_seed(1);
        let scopes = [
            CursorScope::Namespace("house"),
            CursorScope::Namespace("house2"),
            CursorScope::Id("house"),
            CursorScope::Id("room"),
        ];
        for (index, scope) in scopes.iter().enumerate() {
            let last = sequence(random.u64(..) >> random.u32(..64));
            let text = Cursor::of(*scope, last).encode();
            assert_eq!(text.len(), NARROW_CURSOR_CHARS);
            assert_eq!(Cursor::text_of(*scope, last), text.as_bytes());
            assert!(is_opaque(&text));
            let cursor = Cursor::parse(&text).unwrap();
            for (other, asked) in scopes.iter().enumerate() {
                let expected = if other == index {
                    Ok(last)
                } else {
                    Err(CursorTooNarrow)
                };
                assert_eq!(cursor.last_of(*asked), expected, "{scope:?} for {asked:?}");
            }
            assert_eq!(cursor.last_of_each(), Err(CursorTooNarrow));
        }
        assert_eq!(CursorScope::of("house/a/b"), scopes[0]);
        assert_eq!(CursorScope::of("room"), scopes[3]);
    }

    #[test]
    fn places_of_any_number_of_shards_come_back_or_earlier_ones() {
        let mut random = Rng::with_seed(2);
        for shards in (1..=130).chain([255, 256, 1000, usize::from(SHARDS_MAX)]) {
            for spread in [0, 1, 20, 40, 63] {
                let base = random.u64(..1 << 40);
                let place = |_| sequence(base + (random.u64(..) >> (63 - spread) >> 1));
                let places: Vec<Sequence> = (0..shards).map(place).collect();
                let text = Cursor::of_everything(&places).encode();
                assert!(text.len() <= CURSOR_CHARS_MAX && is_opaque(&text));
                let cursor = Cursor::parse(&text).unwrap();
                let found = cursor.last_of_each().unwrap();
                assert_eq!(found.len(), shards);
                if shards <= 93 || spread <= 5 {
                    assert_eq!(found, places, "{shards} shards");
                }
                let mut both = found.iter().zip(&places);
                assert!(both.all(|(found, place)| found <= place));
                let lowest = places.iter().min();
                assert_eq!(found.iter().min(), lowest, "none is lost");
                assert_eq!(cursor.encode(), text, "a rounded place is exact");
            }
        }
        let ends = [0, u64::MAX].map(sequence);
        let text = Cursor::of_everything(&ends).encode();
        assert_eq!(Cursor::parse(&text).unwrap().last_of_each(), Ok(&ends[..]));
    }

    #[test]
    fn what_was_cut_or_changed_is_no_cursor() {
        let places: Vec<Sequence> = (0..5).map(|number| sequence(number * 1000)).collect();
        let cursors = [
            Cursor::of(CursorScope::Namespace("house"), sequence(71)),
            Cursor::of(CursorScope::Id("room"), sequence(u64::MAX)),
            Cursor::of_everything(&places),
        ];
        for cursor in cursors {
            let text = cursor.encode();
            for at in 0..text.len() {
                assert_eq!(Cursor::parse(&text[..at]), Err(InvalidCursor));
                let bytes = text.as_bytes();
                for other in b"AB_-9=+ /".iter().filter(|other| **other != bytes[at]) {
                    let mut changed = bytes.to_vec();
                    changed[at] = *other;
                    let changed = String::from_utf8(changed).unwrap();
                    assert_eq!(Cursor::parse(&changed), Err(InvalidCursor), "{changed}");
                }
            }
            for longer in [
                format!("{text}A"),
                format!("{text}AAAA"),
                format!("{text}="),
            ] {
                assert_eq!(Cursor::parse(&longer), Err(InvalidCursor), "{longer}");
            }
        }
        for text in ["", "A", "0", "garbage!", "ääää", &"A".repeat(1025)] {
            assert_eq!(Cursor::parse(text), Err(InvalidCursor), "{text}");
        }
    }

    #[test]
    fn bytes_with_a_right_checksum_are_one_place_or_none() {
        let mut random = Rng::with_seed(3);
        let mut accepted = 0;
        for _ in 0..200_000 {
            let len = random.usize(..40);
            let mut bytes: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            if let Some(kind) = bytes.first_mut() {
                *kind = random.u8(..6);
            }
            if random.bool() && bytes.len() > 13 {
                // A few shards, and widths that may fit.
                bytes[1..3].copy_from_slice(&random.u16(..4).to_be_bytes());
                bytes[11] = random.u8(..66);
                bytes[12] = random.u8(..66);
            }
            let crc = crc32fast::hash(&bytes);
            bytes.extend_from_slice(&crc.to_be_bytes());
            let text = URL_SAFE_NO_PAD.encode(&bytes);
            if let Ok(cursor) = Cursor::parse(&text) {
                assert_eq!(cursor.encode(), text);
                accepted += 1;
            }
        }
        assert!(accepted > 100, "{accepted}");
    }

    /// Events of many namespaces through generations of logs with other numbers of shards, and a
    /// cursor taken between any two: whoever resumes with it gets each event after it and no other.
    #[test]
    fn a_place_is_right_through_every_change_of_the_number_of_shards() {
        struct Event {
            id: &'static str,
            sequence: u64,
        }
        const IDS: [&str; 9] = [
            "a/1", "a/2", "b/1", "ab/1", "room", "hall", "c/", "/x", "d/e/f",
        ];
        for seed in 0..200 {
            let mut random = Rng::with_seed(seed);
            let mut events: Vec<Event> = Vec::new();
            let mut cursors: Vec<(usize, Cursor)> = Vec::new();
            for _ in 0..random.usize(1..5) {
                let shards = random.u16(1..7);
                let first = events.iter().map(|event| event.sequence).max();
                let mut last = vec![first.unwrap_or(0); usize::from(shards)];
                for _ in 0..random.usize(..40) {
                    let id = IDS[random.usize(..IDS.len())];
                    let log = &mut last[usize::from(place(id, shards))];
                    *log += 1;
                    let sequence = *log;
                    events.push(Event { id, sequence });
                    let places: Vec<Sequence> = last.iter().copied().map(self::sequence).collect();
                    cursors.push((events.len(), Cursor::of_everything(&places)));
                    let narrow = Cursor::of(CursorScope::of(id), self::sequence(sequence));
                    cursors.push((events.len(), narrow));
                }
            }
            for (count, cursor) in cursors {
                let cursor = Cursor::parse(&cursor.encode()).unwrap();
                for (index, event) in events.iter().enumerate() {
                    let last = cursor.last_of(CursorScope::of(event.id));
                    let is_after = last.map(|last| event.sequence > last.get());
                    let expected = last.map(|_| index >= count);
                    assert_eq!(is_after, expected, "seed {seed}: {}", event.id);
                }
            }
        }
    }
}
