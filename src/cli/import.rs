//! `flux import`: JSON lines of an export → the log of a data directory whose server is stopped.
//!
//! Each line is held to the rules of publishing, keeps its accept time (never earlier than that of
//! the last event of its namespace, or of its id if that has none), and is appended to the log of
//! the shard that owns its entity. The state follows at the next start.

use super::{EXIT_FAILURE, data_dir, data_dir_arg, usage};
use crate::api::line::{LineDecoder, LineError};
use crate::boot;
use crate::clock;
use crate::engine::Engine;
use crate::limits::{IMPORT_FLUSH_BYTES, IMPORT_LINE_BYTES_MAX, SHARDS_MAX};
use crate::model::{StoredChange, Timestamp, place};
use crate::report;
use crate::shard::{self, RecoverError};
use crate::state::TimeScope;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use flux_storage::{AppendError, DataView, Log, StorageError};
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
    report::info(&format!(
        "{} lines imported, {} passed over",
        told.taken, told.skipped
    ));
    match imported {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::error(&error.to_string());
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
    while lines.next()? {
        match target.take(&lines, &mut decoder) {
            Ok(()) => told.taken += 1,
            Err(ImportError::Line { number, source }) if skips => {
                report::warning(&format!("line {number} passed over: {source}"));
                told.skipped += 1;
            }
            Err(error) => {
                taken = Err(error);
                break;
            }
        }
    }
    // What was taken is kept, whatever ended it.
    target.close()?;
    taken
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
        })
    }

    fn take(&mut self, lines: &Lines, decoder: &mut LineDecoder) -> Result<(), ImportError> {
        let now = clock::now();
        self.payload.clear();
        let line = decoder
            .decode(&lines.line, now.as_millis(), &mut self.payload)
            .map_err(|source| ImportError::Line {
                number: lines.number,
                source,
            })?;
        let id = StoredChange::entity_id_of(line.kind, &self.payload);
        let id = id
            .and_then(|id| str::from_utf8(id).ok())
            .unwrap_or_default();
        let shard = usize::from(place(id, self.shards));
        let Some(shard) = self.logs.get_mut(shard) else {
            return Ok(());
        };
        let time = shard.note_time(id, line.accepted.unwrap_or(now))?;
        shard.append(line.kind, time, &self.payload)
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
        self.unflushed_bytes += payload.len();
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
