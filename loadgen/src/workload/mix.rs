//! Events, reads and listings in given proportions, drawn anew for each request.

use super::get::Get;
use super::list::List;
use super::publish::Publish;
use super::{Achieved, Ticket, Workload};
use crate::clock::{Clock, Moment};
use crate::drive::{self, Plan};
use crate::http::Answer;
use crate::net::Target;
use crate::options::MixOptions;
use crate::report::Report;
use crate::setup;
use anyhow::{Result, bail};
use fastrand::Rng;

const PUBLISH: usize = 0;
const GET: usize = 1;
const LIST: usize = 2;

/// Apart from the streams of the workloads that are mixed, which choose entities.
const CHOICE_STREAM: usize = 1 << 32;

/// The requests of one connection.
#[derive(Debug)]
struct Mix {
    publish: Publish,
    get: Get,
    list: List,
    random: Rng,
    shares: Shares,
}

/// How many of the sum of all are of each kind.
#[derive(Clone, Copy, Debug)]
struct Shares {
    publish: u64,
    get: u64,
    list: u64,
}

impl Shares {
    fn kind(self, random: &mut Rng) -> usize {
        let drawn = random.u64(..self.publish + self.get + self.list);
        if drawn < self.publish {
            PUBLISH
        } else if drawn < self.publish + self.get {
            GET
        } else {
            LIST
        }
    }
}

impl Mix {
    fn new(options: &MixOptions, target: &Target, connection: usize) -> Result<Self> {
        let (entities, stream) = (&options.entities, (options.load.seed, connection));
        Ok(Self {
            publish: Publish::new(&options.load, entities, (target, false), connection)?,
            get: Get::new(entities, target, stream)?,
            list: List::new(entities, options.limit, target, stream)?,
            random: crate::random::stream(options.load.seed, CHOICE_STREAM + connection),
            shares: Shares {
                publish: options.publish,
                get: options.get,
                list: options.list,
            },
        })
    }
}

impl Workload for Mix {
    const BODY_BYTES_READ: usize = 0;
    const KINDS: &'static [&'static str] = &["publish", "get", "list"];

    fn write_request(&mut self, due: Moment, out: &mut Vec<u8>) -> Ticket {
        let kind = self.shares.kind(&mut self.random);
        let ticket = match kind {
            PUBLISH => self.publish.write_request(due, out),
            GET => self.get.write_request(due, out),
            _ => self.list.write_request(due, out),
        };
        Ticket { kind, ..ticket }
    }

    fn read_answer(&mut self, ticket: Ticket, answer: &Answer<'_>) -> Achieved {
        match ticket.kind {
            PUBLISH => self.publish.read_answer(ticket, answer),
            GET => self.get.read_answer(ticket, answer),
            _ => self.list.read_answer(ticket, answer),
        }
    }
}

/// # Errors
/// When the server cannot be reached or answers nothing, or all shares are 0.
pub(crate) fn run(options: &MixOptions) -> Result<()> {
    let clock = Clock::start();
    let target = Target::new(&options.load.url)?;
    if options.publish + options.get + options.list == 0 {
        bail!("one of --publish, --get and --list must be above 0");
    }
    if !options.no_setup {
        setup::create_entities(&target, &options.entities)?;
    }
    let plan = Plan::new(clock, &target, &options.load);
    let outcome = drive::run(&plan, |connection| Mix::new(options, &target, connection))?;
    let mut report = Report::new("mix");
    report.load(&outcome.stats, "requests", options.load.duration);
    report.print(options.load.json);
    drive::judge(&outcome.stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_drawn_in_their_proportions() {
        let shares = Shares {
            publish: 1,
            get: 8,
            list: 1,
        };
        let mut random = crate::random::stream(3, 0);
        let mut drawn = [0_u64; 3];
        for _ in 0..100_000 {
            drawn[shares.kind(&mut random)] += 1;
        }
        for (drawn, expected) in drawn.into_iter().zip([10_000, 80_000, 10_000]) {
            assert!(drawn.abs_diff(expected) < 600, "{drawn} of {expected}");
        }
    }

    #[test]
    fn a_kind_without_a_share_is_never_drawn() {
        let shares = Shares {
            publish: 0,
            get: 1,
            list: 0,
        };
        let mut random = crate::random::stream(3, 0);
        assert!((0..1000).all(|_| shares.kind(&mut random) == GET));
    }
}
