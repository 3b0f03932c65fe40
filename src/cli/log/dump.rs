//! `flux log dump`: the stored events as JSON lines, in the order of the log.
//!
//! ```text
//! {"shard":0,"generation":1,"sequence":7,"time":"2026-01-31T12:00:00.000000Z","event":{…}}
//! ```
//!
//! Shard by shard within a generation, generation by generation. An entity that an import stored
//! without its events stands as `"entity":{…}` in an event's place. Events on stdout, everything
//! else on stderr.
//!
//! The control log is left out: it holds no events but hashes of tokens, which are to be seen by
//! nobody.

use super::{Outcome, ToolError, finding_line};
use crate::api::{encode, event_encode, time};
use crate::model::{EntityHead, StoredChange, Timestamp, namespace_of};
use crate::report::{self, LogEvent};
use crate::state::is_packed_body;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use flux_storage::{
    Fault, InspectedLog, Inspection, LogReport, Record, ScrubFinding, Seen, Sequence, Severity,
};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

/// Bytes of output that are gathered before they are written.
const OUTPUT_BYTES: usize = 256 * 1024;

pub(super) fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let number = |name, value, help| text(name, value, help).value_parser(value_parser!(u64));
    Command::new("dump")
        .about("Write the stored events as JSON lines, without the control log; a server may be running")
        .args([
            text("entity", "ID", "only events of this entity"),
            text("namespace", "NAMESPACE", "only events of this namespace"),
            number("from", "SEQUENCE", "only records from this one on"),
            number("to", "SEQUENCE", "only records up to this one"),
            text(
                "since",
                "TIME",
                "only events accepted at this time or later (RFC 3339 or Unix milliseconds)",
            ),
            text(
                "until",
                "TIME",
                "only events accepted at this time or earlier",
            ),
            number("limit", "COUNT", "at most so many events"),
            Arg::new("skip-damaged")
                .long("skip-damaged")
                .action(ArgAction::SetTrue)
                .help("go on after damaged records"),
        ])
}

/// Which events are shown.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    entity: Option<String>,
    namespace: Option<String>,
    from: Sequence,
    to: Sequence,
    since_micros: i64,
    until_micros: i64,
    limit: u64,
    skips_damage: bool,
}

impl Filter {
    /// Reads and checks the arguments.
    pub(super) fn parse(matches: &ArgMatches) -> Result<Self, String> {
        let text = |name: &str| match matches.get_one::<String>(name) {
            Some(value) if value.is_empty() => Err(format!("invalid --{name}: it is empty")),
            value => Ok(value.cloned()),
        };
        let micros = |name: &str| match matches.get_one::<String>(name) {
            None => Ok(None),
            Some(value) => match time::parse_asked(value) {
                Ok(time) => Ok(Some(time.as_micros())),
                Err(rule) => Err(format!("invalid --{name}: {value:?} must be {rule}")),
            },
        };
        let number = |name: &str, default| *matches.get_one(name).unwrap_or(&default);
        let filter = Self {
            entity: text("entity")?,
            namespace: text("namespace")?,
            from: Sequence::new(number("from", 0)),
            to: Sequence::new(number("to", u64::MAX)),
            since_micros: micros("since")?.unwrap_or(i64::MIN),
            until_micros: micros("until")?.unwrap_or(i64::MAX),
            limit: number("limit", u64::MAX),
            skips_damage: matches.get_flag("skip-damaged"),
        };
        if filter.from > filter.to {
            return Err("--from is after --to".to_owned());
        }
        if filter.since_micros > filter.until_micros {
            return Err("--since is after --until".to_owned());
        }
        Ok(filter)
    }

    /// False for a loss of records that were not asked for.
    fn concerns(&self, finding: &ScrubFinding) -> bool {
        match finding.fault {
            Fault::Lost { first, last } => first <= self.to && last >= self.from,
            _ => true,
        }
    }

    fn wants(&self, id: &str) -> bool {
        let is_entity = self.entity.as_ref().is_none_or(|entity| entity == id);
        let namespace = self.namespace.as_deref();
        is_entity && namespace.is_none_or(|namespace| namespace_of(id) == Some(namespace))
    }
}

/// A dump under way.
struct Dump<W: Write> {
    filter: Filter,
    out: BufWriter<W>,
    line: Vec<u8>,
    written: u64,
    damaged: bool,
    /// Why it ended early, if it failed.
    failure: Option<io::Error>,
}

pub(super) fn run(data_dir: &Path, filter: Filter) -> Result<Outcome, ToolError> {
    let inspection = Inspection::open(data_dir, is_packed_body)?;
    let mut dump = Dump {
        filter,
        out: BufWriter::with_capacity(OUTPUT_BYTES, io::stdout().lock()),
        line: Vec::new(),
        written: 0,
        damaged: false,
        failure: None,
    };
    for finding in inspection.findings() {
        report::say(LogEvent::CommandWarning, &finding_line(finding));
        dump.damaged |= finding.fault.severity() == Severity::Damage;
    }
    for log in inspection.logs().filter(|log| !log.is_control()) {
        if dump.is_full() || dump.stops_for_damage() {
            break;
        }
        let from = dump.filter.from;
        let report = log.visit(from, &mut |seen| dump.see(log, &seen))?;
        if let Some(error) = dump.failure.take() {
            return Err(error.into());
        }
        dump.tell(&report);
    }
    dump.out.flush()?;
    Ok(if dump.damaged {
        Outcome::Damaged
    } else {
        Outcome::Whole
    })
}

impl<W: Write> Dump<W> {
    fn is_full(&self) -> bool {
        self.written >= self.filter.limit
    }

    fn stops_for_damage(&self) -> bool {
        self.damaged && !self.filter.skips_damage
    }

    /// Says what was found in a log beside what it holds.
    fn tell(&mut self, report: &LogReport) {
        let damage = report
            .findings
            .iter()
            .filter(|finding| finding.fault.severity() == Severity::Damage);
        for finding in damage.filter(|finding| self.filter.concerns(finding)) {
            report::say(LogEvent::DamageFound, &finding_line(finding));
            self.damaged = true;
        }
    }

    fn see(&mut self, log: InspectedLog<'_>, seen: &Seen<'_>) -> ControlFlow<()> {
        match seen {
            // What is wrong is named when this log's part of the dump is over.
            Seen::Damage(finding) => {
                let goes_on = self.filter.skips_damage || !self.filter.concerns(finding);
                if goes_on {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            }
            Seen::Record(record) => self.record(log, record),
        }
    }

    fn record(&mut self, log: InspectedLog<'_>, record: &Record<'_>) -> ControlFlow<()> {
        if record.sequence > self.filter.to {
            return ControlFlow::Break(());
        }
        // Times may fall from one record to the next, unlike sequences.
        if record.time_micros < self.filter.since_micros
            || record.time_micros > self.filter.until_micros
        {
            return ControlFlow::Continue(());
        }
        if let Some(gap) = record.gap() {
            report::say(
                LogEvent::CommandWarning,
                &format!(
                    "shard {}: records {} to {} were given up by an earlier repair",
                    log.shard(),
                    gap.first,
                    gap.last
                ),
            );
            return ControlFlow::Continue(());
        }
        let Ok(Some(change)) = StoredChange::decode(record.kind, record.payload) else {
            report::say(
                LogEvent::DamageFound,
                &format!(
                    "shard {}: record {} holds nothing that this version can read",
                    log.shard(),
                    record.sequence
                ),
            );
            self.damaged = true;
            return if self.filter.skips_damage {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            };
        };
        if !self.filter.wants(change.entity_id()) {
            return ControlFlow::Continue(());
        }
        match self.write(log, record, &change) {
            Ok(()) if self.is_full() => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn write(
        &mut self,
        log: InspectedLog<'_>,
        record: &Record<'_>,
        change: &StoredChange<'_>,
    ) -> io::Result<()> {
        self.line.clear();
        let time = Timestamp::from_micros(record.time_micros).rfc3339();
        write!(
            self.line,
            r#"{{"shard":{},"generation":{},"sequence":{},"time":"{time}","#,
            log.shard(),
            log.generation(),
            record.sequence
        )?;
        match change {
            StoredChange::Event(event) => {
                self.line.extend_from_slice(b"\"event\":");
                event_encode::event(&mut self.line, event);
            }
            StoredChange::Entity(entity) => {
                self.line.extend_from_slice(b"\"entity\":");
                let head = EntityHead {
                    id: entity.id,
                    version: entity.version,
                    last_updated: entity.last_updated,
                    lifetime: entity.lifetime,
                };
                let properties = entity.properties().map(|it| (it.name, it.value));
                encode::entity(&mut self.line, head, properties, None);
            }
        }
        self.line.extend_from_slice(b"}\n");
        self.written += 1;
        self.out.write_all(&self.line)
    }
}
