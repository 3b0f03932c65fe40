//! The head that a connection sent last, so that the same one is not parsed again.
//!
//! Many clients send head after head that differ in nothing, or in the digits of `Content-Length`. What a head means
//! depends on its bytes alone, so equal bytes mean the same; and other digits, as many of them, mean another length and
//! move nothing.

use super::head::{Framing, parse_length};
use super::index::HeadIndex;
use zeroize::Zeroize as _;

/// The longest head that is remembered: every open connection may hold one.
const KNOWN_HEAD_BYTES_MAX: usize = 512;

/// A head that was parsed, and came with a `Content-Length`.
#[derive(Debug)]
pub(super) struct KnownHead {
    bytes: Vec<u8>,
    index: HeadIndex,
}

impl KnownHead {
    /// Puts this head, parsed from all of `bytes`, in the place of the one before, where it is of a kind that comes again.
    pub(super) fn remember(known: &mut Option<Box<Self>>, bytes: &[u8], index: &HeadIndex) {
        let is_like_many =
            matches!(index.framing, Framing::Length(_)) && bytes.len() <= KNOWN_HEAD_BYTES_MAX;
        if !is_like_many {
            return;
        }
        let known = known.get_or_insert_with(|| {
            Box::new(Self {
                bytes: Vec::new(),
                index: *index,
            })
        });
        known.bytes.clear();
        known.bytes.extend_from_slice(bytes);
        known.index = *index;
    }

    /// Forgets it and overwrites its bytes.
    pub(super) fn wipe(mut self) {
        self.bytes.zeroize();
    }

    /// What parsing the head at the front of `pending` would give, and its length, where it is this head with a length of
    /// as many digits.
    pub(super) fn recognise(&self, pending: &[u8]) -> Option<(HeadIndex, usize)> {
        let len = self.bytes.len();
        let bytes = pending.get(..len)?;
        let (start, end) = self.index.content_length.range()?;
        let same = bytes.get(..start) == self.bytes.get(..start)
            && bytes.get(end..) == self.bytes.get(end..);
        if !same {
            return None;
        }
        let framing = Framing::Length(parse_length(bytes.get(start..end)?)?);
        Some((
            HeadIndex {
                framing,
                ..self.index
            },
            len,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::parse;
    use super::*;

    fn known(head: &[u8]) -> Option<Box<KnownHead>> {
        let mut known = None;
        let (index, len) = parse(head).unwrap();
        KnownHead::remember(&mut known, &head[..len], &index);
        known
    }

    #[test]
    fn the_same_head_is_recognised_with_any_length_of_as_many_digits() {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nA: b\r\n\r\n";
        let known = known(head).unwrap();
        let (index, len) = known.recognise(head).unwrap();
        assert_eq!((index.framing, len), (Framing::Length(12), head.len()));
        let text = str::from_utf8(head).unwrap();
        let other = format!("{}body", text.replace("12", "99"));
        let (index, len) = known.recognise(other.as_bytes()).unwrap();
        assert_eq!((index.framing, len), (Framing::Length(99), head.len()));
        for other in [
            text.replace("12", "1a"),
            text.replace("12", " 1"),
            text.replace("12", "+1"),
            text.replace("12", "123"),
            text.replace("12", "1"),
            text.replace("A: b", "A: c"),
            text.replace("POST", "PUT "),
            text[..text.len() - 1].to_owned(),
            text.replace("b\r\n\r\n", "b\r\nC: d\r\n\r\n"),
        ] {
            assert!(known.recognise(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn what_is_recognised_is_what_parsing_gives() {
        for fields in [
            "",
            "Expect: 100-continue\r\n",
            "Authorization: Bearer x\r\nIf-Match: \"y\"\r\n",
            "Connection: close, upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: z\r\n",
            "Content-Encoding: gzip\r\n",
        ] {
            let head = |length: &str| {
                format!(
                    "POST /a?b=c HTTP/1.1\r\nContent-Length:\t{length} \r\nHost: h\r\n{fields}\r\n"
                )
            };
            let known = known(head("12").as_bytes()).unwrap();
            for length in ["12", "34", "00", "07"] {
                let other = head(length);
                let (parsed, parsed_len) = parse(other.as_bytes()).unwrap();
                let (index, len) = known.recognise(other.as_bytes()).unwrap();
                assert_eq!(format!("{index:?}"), format!("{parsed:?}"));
                assert_eq!(len, parsed_len);
            }
        }
    }

    #[test]
    fn only_heads_of_a_moderate_size_with_a_length_are_remembered() {
        let long = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nA: {}\r\n\r\n",
            "a".repeat(KNOWN_HEAD_BYTES_MAX)
        );
        assert!(known(long.as_bytes()).is_none());
        assert!(known(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_none());
    }
}
