//! Settings → a running process, and a signal → its end.

mod connectors_thread;
mod preflight;
mod serve;

pub use preflight::{MissingFeature, default_shards};
pub use serve::{StartError, open_for_import, run};
