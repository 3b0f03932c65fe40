//! A scrub: reading a data directory past the point where a server would refuse it, to report what
//! is there, what is damaged and what is lost.
//!
//! | file | |
//! | --- | --- |
//! | `directory` | the logs of a data directory |
//! | `listing` | names and headers → which file is which segment of which log |
//! | `load` | one segment file in memory, in whatever state it is |
//! | `content` | a segment's bytes → runs of valid records, and holes |
//! | `checksum_seed` | the checksum seed of a segment whose header is damaged |
//! | `walk` | runs and holes of all segments, judged as damage or torn tail |
//! | `log` | the result, by segment and for the whole log |
//! | `caches` | the files that follow from a log: checkpoints, base, indexes |
//! | `finding` | one thing that was found, its severity and what to do about it |
//!
//! Verification, dump and repair all use it, so they agree about what a log holds. It modifies
//! nothing and needs no lock. It must not know an open log.

pub(crate) mod caches;
mod checksum_seed;
pub(crate) mod content;
pub(crate) mod directory;
pub(crate) mod finding;
pub(crate) mod listing;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod walk;
