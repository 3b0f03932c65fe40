//! The thread that writes the access log. It alone waits for the disk, or for who reads stderr.
//!
//! A file that was moved or removed (logrotate) is made anew within a second of the next line. What
//! can't be written is dropped, and a line says how many were.

use super::access::{AccessLog, AccessTarget, Batch, Style};
use super::event::LogEvent;
use super::line::{LogFormat, Value};
use super::{IS_JOURNAL, IS_JSON, say, say_with, stderr, uptime_ms};
use crate::limits::{ACCESS_BATCHES_MAX, ACCESS_END_MS, ACCESS_REPORT_SECONDS, LOG_PIECE_BYTES};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The running writer. Dropped, it writes what it has, for a bounded time, and ends.
#[derive(Debug)]
pub struct AccessWriter {
    log: AccessLog,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl AccessWriter {
    /// Opens the log and starts the thread; `None` if there is to be no log.
    ///
    /// # Errors
    /// If the file can't be opened, or there is no thread left.
    pub fn start(target: &AccessTarget) -> io::Result<Option<Self>> {
        let output = match target {
            AccessTarget::Off => return Ok(None),
            AccessTarget::Stderr => Output::Stderr,
            AccessTarget::File(path) => Output::File(LogFile::open(path.clone())?),
        };
        let (sender, batches) = sync_channel(ACCESS_BATCHES_MAX);
        let log = AccessLog {
            batches: sender,
            dropped: Arc::new(AtomicU64::new(0)),
            style: Style {
                format: if IS_JSON.load(Relaxed) {
                    LogFormat::Json
                } else {
                    LogFormat::Text
                },
                is_stderr: matches!(output, Output::Stderr),
                is_journal: IS_JOURNAL.load(Relaxed),
            },
        };
        let is_ending = Arc::new(AtomicBool::new(false));
        let writing = Writing {
            output,
            dropped: Arc::clone(&log.dropped),
            is_ending: Arc::clone(&is_ending),
            told_ms: 0,
        };
        let thread = std::thread::Builder::new().name("flux-access".to_owned());
        let thread = Some(thread.spawn(move || writing.run(&batches))?);
        Ok(Some(Self {
            log,
            is_ending,
            thread,
        }))
    }

    /// The log, for a core.
    pub fn log(&self) -> AccessLog {
        self.log.clone()
    }
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        self.is_ending.store(true, Relaxed);
        // Wakes it; if there is no room, it is awake.
        match self.log.batches.try_send(Batch::default()) {
            Ok(()) | Err(_) => {}
        }
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            // The process has ended by then.
            drop(panic);
        }
    }
}

#[derive(Debug)]
enum Output {
    Stderr,
    File(LogFile),
}

/// What the thread works with.
#[derive(Debug)]
struct Writing {
    output: Output,
    dropped: Arc<AtomicU64>,
    is_ending: Arc<AtomicBool>,
    /// When it was last told that lines are lost.
    told_ms: u64,
}

impl Writing {
    fn run(mut self, batches: &Receiver<Batch>) {
        let mut end_ms = None;
        loop {
            if self.is_ending.load(Relaxed) && end_ms.is_none() {
                end_ms = Some(uptime_ms() + ACCESS_END_MS);
            }
            let batch = match end_ms {
                None => batches.recv_timeout(Duration::from_secs(ACCESS_REPORT_SECONDS)),
                Some(_) => batches.try_recv().or(Err(RecvTimeoutError::Disconnected)),
            };
            match batch {
                Ok(batch) if end_ms.is_some_and(|end_ms| uptime_ms() >= end_ms) => {
                    self.dropped.fetch_add(batch.count, Relaxed);
                }
                Ok(batch) => self.write(&batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if uptime_ms().saturating_sub(self.told_ms) >= ACCESS_REPORT_SECONDS * 1000 {
                self.tell_dropped();
            }
        }
        self.tell_dropped();
    }

    fn tell_dropped(&mut self) {
        let count = self.dropped.swap(0, Relaxed);
        if count > 0 {
            self.told_ms = uptime_ms();
            say_with(
                LogEvent::AccessLinesLost,
                &[("count", Value::Number(count))],
                &format!(
                    "{count} lines of the access log were lost, which could not be written in time"
                ),
            );
        }
    }

    fn write(&mut self, batch: &Batch) {
        let lost = match &mut self.output {
            Output::Stderr => write_to_stderr(&batch.lines),
            Output::File(file) => {
                if file.write(batch.lines.as_bytes(), uptime_ms()) {
                    0
                } else {
                    batch.count
                }
            }
        };
        self.dropped.fetch_add(lost, Relaxed);
    }
}

/// Writes whole lines, as many at once as a pipe takes. Returns how many were not written.
fn write_to_stderr(lines: &str) -> u64 {
    let mut rest = lines;
    while !rest.is_empty() {
        let piece = rest.as_bytes().get(..LOG_PIECE_BYTES);
        let piece = piece.unwrap_or(rest.as_bytes());
        let end = memchr::memrchr(b'\n', piece);
        // One line alone may be longer than a piece.
        let end = end
            .or_else(|| rest.find('\n'))
            .map_or(rest.len(), |end| end + 1);
        let (piece, behind) = rest.split_at(end);
        if !stderr::wait_long() || !stderr::write(piece.as_bytes()) {
            return rest.matches('\n').count() as u64;
        }
        rest = behind;
    }
    0
}

/// A file that grows at its end.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    /// When it was last looked whether the path still names it.
    looked_ms: u64,
    /// The last write failed.
    has_failed: bool,
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            file: open(&path)?,
            path,
            looked_ms: uptime_ms(),
            has_failed: false,
        })
    }

    /// False if not all was written.
    fn write(&mut self, lines: &[u8], now_ms: u64) -> bool {
        let written = self.look(now_ms).and_then(|()| {
            if self.has_failed {
                // It may have ended within a line.
                self.file.write_all(b"\n")?;
            }
            self.file.write_all(lines)
        });
        if let Err(error) = &written
            && !self.has_failed
        {
            say(
                LogEvent::AccessLogFailed,
                &format!(
                    "can't write the access log {}: {error}",
                    self.path.display()
                ),
            );
        }
        self.has_failed = written.is_err();
        !self.has_failed
    }

    /// Opens the path again if it names another file by now, or none.
    fn look(&mut self, now_ms: u64) -> io::Result<()> {
        if now_ms.saturating_sub(self.looked_ms) < 1000 {
            return Ok(());
        }
        self.looked_ms = now_ms;
        let ours = self.file.metadata()?;
        let is_ours = std::fs::metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        if !is_ours {
            self.file = open(&self.path)?;
        }
        Ok(())
    }
}

/// For the owner alone: it says who asked for what. A pipe without a reader is an error, and one
/// that is full too.
fn open(path: &PathBuf) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_is_made_anew_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("access"), dir.path().join("access.1"));
        let mut file = LogFile::open(path.clone()).unwrap();
        let now_ms = file.looked_ms;
        assert!(file.write(b"a\n", now_ms));
        std::fs::rename(&path, &moved).unwrap();
        assert!(file.write(b"b\n", now_ms), "it is looked at once a second");
        assert!(file.write(b"c\n", now_ms + 1000));
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "a\nb\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "c\n");
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_can_not_be_written_is_counted() {
        // Writing to it always finds the disk full.
        let file = LogFile::open("/dev/full".into()).unwrap();
        let dropped = Arc::new(AtomicU64::new(0));
        let mut writing = Writing {
            output: Output::File(file),
            dropped: Arc::clone(&dropped),
            is_ending: Arc::default(),
            told_ms: 0,
        };
        let lines = "a\nb\n".to_owned();
        writing.write(&Batch { lines, count: 2 });
        assert_eq!(dropped.load(Relaxed), 2);
    }
}
