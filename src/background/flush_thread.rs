//! The thread that makes a shard's log durable: one `fdatasync` after the other, for one shard.
//!
//! A thread of our own and not `io_uring`, which has no other way for `fdatasync` than to hand it to a thread of its own
//! either: the flush takes as long, and the core can sleep where its sockets are, see [`crate::reactor::runtime`].

use crate::reactor::runtime;
use flux_storage::FlushSegment;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Pause between two attempts to open a file.
const OPEN_RETRY: Duration = Duration::from_millis(10);

/// See the module. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct FlushThread {
    requests: mpsc::Sender<Request>,
}

/// The result of a flush, when it has returned.
pub(crate) type Flushed = oneshot::Receiver<io::Result<()>>;

#[derive(Debug)]
struct Request {
    segments: Vec<FlushSegment>,
    done: oneshot::Sender<io::Result<()>>,
}

impl FlushThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub(crate) fn start(core: u16) -> io::Result<Self> {
        let (requests, received) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name(format!("flux-flush-{core}"))
            .spawn(move || {
                runtime::unpin();
                let mut files = Files::default();
                while let Ok(Request { segments, done }) = received.recv() {
                    match done.send(files.flush(&segments)) {
                        // The process is ending.
                        Ok(()) | Err(_) => {}
                    }
                }
            })?;
        Ok(Self { requests })
    }

    /// Flushes these segments, in order; what was appended to them before is durable when it has returned without an
    /// error.
    pub(crate) fn flush(&self, segments: Vec<FlushSegment>) -> Flushed {
        let (done, flushed) = oneshot::channel();
        match self.requests.send(Request { segments, done }) {
            // Where the thread has panicked the sender is dropped here, which the receiver tells of.
            Ok(()) | Err(_) => {}
        }
        flushed
    }
}

/// The open files of segments that may still be flushed, by ordinal.
#[derive(Debug, Default)]
struct Files(BTreeMap<u64, File>);

impl Files {
    /// Flushes the segments in order, and keeps the file of the last one open: those of older segments are sealed by now,
    /// and with this flush they need no other.
    fn flush(&mut self, segments: &[FlushSegment]) -> io::Result<()> {
        for segment in segments {
            let file = match self.0.entry(segment.ordinal) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(open(&segment.path)?)
                }
            };
            file.sync_data()?;
        }
        if let Some(last) = segments.last() {
            self.0.retain(|ordinal, _| *ordinal >= last.ordinal);
        }
        Ok(())
    }
}

/// Opens a segment's file. Being out of descriptors or memory passes: what waits for the flush waits a little longer.
#[expect(
    clippy::disallowed_methods,
    reason = "this thread is not a core's: nothing else waits for it"
)]
fn open(path: &Path) -> io::Result<File> {
    loop {
        // For reading: a file system that has become read-only lets what was written before be flushed.
        match File::open(path) {
            Err(error) if is_passing(&error) => std::thread::sleep(OPEN_RETRY),
            opened => return opened,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}
