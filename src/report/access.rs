//! Lines of the access log: one for each request that is over, collected by a core and handed to
//! the thread that writes them (`access_writer`). If that has not kept up, they are dropped and
//! counted: a core waits for no disk and for no reader.
//!
//! ```text
//! text  2026-01-31T12:00:00.000000Z 127.0.0.1 "POST /api/events" 200 312 0.000412 118 "curl/8.5.0"
//!       time, client, request, status, bytes, seconds, bytes of the body, user agent
//! ```
//!
//! On stderr a line in text begins as all others do (`flux: access: `), and with its priority if
//! that is the journal, which has the time.

use super::escape;
use super::event::LogEvent;
use super::line::LogFormat;
use crate::limits::ACCESS_BATCH_BYTES;
use crate::model::Timestamp;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;

/// Where the access log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AccessTarget {
    /// There is none.
    #[default]
    Off,
    /// To stderr, among the other lines.
    Stderr,
    /// To the end of a file.
    File(PathBuf),
}

impl AccessTarget {
    /// What `FLUX_ACCESS_LOG` may be.
    pub const RULE: &str = "off, stderr or the path of a file";

    /// As `FLUX_ACCESS_LOG` names it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => None,
            "off" => Some(Self::Off),
            "stderr" => Some(Self::Stderr),
            path => Some(Self::File(path.into())),
        }
    }
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) format: LogFormat,
    pub(super) is_stderr: bool,
    pub(super) is_journal: bool,
}

impl Style {
    /// The journal notes the time of a line itself.
    fn tells_time(self) -> bool {
        !self.is_journal || !self.is_stderr
    }
}

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// When it was.
    pub time: Timestamp,
    /// Who sent it.
    pub client: Option<IpAddr>,
    /// `-` if it was none.
    pub method: &'a str,
    /// Path and query, without secrets; `-` if there is none.
    pub target: &'a str,
    /// 0 if it was not answered.
    pub status: u16,
    /// Bytes of the answer.
    pub bytes: u64,
    /// From when it was worked on until its answer was sent.
    pub micros: u64,
    /// Bytes of its body.
    pub body_bytes: usize,
    /// As it was sent.
    pub user_agent: &'a [u8],
    /// The client took all of the answer.
    pub is_whole: bool,
}

impl Access<'_> {
    fn write(&self, style: Style, out: &mut String) {
        if style.is_stderr && style.is_journal {
            let priority = LogEvent::Access.level().priority();
            write!(out, "<{priority}>").unwrap_or_default();
        }
        match style.format {
            LogFormat::Text => self.text(style, out),
            LogFormat::Json => self.json(style, out),
        }
        out.push('\n');
    }

    fn text(&self, style: Style, out: &mut String) {
        if style.is_stderr {
            out.push_str(if style.is_journal {
                "access: "
            } else {
                "flux: access: "
            });
        }
        if style.tells_time() {
            write!(out, "{} ", self.time.rfc3339()).unwrap_or_default();
        }
        match self.client {
            Some(client) => write!(out, "{client} ").unwrap_or_default(),
            None => out.push_str("- "),
        }
        out.push('"');
        escape::quoted(out, self.method);
        out.push(' ');
        escape::quoted(out, self.target);
        write!(
            out,
            "\" {} {} {}.{:06} {} \"",
            self.status,
            self.bytes,
            self.micros / 1_000_000,
            self.micros % 1_000_000,
            self.body_bytes
        )
        .unwrap_or_default();
        escape::quoted(out, &String::from_utf8_lossy(self.user_agent));
        out.push('"');
        if !self.is_whole {
            out.push_str(" incomplete");
        }
    }

    fn json(&self, style: Style, out: &mut String) {
        out.push('{');
        if style.tells_time() {
            write!(out, "\"time\":\"{}\",", self.time.rfc3339()).unwrap_or_default();
        }
        let event = LogEvent::Access;
        let (level, name) = (event.level().as_str(), event.name());
        write!(
            out,
            "\"level\":\"{level}\",\"event\":\"{name}\",\"message\":"
        )
        .unwrap_or_default();
        let message = format!("{} {} {}", self.method, self.target, self.status);
        escape::json(out, &message);
        match self.client {
            Some(client) => write!(out, ",\"client\":\"{client}\"").unwrap_or_default(),
            None => out.push_str(",\"client\":null"),
        }
        out.push_str(",\"method\":");
        escape::json(out, self.method);
        out.push_str(",\"path\":");
        escape::json(out, self.target);
        write!(
            out,
            ",\"status\":{},\"bytes\":{},\"duration_seconds\":{}.{:06},\"request_bytes\":{},\"user_agent\":",
            self.status,
            self.bytes,
            self.micros / 1_000_000,
            self.micros % 1_000_000,
            self.body_bytes
        )
        .unwrap_or_default();
        escape::json(out, &String::from_utf8_lossy(self.user_agent));
        write!(out, ",\"complete\":{}}}", self.is_whole).unwrap_or_default();
    }
}

/// Lines for the writer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lines: String,
    pub(super) count: u64,
}

/// The access log, for a core.
#[derive(Debug, Clone)]
pub struct AccessLog {
    pub(super) batches: SyncSender<Batch>,
    /// Lines that were dropped, and not told yet.
    pub(super) dropped: Arc<AtomicU64>,
    pub(super) style: Style,
}

/// The lines of a core that the writer does not have yet.
#[derive(Debug, Default)]
pub struct AccessBuffer {
    log: Option<AccessLog>,
    batch: Batch,
}

impl AccessBuffer {
    /// For this log, if there is one.
    pub fn new(log: Option<AccessLog>) -> Self {
        let batch = Batch::default();
        Self { log, batch }
    }

    /// True if there is a log.
    pub fn is_on(&self) -> bool {
        self.log.is_some()
    }

    /// Adds a line.
    pub fn push(&mut self, access: &Access<'_>) {
        let Some(log) = &self.log else {
            return;
        };
        access.write(log.style, &mut self.batch.lines);
        self.batch.count += 1;
        if self.is_large() {
            self.hand_over();
        }
    }

    /// True if there are so many lines that the writer should have them.
    pub fn is_large(&self) -> bool {
        self.batch.lines.len() >= ACCESS_BATCH_BYTES
    }

    /// Hands the lines to the writer, or drops them if too many wait for it.
    pub fn hand_over(&mut self) {
        let Some(log) = self.log.as_ref().filter(|_| self.batch.count > 0) else {
            return;
        };
        let batch = std::mem::take(&mut self.batch);
        let count = batch.count;
        if log.batches.try_send(batch).is_err() {
            log.dropped.fetch_add(count, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\" 200\nflux: access: forged\u{1b}[2J\\";

    fn access() -> Access<'static> {
        Access {
            time: Timestamp::from_micros(0),
            client: Some(IpAddr::from([127, 0, 0, 1])),
            method: "GET",
            target: "/a?limit=1",
            status: 200,
            bytes: 312,
            micros: 1_000_412,
            body_bytes: 7,
            user_agent: HOSTILE.as_bytes(),
            is_whole: true,
        }
    }

    fn line(format: LogFormat, (is_stderr, is_journal): (bool, bool)) -> String {
        let style = Style {
            format,
            is_stderr,
            is_journal,
        };
        let mut out = String::new();
        access().write(style, &mut out);
        assert_eq!(out.matches('\n').count(), 1, "{out}");
        out
    }

    #[test]
    fn text_is_one_line_that_a_client_can_not_forge() {
        let rest = "127.0.0.1 \"GET /a?limit=1\" 200 312 1.000412 7 \
                    \"a\\\" 200\\nflux: access: forged\\u{1b}[2J\\\\\"\n";
        let time = "1970-01-01T00:00:00.000000Z";
        let text = LogFormat::Text;
        assert_eq!(line(text, (false, true)), format!("{time} {rest}"));
        assert_eq!(
            line(text, (true, false)),
            format!("flux: access: {time} {rest}")
        );
        assert_eq!(line(text, (true, true)), format!("<6>access: {rest}"));
    }

    #[test]
    fn json_is_one_object_with_all_of_it() {
        let text = line(LogFormat::Json, (false, false));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:00.000000Z", "level": "info", "event": "access",
            "message": "GET /a?limit=1 200", "client": "127.0.0.1", "method": "GET",
            "path": "/a?limit=1", "status": 200, "bytes": 312, "request_bytes": 7,
            "duration_seconds": value["duration_seconds"], "user_agent": HOSTILE, "complete": true,
        });
        assert_eq!(value, expected);
        assert_eq!(value["duration_seconds"].to_string(), "1.000412");
        assert!(line(LogFormat::Json, (true, true)).starts_with("<6>{\"level\":"));
    }
}
