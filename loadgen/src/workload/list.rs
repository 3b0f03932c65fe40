//! Listings, `GET /api/state/entities`, of one namespace at random.

use super::{Achieved, Ticket, Workload};
use crate::clock::{Clock, Moment};
use crate::drive::{self, Plan};
use crate::entities::Entities;
use crate::http::Answer;
use crate::net::Target;
use crate::options::{EntityOptions, ListOptions};
use crate::report::Report;
use crate::setup;
use anyhow::Result;
use fastrand::Rng;

/// The listings of one connection.
#[derive(Debug)]
pub(crate) struct List {
    entities: Entities,
    random: Rng,
    /// What follows the namespace, or the path if there are no namespaces.
    rest: Vec<u8>,
}

impl List {
    /// `limit`: entities of each answer, 0 for all. `seed` and `connection` tell apart the random
    /// choices of several.
    pub(crate) fn new(
        options: &EntityOptions,
        limit: u32,
        target: &Target,
        (seed, connection): (u64, usize),
    ) -> Result<Self> {
        let entities = Entities::new(options)?;
        let separator = if entities.namespaces > 0 { '&' } else { '?' };
        let limit = match limit {
            0 => String::new(),
            limit => format!("{separator}limit={limit}"),
        };
        let rest = target.head(&limit, None);
        Ok(Self {
            entities,
            random: crate::random::stream(seed, connection),
            rest,
        })
    }
}

impl Workload for List {
    const BODY_BYTES_READ: usize = 0;

    fn write_request(&mut self, _due: Moment, out: &mut Vec<u8>) -> Ticket {
        out.extend_from_slice(b"GET /api/state/entities");
        if self.entities.namespaces > 0 {
            out.extend_from_slice(b"?namespace=");
            self.entities
                .write_namespace(self.random.u64(..self.entities.namespaces), out);
        }
        out.extend_from_slice(&self.rest);
        Ticket::default()
    }

    fn read_answer(&mut self, _ticket: Ticket, _answer: &Answer<'_>) -> Achieved {
        Achieved::ONE
    }
}

/// # Errors
/// When the server cannot be reached or answers nothing.
pub(crate) fn run(options: &ListOptions) -> Result<()> {
    let clock = Clock::start();
    let target = Target::new(&options.load.url)?;
    if !options.no_setup {
        setup::create_entities(&target, &options.entities)?;
    }
    let plan = Plan::new(clock, &target, &options.load);
    let outcome = drive::run(&plan, |connection| {
        let stream = (options.load.seed, connection);
        List::new(&options.entities, options.limit, &target, stream)
    })?;
    let mut report = Report::new("list");
    report.load(&outcome.stats, "requests", options.load.duration);
    report.print(options.load.json);
    drive::judge(&outcome.stats)
}
