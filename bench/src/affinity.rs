//! Binds the calling thread, and what it starts afterwards, to cores.

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Binds to one core, see [`pin_to_all`].
///
/// # Errors
/// When the core does not exist or is closed to this process.
pub(crate) fn pin_to(cpu: usize) -> Result<()> {
    pin_to_all(&[cpu])
}

/// Threads and processes that the caller starts later inherit the binding.
///
/// # Errors
/// When none of the cores exists, or is open to this process.
pub(crate) fn pin_to_all(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            bail!(
                "core {cpu} is beyond the {} that can be named",
                CpuSet::MAX_CPU
            );
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set).with_context(|| format!("cannot bind to cores {cpus:?}"))
}
