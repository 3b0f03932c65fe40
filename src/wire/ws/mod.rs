//! WebSocket, server side (RFC 6455), sans-I/O: text messages in, frames out.
//!
//! ```text
//! head of http1 → handshake → 101
//! bytes → message → Message → the session of the front
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `handshake` | the upgrade from HTTP |
//! | `message` | the bytes of one connection → its messages |
//! | `frame` | one frame header, every rule on it; frames to clients |
//! | `mask` | undoes the client's masking in place |
//! | `error` | why bytes are no message, and the close code |
//! | `tests/` | tables of rules, splits, mutations, a peer of another make |
//!
//! Extensions and subprotocols are not negotiated. Binary messages are refused (API.md section 8).

mod error;
mod frame;
mod handshake;
mod mask;
mod message;
#[cfg(test)]
mod tests;

pub use error::WsError;
pub use frame::{
    CLOSE_REASON_BYTES_MAX, Opcode, payload_of, write_close, write_frame_header, write_ping,
    write_pong, write_text, write_text_with,
};
pub use handshake::{HandshakeError, accept, accept_key, is_valid_key, write_switching_protocols};
pub use message::{Message, MessageReader};
