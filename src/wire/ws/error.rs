//! Why a client's frames were refused, with the close code that the server answers (RFC 6455
//! §7.4.1).

use crate::limits;

/// A frame or message that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// A reserved bit is set, and no extension was negotiated (§5.2).
    #[error("reserved bits are set")]
    ReservedBits,
    /// Opcodes 3 to 7 and 11 to 15 (§5.2).
    #[error("opcode is reserved")]
    ReservedOpcode,
    /// Clients must mask (§5.1).
    #[error("frame is not masked")]
    Unmasked,
    /// A control frame over 125 bytes (§5.5).
    #[error("control frame is over 125 bytes")]
    ControlTooLong,
    /// A control frame without FIN (§5.5).
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// A length in more bytes than it needs, or beyond 63 bits (§5.2).
    #[error("frame length is malformed")]
    LengthMalformed,
    /// A continuation without a message to continue (§5.4).
    #[error("continuation without a message")]
    UnexpectedContinuation,
    /// A new message inside a fragmented one (§5.4).
    #[error("message inside a fragmented message")]
    MessageInterrupted,
    /// A close payload of one byte (§5.5.1).
    #[error("close payload is malformed")]
    CloseMalformed,
    /// A close code that must not be sent (§7.4).
    #[error("close code is invalid")]
    CloseCodeInvalid,
    /// Text or a close reason that is not UTF-8 (§8.1).
    #[error("text is not UTF-8")]
    NotUtf8,
    /// Flux speaks JSON in text frames.
    #[error("binary messages are not accepted")]
    Binary,
    /// Over [`limits::WS_MESSAGE_BYTES_MAX`].
    #[error("message is over {} bytes", limits::WS_MESSAGE_BYTES_MAX)]
    MessageTooLong,
}

impl WsError {
    /// The code of the close frame that tells the client; [`Display`](std::fmt::Display) gives its
    /// reason.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::MessageTooLong => 1009,
            _ => 1002,
        }
    }
}
