//! What the server tells its operator: lines on stderr, each of a known event.
//!
//! ```text
//! say(event, message) ── below the level? ── too many of them? ── line ──▶ stderr
//!                              └▶ nothing        └▶ counted, said later
//! ```
//!
//! | file | job |
//! | --- | --- |
//! | `event` | every event that can be said: its name, its level, whether it is bounded |
//! | `line` | an event and its message → a line of text or JSON |
//! | `escape` | texts of others → texts that end no line and steer no terminal |
//! | `repeats` | how many lines of an event are said in a minute |
//! | `stderr` | bytes → stderr, without waiting long |
//! | `access` | lines of the access log, collected by a core |
//! | `access_writer` | the thread that writes the access log |
//!
//! How lines look is set once for the process (`configure`): every thread says lines, also one that
//! panics. If stderr takes none (a full disk, a closed pipe, a reader that has stopped), the
//! server goes on without, counts what was lost, and says so when lines are taken again.

mod access;
mod access_writer;
mod escape;
mod event;
mod line;
mod repeats;
mod stderr;

pub use access::{Access, AccessBuffer, AccessLog, AccessTarget};
pub use access_writer::AccessWriter;
pub use event::{LogEvent, LogLevel};
pub use line::{LogFormat, Value};

use crate::clock::{self, Monotonic};
use line::Line;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

/// How lines are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// The least level that is said.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Text,
        }
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);
static IS_JSON: AtomicBool = AtomicBool::new(false);
static IS_JOURNAL: AtomicBool = AtomicBool::new(false);
static LOST: AtomicU64 = AtomicU64::new(0);

/// Sets how lines are said from here on.
pub fn configure(settings: LogSettings) {
    LEVEL.store(settings.level as u8, Relaxed);
    IS_JSON.store(settings.format == LogFormat::Json, Relaxed);
}

/// Lines begin with their priority from here on if stderr is the journal. `journal_stream`: what
/// systemd says of it, device and inode (systemd.exec(5), `JOURNAL_STREAM`).
pub fn detect_journal(journal_stream: &str) {
    IS_JOURNAL.store(stderr::is_stream(journal_stream), Relaxed);
}

/// From here on no line waits longer than a moment for stderr: a core must not stand still because
/// nobody reads.
pub fn serve() {
    stderr::bound_waits();
}

/// Says a line.
pub fn say(event: LogEvent, message: &str) {
    say_with(event, &[], message);
}

/// Says a line about something: `fields` are beside the message in JSON. The message alone says it
/// all too, since text shows nothing else.
pub fn say_with(event: LogEvent, fields: &[(&str, Value<'_>)], message: &str) {
    if event.level() as u8 > LEVEL.load(Relaxed) {
        return;
    }
    let admitted = repeats::admit(event, uptime_ms());
    if let Some(left_out) = admitted.left_out {
        say_left_out(event, left_out);
    }
    if admitted.is_said {
        write(event, fields, message);
    }
}

/// Says what was left out, if its time is over. To be called now and then.
pub fn say_due() {
    for (event, left_out) in repeats::take_due(uptime_ms()) {
        say_left_out(event, left_out);
    }
}

/// Says what was left out until now: the process ends.
pub fn say_rest() {
    for (event, left_out) in repeats::take_due(u64::MAX) {
        say_left_out(event, left_out);
    }
}

fn say_left_out(event: LogEvent, count: u64) {
    let name = event.name();
    write(
        LogEvent::LinesLeftOut,
        &[("of", Value::Text(name)), ("count", Value::Number(count))],
        &format!("{count} more lines of {name} were left out"),
    );
}

fn write(event: LogEvent, fields: &[(&str, Value<'_>)], message: &str) {
    let lost = LOST.swap(0, Relaxed);
    if lost > 0 {
        let message = format!("{lost} lines were lost, which stderr did not take");
        let fields = [("count", Value::Number(lost))];
        if !write_line(LogEvent::LinesLost, &fields, &message) {
            LOST.fetch_add(lost + 1, Relaxed);
            return;
        }
    }
    if !write_line(event, fields, message) {
        LOST.fetch_add(1, Relaxed);
    }
}

/// False if stderr took nothing of it.
fn write_line(event: LogEvent, fields: &[(&str, Value<'_>)], message: &str) -> bool {
    let line = Line {
        event,
        fields,
        message,
        is_journal: IS_JOURNAL.load(Relaxed),
    };
    // One text: a process that ends meanwhile leaves no half of a line.
    let text = if IS_JSON.load(Relaxed) {
        line.json(clock::now())
    } else {
        line.text()
    };
    stderr::write(text.as_bytes())
}

fn uptime_ms() -> u64 {
    static ORIGIN: OnceLock<Monotonic> = OnceLock::new();
    ORIGIN.get_or_init(Monotonic::start).millis()
}
