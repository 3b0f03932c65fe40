//! Whether this process may use `io_uring`, and if not, what forbids it and how to allow it.

use crate::reactor::runtime::{self, Runtime};
use rustix::io::Errno;
use std::io;

/// What keeps `io_uring` from this process. The text says what and how to change it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingsRefused {
    /// The kernel was built without it.
    #[error("the kernel was built without io_uring")]
    NotBuilt,
    /// `kernel.io_uring_disabled`.
    #[error("sysctl kernel.io_uring_disabled={value} forbids io_uring")]
    Sysctl {
        /// 1: to all but a group and the superuser. 2: to everybody.
        value: u8,
    },
    /// A filter of system calls, as containers have them.
    #[error("a seccomp filter forbids io_uring, as the default profiles of Docker and Podman do")]
    Seccomp,
    /// The limit on locked memory is too small.
    #[error("too little locked memory for io_uring")]
    LockedMemory,
    /// What runs the cores on `io_uring` reads the processors there.
    #[error("/sys can't be read, which io_uring's executor needs ({0})")]
    NoSys(#[source] io::Error),
    /// Something else.
    #[error("the kernel refuses io_uring: {0}")]
    Other(#[source] io::Error),
}

impl RingsRefused {
    /// What allows it; `None` if nothing on this machine does.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Sysctl { .. } => Some("sysctl -w kernel.io_uring_disabled=0"),
            Self::Seccomp => Some(
                "docker run --security-opt seccomp=unconfined, or a profile that allows io_uring_setup, io_uring_enter \
                 and io_uring_register",
            ),
            Self::LockedMemory => Some(
                "ulimit -l 8192, LimitMEMLOCK=8M in the unit, or docker run --ulimit memlock=8388608",
            ),
            Self::NoSys(_) => Some("mount -t sysfs sysfs /sys"),
            Self::NotBuilt | Self::Other(_) => None,
        }
    }
}

/// Asks the kernel for a ring, and then starts an executor that does nothing, to see whether the
/// kernel lets it.
///
/// # Errors
/// [`RingsRefused`].
pub(crate) fn probe(cpu: usize) -> Result<(), RingsRefused> {
    runtime::read_processors().map_err(RingsRefused::NoSys)?;
    let ring = io_uring::IoUring::new(4).map(drop);
    let executor = |()| Runtime::Executors.spawn("flux-preflight", cpu, || Ok(()));
    let probed = ring.and_then(executor).and_then(runtime::join);
    probed.map_err(|error| {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let seen = Seen {
            disabled: read("/proc/sys/kernel/io_uring_disabled")
                .and_then(|text| text.trim().parse().ok()),
            is_filtered: read("/proc/self/status").is_some_and(|text| is_filtered(&text)),
        };
        explain(error, &seen)
    })
}

/// What the system shows of the reasons.
struct Seen {
    /// The sysctl; older kernels than 6.6 have none.
    disabled: Option<u8>,
    /// A seccomp filter is in force.
    is_filtered: bool,
}

/// `Seccomp: 2`, with a tab, in `/proc/self/status` (proc(5)).
fn is_filtered(status: &str) -> bool {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    line.is_some_and(|value| value.trim() == "2")
}

/// Docker's filter answers EPERM, Podman's ENOSYS, which a kernel without `io_uring` answers too.
fn explain(error: io::Error, seen: &Seen) -> RingsRefused {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOMEM) => RingsRefused::LockedMemory,
        Some(Errno::NOSYS | Errno::PERM | Errno::ACCESS) if seen.disabled.unwrap_or(0) > 0 => {
            let value = seen.disabled.unwrap_or(0);
            RingsRefused::Sysctl { value }
        }
        Some(Errno::NOSYS | Errno::PERM | Errno::ACCESS) if seen.is_filtered => {
            RingsRefused::Seccomp
        }
        Some(Errno::NOSYS) => RingsRefused::NotBuilt,
        _ => RingsRefused::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(errno: Errno, (disabled, is_filtered): (Option<u8>, bool), said: &str) {
        let seen = Seen {
            disabled,
            is_filtered,
        };
        let why = explain(errno.into(), &seen).to_string();
        assert!(why.contains(said), "{errno:?} {disabled:?}: {why}");
    }

    #[test]
    fn the_reason_is_told_apart_by_what_the_system_shows() {
        for errno in [Errno::PERM, Errno::NOSYS] {
            check(errno, (Some(0), true), "seccomp");
            check(errno, (None, true), "seccomp");
            check(errno, (Some(2), false), "kernel.io_uring_disabled=2");
            check(errno, (Some(1), true), "kernel.io_uring_disabled=1");
        }
        check(Errno::NOSYS, (None, false), "built without");
        check(Errno::PERM, (Some(0), false), "refuses");
        check(Errno::NOMEM, (Some(0), true), "locked memory");
        assert!(is_filtered(
            "Name:\tflux\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(!is_filtered(
            "Name:\tflux\nSeccomp:\t0\nSeccomp_filters:\t2\n"
        ));
    }
}
