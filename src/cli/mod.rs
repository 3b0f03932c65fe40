//! The command line: arguments → subcommand → exit code.

use crate::report;
use crate::server;
use crate::settings::{SETTINGS, Settings};
use clap::{Arg, ArgMatches, Command};
use std::process::ExitCode;

/// A setting or argument can't be used.
const EXIT_USAGE: u8 = 2;
/// The server could not start, or a core failed.
const EXIT_FAILURE: u8 = 1;

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
    Command::new("flux")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A persistent, shared, event-sourced world-state engine")
        .args(settings())
        .args_conflicts_with_subcommands(true)
        .subcommand(
            Command::new("serve")
                .about("Start the server (also: flux alone)")
                .args(settings()),
        )
}

/// Runs the program with these arguments, the first of which is its name.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => {
            return match error.print() {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::from(EXIT_FAILURE),
            };
        }
        Err(error) => {
            // The first line names the argument; the rest is usage that `--help` shows better.
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            report::error(line.strip_prefix("error: ").unwrap_or(line));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let serve = matches.subcommand_matches("serve").unwrap_or(&matches);
    match read_settings(serve) {
        Err(error) => {
            report::error(&error);
            ExitCode::from(EXIT_USAGE)
        }
        Ok(settings) => match server::run(&settings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                report::error(&error.to_string());
                ExitCode::from(EXIT_FAILURE)
            }
        },
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is read once, here"
)]
fn read_settings(matches: &ArgMatches) -> Result<Settings, String> {
    let flag = |name: &str| matches.get_one::<String>(name).cloned();
    let mut not_text = None;
    for setting in SETTINGS {
        if let Err(std::env::VarError::NotUnicode(_)) = std::env::var(setting.variable) {
            not_text = Some(setting.variable);
        }
    }
    if let Some(variable) = not_text {
        return Err(format!("invalid {variable}: it is not UTF-8"));
    }
    let variable = |name: &str| std::env::var(name).ok();
    Settings::read(&flag, &variable).map_err(|error| error.to_string())
}
