//! `GET /metrics`: what the server has counted → Prometheus text format 0.0.4, or `OpenMetrics`
//! 1.0.
//!
//! The counters themselves lie in the shard layer, one block for each core; a scrape adds them up
//! into a [`Snapshot`]. The values of all labels are closed sets (`labels`, `codes`, `patterns`),
//! so an answer has a bound, and nothing that a client chose stands in it.
//!
//! | file | job |
//! | --- | --- |
//! | `labels` | the closed sets of label values |
//! | `codes` | the codes of rejections, as a label |
//! | `patterns` | routes, as a label |
//! | `snapshot` | the numbers of one scrape |
//! | `families` | each family's name, type and meaning, and the samples that it has |
//! | `text` | lines of the two formats |

mod codes;
mod families;
mod labels;
mod patterns;
mod snapshot;
mod text;

pub use codes::{CODES, RefusalCounts, index_of};
pub use families::write;
pub use labels::{
    CloseCause, Front, PollResult, RefusalReason, SessionKind, StatusClass, SubscriberKind,
};
pub use patterns::RoutePattern;
pub use snapshot::{
    BUCKETS, HistogramSample, ProcessSample, ShardLabel, ShardSample, Snapshot, Totals,
};
pub use text::Format;
