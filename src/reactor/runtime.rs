//! All that Flux uses of glommio, under our own names. No other file of the server names it.
//!
//! What glommio gives is the executor of each core, on a thread that is pinned to it, and helper threads for what blocks.
//! Sockets do not go through it: it polls each of them with a request of its own and a `recv` after it, which is half the
//! speed of one `epoll_wait` for all of them at low concurrency. Nor does a core sleep in it: two of its rings are armed and
//! disarmed for each sleep, and a `membarrier` interrupts every other core (6 % of the server's time with two shards). So a
//! core sleeps in its epoll, and whatever it waits for wakes it through a descriptor there.

use glommio::{GlommioError, LocalExecutorBuilder, Placement, PoolPlacement, ReactorErrorKind};
use rustix::thread::CpuSet;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::num::NonZero;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::OnceLock;
use tokio::sync::oneshot;

/// Memory that an executor registers with `io_uring`, bytes. Small: nothing but its own notes goes through it, and the
/// default of 10 MiB runs into small limits on locked memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Entries of each `io_uring`.
const RING_DEPTH: usize = 64;

/// Threads for what blocks, for each core: one prepares segments, which writes wait for in the end; the others may be
/// busy for long with a checkpoint, an index, old files of this and earlier generations, events and earlier states.
const HELPER_THREADS: usize = 8;

/// A running executor; joining it waits for its end.
pub(crate) type Executor = glommio::ExecutorJoinHandle<io::Result<()>>;

/// Starts a thread with an executor, pinned to `cpu`, that runs what `start` makes.
///
/// # Errors
/// Where the thread, its rings or the pinning fail.
pub(crate) fn spawn<F>(
    name: &str,
    cpu: usize,
    start: impl FnOnce() -> F + Send + 'static,
) -> io::Result<Executor>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(HELPER_THREADS))
        .spawn(start)
        .map_err(io_error)
}

/// Waits for an executor to end.
///
/// # Errors
/// What its future returned, or that its thread panicked.
pub(crate) fn join(executor: Executor) -> io::Result<()> {
    executor.join().map_err(io_error)?
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

/// The processors that helper threads may run on. Set once, at start.
static HELPER_CPUS: OnceLock<CpuSet> = OnceLock::new();

/// Says which processors helper threads may run on.
pub(crate) fn set_helper_cpus(cpus: CpuSet) {
    HELPER_CPUS.get_or_init(|| cpus);
}

/// Lets the calling thread, which was born on a core, run elsewhere too: to work there stalls the core.
pub(crate) fn unpin() {
    let moved = HELPER_CPUS
        .get()
        .map(|cpus| rustix::thread::sched_setaffinity(None, cpus));
    match moved {
        // Where that fails the work is only slower.
        Some(Ok(()) | Err(_)) | None => {}
    }
}

/// Lets sleeps of the calling thread end within a microsecond of their time; usually it is 50.
pub(crate) fn sleep_exactly() {
    match rustix::thread::set_current_timer_slack(NonZero::new(1000)) {
        // Where that fails flushes are put off for longer.
        Ok(()) | Err(_) => {}
    }
}

thread_local! {
    /// A job of this core waits to be handed over.
    static JOB_WAITS: Cell<bool> = const { Cell::new(false) };
}

/// True once where a job was made since this was last asked: a helper thread gets it with the next [`yield_now`].
pub(crate) fn take_job_waits() -> bool {
    JOB_WAITS.take()
}

/// Runs what blocks on one of the core's helper threads, once the core has let the executor work
/// ([`take_job_waits`]). The future may be polled with any waker, any number of times; it panics where the job did.
pub(crate) fn spawn_blocking<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> Pin<Box<dyn Future<Output = R>>> {
    let (sender, receiver) = oneshot::channel();
    // glommio's own future keeps a waker for each poll, and panics at the 32,768th of a task.
    let handed_over = glommio::executor().spawn_blocking(move || {
        unpin();
        let result = std::panic::catch_unwind(AssertUnwindSafe(job));
        match sender.send(result) {
            // Nobody waits for it any more.
            Ok(()) | Err(_) => {}
        }
    });
    glommio::spawn_local(handed_over).detach();
    JOB_WAITS.set(true);
    Box::pin(async move {
        match receiver.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            // The executor is gone, and with it whoever could wait.
            Err(_) => std::future::pending().await,
        }
    })
}

/// How much the threads of long work give way to the reactors: at this they have a tenth of a processor that a reactor
/// keeps busy, and a reactor that wakes up takes it from them at once.
const BACKGROUND_NICE: i32 = 10;

/// Makes the calling thread give way to the reactors.
pub(crate) fn lower_priority() {
    match rustix::process::setpriority_process(None, BACKGROUND_NICE) {
        // Of this thread alone, on Linux. Where it fails the reactors notice the work more.
        Ok(()) | Err(_) => {}
    }
}

/// Runs what may take long, as [`spawn_blocking`] does, but on a thread of its own that gives way to the reactors. A
/// helper thread could not take its priority back for the next job.
pub(crate) fn spawn_background<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> Pin<Box<dyn Future<Output = R>>> {
    spawn_blocking(move || {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                lower_priority();
                job()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    })
}

/// Lets the executor hand jobs to helper threads, and take them back.
pub(crate) async fn yield_now() {
    glommio::executor().yield_task_queue_now().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::task::Poll;

    #[test]
    fn a_job_may_be_polled_any_number_of_times() {
        let executor = spawn("polls", 0, || async {
            let (end, ended) = mpsc::channel();
            let mut job = spawn_blocking(move || ended.recv());
            yield_now().await;
            for _ in 0..100_000 {
                let polled =
                    std::future::poll_fn(|context| Poll::Ready(job.as_mut().poll(context)));
                assert!(polled.await.is_pending());
            }
            end.send("done").unwrap();
            assert_eq!(job.await, Ok("done"));
            Ok(())
        });
        join(executor.unwrap()).unwrap();
    }
}
