//! HTTP/1.1, server side (RFC 9110, RFC 9112), sans-I/O.
//!
//! ```text
//! bytes → reader ─┬─ scan     where the head ends, and that its lines end with CRLF; never looks twice
//!                 ├─ head     request line and fields → index, every rule on them (host: one of them)
//!                 └─ chunked  body decoded in place
//!       → Request → api (target: percent-decoding)  → response → bytes
//! ```
//!
//! Strict where two readers of the same bytes could disagree about where a message ends (request
//! smuggling): whatever is ambiguous is refused, and the connection with it.

mod chunked;
mod date;
mod error;
mod head;
mod host;
mod index;
mod reader;
mod response;
mod scan;
mod target;
#[cfg(test)]
mod tests;

pub use date::{ImfFixdate, imf_fixdate};
pub use error::HttpError;
pub use head::{Field, Framing, Head, Method, Upgrade, Version};
pub use reader::{Next, Phase, Request, RequestReader};
pub use response::{
    BodyLength, CONTINUE, PreparedHead, ResponseHead, reason_phrase, write_chunk, write_decimal,
    write_hex, write_last_chunk,
};
pub use target::{QueryPairs, TargetError, percent_decode, percent_encode, query_pairs};
