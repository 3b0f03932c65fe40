//! What the server tells its operator: lines on stderr.
#![expect(
    clippy::print_stderr,
    reason = "this is the one place that writes the log of the process"
)]

/// Something the operator should know and need not act on.
pub fn info(message: &str) {
    eprintln!("flux: {message}");
}

/// Something that needs a look.
pub fn warning(message: &str) {
    eprintln!("flux: warning: {message}");
}

/// Something that failed.
pub fn error(message: &str) {
    eprintln!("flux: error: {message}");
}
