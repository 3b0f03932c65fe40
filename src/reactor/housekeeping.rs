//! What a core does by the clock: it looks for connections that are overdue, pushes metrics, and
//! stops when it is told to.

use super::connection::{Closing, Overdue, Session, Timeouts};
use super::event_loop::{Core, MetricsClock};
use super::system::System;
use crate::api::metrics::CloseCause;
use crate::api::{ApiError, encode};
use crate::front::http;
use crate::limits;
use crate::report::{self, LogEvent};
use crate::wire::ws::write_text;
use std::sync::atomic::Ordering::Relaxed;

impl<S: System> Core<S> {
    pub(crate) fn tick(&mut self) {
        self.system.acknowledge_tick();
        self.ticks += 1;
        self.system.resume_accepting();
        if self.context.counters.is_stopping() && self.stopping_ms.is_none() {
            self.begin_stop();
        }
        self.retry_memory();
        self.look_for_directory();
        self.watch_wall_clock();
        self.send_late();
        self.sweep();
        let since = self.now_ms.saturating_sub(self.metrics.made_ms);
        if since >= limits::METRICS_INTERVAL_SECONDS * 1000 && self.metrics.rest.is_empty() {
            self.make_metrics(since);
        }
        self.push_metrics();
    }

    /// Warns if the wall clock was set: it dates the events.
    pub(super) fn watch_wall_clock(&mut self) {
        let router = &self.context.router;
        if let Some(micros) = self.clock_steps.look(router.now, self.now_micros)
            && router.core == 0
        {
            let way = if micros > 0 { "ahead" } else { "back" };
            report::say(
                LogEvent::ClockSet,
                &format!(
                    "the machine's clock was set {way} by {} s; what is published gets its time, or \
                 that of its namespace's last event if that is later",
                    micros.unsigned_abs() / 1_000_000
                ),
            );
        }
    }

    /// Tells the operator of guesses at the operator's token, once a minute, and of lines that were
    /// left out.
    fn report_guesses(&self) {
        let router = &self.context.router;
        if router.core == 0 {
            report::say_due();
        }
        if router.core == 0
            && let Some(failures) = self.context.counters.strangers.take_due(router.now)
        {
            report::say(LogEvent::TokenGuesses, &failures.to_string());
        }
    }

    /// Looks at a part of the connections for what is overdue.
    fn sweep(&mut self) {
        let part = self.ticks % limits::SWEEP_TICKS as u64;
        if part == 0 {
            self.begin_sweep();
        }
        let mut timeouts = self.config.timeouts;
        if self.context.memory.budget().is_pressed() {
            timeouts = timeouts.while_memory_is_short();
        }
        self.looks_left = limits::ACKNOWLEDGED_LOOKS_PER_TICK_MAX;
        let first = usize::try_from(part).unwrap_or(0);
        let indexes = self.connections.indexes().skip(first);
        for index in indexes.step_by(limits::SWEEP_TICKS) {
            self.look_at(index, timeouts);
        }
    }

    /// What concerns all connections, once for each sweep.
    fn begin_sweep(&mut self) {
        self.report_guesses();
        self.count_slow();
        self.give_up_max = (self.memory_queue.len() / 2).max(1);
        if let Some(shard) = &mut self.context.router.shard {
            let counters = &self.context.counters;
            let sources = shard.engine_mut().take_sources();
            let active = counters.sources.note(&sources, self.now_ms);
            counters.publishers.store(active, Relaxed);
        }
    }

    /// Looks at one connection for what is overdue.
    fn look_at(&mut self, index: u32, timeouts: Timeouts) {
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        if self.looks_left > 0
            && let Some(since_ms) = connection.silent_since_ms()
            && connection
                .taking
                .is_due(since_ms, now_ms, timeouts.stall_ms)
        {
            self.looks_left -= 1;
            if let Some(missing) = self.system.unacknowledged(&connection.socket)
                && connection.taking.note(missing, connection.sent_ms, now_ms)
            {
                connection.sent_ms = now_ms;
            }
        }
        match connection.overdue(now_ms, timeouts) {
            Overdue::Head => self.time_out(index, "head", timeouts.head_ms),
            Overdue::Body => self.time_out(index, "body", timeouts.body_ms),
            Overdue::Memory if self.give_up_max > 0 => {
                self.give_up_max -= 1;
                self.give_up_memory(index);
            }
            // What others give back may be enough for one that waits for memory.
            Overdue::Memory | Overdue::No => {}
            Overdue::Silent => {
                connection.note_cause(CloseCause::Timeout);
                connection.closing = Closing::Now;
            }
            Overdue::Stalled => {
                connection.note_cause(CloseCause::SlowReader);
                connection.closing = Closing::Now;
            }
        }
        self.tick_stream(index);
        self.look_at_access(index);
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let is_behind = connection.is_behind(now_ms, timeouts.stall_ms);
        if let Session::WebSocket(websocket) = &mut connection.session
            && connection.closing == Closing::Open
            && websocket.is_dead(now_ms, connection.received_ms)
            && !is_behind
        {
            connection.note_cause(CloseCause::Timeout);
            connection.closing = Closing::Now;
        }
        let replaced = connection.take_replaced();
        self.context.tally().note_conflated(u64::from(replaced));
        if connection.owes_nothing() {
            connection.trim();
        }
        if connection.waits_since_ms.is_some()
            && let Some(mut connection) = self.connections.take(index)
        {
            self.probe_waiting(index, &mut connection);
            self.connections.put_back(index, connection);
        }
        self.queue_write(index);
    }

    pub(crate) fn time_out(&mut self, index: u32, part: &'static str, after_ms: u64) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let error = ApiError::Timeout {
            part,
            seconds: after_ms / 1000,
        };
        if let Session::Http(reader) = &connection.session {
            let arriving = (&mut connection.answers, reader);
            http::refuse_arriving(&self.writer, arriving, &error);
        }
        connection.close_for(CloseCause::Timeout, self.now_ms);
    }

    /// Makes the metrics that every WebSocket client is told, which wants them.
    fn make_metrics(&mut self, since_ms: u64) {
        let mut metrics = self.context.counters.metrics();
        let accepted = metrics.events.saturating_sub(self.metrics.events);
        metrics.events_per_10_seconds = accepted.saturating_mul(10_000) / since_ms.max(1);
        if self.metrics.made_ms == 0 {
            metrics.events_per_10_seconds = 0;
        }
        let (mut text, mut frame) = (Vec::new(), Vec::new());
        encode::metrics_update(&mut text, &metrics, self.context.router.now);
        write_text(&mut frame, &text);
        self.metrics = MetricsClock {
            made_ms: self.now_ms,
            events: metrics.events,
            frame,
            rest: self.connections.indexes(),
        };
    }

    /// Gives the metrics to some of the clients that do not have them yet.
    fn push_metrics(&mut self) {
        let indexes = &mut self.metrics.rest;
        let end = indexes.start.saturating_add(limits::METRICS_PER_TICK_MAX);
        let slice = indexes.start..end.min(indexes.end);
        indexes.start = slice.end;
        let frame = std::mem::take(&mut self.metrics.frame);
        for index in slice {
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            let Session::WebSocket(websocket) = &mut connection.session else {
                continue;
            };
            if websocket.metrics && connection.closing == Closing::Open {
                if websocket.feed.outbox.push_metrics(&frame).is_err() {
                    self.drop_slow_reader(index);
                }
                self.queue_write(index);
            }
        }
        self.metrics.frame = frame;
    }

    /// Stops accepting; every connection ends when what waits for it is sent.
    pub(crate) fn begin_stop(&mut self) {
        self.stopping_ms = Some(self.now_ms);
        self.system.stop_accepting();
        for index in self.connections.indexes() {
            // One that waits for changes is answered now.
            self.look_at_poll(index);
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            let idle = connection.owes_nothing();
            connection.note_cause(CloseCause::Shutdown);
            match &mut connection.session {
                Session::WebSocket(websocket) => {
                    websocket.close_when_answered();
                    connection.close_after_sending(self.now_ms);
                }
                Session::Stream(streaming) => streaming.stream.shut_down(),
                // A request that has begun to arrive is still answered.
                Session::Http(reader) if reader.buffered() > 0 && idle => {}
                Session::Http(_) if idle => connection.closing = Closing::Now,
                Session::Http(_) => connection.close_after_sending(self.now_ms),
            }
            self.end_stream(index);
            self.queue_write(index);
        }
    }

    /// True once the core may end: told to stop, and no connection of any core is left, or time is
    /// up.
    pub(crate) fn is_drained(&mut self) -> bool {
        let Some(since) = self.stopping_ms else {
            return false;
        };
        let late = self.now_ms.saturating_sub(since) > limits::SHUTDOWN_MS_MAX;
        if self.connections.is_empty() || late {
            self.context
                .counters
                .of(self.context.router.core)
                .drained
                .store(1, Relaxed);
        }
        late || self.context.counters.is_drained()
    }
}
