//! What the server tells its operator: lines on stderr. If stderr takes none (a full disk, a
//! closed pipe), the server goes on without.

use std::io::Write;

/// Something the operator should know and need not act on.
pub fn info(message: &str) {
    line("", message);
}

/// Something that needs a look.
pub fn warning(message: &str) {
    line("warning: ", message);
}

/// Something that failed.
pub fn error(message: &str) {
    line("error: ", message);
}

fn line(kind: &str, message: &str) {
    match writeln!(std::io::stderr().lock(), "flux: {kind}{message}") {
        // There is nobody left to tell.
        Ok(()) | Err(_) => {}
    }
}
