//! HTTP/1.1, server side (RFC 9110, RFC 9112), sans-I/O.
//!
//! ```text
//! bytes → reader → Request → api → response → bytes
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `reader` | the bytes of one connection → its requests |
//! | `scan` | where a head ends, and that its lines end with CRLF; never looks twice |
//! | `known` | the head that a connection sent last, recognised instead of parsed |
//! | `parse` | request line and fields → index, every rule on them |
//! | `host` | the rule for `Host` |
//! | `index` | a parsed head by offsets |
//! | `head` | a parsed head as callers see it |
//! | `chunked` | a chunked body, decoded in place |
//! | `accept` | lists of what a client accepts |
//! | `target` | percent-decoding, query parameters |
//! | `response` | heads and chunks of answers |
//! | `date` | the `Date` field |
//! | `error` | why bytes are no request |
//! | `tests/` | tables of rules, splits, mutations |
//!
//! Strict wherever two readers of the same bytes could disagree about where a message ends (request
//! smuggling): whatever is ambiguous is refused, and the connection with it.

mod accept;
mod chunked;
mod date;
mod error;
mod head;
mod host;
mod index;
mod known;
mod parse;
mod reader;
mod response;
mod scan;
mod target;
#[cfg(test)]
mod tests;

pub use crate::model::write_decimal;
pub use accept::{accepts, weight};
pub use date::{ImfFixdate, imf_fixdate};
pub use error::HttpError;
pub use head::{Coding, Field, Framing, Head, Method, Upgrade, Version};
pub use reader::{Next, Phase, Request, RequestReader};
pub use response::{
    BodyLength, CONTINUE, PreparedHead, ResponseHead, reason_phrase, write_chunk, write_last_chunk,
};
pub use target::{QueryPairs, TargetError, percent_decode, percent_encode, query_pairs};
