//! `flux import`: JSON lines of an export → the log of a data directory whose server is stopped.
//!
//! Each line is held to the rules of publishing, keeps its accept time (never earlier than that of
//! the last event of its namespace, or of its id if that has none), and is appended to the log of
//! the shard that owns its entity. The state follows at the next start.
//!
//! The lines of an atomic batch are held back until all are there, and appended as one group. If
//! one is missing or can't be taken, none is.

use super::{EXIT_FAILURE, data_dir, data_dir_arg, usage};
use crate::api::line::{LineDecoder, LineError};
use crate::boot;
use crate::clock;
use crate::engine::Engine;
use crate::limits::{IMPORT_FLUSH_BYTES, IMPORT_LINE_BYTES_MAX, SHARDS_MAX};
use crate::model::{StoredChange, Timestamp, place};
use crate::report::{self, LogEvent};
use crate::shard::{self, RecoverError};
use crate::state::TimeScope;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use flux_storage::{
    AppendError, DataView, GROUP_BYTES_MAX, GroupPlace, GroupSize, Log, StorageError,
};
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why an import did not come to an end. What was taken before stays.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("can't use the data directory: {0}")]
    Open(#[from] boot::StartError),
    #[error("can't append: {0}")]
    Append(#[from] AppendError),
    #[error("can't read the lines: {0}")]
    Input(#[from] io::Error),
    #[error("line {number} is longer than {IMPORT_LINE_BYTES_MAX} bytes")]
    TooLong { number: u64 },
    #[error("line {number}: {source}")]
    Line {
        number: u64,
        #[source]
        source: LineError,
    },
    #[error("line {number}: the atomic batch of {held} lines before it is not whole")]
    CutOff { number: u64, held: usize },
    #[error("line {number}: an event of an atomic batch without those before it")]
    Stray { number: u64 },
}

pub(super) fn command() -> Command {
    Command::new("import")
        .about("Append the lines of an export; the server must be stopped")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("the lines, - for standard input"),
        )
        .arg(
            Arg::new("shards")
                .long("shards")
                .value_name("NUMBER")
                .value_parser(value_parser!(u16).range(1..=i64::from(SHARDS_MAX)))
                .help("number of shards [default: as the directory has, else one for each core]"),
        )
        .arg(
            Arg::new("skip-bad")
                .long("skip-bad")
                .action(ArgAction::SetTrue)
                .help("pass over lines that can't be taken, and count them"),
        )
        .arg(data_dir_arg())
}

/// How many lines became of what.
#[derive(Debug, Default, Clone, Copy)]
struct HistoryResult {
    taken: u64,
    skipped: u64,
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let data_dir = match data_dir(matches) {
        Ok(data_dir) => data_dir,
        Err(error) => return usage(&error),
    };
    let mut told = HistoryResult::default();
    let imported = import(matches, &data_dir, &mut told);
    report::say(
        LogEvent::CommandResult,
        &format!(
            "{} lines imported, {} passed over",
            told.taken, told.skipped
        ),
    );
    match imported {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(LogEvent::CommandFailed, &error.to_string());
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn import(
    matches: &ArgMatches,
    data_dir: &Path,
    told: &mut HistoryResult,
) -> Result<(), ImportError> {
    let name = matches.get_one::<PathBuf>("file");
    let input: Box<dyn Read> = match name {
        Some(path) if path.as_os_str() != "-" => Box::new(File::open(path)?),
        _ => Box::new(io::stdin().lock()),
    };
    let found = DataView::open(data_dir).ok();
    let found = found.and_then(|view| view.logs().last().map(|log| log.shard_count()));
    let found = found.and_then(|count| u16::try_from(count).ok());
    let shards = matches.get_one::<u16>("shards").copied().or(found);
    let mut target = Target::open(data_dir, shards.unwrap_or_else(boot::default_shards))?;
    let mut lines = Lines {
        input: BufReader::new(input),
        line: Vec::new(),
        number: 0,
    };
    let mut decoder = LineDecoder::new(RandomState::new().hash_one(clock::now().as_micros()));
    let skips = matches.get_flag("skip-bad");
    let mut taken = Ok(());
    let mut on_line = lines.next();
    while let Ok(true) = on_line {
        match target.take(&lines, &mut decoder) {
            Ok(count) => told.taken += count,
            Err(error) if skips && error.is_of_lines() => {
                report::say(LogEvent::LinePassedOver, &format!("passed over: {error}"));
                told.skipped += target.drop_held();
                if let ImportError::CutOff { .. } = error {
                    // This line is not at fault.
                    continue;
                }
                told.skipped += 1;
            }
            Err(error) => {
                taken = Err(error);
                break;
            }
        }
        on_line = lines.next();
    }
    let cut_off = target.cut_off(lines.number).filter(|_| taken.is_ok());
    if let Some(error) = cut_off {
        if skips {
            report::say(LogEvent::LinePassedOver, &format!("passed over: {error}"));
            told.skipped += target.drop_held();
        } else {
            taken = Err(error);
        }
    }
    // What was taken is kept, whatever ended it.
    target.close()?;
    on_line?;
    taken
}

impl ImportError {
    /// Whether it is a fault of lines that can be passed over.
    const fn is_of_lines(&self) -> bool {
        matches!(
            self,
            Self::Line { .. } | Self::CutOff { .. } | Self::Stray { .. }
        )
    }
}

/// Lines of bounded length.
struct Lines {
    input: BufReader<Box<dyn Read>>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Reads the next line that is not empty; false at the end.
    fn next(&mut self) -> Result<bool, ImportError> {
        loop {
            self.line.clear();
            self.number += 1;
            let max = IMPORT_LINE_BYTES_MAX as u64 + 1;
            let read = (&mut self.input)
                .take(max)
                .read_until(b'\n', &mut self.line)?;
            if read == 0 {
                return Ok(false);
            }
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
            }
            if self.line.len() > IMPORT_LINE_BYTES_MAX {
                return Err(ImportError::TooLong {
                    number: self.number,
                });
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }
}

/// The logs that lines go to.
struct Target {
    shards: u16,
    logs: Vec<ShardLog>,
    payload: Vec<u8>,
    held: Held,
}

/// The lines of an atomic batch, until all of them are there.
#[derive(Default)]
struct Held {
    /// Payloads of their records, one after the other.
    payloads: Vec<u8>,
    records: Vec<HeldRecord>,
}

#[derive(Clone, Copy)]
struct HeldRecord {
    kind: u8,
    accepted: Timestamp,
    place: GroupPlace,
    /// Where in `payloads` it ends.
    end: usize,
}

impl Held {
    /// The payloads, each with its record.
    fn iter(&self) -> impl Iterator<Item = (HeldRecord, &[u8])> {
        let starts = std::iter::once(0).chain(self.records.iter().map(|record| record.end));
        let ranged = starts.zip(&self.records);
        ranged.map(|(start, record)| {
            (
                *record,
                self.payloads.get(start..record.end).unwrap_or_default(),
            )
        })
    }

    /// Whether an event at this place, about this entity, goes on with it.
    fn goes_on_with(&self, place: GroupPlace, id: &str) -> bool {
        let Some((last, payload)) = self.iter().last() else {
            return place.index == 0;
        };
        let own_id = id_of(last.kind, payload);
        last.place.count == place.count
            && last.place.index + 1 == place.index
            && TimeScope::of(own_id) == TimeScope::of(id)
    }
}

fn id_of(kind: u8, payload: &[u8]) -> &str {
    let id = StoredChange::entity_id_of(kind, payload);
    id.and_then(|id| str::from_utf8(id).ok())
        .unwrap_or_default()
}

struct ShardLog {
    log: Log,
    /// What the log held before.
    engine: Engine,
    /// The times of the last events that were appended, by namespace.
    namespaces: HashMap<Box<str>, Timestamp>,
    /// The same of ids without a namespace.
    ids: HashMap<Box<str>, Timestamp>,
    unflushed_bytes: usize,
}

impl Target {
    /// Opens the directory, whose logs are recovered as at the start of a server.
    fn open(data_dir: &Path, shards: u16) -> Result<Self, ImportError> {
        let mut data = boot::open_for_import(data_dir, shards)?;
        let mut logs = Vec::new();
        for number in 0..shards {
            let log = data.take_log(u32::from(number));
            let recovered = shard::recover(&data, log, (number, shards), &mut |_| ())?;
            logs.push(ShardLog {
                log: recovered.log.into_storage(),
                engine: recovered.engine,
                namespaces: HashMap::new(),
                ids: HashMap::new(),
                unflushed_bytes: 0,
            });
        }
        Ok(Self {
            shards,
            logs,
            payload: Vec::new(),
            held: Held::default(),
        })
    }

    /// Takes a line. Returns how many lines got into the log with it: none if it is held back.
    fn take(&mut self, lines: &Lines, decoder: &mut LineDecoder) -> Result<u64, ImportError> {
        let now = clock::now();
        self.payload.clear();
        let line = decoder
            .decode(&lines.line, now.as_millis(), &mut self.payload)
            .map_err(|source| ImportError::Line {
                number: lines.number,
                source,
            })?;
        let accepted = line.accepted.unwrap_or(now);
        let id = id_of(line.kind, &self.payload);
        let goes_on = line.group.is_some_and(|it| self.held.goes_on_with(it, id));
        if let Some(error) = self.cut_off(lines.number).filter(|_| !goes_on) {
            return Err(error);
        }
        let number = usize::from(place(id, self.shards));
        let Some(shard) = self.logs.get_mut(number) else {
            return Ok(0);
        };
        let Some(place) = line.group else {
            let time = shard.note_time(id, accepted)?;
            shard.append(line.kind, time, &self.payload)?;
            return Ok(1);
        };
        if !goes_on {
            return Err(ImportError::Stray {
                number: lines.number,
            });
        }
        self.held.payloads.extend_from_slice(&self.payload);
        let end = self.held.payloads.len();
        if end > GROUP_BYTES_MAX {
            return Err(AppendError::GroupTooLarge.into());
        }
        self.held.records.push(HeldRecord {
            kind: line.kind,
            accepted,
            place,
            end,
        });
        if !place.is_last() {
            return Ok(0);
        }
        shard.append_group(&self.held)?;
        Ok(self.drop_held())
    }

    /// The error of a batch of which so many lines are held back, if there is one.
    fn cut_off(&self, number: u64) -> Option<ImportError> {
        let held = self.held.records.len();
        (held > 0).then_some(ImportError::CutOff { number, held })
    }

    /// Forgets the lines that are held back. Returns their number.
    fn drop_held(&mut self) -> u64 {
        let count = self.held.records.len();
        self.held = Held::default();
        count as u64
    }

    fn close(self) -> Result<(), StorageError> {
        self.logs
            .into_iter()
            .try_for_each(|shard| shard.log.close())
    }
}

impl ShardLog {
    /// The time of an id's next event, which is `accepted` or, if its last was later, that.
    fn note_time(&mut self, id: &str, accepted: Timestamp) -> Result<Timestamp, ImportError> {
        let (last_times, name) = match TimeScope::of(id) {
            TimeScope::Namespace(name) => (&mut self.namespaces, name),
            TimeScope::Id(id) => (&mut self.ids, id),
        };
        if let Some(last) = last_times.get_mut(name) {
            *last = accepted.max(*last);
            return Ok(*last);
        }
        let floor = self.engine.floor(id).map_err(RecoverError::from)?;
        let time = accepted.max(floor);
        last_times.insert(name.into(), time);
        Ok(time)
    }

    fn append(&mut self, kind: u8, time: Timestamp, payload: &[u8]) -> Result<(), ImportError> {
        loop {
            match self.log.append(kind, time.as_micros(), payload) {
                Ok(_) => break,
                Err(AppendError::SegmentNeeded { .. }) => self.make_room()?,
                Err(error) => return Err(error.into()),
            }
        }
        self.count_unflushed(payload.len())
    }

    /// Appends all records of an atomic batch, or none.
    fn append_group(&mut self, held: &Held) -> Result<(), ImportError> {
        let size = GroupSize {
            records: held.records.len(),
            payload_bytes: held.payloads.len(),
        };
        loop {
            match self.log.begin_group(size) {
                Ok(()) => break,
                Err(AppendError::SegmentNeeded { .. }) => self.make_room()?,
                Err(error) => return Err(error.into()),
            }
        }
        for (record, payload) in held.iter() {
            let appended = match self.note_time(id_of(record.kind, payload), record.accepted) {
                Ok(time) => self.log.append(record.kind, time.as_micros(), payload),
                Err(error) => {
                    self.log.abort_group();
                    return Err(error);
                }
            };
            if let Err(error) = appended {
                self.log.abort_group();
                return Err(error.into());
            }
        }
        self.log.end_group();
        self.count_unflushed(held.payloads.len())
    }

    /// Flushes if enough was appended.
    fn count_unflushed(&mut self, bytes: usize) -> Result<(), ImportError> {
        self.unflushed_bytes += bytes;
        if self.unflushed_bytes >= IMPORT_FLUSH_BYTES {
            self.log.flush_blocking()?;
            self.unflushed_bytes = 0;
        }
        Ok(())
    }

    /// What a server has its helper thread do.
    fn make_room(&mut self) -> Result<(), StorageError> {
        if let Some(job) = self.log.next_segment_job() {
            match job.run() {
                Ok(next) => self.log.install_next_segment(next),
                Err(error) => {
                    self.log.next_segment_failed();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
