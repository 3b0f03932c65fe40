//! The command line: arguments → subcommand → exit code.
//!
//! | file | job |
//! | --- | --- |
//! | `backup` | copies of a data directory, and putting one back |
//! | `doctor` | whether a server could start here |
//! | `export`, `import` | events as lines, both ways |
//! | `generate` | man pages and completions of this command line |
//! | `health` | whether the server of this machine can be asked |
//! | `mcp` | the Model Context Protocol over standard input and output |
//! | `log` | looks at logs: verify, repair, dump |
//! | `progress` | how far a long command is |

mod backup;
mod doctor;
mod export;
mod generate;
mod health;
mod import;
mod log;
mod mcp;
mod progress;

use crate::boot::{self, StartError};
use crate::report::{self, LogEvent};
use crate::settings::{DATA_DIR_VARIABLE, SETTINGS, Settings, UnknownVariable, unknown_variables};
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgMatches, Command};
use std::path::PathBuf;
use std::process::ExitCode;

/// A setting or argument can't be used.
const EXIT_USAGE: u8 = 2;
/// The server could not start, or a core failed.
const EXIT_FAILURE: u8 = 1;
/// Something stored is damaged or gone.
const EXIT_DAMAGE: u8 = 3;

fn command() -> Command {
    let settings = || {
        SETTINGS.iter().map(|setting| {
            let arg = Arg::new(setting.flag)
                .long(setting.flag)
                .value_name("VALUE")
                .help(format!("{} [env: {}]", setting.help, setting.variable));
            if setting.flag == "auth" {
                arg.num_args(0..=1).default_missing_value("true")
            } else {
                arg
            }
        })
    };
    let server = Command::new("flux")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A persistent, shared, event-sourced world-state engine")
        .args(settings())
        .args_conflicts_with_subcommands(true)
        .subcommand(
            Command::new("serve")
                .about("Start the server (also: flux alone)")
                .args(settings()),
        );
    let server = server
        .subcommand(doctor::command(settings()))
        .subcommand(health::command(settings()));
    with_tools(server)
}

/// Adds the subcommands that are no matter of a server.
fn with_tools(command: Command) -> Command {
    command
        .subcommand(mcp::command())
        .subcommand(log::command())
        .subcommands(backup::commands())
        .subcommand(export::command())
        .subcommand(import::command())
        .subcommand(generate::command())
}

/// Runs the program with these arguments, the first of which is its name.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    say_as_the_environment_has_it();
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => {
            return match error.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(EXIT_FAILURE),
            };
        }
        Err(error) => {
            let text = error.to_string();
            // The first line names the argument; the rest is usage that `--help` shows better. Who
            // named no subcommand wants to see which there are.
            let lines = match error.kind() {
                ErrorKind::MissingSubcommand => text.trim_end(),
                _ => text.lines().next().unwrap_or_default(),
            };
            let line = lines.strip_prefix("error: ").unwrap_or(lines);
            match error.get(ContextKind::SuggestedArg) {
                Some(nearest) => report::say(
                    LogEvent::WrongUsage,
                    &format!("{line}; did you mean {nearest}?"),
                ),
                None => report::say(LogEvent::WrongUsage, line),
            }
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match matches.subcommand() {
        Some(("doctor", matches)) => return doctor::run(matches),
        Some(("health", matches)) => return health::run(matches),
        Some(("generate", matches)) => return generate::run(matches, command()),
        Some(("mcp", _)) => return mcp::run(),
        Some(("log", matches)) => return log::run(matches),
        Some(("backup", matches)) => return backup::backup(matches),
        Some(("restore", matches)) => return backup::restore(matches),
        Some(("export", matches)) => return export::run(matches),
        Some(("import", matches)) => return import::run(matches),
        Some(_) | None => {}
    }
    let serve = matches.subcommand_matches("serve").unwrap_or(&matches);
    match read_settings(serve) {
        Err(error) => {
            report::say(LogEvent::SettingInvalid, &error);
            ExitCode::from(EXIT_USAGE)
        }
        Ok(settings) => match boot::run(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                report::say(LogEvent::ServerFailed, &error.to_string());
                let is_setting = matches!(error, StartError::Tls(_));
                ExitCode::from(if is_setting { EXIT_USAGE } else { EXIT_FAILURE })
            }
        },
    }
}

/// Sets how lines are said. What is wrong with a variable is said by the command that needs it.
fn say_as_the_environment_has_it() {
    let variable = |name: &str| variable(name).unwrap_or_default();
    report::detect_journal(&variable("JOURNAL_STREAM").unwrap_or_default());
    report::configure(Settings::read_log(&|_| None, &variable).unwrap_or_default());
}

fn usage(error: &str) -> ExitCode {
    report::say(LogEvent::WrongUsage, error);
    ExitCode::from(EXIT_USAGE)
}

fn data_dir_arg() -> Arg {
    Arg::new("data-dir")
        .long("data-dir")
        .value_name("DIRECTORY")
        .help("where the data lies [env: FLUX_DATA_DIR] [default: ./flux-data]")
}

/// The settings of a server. Variables that look like settings and are none are named.
fn read_settings(matches: &ArgMatches) -> Result<Settings, String> {
    let settings = check_settings(matches);
    for unknown in unknown_settings() {
        report::say(LogEvent::SettingUnknown, &unknown.to_string());
    }
    settings
}

/// Variables that look like settings and are none.
fn unknown_settings() -> Vec<UnknownVariable> {
    unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
}

/// The settings of a server.
fn check_settings(matches: &ArgMatches) -> Result<Settings, String> {
    let flag = |name: &str| matches.get_one::<String>(name).cloned();
    for setting in SETTINGS {
        variable(setting.variable)?;
    }
    let variable = |name: &str| variable(name).unwrap_or_default();
    report::configure(Settings::read_log(&flag, &variable).map_err(|error| error.to_string())?);
    let cores = boot::default_shards();
    Settings::read(cores, &flag, &variable).map_err(|error| error.to_string())
}

/// The data directory that a tool is to work on: the one that a server with this flag and
/// environment would use.
fn data_dir(matches: &ArgMatches) -> Result<PathBuf, String> {
    let flag = |name: &str| matches.get_one::<String>(name).cloned();
    variable(DATA_DIR_VARIABLE)?;
    let variable = |name: &str| variable(name).unwrap_or_default();
    Settings::read_data_dir(&flag, &variable).map_err(|error| error.to_string())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read here only"
)]
fn variable(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("invalid {name}: it is not UTF-8")),
    }
}
