//! Filters: which entities a list, a subscription or a condition is about (API contract §15).
//!
//! ```text
//! eq(status,"open")  ──parse──▶  Filter  ──matches(facts, properties)──▶  true or false
//! ```
//!
//! A filter is read once and then asked about many entities. It walks the stored JSON text of an
//! entity once, takes the values that its paths name, and compares those: no value is copied and
//! nothing is allocated, so that looking through 100,000 entities costs no more than reading them.
//!
//! Rules: numbers compare by their exact value, strings by code point, other types only by
//! equality, which looks into objects and arrays. Every comparison, `ne` too, is false for a path
//! that is missing and for types that differ. `$updated` and `$expires` compare as times, with an
//! RFC 3339 time or with a number, which is Unix milliseconds; `like` sees their text.
//!
//! | file | job |
//! | --- | --- |
//! | `parse` | a filter's text → `Filter` |
//! | `evaluate` | whether an entity matches |
//! | `effort` | what that costs, and how far it came |
//! | `json` | stored JSON text as it is read; equality by value |
//! | `pattern` | the patterns of `like` |
//! | `model_test` | comparison with a slow evaluator on `serde_json` |
//!
//! This folder knows no entity of the state and no request: whoever asks hands it facts and
//! properties.

mod effort;
mod evaluate;
mod json;
#[cfg(test)]
mod model_test;
mod parse;
mod pattern;

use pattern::Pattern;

use crate::model::{EntityHead, Timestamp};

pub use effort::{Effort, Progress};
pub use json::{array_len, equal_by_value};

/// A filter that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: Box<str>,
    root: Expression,
    /// The paths to properties, ascending, each once.
    paths: Box<[Path]>,
    comparisons: usize,
}

impl Filter {
    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many comparisons it makes at most.
    pub const fn comparisons(&self) -> usize {
        self.comparisons
    }
}

/// What a filter may ask of an entity besides its properties.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// `$version`.
    pub version: u64,
    /// `$updated`.
    pub updated: Timestamp,
    /// `$expires`; missing if it does not expire.
    pub expires: Option<Timestamp>,
}

impl Facts {
    /// Those of an entity.
    pub const fn of(head: EntityHead<'_>) -> Self {
        Self {
            version: head.version,
            updated: head.last_updated,
            expires: head.lifetime.expires,
        }
    }
}

/// Why a text is no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {rule}")]
pub struct FilterError {
    /// Where, from 0.
    pub offset: usize,
    /// What should be there.
    pub rule: &'static str,
}

/// The names that lead to a value, the property's first.
type Path = Box<[Box<str>]>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Not(Box<Self>),
    Compare(Target, Comparison, Operand),
    In(Target, Box<[Operand]>),
    Like(Target, Pattern),
    Exists(Target),
}

/// What a comparison is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The value at this index of the filter's paths.
    Path(usize),
    Version,
    Updated,
    Expires,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// What a value is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operand {
    /// A number's text.
    Number(Box<str>),
    /// A string, escapes undone.
    String(Box<str>),
    /// What a string that is compared with a time means.
    Time(Timestamp),
    /// The text of anything else, of repeated names the last.
    Other(Box<str>),
}
