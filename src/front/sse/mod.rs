//! The front of server-sent events (HTML standard §9.2, API contract §13): one subscription, and
//! its messages as events.
//!
//! The request and the head of the answer are HTTP's; what follows the head is framed here.
//!
//! | file | job |
//! | --- | --- |
//! | `framing` | messages → events, in chunks or as they are |
//! | `session` | one stream, from the subscription to its end |

mod framing;
mod session;

pub(crate) use framing::Coding;
pub(crate) use session::{EventStream, News, StreamCall};
