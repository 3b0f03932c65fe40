//! `flux export`: the events of a data directory as JSON lines, for another machine or version.
//!
//! The order: generation by generation, and within one the logs are merged by the time of
//! acceptance. The events of a log stay in their order, and so do those of a namespace: each line
//! keeps its time when it is imported into any number of shards. A log that lost its beginning to
//! retention begins with its base's entities, each at the time of its namespace's last event there.
//! The lines of an atomic batch follow each other.
//! A server may be running: what was durable when the reading of a log began is in the export.

use super::progress::Progress;
use super::{EXIT_DAMAGE, EXIT_FAILURE, data_dir, data_dir_arg, usage};
use crate::api::line;
use crate::model::{EntityHead, EventDecodeError, StoredChange, Timestamp, namespace_of};
use crate::report::{self, LogEvent};
use crate::state::{Entity, TimeScope, entity_of, is_packed_body, latest_in};
use clap::{Arg, ArgMatches, Command, value_parser};
use flux_storage::{
    Checkpoint, CheckpointDir, CheckpointError, CheckpointKind, DataView, GroupPlace, LayerError,
    LogCursor, LogView, Record, StackCursor, StorageError,
};
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why an export did not come to an end.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("can't write the export: {0}")]
    Output(#[from] io::Error),
    #[error("record {sequence} can't be read by this version: {source}")]
    Record {
        sequence: u64,
        #[source]
        source: EventDecodeError,
    },
    #[error("retention removed the events before {first} and there is no base: restore a backup")]
    NoBase { first: u64 },
}

pub(super) fn command() -> Command {
    Command::new("export")
        .about("Write all events as JSON lines; a server may be running")
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("a new file in place of standard output"),
        )
        .arg(data_dir_arg())
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let data_dir = match data_dir(matches) {
        Ok(data_dir) => data_dir,
        Err(error) => return usage(&error),
    };
    match export(&data_dir, matches.get_one::<PathBuf>("output")) {
        Ok(told) => {
            report::say(
                LogEvent::CommandResult,
                &format!(
                    "{} events and {} entities exported",
                    told.events, told.entities
                ),
            );
            ExitCode::SUCCESS
        }
        // Whoever read the output has seen enough.
        Err(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            report::say(LogEvent::CommandFailed, &error.to_string());
            let damage = match &error {
                ExportError::Storage(error) => error.is_damage(),
                ExportError::Layer(error) => error.is_damage(),
                ExportError::Record { .. } | ExportError::NoBase { .. } => true,
                ExportError::Checkpoint(_) | ExportError::Output(_) => false,
            };
            ExitCode::from(if damage { EXIT_DAMAGE } else { EXIT_FAILURE })
        }
    }
}

/// What was written.
#[derive(Debug, Default)]
struct HistoryResult {
    events: u64,
    entities: u64,
}

/// Creates a file for its owner alone, as those of a data directory are: what it holds is the same.
fn create(path: &PathBuf) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn export(data_dir: &Path, output: Option<&PathBuf>) -> Result<HistoryResult, ExportError> {
    let view = DataView::open(data_dir)?;
    let file = output.map(create).transpose()?;
    let mut writer = Writer {
        out: match &file {
            Some(file) => Box::new(BufWriter::new(file)),
            None => Box::new(BufWriter::new(io::stdout().lock())),
        },
        told: HistoryResult::default(),
    };
    let bytes = view.logs().iter().map(LogView::bytes);
    let mut progress = Progress::new("exporting", bytes.sum::<Result<u64, _>>()?);
    for generation in view
        .logs()
        .chunk_by(|one, other| one.generation() == other.generation())
    {
        let bases = generation.iter().map(base_of);
        let bases = bases.collect::<Result<Vec<_>, _>>()?;
        let mut streams = Vec::new();
        for (log, base) in generation.iter().zip(&bases) {
            let mut stream = Stream::new(log, base.as_ref())?;
            writer.advance(&mut stream, &mut progress)?;
            streams.push(stream);
        }
        while let Some(stream) = streams
            .iter_mut()
            .filter(|stream| stream.next.is_some())
            .min_by_key(|stream| stream.next)
        {
            let mut batch_goes_on = true;
            while batch_goes_on {
                writer.out.write_all(&stream.line)?;
                batch_goes_on = stream.group.is_some_and(|place| !place.is_last());
                writer.advance(stream, &mut progress)?;
            }
        }
    }
    writer.out.flush()?;
    let told = writer.told;
    drop(writer.out);
    if let Some(file) = &file {
        file.sync_all()?;
    }
    Ok(told)
}

/// The state that a log begins with, if its beginning is gone.
fn base_of(log: &LogView) -> Result<Option<Checkpoint>, ExportError> {
    let origin = log.origin()?;
    if origin.removed.is_none() {
        return Ok(None);
    }
    let kind = CheckpointKind::Base;
    let dir = CheckpointDir::new(log.base_path(), origin.owner, kind, is_packed_body);
    let first = origin.first_sequence.get();
    let base = dir.view().newest()?;
    Ok(Some(base.ok_or(ExportError::NoBase { first })?))
}

/// The lines of one log, with the next one made.
struct Stream<'b> {
    /// What is left of its base.
    base: Option<BaseEntities<'b>>,
    cursor: LogCursor,
    line: Vec<u8>,
    /// The time of the line; `None` after the last.
    next: Option<Timestamp>,
    /// The place of its event in its atomic batch, if it is of one.
    group: Option<GroupPlace>,
    /// Records up to here are part of the base.
    covered: u64,
}

/// The entities of a base.
struct BaseEntities<'b> {
    base: &'b Checkpoint,
    cursor: StackCursor<'b>,
    /// The last entity's namespace, and the time of its last event.
    namespace: Option<(String, Timestamp)>,
}

impl BaseEntities<'_> {
    /// The next one, and the time of the last event of its namespace or, if it has none, of its
    /// own.
    fn next(&mut self) -> Result<Option<(Entity<'_>, Timestamp)>, LayerError> {
        while let Some(record) = self.cursor.next()? {
            let Some(entity) = entity_of(record) else {
                continue;
            };
            let Some(name) = namespace_of(entity.id()) else {
                return Ok(Some((entity, entity.last_updated())));
            };
            if let Some((known, time)) = &self.namespace
                && known == name
            {
                return Ok(Some((entity, *time)));
            }
            let latest = latest_in(&self.base.stack, TimeScope::Namespace(name))?;
            let base_micros = self.base.meta.time_micros;
            let time = latest.unwrap_or_else(|| Timestamp::from_micros(base_micros));
            self.namespace = Some((name.to_owned(), time));
            return Ok(Some((entity, time)));
        }
        Ok(None)
    }
}

impl<'b> Stream<'b> {
    fn new(log: &LogView, base: Option<&'b Checkpoint>) -> Result<Self, ExportError> {
        Ok(Self {
            base: base.map(|base| BaseEntities {
                base,
                cursor: base.stack.list(|_| false),
                namespace: None,
            }),
            cursor: log.cursor()?,
            line: Vec::new(),
            next: None,
            group: None,
            covered: base.map_or(0, |base| base.meta.through.get()),
        })
    }
}

struct Writer<'f> {
    out: Box<dyn Write + 'f>,
    told: HistoryResult,
}

impl Writer<'_> {
    /// Makes the next line of a stream.
    fn advance(
        &mut self,
        stream: &mut Stream<'_>,
        progress: &mut Progress,
    ) -> Result<(), ExportError> {
        stream.line.clear();
        stream.next = None;
        stream.group = None;
        if let Some(base) = &mut stream.base {
            if let Some((entity, time)) = base.next()? {
                line::entity_line(&mut stream.line, time, entity.head(), entity.properties());
                stream.line.push(b'\n');
                stream.next = Some(time);
                self.told.entities += 1;
                return Ok(());
            }
            stream.base = None;
        }
        let (line, covered) = (&mut stream.line, stream.covered);
        while let Some(time) = stream.cursor.next(|record| {
            progress.add(record.bytes_on_disk());
            if record.sequence.get() <= covered {
                return Ok(None);
            }
            let time = Timestamp::from_micros(record.time_micros);
            let shown = self.record(&record, line)?;
            Ok::<_, ExportError>(shown.then_some((time, record.group)))
        })? {
            if let Some((time, group)) = time? {
                (stream.next, stream.group) = (Some(time), group);
                break;
            }
        }
        Ok(())
    }

    /// Writes a record's line; false if it has none.
    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<bool, ExportError> {
        let sequence = record.sequence.get();
        let accepted = Timestamp::from_micros(record.time_micros);
        if let Some(gap) = record.gap() {
            report::say(
                LogEvent::CommandWarning,
                &format!(
                    "events {} to {} were given up by an earlier repair",
                    gap.first.get(),
                    gap.last.get()
                ),
            );
            return Ok(false);
        }
        let change = StoredChange::decode(record.kind, record.payload);
        let change = change.map_err(|source| ExportError::Record { sequence, source })?;
        match change {
            None => return Ok(false),
            Some(StoredChange::Event(event)) => {
                self.told.events += 1;
                line::event_line(out, (record.sequence, record.group), accepted, &event);
            }
            Some(StoredChange::Entity(entity)) => {
                self.told.entities += 1;
                let head = EntityHead {
                    id: entity.id,
                    version: entity.version,
                    last_updated: entity.last_updated,
                    lifetime: entity.lifetime,
                };
                let properties = entity
                    .properties()
                    .map(|property| (property.name, property.value));
                line::entity_line(out, accepted, head, properties);
            }
        }
        out.push(b'\n');
        Ok(true)
    }
}
