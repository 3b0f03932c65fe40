//! Why a body is not the JSON that this server accepts.

use crate::limits::JSON_DEPTH_MAX;

use super::Kind;

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
    /// Something that starts no value, `NaN`, `+1` and a comma before `]` included.
    #[error("expected a value at byte {offset}")]
    Value {
        /// Where the value should start.
        offset: usize,
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
    #[error("invalid number at byte {offset}")]
    Number {
        /// The first byte that does not fit.
        offset: usize,
    },
    /// A number that a double cannot hold, such as `1e999`.
    #[error("the number at byte {offset} is beyond the range of a double")]
    NumberRange {
        /// Where the number starts.
        offset: usize,
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
    pub const fn offset(&self) -> usize {
        match *self {
            Self::Utf8 { offset }
            | Self::ByteOrderMark { offset }
            | Self::End { offset }
            | Self::Value { offset }
            | Self::Kind { offset, .. }
            | Self::Key { offset }
            | Self::Colon { offset }
            | Self::ObjectEnd { offset }
            | Self::ArrayEnd { offset }
            | Self::Depth { offset }
            | Self::Control { offset }
            | Self::Escape { offset }
            | Self::Surrogate { offset }
            | Self::Number { offset }
            | Self::NumberRange { offset }
            | Self::Trailing { offset } => offset,
        }
    }
}
