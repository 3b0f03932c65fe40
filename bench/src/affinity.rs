//! Binds the calling thread, and what it starts afterwards, to one core.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Threads and processes that the caller starts later inherit the binding.
///
/// # Errors
/// When the core does not exist or is closed to this process.
pub(crate) fn pin_to(cpu: usize) -> Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        bail!(
            "core {cpu} is beyond the {} that can be named",
            CpuSet::MAX_CPU
        );
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot bind to core {cpu}"))
}
