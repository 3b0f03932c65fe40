//! JSON and HTTP semantics: requests in, commands out; replies in, JSON out. The only place that
//! knows JSON.
//!
//! | file | job |
//! | --- | --- |
//! | `json/` | the scanner over request bodies |
//! | `route` | method and path → [`Route`] |
//! | `query` | query parameters of the state reads |
//! | `history` | query parameters, cursors and events of `GET /api/events` |
//! | `event` | one event's JSON → a stored event |
//! | `event_test` | events as JSON: what is taken, what is refused |
//! | `event_ids` | ids for events without one |
//! | `event_rules` | the rules of an event's texts |
//! | `event_terms` | conditions of an event |
//! | `event_member` | the names of an event's members |
//! | `outcome` | what a shard did with the events that it was given |
//! | `client_message` | WebSocket messages from clients |
//! | `stream_query` | query parameters of streams over HTTP |
//! | `stream_options` | what a subscription asks for besides a pattern |
//! | `stream_encode` | the messages of streams |
//! | `batch` | a batch's JSON → stored events by shard, and the answer to it |
//! | `batch_walk` | the walk over a batch's body, in slices |
//! | `directory` | the entity that lists all namespaces |
//! | `namespaces`, `config` | bodies and answers of the operator's calls |
//! | `tokens` | bodies and answers of the calls about tokens |
//! | `conditions` | conditions in the head of a write |
//! | `connectors` | answers of the calls about connectors |
//! | `body` | the beginning of a JSON body |
//! | `delete` | the body of a batch delete, and its answer |
//! | `encode` | entities, small answers, WebSocket messages to clients |
//! | `event_encode` | a stored event → the JSON that it was sent as |
//! | `line` | lines of an export, both ways |
//! | `metrics/` | what the server has counted, as text |
//! | `error` | every rejection with its status and code |
//! | `description_test` | `openapi.json` describes the routes, each code and its status |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod batch;
mod batch_walk;
mod body;
pub mod client_message;
pub mod conditions;
pub mod config;
pub mod connectors;
pub mod delete;
#[cfg(test)]
mod description_test;
pub mod directory;
pub mod encode;
pub mod error;
pub mod event;
pub mod event_encode;
mod event_ids;
mod event_member;
mod event_rules;
mod event_terms;
#[cfg(test)]
mod event_test;
pub mod history;
pub mod json;
pub mod line;
pub mod metrics;
pub mod namespaces;
pub mod outcome;
pub mod query;
pub mod route;
pub mod stream_encode;
pub mod stream_options;
pub mod stream_query;
pub mod tokens;

pub use crate::model::time_text as time;
pub use error::ApiError;
pub use route::{Route, route};
