//! `flux backup` and `flux restore`: a data directory copied beside its server, and made again from
//! the copy.

use super::progress::Progress;
use super::{EXIT_DAMAGE, EXIT_FAILURE, data_dir, data_dir_arg, usage};
use crate::clock;
use crate::model::Timestamp;
use crate::report::{self, LogEvent};
use crate::state::is_packed_body;
use clap::{Arg, ArgMatches, Command, value_parser};
use flux_storage::{BackupError, BackupOptions, BackupSummary, CopyProgress};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The two subcommands.
pub(super) fn commands() -> [Command; 2] {
    [
        Command::new("backup")
            .about("Copy the data directory; a server may be running")
            .arg(directory("the new directory that the copy is made in"))
            .arg(data_dir_arg()),
        Command::new("restore")
            .about("Check a backup and make a data directory of it")
            .arg(directory("the backup"))
            .arg(data_dir_arg()),
    ]
}

fn directory(help: &'static str) -> Arg {
    Arg::new("directory")
        .value_name("DIRECTORY")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

/// Copies the data directory to the directory that is named.
pub(super) fn backup(matches: &ArgMatches) -> ExitCode {
    let options = BackupOptions {
        body_check: is_packed_body,
        time_micros: clock::now().as_micros(),
    };
    run(matches, "copying", |data, copy, progress| {
        flux_storage::backup(data, copy, options, progress)
    })
}

/// Makes the data directory of the backup that is named.
pub(super) fn restore(matches: &ArgMatches) -> ExitCode {
    run(matches, "restoring", |data, copy, progress| {
        flux_storage::restore(copy, data, progress)
    })
}

fn run(
    matches: &ArgMatches,
    work: &'static str,
    copy: impl FnOnce(
        &Path,
        &Path,
        &mut dyn FnMut(CopyProgress<'_>),
    ) -> Result<BackupSummary, BackupError>,
) -> ExitCode {
    let data_dir = match data_dir(matches) {
        Ok(data_dir) => data_dir,
        Err(error) => return usage(&error),
    };
    let Some(directory) = matches.get_one::<PathBuf>("directory") else {
        return usage("a directory is needed");
    };
    let mut shown: Option<Progress> = None;
    let mut before = 0;
    let mut progress = |now: CopyProgress<'_>| {
        let shown = shown.get_or_insert_with(|| Progress::new(work, now.bytes_total));
        shown.add(now.bytes.saturating_sub(before));
        before = now.bytes;
    };
    match copy(&data_dir, directory, &mut progress) {
        Ok(summary) => {
            tell(&summary);
            ExitCode::SUCCESS
        }
        Err(error) => {
            report::say(LogEvent::CommandFailed, &error.to_string());
            ExitCode::from(if error.is_damage() {
                EXIT_DAMAGE
            } else {
                EXIT_FAILURE
            })
        }
    }
}

/// Says on stderr what a backup holds.
fn tell(summary: &BackupSummary) {
    for error in &summary.left_out {
        report::say(
            LogEvent::CommandWarning,
            &format!("left out, since it is damaged; the state comes from the log: {error}"),
        );
    }
    for log in &summary.logs {
        let time = log.time_micros.map_or(String::new(), |micros| {
            format!(", {}", Timestamp::from_micros(micros).rfc3339())
        });
        if log.is_control() {
            report::say(
                LogEvent::CommandResult,
                &format!("control log: through change {}{time}", log.through.get()),
            );
            continue;
        }
        report::say(
            LogEvent::CommandResult,
            &format!(
                "generation {}, shard {} of {}: through event {}{time}",
                log.generation,
                log.shard,
                log.shard_count,
                log.through.get(),
            ),
        );
    }
    report::say(
        LogEvent::CommandResult,
        &format!(
            "{} files, {} bytes, as of {}",
            summary.files,
            summary.bytes,
            Timestamp::from_micros(summary.time_micros).rfc3339()
        ),
    );
}
