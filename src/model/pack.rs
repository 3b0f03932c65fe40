//! Several stored events in one buffer: what a batch hands to a shard, one allocation however many
//! events.

/// Stored events, each behind its length (u32, little-endian).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventPack {
    bytes: Vec<u8>,
    count: u32,
}

impl EventPack {
    /// One event.
    pub fn of(event: &[u8]) -> Self {
        let mut pack = Self::default();
        pack.reserve(size_of::<u32>() + event.len());
        pack.push(|out| out.extend_from_slice(event));
        pack
    }

    /// Makes room for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Appends the event that `encode` writes.
    pub fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        encode(&mut self.bytes);
        let len = self.bytes.len() - start - 4;
        let len = u32::try_from(len).expect("bodies are limited far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
    }

    /// Number of events.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Bytes that the events take here.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets the events and keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// The events in the order they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (len, tail) = rest.split_first_chunk::<4>()?;
            let (event, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rest = tail;
            Some(event)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_back_in_order() {
        let mut pack = EventPack::default();
        assert!(pack.is_empty());
        for event in [&b"one"[..], b"", b"three"] {
            pack.push(|out| out.extend_from_slice(event));
        }
        assert_eq!(pack.len(), 3);
        assert_eq!(
            pack.iter().collect::<Vec<_>>(),
            [&b"one"[..], b"", b"three"]
        );
        pack.clear();
        assert_eq!(pack.iter().count(), 0);
    }
}
