//! One core: its connections, its shard, its way to the others, and the loop that serves them all.
//!
//! A turn takes what is ready (bytes, messages, a flush that returned), works on all of it, issues one flush for
//! what was appended, and then writes to each connection that is owed something. Between turns the core sleeps in its
//! epoll: other cores, the flush and the helper threads wake it there too. Nothing in a turn waits.

use super::closed_loop::ClosedLoopDetector;
use super::connection::{Closing, Connection, Session};
use super::poller::{PollTimeout, Poller, Ready, Token};
use super::prefetch::Prefetcher;
use super::runtime;
use super::slots::Slots;
use super::spin::SpinBeforePark;
use crate::api::ApiError;
use crate::background::checkpoints::{Checkpointer, Finding};
use crate::background::control::Controller;
use crate::background::directory::Directory;
use crate::background::flush::{self, Flusher};
use crate::background::history::{HistoryWorker, Outcome};
use crate::background::retention::{Covered, Retention};
use crate::boot::serve::Opened;
use crate::front::http::{self, Client};
use crate::front::websocket::Owner;
use crate::limits;
use crate::model::Durability;
use crate::report;
use crate::service::context::Hub;
use crate::service::pending::RequestMeta;
use crate::shard::{ControlMessage, Inbox, Message, Origin, Reply, RequestId, Shard};
use flux_storage::{LayerError, Sequence, SetAside};
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

/// See the module.
pub(crate) struct Core {
    pub(crate) hub: Hub,
    pub(crate) inbox: Inbox,
    pub(crate) poller: Poller,
    pub(crate) timer: OwnedFd,
    pub(crate) listener: Option<TcpListener>,
    /// The listener is not polled: the process was out of descriptors.
    pub(crate) listener_paused: bool,
    /// When connections that have ended last published, oldest first.
    pub(crate) ended_publishers: std::collections::VecDeque<u64>,
    pub(crate) connections: Slots<Connection>,
    pub(crate) flusher: Flusher,
    spin: SpinBeforePark,
    pub(crate) prefetcher: Prefetcher,
    pub(crate) closed_loop: ClosedLoopDetector,
    checkpointer: Checkpointer,
    retention: Retention,
    history_worker: HistoryWorker,
    controller: Controller,
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
    replies: Vec<(Origin, Reply)>,
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
    /// What its connections share.
    pub(crate) hub: Hub,
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

/// What a connection has waited for.
enum Delivery<'d> {
    /// A shard's reply.
    Reply(u16, Reply),
    /// What the historian found.
    Outcome(&'d Outcome),
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
        let shards = parts.hub.shards;
        let timer = super::sockets::timer(limits::TICK_MS)?;
        poller.add(&parts.listener, Token::Listener)?;
        poller.add(parts.inbox.wake_descriptor(), Token::Wake)?;
        poller.add(&timer, Token::Timer)?;
        Ok(Self {
            flusher: Flusher::start(parts.hub.core)?,
            hub: parts.hub,
            inbox: parts.inbox,
            poller,
            timer,
            listener: Some(parts.listener),
            listener_paused: false,
            ended_publishers: std::collections::VecDeque::new(),
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
        })
    }

    /// Serves until the process is to stop, then flushes and closes the log.
    ///
    /// # Errors
    /// Where the log can't be opened or closed, or the kernel refuses what can't be done without.
    #[expect(clippy::large_stack_frames, reason = "once for each core")]
    pub(crate) async fn run(mut self, opening: Opening) -> io::Result<()> {
        let mut opening = Some(opening);
        let waker = self.inbox.waker();
        let mut context = Context::from_waker(&waker);
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
        self.controller.finish(&mut self.hub).await;
        self.hub.sender.deliver();
        self.flusher.settle(&mut self.hub).await;
        let Some(shard) = &mut self.hub.shard else {
            return Ok(());
        };
        if shard.is_refusing() || self.checkpointer.lacks_room() {
            self.retention.release_reserve();
        }
        if !shard.failed() && shard.log_mut().flush_blocking().is_ok() {
            self.checkpointer.finish(&mut self.hub).await;
        }
        match self.hub.shard.take() {
            None => Ok(()),
            Some(shard) => shard.into_log().close().map_err(io::Error::other),
        }
    }

    /// Issues what is due.
    fn start_due(&mut self) {
        self.write_out();
        if self.flusher.start_due(&mut self.hub) {
            self.release();
        }
        self.checkpointer.start_due(&mut self.hub);
        self.history_worker.start_due(&mut self.hub);
        self.controller.start_due(&mut self.hub);
        self.directory.start_due();
        let covered = Covered {
            through: self.checkpointer.through(),
            lacks_room: self.checkpointer.lacks_room(),
        };
        self.retention.start_due(&mut self.hub, covered);
    }

    /// In `async` durability what was appended is seen at once. So the kernel has it before anybody is told: a killed
    /// process does not lose what it acknowledged. In `sync` flushes write.
    fn write_out(&mut self) {
        let Some(shard) = &mut self.hub.shard else {
            return;
        };
        if shard.durability() == Durability::Sync || shard.failed() {
            return;
        }
        if let Err(error) = shard.log_mut().write_out() {
            flush::stop(self.hub.core, shard, &error);
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
        let crowded = self.hub.sender.deliver();
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
        context: &mut Context<'_>,
    ) -> io::Result<bool> {
        let mut finished = false;
        if let Some(task) = opening
            && let Poll::Ready(shard) = task.as_mut().poll(context)
        {
            *opening = None;
            self.open(shard?);
            finished = true;
        }
        finished |= self.retention.poll(&mut self.hub, context);
        finished |= self.controller.poll(&mut self.hub, context);
        finished |= !self.controller.answers.is_empty();
        self.answer_control_calls();
        finished |= self.directory.poll(&mut self.hub, context);
        let told: Vec<_> = self.history_worker.poll(context).collect();
        for (request_id, outcome) in told {
            self.deliver(request_id, Delivery::Outcome(&outcome));
            finished = true;
        }
        match self.checkpointer.poll(&mut self.hub, context) {
            Finding::Nothing => {}
            Finding::Progress => finished = true,
            Finding::Damaged(error) => self.rebuild(error),
        }
        if self.flusher.poll(&mut self.hub, context) {
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
            Some(_) if self.spin.keeps_spinning(self.hub.now_micros) => return PollTimeout::None,
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
        !self.is_waiting() && self.spin.keeps_spinning(self.hub.now_micros)
    }

    /// True where there is something to do without waiting.
    fn has_work(&self) -> bool {
        let replies = self.hub.shard.as_ref().is_some_and(Shard::has_releasable);
        replies || !self.to_read.is_empty() || !self.to_write.is_empty()
    }

    fn open(&mut self, opened: Opened) {
        let counters = self.hub.shared.of(self.hub.core);
        counters.ready.store(1, Relaxed);
        let covered = (opened.through, opened.shard.log().appended());
        self.checkpointer
            .open(opened.checkpoints, covered, self.hub.now_ms);
        self.retention.open(opened.base);
        self.hub.shard = Some(opened.shard);
        self.hub.acquaint_shard();
        self.directory.look(&mut self.hub);
        self.count();
    }

    /// A layer can't be read: the process starts anew, without it.
    fn rebuild(&mut self, error: LayerError) {
        if self.hub.shared.is_stopping() {
            return;
        }
        report::error(&format!("shard {}: damaged: {error}", self.hub.core));
        let aside = SetAside::of(error);
        if let Some(path) = aside.moved_to {
            report::info(&format!("it is kept as {}", path.display()));
        }
        self.hub.shared.rebuild();
    }

    /// Sees what is ready, and what time it is.
    fn wait(&mut self, poll_timeout: PollTimeout) -> io::Result<()> {
        let since_micros = self.hub.monotonic_micros();
        self.poller.poll(&mut self.ready, poll_timeout)?;
        self.hub.read_clocks();
        let found = !self.ready.is_empty();
        self.flusher
            .note_wait(since_micros, self.hub.now_micros, found);
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
        if let Some(shard) = &mut self.hub.shard
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
                .received(&mut connection.answered_micros, self.hub.now_micros);
            connection.queue_read(index, &mut self.to_read);
        }
        if writable_again {
            self.queue_write(index);
        }
    }

    /// Works on what another core has sent.
    pub(crate) fn work_on_message(&mut self, message: Message) {
        match message {
            Message::Request(envelope) => {
                if let Some(shard) = &mut self.hub.shard {
                    shard.request(envelope, self.hub.now);
                } else {
                    let reply = Reply::Refused(ApiError::NotReady);
                    self.reply(envelope.origin.core, envelope.origin.request_id, reply);
                }
            }
            Message::Reply {
                from,
                request_id,
                reply,
            } => self.deliver(request_id, Delivery::Reply(from, reply)),
            Message::Changes(batch) => self.fan_out(&batch),
            Message::Control(message) => self.take_control(message),
            Message::ShardStatistics { from, statistics } => self.directory.take(from, statistics),
            // The supervisor's, which is no core.
            Message::Connectors(_) => {}
        }
    }

    fn take_control(&mut self, message: ControlMessage) {
        match message {
            ControlMessage::Ask { origin, command } => {
                if let Err(error) = self.hub.take_control_call(origin, command) {
                    self.reply(origin.core, origin.request_id, Reply::Refused(error));
                }
            }
            ControlMessage::Apply(change) => {
                self.hub.apply(&change);
                let done = Message::Control(ControlMessage::Applied);
                self.hub.sender.send(0, done);
            }
            ControlMessage::Applied => {
                self.controller.applied();
                self.answer_control_calls();
            }
        }
    }

    fn answer_control_calls(&mut self) {
        for (origin, reply) in std::mem::take(&mut self.controller.answers) {
            self.reply(origin.core, origin.request_id, reply);
        }
    }

    /// Sends out what the shard may show by now: replies, changes, and answers that were withheld. True where some went to
    /// other cores.
    pub(crate) fn release(&mut self) -> bool {
        self.write_out();
        let withheld = self.flusher.is_flushing() && self.hub.is_sync();
        let Some(shard) = &mut self.hub.shard else {
            return false;
        };
        let own = self.hub.core;
        let mut replies = std::mem::take(&mut self.replies);
        let mut told_others = false;
        shard.release(|origin, reply| {
            told_others |= origin.core != own;
            replies.push((origin, reply));
        });
        let changes = if withheld { None } else { shard.take_changes() };
        let (visible, failed) = (shard.visible(), shard.failed());
        for (origin, reply) in replies.drain(..) {
            self.reply(origin.core, origin.request_id, reply);
        }
        self.replies = replies;
        let gated = std::mem::take(&mut self.gated);
        for &index in &gated {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            if failed {
                connection.gated = false;
                self.fail_gated(index);
            } else if connection.responses.open_gates(visible) {
                self.gated.push(index);
            } else {
                connection.gated = false;
            }
            self.queue_write(index);
        }
        reuse(&mut self.gated, gated);
        // After those who published: one answer delays the watchers less than many updates would delay it.
        if let Some(changes) = changes {
            self.publish_changes(&changes);
        }
        self.count();
        told_others
    }

    /// What this connection was to be told will never be durable: it is told so, and closed.
    fn fail_gated(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if connection.responses.drop_gated() {
            let hub = &self.hub;
            let error = ApiError::StorageFault;
            connection.responses.push(Sequence::ZERO, |out| {
                hub.write_error(out, RequestMeta::CLOSING, &error);
            });
            connection.close_after_sending(self.hub.now_ms);
        }
    }

    fn reply(&mut self, core: u16, request_id: RequestId, reply: Reply) {
        if core == self.hub.core {
            self.deliver(request_id, Delivery::Reply(core, reply));
        } else {
            self.hub.sender.send(
                core,
                Message::Reply {
                    from: self.hub.core,
                    request_id,
                    reply,
                },
            );
        }
    }

    fn deliver(&mut self, request_id: RequestId, delivery: Delivery<'_>) {
        let index = request_id.connection;
        let Some(mut connection) = self.connections.take(index) else {
            return;
        };
        let generation = connection.generation;
        if generation == request_id.generation {
            let intact = match &mut connection.session {
                Session::Http(_) => {
                    let responses = &mut connection.responses;
                    let mut client = Client {
                        responses,
                        index,
                        generation,
                    };
                    let slot = request_id.slot;
                    match delivery {
                        Delivery::Reply(from, reply) => {
                            http::on_reply(&mut self.hub, &mut client, slot, (from, reply))
                        }
                        Delivery::Outcome(outcome) => {
                            http::on_outcome(&mut self.hub, &mut client, slot, outcome)
                        }
                    }
                }
                Session::WebSocket(websocket) => {
                    if let Delivery::Reply(_, reply) = delivery {
                        let owner = Owner { index, generation };
                        websocket.on_reply(&mut self.hub, owner, request_id.slot, &reply);
                    }
                    true
                }
            };
            if !intact {
                connection.closing = Closing::Now;
            }
            self.note_gate(index, &mut connection);
        }
        self.connections.put_back(index, connection);
        self.queue_write(index);
    }

    /// Puts a connection with withheld answers on the list that a flush goes through.
    pub(crate) fn note_gate(&mut self, index: u32, connection: &mut Connection) {
        if connection.responses.is_gated() && !connection.gated {
            connection.gated = true;
            self.gated.push(index);
        }
    }

    pub(crate) fn queue_write(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index)
            && !connection.queued
        {
            connection.queued = true;
            self.to_write.push(index);
        }
    }

    /// Brings the counters that other cores read up to date.
    pub(crate) fn count(&self) {
        let Some(shard) = &self.hub.shard else { return };
        let counters = self.hub.shared.of(self.hub.core);
        counters
            .entities
            .store(shard.engine().entities() as u64, Relaxed);
        counters.events.store(shard.engine().events(), Relaxed);
    }
}
