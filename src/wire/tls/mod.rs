//! The server's side of TLS 1.2 and 1.3, by rustls: bytes of the socket → bytes of HTTP or
//! WebSocket, and back.
//!
//! ```text
//! socket ─▶ whole records ─▶ rustls ─▶ plain bytes ─▶ http1, ws
//! socket ◀─ unsent records ◀─ rustls ◀─ plain bytes ◀─ answers, outbox
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `certificate` | PEM → what is presented to clients, and whether it may be |
//! | `identity` | what new connections are presented with; it is replaced while old ones go on |
//! | `record` | where the records in received bytes end |
//! | `link` | one connection |
//!
//! rustls is given whole records only. So it holds nothing of a record that is not whole, and all
//! that waits can be counted. It reads the clock, for the lifetime of tickets.

mod certificate;
mod identity;
mod link;
mod record;

pub use certificate::{CertificateError, Certified};
pub use identity::TlsIdentity;
pub use link::{HandshakeStep, Handshaken, TlsLink};
