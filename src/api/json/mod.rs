//! JSON as request bodies bring it: checked once while it is walked, handed out as spans of the
//! body.
//!
//! An event's values are stored and answered as the JSON text they arrived in, digit for digit. A
//! document tree would lose those digits, and a tape would have to be built and then walked a
//! second time to find the spans again. So `scanner` is driven by the decoder that knows which
//! member it wants: it validates every byte it passes, wanted or not, and gives back pieces of the
//! body without copying them.
//!
//! Rules (RFC 8259, tightened by API.md §2): at most
//! [`JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX) nested containers; UTF-8 without a byte order
//! mark; no unpaired surrogate, not even in a value that nobody reads; no number beyond the range
//! of a double. A caller that reads an object member by member sees each name, repeated ones too,
//! in order. Of a value that it takes whole it stores the form that `compact` writes.
//!
//! | file | job |
//! | --- | --- |
//! | `scanner` | the walk over one document |
//! | `string`, `number` | one string, one number |
//! | `names` | whether an object names a member twice |
//! | `compact` | the stored form of a value: no white space, of repeated names the last |
//! | `error` | why a body is refused |
//! | `tests` | tables, and comparison with `serde_json` |
//!
//! This module knows the grammar and nothing of events. The scanner never allocates, unless a
//! caller asks for the text of a string with escapes.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod compact;
mod error;
mod names;
mod number;
mod scanner;
mod string;
#[cfg(test)]
mod tests;

pub use compact::{Compactor, compact};
pub use error::{JsonError, Word};
pub(in crate::api) use names::OpenNames;
pub use scanner::{Kind, Place, RawValue, Scanner, text};
pub use string::{JsonStr, write_string};
