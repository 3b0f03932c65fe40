//! Where a body ends: the rules whose breach is request smuggling (RFC 9112 §6.3, §7.1, §11.2).

use super::{ROOMY, check_bodies, check_refused, read, read_every_way};
use crate::wire::http1::HttpError;

/// A POST with these framing fields and these bytes after the head.
fn post(fields: &str, rest: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n{rest}").into_bytes()
}

fn chunked(rest: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", rest)
}

/// What an attacker hides in the body for the reader that ends it elsewhere.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn content_length_is_digits_and_stands_once() {
    use HttpError::{ContentLengthInvalid, ContentLengthRepeated};
    for (value, error) in [
        ("", ContentLengthInvalid),
        ("+1", ContentLengthInvalid),
        ("-1", ContentLengthInvalid),
        ("1 1", ContentLengthInvalid),
        ("1, 1", ContentLengthInvalid),
        ("1,1", ContentLengthInvalid),
        ("0x1", ContentLengthInvalid),
        ("1.0", ContentLengthInvalid),
        ("1e1", ContentLengthInvalid),
        ("1_0", ContentLengthInvalid),
        ("one", ContentLengthInvalid),
        ("\u{661}", ContentLengthInvalid),
        ("18446744073709551616", ContentLengthInvalid),
        ("99999999999999999999999999", ContentLengthInvalid),
        (
            "18446744073709551615",
            HttpError::BodyTooLarge { limit: ROOMY },
        ),
        ("1\u{b}", HttpError::FieldValueMalformed),
        ("1\r\n 1", HttpError::FieldNameMalformed),
        ("1\r\nContent-Length: 1", ContentLengthRepeated),
        ("5\r\ncontent-length: 6", ContentLengthRepeated),
        ("1\r\nContent-Length: x", ContentLengthRepeated),
    ] {
        check_refused(&post(&format!("Content-Length: {value}\r\n"), "x"), error);
    }
    for value in ["1", "01", "0000000000000000000000000001", "\t 1 \t", "  1"] {
        check_bodies(&post(&format!("Content-Length:{value}\r\n"), "x"), &["x"]);
    }
}

#[test]
fn transfer_encoding_is_exactly_chunked() {
    for value in [
        "xchunked",
        "chunkedx",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, identity",
        "identity",
        "gzip",
        "\"chunked\"",
        "chunked;q=1",
        ",chunked",
        "chunked,",
        "",
        "\u{e4}chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "x\r\nTransfer-Encoding: chunked",
    ] {
        let bytes = post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n");
        check_refused(&bytes, HttpError::TransferEncodingInvalid);
    }
    check_bodies(
        &post("Transfer-Encoding:CHUNKED \t\r\n", "0\r\n\r\n"),
        &[""],
    );
}

#[test]
fn transfer_encoding_is_not_hidden_by_its_spelling() {
    use HttpError::{FieldNameMalformed, FieldValueMalformed, LineEndMalformed};
    for (fields, error) in [
        ("Transfer-Encoding:\u{b}chunked\r\n", FieldValueMalformed),
        ("Transfer-Encoding: chunked\0\r\n", FieldValueMalformed),
        ("X: a\rTransfer-Encoding: chunked\r\n", FieldValueMalformed),
        ("X: a\nTransfer-Encoding: chunked\r\n", LineEndMalformed),
        ("Transfer-Encoding\t: chunked\r\n", FieldNameMalformed),
        ("Transfer-Encoding : chunked\r\n", FieldNameMalformed),
        ("Transfer-Encoding:\r\n chunked\r\n", FieldNameMalformed),
        (
            "X: a\r\n Transfer-Encoding: chunked\r\n",
            FieldNameMalformed,
        ),
        (" Transfer-Encoding: chunked\r\n", FieldNameMalformed),
    ] {
        check_refused(&post(fields, "0\r\n\r\n"), error);
    }
}

#[test]
fn two_framings_exclude_each_other_in_either_order() {
    use HttpError::FramingConflict;
    let length = format!("Content-Length: {}\r\n", HIDDEN.len() + 5);
    for fields in [
        format!("{length}Transfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\n{length}"),
        format!("Transfer-Encoding: xchunked\r\n{length}"),
        format!("{length}{length}Transfer-Encoding: chunked\r\n"),
        "Transfer-Encoding: chunked\r\nContent-Length:\r\n".to_owned(),
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nX: y\r\ncontent-length: 6\r\n".to_owned(),
    ] {
        check_refused(
            &post(&fields, &format!("0\r\n\r\n{HIDDEN}")),
            FramingConflict,
        );
    }
}

#[test]
fn http_1_0_has_no_chunks() {
    let bytes = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check_refused(bytes, HttpError::TransferEncodingInOldVersion);
    let bytes =
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n";
    check_refused(bytes, HttpError::FramingConflict);
}

#[test]
fn a_body_hides_no_request() {
    let bytes = post(&format!("Content-Length: {}\r\n", HIDDEN.len()), HIDDEN);
    check_bodies(&bytes, &[&HIDDEN.escape_default().to_string()]);
    let bytes = chunked(&format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()));
    check_bodies(&bytes, &[&HIDDEN.escape_default().to_string()]);
    let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n\r\n{HIDDEN}");
    check_bodies(bytes.as_bytes(), &["", ""]);
}

#[test]
fn chunks_are_joined() {
    for (rest, body) in [
        ("0\r\n\r\n", ""),
        ("1\r\na\r\n0\r\n\r\n", "a"),
        ("3\r\nabc\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n", "abcdef"),
        ("A\r\n0123456789\r\n00\r\n\r\n", "0123456789"),
        ("a\r\n0123456789\r\n000\r\n\r\n", "0123456789"),
        ("0000000000000001\r\na\r\n0\r\n\r\n", "a"),
        ("1;x\r\na\r\n0;last\r\n\r\n", "a"),
        ("1;x=\"a;\tb\u{e4}\"\r\na\r\n0\r\n\r\n", "a"),
        ("1 \t; x = y\r\na\r\n0\r\n\r\n", "a"),
        ("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\\r\\n\\r\\n"),
        ("1\r\na\r\n0\r\nTrailer: x\r\nOther:\r\n\r\n", "a"),
        ("0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n", ""),
    ] {
        check_bodies(&chunked(rest), &[body]);
        let pipelined = [chunked(rest), HIDDEN.as_bytes().to_vec(), chunked(rest)].concat();
        check_bodies(&pipelined, &[body, "", body]);
    }
}

#[test]
fn malformed_chunks_are_refused() {
    use HttpError::{ChunkEndMissing, ChunkSizeInvalid, TrailerInvalid};
    for (rest, error) in [
        ("\r\n", ChunkSizeInvalid),
        (" 1\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1 \r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1\t\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("0x1\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("+1\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("-1\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1g\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("g\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1_0\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1,\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        (";x\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("00000000000000001\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("10000000000000000\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1\r\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1\ra\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1;a\rb\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1;a\nb\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1;a\0\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1;a\u{7f}\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1\u{b};a\r\na\r\n0\r\n\r\n", ChunkSizeInvalid),
        ("1\r\nab\r\n0\r\n\r\n", ChunkEndMissing),
        ("1\r\na\n0\r\n\r\n", ChunkEndMissing),
        ("1\r\na\r0\r\n\r\n", ChunkEndMissing),
        ("1\r\na0\r\n\r\n", ChunkEndMissing),
        ("2\r\na\r\n0\r\n\r\n", ChunkEndMissing),
        ("0\r\n\n", TrailerInvalid),
        ("0\r\nA: b\n\r\n", TrailerInvalid),
        ("0\r\nA: b\rc\r\n\r\n", TrailerInvalid),
        ("0\r\nA : b\r\n\r\n", TrailerInvalid),
        ("0\r\n: b\r\n\r\n", TrailerInvalid),
        ("0\r\nA\r\n\r\n", TrailerInvalid),
        ("0\r\n b\r\n\r\n", TrailerInvalid),
        ("0\r\nA: b\0\r\n\r\n", TrailerInvalid),
        ("0\r\nA: b\r\n c\r\n\r\n", TrailerInvalid),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", TrailerInvalid),
    ] {
        check_refused(&chunked(rest), error);
    }
}

#[test]
fn bodies_are_refused_from_their_announcement_alone() {
    let check = |bytes: &[u8], limit, refused: bool| {
        let outcome = read_every_way(bytes, limit);
        let error = HttpError::BodyTooLarge { limit };
        assert_eq!(
            outcome.end == Err(error),
            refused,
            "{} {limit}",
            bytes.escape_ascii()
        );
    };
    check(&post("Content-Length: 8\r\n", ""), 8, false);
    check(&post("Content-Length: 9\r\n", ""), 8, true);
    check(&chunked("8\r\n"), 8, false);
    check(&chunked("9\r\n"), 8, true);
    check(&chunked("5\r\nabcde\r\n3\r\n"), 8, false);
    check(&chunked("5\r\nabcde\r\n4\r\n"), 8, true);
    check(&chunked("ffffffffffffffff\r\n"), 8, true);
    check(&chunked("5\r\nabcde\r\nffffffffffffffff\r\n"), 8, true);
    check(&chunked("1\r\na\r\n"), 0, true);
    check(&chunked("0\r\n\r\n"), 0, false);
    check(&post("Content-Length: 0\r\n", ""), 0, false);
}

#[test]
fn chunk_framing_never_piles_up() {
    let mut reader = super::RequestReader::default();
    reader.receive(&chunked(""));
    let head_len = reader.buffered();
    for count in 1..=10_000 {
        assert!(matches!(reader.next(|_| ROOMY), Ok(super::Next::NeedMore)));
        reader.receive(b"1\r\nx\r\n");
        assert!(
            reader.buffered() <= head_len + count + 5,
            "after {count} chunks"
        );
    }
    reader.receive(b"0\r\n\r\n");
    match reader.next(|_| ROOMY) {
        Ok(super::Next::Request(request)) => assert_eq!(request.body, vec![b'x'; 10_000]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_declared_length_reserves_nothing() {
    let outcome = read([&post("Content-Length: 1000000\r\n", "abc")[..]], ROOMY);
    let buffered = post("Content-Length: 1000000\r\n", "abc").len();
    assert_eq!(outcome.end, Ok(buffered));
}
