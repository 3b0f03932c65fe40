//! What a machine has to offer before the server starts, and one line for each thing that is
//! missing.

use crate::reactor::runtime;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CpuSet;
use std::io;
use std::num::NonZero;

/// Why a machine can't run the server. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MissingFeature {
    /// The kernel is older than what is asked for, or was built without `io_uring`.
    #[error("this kernel is too old, or has no io_uring: Flux needs Linux 5.11 or newer")]
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

/// Asks the kernel for a ring, and then starts an executor that does nothing, to see whether the
/// kernel lets it.
///
/// # Errors
/// [`MissingFeature`].
pub(crate) fn check_io_uring(cpu: usize) -> Result<(), MissingFeature> {
    if kernel_version(&rustix::system::uname().release().to_string_lossy()) < KERNEL_MIN {
        return Err(MissingFeature::NoIoUring);
    }
    let ring = io_uring::IoUring::new(4).map(drop);
    let executor = |()| runtime::spawn("flux-preflight", cpu, || Ok(()));
    ring.and_then(executor)
        .and_then(runtime::join)
        .map_err(
            |error| match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOSYS) => MissingFeature::NoIoUring,
                Some(Errno::PERM | Errno::ACCESS) => MissingFeature::IoUringForbidden,
                Some(Errno::NOMEM) => MissingFeature::LockedMemory,
                _ => MissingFeature::Other(error),
            },
        )
}

/// The first kernel that has `epoll_pwait2`, and an `io_uring` with all that glommio asks for.
const KERNEL_MIN: (u32, u32) = (5, 11);

/// Major and minor version of a kernel release such as `6.18.44-generic`; a release of another form
/// counts as new.
fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, u32::MAX),
    }
}

/// The processors that this process may run on, and the set as the kernel has it.
///
/// # Errors
/// If the kernel does not say.
pub(crate) fn allowed_cpus() -> io::Result<(Vec<usize>, CpuSet)> {
    let set = rustix::thread::sched_getaffinity(None)?;
    let cpus = (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect();
    Ok((cpus, set))
}

/// How many processors the process may use: its affinity mask and the limit of its container
/// (cgroup) both count.
pub fn default_shards() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    u16::try_from(cores)
        .unwrap_or(u16::MAX)
        .min(crate::limits::SHARDS_MAX)
}

/// Raises the soft limit on descriptors to the hard one, and says how many there may be.
pub(crate) fn raise_descriptor_limit() -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_11_are_refused() {
        let check = |release, enough| {
            assert_eq!(kernel_version(release) >= KERNEL_MIN, enough, "{release}");
        };
        check("5.4.0-150-generic", false);
        check("4.19.1", false);
        check("5.10.0-28-amd64", false);
        check("5.11.0", true);
        check("5.15.0-1-amd64", true);
        check("6.18.44-fc", true);
        check("unknown", true);
    }
}
