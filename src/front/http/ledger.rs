//! What was asked for on a connection and how it was answered, for the access log. A connection
//! has a ledger only if there is such a log.
//!
//! ```text
//! sent to the client │ in the buffer of answers        │ not answered yet
//! answered ◄─────────┼─ entry, entry (end is known) ───┼─ entry, entry
//! ```
//!
//! Answers leave in the order of their requests, so the first entry without an end is that of the
//! bytes that are written next. It is over when the socket has taken its last byte.

use crate::limits::{ACCESS_TARGET_BYTES_MAX, ACCESS_USER_AGENT_BYTES_MAX};
use crate::wire::http1::{Field, Head, Method};
use std::collections::VecDeque;
use std::net::IpAddr;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `-` of one that no path has.
    pub(crate) method: &'static str,
    /// The path and the query, without what may be secret.
    pub(crate) target: Box<str>,
    /// `User-Agent`; empty if there is none.
    pub(crate) user_agent: Box<[u8]>,
    /// Bytes of its body.
    pub(crate) body_bytes: usize,
    /// When it was worked on, monotonic microseconds.
    pub(crate) began_micros: u64,
}

impl Asked {
    /// Of a head. Its texts are cut to what a line may hold.
    pub(crate) fn of(head: &Head<'_>, body_bytes: usize, now_micros: u64) -> Self {
        let user_agent = match head.user_agent {
            Field::One(value) => value,
            Field::Absent | Field::Repeated => &[],
        };
        let shown = user_agent.get(..ACCESS_USER_AGENT_BYTES_MAX);
        Self {
            method: method(head.method),
            target: shown_target(head.path, head.query).into(),
            user_agent: shown.unwrap_or(user_agent).into(),
            body_bytes,
            began_micros: now_micros,
        }
    }

    fn heap_bytes(&self) -> usize {
        self.target.len() + self.user_agent.len()
    }
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Patch => "PATCH",
        Method::Other => "-",
    }
}

/// Parameters whose values are shown. Any other may be a ticket, a token in the wrong place, or
/// either of them under an encoded name.
const SHOWN: &[&str] = &[
    "after",
    "at",
    "before",
    "detail",
    "entity",
    "entity_id",
    "fields",
    "filter",
    "id",
    "limit",
    "max_hz",
    "metrics",
    "mode",
    "namespace",
    "prefix",
    "properties",
    "purge",
    "since",
    "snapshot",
    "until",
    "wait",
];

/// A path and a query as the log shows them.
fn shown_target(path: &str, query: Option<&str>) -> String {
    let mut out = path.to_owned();
    let mut separator = '?';
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        out.push(separator);
        separator = '&';
        match pair.split_once('=') {
            Some((name, _)) if SHOWN.contains(&name) => out.push_str(pair),
            Some((name, _)) => {
                out.push_str(name);
                out.push_str("=…");
            }
            // A secret may stand where a name should.
            None if SHOWN.contains(&pair) || pair.is_empty() => out.push_str(pair),
            None => out.push('…'),
        }
    }
    if out.len() > ACCESS_TARGET_BYTES_MAX {
        let mut ends = (0..=ACCESS_TARGET_BYTES_MAX).rev();
        let end = ends.find(|end| out.is_char_boundary(*end));
        out.truncate(end.unwrap_or(0));
        out.push('…');
    }
    out
}

/// A request that is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// `None`: it was no request, or was refused before it was one.
    pub(crate) asked: Option<Asked>,
    /// 0 if it was not answered.
    pub(crate) status: u16,
    /// Bytes of the answer, with its head.
    pub(crate) bytes: u64,
    /// The socket took all of it.
    pub(crate) is_whole: bool,
}

#[derive(Debug)]
struct Entry {
    asked: Option<Asked>,
    status: u16,
    bytes: u64,
    /// Where its answer ends, in bytes since the connection began.
    end: Option<u64>,
}

impl Entry {
    fn new(asked: Option<Asked>) -> Self {
        Self {
            asked,
            status: 0,
            bytes: 0,
            end: None,
        }
    }

    fn over(self, is_whole: bool) -> Answered {
        Answered {
            asked: self.asked,
            status: self.status,
            bytes: self.bytes,
            is_whole,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    client: Option<IpAddr>,
    entries: VecDeque<Entry>,
    /// Entries whose end is known.
    ended: usize,
    answered: Vec<Answered>,
    /// Bytes that were put into the buffer since the connection began.
    appended: u64,
    /// Bytes of them that the socket took.
    sent: u64,
    /// The last bytes were an interim response, which answers nothing.
    is_interim: bool,
    text_bytes: usize,
}

impl Ledger {
    /// An empty one of this client.
    pub(super) fn of(client: Option<IpAddr>) -> Self {
        Self {
            client,
            ..Self::default()
        }
    }

    /// Whose it is.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// A request has come.
    pub(super) fn note(&mut self, asked: Asked) {
        self.text_bytes += asked.heap_bytes();
        self.entries.push_back(Entry::new(Some(asked)));
    }

    /// Bytes of the next answer were put into the buffer ahead.
    pub(super) fn append_ahead(&mut self, len: usize) {
        self.appended += len as u64;
    }

    /// Bytes of the answer in line were put into the buffer, but for the first `ahead` of them,
    /// which were already.
    pub(super) fn append(&mut self, bytes: &[u8], ahead: usize) {
        self.appended += (bytes.len() - ahead) as u64;
        let is_first = self.entries.get(self.ended).is_none_or(|it| it.bytes == 0);
        let status = if is_first { status_of(bytes, 0) } else { 0 };
        if status == 100 {
            self.is_interim = true;
            return;
        }
        if self.entries.len() == self.ended {
            self.entries.push_back(Entry::new(None));
        }
        if let Some(entry) = self.entries.get_mut(self.ended) {
            entry.bytes += bytes.len() as u64;
            entry.status = if is_first { status } else { entry.status };
        }
    }

    /// So many bytes belong to the answer in line that come behind those in the buffer.
    pub(super) fn append_behind(&mut self, len: usize) {
        self.appended += len as u64;
        if let Some(entry) = self.entries.get_mut(self.ended) {
            entry.bytes += len as u64;
        }
    }

    /// The answer in line is whole.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.is_interim) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(self.ended) {
            entry.end = Some(self.appended);
            self.ended += 1;
        }
    }

    /// The socket took `count` bytes.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count as u64;
        let is_over = |entry: &Entry| entry.end.is_some_and(|end| end <= self.sent);
        while self.entries.front().is_some_and(is_over) {
            let entry = self.entries.pop_front();
            self.answered.extend(entry.map(|entry| entry.over(true)));
            self.ended -= 1;
        }
    }

    /// All but `left` bytes that wait are dropped, and everything that is not answered with them.
    pub(super) fn cut(&mut self, left: usize) {
        self.appended = self.sent + left as u64;
        let is_kept = |entry: &Entry| entry.end.is_some_and(|end| end <= self.appended);
        let kept = self.entries.iter().take_while(|it| is_kept(it)).count();
        let cut = self.entries.drain(kept..).map(|entry| entry.over(false));
        self.answered.extend(cut);
        self.ended = kept;
        self.is_interim = false;
    }

    /// The connection ends.
    pub(super) fn close(&mut self) {
        let all = self.entries.drain(..).map(|entry| entry.over(false));
        self.answered.extend(all);
        self.ended = 0;
    }

    /// True if something is over.
    pub(super) fn has_answered(&self) -> bool {
        !self.answered.is_empty()
    }

    /// What is over since the last look.
    pub(super) fn take_answered(&mut self) -> Vec<Answered> {
        let asked = self.answered.iter().filter_map(|it| it.asked.as_ref());
        self.text_bytes -= asked.map(Asked::heap_bytes).sum::<usize>();
        if self.entries.is_empty() {
            self.entries.shrink_to(4);
        }
        std::mem::take(&mut self.answered)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            + self.text_bytes
            + self.entries.capacity() * size_of::<Entry>()
            + self.answered.capacity() * size_of::<Answered>()
    }
}

/// The status that an answer begins with, of which the first `ahead` bytes are not here; 0 if it
/// is none.
pub(super) fn status_of(answer: &[u8], ahead: usize) -> u16 {
    let start = 9_usize.saturating_sub(ahead);
    let digits = answer.get(start..start + 3);
    let digits = digits.and_then(|it| str::from_utf8(it).ok());
    digits.and_then(|it| it.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str) -> Asked {
        Asked {
            method: "GET",
            target: target.into(),
            user_agent: Box::default(),
            body_bytes: 0,
            began_micros: 0,
        }
    }

    /// Target, status, bytes, and whether it is whole, of each that is over.
    fn over(ledger: &mut Ledger) -> Vec<(String, u16, u64, bool)> {
        let answered = ledger.take_answered().into_iter();
        let target = |asked: Option<Asked>| asked.map_or_else(String::new, |it| it.target.into());
        answered
            .map(|it| (target(it.asked), it.status, it.bytes, it.is_whole))
            .collect()
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let check = |query: &str, expected: &str| {
            assert_eq!(shown_target("/p", Some(query)), format!("/p?{expected}"));
        };
        check("limit=5&prefix=a%2Fb", "limit=5&prefix=a%2Fb");
        check("ticket=secret", "ticket=…");
        check(
            "entity_id=a&ticket=secret&mode=event",
            "entity_id=a&ticket=…&mode=event",
        );
        check("%74icket=secret&Ticket=secret", "%74icket=…&Ticket=…");
        check("token=secret&access_token=secret", "token=…&access_token=…");
        check("secret", "…");
        check("detail&a=b=secret", "detail&a=…");
        check("", "");
        assert_eq!(shown_target("/p", None), "/p");
        let long = shown_target("/ä", Some(&format!("prefix={}", "ä".repeat(5000))));
        assert!(long.ends_with('…') && long.len() <= ACCESS_TARGET_BYTES_MAX + 3);
    }

    #[test]
    fn each_is_over_when_its_last_byte_is_sent() {
        let mut ledger = Ledger::default();
        ledger.note(asked("a"));
        ledger.note(asked("b"));
        ledger.append(b"HTTP/1.1 200 a", 0);
        ledger.append(b"more", 0);
        ledger.advance(18);
        assert_eq!(over(&mut ledger), [], "it may go on");
        ledger.end();
        ledger.append(b"HTTP/1.1 404 b", 0);
        ledger.end();
        ledger.advance(13);
        assert_eq!(over(&mut ledger), [("a".into(), 200, 18, true)]);
        ledger.advance(1);
        assert_eq!(over(&mut ledger), [("b".into(), 404, 14, true)]);
    }

    #[test]
    fn interim_responses_and_bytes_ahead_belong_to_what_follows() {
        let mut ledger = Ledger::default();
        ledger.append(b"HTTP/1.1 100 Continue", 0);
        ledger.end();
        ledger.note(asked("a"));
        ledger.append_ahead(9);
        ledger.advance(21 + 9);
        ledger.append(b"HTTP/1.1 200 a", 9);
        ledger.end();
        assert_eq!(over(&mut ledger), []);
        ledger.advance(5);
        assert_eq!(over(&mut ledger), [("a".into(), 200, 14, true)]);
        assert_eq!(ledger.text_bytes, 0);
    }

    #[test]
    fn what_is_no_request_has_an_answer_and_what_is_cut_off_is_told() {
        let mut ledger = Ledger::default();
        ledger.append(b"HTTP/1.1 400 x", 0);
        ledger.end();
        ledger.advance(14);
        assert_eq!(over(&mut ledger), [(String::new(), 400, 14, true)]);
        ledger.note(asked("a"));
        ledger.note(asked("b"));
        ledger.note(asked("c"));
        ledger.append(b"HTTP/1.1 200 a", 0);
        ledger.end();
        ledger.append(b"HTTP/1.1 201 b", 0);
        ledger.end();
        ledger.cut(14);
        let cut = [("b".into(), 201, 14, false), ("c".into(), 0, 0, false)];
        assert_eq!(over(&mut ledger), cut);
        ledger.append(b"HTTP/1.1 503 x", 0);
        ledger.end();
        ledger.advance(14);
        assert_eq!(over(&mut ledger), [("a".into(), 200, 14, true)]);
        ledger.close();
        assert_eq!(over(&mut ledger), [(String::new(), 503, 14, false)]);
    }
}
