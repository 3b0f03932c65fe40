//! `flux log`: tools over the logs of a data directory (docs/OPERATIONS.md).
//!
//! | subcommand | job | the server |
//! | --- | --- | --- |
//! | `verify` | is all of it whole? | may run |
//! | `dump` | its events as JSON lines | may run |
//! | `repair` | make a damaged log one that a server opens | must be stopped |
//!
//! Exit codes: 0 done and whole, 1 could not be done, 2 bad usage, 3 damage found.

mod dump;
mod repair;
mod verify;

use super::{EXIT_DAMAGE, EXIT_FAILURE, EXIT_USAGE, data_dir, data_dir_arg, usage};
use crate::model::Timestamp;
use crate::report::{self, LogEvent};
use clap::{ArgMatches, Command};
use flux_storage::{InspectedLog, LogSummary, Mark, ScrubFinding, Severity, StorageError};
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

/// Why a tool did not come to an end.
#[derive(Debug, thiserror::Error)]
enum ToolError {
    /// The data directory can't be read, is in use, or the like.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Standard output takes no more.
    #[error("can't write to standard output: {0}")]
    Output(#[from] io::Error),
    /// Some of it is beyond repair.
    #[error("this can't be repaired; nothing was changed: restore a backup")]
    BeyondRepair,
    /// The log is damaged still.
    #[error("the log is damaged after its repair; the originals are in {0}")]
    StillDamaged(String),
}

/// How a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Whole,
    Damaged,
}

/// The subcommand and its own subcommands.
pub(super) fn command() -> Command {
    Command::new("log")
        .about("Look at, show and repair the log of a data directory")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(verify::command().arg(data_dir_arg()))
        .subcommand(dump::command().arg(data_dir_arg()))
        .subcommand(repair::command().arg(data_dir_arg()))
}

/// Runs what the command line says.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let Some((name, matches)) = matches.subcommand() else {
        return ExitCode::from(EXIT_USAGE);
    };
    let data_dir = match data_dir(matches) {
        Ok(data_dir) => data_dir,
        Err(error) => return usage(&error),
    };
    let outcome = match name {
        "verify" => verify::run(&data_dir),
        "repair" => repair::run(&data_dir, matches),
        _ => match dump::Filter::parse(matches) {
            Ok(filter) => dump::run(&data_dir, filter),
            Err(error) => return usage(&error),
        },
    };
    match outcome {
        Ok(Outcome::Whole) => ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => ExitCode::from(EXIT_DAMAGE),
        // Whoever read the output has seen enough.
        Err(ToolError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            report::say(LogEvent::CommandFailed, &error.to_string());
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// One line about a finding.
fn finding_line(finding: &ScrubFinding) -> String {
    let severity = match finding.fault.severity() {
        Severity::Notice => "notice",
        Severity::Damage => "damage",
    };
    format!("{severity}: {finding}")
}

/// Which log it is, in words.
fn place_text(log: InspectedLog<'_>) -> String {
    if log.is_control() {
        return "control log".to_owned();
    }
    format!(
        "generation {}, shard {} of {}",
        log.generation(),
        log.shard(),
        log.shard_count()
    )
}

/// What a log holds, in words.
fn summary_text(summary: &LogSummary) -> String {
    let mut text = format!(
        "{} records in {} segments, {} bytes",
        summary.records, summary.segments, summary.bytes
    );
    if let (Some(first), Some(last)) = (summary.first, summary.last) {
        let written = write!(text, ", {} to {}", mark_text(first), mark_text(last));
        written.expect("a string takes what it is given");
    }
    if summary.lost > 0 {
        let written = write!(text, ", {} records lost", summary.lost);
        written.expect("a string takes what it is given");
    }
    text
}

fn mark_text(mark: Mark) -> String {
    let time = Timestamp::from_micros(mark.time_micros).rfc3339();
    format!("{} ({time})", mark.sequence)
}
