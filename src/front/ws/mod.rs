//! The WebSocket front (RFC 6455, API contract §8).
//!
//! | file | job |
//! | --- | --- |
//! | `session` | one session: messages in, answers and pushed frames out |

mod session;

pub(crate) use session::{After, GOING_AWAY, SLOW_READER, TRY_AGAIN_LATER, WebSocket};
