//! Settings → a running process, and a signal → its end.
//!
//! | file | job |
//! | --- | --- |
//! | `serve` | starts the cores, recovers their shards, and stops them |
//! | `start_error` | why a server did not start |
//! | `data_dir` | the data directory and the control log, opened |
//! | `announce` | what the server says of itself when it starts |
//! | `panics` | the end of the process after a panic |
//! | `listening` | the addresses that the server takes |
//! | `preflight` | what the machine lacks, said before anything starts |
//! | `doctor` | whether a server could start, looked at piece by piece |
//! | `rings` | whether `io_uring` may be used, and what forbids it |
//! | `memory` | how much memory the process may use |
//! | `allocator` | when the allocator gives memory back |
//! | `process_sampler` | asks the kernel about the process and its disk |
//! | `connectors_thread` | the thread of connectors |
//! | `tls` | the files of certificate and key |
//! | `systemd` | what systemd is told of the server |

mod allocator;
mod announce;
mod connectors_thread;
mod data_dir;
mod doctor;
mod listening;
mod memory;
mod panics;
mod preflight;
mod process_sampler;
mod rings;
mod serve;
mod start_error;
mod systemd;
mod tls;

pub use data_dir::open_for_import;
pub use doctor::{Finding, Verdict, examine};
pub use panics::end_process_on_panic;
pub use preflight::{MissingFeature, default_shards};
pub use serve::run;
pub use start_error::StartError;
pub use tls::TlsError;
