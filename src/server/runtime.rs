//! All that Flux uses of glommio, under our own names. No other file of the server names it.
//!
//! Sockets do not go through glommio: it polls each of them with a request of its own and a `recv` after it, which
//! is half the speed of one `epoll_wait` for all of them at low concurrency. What glommio gives is the executor of
//! each core, and `io_uring` under it: `fdatasync` without a thread, a parked core that one descriptor wakes, and
//! helper threads for what blocks.

use futures_lite::AsyncRead;
use glommio::io::BufferedFile;
use glommio::{GlommioError, LocalExecutorBuilder, Placement, PoolPlacement, ReactorErrorKind};
use rustix::thread::CpuSet;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Memory that an executor registers with `io_uring`, bytes. Small: only `fdatasync` and polls go through it, and
/// the default of 10 MiB runs into small limits on locked memory.
const IO_MEMORY_BYTES: usize = 64 * 1024;
/// Entries of each `io_uring`. A core has one flush, one poll and a few timers in flight.
const RING_DEPTH: usize = 64;

/// Threads for what blocks, for each core: one prepares segments, which writes wait for in the end; the others may be
/// busy for long with a checkpoint, an index, old files of this and earlier generations, events and earlier states.
const HELPER_THREADS: usize = 8;

/// A running executor; joining it waits for its end.
pub(super) type Executor = glommio::ExecutorJoinHandle<io::Result<()>>;

/// Starts a thread with an executor, pinned to `cpu`, that runs what `start` makes.
///
/// # Errors
/// Where the thread, its rings or the pinning fail.
pub(super) fn spawn<F>(
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
pub(super) fn join(executor: Executor) -> io::Result<()> {
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

/// A file that is made durable through `io_uring`.
#[derive(Debug)]
pub(super) struct FlushFile {
    file: BufferedFile,
}

impl FlushFile {
    /// Opens an existing file.
    ///
    /// # Errors
    /// Of opening it.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: BufferedFile::open(path).await.map_err(io_error)?,
        })
    }

    /// `fdatasync`.
    ///
    /// # Errors
    /// Of the flush: what was written since the last good one may be lost.
    pub(super) async fn flush(&self) -> io::Result<()> {
        self.file.fdatasync().await.map_err(io_error)
    }
}

/// The processors that helper threads may run on. Set once, at start.
static HELPER_CPUS: OnceLock<CpuSet> = OnceLock::new();

/// Says which processors helper threads may run on.
pub(super) fn set_helper_cpus(cpus: CpuSet) {
    HELPER_CPUS.get_or_init(|| cpus);
}

/// Runs what blocks on one of the core's helper threads.
pub(super) fn spawn_blocking<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> Pin<Box<dyn Future<Output = R>>> {
    when_woken(glommio::executor().spawn_blocking(move || {
        // The thread was born on the reactor's core; to work there would stall it.
        let moved = HELPER_CPUS
            .get()
            .map(|cpus| rustix::thread::sched_setaffinity(None, cpus));
        match moved {
            // Where that fails the work is only slower.
            Some(Ok(()) | Err(_)) | None => job(),
        }
    }))
}

/// How much the threads of long work give way to the reactors: at this they have a tenth of a processor that a reactor
/// keeps busy, and a reactor that wakes up takes it from them at once.
const BACKGROUND_NICE: i32 = 10;

/// Makes the calling thread give way to the reactors.
pub(super) fn give_way() {
    match rustix::process::setpriority_process(None, BACKGROUND_NICE) {
        // Of this thread alone, on Linux. Where it fails the reactors notice the work more.
        Ok(()) | Err(_) => {}
    }
}

/// Runs what may take long, as [`spawn_blocking`] does, but on a thread of its own that gives way to the reactors. A
/// helper thread could not take its priority back for the next job.
pub(super) fn spawn_background<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> Pin<Box<dyn Future<Output = R>>> {
    spawn_blocking(move || {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                give_way();
                job()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    })
}

/// What [`when_woken`] gives glommio in the place of the task's waker.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: OnceLock<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

/// A future that may be polled any number of times, by one task: only where it was woken is `future` itself polled.
///
/// glommio keeps a waker for each poll of a request in flight, and panics at the 32,768th of a task. A core polls what it
/// waits for in each turn, so a checkpoint of some seconds would end it.
pub(super) fn when_woken<T>(
    future: impl Future<Output = T> + 'static,
) -> Pin<Box<dyn Future<Output = T>>> {
    let bell = Arc::new(Bell {
        rung: AtomicBool::new(true),
        task: OnceLock::new(),
    });
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = Box::pin(future);
    Box::pin(std::future::poll_fn(move |context| {
        if !bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        bell.task.get_or_init(|| context.waker().clone());
        future.as_mut().poll(&mut Context::from_waker(&waker))
    }))
}

/// Waits, and lets the executor do other things.
pub(super) async fn pause(milliseconds: u64) {
    glommio::timer::sleep(Duration::from_millis(milliseconds)).await;
}

/// Lets the executor look at its rings once.
pub(super) async fn yield_now() {
    glommio::executor().yield_task_queue_now().await;
}

/// A wait for a descriptor to become readable, through `io_uring`.
///
/// glommio polls nothing but sockets of its own, so the descriptor (an epoll instance) is dressed as one: a
/// `TcpStream` begins to poll for reading as soon as it exists, and when the poll returns, the `recv` that follows
/// fails with `ENOTSOCK`, which is the answer. One `dup` and one `close` per wait, and a core waits only when it
/// has nothing to do.
pub(super) struct Readable {
    stream: glommio::net::TcpStream,
}

impl Readable {
    /// Begins to wait for `descriptor`.
    ///
    /// # Errors
    /// Where the process has no descriptor left.
    pub(super) fn new(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let dressed = std::net::TcpStream::from(descriptor.try_clone_to_owned()?);
        Ok(Self {
            stream: socket2::Socket::from(dressed).into(),
        })
    }
}

impl Future for Readable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut nothing = [0; 1];
        Pin::new(&mut self.stream)
            .poll_read(context, &mut nothing)
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_job_may_be_polled_any_number_of_times() {
        let executor = spawn("polls", 0, || async {
            let (end, ended) = mpsc::channel();
            let mut job = spawn_blocking(move || ended.recv());
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
