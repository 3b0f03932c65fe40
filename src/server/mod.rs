//! The server: sockets, cores and what they say to clients. The only part that waits, and the only one that knows
//! glommio.
//!
//! | file | job |
//! | --- | --- |
//! | `boot` | settings → cores; signals → the end |
//! | `preflight` | what the machine must offer |
//! | `core` | one core's loop |
//! | `input`, `output`, `upkeep` | its parts: bytes in, bytes out, and what the clock asks for |
//! | `hub` | what a core's connections share |
//! | `connection`, `slots` | one client, and all clients of a core |
//! | `http`, `responses`, `operation` | requests → shards → answers, in order |
//! | `listing`, `deletion` | the two requests that take several steps |
//! | `access` | who sends a request |
//! | `control`, `namespaces`, `namespace_page` | the control plane, and the calls that go to it |
//! | `directory` | the upkeep of `flux-core/directory` |
//! | `past`, `historian` | requests about the past, and the helper threads that read it |
//! | `websocket` | one WebSocket session |
//! | `flusher` | flushes and segments in preparation |
//! | `headroom` | the room on the disk that is held back |
//! | `runtime` | all we use of glommio |
//! | `poller`, `sockets` | epoll, listening, accepting, ticking |
//! | `tally` | what clients hold, by address |
//! | `shared` | counters that all cores read |

mod access;
mod boot;
mod checkpointer;
mod config;
mod connection;
mod connectors;
mod connectors_thread;
mod control;
mod core;
mod deletion;
mod directory;
mod flush_thread;
mod flusher;
mod foresight;
mod gathering;
mod headroom;
mod historian;
mod http;
mod hub;
mod input;
mod janitor;
mod listing;
mod lookout;
mod namespace_page;
mod namespaces;
mod operation;
mod output;
mod pace;
mod past;
mod poller;
mod preflight;
mod responses;
mod returns;
mod runtime;
mod shared;
mod slots;
mod sockets;
mod spare_pace;
mod tally;
mod upkeep;
mod websocket;

pub use boot::{StartError, open_for_import, run};
pub use preflight::{MissingFeature, default_shards};
