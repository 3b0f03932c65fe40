//! Protocols: bytes to calls, outcomes to bytes.

pub(crate) mod http;
pub(crate) mod responses;
pub(crate) mod websocket;
