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
    // One write: a process that ends meanwhile leaves no half of a line.
    let line = format!("flux: {kind}{message}\n");
    match std::io::stderr().lock().write_all(line.as_bytes()) {
        // There is nobody left to tell.
        Ok(()) | Err(_) => {}
    }
}
