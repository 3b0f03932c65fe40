//! The protocols on the socket, without the socket: bytes in, requests and messages out, and back.
//!
//! The reactor reads bytes and hands them to [`http1`] or, after an upgrade, to [`ws`]. The same
//! modules write what `api` answers into one output buffer. With a certificate, [`tls`] lies
//! between them and the socket.
//!
//! | file | job |
//! | --- | --- |
//! | `http1/` | HTTP/1.1 requests and answers |
//! | `ws/` | WebSocket messages and frames |
//! | `tls/` | records of TLS |
//! | `buffer` | bytes received and not consumed yet |
//!
//! Invariants of the codecs:
//!
//! - Any bytes give a request, a message, an error, or "need more". They never panic and never loop
//!   without end.
//! - The result does not depend on how the bytes were split into reads.
//! - Work is linear in the bytes received; memory is bounded by what arrived and by `limits`, never
//!   by a length that the peer only announced.
//! - No I/O, no clock, no JSON: time and limits are arguments or constants.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod buffer;
pub mod http1;
pub mod tls;
pub mod ws;
