//! What the owner of an entity decided when an event's turn came: a part of the stored event.
//!
//! ```text
//! flags u8 | [version LEB128] | [count | property number ...] | [count | name ...]
//!          | [expires i64 LE] | [linger ms LEB128]
//! ```
//!
//! The numbers are those of the properties that operations led to, counted from 0; the names those
//! of the properties that were removed. Both ascend. A flag of its own says that the entity does
//! not expire any more.

use super::EventDecodeError;
use super::event::{FLAG_DECIDED, put_text, take, take_text};
use super::{ExpiryChange, LifetimeChange, Timestamp, varint};

const VERSION: u8 = 1;
const RESULTS: u8 = 1 << 1;
const REMOVED: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const NEVER_EXPIRES: u8 = 1 << 4;
const BOUND: u8 = 1 << 5;
const KNOWN: u8 = (1 << 6) - 1;

/// What is to be stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecidedDraft<'a> {
    /// The entity's version after the event. Noted if the producer sent an event id, for the answer
    /// to its repetition.
    pub version: Option<u64>,
    /// If the event has operations: the numbers of the properties that they led to, and the names
    /// of the properties that they removed.
    pub operations: Option<(&'a [u32], &'a [&'a str])>,
    /// What becomes of the entity's lifetime.
    pub lifetime: LifetimeChange,
}

impl DecidedDraft<'_> {
    /// Appends to `out` the stored form of an event whose form without this is `event`.
    ///
    /// # Panics
    /// If `event` is empty.
    pub fn encode(&self, event: &[u8], out: &mut Vec<u8>) {
        let (flags, rest) = event.split_first().expect("an event has flags");
        if self.version.is_none() && self.operations.is_none() && self.lifetime.is_none() {
            out.extend_from_slice(event);
            return;
        }
        out.push(flags | FLAG_DECIDED);
        if self.operations.is_none() {
            // Without operations the length is below 128, and is known when it is written.
            let start = out.len();
            out.push(0);
            self.encode_parts(out);
            out[start] = u8::try_from(out.len() - start - 1).expect("24 bytes at most");
        } else {
            let mut parts = Vec::new();
            self.encode_parts(&mut parts);
            varint::write(out, count_u32(parts.len()));
            out.extend_from_slice(&parts);
        }
        out.extend_from_slice(rest);
    }

    fn encode_parts(&self, out: &mut Vec<u8>) {
        let flags = out.len();
        out.push(0);
        if let Some(version) = self.version {
            out[flags] |= VERSION;
            varint::write_long(out, version);
        }
        if let Some((results, removed)) = self.operations {
            out[flags] |= encode_operations(results, removed, out);
        }
        match self.lifetime.expires {
            ExpiryChange::At(expires) => {
                out[flags] |= EXPIRES;
                out.extend_from_slice(&expires.as_micros().to_le_bytes());
            }
            ExpiryChange::Never => out[flags] |= NEVER_EXPIRES,
            ExpiryChange::None => {}
        }
        if let Some(linger_ms) = self.lifetime.linger_ms {
            out[flags] |= BOUND;
            varint::write(out, linger_ms);
        }
    }
}

/// Appends what operations led to. Returns the flags that say so.
fn encode_operations(results: &[u32], removed: &[&str], out: &mut Vec<u8>) -> u8 {
    varint::write(out, count_u32(results.len()));
    for number in results {
        varint::write(out, *number);
    }
    if removed.is_empty() {
        return RESULTS;
    }
    varint::write(out, count_u32(removed.len()));
    for name in removed {
        put_text(out, name);
    }
    RESULTS | REMOVED
}

fn count_u32(count: usize) -> u32 {
    u32::try_from(count).expect("bodies are limited far below 4 GiB")
}

/// What was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decided<'a> {
    /// The entity's version after the event, if it was noted.
    pub version: Option<u64>,
    /// `None` if the event has no operations.
    results: Option<Counted<'a>>,
    removed: Counted<'a>,
    /// What becomes of the entity's lifetime.
    pub lifetime: LifetimeChange,
}

/// So many items, encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Decided<'a> {
    /// Decodes `bytes`, checking all of it.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, EventDecodeError> {
        let (&flags, mut rest) = bytes.split_first().ok_or(EventDecodeError::Length)?;
        if flags & !KNOWN != 0 {
            return Err(EventDecodeError::Flags { flags });
        }
        let mut decided = Self::default();
        if flags & VERSION != 0 {
            let version = varint::read_long(&mut rest);
            decided.version = Some(version.ok_or(EventDecodeError::Length)?);
        }
        if flags & RESULTS != 0 {
            let number = |rest: &mut _| varint::read(rest).ok_or(EventDecodeError::Length);
            decided.results = Some(Counted::take(&mut rest, number)?);
        }
        if flags & REMOVED != 0 {
            decided.removed = Counted::take(&mut rest, take_text)?;
        }
        if flags & (EXPIRES | NEVER_EXPIRES | BOUND) != 0 {
            decided.lifetime = take_lifetime(flags, &mut rest)?;
        }
        if rest.is_empty() {
            Ok(decided)
        } else {
            Err(EventDecodeError::Length)
        }
    }

    /// True if the event has operations.
    pub const fn has_operations(&self) -> bool {
        self.results.is_some()
    }

    /// True if operations led to properties.
    pub fn has_results(&self) -> bool {
        self.results.is_some_and(|results| results.count > 0)
    }

    /// The numbers of the properties that operations led to, ascending.
    pub fn results(&self) -> impl Iterator<Item = u32> + use<'a> {
        let mut rest = self.results.unwrap_or_default().bytes;
        std::iter::from_fn(move || varint::read(&mut rest))
    }

    /// The names of the properties that were removed, ascending.
    pub const fn removed(&self) -> Names<'a> {
        Names(self.removed.bytes)
    }
}

fn take_lifetime(flags: u8, rest: &mut &[u8]) -> Result<LifetimeChange, EventDecodeError> {
    let mut lifetime = LifetimeChange::default();
    if flags & NEVER_EXPIRES != 0 {
        lifetime.expires = ExpiryChange::Never;
    }
    if flags & EXPIRES != 0 {
        let expires = Timestamp::from_micros(i64::from_le_bytes(take(rest)?));
        lifetime.expires = ExpiryChange::At(expires);
    }
    if flags & BOUND != 0 {
        lifetime.linger_ms = Some(varint::read(rest).ok_or(EventDecodeError::Length)?);
    }
    Ok(lifetime)
}

impl<'a> Counted<'a> {
    /// Takes a count and as many items, ascending, off the front of `rest`.
    fn take<T: PartialOrd>(
        rest: &mut &'a [u8],
        item: impl Fn(&mut &'a [u8]) -> Result<T, EventDecodeError>,
    ) -> Result<Self, EventDecodeError> {
        let count = varint::read(rest).ok_or(EventDecodeError::Length)?;
        let start = *rest;
        let mut previous = None;
        for _ in 0..count {
            let item = item(rest)?;
            if previous.is_some_and(|previous| previous >= item) {
                return Err(EventDecodeError::Order);
            }
            previous = Some(item);
        }
        let bytes = &start[..start.len() - rest.len()];
        Ok(Self { count, bytes })
    }
}

/// Names of properties, ascending.
#[derive(Debug, Clone)]
pub struct Names<'a>(&'a [u8]);

impl Names<'_> {
    /// True if there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        take_text(&mut self.0).ok()
    }
}
