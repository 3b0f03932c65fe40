//! A core's thread: pinned to its processor, and run by glommio's executor, or, if the kernel gives
//! no `io_uring`, by itself. No other file of the server names glommio.
//!
//! The executor runs one future, which is the whole event loop and never yields. Sockets do not go
//! through glommio: it polls each of them with a request of its own and a `recv` after it, which is
//! half the speed of one `epoll_wait` for all of them at low concurrency. Nor does a core sleep in
//! it: two of its rings are armed and disarmed for each sleep, and a `membarrier` interrupts every
//! other core (6 % of the server's time with two shards). So a core sleeps in its epoll, and
//! whatever it waits for wakes it through a descriptor there. That is also why a core that runs
//! without the executor lacks nothing.

use glommio::{GlommioError, LocalExecutorBuilder, Placement, ReactorErrorKind};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::num::NonZero;
use std::time::Duration;

/// Memory that an executor registers with `io_uring`, bytes. Small: nothing but its own notes goes
/// through it, and the default of 10 MiB runs into small limits on locked memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Entries of each `io_uring`.
const RING_DEPTH: usize = 64;
/// glommio asks its tasks to yield after this. If the time is over before it has begun its first
/// task, it sleeps for ever, with the task runnable: a pause of the machine must not be that long.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 60 * 60);

/// What runs the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// glommio's executors, which need `io_uring`.
    Executors,
    /// Pinned threads.
    Threads,
}

/// A running core; joining it waits for its end.
pub(crate) enum Running {
    Executor(glommio::ExecutorJoinHandle<io::Result<()>>),
    Thread(std::thread::JoinHandle<io::Result<()>>),
}

/// Reads what glommio reads of the machine before it pins an executor: it panics if it can't.
///
/// # Errors
/// If `/sys` is not mounted, or hides the processors.
pub(crate) fn read_processors() -> io::Result<()> {
    let online = glommio::CpuSet::online();
    online.map(drop).map_err(io::Error::from)
}

impl Runtime {
    /// Starts a thread that is pinned to `cpu` and runs `core` to its end.
    ///
    /// # Errors
    /// If the thread, its rings or the pinning fail.
    pub(crate) fn spawn(
        self,
        name: &str,
        cpu: usize,
        core: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Running> {
        match self {
            Self::Executors => LocalExecutorBuilder::new(Placement::Fixed(cpu))
                .name(name)
                .io_memory(IO_MEMORY_BYTES)
                .ring_depth(RING_DEPTH)
                .preempt_timer(PREEMPT_TIMER)
                .spawn(|| async { core() })
                .map(Running::Executor)
                .map_err(io_error),
            Self::Threads => std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || {
                    pin(cpu)?;
                    core()
                })
                .map(Running::Thread),
        }
    }
}

/// Keeps the calling thread on one processor.
fn pin(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(None, &only)?)
}

/// Waits for a core to end.
///
/// # Errors
/// What it returned, or that its thread panicked.
pub(crate) fn join(running: Running) -> io::Result<()> {
    match running {
        Running::Executor(executor) => executor.join().map_err(io_error)?,
        // A panic ends the process before this is seen.
        Running::Thread(thread) => thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("its thread panicked"))),
    }
}

fn io_error<T>(error: GlommioError<T>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(..)) => {
            rustix::io::Errno::NOMEM.into()
        }
        GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::other(other.to_string()),
    }
}

/// Lets sleeps of the calling thread end within a microsecond of their time; usually it is 50.
pub(crate) fn sleep_exactly() {
    match rustix::thread::set_current_timer_slack(NonZero::new(1000)) {
        // If that fails flushes are put off for longer.
        Ok(()) | Err(_) => {}
    }
}
