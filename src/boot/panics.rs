//! A panic on any thread ends the process, with one line that says on which thread and where.
//!
//! A core that has lost a thread would wait for it for ever, and nobody knows what a piece of work
//! that broke off has left half done. The log is made for the end of the process at any moment, so
//! that is the one safe way on: the service manager starts the server again, and it recovers as
//! after any crash. Nothing unwinds, so nothing is flushed or answered on the way out.
//!
//! The line is the only trace, also of a panic in a library: the usual message of several lines,
//! with its backtrace, is not printed.

use crate::report::{self, LogEvent};
use std::fmt::Write as _;
use std::panic::PanicHookInfo;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The exit code after a panic; no other end of the program has it.
const EXIT_PANIC: i32 = 101;
/// Characters of a panic's message that are shown: it may hold bytes from outside.
const MESSAGE_CHARS_MAX: usize = 300;

/// Lets every panic from here on end the process.
pub fn end_process_on_panic() {
    std::panic::set_hook(Box::new(|panic| end(panic)));
}

#[expect(
    clippy::exit,
    reason = "no thread can end in order what another thread has left half done"
)]
fn end(panic: &PanicHookInfo<'_>) -> ! {
    static ENDS: AtomicBool = AtomicBool::new(false);
    if ENDS.swap(true, Relaxed) {
        // Another thread's panic is told, and ends this one too.
        loop {
            std::thread::park();
        }
    }
    report::say(LogEvent::Panicked, &line(panic));
    exit(EXIT_PANIC)
}

fn line(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let mut line = format!(
        "panic on thread {}",
        thread.name().unwrap_or("without a name")
    );
    if let Some(place) = panic.location() {
        // Writing into a string can't fail.
        let written = write!(line, " at {}:{}", place.file(), place.line());
        written.unwrap_or_default();
    }
    let payload = panic.payload();
    let message = match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "no message",
    };
    line.push_str(": ");
    line.extend(message.chars().map(printable).take(MESSAGE_CHARS_MAX));
    line.push_str("; the process ends, to be restarted");
    line
}

/// What can't break or hide the line.
fn printable(character: char) -> char {
    if character.is_control() {
        ' '
    } else {
        character
    }
}

#[cfg(test)]
mod tests {
    //! The whole server in a child process of the test program, in which a thread panics to order
    //! (`faults`) while events are published.

    use super::*;
    use crate::boot;
    use crate::faults;
    use crate::settings::Settings;
    use crate::shard;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;
    use std::process::{Command, Output};
    use std::time::Duration;

    /// What the child is told by: the thread that is to panic.
    const THREAD_VARIABLE: &str = "FLUX_TEST_PANICKING_THREAD";
    /// And where its data lies.
    const DATA_VARIABLE: &str = "FLUX_TEST_PANICKING_DATA";
    /// Events that are acknowledged before the panic is ordered.
    const EVENTS: usize = 20;
    /// Events after which a panic that was ordered does not come any more.
    const EVENTS_MAX: usize = 5_000;

    #[test]
    fn a_panic_on_any_thread_ends_the_process_with_one_line_and_loses_nothing() {
        // A core, what makes its log durable, another of its helpers, and the threads beside cores.
        let threads = [
            "flux-0",
            "flush-0",
            "directory-0",
            "process",
            "allocator",
            "flux-connectors",
            "flux-polls",
            "watchdog",
        ];
        for thread in threads {
            let data = tempfile::tempdir().unwrap();
            let output = run_child(thread, data.path());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(EXIT_PANIC), "{thread}: {said}");
            let lines: Vec<&str> = said.lines().collect();
            assert!(
                lines.iter().all(|line| line.starts_with("flux: ")),
                "{thread}: {said}"
            );
            let is_panic = |line: &&&str| line.starts_with("flux: error: panic on thread ");
            let panics: Vec<_> = lines.iter().filter(is_panic).collect();
            assert_eq!(panics.len(), 1, "{thread}: {said}");
            let (name, place) = panics[0].split_once(" at ").unwrap();
            assert!(name.contains(thread), "{thread}: {said}");
            assert!(place.starts_with("src/faults.rs:"), "{thread}: {said}");
            let acknowledged = String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter(|line| line.ends_with("acknowledged"))
                .count();
            assert!(acknowledged >= EVENTS, "{thread}: {said}");
            let found = entities(data.path());
            assert!(found >= acknowledged, "{thread}: {found} of {acknowledged}");
        }
    }

    /// Entities that the next start finds.
    fn entities(data: &Path) -> usize {
        let mut data_dir = boot::open_for_import(data, 1).unwrap();
        let log = data_dir.take_log(0);
        let recovered = shard::recover(&data_dir, log, (0, 1), &mut |_| {}).unwrap();
        recovered.engine.entities()
    }

    fn run_child(thread: &str, data: &Path) -> Output {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program);
        child.args(["--exact", "boot::panics::tests::child", "--nocapture"]);
        child.env(THREAD_VARIABLE, thread).env(DATA_VARIABLE, data);
        child.output().unwrap()
    }

    /// The child process, if it is one; as a test of its own it does nothing.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "it is how the parent talks to it; and the client is a thread"
    )]
    fn child() {
        let variable = |name| std::env::var(name).ok();
        let (Some(thread), Some(data)) = (variable(THREAD_VARIABLE), variable(DATA_VARIABLE))
        else {
            return;
        };
        end_process_on_panic();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let flags = [
            ("port", port.to_string()),
            ("data-dir", data),
            ("shards", "1".to_owned()),
        ];
        let flag = |name: &str| {
            let found = flags.iter().find(|(flag, _)| *flag == name);
            found.map(|(_, value)| value.clone())
        };
        let settings = Settings::read(1, &flag, &|_| None).unwrap();
        std::thread::spawn(move || publish_until_the_end(port, &thread));
        boot::run(&settings).unwrap();
    }

    /// The child's client: it publishes, orders the panic, and gives every thread work.
    #[expect(clippy::exit, reason = "the parent waits for the end")]
    fn publish_until_the_end(port: u16, thread: &str) {
        for number in 0..EVENTS_MAX {
            if number == EVENTS {
                faults::order(thread);
                // For the thread that polls.
                let source = format!(
                    r#"{{"name":"itself","url":"http://127.0.0.1:{port}/health","poll_interval_seconds":5,"entity_id":"polled"}}"#
                );
                request(port, "POST /api/connectors", &source);
            }
            let id = format!("entity-{number}");
            let event = format!(
                r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{}}}}}}"#
            );
            if request(port, "POST /api/events", &event) == Some(200) {
                writeln!(std::io::stdout(), "{number} acknowledged").unwrap();
            } else if number < EVENTS {
                // Not recovered yet, or not even listening: this is no test of the start.
                std::thread::park_timeout(Duration::from_millis(5));
                return publish_until_the_end(port, thread);
            }
            request(port, "GET /api/connectors", "");
        }
        exit(0);
    }

    /// The status of an answer on a connection of its own; `None` if there is none.
    fn request(port: u16, line: &str, body: &str) -> Option<u16> {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let length = body.len();
        write!(
            connection,
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .ok()?;
        let mut connection = BufReader::new(connection);
        let mut status = String::new();
        connection.read_line(&mut status).ok()?;
        connection.read_to_end(&mut Vec::new()).ok()?;
        status.split(' ').nth(1)?.parse().ok()
    }
}
