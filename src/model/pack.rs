//! Several events in one buffer: what a batch hands to a shard, one allocation however many events.
//!
//! ```text
//! (len u32 LE | stored event | [len u32 LE | terms]) ...
//! ```
//!
//! The highest bit of the first length says that terms follow.

use crate::limits::EVENT_UNITS;

/// Set in an event's length if terms follow it.
const TERMS_FOLLOW: u32 = 1 << 31;

/// Events on their way to their shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPack {
    bytes: Vec<u8>,
    count: u32,
    /// Of the events that cost more than one token, the index and how many more; ascending.
    extra_tokens: Vec<(u32, u32)>,
}

/// One of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackedEvent<'a> {
    /// The stored form.
    pub event: &'a [u8],
    /// What it asks of its owner besides (`term.rs`), mostly nothing.
    pub terms: &'a [u8],
    /// Tokens of its namespace's rate that it costs beyond the one of each event.
    pub extra_tokens: u32,
}

impl<'a> PackedEvent<'a> {
    /// An event that asks for nothing besides.
    pub const fn plain(event: &'a [u8]) -> Self {
        Self {
            event,
            terms: &[],
            extra_tokens: 0,
        }
    }
}

impl EventPack {
    /// One event.
    pub fn of(packed: PackedEvent<'_>) -> Self {
        let mut pack = Self::default();
        pack.reserve(2 * size_of::<u32>() + packed.event.len() + packed.terms.len());
        pack.push(packed.terms, |out| out.extend_from_slice(packed.event));
        pack.charge_last(packed.extra_tokens);
        pack
    }

    /// The event that was pushed last costs so many tokens more than one.
    pub fn charge_last(&mut self, extra_tokens: u32) {
        if extra_tokens > 0 {
            self.extra_tokens.push((self.count - 1, extra_tokens));
        }
    }

    /// Makes room for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Appends the event that `encode` writes, and what it asks for besides.
    pub fn push(&mut self, terms: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        encode(&mut self.bytes);
        let mut len = len_u32(self.bytes.len() - start - 4);
        if !terms.is_empty() {
            len |= TERMS_FOLLOW;
            self.bytes
                .extend_from_slice(&len_u32(terms.len()).to_le_bytes());
            self.bytes.extend_from_slice(terms);
        }
        self.bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
    }

    /// Appends the events of another.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        let charged = other.extra_tokens.iter();
        let behind = charged.map(|(index, tokens)| (self.count + index, *tokens));
        self.extra_tokens.extend(behind);
        self.count += other.count;
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Bytes that the events take here.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Heap that it holds.
    pub fn heap_bytes(&self) -> usize {
        let Self {
            bytes,
            count: _,
            extra_tokens,
        } = self;
        bytes.capacity() + extra_tokens.capacity() * size_of::<(u32, u32)>()
    }

    /// Units of work that it takes to store them, as far as they say.
    pub fn units(&self) -> u64 {
        u64::from(self.count) * EVENT_UNITS + self.bytes.len() as u64
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets the events and keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.extra_tokens.clear();
    }

    /// The events in the order they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = PackedEvent<'_>> {
        let mut rest = self.bytes.as_slice();
        let mut extra = self.extra_tokens.iter().peekable();
        let mut indexes = 0..self.count;
        std::iter::from_fn(move || {
            let index = indexes.next()?;
            let len = take_len(&mut rest)?;
            let (event, tail) = rest.split_at_checked((len & !TERMS_FOLLOW) as usize)?;
            rest = tail;
            let mut terms = &[][..];
            if len & TERMS_FOLLOW != 0 {
                let len = take_len(&mut rest)?;
                (terms, rest) = rest.split_at_checked(len as usize)?;
            }
            let extra = extra.next_if(|(charged, _)| *charged == index);
            Some(PackedEvent {
                event,
                terms,
                extra_tokens: extra.map_or(0, |(_, tokens)| *tokens),
            })
        })
    }
}

fn len_u32(len: usize) -> u32 {
    let len = u32::try_from(len)
        .ok()
        .filter(|len| len & TERMS_FOLLOW == 0);
    len.expect("bodies are limited far below 2 GiB")
}

fn take_len(rest: &mut &[u8]) -> Option<u32> {
    let (len, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_in_order() {
        let mut pack = EventPack::default();
        assert!(pack.is_empty());
        let packed = [
            (&b"one"[..], &b""[..], 0),
            (b"", b"terms", 7),
            (b"three", b"", 0),
            (b"four", b"", 1),
        ];
        let packed = packed.map(|(event, terms, extra_tokens)| PackedEvent {
            event,
            terms,
            extra_tokens,
        });
        for it in packed {
            pack.push(it.terms, |out| out.extend_from_slice(it.event));
            pack.charge_last(it.extra_tokens);
        }
        assert_eq!(pack.len(), 4);
        assert_eq!(pack.iter().collect::<Vec<_>>(), packed);
        let one = EventPack::of(packed[1]);
        assert_eq!(one.iter().collect::<Vec<_>>(), [packed[1]]);
        pack.clear();
        assert_eq!(pack.iter().count(), 0);
    }
}
