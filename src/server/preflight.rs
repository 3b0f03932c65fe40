//! What a machine has to offer before the server starts, and one line for each thing that is missing.

use super::runtime;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CpuSet;
use std::io;
use std::num::NonZero;

/// Why a machine can't run the server. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MissingFeature {
    /// The kernel has no `io_uring`.
    #[error("this kernel has no io_uring: Flux needs Linux 5.8 or newer")]
    NoIoUring,
    /// Something forbids `io_uring`.
    #[error(
        "io_uring is forbidden to this process: allow it in the seccomp profile of the container \
         (Docker: --security-opt seccomp=<profile>), or set sysctl kernel.io_uring_disabled=0"
    )]
    IoUringForbidden,
    /// The limit on locked memory is too small for `io_uring`.
    #[error(
        "too little locked memory for io_uring: raise it to 8 MiB (ulimit -l 8192, or LimitMEMLOCK=8M in the unit)"
    )]
    LockedMemory,
    /// Something else.
    #[error("io_uring can't be used: {0}")]
    Other(#[source] io::Error),
}

/// Starts an executor that does nothing, to see whether the kernel lets it.
///
/// # Errors
/// [`MissingFeature`].
pub(super) fn check_io_uring(cpu: usize) -> Result<(), MissingFeature> {
    let probe = runtime::spawn("flux-preflight", cpu, || async { Ok(()) });
    match probe.and_then(runtime::join) {
        Ok(()) => Ok(()),
        Err(error) => Err(
            match error
                .raw_os_error()
                .map(rustix::io::Errno::from_raw_os_error)
            {
                Some(rustix::io::Errno::NOSYS) => MissingFeature::NoIoUring,
                Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => {
                    MissingFeature::IoUringForbidden
                }
                Some(rustix::io::Errno::NOMEM) => MissingFeature::LockedMemory,
                _ => MissingFeature::Other(error),
            },
        ),
    }
}

/// The processors that this process may run on, and the set as the kernel has it.
///
/// # Errors
/// Where the kernel does not say.
pub(super) fn allowed_cpus() -> io::Result<(Vec<usize>, CpuSet)> {
    let set = rustix::thread::sched_getaffinity(None)?;
    let cpus = (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect();
    Ok((cpus, set))
}

/// How many processors the process may use: its affinity mask and the limit of its container (cgroup) both count.
pub fn default_shards() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    u16::try_from(cores)
        .unwrap_or(u16::MAX)
        .min(crate::limits::SHARDS_MAX)
}

/// Raises the soft limit on descriptors to the hard one, and says how many there may be.
pub(super) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.unwrap_or(u64::MAX)
}
