//! An event and its message → one line.
//!
//! ```text
//! text     flux: warning: shard 0: could not write a checkpoint: …
//! JSON     {"time":"…","level":"warn","event":"checkpoint_failed","message":"…","shard":0}
//! journal  <4>warning: …      <4>{"level":"warn",…}      without name and time, which it has
//! ```

use super::escape;
use super::event::{LogEvent, LogLevel};
use crate::model::Timestamp;
use std::fmt::Write as _;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object each.
    Json,
}

impl LogFormat {
    /// What `FLUX_LOG_FORMAT` may be.
    pub const RULE: &str = "text or json";

    /// As `FLUX_LOG_FORMAT` names it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// A field's value.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// A number.
    Number(u64),
    /// A text.
    Text(&'a str),
}

impl From<u16> for Value<'_> {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

/// What a line is made of.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) event: LogEvent,
    pub(super) fields: &'a [(&'a str, Value<'a>)],
    pub(super) message: &'a str,
    /// It goes to the journal of systemd.
    pub(super) is_journal: bool,
}

impl Line<'_> {
    /// For people, with its line feed. The usage of the command line is the only message that has
    /// several lines.
    pub(super) fn text(&self) -> String {
        let mut out = self.begin();
        if !self.is_journal {
            out.push_str("flux: ");
        }
        out.push_str(match self.event.level() {
            LogLevel::Error => "error: ",
            LogLevel::Warn => "warning: ",
            LogLevel::Info => "",
            LogLevel::Debug => "debug: ",
        });
        if self.event == LogEvent::WrongUsage {
            for (number, line) in self.message.lines().enumerate() {
                out.push_str(if number > 0 { "\n" } else { "" });
                escape::text(&mut out, line);
            }
        } else {
            escape::text(&mut out, self.message);
        }
        out.push('\n');
        out
    }

    /// As an object, with its line feed.
    pub(super) fn json(&self, time: Timestamp) -> String {
        let mut out = self.begin();
        out.push('{');
        let mut member = |name: &str, value: Value<'_>| {
            if !out.ends_with('{') {
                out.push(',');
            }
            escape::json(&mut out, name);
            out.push(':');
            match value {
                Value::Number(number) => write!(out, "{number}").unwrap_or_default(),
                Value::Text(text) => escape::json(&mut out, text),
            }
        };
        let time = time.rfc3339().to_string();
        if !self.is_journal {
            member("time", Value::Text(&time));
        }
        member("level", Value::Text(self.event.level().as_str()));
        member("event", Value::Text(self.event.name()));
        member("message", Value::Text(self.message));
        for (name, value) in self.fields {
            member(name, *value);
        }
        out.push_str("}\n");
        out
    }

    fn begin(&self) -> String {
        let mut out = String::with_capacity(self.message.len() + 128);
        if self.is_journal {
            let priority = self.event.level().priority();
            write!(out, "<{priority}>").unwrap_or_default();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: LogEvent, is_journal: bool) -> Line<'static> {
        Line {
            event,
            fields: &[
                ("shard", Value::Number(3)),
                ("connector", Value::Text("a\nb")),
            ],
            message: "shard 3: \"x\"\nflux: error: forged",
            is_journal,
        }
    }

    #[test]
    fn text_is_one_line_with_its_level() {
        let check = |event, is_journal, expected: &str| {
            let rest = "shard 3: \"x\"\\nflux: error: forged\n";
            let text = line(event, is_journal).text();
            assert_eq!(text, format!("{expected}{rest}"));
        };
        check(LogEvent::ShardReady, false, "flux: ");
        check(LogEvent::CheckpointFailed, false, "flux: warning: ");
        check(LogEvent::ShardFailed, false, "flux: error: ");
        check(LogEvent::CheckpointWritten, false, "flux: debug: ");
        check(LogEvent::ShardReady, true, "<6>");
        check(LogEvent::CheckpointFailed, true, "<4>warning: ");
        check(LogEvent::ShardFailed, true, "<3>error: ");
        check(LogEvent::CheckpointWritten, true, "<7>debug: ");
    }

    #[test]
    fn json_is_one_object_on_one_line() {
        let text = line(LogEvent::CheckpointFailed, false).json(Timestamp::from_micros(7));
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:00.000007Z", "level": "warn", "event": "checkpoint_failed",
            "message": "shard 3: \"x\"\nflux: error: forged", "shard": 3, "connector": "a\nb",
        });
        assert_eq!(value, expected);
        let text = line(LogEvent::CheckpointFailed, true).json(Timestamp::from_micros(7));
        assert!(text.starts_with("<4>{\"level\":\"warn\","), "{text}");
    }
}
