//! Why a body is not the JSON that this server accepts.

use crate::limits::JSON_DEPTH_MAX;

use super::Kind;
use std::fmt;

/// Why a body was refused. `offset` counts bytes from the start of the body, from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The body is not UTF-8.
    #[error("invalid UTF-8 at byte {offset}")]
    Utf8 {
        /// The first byte that is no part of a character.
        offset: usize,
    },
    /// The body starts with U+FEFF.
    #[error("a byte order mark at byte {offset} is not allowed")]
    ByteOrderMark {
        /// Always 0.
        offset: usize,
    },
    /// The body ends inside the document.
    #[error("the document ends early at byte {offset}")]
    End {
        /// The length of the body.
        offset: usize,
    },
    /// Something that is no value, such as `NaN`, `+1` or a comma before `]`.
    #[error("expected a value at byte {offset}, found {found}")]
    Value {
        /// The first byte that does not fit.
        offset: usize,
        /// What stands there.
        found: Word,
    },
    /// A valid start of a value, of another kind than was asked for. Nothing was consumed.
    #[error("expected {expected} at byte {offset}, found {found}")]
    Kind {
        /// What was asked for.
        expected: Kind,
        /// What is there.
        found: Kind,
        /// Where it starts.
        offset: usize,
    },
    /// A member that does not start with a string, a comma before `}` included.
    #[error("expected a key in double quotes at byte {offset}")]
    Key {
        /// Where the key should start.
        offset: usize,
    },
    /// A key without a colon behind it.
    #[error("expected ':' at byte {offset}")]
    Colon {
        /// Where the colon should be.
        offset: usize,
    },
    /// A member of an object that neither goes on nor ends.
    #[error("expected ',' or '}}' at byte {offset}")]
    ObjectEnd {
        /// Where the comma or brace should be.
        offset: usize,
    },
    /// An element of an array that neither goes on nor ends.
    #[error("expected ',' or ']' at byte {offset}")]
    ArrayEnd {
        /// Where the comma or bracket should be.
        offset: usize,
    },
    /// Containers within containers, beyond the limit.
    #[error("nested deeper than {JSON_DEPTH_MAX} containers at byte {offset}")]
    Depth {
        /// The bracket that is one too many.
        offset: usize,
    },
    /// A control character inside a string.
    #[error("a control character in a string at byte {offset} must be escaped")]
    Control {
        /// The character.
        offset: usize,
    },
    /// A backslash with something behind it that JSON does not know.
    #[error("invalid escape at byte {offset}")]
    Escape {
        /// The backslash.
        offset: usize,
    },
    /// A `\u` escape of half a surrogate pair.
    #[error("unpaired surrogate at byte {offset}")]
    Surrogate {
        /// The backslash.
        offset: usize,
    },
    /// Digits that are no JSON number, such as `01`, `1.` or `1e`.
    #[error("invalid number {found} at byte {offset}")]
    Number {
        /// The first byte that does not fit.
        offset: usize,
        /// The number.
        found: Word,
    },
    /// A number that a double cannot hold, such as `1e999`.
    #[error("the number {found} at byte {offset} is beyond the range of a double")]
    NumberRange {
        /// Where the number starts.
        offset: usize,
        /// The number.
        found: Word,
    },
    /// Something after the document.
    #[error("unexpected text after the document at byte {offset}")]
    Trailing {
        /// The first byte of it that is not white space.
        offset: usize,
    },
}

impl JsonError {
    /// Where in the body the fault is, in bytes from its start.
    pub const fn offset(mut self) -> usize {
        *self.place()
    }

    /// The same fault at another place, for a text that is a part of another.
    #[must_use]
    pub const fn moved_to(mut self, place: usize) -> Self {
        *self.place() = place;
        self
    }

    const fn place(&mut self) -> &mut usize {
        match self {
            Self::Utf8 { offset }
            | Self::ByteOrderMark { offset }
            | Self::End { offset }
            | Self::Value { offset, .. }
            | Self::Kind { offset, .. }
            | Self::Key { offset }
            | Self::Colon { offset }
            | Self::ObjectEnd { offset }
            | Self::ArrayEnd { offset }
            | Self::Depth { offset }
            | Self::Control { offset }
            | Self::Escape { offset }
            | Self::Surrogate { offset }
            | Self::Number { offset, .. }
            | Self::NumberRange { offset, .. }
            | Self::Trailing { offset } => offset,
        }
    }
}

/// Bytes of a word that a message shows.
const WORD_BYTES_MAX: usize = 14;

/// The word that stands in the place of a value, for a message: `Infinity`, `-1.5e+999`, or one
/// character that begins no word. A long one is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word {
    bytes: [u8; WORD_BYTES_MAX],
    /// Bytes used; one more than there are for a word that was cut.
    len: u8,
}

impl Word {
    /// The word of `text` that has a part at `offset`.
    #[cold]
    pub(super) fn at(text: &str, offset: usize) -> Self {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
        let (before, rest) = text.as_bytes().split_at_checked(offset).unwrap_or_default();
        let begun = before.iter().rev().take_while(|byte| is_part(byte)).count();
        let start = offset.saturating_sub(begun);
        let len = begun.saturating_add(rest.iter().take_while(|byte| is_part(byte)).count());
        let character = text.get(offset..).and_then(|rest| rest.chars().next());
        let len = if len == 0 {
            character.map_or(0, char::len_utf8)
        } else {
            len
        };
        let word = text
            .as_bytes()
            .get(start..start.saturating_add(len))
            .unwrap_or_default();
        let mut bytes = [0; WORD_BYTES_MAX];
        bytes
            .iter_mut()
            .zip(word)
            .for_each(|(byte, from)| *byte = *from);
        let len = word.len().min(WORD_BYTES_MAX.saturating_add(1));
        Self {
            bytes,
            len: u8::try_from(len).unwrap_or(u8::MAX),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = usize::from(self.len);
        let word = self
            .bytes
            .get(..len.min(WORD_BYTES_MAX))
            .unwrap_or_default();
        let word = str::from_utf8(word).unwrap_or_default();
        let cut = if len > WORD_BYTES_MAX { "…" } else { "" };
        write!(formatter, "`{}{cut}`", word.escape_debug())
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

const _: () = assert!(
    size_of::<JsonError>() <= 32,
    "part of every result of the scanner"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_shown_whole_wherever_it_broke() {
        let check = |text: &str, offset, shown| {
            assert_eq!(Word::at(text, offset).to_string(), shown, "{text}");
        };
        check("[Infinity]", 1, "`Infinity`");
        check("[-Infinity]", 2, "`-Infinity`");
        check("{\"a\":undefined}", 5, "`undefined`");
        check("nan", 1, "`nan`");
        check("[1,]", 3, "`]`");
        check("[\u{e9}]", 1, "`\u{e9}`");
        check("\u{1}", 0, "`\\u{1}`");
        check("-123456789012345.", 17, "`-1234567890123…`");
        check("", 0, "``");
        check("x", 7, "``");
    }
}
