//! The targets. Each is a function of bytes that returns if all its invariants hold, and panics if
//! not.

pub mod checkpoint;
pub mod chunked;
pub mod connector;
pub mod event;
pub mod filter;
pub mod http;
pub mod index;
pub mod json;
pub mod log;
pub mod mcp;
pub mod query;
pub mod websocket;

mod store;

/// A target, by the name of its corpus.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name: that of its file here, and of its directory in the corpus.
    pub name: &'static str,
    /// Runs it on an input.
    pub run: fn(&[u8]),
    /// Texts that its inputs are made of.
    pub dictionary: &'static [&'static [u8]],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("http", http::target, http::DICTIONARY),
    target("chunked", chunked::target, chunked::DICTIONARY),
    target("websocket", websocket::target, websocket::DICTIONARY),
    target("json", json::target, json::DICTIONARY),
    target("event", event::target, event::DICTIONARY),
    target("filter", filter::target, filter::DICTIONARY),
    target("query", query::target, query::DICTIONARY),
    target("connector", connector::target, json::DICTIONARY),
    target("mcp", mcp::target, mcp::DICTIONARY),
    target("log", log::target, &[]),
    target("index", index::target, &[]),
    target("checkpoint", checkpoint::target, &[]),
];

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    dictionary: &'static [&'static [u8]],
) -> Target {
    Target {
        name,
        run,
        dictionary,
    }
}

/// The sizes of the pieces in which a socket may give `data`: what is chosen depends on the data
/// alone.
fn pieces(data: &[u8]) -> [usize; 3] {
    let sum = data.iter().fold(data.len(), |sum, &byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(byte))
    });
    [data.len().max(1), 1, 1 + sum % data.len().clamp(1, 64)]
}
