//! One core: its connections, its shard, its way to the others, and the loop that serves them all.
//!
//! A turn takes what is ready (bytes, messages, a flush that returned), works on it, issues one
//! flush for what was appended, and then writes to each connection that something waits for. What
//! it works on is bounded, in units of work; the rest is left for the next turn.
//! Between turns the core sleeps in its epoll: other cores, the flush and the helper threads wake
//! it there too. Nothing in a turn waits.

use super::config::CoreConfig;
use super::connection::{Closing, Connection};
use super::fan_out::FanOut;
use super::idle::{IdlePolicy, Sleep};
use super::poller::{Ready, Token};
use super::prefetch::Prefetcher;
use super::publish_times::PublishTimes;
use super::queues::Queue;
use super::runtime;
use super::slots::Slots;
use super::system::System;
use super::turns::Turns;
use super::watchdog::{Heartbeat, Step};
use crate::api::metrics::CloseCause;
use crate::background::ballast::{Ballast, BallastUse};
use crate::background::checkpoints::Checkpointer;
use crate::background::control::Controller;
use crate::background::decoding::DecodeWorker;
use crate::background::directory::Directory;
use crate::background::flush::Flusher;
use crate::background::handshakes::HandshakeQueue;
use crate::background::history::HistoryWorker;
use crate::background::job::{Job, Jobs, Lane};
use crate::background::retention::Retention;
use crate::background::throttle::Throttle;
use crate::clock::StepDetector;
use crate::control::ControlStore;
use crate::faults;
use crate::front::http::AnswerWriter;
use crate::limits;
use crate::log::Log as _;
use crate::report::AccessBuffer;
use crate::service::Context;
use crate::service::streams::FrameBuffers;
use crate::shard::{Inbox, Message, Origin, Reply};
use flux_storage::{DataDir, LayerError};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// See the module.
pub(crate) struct Core<S: System> {
    /// Sockets, clocks and helper threads.
    pub(super) system: S,
    pub(crate) context: Context<S::Log>,
    pub(crate) writer: AnswerWriter,
    /// Lines for the access log.
    pub(crate) access: AccessBuffer,
    pub(crate) config: Arc<CoreConfig>,
    /// The monotonic clock, milliseconds, read once per turn.
    pub(crate) now_ms: u64,
    /// The same in microseconds.
    pub(crate) now_micros: u64,
    pub(crate) inbox: Inbox,
    pub(crate) connections: Slots<Connection<S::Socket>>,
    pub(crate) prefetcher: Prefetcher,
    /// What the watchdog looks at.
    pub(super) heartbeat: Arc<Heartbeat>,
    /// The shard is there, and not ready yet.
    pub(super) is_opening: bool,
    /// When it sleeps and when it flushes.
    pub(super) idle: IdlePolicy,
    /// When the events that wait for their flush came.
    pub(super) publish_times: PublishTimes,
    /// The part of a layer that the disk last failed to read.
    pub(super) unreadable: Option<LayerError>,
    /// How fast its helper threads work.
    pub(super) throttle: Arc<Throttle>,
    /// Jobs that are handed to them at the end of a step.
    pub(super) jobs: Jobs<S::Log>,
    pub(super) flusher: Flusher<S::Log>,
    pub(super) checkpointer: Checkpointer,
    pub(super) retention: Retention,
    pub(super) history_worker: HistoryWorker,
    pub(super) decode_worker: DecodeWorker,
    pub(super) controller: Controller,
    pub(super) directory: Directory,
    /// Connections that may be owed bytes.
    pub(crate) to_write: Queue,
    /// Connections that have more to read, or to be worked on, than one turn took.
    pub(crate) to_read: Queue,
    /// Those of them that have spent more than their share, and wait for their turn.
    pub(crate) resting: Vec<u32>,
    /// When the first of these is looked at again, monotonic microseconds.
    pub(crate) rested_micros: u64,
    /// How connections share the core.
    pub(crate) turns: Turns,
    /// Connections that may be told in this sweep that there is no memory for them.
    pub(super) give_up_max: usize,
    /// Questions that the kernel may still be asked in this tick about slow clients.
    pub(super) looks_left: u32,
    /// Connections that wait for memory, by index and generation, the longest waiting first.
    pub(super) memory_queue: VecDeque<(u32, u32)>,
    /// Bytes that connectors' polls hold, as they were last counted.
    pub(super) connector_bytes: usize,
    /// Connections with answers that wait for a flush.
    pub(crate) gated: Vec<u32>,
    /// Connections with a late answer: when it is due, index and generation. One that ends
    /// meanwhile stays until then, a second at most.
    pub(super) late: BinaryHeap<Reverse<(u64, u32, u32)>>,
    pub(crate) ready: Vec<Ready>,
    /// Messages at hand that one turn did not take.
    pub(crate) messages: VecDeque<Message>,
    /// Reused: replies at hand.
    pub(crate) replies: Vec<(Origin, Reply)>,
    /// Changes that not every subscriber was given yet.
    pub(crate) fan_out: FanOut,
    /// Reused: the messages of a change.
    pub(crate) frame_buffers: FrameBuffers,
    /// Connections whose streams are looked at, each with when (monotonic microseconds) and its
    /// generation.
    pub(super) stream_timers: BinaryHeap<Reverse<(u64, u32, u32)>>,
    pub(crate) received: Box<[u8]>,
    /// Handshakes of TLS that a helper thread carries out.
    pub(super) handshakes: HandshakeQueue,
    /// Reused: records for a socket, while nothing waits for it.
    pub(super) sealed: Vec<u8>,
    pub(crate) ticks: u64,
    pub(crate) clock_steps: StepDetector,
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

/// The metrics that are pushed by the clock.
#[derive(Debug, Default)]
pub(crate) struct MetricsClock {
    /// When the last were made, monotonic milliseconds.
    pub(crate) made_ms: u64,
    /// The events that there were then.
    pub(crate) events: u64,
    /// They, as a frame.
    pub(crate) frame: Vec<u8>,
    /// The connections that have not been given them yet.
    pub(crate) rest: Range<u32>,
}

/// What a core is made of.
pub(crate) struct CoreParts<S: System> {
    /// Sockets, clocks and helper threads.
    pub(crate) system: S,
    /// What its shard and its way to the others offer to calls.
    pub(crate) context: Context<S::Log>,
    /// The settings.
    pub(crate) config: Arc<CoreConfig>,
    /// What the other cores send it.
    pub(crate) inbox: Inbox,
    /// What the watchdog looks at.
    pub(crate) heartbeat: Arc<Heartbeat>,
    /// Where all shards are stored.
    pub(crate) data_dir: Arc<DataDir>,
    /// What is held back on the disk.
    pub(crate) ballast: Arc<Ballast>,
    /// The control plane, on the core that carries out its calls.
    pub(crate) control: Option<ControlStore>,
}

impl<S: System> Core<S> {
    /// A core that is ready to run.
    pub(crate) fn new(mut parts: CoreParts<S>) -> Self {
        let (core, shards) = (parts.context.router.core, parts.context.router.shards);
        let (throttle, slicing) = (Arc::new(Throttle::new()), parts.context.slicing);
        let mut core = Self {
            writer: AnswerWriter::new(Arc::clone(&parts.context.counters), core),
            access: AccessBuffer::new(parts.config.access.clone()),
            config: parts.config,
            system: parts.system,
            now_ms: 0,
            now_micros: 0,
            flusher: Flusher::new(core, Arc::clone(&throttle)),
            checkpointer: Checkpointer::new(core, Arc::clone(&throttle)),
            retention: Retention::new(
                (core, shards),
                Arc::clone(&parts.data_dir),
                BallastUse::new(parts.ballast, core),
                Arc::clone(&throttle),
            ),
            history_worker: HistoryWorker::new(&parts.data_dir),
            decode_worker: DecodeWorker::new(parts.context.ids.fork()),
            controller: Controller::new(parts.control),
            directory: Directory::new(core, shards),
            context: parts.context,
            inbox: parts.inbox,
            connections: Slots::default(),
            prefetcher: Prefetcher::default(),
            heartbeat: parts.heartbeat,
            is_opening: false,
            idle: IdlePolicy::default(),
            publish_times: PublishTimes::default(),
            throttle,
            unreadable: None,
            jobs: Jobs::default(),
            to_write: Queue::default(),
            to_read: Queue::default(),
            resting: Vec::new(),
            rested_micros: u64::MAX,
            turns: Turns::new(slicing),
            give_up_max: 0,
            looks_left: 0,
            memory_queue: VecDeque::new(),
            connector_bytes: 0,
            gated: Vec::new(),
            late: BinaryHeap::new(),
            ready: Vec::new(),
            messages: VecDeque::new(),
            replies: Vec::new(),
            fan_out: FanOut::default(),
            frame_buffers: FrameBuffers::default(),
            stream_timers: BinaryHeap::new(),
            received: vec![0; limits::RECEIVE_BYTES].into(),
            handshakes: HandshakeQueue::default(),
            sealed: Vec::new(),
            ticks: 0,
            clock_steps: StepDetector::default(),
            metrics: MetricsClock::default(),
            stopping_ms: None,
        };
        core.read_clocks();
        // The first look, so that a step before the first tick is noticed too.
        core.watch_wall_clock();
        core
    }

    /// Reads the clocks for this turn.
    fn read_clocks(&mut self) {
        let now = self.system.wall_clock();
        self.now_micros = self.system.monotonic_micros();
        self.now_ms = self.now_micros / 1000;
        self.context.router.now = now;
        self.context.uptime_ms = self.now_ms;
        if let Some(shard) = &mut self.context.router.shard {
            shard.limiter_mut().advance(self.now_ms);
            shard.advance(now, self.now_micros);
        }
        self.writer.set_time(now.as_micros() / 1_000_000);
    }

    /// Serves until the process is to stop, then flushes and closes the log. `recovery`: the job
    /// that opens the shard.
    ///
    /// # Errors
    /// If the log can't be opened or closed, or the kernel refuses what can't be done without.
    pub(crate) fn run(mut self, recovery: Job<S::Log>) -> io::Result<()> {
        runtime::sleep_exactly();
        self.begin(recovery)?;
        let served = self.serve();
        self.hand_over_access(false);
        self.heartbeat.at(Step::Close);
        let ended = served.and_then(|()| self.close());
        // After an error too, no helper thread outlives its core, or takes its time.
        self.context.history.stop();
        self.throttle.hurry_for(Duration::ZERO);
        if !self.context.counters.is_rebuilding() {
            // It may replay for minutes, and the process ends. A start within the process needs the
            // directory.
            self.system.abandon(Lane::Recovery);
        }
        self.system.join();
        ended
    }

    /// Begins to open the shard.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn begin(&mut self, recovery: Job<S::Log>) -> io::Result<()> {
        self.system.run(recovery)
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut busy = true;
        while !self.is_drained() {
            busy = self.step(busy)?;
        }
        Ok(())
    }

    /// Begins and sends what is due, waits unless there is more to do, and takes a turn. `busy`,
    /// and what is returned: there was something to do.
    ///
    /// # Errors
    /// If the log can't be opened, or the kernel refuses what can't be done without.
    pub(crate) fn step(&mut self, mut busy: bool) -> io::Result<bool> {
        faults::step();
        self.heartbeat.turn();
        self.heartbeat.at(Step::Results);
        busy |= self.take_results()?;
        self.heartbeat.at(Step::Begin);
        self.start_due()?;
        busy |= self.send_all();
        self.hand_over_access(busy);
        let rested = (!self.resting.is_empty()).then_some(self.rested_micros);
        let timer = self.stream_timers.peek();
        let timer = timer.map(|Reverse((due_micros, ..))| *due_micros);
        let rest_micros = rested.into_iter().chain(timer).min();
        let rest_micros = rest_micros.map(|due| due.saturating_sub(self.now_micros));
        let sleep = self.idle.decide(busy || self.has_work(), rest_micros);
        self.heartbeat.at(Step::Wait);
        if sleep == Sleep::Now {
            self.wait(sleep)?;
        } else {
            self.sleep(sleep)?;
        }
        self.heartbeat.at(Step::Work);
        Ok(self.turn())
    }

    /// Its helper threads work without rest: in a simulation nobody else needs the processor.
    #[cfg(test)]
    pub(crate) fn hurry(&self) {
        self.throttle.hurry_for(Duration::from_secs(1000));
    }

    /// True if the log has failed for good.
    #[cfg(test)]
    pub(crate) fn has_failed(&self) -> bool {
        let shard = self.context.router.shard.as_ref();
        shard.is_some_and(crate::shard::Shard::failed)
    }

    /// Sleeps unless something has come for the core meanwhile.
    fn sleep(&mut self, sleep: Sleep) -> io::Result<()> {
        // From here on messages and results wake the core.
        if self.inbox.fall_asleep() && !self.system.has_results() {
            self.wait(sleep)?;
        } else {
            self.wait(Sleep::Now)?;
        }
        self.inbox.wake_up();
        // Clients that waited for a flush are answered before anything else.
        self.heartbeat.at(Step::Results);
        self.take_results()?;
        self.send_all();
        Ok(())
    }

    /// Sends what waits for other cores and clients. True if another core has no room for all.
    fn send_all(&mut self) -> bool {
        self.heartbeat.at(Step::Send);
        self.write_out();
        let crowded = self.context.router.sender.deliver();
        self.write_all();
        crowded
    }

    /// True if there is something to do without waiting.
    fn has_work(&self) -> bool {
        let replies = self
            .context
            .router
            .shard
            .as_ref()
            .is_some_and(|shard| shard.has_releasable() || shard.has_work());
        let waits = !self.to_read.is_empty() || !self.to_write.is_empty();
        replies || waits || !self.messages.is_empty() || !self.fan_out.is_empty()
    }

    /// Waits for readiness, and reads the clocks.
    pub(super) fn wait(&mut self, sleep: Sleep) -> io::Result<()> {
        let since_micros = self.system.monotonic_micros();
        self.system.wait(&mut self.ready, sleep)?;
        self.read_clocks();
        if sleep != Sleep::Now {
            let slept = self.now_micros.saturating_sub(since_micros);
            self.idle.note_slept(slept);
        }
        Ok(())
    }

    /// In `async` durability a write has failed: nobody knows which of the answers that wait tell
    /// of what is lost.
    pub(super) fn drop_unsent(&mut self) {
        for index in self.to_write.each() {
            if let Some(connection) = self.connections.get_mut(index) {
                connection.note_cause(CloseCause::Storage);
                connection.closing = Closing::Now;
            }
        }
    }

    /// One pass over all that is ready. True if there was anything.
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
        self.end_rests();
        self.look_at_streams();
        self.read_all();
        busy |= self.take_messages();
        if let Some(shard) = &mut self.context.router.shard
            && shard.has_work()
        {
            shard.go_on(self.context.router.now);
        }
        if self.is_opening {
            self.finish_opening();
        }
        self.release();
        if let Some(shard) = &mut self.context.router.shard
            && let Some(error) = shard.engine_mut().take_damage()
        {
            self.rebuild(error);
        }
        busy
    }

    /// Lets the connections go on that have rested long enough. Who has not is put back.
    fn end_rests(&mut self) {
        if self.now_micros >= self.rested_micros {
            self.rested_micros = u64::MAX;
            for index in self.resting.drain(..) {
                if let Some(connection) = self.connections.get_mut(index) {
                    connection.queued_read = false;
                    connection.queue_read(index, &mut self.to_read);
                }
            }
        }
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
        connection.broken |= event.broken;
        let is_unread =
            connection.ended || connection.is_paused() || connection.waits_since_ms.is_some();
        if event.broken && is_unread {
            // Reading would not tell: behind its end the kernel reads out no error. Nobody waits
            // for its answers.
            connection.closing = Closing::Now;
            self.queue_write(index);
            return;
        }
        if event.readable {
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
        let latest = shard.engine().latest_time().as_micros();
        counters.latest_event_micros.store(latest, Relaxed);
        counters.visible.store(shard.visible().get(), Relaxed);
        self.context.tally().set_accepted(shard.accepted());
    }

    /// The same of what may be a sweep behind.
    pub(super) fn count_slow(&self) {
        let Some(shard) = &self.context.router.shard else {
            return;
        };
        let tally = self.context.tally();
        tally.set_refusing(shard.refuses());
        let age_ms = self.checkpointer.age_ms(shard, self.now_ms);
        tally.checkpoint_age_ms.store(age_ms, Relaxed);
        let start_micros = shard.log().history_start_micros().unwrap_or_default();
        tally.history_start_micros.store(start_micros, Relaxed);
        let counters = self.context.counters.of(self.context.router.core);
        let log_bytes = shard.log().bytes_stored();
        counters.log_bytes.store(log_bytes, Relaxed);
    }
}
