//! Drives the state machines of [`crate::background`]: begins what is due, and gives each the
//! results of its jobs.

use super::delivery::Delivery;
use super::event_loop::Core;
use super::idle::{LogFacts, Sleep};
use super::system::System;
use crate::background::flush;
use crate::background::job::WorkerResult;
use crate::background::retention::RetentionFacts;
use crate::background::{Moment, OpenedShard};
use crate::limits::CHECKPOINT_STOP_SECONDS_MAX;
use crate::log::Log;
use crate::model::Durability;
use crate::report::{self, LogEvent};
use crate::service::{Context, control, history};
use crate::shard::Shard;
use flux_storage::{LayerError, Quarantined};
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What comes of a flush: what ran it, and the flush if it succeeded.
type Flushed<L> = (<L as Log>::Flusher, io::Result<<L as Log>::Flush>);

/// Microseconds between two looks at whether a helper thread is done, while the core ends.
const END_LOOK_MICROS: u32 = 1000;

impl<S: System> Core<S> {
    /// The clocks of this turn.
    pub(super) fn now(&self) -> Moment {
        Moment {
            now: self.context.router.now,
            ms: self.now_ms,
            micros: self.now_micros,
        }
    }

    /// Begins what is due.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start_due(&mut self) -> io::Result<()> {
        self.write_out();
        if self.flush_due() {
            self.release();
        }
        self.start_due_of_shard();
        for (request_id, error) in history::start_due(&mut self.context) {
            self.deliver(request_id, Delivery::History(Err(error)));
        }
        let Context {
            router,
            tenants,
            history,
            decodes,
            control_calls,
            memory,
            ..
        } = &mut self.context;
        self.history_worker
            .start_due(history, memory.budget(), &mut self.jobs);
        self.decode_worker.start_due(decodes, &mut self.jobs);
        let plane = (&tenants.registry, router.now);
        self.controller
            .start_due(control_calls, plane, &mut self.jobs);
        self.directory.start_due(&tenants.registry, &mut self.jobs);
        self.start_handshakes();
        self.run_jobs()
    }

    /// Issues a flush if one is due. True if the log has failed just now.
    fn flush_due(&mut self) -> bool {
        let now = self.now();
        let Some(shard) = &mut self.context.router.shard else {
            return false;
        };
        let facts = LogFacts {
            durability: shard.durability(),
            appended: shard.appended(),
            flush_issued_ms: self.flusher.issued_ms(),
            flush_interval_ms: self.config.background.flush_interval_ms,
        };
        self.idle.is_flush_due(facts, now.micros) && self.flusher.flush(shard, now, &mut self.jobs)
    }

    fn start_due_of_shard(&mut self) {
        let now = self.now();
        let Some(shard) = &mut self.context.router.shard else {
            return;
        };
        let (counters, housekeeping) =
            (&self.context.counters, self.config.background.housekeeping);
        let withheld = self.retention.ballast().withheld_bytes();
        self.flusher
            .prepare_segment(shard, (now, withheld), &mut self.jobs);
        self.checkpointer
            .start_due(shard, (now, housekeeping), &mut self.jobs);
        let facts = RetentionFacts {
            housekeeping,
            covered: self.checkpointer.through(),
            lacks_room: self.checkpointer.lacks_room(),
            all_log_bytes: (self.retention.is_due(housekeeping, now) && counters.is_ready())
                .then(|| counters.log_bytes()),
        };
        let looked = self
            .retention
            .start_due(shard, (now, facts), &mut self.jobs);
        if let Some(bytes) = looked {
            let own = counters.of(self.context.router.core);
            own.log_bytes.store(bytes, Relaxed);
        }
    }

    fn run_jobs(&mut self) -> io::Result<()> {
        for job in self.jobs.drain() {
            self.system.run(job)?;
        }
        Ok(())
    }

    /// Takes what helper threads have done. True if there was anything.
    ///
    /// # Errors
    /// If the shard can't be opened.
    pub(super) fn take_results(&mut self) -> io::Result<bool> {
        let mut finished = false;
        while let Some(result) = self.system.take_result() {
            finished = true;
            self.take_result(result)?;
        }
        finished |= !self.controller.answers.is_empty();
        self.answer_control_calls();
        Ok(finished)
    }

    fn take_result(&mut self, result: WorkerResult<S::Log>) -> io::Result<()> {
        match result {
            WorkerResult::Opened(opened) => self.open(*opened?),
            WorkerResult::HistoryAnswered(answered) => {
                let queue = &mut self.context.history;
                if let Some((request_id, result)) = self.history_worker.on_result(queue, *answered)
                {
                    self.deliver(request_id, Delivery::History(result));
                }
            }
            WorkerResult::Decoded(decoded) => {
                let queue = &mut self.context.decodes;
                if let Some((request_id, result)) = self.decode_worker.on_result(queue, *decoded) {
                    self.deliver(request_id, Delivery::Decoded(result));
                }
            }
            WorkerResult::Handshaken(done) => self.on_handshaken(*done),
            WorkerResult::ControlStored(stored) => {
                let cores = self.context.router.shards;
                if let Some(change) = self.controller.on_stored(*stored, cores) {
                    self.put_into_force(&change);
                }
            }
            WorkerResult::Ballast(result) => {
                let now = self.now();
                if self.retention.ballast_mut().on_result(&result, now) {
                    self.checkpointer.on_room_made();
                }
            }
            WorkerResult::Flushed(flusher, result) => self.on_flushed((flusher, result)),
            result => self.take_shard_result(result),
        }
        Ok(())
    }

    /// Takes what was done for the shard, which is open then.
    fn take_shard_result(&mut self, result: WorkerResult<S::Log>) {
        let now = self.now();
        let Some(shard) = &mut self.context.router.shard else {
            return;
        };
        match result {
            WorkerResult::SegmentPrepared(segment) => {
                self.flusher.on_prepared(shard, segment, now);
                self.release();
            }
            WorkerResult::Checkpoint(done) => {
                let taken = self
                    .checkpointer
                    .on_result(shard, (*done, now), &mut self.jobs);
                if let Err(error) = taken {
                    self.rebuild(error);
                }
            }
            WorkerResult::Retention(done) => {
                self.retention
                    .on_result(shard, (*done, now), &mut self.jobs);
            }
            WorkerResult::DirectoryCounted(rows) => {
                let plane = (&self.context.tenants.registry, now.now);
                self.directory.on_counted(shard, *rows, plane);
                self.context.counters.has_directory.store(true, Relaxed);
            }
            WorkerResult::Opened(_)
            | WorkerResult::Flushed(..)
            | WorkerResult::Ballast(_)
            | WorkerResult::ControlStored(_)
            | WorkerResult::Decoded(_)
            | WorkerResult::Handshaken(_)
            | WorkerResult::HistoryAnswered(_) => {}
        }
    }

    /// A flush has returned: the clients that waited for it are answered, and the next flush may
    /// wait for them to come back.
    fn on_flushed(&mut self, result: Flushed<S::Log>) {
        let now_micros = self.now_micros;
        let is_flushed = result.1.is_ok();
        let tally = self.context.counters.tally(self.context.router.core);
        let Some(shard) = &mut self.context.router.shard else {
            return;
        };
        let flushed = self.flusher.on_flushed(shard, result);
        if is_flushed {
            let returned_micros = self.system.monotonic_micros();
            let took_micros = returned_micros.saturating_sub(self.flusher.issued_micros());
            tally.flush.observe(took_micros, 1);
            tally.flush_events.observe(flushed, 1);
        }
        if shard.durability() == Durability::Sync && !shard.failed() {
            self.idle
                .note_flushed(flushed, shard.appended(), now_micros);
        }
        if self.release() {
            self.idle.note_remote_answers();
        }
    }

    /// The shard is recovered.
    fn open(&mut self, opened: OpenedShard<S::Log>) {
        let covered = (opened.through, opened.shard.log().appended());
        let now = self.now();
        if let Some(states) = opened.states {
            self.checkpointer.open(states.checkpoints, covered, now);
            self.retention.open(states.base);
        }
        let mut shard = opened.shard;
        shard.advance(now.now, now.micros);
        self.context.router.shard = Some(shard);
        self.is_opening = true;
        control::acquaint_shard(&mut self.context);
        self.look_for_directory();
        self.count();
        self.finish_opening();
    }

    /// The shard is ready once everything is deleted that came to its end while the process was
    /// down: nobody reads it before. It is ready too if the log has no room for that.
    pub(super) fn finish_opening(&mut self) {
        let shard = self.context.router.shard.as_ref();
        if self.is_opening && shard.is_some_and(|shard| !shard.has_ends()) {
            self.is_opening = false;
            let counters = self.context.counters.of(self.context.router.core);
            counters.ready.store(1, Relaxed);
        }
    }

    /// Takes a view of the shard for `flux-core/directory` if one is due.
    pub(super) fn look_for_directory(&mut self) {
        let now = self.now();
        let router = &mut self.context.router;
        if let Some(shard) = &router.shard {
            self.directory.look(shard, &mut router.sender, now);
        }
    }

    /// In `async` durability what was appended is seen at once. So the kernel has it before anybody
    /// is told: a killed process does not lose what it acknowledged. In `sync` flushes write.
    pub(super) fn write_out(&mut self) {
        let Some(shard) = &mut self.context.router.shard else {
            return;
        };
        if shard.durability() == Durability::Sync || shard.failed() {
            return;
        }
        if let Err(error) = shard.log_mut().write_out() {
            flush::stop(self.context.router.core, shard, &error);
            self.drop_unsent();
        }
    }

    /// A layer is damaged: the process starts anew, without it. If the disk only failed to read it,
    /// the server goes on: what needs those bytes is answered 503, and the next request reads them
    /// again.
    pub(super) fn rebuild(&mut self, error: LayerError) {
        if self.context.counters.is_stopping() {
            return;
        }
        if !error.is_damage() {
            // Once for each place, since every request that needs it fails.
            if self.unreadable.as_ref() != Some(&error) {
                report::say_with(
                    LogEvent::StateUnreadable,
                    &[("shard", self.context.router.core.into())],
                    &format!("shard {}: {error}", self.context.router.core),
                );
                self.unreadable = Some(error);
            }
            return;
        }
        report::say_with(
            LogEvent::StateDamaged,
            &[("shard", self.context.router.core.into())],
            &format!("shard {}: damaged: {error}", self.context.router.core),
        );
        let quarantined = Quarantined::of(error);
        if let Some(path) = quarantined.moved_to {
            report::say(
                LogEvent::DamageKept,
                &format!("it is kept as {}", path.display()),
            );
        }
        self.context.counters.rebuild();
    }

    /// Ends what is in flight, flushes, writes a last checkpoint and closes the log.
    ///
    /// # Errors
    /// If the log can't be closed.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let patience = Duration::from_secs(CHECKPOINT_STOP_SECONDS_MAX);
        self.throttle.hurry_for(patience);
        self.context.history.stop();
        while self.history_worker.is_waiting()
            || self.controller.is_waiting()
            || self.flusher.is_flushing()
        {
            self.wait_for_results()?;
        }
        let plane = (&self.context.tenants.registry, self.context.router.now);
        self.controller.close(plane);
        self.context.router.sender.deliver();
        let Some(shard) = &mut self.context.router.shard else {
            return Ok(());
        };
        if shard.is_refusing() || self.checkpointer.lacks_room() {
            self.retention.ballast().release_blocking();
        }
        if !shard.failed() && shard.log_mut().flush_blocking().is_ok() {
            self.throttle.hurry_for(patience);
            self.checkpointer.retry_at_once();
            while self.checkpoint_due() {
                self.run_jobs()?;
                self.wait_for_results()?;
            }
        }
        // No thread may write when the log is closed, and nobody waits for what they do.
        self.throttle.hurry_for(Duration::ZERO);
        self.system.join();
        match self.context.router.shard.take() {
            None => Ok(()),
            Some(shard) => shard.into_log().close().map_err(io::Error::other),
        }
    }

    fn checkpoint_due(&mut self) -> bool {
        let now = self.now();
        let checkpoint_bytes = self.config.background.housekeeping.checkpoint_bytes;
        let due = |shard: &mut Shard<S::Log>| {
            self.checkpointer
                .finish_due(shard, (now, checkpoint_bytes), &mut self.jobs)
        };
        self.context.router.shard.as_mut().is_some_and(due)
    }

    fn wait_for_results(&mut self) -> io::Result<()> {
        while !self.take_results()? {
            self.wait(Sleep::Micros(END_LOOK_MICROS))?;
        }
        Ok(())
    }
}
