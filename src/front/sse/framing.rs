//! Messages → server-sent events (HTML standard §9.2.6).
//!
//! ```text
//! {"type":"cursor","cursor":"Ag…"}   ─▶   event: cursor
//!                                         id: Ag…
//!                                         data: {"type":"cursor","cursor":"Ag…"}
//!
//! ```
//!
//! To HTTP/1.1 each event is a chunk (RFC 9112 §7.1): the end of the last one tells a stream that
//! is over from one that broke. To HTTP/1.0 the end of the connection is the end of the stream.
//!
//! Every message begins with its `type`, and if it has a `cursor`, that is its last member. A
//! client goes on at the last `id` that it got, so an id never names a place beyond what was sent
//! before it. The rows of mode `event` have cursors of their namespaces: they are ids if the
//! whole stream is of one.

use crate::api::metrics::SubscriberKind;
use crate::limits;
use crate::model::{write_decimal, write_hex};
use crate::service::streams::{Framing, write_merged};
use crate::wire::ws::payload_of;
use std::ops::Range;

/// How the bytes of a stream are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// In chunks.
    Chunked,
    /// As they are.
    Plain,
}

/// Which rows have ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowIds {
    /// Each has its cursor.
    Cursors,
    /// None.
    None,
}

/// The framing of a coding, with ids of rows or without.
const fn framing<const CHUNKED: bool, const ROW_IDS: bool>() -> Framing {
    Framing {
        index: 1 + 2 * (CHUNKED as usize) + ROW_IDS as usize,
        kind: SubscriberKind::Sse,
        resumes: true,
        reframe: Some(|out, frame| {
            let text = payload_of(frame);
            write_event::<CHUNKED, ROW_IDS>(out, |out| out.extend_from_slice(text));
        }),
        frame: |out, write| write_event::<CHUNKED, ROW_IDS>(out, write),
        merged: |out, entity_id, change| {
            write_event::<CHUNKED, ROW_IDS>(out, |out| write_merged(out, entity_id, change));
        },
    }
}

impl Coding {
    /// How the messages of a stream are framed.
    pub(super) const fn framing(self, row_ids: RowIds) -> Framing {
        match (self, row_ids) {
            (Self::Chunked, RowIds::Cursors) => framing::<true, true>(),
            (Self::Chunked, RowIds::None) => framing::<true, false>(),
            (Self::Plain, RowIds::Cursors) => framing::<false, true>(),
            (Self::Plain, RowIds::None) => framing::<false, false>(),
        }
    }

    const fn of(is_chunked: bool) -> Self {
        if is_chunked {
            Self::Chunked
        } else {
            Self::Plain
        }
    }

    /// Appends what comes before the first event, and belongs to it: after how long a client that
    /// lost its connection asks again.
    pub(super) fn write_beginning(self, out: &mut Vec<u8>) {
        let mut line = b"retry: ".to_vec();
        write_decimal(&mut line, limits::STREAM_RETRY_MS);
        line.push(b'\n');
        self.write(out, &line);
    }

    /// Appends a comment, which says that the stream lives.
    pub(super) fn write_comment(self, out: &mut Vec<u8>) {
        self.write(out, b":\n\n");
    }

    /// Appends what takes back the last id, without an event (HTML standard §9.2.6): a client that
    /// loses its connection begins anew.
    pub(super) fn write_no_id(self, out: &mut Vec<u8>) {
        self.write(out, b":\nid:\n\n");
    }

    /// Appends the end of a stream.
    pub(super) fn write_end(self, out: &mut Vec<u8>) {
        match self {
            Self::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
            Self::Plain => out.extend_from_slice(b":\n\n"),
        }
    }

    fn write(self, out: &mut Vec<u8>, text: &[u8]) {
        self.write_length(out, text.len());
        out.extend_from_slice(text);
        self.write_rest(out);
    }

    /// What comes before so many bytes.
    fn write_length(self, out: &mut Vec<u8>, len: usize) {
        if self == Self::Chunked {
            write_hex(out, len as u64);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// What comes behind them.
    fn write_rest(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }
}

const EVENT: &[u8] = b"event: ";
const ID: &[u8] = b"\nid: ";
const DATA: &[u8] = b"\ndata: ";
const END: &[u8] = b"\n\n";

/// Appends the event of a message, which `write` appends as JSON.
fn write_event<const CHUNKED: bool, const ROW_IDS: bool>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let coding = Coding::of(CHUNKED);
    let start = out.len();
    write(out);
    let end = out.len();
    let Some(json) = out.get_mut(start..) else {
        return;
    };
    // An event ends at an empty line. Between the values of JSON a line break is a space.
    for byte in json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    let kind = kind_in(json);
    let is_row = json.get(kind.clone()) == Some(b"event");
    let cursor = cursor_in(json).filter(|_| ROW_IDS || !is_row);
    let id_len = cursor.as_ref().map_or(0, |cursor| ID.len() + cursor.len());
    let len = EVENT.len() + kind.len() + id_len + DATA.len() + (end - start) + END.len();
    // What comes before the JSON is known by it, so it is written behind it and moved.
    coding.write_length(out, len);
    out.extend_from_slice(EVENT);
    out.extend_from_within(start + kind.start..start + kind.end);
    if let Some(cursor) = cursor {
        out.extend_from_slice(ID);
        out.extend_from_within(start + cursor.start..start + cursor.end);
    }
    out.extend_from_slice(DATA);
    let before = out.len() - end;
    if let Some(event) = out.get_mut(start..) {
        event.rotate_right(before);
    }
    out.extend_from_slice(END);
    coding.write_rest(out);
}

/// Where the text of a message's `type` lies.
fn kind_in(json: &[u8]) -> Range<usize> {
    const BEFORE: &[u8] = b"{\"type\":\"";
    let rest = json.strip_prefix(BEFORE).unwrap_or_default();
    let len = memchr::memchr(b'"', rest).unwrap_or(0);
    BEFORE.len()..BEFORE.len() + len
}

/// Where the text of its cursor lies, if it has one.
fn cursor_in(json: &[u8]) -> Option<Range<usize>> {
    let before_end = json.strip_suffix(b"\"}")?;
    let start = memchr::memrchr(b'"', before_end)? + 1;
    let is_cursor = json.get(..start)?.ends_with(b",\"cursor\":\"");
    is_cursor.then_some(start..before_end.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ws::write_text;

    fn framed(framing: Framing, json: &str) -> String {
        let mut out = b"before".to_vec();
        (framing.frame)(&mut out, &mut |out| out.extend_from_slice(json.as_bytes()));
        String::from_utf8(out[6..].to_vec()).unwrap()
    }

    #[test]
    fn a_message_is_an_event_of_its_type_with_its_cursor_as_id() {
        let check = |json: &str, head: &str| {
            let event = format!("{head}data: {json}\n\n");
            let framing = Coding::Plain.framing(RowIds::Cursors);
            assert_eq!(framed(framing, json), event);
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            assert_eq!(
                framed(Coding::Chunked.framing(RowIds::Cursors), json),
                chunk
            );
            let mut frame = Vec::new();
            write_text(&mut frame, json.as_bytes());
            let mut out = Vec::new();
            framing.reframe.unwrap()(&mut out, &frame);
            assert_eq!(out, event.as_bytes());
        };
        check(
            r#"{"type":"ack","cursor":"AB-_"}"#,
            "event: ack\nid: AB-_\n",
        );
        check(
            r#"{"type":"event","payload":{},"cursor":"AB"}"#,
            "event: event\nid: AB\n",
        );
        for json in [
            r#"{"type":"entity","properties":{"cursor":"AB"}}"#,
            r#"{"type":"state_update","value":"\",\"cursor\":\"x"}"#,
            r#"{"type":"snapshot","entities":[],"more":true}"#,
        ] {
            let kind = json[9..].split('"').next().unwrap();
            check(json, &format!("event: {kind}\n"));
        }
        for len in [100, 126, 200, 70_000] {
            let json = format!(r#"{{"type":"state_update","value":"{}"}}"#, "x".repeat(len));
            check(&json, "event: state_update\n");
        }
    }

    #[test]
    fn rows_have_no_ids_in_a_stream_of_several_namespaces() {
        let framing = Coding::Plain.framing(RowIds::None);
        let row = framed(framing, r#"{"type":"event","payload":{},"cursor":"AB"}"#);
        assert!(row.starts_with("event: event\ndata: "), "{row}");
        let cursor = framed(framing, r#"{"type":"cursor","cursor":"AB"}"#);
        assert!(cursor.starts_with("event: cursor\nid: AB\n"), "{cursor}");
    }

    #[test]
    fn every_framing_has_a_number_of_its_own() {
        let mut indexes = Vec::new();
        for coding in [Coding::Chunked, Coding::Plain] {
            for row_ids in [RowIds::Cursors, RowIds::None] {
                indexes.push(coding.framing(row_ids).index);
            }
        }
        indexes.sort_unstable();
        assert_eq!(indexes, [1, 2, 3, 4]);
    }

    #[test]
    fn no_line_break_within_a_message_ends_its_event() {
        let event = framed(
            Coding::Plain.framing(RowIds::None),
            "{\"type\":\"entity\",\n\"properties\":{\r\n\r\n}}",
        );
        assert_eq!(event.matches('\n').count(), 3, "{event:?}");
        assert!(!event.contains('\r'));
    }

    #[test]
    fn what_is_no_event_is_coded_as_events_are() {
        let mut out = Vec::new();
        Coding::Chunked.write_beginning(&mut out);
        Coding::Chunked.write_comment(&mut out);
        Coding::Chunked.write_end(&mut out);
        let expected = "c\r\nretry: 2000\n\r\n3\r\n:\n\n\r\n0\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
