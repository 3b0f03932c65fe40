//! One shard's log, not opened yet: what its thread needs to open it.

use std::path::Path;
use std::sync::Arc;

use crate::LogOptions;
use crate::format::header::LogId;
use crate::lock::DirLock;

/// One shard's log of the newest generation. `Send`, so that the shard's thread opens and recovers it.
#[derive(Debug)]
pub struct LogDir {
    pub(crate) dir: Arc<Path>,
    pub(crate) id: LogId,
    pub(crate) options: LogOptions,
    pub(crate) lock: Arc<DirLock>,
}

impl LogDir {
    /// The shard whose log it is, from 0.
    pub fn shard(&self) -> u32 {
        self.id.shard
    }
}
