//! What a machine has to offer before the server starts, and one line for each thing that is
//! missing.

use super::rings;
use crate::reactor::runtime::Runtime;
use crate::report::{self, LogEvent};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CpuSet;
use std::io;
use std::num::NonZero;

/// Why a machine can't run the server. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MissingFeature {
    /// The kernel is older than what is asked for.
    #[error("this kernel is too old ({release}): Flux needs Linux 5.11 or newer")]
    OldKernel {
        /// What it calls itself.
        release: String,
    },
}

/// The release of this kernel.
///
/// # Errors
/// If it is too old.
pub(super) fn check_kernel() -> Result<String, MissingFeature> {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    if kernel_version(&release) < KERNEL_MIN {
        return Err(MissingFeature::OldKernel { release });
    }
    Ok(release)
}

/// What the cores are to run on. Says so if it is not what it should be.
///
/// # Errors
/// [`MissingFeature`].
pub(super) fn choose_runtime(cpu: usize) -> Result<Runtime, MissingFeature> {
    check_kernel()?;
    let Err(refused) = rings::probe(cpu) else {
        return Ok(Runtime::Executors);
    };
    let remedy = refused.remedy();
    report::say(
        LogEvent::IoUringRefused,
        &format!(
            "{refused}: the cores run as plain threads instead{}{}",
            if remedy.is_some() {
                "; to allow it: "
            } else {
                ""
            },
            remedy.unwrap_or_default(),
        ),
    );
    Ok(Runtime::Threads)
}

/// The first kernel that has `epoll_pwait2`.
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
