//! The WebSocket front (RFC 6455, API contract §8, §13).
//!
//! | file | job |
//! | --- | --- |
//! | `session` | one session: messages in, answers and pushed frames out |
//! | `requests` | the requests of a session that are under way, and the order of their answers |
//! | `withheld` | answers that nobody may see yet |

mod requests;
mod session;
mod withheld;

pub(crate) use session::{After, FRAMING, OUT_OF_MEMORY, SLOW_READER, WebSocket};
