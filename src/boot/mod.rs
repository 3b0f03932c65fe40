//! Settings → a running process, and a signal → its end.
//!
//! | file | job |
//! | --- | --- |
//! | `serve` | starts the cores, recovers their shards, and stops them |
//! | `preflight` | what the machine lacks, said before anything starts |
//! | `connectors_thread` | the thread of connectors |

mod connectors_thread;
mod preflight;
mod serve;

pub use preflight::{MissingFeature, default_shards};
pub use serve::{StartError, open_for_import, run};
