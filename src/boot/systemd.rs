//! What systemd is told of the server: that it is ready, how far it has come, and that its cores
//! turn.
//!
//! ```text
//! STATUS=, EXTEND_TIMEOUT_USEC=     READY=1, WATCHDOG=1 …          STOPPING=1
//! start ─── logs are replayed ───▶ every shard can be asked ─── a signal ───▶ end
//! ```
//!
//! The messages are those of `sd_notify(3)`. Without `NOTIFY_SOCKET` nothing of this happens.
//!
//! The time of a start is extended only while the start gets on, so a start that hangs is ended. It
//! gets on while logs are replayed, while the ids of their last events are read, and while entities
//! are deleted that came to their end meanwhile.
//! `WATCHDOG=1` is sent only if every core has turned since it was sent last. Our own watchdog
//! (`reactor/watchdog.rs`) names the core that hangs and ends the process; systemd's ends a process
//! in which no thread runs any more.

#![expect(
    clippy::disallowed_types,
    reason = "the threads of boot tell systemd in one order; no core takes the lock"
)]

use crate::limits::{SYSTEMD_EXTENSION_SECONDS, SYSTEMD_WATCHDOG_SHARE};
use crate::reactor::watchdog::Heartbeat;
use crate::report::{self, LogEvent};
use crate::shard::{Counters, RecoveryProgress};
use sd_notify::NotifyState;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks while the server starts: about what `systemctl start` waits too long.
const INTERVAL_STARTING: Duration = Duration::from_millis(50);
/// Between two looks afterwards, if systemd's watchdog wants none earlier.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks while the server starts from one message about its progress to the next.
const LOOKS_PER_MESSAGE: u32 = 20;

/// The connection to systemd, for as long as the process lives.
#[derive(Debug, Clone)]
pub(super) struct Systemd(Option<Arc<Told>>);

/// What systemd knows already.
#[derive(Debug, Default)]
struct Told {
    is_ready: AtomicBool,
    /// A message could not be sent, and the operator knows.
    has_failed: AtomicBool,
    /// `STOPPING=1` was sent. Held while anything is sent, so that nothing can follow it.
    is_stopping: Mutex<bool>,
}

impl Systemd {
    /// Looks whether the process was started by systemd, or by anything that does as it does.
    pub(super) fn find() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty());
        Self(is_there.then(Arc::default))
    }

    /// A server starts: tells of it until the result is dropped. `name` is what is said of the
    /// server once it is ready.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn tell_of(
        &self,
        counters: &Arc<Counters>,
        cores: &[Arc<Heartbeat>],
        name: String,
    ) -> io::Result<Telling> {
        let (stop, stopped) = channel();
        let mut telling = Telling {
            stop: Some(stop),
            thread: None,
        };
        if let Self(Some(told)) = self {
            let teller = Teller {
                told: Arc::clone(told),
                counters: Arc::clone(counters),
                cores: cores.to_vec(),
                name,
            };
            let thread = std::thread::Builder::new().name("systemd".to_owned());
            telling.thread = Some(thread.spawn(move || teller.run(&stopped))?);
        }
        Ok(telling)
    }

    /// The server ends because it was told to.
    pub(super) fn stopping(&self) {
        if let Self(Some(told)) = self {
            told.send_last(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
        }
    }

    /// Does what is to be done again while the server runs. systemd counts it as a reload, unless
    /// the server is not ready yet: the end of a reload would be taken for the end of the start.
    pub(super) fn reloading(&self, reload: impl FnOnce()) {
        let told = self.0.as_ref().filter(|told| told.is_ready.load(Relaxed));
        if let (Some(told), Ok(now)) = (told, NotifyState::monotonic_usec_now()) {
            told.send(&[NotifyState::Reloading, now]);
        }
        reload();
        if let Some(told) = told {
            told.send(&[NotifyState::Ready]);
        }
    }
}

impl Told {
    /// Sends nothing if the server stops: systemd would take what follows for a start or a reload.
    fn send(&self, message: &[NotifyState<'_>]) {
        let is_stopping = self.is_stopping.lock();
        let is_stopping = is_stopping.unwrap_or_else(PoisonError::into_inner);
        if !*is_stopping {
            self.notify(message);
        }
    }

    fn send_last(&self, message: &[NotifyState<'_>]) {
        let is_stopping = self.is_stopping.lock();
        let mut is_stopping = is_stopping.unwrap_or_else(PoisonError::into_inner);
        *is_stopping = true;
        self.notify(message);
    }

    fn notify(&self, message: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(message)
            && !self.has_failed.swap(true, Relaxed)
        {
            report::say(
                LogEvent::SystemdNotTold,
                &format!("systemd can't be told how the server is (NOTIFY_SOCKET): {error}"),
            );
        }
    }
}

/// Tells systemd of one server; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Telling {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Telling {
    fn drop(&mut self) {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            // It has no state that anybody needs.
            Some(Ok(()) | Err(_)) | None => {}
        }
    }
}

/// What the thread works with.
struct Teller {
    told: Arc<Told>,
    counters: Arc<Counters>,
    cores: Vec<Arc<Heartbeat>>,
    name: String,
}

impl Teller {
    fn run(self, stopped: &Receiver<()>) {
        let watchdog = sd_notify::watchdog_enabled();
        let interval = watchdog.map_or(INTERVAL, |limit| {
            (limit / SYSTEMD_WATCHDOG_SHARE).min(INTERVAL)
        });
        let mut news = News::new(self.cores.len(), watchdog.is_some());
        let mut wait = INTERVAL_STARTING.min(interval);
        while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let turns = self.cores.iter().map(|core| core.turns());
            let look = Look {
                is_ready: self.counters.is_ready(),
                progress: self.counters.recovery(),
                done_after_replay: self.counters.done_after_replay(),
                turns: turns.collect(),
            };
            for message in news.of(look) {
                self.tell(&message);
                if message == Message::Ready {
                    wait = interval;
                }
            }
        }
    }

    fn tell(&self, message: &Message) {
        match message {
            Message::Ready => {
                let ready = [NotifyState::Ready, NotifyState::Status(&self.name)];
                self.told.send(&ready);
                self.told.is_ready.store(true, Relaxed);
            }
            Message::Progress(progress) => {
                let status = format!(
                    "replaying the logs: {} events, {} of {} MiB",
                    progress.events,
                    progress.bytes >> 20,
                    progress.bytes_total >> 20
                );
                let extension = SYSTEMD_EXTENSION_SECONDS * 1_000_000;
                self.told.send(&[
                    NotifyState::ExtendTimeoutUsec(extension),
                    NotifyState::Status(&status),
                ]);
            }
            Message::CoresTurn => {
                // Before the server is ready systemd does not watch, and need not be told.
                if self.told.is_ready.load(Relaxed) {
                    self.told.send(&[NotifyState::Watchdog]);
                }
            }
        }
    }
}

/// What is seen of the server at once.
struct Look {
    is_ready: bool,
    progress: RecoveryProgress,
    /// A number that rises while a start gets on that has replayed all.
    done_after_replay: u64,
    /// Of each core.
    turns: Vec<u64>,
}

/// Something that systemd should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// The replay has come so far, and the start got on.
    Progress(RecoveryProgress),
    /// Every shard can be asked.
    Ready,
    /// Every core has turned since this was said last.
    CoresTurn,
}

/// Which looks are news.
struct News {
    is_ready: bool,
    is_watched: bool,
    looks: u32,
    /// When [`Message::Progress`] was said last.
    progress: (RecoveryProgress, u64),
    /// Of each core, when [`Message::CoresTurn`] was said last.
    turns: Vec<u64>,
}

impl News {
    fn new(cores: usize, is_watched: bool) -> Self {
        Self {
            is_ready: false,
            is_watched,
            looks: 0,
            progress: (RecoveryProgress::default(), 0),
            turns: vec![0; cores],
        }
    }

    fn of(&mut self, look: Look) -> impl Iterator<Item = Message> + use<> {
        [self.of_start(&look), self.of_turns(look.turns)]
            .into_iter()
            .flatten()
    }

    fn of_start(&mut self, look: &Look) -> Option<Message> {
        if self.is_ready {
            return None;
        }
        if look.is_ready {
            self.is_ready = true;
            return Some(Message::Ready);
        }
        let is_due = self.looks.is_multiple_of(LOOKS_PER_MESSAGE);
        let progress = (look.progress, look.done_after_replay);
        if is_due && progress == self.progress {
            // The next look at which the start has got on is news.
            return None;
        }
        self.looks = self.looks.wrapping_add(1);
        is_due.then(|| {
            self.progress = progress;
            Message::Progress(look.progress)
        })
    }

    fn of_turns(&mut self, turns: Vec<u64>) -> Option<Message> {
        let every_core = turns.iter().zip(&self.turns).all(|(now, then)| now != then);
        (self.is_watched && every_core).then(|| {
            self.turns = turns;
            Message::CoresTurn
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(is_ready: bool, bytes: u64, turns: &[u64]) -> Look {
        Look {
            is_ready,
            progress: RecoveryProgress {
                events: bytes / 100,
                bytes,
                bytes_total: 1 << 30,
            },
            done_after_replay: 0,
            turns: turns.to_vec(),
        }
    }

    fn told(news: &mut News, look: Look) -> Vec<Message> {
        news.of(look).collect()
    }

    #[test]
    fn ready_is_said_once_and_not_before_every_shard_is() {
        let mut news = News::new(1, false);
        assert!(!told(&mut news, look(false, 1000, &[1])).contains(&Message::Ready));
        assert_eq!(told(&mut news, look(true, 2000, &[2])), [Message::Ready]);
        assert_eq!(told(&mut news, look(true, 2000, &[3])), []);
    }

    #[test]
    fn the_start_is_extended_while_the_replay_gets_on_and_no_longer() {
        let mut news = News::new(1, false);
        let mut extensions = 0;
        for number in 1..=LOOKS_PER_MESSAGE * 3 {
            extensions += told(&mut news, look(false, u64::from(number), &[1])).len();
        }
        assert_eq!(extensions, 3);
        let stuck = || look(false, u64::from(LOOKS_PER_MESSAGE * 3), &[1]);
        let said = (0..LOOKS_PER_MESSAGE * 3).map(|_| told(&mut news, stuck()).len());
        assert!(said.sum::<usize>() <= 1, "the replay does not get on");
    }

    #[test]
    fn the_start_is_extended_while_it_is_busy_after_the_replay() {
        let mut news = News::new(1, false);
        let mut extensions = 0;
        for number in 1..=LOOKS_PER_MESSAGE * 3 {
            let mut busy = look(false, 1 << 30, &[1]);
            busy.done_after_replay = u64::from(number);
            extensions += told(&mut news, busy).len();
        }
        assert_eq!(extensions, 3);
    }

    #[test]
    fn a_start_that_replays_nothing_extends_nothing() {
        let mut news = News::new(1, false);
        for _ in 0..LOOKS_PER_MESSAGE {
            let mut idle = look(false, 0, &[1]);
            idle.progress = RecoveryProgress::default();
            assert_eq!(told(&mut news, idle), []);
        }
    }

    #[test]
    fn the_watchdog_hears_nothing_while_one_core_does_not_turn() {
        let mut news = News::new(2, true);
        let mut turns = |turns: [u64; 2]| news.of_turns(turns.to_vec());
        assert_eq!(turns([1, 1]), Some(Message::CoresTurn));
        assert_eq!(turns([2, 1]), None);
        assert_eq!(turns([3, 1]), None);
        assert_eq!(turns([3, 2]), Some(Message::CoresTurn));
        assert_eq!(turns([3, 2]), None);
    }

    #[test]
    fn without_a_watchdog_turns_are_no_news() {
        let mut news = News::new(1, false);
        assert_eq!(news.of_turns(vec![1]), None);
    }
}
