//! A look at a data directory that goes on where a server would stop: what is there, what is damaged, what is lost.
//!
//! ```text
//! directory the logs that there are
//! listing   names and headers → which file is which segment of which log
//! content   a segment's bytes → runs of valid records, and holes
//! salvage   the checksum seed of a segment whose header is damaged
//! walk      runs and holes of all segments, judged: damage or torn tail
//! log       what comes out of that, by segment and in all
//! caches    what goes along with a log: checkpoints, base, indexes
//! finding   what is said about it
//! ```
//!
//! Verification, dump and repair all rest on it, so they agree about what a log holds. It modifies nothing and needs
//! no lock.

pub(crate) mod caches;
mod checksum_seed;
pub(crate) mod content;
pub(crate) mod directory;
pub(crate) mod finding;
pub(crate) mod listing;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod walk;
