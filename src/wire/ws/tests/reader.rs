//! What a client may send, and what is made of it.

use super::{
    CLOSE, KEY, LAST, MORE, Message, MessageReader, MessagesRead, PING, PONG, TEXT, TEXT_PART,
    WsError, frame, read, read_every_way,
};
use crate::limits::WS_MESSAGE_BYTES_MAX;

/// Asserts that `frames` are exactly these messages (their `Debug` text), however they are split.
fn check(frames: &[Vec<u8>], messages: &[&str]) {
    let outcome = read_every_way(&frames.concat());
    assert_eq!(
        (outcome.messages, outcome.end),
        (messages.iter().map(ToString::to_string).collect(), Ok(0))
    );
}

/// Asserts that `frames` are refused as `error` after these messages, however they are split.
fn check_refused(frames: &[Vec<u8>], messages: &[&str], error: WsError) {
    let expected = MessagesRead {
        messages: messages.iter().map(ToString::to_string).collect(),
        end: Err(error),
    };
    assert_eq!(read_every_way(&frames.concat()), expected);
}

#[test]
fn whole_messages_are_given_out_in_order() {
    check(
        &[
            frame(TEXT, b"a"),
            frame(TEXT, b""),
            frame(PING, b"\xff\0"),
            frame(PONG, b""),
            frame(TEXT, "\u{e4}\u{1f600}".as_bytes()),
            frame(PING, &[b'x'; 125]),
        ],
        &[
            "Text(\"a\")",
            "Text(\"\")",
            "Ping([255, 0])",
            "Pong([])",
            "Text(\"\u{e4}\u{1f600}\")",
            &format!("Ping({:?})", [b'x'; 125]),
        ],
    );
}

#[test]
fn fragments_are_joined_and_control_frames_pass_between() {
    check(
        &[
            frame(TEXT_PART, b"a"),
            frame(PING, b"1"),
            frame(MORE, b""),
            frame(MORE, b"bc"),
            frame(PONG, b"2"),
            frame(LAST, b"d"),
            frame(TEXT_PART, b""),
            frame(LAST, b""),
            frame(TEXT, b"e"),
            frame(TEXT_PART, b"f"),
            frame(LAST, b"g"),
        ],
        &[
            "Ping([49])",
            "Pong([50])",
            "Text(\"abcd\")",
            "Text(\"\")",
            "Text(\"e\")",
            "Text(\"fg\")",
        ],
    );
}

#[test]
fn characters_may_be_cut_between_fragments() {
    let text = "\u{1f600}\u{e4}".as_bytes();
    let pieces: Vec<_> = text
        .iter()
        .enumerate()
        .map(|(index, byte)| frame(if index == 0 { TEXT_PART } else { MORE }, &[*byte]))
        .chain([frame(LAST, b"")])
        .collect();
    check(&pieces, &["Text(\"\u{1f600}\u{e4}\")"]);
}

#[test]
fn bad_text_fails_with_the_fragment_that_holds_it() {
    use WsError::NotUtf8;
    check_refused(&[frame(TEXT, b"\xff")], &[], NotUtf8);
    check_refused(&[frame(TEXT, b"a\xc3")], &[], NotUtf8);
    check_refused(&[frame(TEXT, b"\xed\xa0\x80")], &[], NotUtf8);
    check_refused(&[frame(TEXT_PART, b"a\xff")], &[], NotUtf8);
    check_refused(
        &[frame(TEXT_PART, b"\xf0\x9f"), frame(MORE, b"a")],
        &[],
        NotUtf8,
    );
    check_refused(
        &[frame(TEXT_PART, b"\xf4"), frame(MORE, b"\x90")],
        &[],
        NotUtf8,
    );
    check_refused(
        &[frame(TEXT_PART, b"a\xc3"), frame(LAST, b"")],
        &[],
        NotUtf8,
    );
    check_refused(
        &[frame(TEXT_PART, b"\xc3"), frame(LAST, b"\xa4\xc3")],
        &[],
        NotUtf8,
    );
}

#[test]
fn malformed_frames_are_refused_from_their_first_bytes() {
    use WsError::{
        Binary, ControlFragmented, ControlTooLong, ReservedBits, ReservedOpcode,
        UnexpectedContinuation, Unmasked,
    };
    for (bytes, error) in [
        ([0xc1, 0x80], ReservedBits),
        ([0xa1, 0x80], ReservedBits),
        ([0x91, 0x80], ReservedBits),
        ([0xf9, 0x00], ReservedBits),
        ([0x83, 0x80], ReservedOpcode),
        ([0x87, 0x80], ReservedOpcode),
        ([0x8b, 0x80], ReservedOpcode),
        ([0x8f, 0x80], ReservedOpcode),
        ([0x81, 0x00], Unmasked),
        ([0x89, 0x05], Unmasked),
        ([0x09, 0x80], ControlFragmented),
        ([0x08, 0x80], ControlFragmented),
        ([0x0a, 0x80], ControlFragmented),
        ([0x89, 0xfe], ControlTooLong),
        ([0x88, 0xff], ControlTooLong),
        ([0x82, 0x80], Binary),
        ([0x02, 0x80], Binary),
        ([0x80, 0x80], UnexpectedContinuation),
        ([0x00, 0x80], UnexpectedContinuation),
    ] {
        check_refused(&[bytes.to_vec()], &[], error);
        check_refused(
            &[frame(TEXT, b"a"), bytes.to_vec()],
            &["Text(\"a\")"],
            error,
        );
    }
    for first in [TEXT, TEXT_PART, 0x82, 0x02] {
        let interrupted = [frame(TEXT_PART, b"a"), frame(first, b"b")];
        check_refused(&interrupted, &[], WsError::MessageInterrupted);
    }
}

#[test]
fn lengths_take_as_few_bytes_as_they_can() {
    let check_length = |length_bytes: &[u8], error: Option<WsError>| {
        let bytes = [&[TEXT][..], length_bytes].concat();
        let outcome = read_every_way(&bytes);
        assert_eq!(
            outcome.end,
            error.map_or(Ok(bytes.len()), Err),
            "{length_bytes:?}"
        );
    };
    let malformed = Some(WsError::LengthMalformed);
    check_length(&[0xfe, 0, 0], malformed);
    check_length(&[0xfe, 0, 125], malformed);
    check_length(&[0xfe, 0, 126], None);
    check_length(&[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], malformed);
    check_length(&[0xff, 0, 0, 0, 0, 0, 1, 0, 0], None);
    check_length(&[0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], malformed);
    check_length(&[0xff; 9], malformed);
    check_length(
        &[0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        Some(WsError::MessageTooLong),
    );
}

#[test]
fn close_ends_the_connection_with_its_code_and_reason() {
    let check_close = |payload: &[u8], text: &str| {
        check(
            &[frame(TEXT, b"a"), frame(CLOSE, payload)],
            &["Text(\"a\")", text],
        );
    };
    check_close(b"", "Close(None)");
    check_close(b"\x03\xe8", "Close(Some((1000, \"\")))");
}

#[test]
fn close_payloads_are_checked() {
    let payload = |code: u16, reason: &[u8]| [&code.to_be_bytes()[..], reason].concat();
    for code in [
        1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999,
    ] {
        let text = format!("Close(Some(({code}, \"by\u{e4}\")))");
        check(
            &[frame(CLOSE, &payload(code, "by\u{e4}".as_bytes()))],
            &[&text],
        );
    }
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535,
    ] {
        check_refused(
            &[frame(CLOSE, &payload(code, b""))],
            &[],
            WsError::CloseCodeInvalid,
        );
    }
    check_refused(&[frame(CLOSE, b"\x03")], &[], WsError::CloseMalformed);
    check_refused(
        &[frame(CLOSE, &payload(1000, b"\xff"))],
        &[],
        WsError::NotUtf8,
    );
    check_refused(
        &[frame(CLOSE, &payload(1000, b"\xc3"))],
        &[],
        WsError::NotUtf8,
    );
}

#[test]
fn close_inside_a_fragmented_message_ends_it() {
    let frames = [frame(TEXT_PART, b"a"), frame(CLOSE, b"")];
    assert_eq!(read_every_way(&frames.concat()).messages, ["Close(None)"]);
}

#[test]
fn what_follows_a_close_is_dropped() {
    let mut reader = MessageReader::default();
    reader.receive(&[frame(CLOSE, b""), frame(TEXT, b"a")].concat());
    assert!(matches!(reader.next(), Ok(Some(_))));
    assert_eq!(reader.next(), Ok(None));
    reader.receive(&frame(TEXT, b"b"));
    assert_eq!(reader.next(), Ok(None));
    assert_eq!(reader.buffered(), 0);
}

#[test]
fn message_length_is_bounded_from_its_header() {
    let long = |len: usize| frame(TEXT, &vec![b'a'; len]);
    let outcome = read([&long(WS_MESSAGE_BYTES_MAX)[..]]);
    assert_eq!((outcome.messages.len(), outcome.end), (1, Ok(0)));
    let header = &long(WS_MESSAGE_BYTES_MAX + 1)[..10];
    assert_eq!(read_every_way(header).end, Err(WsError::MessageTooLong));
    assert_eq!(read_every_way(&header[..9]).end, Ok(9));
}

#[test]
fn message_length_is_bounded_over_all_fragments() {
    let parts = |last: usize| {
        let most = vec![b'a'; WS_MESSAGE_BYTES_MAX - 3];
        [
            frame(TEXT_PART, &most),
            frame(PING, b"1"),
            frame(MORE, b"bc"),
            frame(LAST, &vec![b'd'; last]),
        ]
        .concat()
    };
    let outcome = read([&parts(1)[..]]);
    assert_eq!((outcome.messages.len(), outcome.end), (2, Ok(0)));
    let outcome = read([&parts(2)[..]]);
    assert_eq!(
        (outcome.messages.len(), outcome.end),
        (1, Err(WsError::MessageTooLong))
    );
    let bytes = parts(2);
    let cut = bytes.len() - 2 - KEY.len();
    assert_eq!(
        read([&bytes[..cut]]).end,
        Err(WsError::MessageTooLong),
        "the header is enough"
    );
}

#[test]
fn an_idle_trimmed_reader_holds_no_heap_and_a_gathering_one_keeps_its_bytes() {
    let mut reader = MessageReader::default();
    reader.receive(&[frame(TEXT_PART, b"ab"), frame(MORE, b"c")].concat());
    assert_eq!(reader.next(), Ok(None));
    reader.trim();
    assert_eq!(reader.buffered(), 3);
    reader.receive(&frame(LAST, b"d"));
    assert!(matches!(reader.next(), Ok(Some(Message::Text("abcd")))));
    reader.trim();
    assert_eq!(
        format!("{reader:?}"),
        format!("{:?}", MessageReader::default())
    );
    assert_eq!((reader.buffered(), reader.heap_bytes()), (0, 0));
}

#[test]
fn errors_name_a_close_code_and_a_reason() {
    let check = |error: WsError, code, reason: &str| {
        assert_eq!(
            (error.close_code(), error.to_string().as_str()),
            (code, reason)
        );
    };
    check(WsError::Unmasked, 1002, "frame is not masked");
    check(WsError::ReservedBits, 1002, "reserved bits are set");
    check(WsError::Binary, 1003, "binary messages are not accepted");
    check(WsError::NotUtf8, 1007, "text is not UTF-8");
    check(
        WsError::MessageTooLong,
        1009,
        "message is over 1048576 bytes",
    );
}

#[test]
fn frames_that_are_unmasked_ahead_show_their_text() {
    let mut reader = MessageReader::default();
    let (first, second) = (frame(TEXT, b"first"), frame(TEXT, b"second"));
    let all = [&first[..], &second, &frame(TEXT, b"third")[..8]].concat();
    reader.receive(&all);
    reader.unmask_ahead(all.len());
    let shows = |reader: &MessageReader, text: &[u8]| {
        let mut places = reader.pending().windows(text.len());
        places.any(|place| place == text)
    };
    assert!(shows(&reader, b"first") && shows(&reader, b"second"));
    assert!(!shows(&reader, b"th"), "a frame that is not whole");
    assert_eq!(reader.next(), Ok(Some(Message::Text("first"))));
    assert_eq!(reader.next(), Ok(Some(Message::Text("second"))));
}
