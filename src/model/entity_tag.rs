//! Entity tags: which state of an entity an answer shows (RFC 9110 §8.8.3).

use super::Timestamp;
use super::digits::write_hex;
use flux_storage::Sequence;
use std::fmt;

/// The entity tag of a state of an entity: two numbers, written where they are shown.
///
/// The sequence alone would do within one data directory; the time keeps a directory that was wiped
/// and filled anew from handing out a tag that a client still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag {
    /// The number of the entity's last event.
    pub sequence: Sequence,
    /// The time of that event.
    pub last_updated: Timestamp,
}

impl EntityTag {
    /// Appends the tag without its quotes, which JSON has to escape.
    pub fn write_opaque(self, out: &mut Vec<u8>) {
        write_hex(out, self.sequence.get());
        out.push(b'-');
        write_hex(out, self.micros());
    }

    /// True if an `If-None-Match` field names the tag (RFC 9110 §13.1.2: weak comparison, `*`
    /// matches all).
    pub fn is_named_by(self, if_none_match: &[u8]) -> bool {
        let field = if_none_match.trim_ascii();
        if field == b"*" {
            return true;
        }
        let tag = self.to_string();
        field.split(|byte| *byte == b',').any(|candidate| {
            let candidate = candidate.trim_ascii();
            candidate.strip_prefix(b"W/").unwrap_or(candidate) == tag.as_bytes()
        })
    }

    const fn micros(self) -> u64 {
        self.last_updated.as_micros().cast_unsigned()
    }
}

/// The tag as a field has it, quotes included.
impl fmt::Display for EntityTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "\"{:x}-{:x}\"",
            self.sequence.get(),
            self.micros()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: EntityTag = EntityTag {
        sequence: Sequence::new(0xa),
        last_updated: Timestamp::from_micros(0xf0_0000_0001),
    };

    #[test]
    fn a_tag_is_the_same_text_however_it_is_written() {
        let mut opaque = Vec::new();
        TAG.write_opaque(&mut opaque);
        assert_eq!(opaque, b"a-f000000001");
        assert_eq!(TAG.to_string(), "\"a-f000000001\"");
    }

    #[test]
    fn if_none_match_is_a_list_compared_weakly() {
        let check = |field: &str, named| {
            assert_eq!(TAG.is_named_by(field.as_bytes()), named, "{field}");
        };
        check("\"a-f000000001\"", true);
        check("W/\"a-f000000001\"", true);
        check("\"b\", \"a-f000000001\"", true);
        check(" * ", true);
        check("\"a-f000000002\"", false);
        check("a-f000000001", false);
        check("", false);
    }
}
