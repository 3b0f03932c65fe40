//! The part of RFC 6455 that a client of small text messages needs: the opening handshake and whole
//! frames.

mod answers;
mod frame;
mod handshake;

pub(crate) use answers::RequestAnswers;
pub(crate) use frame::{Frame, next_frame, write_message, write_pong, write_text};
pub(crate) use handshake::open;
