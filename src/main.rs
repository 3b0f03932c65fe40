//! The `flux` program: arguments → subcommand → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    flux::cli::run(std::env::args_os())
}
