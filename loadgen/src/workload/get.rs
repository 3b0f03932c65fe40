//! Single entities, `GET /api/state/entities/:id`.

use super::{Achieved, Ticket, Workload};
use crate::clock::{Clock, Moment};
use crate::drive::{self, Plan};
use crate::entities::Entities;
use crate::http::Answer;
use crate::keys::Keys;
use crate::net::Target;
use crate::options::{EntityOptions, GetOptions};
use crate::report::Report;
use crate::setup;
use anyhow::Result;
use fastrand::Rng;

/// The reads of one connection: entities at random.
#[derive(Debug)]
pub(crate) struct Get {
    entities: Entities,
    keys: Keys,
    random: Rng,
    /// What follows the id.
    rest: Vec<u8>,
}

impl Get {
    /// `seed` and `connection` tell apart the random choices of several.
    pub(crate) fn new(
        options: &EntityOptions,
        target: &Target,
        (seed, connection): (u64, usize),
    ) -> Result<Self> {
        let entities = Entities::new(options)?;
        Ok(Self {
            keys: Keys::new(entities.count, options.skew),
            entities,
            random: crate::random::stream(seed, connection),
            rest: request_rest(target),
        })
    }
}

/// What precedes the id.
const START: &str = "GET /api/state/entities/";

/// Appends a read of entity `number`; `rest` is from [`request_rest`].
pub(crate) fn write_request(entities: &Entities, number: u64, rest: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(START.as_bytes());
    entities.write_id(number, out);
    out.extend_from_slice(rest);
}

/// What follows the id in a read.
pub(crate) fn request_rest(target: &Target) -> Vec<u8> {
    target.head("", None)
}

impl Workload for Get {
    const BODY_BYTES_READ: usize = 0;

    fn write_request(&mut self, _due: Moment, out: &mut Vec<u8>) -> Ticket {
        let number = self.keys.pick(&mut self.random);
        write_request(&self.entities, number, &self.rest, out);
        Ticket::default()
    }

    fn read_answer(&mut self, _ticket: Ticket, _answer: &Answer<'_>) -> Achieved {
        Achieved::ONE
    }
}

/// # Errors
/// When the server cannot be reached or answers nothing.
pub(crate) fn run(options: &GetOptions) -> Result<()> {
    let clock = Clock::start();
    let target = Target::new(&options.load.url)?;
    if !options.no_setup {
        setup::create_entities(&target, &options.entities)?;
    }
    let plan = Plan::new(clock, &target, &options.load);
    let outcome = drive::run(&plan, |connection| {
        Get::new(&options.entities, &target, (options.load.seed, connection))
    })?;
    let mut report = Report::new("get");
    report.load(&outcome.stats, "requests", options.load.duration);
    report.print(options.load.json);
    drive::judge(&outcome.stats)
}
