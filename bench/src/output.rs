//! The only place of this program that writes to the terminal: results to stdout, notes to stderr.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its terminal, here and nowhere else"
)]

/// One line of the result, on stdout.
pub(crate) fn result(line: &str) {
    println!("{line}");
}

/// Progress, warnings and errors, on stderr.
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}
