//! Settings → a running process, and a signal → its end.
//!
//! | file | job |
//! | --- | --- |
//! | `serve` | starts the cores, recovers their shards, and stops them |
//! | `panics` | the end of the process after a panic |
//! | `preflight` | what the machine lacks, said before anything starts |
//! | `doctor` | whether a server could start, looked at piece by piece |
//! | `rings` | whether `io_uring` may be used, and what forbids it |
//! | `memory` | how much memory the process may use |
//! | `connectors_thread` | the thread of connectors |

mod connectors_thread;
mod doctor;
mod memory;
mod panics;
mod preflight;
mod rings;
mod serve;

pub use doctor::{Finding, Verdict, examine};
pub use panics::end_process_on_panic;
pub use preflight::{MissingFeature, default_shards};
pub use serve::{StartError, open_for_import, run};
