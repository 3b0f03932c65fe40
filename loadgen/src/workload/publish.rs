//! Single events, `POST /api/events` or `publish` messages of a WebSocket.
//!
//! Each entity belongs to one connection, which therefore knows the last value that the server
//! acknowledged for it; with `--verify` those values are read back. Values are a counter that
//! starts at the time of the run in microseconds, so that a value of an earlier run is never taken
//! for one of this.

use super::event::EventText;
use super::{Achieved, Ticket, Workload};
use crate::clock::{Clock, Moment, unix_micros};
use crate::drive::{self, Plan};
use crate::entities::{COUNTER_DIGITS, Entities, write_digits};
use crate::http::Answer;
use crate::keys::Keys;
use crate::net::Target;
use crate::options::{EntityOptions, LoadOptions, PublishOptions};
use crate::report::Report;
use crate::verify::{self, Written};
use crate::ws::write_message;
use anyhow::{Result, bail};
use fastrand::Rng;

/// The events of one connection.
#[derive(Debug)]
pub(crate) struct Publish {
    /// What comes before an event: an HTTP head, or the beginning of a message.
    head: Vec<u8>,
    is_websocket: bool,
    /// Reused: a message.
    message: Vec<u8>,
    text: EventText,
    random: Rng,
    /// One for each entity of this connection: number `index * stride + first`.
    written: Vec<Written>,
    first: u64,
    stride: u64,
    keys: Keys,
    counter: u64,
}

impl Publish {
    pub(crate) fn new(
        load: &LoadOptions,
        options: &EntityOptions,
        (target, is_websocket): (&Target, bool),
        connection: usize,
    ) -> Result<Self> {
        let entities = Entities::new(options)?;
        // If there are more connections than entities, connections share entities; `run` refuses
        // that with `--verify`.
        let stride = u64::from(load.connections).min(entities.count);
        let first = connection as u64 % stride;
        let share = (entities.count - first).div_ceil(stride);
        let mut random = crate::random::stream(load.seed, connection);
        let text = EventText::new(entities, options, &mut random);
        Ok(Self {
            head: if is_websocket {
                br#"{"type":"publish","id":"#.to_vec()
            } else {
                target.head("POST /api/events", Some(text.len(COUNTER_DIGITS)))
            },
            is_websocket,
            message: Vec::new(),
            text,
            random,
            written: vec![Written::default(); crate::numbers::index(share)],
            first,
            stride,
            keys: Keys::new(share, options.skew),
            counter: unix_micros(),
        })
    }

    /// What was sent and acknowledged, by entity number.
    fn written(&self) -> impl Iterator<Item = (u64, Written)> {
        let numbers = (self.first..).step_by(crate::numbers::index(self.stride));
        numbers
            .zip(self.written.iter().copied())
            .filter(|(_, written)| written.sent > 0)
    }
}

impl Workload for Publish {
    const BODY_BYTES_READ: usize = 0;

    fn is_websocket(&self) -> bool {
        self.is_websocket
    }

    fn write_request(&mut self, _due: Moment, out: &mut Vec<u8>) -> Ticket {
        let entity = self.keys.pick(&mut self.random);
        let number = entity * self.stride + self.first;
        self.counter += 1;
        let value = self.counter;
        let request = if self.is_websocket {
            self.message.clear();
            &mut self.message
        } else {
            &mut *out
        };
        request.extend_from_slice(&self.head);
        if self.is_websocket {
            write_digits(value, COUNTER_DIGITS, request);
            request.extend_from_slice(b",\"event\":");
        }
        self.text.write(number, request, |out| {
            write_digits(value, COUNTER_DIGITS, out);
        });
        if self.is_websocket {
            self.message.push(b'}');
            write_message(&self.message, out);
        }
        self.written[crate::numbers::index(entity)].sent = value;
        Ticket {
            entity,
            value,
            ..Ticket::default()
        }
    }

    fn read_answer(&mut self, ticket: Ticket, _answer: &Answer<'_>) -> Achieved {
        let written = &mut self.written[crate::numbers::index(ticket.entity)];
        written.acknowledged = written.acknowledged.max(ticket.value);
        Achieved::ONE
    }
}

/// # Errors
/// When the server cannot be reached, answers nothing, or verification finds something else than
/// was acknowledged.
pub(crate) fn run(options: &PublishOptions) -> Result<()> {
    let clock = Clock::start();
    let target = Target::new(&options.load.url)?;
    let connections = u64::from(options.load.connections);
    if options.verify && options.entities.entities < connections {
        bail!("--verify needs an entity for each connection: raise --entities to {connections}");
    }
    let plan = Plan::new(clock, &target, &options.load);
    let outcome = drive::run(&plan, |connection| {
        let target = (&target, options.websocket);
        Publish::new(&options.load, &options.entities, target, connection)
    })?;
    let mut report = Report::new("publish");
    report.load(&outcome.stats, "requests", options.load.duration);
    let mut verified = Ok(());
    if options.verify {
        let entities = Entities::new(&options.entities)?;
        let written: Vec<_> = outcome
            .workloads
            .iter()
            .flat_map(Publish::written)
            .collect();
        let verification = verify::run(&plan, &entities, &written, options.verify_wait)?;
        verification.describe(&mut report);
        verified = verification.judge();
    }
    report.print(options.load.json);
    verified?;
    drive::judge(&outcome.stats)
}
