//! The part of HTTP/1.1 that a load generator reads: status, length, end of body.

mod response;

pub(crate) use response::{Answer, AnswerReader};
