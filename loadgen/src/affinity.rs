//! What a measuring thread asks of the scheduler: a core of its own, and timers that fire when they
//! are due.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};
use std::num::NonZeroU64;

/// Binds the calling thread to the core that `cpus` names for it; with an empty list the scheduler
/// decides.
///
/// # Errors
/// When the core does not exist or is closed to this process.
pub(crate) fn settle(cpus: &[usize], thread_index: usize) -> Result<()> {
    // The default slack lets a timer fire 50 µs late, which an open loop would book on the server.
    set_current_timer_slack(NonZeroU64::new(1)).context("cannot set the timer slack")?;
    if cpus.is_empty() {
        return Ok(());
    }
    let cpu = cpus[thread_index % cpus.len()];
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
