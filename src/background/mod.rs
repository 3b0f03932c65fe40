//! What happens beside requests.

pub(crate) mod ballast;
pub(crate) mod checkpoints;
pub(crate) mod control;
pub(crate) mod directory;
pub(crate) mod flush;
pub(crate) mod flush_thread;
pub(crate) mod history;
pub(crate) mod pace;
pub(crate) mod retention;
pub(crate) mod segment_throttle;
