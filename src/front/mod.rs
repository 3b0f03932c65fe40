//! Protocols, one folder each: bytes ↔ calls and outcomes of the service.
//!
//! A front decodes what it received into a call, begins it, and writes the outcome in its own form,
//! in its own order, once the outcome's commit point is reached. It must not know a socket, another
//! front, or what a shard does.
//!
//! | folder | job |
//! | --- | --- |
//! | `http` | HTTP/1.1: requests, and answers in the order of their requests |
//! | `ws` | WebSocket: messages, subscriptions, and the frames that a client gets |
//! | `sse` | server-sent events: one subscription over HTTP |
//! | `mcp` | the Model Context Protocol: tools and resources for agents, carried by `http` |

pub(crate) mod http;
pub mod mcp;
pub(crate) mod sse;
pub(crate) mod ws;
