//! One core: its connections, its shard, its way to the others, and the loop that serves them all.
//!
//! A turn takes what is ready (bytes, messages, a flush that returned), works on all of it, issues one flush for
//! what was appended, and then writes to each connection that is owed something. Between turns the core sleeps in its
//! epoll: other cores, the flush and the helper threads wake it there too. Nothing in a turn waits.

use super::closed_loop::ClosedLoopDetector;
use super::config::CoreConfig;
use super::connection::{Closing, Connection};
use super::delivery::Delivery;
use super::poller::{PollTimeout, Poller, Ready, Token};
use super::prefetch::Prefetcher;
use super::runtime;
use super::slots::Slots;
use super::spin::SpinBeforePark;
use crate::background::Turn;
use crate::background::checkpoints::{Checkpointer, Finding};
use crate::background::control::{Controller, Polled};
use crate::background::directory::Directory;
use crate::background::flush::{self, Flusher};
use crate::background::history::HistoryWorker;
use crate::background::retention::{Covered, Retention};
use crate::clock::{self, Monotonic};
use crate::front::http::AnswerWriter;
use crate::limits;
use crate::log::{LocalLog, Log};
use crate::model::Durability;
use crate::report;
use crate::service::{Context, control};
use crate::shard::{Inbox, LocalShard, Message, Origin, Reply, Shard};
use flux_storage::{CheckpointDir, LayerError, Quarantined, Sequence};
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{self, Poll};

/// See the module.
pub(crate) struct Core {
    pub(crate) context: Context<LocalLog>,
    pub(crate) writer: AnswerWriter,
    pub(crate) config: Arc<CoreConfig>,
    clock: Monotonic,
    /// The monotonic clock, milliseconds, read once per turn.
    pub(crate) now_ms: u64,
    /// The same in microseconds.
    pub(crate) now_micros: u64,
    pub(crate) inbox: Inbox,
    pub(crate) poller: Poller,
    pub(crate) timer: OwnedFd,
    pub(crate) listener: Option<TcpListener>,
    /// The listener is not polled: the process was out of descriptors.
    pub(crate) listener_paused: bool,
    pub(crate) connections: Slots<Connection>,
    pub(crate) flusher: Flusher,
    spin: SpinBeforePark,
    pub(crate) prefetcher: Prefetcher,
    pub(crate) closed_loop: ClosedLoopDetector,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) retention: Retention,
    pub(crate) history_worker: HistoryWorker,
    pub(crate) controller: Controller,
    pub(crate) directory: Directory,
    /// Connections that may be owed bytes.
    pub(crate) to_write: Vec<u32>,
    /// Connections that have more to read than one turn took.
    pub(crate) to_read: Vec<u32>,
    /// Connections with answers that wait for a flush.
    pub(crate) gated: Vec<u32>,
    pub(crate) ready: Vec<Ready>,
    /// Reused: messages at hand.
    pub(crate) messages: Vec<Message>,
    /// Reused: replies at hand.
    pub(crate) replies: Vec<(Origin, Reply)>,
    pub(crate) hits: Vec<u32>,
    pub(crate) received: Box<[u8]>,
    pub(crate) ticks: u64,
    pub(crate) metrics: MetricsClock,
    /// When the core was told to stop, monotonic milliseconds.
    pub(crate) stopping_ms: Option<u64>,
}

/// Gives a list that was worked off back its memory; what has joined `list` meanwhile stays in it.
pub(crate) fn reuse(list: &mut Vec<u32>, mut done: Vec<u32>) {
    done.clear();
    done.append(list);
    *list = done;
}

/// When metrics were last pushed, and the events that there were then.
#[derive(Debug, Default)]
pub(crate) struct MetricsClock {
    pub(crate) pushed_ms: u64,
    pub(crate) events: u64,
}

/// What a core is made of.
pub(crate) struct CoreParts {
    /// What its shard and its way to the others offer to calls.
    pub(crate) context: Context<LocalLog>,
    /// The settings.
    pub(crate) config: Arc<CoreConfig>,
    /// What the other cores send it.
    pub(crate) inbox: Inbox,
    /// Its listening socket, non-blocking.
    pub(crate) listener: TcpListener,
    /// What looks after its shard's old files.
    pub(crate) retention: Retention,
    /// What reads the past.
    pub(crate) history_worker: HistoryWorker,
    /// What carries out control calls.
    pub(crate) controller: Controller,
}

/// What background work is given of the core.
fn turn<'c>(
    context: &'c mut Context<LocalLog>,
    config: &'c CoreConfig,
    (now_ms, now_micros): (u64, u64),
) -> Turn<'c> {
    let router = &mut context.router;
    Turn {
        core: router.core,
        shards: router.shards,
        shard: &mut router.shard,
        now: router.now,
        now_ms,
        now_micros,
        counters: &context.counters,
        config: &config.background,
    }
}

/// A shard as it comes from the thread that recovers it.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The shard.
    pub(crate) shard: LocalShard,
    /// Its checkpoints.
    pub(crate) checkpoints: CheckpointDir,
    /// The state that its log begins with.
    pub(crate) base: CheckpointDir,
    /// What the newest checkpoint covers.
    pub(crate) through: Sequence,
}

/// The shard of a core, as it comes from the thread that replays its log.
pub(crate) type Opening = Pin<Box<dyn Future<Output = io::Result<Opened>>>>;

impl Core {
    /// A core that is ready to run.
    ///
    /// # Errors
    /// Where the kernel gives no descriptors.
    #[expect(clippy::large_stack_frames, reason = "once for each core, at start")]
    pub(crate) fn new(parts: CoreParts) -> io::Result<Self> {
        let poller = Poller::new()?;
        let shards = parts.context.router.shards;
        let timer = super::sockets::timer(limits::TICK_MS)?;
        poller.add(&parts.listener, Token::Listener)?;
        poller.add(parts.inbox.wake_descriptor(), Token::Wake)?;
        poller.add(&timer, Token::Timer)?;
        let mut core = Self {
            writer: AnswerWriter::default(),
            config: parts.config,
            clock: Monotonic::start(),
            now_ms: 0,
            now_micros: 0,
            flusher: Flusher::start(parts.context.router.core)?,
            context: parts.context,
            inbox: parts.inbox,
            poller,
            timer,
            listener: Some(parts.listener),
            listener_paused: false,
            connections: Slots::default(),
            spin: SpinBeforePark::default(),
            prefetcher: Prefetcher::default(),
            closed_loop: ClosedLoopDetector::default(),
            checkpointer: Checkpointer::new(),
            retention: parts.retention,
            history_worker: parts.history_worker,
            controller: parts.controller,
            directory: Directory::new(shards),
            to_write: Vec::new(),
            to_read: Vec::new(),
            gated: Vec::new(),
            ready: Vec::new(),
            messages: Vec::new(),
            replies: Vec::new(),
            hits: Vec::new(),
            received: vec![0; limits::RECEIVE_BYTES].into(),
            ticks: 0,
            metrics: MetricsClock::default(),
            stopping_ms: None,
        };
        core.read_clocks();
        Ok(core)
    }

    /// Reads the clocks for this turn.
    fn read_clocks(&mut self) {
        let now = clock::now();
        self.now_micros = self.clock.micros();
        self.now_ms = self.now_micros / 1000;
        self.context.router.now = now;
        self.context.uptime_ms = self.now_ms;
        if let Some(shard) = &mut self.context.router.shard {
            shard.limiter_mut().advance(self.now_ms);
        }
        self.writer.set_time(now.as_micros() / 1_000_000);
    }

    /// Serves until the process is to stop, then flushes and closes the log.
    ///
    /// # Errors
    /// Where the log can't be opened or closed, or the kernel refuses what can't be done without.
    #[expect(clippy::large_stack_frames, reason = "once for each core")]
    pub(crate) async fn run(mut self, opening: Opening) -> io::Result<()> {
        let mut opening = Some(opening);
        let waker = self.inbox.waker();
        let mut context = task::Context::from_waker(&waker);
        runtime::sleep_exactly();
        let mut ticks = self.ticks;
        let mut busy = true;
        while !self.is_drained() {
            busy |= self.take_finished(&mut opening, &mut context)?;
            self.start_due();
            // A tick: helper threads have little to give back, and nobody waits for it.
            if runtime::take_job_waits() || self.ticks != ticks {
                ticks = self.ticks;
                runtime::yield_now().await;
            }
            busy |= self.send_all();
            let poll_timeout = if busy {
                self.flusher.note_work();
                PollTimeout::None
            } else {
                self.poll_timeout()
            };
            if poll_timeout == PollTimeout::None {
                self.wait(poll_timeout)?;
            } else {
                // What is finished from here on wakes the core.
                if !self.take_finished(&mut opening, &mut context)? {
                    self.wait(poll_timeout)?;
                    self.take_finished(&mut opening, &mut context)?;
                }
                self.inbox.wake_up();
                // Who was waiting for a flush is answered before anything else.
                self.send_all();
            }
            busy = self.turn();
            if busy {
                self.spin.found();
            }
        }
        self.history_worker.finish().await;
        self.controller.finish().await;
        self.context.router.sender.deliver();
        self.flusher
            .settle(&mut turn(
                &mut self.context,
                &self.config,
                (self.now_ms, self.now_micros),
            ))
            .await;
        let Some(shard) = &mut self.context.router.shard else {
            return Ok(());
        };
        if shard.is_refusing() || self.checkpointer.lacks_room() {
            self.retention.release_reserve();
        }
        if !shard.failed() && shard.log_mut().flush_blocking().is_ok() {
            self.checkpointer
                .finish(&mut turn(
                    &mut self.context,
                    &self.config,
                    (self.now_ms, self.now_micros),
                ))
                .await;
        }
        match self.context.router.shard.take() {
            None => Ok(()),
            Some(shard) => shard.into_log().close().map_err(io::Error::other),
        }
    }

    /// Issues what is due.
    fn start_due(&mut self) {
        self.write_out();
        let failed_now = self.flusher.start_due(&mut turn(
            &mut self.context,
            &self.config,
            (self.now_ms, self.now_micros),
        ));
        if failed_now {
            self.release();
        }
        self.checkpointer.start_due(&mut turn(
            &mut self.context,
            &self.config,
            (self.now_ms, self.now_micros),
        ));
        self.history_worker.start_due(&mut self.context.history);
        let Context {
            control_calls,
            tenants,
            router,
            ..
        } = &mut self.context;
        self.controller
            .start_due(control_calls, &tenants.registry, router.now);
        self.directory.start_due();
        let covered = Covered {
            through: self.checkpointer.through(),
            lacks_room: self.checkpointer.lacks_room(),
        };
        self.retention.start_due(
            &mut turn(
                &mut self.context,
                &self.config,
                (self.now_ms, self.now_micros),
            ),
            covered,
        );
    }

    /// In `async` durability what was appended is seen at once. So the kernel has it before anybody is told: a killed
    /// process does not lose what it acknowledged. In `sync` flushes write.
    pub(crate) fn write_out(&mut self) {
        let Some(shard) = &mut self.context.router.shard else {
            return;
        };
        if shard.durability() == Durability::Sync || shard.failed() {
            return;
        }
        if let Err(error) = shard.log_mut().write_out() {
            flush::stop(self.context.router.core, shard, &error);
            // Nobody knows which of the answers that wait there tell of what is lost.
            for &index in &self.to_write {
                if let Some(connection) = self.connections.get_mut(index) {
                    connection.closing = Closing::Now;
                }
            }
        }
    }

    /// To other cores and to clients: what they are owed. True where another core has no room for all of it.
    fn send_all(&mut self) -> bool {
        self.write_out();
        let crowded = self.context.router.sender.deliver();
        self.write_all();
        crowded
    }

    /// True while another thread works for this core.
    fn is_waiting(&self) -> bool {
        self.flusher.is_waiting()
            || self.checkpointer.is_waiting()
            || self.retention.is_waiting()
            || self.history_worker.is_waiting()
            || self.controller.is_waiting()
            || self.directory.is_waiting()
    }

    /// True where a flush or a preparation was finished, or the shard was opened.
    fn take_finished(
        &mut self,
        opening: &mut Option<Opening>,
        context: &mut task::Context<'_>,
    ) -> io::Result<bool> {
        let mut finished = false;
        if let Some(task) = opening
            && let Poll::Ready(shard) = task.as_mut().poll(context)
        {
            *opening = None;
            self.open(shard?);
            finished = true;
        }
        finished |= self.retention.poll(
            &mut turn(
                &mut self.context,
                &self.config,
                (self.now_ms, self.now_micros),
            ),
            context,
        );
        match self.controller.poll(self.context.router.shards, context) {
            Polled::Nothing => {}
            Polled::Failed => finished = true,
            Polled::Durable(change) => {
                finished = true;
                self.put_into_force(&change);
            }
        }
        finished |= !self.controller.answers.is_empty();
        self.answer_control_calls();
        finished |= self.directory.poll(
            &mut turn(
                &mut self.context,
                &self.config,
                (self.now_ms, self.now_micros),
            ),
            context,
        );
        let told: Vec<_> = self.history_worker.poll(context).collect();
        for (request_id, result) in told {
            self.deliver(request_id, Delivery::History(result));
            finished = true;
        }
        match self.checkpointer.poll(
            &mut turn(
                &mut self.context,
                &self.config,
                (self.now_ms, self.now_micros),
            ),
            context,
        ) {
            Finding::Nothing => {}
            Finding::Progress => finished = true,
            Finding::Damaged(error) => self.rebuild(error),
        }
        if self.flusher.poll(
            &mut turn(
                &mut self.context,
                &self.config,
                (self.now_ms, self.now_micros),
            ),
            context,
        ) {
            let (told_others, return_at_once) = (self.release(), self.closed_loop.take());
            if told_others && return_at_once {
                self.flusher.be_patient();
            }
            finished = true;
        }
        Ok(finished)
    }

    /// How long the core may sleep; where it may, it has said that it must be woken.
    fn poll_timeout(&mut self) -> PollTimeout {
        if self.has_work() {
            return PollTimeout::None;
        }
        let poll_timeout = match self.flusher.timeout_micros() {
            Some(_) if self.spin.keeps_spinning(self.now_micros) => return PollTimeout::None,
            Some(micros) => PollTimeout::Micros(u32::try_from(micros).unwrap_or(u32::MAX)),
            None if self.keeps_spinning() => return PollTimeout::None,
            None => PollTimeout::Endless,
        };
        if self.inbox.fall_asleep() {
            poll_timeout
        } else {
            PollTimeout::None
        }
    }

    /// True where the core is better awake though there is nothing to do. What is in flight needs its processor.
    fn keeps_spinning(&mut self) -> bool {
        !self.is_waiting() && self.spin.keeps_spinning(self.now_micros)
    }

    /// True where there is something to do without waiting.
    fn has_work(&self) -> bool {
        let replies = self
            .context
            .router
            .shard
            .as_ref()
            .is_some_and(Shard::has_releasable);
        replies || !self.to_read.is_empty() || !self.to_write.is_empty()
    }

    fn open(&mut self, opened: Opened) {
        let counters = self.context.counters.of(self.context.router.core);
        counters.ready.store(1, Relaxed);
        let covered = (opened.through, opened.shard.log().appended());
        self.checkpointer
            .open(opened.checkpoints, covered, self.now_ms);
        self.retention.open(opened.base);
        self.context.router.shard = Some(opened.shard);
        control::acquaint_shard(&mut self.context);
        self.look_for_directory();
        self.count();
    }

    /// A layer can't be read: the process starts anew, without it.
    fn rebuild(&mut self, error: LayerError) {
        if self.context.counters.is_stopping() {
            return;
        }
        report::error(&format!(
            "shard {}: damaged: {error}",
            self.context.router.core
        ));
        let aside = Quarantined::of(error);
        if let Some(path) = aside.moved_to {
            report::info(&format!("it is kept as {}", path.display()));
        }
        self.context.counters.rebuild();
    }

    /// Sees what is ready, and what time it is.
    fn wait(&mut self, poll_timeout: PollTimeout) -> io::Result<()> {
        let since_micros = self.clock.micros();
        self.poller.poll(&mut self.ready, poll_timeout)?;
        self.read_clocks();
        let found = !self.ready.is_empty();
        self.flusher.note_wait(since_micros, self.now_micros, found);
        Ok(())
    }

    /// One pass over all that is ready. True where there was anything.
    fn turn(&mut self) -> bool {
        let ready = std::mem::take(&mut self.ready);
        let mut busy = !ready.is_empty();
        for event in &ready {
            match event.token {
                Token::Listener => self.accept(),
                Token::Wake => self.inbox.take_wakes(),
                Token::Timer => self.tick(),
                Token::Connection { index, generation } => {
                    self.on_ready((index, generation), *event);
                }
            }
        }
        self.ready = ready;
        let to_read = std::mem::take(&mut self.to_read);
        self.read_all(&to_read);
        reuse(&mut self.to_read, to_read);
        busy |= self.take_messages();
        self.release();
        if let Some(shard) = &mut self.context.router.shard
            && let Some(error) = shard.engine_mut().take_damage()
        {
            self.rebuild(error);
        }
        busy
    }

    fn on_ready(&mut self, (index, generation): (u32, u32), event: Ready) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        // Another's, which has ended since.
        if connection.generation != generation {
            return;
        }
        connection.readable |= event.readable;
        connection.hung_up |= event.hung_up;
        let writable_again = event.writable && !connection.writable;
        connection.writable |= event.writable;
        if event.readable {
            self.closed_loop
                .received(&mut connection.answered_micros, self.now_micros);
            connection.queue_read(index, &mut self.to_read);
        }
        if writable_again {
            self.queue_write(index);
        }
    }

    /// Brings the counters that other cores read up to date.
    pub(crate) fn count(&self) {
        let Some(shard) = &self.context.router.shard else {
            return;
        };
        let counters = self.context.counters.of(self.context.router.core);
        counters
            .entities
            .store(shard.engine().entities() as u64, Relaxed);
        counters.events.store(shard.engine().events(), Relaxed);
    }
}
