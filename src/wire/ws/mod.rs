//! WebSocket, server side (RFC 6455), sans-I/O: text messages in, frames out.
//!
//! ```text
//! Head of http1 → handshake → 101
//! bytes → message ─┬─ frame   one frame header, every rule on it
//!                  └─ mask    undoes the client's masking in place
//!       → Message  → server's session
//! ```
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
pub use frame::{Opcode, write_close, write_frame_header, write_ping, write_pong, write_text};
pub use handshake::{HandshakeError, accept, accept_key, is_valid_key, write_switching_protocols};
pub use message::{Message, MessageReader};
