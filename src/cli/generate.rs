//! `flux generate`: man pages and completions, made from the command line itself, so that they say
//! what this program takes. Packages are built with it.

use super::{EXIT_FAILURE, usage};
use crate::report::{self, LogEvent};
use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The shells that completions are made for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

pub(super) fn command() -> Command {
    let directory = || {
        Arg::new("directory")
            .value_name("DIRECTORY")
            .required(true)
            .value_parser(clap::value_parser!(PathBuf))
            .help("where the files are written; it is made if it is missing")
    };
    Command::new("generate")
        .about("Write man pages, or completions for bash, zsh and fish")
        .subcommand_required(true)
        .subcommand(
            Command::new("man")
                .about("Write man pages")
                .arg(directory()),
        )
        .subcommand(
            Command::new("completions")
                .about("Write completions: flux.bash, _flux (zsh), flux.fish")
                .arg(directory()),
        )
}

/// `flux` is the whole command line.
pub(super) fn run(matches: &ArgMatches, flux: Command) -> ExitCode {
    let Some((what, matches)) = matches.subcommand() else {
        return usage("nothing to generate");
    };
    let Some(directory) = matches.get_one::<PathBuf>("directory") else {
        return usage("no directory");
    };
    let written = match what {
        "man" => man(flux, directory),
        _ => completions(flux, directory),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(
                LogEvent::CommandFailed,
                &format!("can't write to {}: {error}", directory.display()),
            );
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// `flux.1`, and one page for each subcommand: `flux-log-verify.1`.
fn man(flux: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(flux.disable_help_subcommand(true), directory)
}

fn completions(mut flux: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut flux, "flux", directory)?;
    }
    Ok(())
}
