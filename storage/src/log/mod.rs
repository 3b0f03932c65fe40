//! The log: one for each shard, a sequence of segment files that records are appended to.
//!
//! | file | |
//! | --- | --- |
//! | `data_dir` | a data directory: its lock and its generations of logs |
//! | `place` | where a log lies, and where it begins |
//! | `log_dir` | a log of the newest generation that is not open yet |
//! | `log_files` | a log's segment files as they are found, headers checked |
//! | `log_start_file` | the `HORIZON` file: what retention removed |
//! | `watermark` | the `DURABLE` file: how far the log is durable |
//! | `world_file` | the `WORLD` file: which logs belong together |
//! | `recovery` | finding the end of a log, and cutting a torn tail |
//! | `open_log` | an open log: append, write, flush, rotate |
//! | `group` | records that are appended all or none |
//! | `segment` | the active segment, and making new ones |
//! | `next_segment` | preparing the next segment on a helper thread |
//! | `flush` | a flush in progress |
//! | `truncate` | taking back what is not durable |
//! | `retention` | removing whole old segments |
//! | `sealed` | logs of older generations, which are only read |
//! | `reader` | reading history on any thread |
//! | `options` | the sizes of segments |
//!
//! It must not know what a checkpoint holds, nor the tools in `offline`.

pub(crate) mod data_dir;
pub(crate) mod flush;
pub(crate) mod group;
pub(crate) mod log_dir;
pub(crate) mod log_files;
pub(crate) mod log_start_file;
pub(crate) mod next_segment;
pub(crate) mod open_log;
pub(crate) mod options;
pub(crate) mod place;
pub(crate) mod reader;
pub(crate) mod recovery;
pub(crate) mod retention;
pub(crate) mod sealed;
pub(crate) mod segment;
mod truncate;
pub(crate) mod watermark;
pub(crate) mod world_file;
