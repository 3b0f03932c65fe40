//! The `flux` program: arguments → subcommand → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    flux::boot::end_process_on_panic();
    flux::cli::run(std::env::args_os())
}
