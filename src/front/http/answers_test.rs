//! The order of answers, what withholds them, and when they count.

use super::answers::Answers;
use super::call::{Counts, HttpCall, RequestMeta};
use super::slot::StaticAnswer;
use crate::api::history::EventsQuery;
use crate::api::metrics::RoutePattern;
use crate::history::{HistoryQuery, HistoryRead, Sight};
use crate::model::CommitPoint;
use crate::service::Pending;
use crate::service::history::PendingHistory;
use flux_storage::Sequence;

fn push(answers: &mut Answers, gate: u64, text: &str) {
    answers.push(CommitPoint::at(Sequence::new(gate)), |out| {
        out.extend_from_slice(text.as_bytes());
    });
}

fn waiting() -> HttpCall {
    HttpCall {
        meta: RequestMeta::CLOSING,
        if_none_match: None,
        has_begun: false,
        body_bytes: 0,
        pending: Pending::Read(None),
        mcp: None,
        owed: Vec::new(),
    }
}

fn send_all(answers: &mut Answers) -> String {
    let text = String::from_utf8(answers.sendable().to_vec()).unwrap();
    answers.advance(text.len());
    text
}

#[test]
fn a_gate_withholds_its_answer_and_all_behind_it() {
    let mut answers = Answers::default();
    push(&mut answers, 0, "a");
    push(&mut answers, 5, "b");
    push(&mut answers, 0, "c");
    push(&mut answers, 6, "d");
    assert_eq!(send_all(&mut answers), "a");
    assert!(answers.open_gates(Sequence::new(5), |_, _| {}));
    assert_eq!(send_all(&mut answers), "bc");
    assert!(!answers.open_gates(Sequence::new(6), |_, _| {}));
    assert_eq!(send_all(&mut answers), "d");
    assert!(answers.is_empty());
}

#[test]
fn answers_leave_in_the_order_of_their_requests() {
    let mut answers = Answers::default();
    push(&mut answers, 0, "a");
    let first = answers.wait(waiting());
    push(&mut answers, 7, "c");
    let second = answers.wait(waiting());
    answers.fill(second, |out| out.push(b'd'));
    assert_eq!(send_all(&mut answers), "a");
    answers.fill(first, |out| out.push(b'b'));
    assert_eq!(
        send_all(&mut answers),
        "b",
        "c is not durable yet, and d waits behind it"
    );
    answers.open_gates(Sequence::new(7), |_, _| {});
    assert_eq!(send_all(&mut answers), "cd");
}

#[test]
fn a_client_whose_side_has_ended_gets_the_beginning_of_its_answer_early_and_once() {
    let history = HistoryQuery::Events(EventsQuery::parse(Some("entity=a")).unwrap());
    let mut call = waiting();
    let asked = HistoryRead {
        query: history,
        sight: Sight::all(),
    };
    call.pending = Pending::History(Box::new(PendingHistory::new(asked, None)));
    let mut answers = Answers::default();
    answers.probe();
    push(&mut answers, 0, "HTTP/1.1 200 a");
    let first = answers.wait(call);
    let second = answers.wait(waiting());
    answers.probe();
    assert_eq!(send_all(&mut answers), "HTTP/1.1 200 a");
    answers.probe();
    answers.probe();
    assert_eq!(send_all(&mut answers), "HTTP/1.1 ");
    answers.probe();
    assert_eq!(send_all(&mut answers), "");
    answers.fill(second, |out| out.extend_from_slice(b"HTTP/1.1 200 c"));
    answers.fill(first, |out| out.extend_from_slice(b"HTTP/1.1 200 b"));
    assert_eq!(send_all(&mut answers), "200 bHTTP/1.1 200 c");
    answers.wait(waiting());
    answers.probe();
    assert_eq!(send_all(&mut answers), "", "only for reads of the past");
}

#[test]
fn a_client_that_waits_for_memory_gets_its_answer_byte_by_byte_ahead() {
    let mut answers = Answers::default();
    let (mut early, mut expected) = (String::new(), "HTTP/1.1 ".to_owned());
    for _ in 0..4 {
        answers.probe_waiting();
        answers.probe_waiting();
        let byte = send_all(&mut answers);
        assert_eq!(byte.len(), 1, "no second one before the first is sent");
        early += &byte;
    }
    assert_eq!(early, "HTTP");
    let first = answers.wait(waiting());
    for _ in 0..20 {
        answers.probe_waiting();
        early += &send_all(&mut answers);
    }
    assert_eq!(early, expected, "no more than is known of any answer");
    answers.fill(first, |out| out.extend_from_slice(b"HTTP/1.1 503 a"));
    expected += "503 a";
    assert_eq!(early + &send_all(&mut answers), expected);
    // The next one has a beginning of its own, also if it was kept back.
    answers.probe_waiting();
    let early = send_all(&mut answers);
    answers.push_late(1, |out| out.extend_from_slice(b"HTTP/1.1 401 b"));
    answers.release_late();
    assert_eq!(early + &send_all(&mut answers), "HTTP/1.1 401 b");
}

#[test]
fn nothing_is_sent_ahead_within_an_answer() {
    let mut answers = Answers::default();
    let mut call = waiting();
    call.has_begun = true;
    answers.wait(call);
    answers.probe_waiting();
    assert_eq!(send_all(&mut answers), "");
}

#[test]
fn a_late_answer_fills_the_connection_until_it_leaves_in_its_order() {
    let mut answers = Answers::default();
    let first = answers.wait(waiting());
    answers.push_late(70, |out| out.push(b'b'));
    assert!(answers.is_full());
    assert_eq!(answers.late_until_ms(), Some(70));
    answers.fill(first, |out| out.push(b'a'));
    assert_eq!(send_all(&mut answers), "a");
    assert!(!answers.is_empty());
    answers.release_late();
    assert_eq!((answers.late_until_ms(), answers.is_full()), (None, false));
    assert_eq!(send_all(&mut answers), "b");
    assert!(answers.is_empty());
}

#[test]
fn dropping_what_is_withheld_keeps_what_may_be_sent() {
    let mut answers = Answers::default();
    push(&mut answers, 0, "a");
    push(&mut answers, 3, "b");
    assert_eq!(answers.drop_gated(), Some((RequestMeta::CLOSING, 0)));
    push(&mut answers, 0, "x");
    assert_eq!(send_all(&mut answers), "ax");
    assert_eq!(answers.drop_gated(), None);
}

/// What the requests of these patterns are answered with counts for.
fn answer(answers: &mut Answers, (pattern, gate): (RoutePattern, u64), text: &str) -> bool {
    let point = CommitPoint::at(Sequence::new(gate));
    let meta = RequestMeta::closing(pattern);
    let mut counts_at_once = false;
    answers.answer((meta, point), |out, meta| {
        counts_at_once = meta.counts == Counts::AtOnce;
        out.extend_from_slice(text.as_bytes());
    });
    counts_at_once
}

#[test]
fn an_answer_that_is_withheld_counts_when_it_may_be_seen() {
    let (list, publish) = (RoutePattern::List, RoutePattern::Publish);
    let mut answers = Answers::default();
    assert!(answer(&mut answers, (list, 0), "HTTP/1.1 200 a"));
    assert!(!answer(&mut answers, (publish, 5), "HTTP/1.1 201 b"));
    assert!(!answer(&mut answers, (list, 0), "HTTP/1.1 404 c"));
    assert!(!answer(&mut answers, (publish, 6), "HTTP/1.1 202 d"));
    let mut counted = Vec::new();
    let mut open = |answers: &mut Answers, visible| {
        answers.open_gates(Sequence::new(visible), |pattern, status| {
            counted.push((pattern, status));
        })
    };
    assert!(open(&mut answers, 4));
    assert!(open(&mut answers, 5));
    assert!(!open(&mut answers, 6));
    assert_eq!(counted, [(publish, 201), (list, 404), (publish, 202)]);
}

#[test]
fn what_takes_the_place_of_withheld_answers_is_of_the_first_of_them() {
    let (read, delete) = (RoutePattern::Read, RoutePattern::Delete);
    let mut answers = Answers::default();
    let slot = answers.wait(waiting());
    assert!(!answer(&mut answers, (delete, 5), "HTTP/1.1 200 b"));
    assert!(!answer(&mut answers, (read, 6), "HTTP/1.1 200 c"));
    answers.fill(slot, |out| out.extend_from_slice(b"HTTP/1.1 200 a"));
    // That a delete finds nothing stores nothing.
    assert!(!answer(&mut answers, (delete, 7), "HTTP/1.1 404 d"));
    assert!(!answer(&mut answers, (delete, 8), "HTTP/1.1 200 e"));
    let meta = RequestMeta::closing(delete).in_place();
    assert_eq!(answers.drop_gated(), Some((meta, 2)));
    assert_eq!(send_all(&mut answers), "HTTP/1.1 200 a");
}

/// Takes all that may be sent, in pieces of at most so many bytes.
fn send_in_pieces(answers: &mut Answers, len: usize) -> String {
    let mut all = Vec::new();
    while let [first, ..] = answers.sendable().chunks(len).collect::<Vec<_>>()[..] {
        all.extend_from_slice(first);
        let count = first.len();
        answers.advance(count);
    }
    String::from_utf8(all).unwrap()
}

fn push_static(answers: &mut Answers, head: &str, end: &str) {
    let answer = StaticAnswer::new(head.into(), b"0123456789", end.into());
    answers.push_static(answer);
}

#[test]
fn static_bytes_are_sent_in_their_place_however_few_the_socket_takes() {
    for len in 1..=60 {
        let mut answers = Answers::default();
        answers.keep_ledger(None);
        push(&mut answers, 5, "HTTP/1.1 200 a");
        push_static(&mut answers, "HTTP/1.1 200 b", "end");
        let slot = answers.wait(waiting());
        push_static(&mut answers, "HTTP/1.1 200 c", "");
        push(&mut answers, 0, "HTTP/1.1 200 d");
        assert_eq!(send_in_pieces(&mut answers, len), "");
        answers.open_gates(Sequence::new(5), |_, _| {});
        let sent = send_in_pieces(&mut answers, len);
        assert_eq!(sent, "HTTP/1.1 200 aHTTP/1.1 200 b0123456789end");
        answers.fill(slot, |out| out.extend_from_slice(b"HTTP/1.1 200 w"));
        answers.advance(14);
        let sent = send_in_pieces(&mut answers, len);
        assert_eq!(sent, "HTTP/1.1 200 c0123456789HTTP/1.1 200 d");
        assert!(answers.is_empty());
        let (_, over) = answers.take_answered();
        let over = over.iter().map(|it| (it.status, it.bytes, it.is_whole));
        let expected = [14, 27, 14, 24, 14].map(|bytes| (200, bytes, true));
        assert_eq!(over.collect::<Vec<_>>(), expected, "{len}");
    }
}

#[test]
fn static_bytes_behind_what_is_not_durable_are_dropped_with_it() {
    let mut answers = Answers::default();
    answers.keep_ledger(None);
    push(&mut answers, 5, "HTTP/1.1 200 a");
    push_static(&mut answers, "HTTP/1.1 200 b", "end");
    push_static(&mut answers, "HTTP/1.1 200 c", "end");
    assert!(answers.drop_gated().is_some());
    assert!(answers.is_empty());
    assert_eq!(answers.sendable(), b"");
    push_static(&mut answers, "HTTP/1.1 503 d", "");
    assert_eq!(
        send_in_pieces(&mut answers, 100),
        "HTTP/1.1 503 d0123456789"
    );
}

#[test]
fn static_bytes_that_are_not_taken_are_held_by_no_connection() {
    static PAGE: [u8; 300_000] = [b'x'; 300_000];
    let mut answers = Answers::default();
    for _ in 0..2 {
        let answer = StaticAnswer::new(vec![b'h'; 500], &PAGE, Vec::new());
        answers.push_static(answer);
    }
    assert!(answers.is_full(), "no more requests are read");
    let held = answers.heap_bytes();
    assert_eq!(held, answers.found_bytes());
    assert!(held < crate::limits::MEMORY_UNCOUNTED_BYTES_MAX, "{held}");
    for _ in 0..2 {
        assert_eq!(answers.sendable().len(), 500);
        answers.advance(500);
        // In the middle of a page nothing may come between.
        answers.advance(100_000);
        answers.probe_waiting();
        assert_eq!(answers.sendable().len(), 200_000);
        answers.advance(200_000);
    }
    assert!(answers.is_empty());
}
