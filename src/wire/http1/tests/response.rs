//! Responses as bytes.

use crate::wire::http1::{
    BodyLength, ImfFixdate, ResponseHead, Version, reason_phrase, write_chunk, write_decimal,
    write_last_chunk,
};

const DATE: &ImfFixdate = b"Sun, 06 Nov 1994 08:49:37 GMT";

const OK: ResponseHead<'static> = ResponseHead {
    status: 200,
    content_type: None,
    body: BodyLength::Known(0),
    version: Version::Http11,
    keep_alive: true,
    date: DATE,
    headers: &[],
};

/// What every response has, for which `DATE` stands below.
const FIELDS: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Content-Type-Options: nosniff";

fn check(head: &ResponseHead<'_>, expected: &str) {
    let mut out = b"before".to_vec();
    head.write(&mut out);
    let expected = format!("beforeHTTP/1.1 {expected}\r\n\r\n").replace("DATE", FIELDS);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn heads_say_status_length_and_type() {
    check(&OK, "200 OK\r\nDATE\r\nContent-Length: 0");
    check(
        &ResponseHead {
            status: 429,
            content_type: Some("application/json"),
            body: BodyLength::Known(u64::MAX),
            headers: &[("Retry-After", "3"), ("ETag", "\"x\"")],
            ..OK
        },
        "429 Too Many Requests\r\nDATE\r\nContent-Type: application/json\r\n\
         Content-Length: 18446744073709551615\r\nRetry-After: 3\r\nETag: \"x\"",
    );
    check(
        &ResponseHead {
            body: BodyLength::Chunked,
            ..OK
        },
        "200 OK\r\nDATE\r\nTransfer-Encoding: chunked",
    );
    check(
        &ResponseHead {
            status: 204,
            body: BodyLength::None,
            ..OK
        },
        "204 No Content\r\nDATE",
    );
    check(
        &ResponseHead { status: 999, ..OK },
        "999 \r\nDATE\r\nContent-Length: 0",
    );
}

#[test]
fn persistence_is_told_where_the_version_does_not_say_it() {
    let connection = |version, keep_alive, body, expected: &str| {
        check(
            &ResponseHead {
                body,
                version,
                keep_alive,
                ..OK
            },
            &format!("200 OK\r\nDATE{expected}"),
        );
    };
    let none = BodyLength::None;
    connection(Version::Http11, true, none, "");
    connection(Version::Http11, false, none, "\r\nConnection: close");
    connection(Version::Http10, true, none, "\r\nConnection: keep-alive");
    connection(Version::Http10, false, none, "\r\nConnection: close");
    connection(
        Version::Http10,
        true,
        BodyLength::UntilClose,
        "\r\nConnection: close",
    );
    connection(
        Version::Http11,
        true,
        BodyLength::UntilClose,
        "\r\nConnection: close",
    );
}

#[test]
fn values_cannot_end_their_line() {
    check(
        &ResponseHead {
            content_type: Some("a\r\nX: y"),
            headers: &[("Link", "<a\r\n\r\nb\0c\u{7f}\td\u{e4}>")],
            ..OK
        },
        "200 OK\r\nDATE\r\nContent-Type: a  X: y\r\nContent-Length: 0\r\nLink: <a    b c \td\u{e4}>",
    );
}

#[test]
#[should_panic(expected = "field names are tokens")]
fn names_that_are_no_tokens_are_bugs() {
    ResponseHead {
        headers: &[("A\r\nB", "c")],
        ..OK
    }
    .write(&mut Vec::new());
}

#[test]
#[should_panic(expected = "HTTP/1.0 has no chunks")]
fn chunks_to_http_1_0_are_bugs() {
    ResponseHead {
        version: Version::Http10,
        body: BodyLength::Chunked,
        ..OK
    }
    .write(&mut Vec::new());
}

#[test]
fn every_status_of_the_contract_has_a_phrase() {
    for status in [
        100, 101, 200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 409, 410, 413, 414, 415, 426,
        429, 431, 500, 503,
    ] {
        assert!(!reason_phrase(status).is_empty(), "{status}");
    }
}

#[test]
fn chunks_carry_their_size_in_hex_and_are_never_empty() {
    let check = |len: usize, size: &str| {
        let mut out = Vec::new();
        write_chunk(&mut out, &vec![b'x'; len]);
        assert_eq!(
            out,
            format!("{size}\r\n{}\r\n", "x".repeat(len)).into_bytes()
        );
    };
    check(1, "1");
    check(15, "f");
    check(16, "10");
    check(255, "ff");
    check(4096, "1000");
    check(0x1_2ab0, "12ab0");
    let mut out = Vec::new();
    write_chunk(&mut out, b"");
    assert!(out.is_empty());
    write_last_chunk(&mut out);
    assert_eq!(out, b"0\r\n\r\n");
}

#[test]
fn decimals_have_no_leading_zero() {
    for value in [
        0,
        1,
        9,
        10,
        99,
        100,
        12_345,
        u64::from(u32::MAX),
        u64::MAX - 1,
        u64::MAX,
    ] {
        let mut out = Vec::new();
        write_decimal(&mut out, value);
        assert_eq!(out, value.to_string().into_bytes());
    }
}
