//! One thread's loop: wait for answers, time them, send what is due next.
//!
//! A turn of one connection is one `recv`, one reading of the clock and one `send`. The time of the
//! `recv` ends the requests that it answers. In a closed loop it also begins the requests that
//! follow.

use super::pace::Pace;
use super::{Plan, RunResult, ThreadCounts, busy_share};
use crate::clock::{Clock, Moment, thread_cpu_time};
use crate::http::AnswerReader;
use crate::net::{Input, LINK_PARTIAL_BYTES_MAX, Link, Poller, Ready, Received};
use crate::process;
use crate::stats::{Phases, Stats};
use crate::workload::{Ticket, Workload};
use crate::ws::{self, RequestAnswers};
use anyhow::Result;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[derive(Debug)]
struct InFlight {
    /// When it was due in an open loop, sent in a closed one.
    due: Moment,
    ticket: Ticket,
}

/// What a connection speaks.
#[derive(Debug)]
enum Reader {
    Http(AnswerReader),
    WebSocket(RequestAnswers),
}

/// A connection and what it is used for.
#[derive(Debug)]
struct Channel<W> {
    /// `None` once it is broken.
    link: Option<Link>,
    reader: Reader,
    in_flight: VecDeque<InFlight>,
    workload: W,
}

pub(super) struct Worker<'a, W> {
    clock: Clock,
    depth: usize,
    poller: Poller,
    input: Input,
    channels: Vec<Channel<W>>,
    /// Open loop: channels with room for a request, one entry for each place.
    places: VecDeque<usize>,
    in_flight_count: usize,
    open_count: usize,
    phases: Phases,
    pace: Pace,
    usage: Usage,
    stats: Stats,
    progress: &'a ThreadCounts,
}

impl<'a, W: Workload> Worker<'a, W> {
    /// Opens a connection for each workload.
    pub(super) fn open(
        plan: &Plan<'_>,
        workloads: Vec<W>,
        progress: &'a ThreadCounts,
    ) -> Result<Self> {
        let poller = Poller::new()?;
        let mut channels = Vec::new();
        for (index, workload) in workloads.into_iter().enumerate() {
            let (link, reader) = if workload.is_websocket() {
                let socket = ws::open(plan.target, "/api/ws?metrics=false")?;
                let link = Link::adopt(socket, &poller, index)?;
                (link, Reader::WebSocket(RequestAnswers::new()))
            } else {
                let link = Link::open(plan.target, &poller, index)?;
                (link, Reader::Http(AnswerReader::new(W::BODY_BYTES_READ)))
            };
            channels.push(Channel {
                link: Some(link),
                reader,
                in_flight: VecDeque::new(),
                workload,
            });
        }
        let depth = usize::from(plan.load.pipeline);
        let count = channels.len();
        let now = plan.clock.now();
        Ok(Self {
            clock: plan.clock,
            depth,
            poller,
            input: Input::new(),
            channels,
            places: (0..depth).flat_map(|_| 0..count).collect(),
            in_flight_count: 0,
            open_count: count,
            phases: Phases::new(now, Duration::ZERO, Duration::ZERO),
            pace: Pace::Closed,
            usage: Usage::new(plan.load.server_pid)?,
            stats: Stats::new(W::KINDS),
            progress,
        })
    }

    /// Loads the server until the end of the measured time, and waits for the last answers.
    pub(super) fn run(&mut self, phases: Phases, pace: Pace) -> Result<()> {
        self.phases = phases;
        self.pace = pace;
        if matches!(self.pace, Pace::Closed) {
            for index in 0..self.channels.len() {
                self.refill(index, self.clock.now());
                self.flush(index);
            }
        }
        loop {
            self.send_due();
            let now = self.clock.now();
            self.usage.follow(now, &phases);
            if self.is_finished(now) {
                break;
            }
            self.poller.wait(self.patience(now))?;
            for number in 0.. {
                let Some(ready) = self.poller.ready(number) else {
                    break;
                };
                self.turn(ready);
            }
        }
        let used = self.usage.result(self.clock.now());
        self.stats.busy.push(used.share);
        self.stats.server_cpu = used.server;
        Ok(())
    }

    pub(super) fn into_result(mut self) -> RunResult<W> {
        self.stats.unanswered += self.in_flight_count as u64;
        if let Pace::Open(schedule) = &mut self.pace {
            while schedule.due() < self.phases.measure_until {
                self.stats.unsent += 1;
                schedule.advance();
            }
        }
        let workloads = self
            .channels
            .into_iter()
            .map(|channel| channel.workload)
            .collect();
        RunResult {
            stats: self.stats,
            workloads,
        }
    }

    fn is_finished(&self, now: Moment) -> bool {
        if self.open_count == 0 || now >= self.phases.give_up {
            return true;
        }
        let nothing_due = match &self.pace {
            Pace::Closed => true,
            Pace::Open(schedule) => schedule.due() >= self.phases.measure_until,
        };
        now >= self.phases.measure_until && self.in_flight_count == 0 && nothing_due
    }

    /// How long to wait for answers before something else is to be done.
    fn patience(&self, now: Moment) -> Duration {
        let mut until = self.phases.next_boundary(now);
        if let Pace::Open(schedule) = &self.pace
            && !self.places.is_empty()
            && schedule.due() < self.phases.measure_until
        {
            until = until.min(schedule.due());
        }
        until.since(now)
    }

    /// Open loop: sends what is due, as far as connections have room.
    fn send_due(&mut self) {
        let Pace::Open(schedule) = &mut self.pace else {
            return;
        };
        let now = self.clock.now();
        let mut written = Vec::new();
        while schedule.due() <= now && schedule.due() < self.phases.measure_until {
            let Some(index) = self.places.pop_front() else {
                break;
            };
            let channel = &mut self.channels[index];
            let Some(link) = &mut channel.link else {
                continue;
            };
            let due = schedule.due();
            let ticket = channel.workload.write_request(due, link.output());
            channel.in_flight.push_back(InFlight { due, ticket });
            self.in_flight_count += 1;
            if self.phases.is_measured(due) {
                self.stats.lateness.saturating_record(now.nanos_since(due));
            }
            schedule.advance();
            written.push(index);
        }
        for index in written {
            self.flush(index);
        }
    }

    fn turn(&mut self, ready: Ready) {
        if ready.writable {
            self.flush(ready.index);
        }
        if ready.readable {
            self.receive(ready.index);
        }
    }

    fn receive(&mut self, index: usize) {
        let Self {
            channels,
            input,
            phases,
            stats,
            clock,
            ..
        } = self;
        let channel = &mut channels[index];
        let Some(link) = &mut channel.link else {
            return;
        };
        let mut turn = Turn::default();
        let (now, result) = match link.receive(input) {
            Ok(Received::Nothing) => return,
            Ok(Received::Closed) => (clock.now(), Err("closed by the server".to_owned())),
            Ok(Received::Bytes(bytes)) => {
                let now = clock.now();
                (
                    now,
                    channel.read_answers((bytes, now), phases, stats, &mut turn),
                )
            }
            Err(error) => (clock.now(), Err(error.to_string())),
        };
        self.in_flight_count -= turn.answered;
        self.progress
            .succeeded
            .fetch_add(turn.units, Ordering::Relaxed);
        if turn.refused > 0 {
            self.progress
                .failed
                .fetch_add(turn.refused, Ordering::Relaxed);
        }
        if let Err(reason) = result {
            self.break_link(index, reason);
            return;
        }
        match self.pace {
            Pace::Closed => self.refill(index, now),
            Pace::Open(_) => self.places.extend((0..turn.answered).map(|_| index)),
        }
        self.flush(index);
    }

    /// Closed loop: brings the connection back to its number of requests in flight.
    fn refill(&mut self, index: usize, now: Moment) {
        let channel = &mut self.channels[index];
        let Some(link) = &mut channel.link else {
            return;
        };
        while now < self.phases.measure_until && channel.in_flight.len() < self.depth {
            let ticket = channel.workload.write_request(now, link.output());
            channel.in_flight.push_back(InFlight { due: now, ticket });
            self.in_flight_count += 1;
        }
    }

    fn flush(&mut self, index: usize) {
        if let Some(link) = &mut self.channels[index].link
            && let Err(error) = link.flush(&self.poller)
        {
            self.break_link(index, error.to_string());
        }
    }

    /// A broken connection is not replaced: what it leaves undone is part of the result.
    fn break_link(&mut self, index: usize, reason: String) {
        let channel = &mut self.channels[index];
        channel.link = None;
        let lost = channel.in_flight.len();
        channel.in_flight.clear();
        self.in_flight_count -= lost;
        self.open_count -= 1;
        self.stats.unanswered += lost as u64;
        *self.stats.broken.entry(reason).or_default() += 1;
        self.progress
            .failed
            .fetch_add(lost as u64, Ordering::Relaxed);
    }
}

/// What one read answered.
#[derive(Debug, Default)]
struct Turn {
    answered: usize,
    units: u64,
    refused: u64,
}

impl<W: Workload> Channel<W> {
    /// Takes all answers out of bytes, which were received at `now`.
    fn read_answers(
        &mut self,
        (mut rest, now): (&[u8], Moment),
        phases: &Phases,
        stats: &mut Stats,
        turn: &mut Turn,
    ) -> Result<(), String> {
        loop {
            let next = match &mut self.reader {
                Reader::Http(reader) => reader.next(&mut rest).map_err(anyhow::Error::from),
                Reader::WebSocket(reader) => reader.next(&mut rest),
            };
            let answer = match next {
                Ok(Some(answer)) => answer,
                Ok(None) => break,
                Err(error) => return Err(error.to_string()),
            };
            let of_this =
                |request: &InFlight| answer.id.is_none_or(|id| request.ticket.value == id);
            let found = self.in_flight.iter().position(of_this);
            let Some(request) = found.and_then(|index| self.in_flight.remove(index)) else {
                return Err("the server answered what was not asked".to_owned());
            };
            turn.answered += 1;
            if !answer.is_success() {
                *stats.refused.entry(answer.status).or_default() += 1;
                turn.refused += 1;
                continue;
            }
            let achieved = self.workload.read_answer(request.ticket, &answer);
            turn.units += achieved.units;
            stats.items_refused += achieved.refused;
            if phases.is_measured(request.due) {
                let nanos = now.nanos_since(request.due);
                stats.latency.saturating_record(nanos);
                if let Some((_, latency)) = stats.by_kind.get_mut(request.ticket.kind) {
                    latency.saturating_record(nanos);
                }
            }
            if phases.is_measured(now) {
                stats.requests += 1;
                stats.units += achieved.units;
                stats.body_bytes += answer.body_len as u64;
            }
        }
        let kept = self.link.as_mut().is_some_and(|link| link.keep(rest));
        if kept {
            Ok(())
        } else {
            Err(format!(
                "the server sent a head of more than {LINK_PARTIAL_BYTES_MAX} bytes"
            ))
        }
    }
}

/// Follows processor time over the measured phase: of this thread, and of the server if its process
/// is known.
#[derive(Debug)]
struct Usage {
    server_pid: Option<u32>,
    begin: Option<Sample>,
    used: Option<Used>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    wall: Moment,
    cpu: Duration,
    /// `None` once the server has ended.
    server: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// Share of a core that this thread used.
    share: f64,
    server: Option<Duration>,
}

impl Usage {
    /// # Errors
    /// When there is no such process.
    fn new(server_pid: Option<u32>) -> Result<Self> {
        server_pid.map(process::cpu_time).transpose()?;
        Ok(Self {
            server_pid,
            begin: None,
            used: None,
        })
    }

    fn follow(&mut self, now: Moment, phases: &Phases) {
        if self.begin.is_none() && now >= phases.measure_from {
            self.begin = Some(self.sample(now));
        } else if self.used.is_none() && now >= phases.measure_until {
            self.used = Some(self.since_begin(now));
        }
    }

    /// Of the whole phase, or of what there was of it.
    fn result(&self, now: Moment) -> Used {
        self.used.unwrap_or_else(|| self.since_begin(now))
    }

    fn since_begin(&self, now: Moment) -> Used {
        let Some(begin) = self.begin else {
            return Used::default();
        };
        let server = self.sample(now).server.zip(begin.server);
        Used {
            share: busy_share(begin.cpu, now.since(begin.wall)),
            server: server.map(|(after, before)| after.saturating_sub(before)),
        }
    }

    fn sample(&self, now: Moment) -> Sample {
        Sample {
            wall: now,
            cpu: thread_cpu_time(),
            server: self.server_pid.and_then(|pid| process::cpu_time(pid).ok()),
        }
    }
}
