//! Settings → a running process, and a signal → its end.

pub(crate) mod config;
mod connectors_thread;
mod preflight;
pub(crate) mod serve;

pub use preflight::{MissingFeature, default_shards};
pub use serve::{StartError, open_for_import, run};
