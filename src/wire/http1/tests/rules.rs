//! What a head may say, and what is made of it.

use super::{check_bodies, check_refused, read_every_way, with_request};
use crate::wire::http1::{
    Field, Framing, Head, HttpError, Method, Next, Phase, RequestReader, Version,
};

/// A request from its first line, in HTTP/1.1 form with a Host.
fn request(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: h\r\n\r\n").into_bytes()
}

/// A GET with these field lines added.
fn with_fields(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
}

#[test]
fn everything_a_head_says_is_seen() {
    let bytes = b"POST /api/events?a=%20&b HTTP/1.1\r\nhOsT: localhost:3000\r\nAuthorization:Bearer x\t \r\n\
        If-Match: \"1\"\r\nIf-None-Match: *\r\nX-Other: \xff\xe4 z\r\nAccept:\r\nContent-Length: 2\r\n\r\nhi";
    with_request(bytes, |request| {
        let head = &request.head;
        assert_eq!(head.method, Method::Post);
        assert_eq!(head.path, "/api/events");
        assert_eq!(head.query, Some("a=%20&b"));
        assert_eq!(head.version, Version::Http11);
        assert!(head.keep_alive);
        assert_eq!(head.framing, Framing::Length(2));
        assert!(!head.expect_continue);
        assert_eq!(head.authorization, Field::One(b"Bearer x"));
        assert_eq!(head.if_match, Field::One(b"\"1\""));
        assert_eq!(head.if_none_match, Field::One(b"*"));
        assert_eq!(head.upgrade.key, Field::Absent);
        assert_eq!(request.body, b"hi");
    });
}

#[test]
fn methods_are_case_sensitive_tokens() {
    let check = |name: &str, method| {
        let bytes = request(&format!("{name} / HTTP/1.1"));
        with_request(&bytes, |request| {
            assert_eq!(request.head.method, method, "{name}");
        });
    };
    check("GET", Method::Get);
    check("HEAD", Method::Head);
    check("POST", Method::Post);
    check("PUT", Method::Put);
    check("DELETE", Method::Delete);
    check("OPTIONS", Method::Options);
    check("PATCH", Method::Patch);
    check("get", Method::Other);
    check("TRACE", Method::Other);
    check("M-SEARCH", Method::Other);
}

#[test]
fn targets_of_every_form_are_split() {
    let check = |target: &str, path: &str, query: Option<&str>| {
        let bytes = request(&format!("GET {target} HTTP/1.1"));
        with_request(&bytes, |request| {
            assert_eq!(
                (request.head.path, request.head.query),
                (path, query),
                "{target}"
            );
        });
    };
    check("/", "/", None);
    check("/a/b%2Fc", "/a/b%2Fc", None);
    check("/a?", "/a", Some(""));
    check("/a?b?c=/d", "/a", Some("b?c=/d"));
    check("//a", "//a", None);
    check("/\u{e4}?\u{20ac}", "/\u{e4}", Some("\u{20ac}"));
    check("http://host/a?b", "/a", Some("b"));
    check("HTTP://host:80/a", "/a", None);
    check("https://host", "/", None);
    check("http://[::1]:3000?q", "/", Some("q"));
    let bytes = request("OPTIONS * HTTP/1.1");
    with_request(&bytes, |request| assert_eq!(request.head.path, "*"));
}

#[test]
fn malformed_request_lines_are_refused() {
    use HttpError::{RequestLineMalformed, TargetMalformed, VersionUnsupported};
    for (line, error) in [
        ("GET * HTTP/1.1", TargetMalformed),
        ("GET host:80 HTTP/1.1", TargetMalformed),
        ("CONNECT host:80 HTTP/1.1", TargetMalformed),
        ("CONNECT /a HTTP/1.1", TargetMalformed),
        ("GET a/b HTTP/1.1", TargetMalformed),
        ("GET ?a HTTP/1.1", TargetMalformed),
        ("GET /a#b HTTP/1.1", TargetMalformed),
        ("GET http:///a HTTP/1.1", TargetMalformed),
        ("GET http://:80/a HTTP/1.1", TargetMalformed),
        ("GET http://u@h/a HTTP/1.1", TargetMalformed),
        ("GET ftp://h/a HTTP/1.1", TargetMalformed),
        ("GET http:/a HTTP/1.1", TargetMalformed),
        ("GET / HTTP/1.2", VersionUnsupported),
        ("GET / HTTP/2.0", VersionUnsupported),
        ("GET / HTTP/0.9", VersionUnsupported),
        ("GET / http/1.1", VersionUnsupported),
        ("GET / HTTP/1.1 ", HttpError::LineEndMalformed),
        ("GET / HTTP/1.10", HttpError::LineEndMalformed),
        ("GET /", RequestLineMalformed),
        ("GET", RequestLineMalformed),
        ("GET  / HTTP/1.1", RequestLineMalformed),
        ("GET /  HTTP/1.1", VersionUnsupported),
        ("GET\t/ HTTP/1.1", RequestLineMalformed),
        ("GET /a b HTTP/1.1", VersionUnsupported),
        (" GET / HTTP/1.1", RequestLineMalformed),
        ("G(T / HTTP/1.1", RequestLineMalformed),
        ("GET /\u{1} HTTP/1.1", RequestLineMalformed),
        ("GET /\0 HTTP/1.1", RequestLineMalformed),
        ("GET /\u{7f} HTTP/1.1", RequestLineMalformed),
    ] {
        check_refused(&request(line), error);
    }
    check_refused(
        b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        RequestLineMalformed,
    );
    check_refused(b"PRI * HTTP/2.0\r\n\r\n", VersionUnsupported);
}

#[test]
fn malformed_fields_are_refused() {
    use HttpError::{FieldNameMalformed, FieldValueMalformed};
    for (fields, error) in [
        ("A : b\r\n", FieldNameMalformed),
        ("A\t: b\r\n", FieldNameMalformed),
        (" A: b\r\n", FieldNameMalformed),
        ("A: b\r\n c\r\n", FieldNameMalformed),
        ("A: b\r\n\tc\r\n", FieldNameMalformed),
        (": b\r\n", FieldNameMalformed),
        ("A\r\n", FieldNameMalformed),
        ("A b: c\r\n", FieldNameMalformed),
        ("A(: c\r\n", FieldNameMalformed),
        ("\u{e4}: c\r\n", FieldNameMalformed),
        ("A\0: c\r\n", FieldNameMalformed),
        ("A: b\0c\r\n", FieldValueMalformed),
        ("A: b\u{b}c\r\n", FieldValueMalformed),
        ("A: b\u{7f}\r\n", FieldValueMalformed),
        ("A: b\u{1b}\r\n", FieldValueMalformed),
    ] {
        check_refused(&with_fields(fields), error);
    }
}

#[test]
fn bare_line_ends_are_refused_anywhere_in_the_head() {
    use HttpError::LineEndMalformed;
    for bytes in [
        &b"GET / HTTP/1.1\nHost: h\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: h\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\n",
        b"GET / HTTP/1.1\nHost: h\n\n",
        b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\rHost: h\r\n\r\n",
    ] {
        check_refused(bytes, LineEndMalformed);
    }
    check_refused(
        b"GET / HTTP/1.1\r\nHost: h\rA: b\r\n\r\n",
        HttpError::FieldValueMalformed,
    );
    check_refused(
        b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n",
        HttpError::FieldValueMalformed,
    );
    check_refused(b"GET / HTTP/1.1\r\nHost: h\r\n\r\r\n\r\n", LineEndMalformed);
}

#[test]
fn a_few_empty_lines_before_a_request_are_passed_over() {
    for count in 0..=4 {
        let bytes = ["\r\n".repeat(count).into_bytes(), request("GET / HTTP/1.1")].concat();
        check_bodies(&bytes, &[""]);
        check_bodies(&[bytes.clone(), bytes].concat(), &["", ""]);
    }
    let bytes = ["\r\n".repeat(5).into_bytes(), request("GET / HTTP/1.1")].concat();
    check_refused(&bytes, HttpError::LineEndMalformed);
}

#[test]
fn exactly_one_valid_host_is_required() {
    let check = |fields: &str, version: &str, error: Option<HttpError>| {
        let bytes = format!("GET / HTTP/{version}\r\n{fields}\r\n").into_bytes();
        match error {
            Some(error) => check_refused(&bytes, error),
            None => check_bodies(&bytes, &[""]),
        }
    };
    check("", "1.1", Some(HttpError::HostMissing));
    check("", "1.0", None);
    check("Host:\r\n", "1.1", None);
    check("Host: a\r\n", "1.0", None);
    check(
        "Host: a\r\nhost: a\r\n",
        "1.1",
        Some(HttpError::HostRepeated),
    );
    check(
        "Host: a\r\nHost: a\r\n",
        "1.0",
        Some(HttpError::HostRepeated),
    );
    check("Host: a b\r\n", "1.1", Some(HttpError::HostInvalid));
    check("Host: a, b\r\n", "1.1", Some(HttpError::HostInvalid));
    check("Host: a/b\r\n", "1.0", Some(HttpError::HostInvalid));
    check("Host: u@a\r\n", "1.1", Some(HttpError::HostInvalid));
    check("Host : a\r\n", "1.1", Some(HttpError::FieldNameMalformed));
}

#[test]
fn persistence_follows_version_and_connection() {
    let check = |version: &str, connection: &str, keep_alive| {
        let bytes = format!("GET / HTTP/{version}\r\nHost: h\r\n{connection}\r\n");
        with_request(bytes.as_bytes(), |request| {
            assert_eq!(
                request.head.keep_alive, keep_alive,
                "{version} {connection:?}"
            );
        });
    };
    check("1.1", "", true);
    check("1.0", "", false);
    check("1.1", "Connection: close\r\n", false);
    check("1.1", "Connection: Close\r\n", false);
    check("1.1", "Connection: upgrade ,\tCLOSE\r\n", false);
    check("1.1", "Connection: closed\r\n", true);
    check("1.0", "Connection: Keep-Alive\r\n", true);
    check("1.0", "Connection: x, keep-alive\r\n", true);
    check("1.0", "Connection: keep-alive, close\r\n", false);
    check(
        "1.1",
        "Connection: close\r\nConnection: keep-alive\r\n",
        false,
    );
    check("1.1", "Connection: ,,\r\n", true);
}

#[test]
fn repeated_fields_are_told_from_single_ones() {
    let twice = with_fields(
        "Authorization: a\r\nauthorization: a\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Key: k\r\n\
         Sec-WebSocket-Version: 13\r\nIf-None-Match: a\r\nIf-None-Match: b\r\nIf-Match:\r\n",
    );
    with_request(&twice, |request| {
        assert_eq!(request.head.authorization, Field::Repeated);
        assert_eq!(request.head.upgrade.key, Field::Repeated);
        assert_eq!(request.head.upgrade.version, Field::One(b"13"));
        assert_eq!(request.head.if_none_match, Field::Repeated);
        assert_eq!(request.head.if_match, Field::One(b""));
    });
}

#[test]
fn upgrade_needs_both_fields_and_http_1_1() {
    let check = |version: &str, fields: &str, expected: (bool, bool)| {
        let bytes = format!("GET / HTTP/{version}\r\nHost: h\r\n{fields}\r\n");
        with_request(bytes.as_bytes(), |request| {
            let upgrade = request.head.upgrade;
            assert_eq!(
                (upgrade.connection, upgrade.websocket),
                expected,
                "{fields:?}"
            );
        });
    };
    check(
        "1.1",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        (true, true),
    );
    check(
        "1.1",
        "Connection: keep-alive, Upgrade\r\nUpgrade: x, WebSocket\r\n",
        (true, true),
    );
    check(
        "1.1",
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        (true, false),
    );
    check("1.1", "Upgrade: websocket\r\n", (false, true));
    check(
        "1.0",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        (false, false),
    );
}

#[test]
fn encoded_bodies_are_refused_and_bodiless_requests_are_not() {
    let check = |fields: &str, refused: bool| {
        let bytes = [with_fields(fields), b"0\r\n\r\n".to_vec()].concat();
        if refused {
            check_refused(&bytes, HttpError::ContentEncodingUnsupported);
        } else {
            assert_eq!(read_every_way(&bytes, 5).requests.len(), 1, "{fields:?}");
        }
    };
    check("Content-Encoding: gzip\r\nContent-Length: 5\r\n", true);
    check(
        "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        true,
    );
    check(
        "Content-Encoding: identity, gzip\r\nContent-Length: 5\r\n",
        true,
    );
    check("Content-Encoding:\r\nContent-Length: 5\r\n", true);
    check("Content-Encoding: Identity\r\nContent-Length: 5\r\n", false);
    check(
        "Content-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        false,
    );
    let bodiless = with_fields("Content-Encoding: gzip\r\nContent-Length: 0\r\n");
    check_bodies(&bodiless, &[""]);
    check_bodies(&with_fields("Content-Encoding: gzip\r\n"), &[""]);
}

#[test]
fn continue_is_asked_for_once_and_only_while_the_body_is_missing() {
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    let mut reader = RequestReader::default();
    reader.receive(head);
    assert!(matches!(reader.next(|_| 2), Ok(Next::Continue)));
    assert!(matches!(reader.next(|_| 2), Ok(Next::NeedMore)));
    reader.receive(b"h");
    assert!(matches!(reader.next(|_| 2), Ok(Next::NeedMore)));
    reader.receive(b"i");
    assert!(matches!(reader.next(|_| 2), Ok(Next::Request(request)) if request.body == b"hi"));

    reader.receive(&[&head[..], b"hi"].concat());
    assert!(
        matches!(reader.next(|_| 2), Ok(Next::Request(_))),
        "the body is already here"
    );

    reader.receive(head);
    assert!(
        matches!(
            reader.next(|_| 1),
            Err(HttpError::BodyTooLarge { limit: 1 })
        ),
        "refused, not continued"
    );
}

#[test]
fn continue_is_not_for_other_versions_or_expectations() {
    let check = |version: &str, expect: &str, continues: bool| {
        let head = format!(
            "POST / HTTP/{version}\r\nHost: h\r\nExpect: {expect}\r\nContent-Length: 2\r\n\r\n"
        );
        let mut reader = RequestReader::default();
        reader.receive(head.as_bytes());
        let next = reader.next(|_| 2).unwrap();
        assert_eq!(
            matches!(next, Next::Continue),
            continues,
            "{version} {expect}"
        );
    };
    check("1.1", "100-continue", true);
    check("1.0", "100-continue", false);
    check("1.1", "200-ok", false);
    check("1.1", "", false);
}

#[test]
fn phase_says_what_is_waited_for() {
    let mut reader = RequestReader::default();
    let mut check = |bytes: &[u8], phase, buffered| {
        reader.receive(bytes);
        let whole = matches!(reader.next(|_| 9), Ok(Next::Request(_)));
        assert_eq!(
            (reader.phase(), reader.buffered()),
            (phase, buffered),
            "{}",
            bytes.escape_ascii()
        );
        whole
    };
    assert!(!check(b"", Phase::Idle, 0));
    assert!(!check(b"\r\n", Phase::Idle, 0));
    assert!(!check(b"P", Phase::Head, 1));
    assert!(!check(
        b"OST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n",
        Phase::Body,
        47
    ));
    assert!(check(b"hi", Phase::Idle, 0));
    assert!(check(
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGE",
        Phase::Head,
        2
    ));
    assert!(!check(b"\n", Phase::Idle, 0));
}

#[test]
fn bytes_behind_an_upgrade_are_handed_over() {
    let mut reader = RequestReader::default();
    reader.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n\x81\x80");
    assert!(matches!(reader.next(|_| 0), Ok(Next::Request(_))));
    assert_eq!(reader.take_rest(), b"\x81\x80");
    assert_eq!(reader.buffered(), 0);
}

#[test]
fn nothing_more_is_buffered_after_a_failure() {
    let mut reader = RequestReader::default();
    reader.receive(b"\n");
    assert!(reader.next(|_| 0).is_err());
    reader.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(reader.buffered(), 0);
    assert_eq!(reader.next(|_| 0).err(), Some(HttpError::LineEndMalformed));
}

#[test]
fn status_and_code_follow_the_contract() {
    let check = |error: HttpError, status, code, message: &str| {
        assert_eq!((error.status(), error.code()), (status, code));
        assert_eq!(error.to_string(), message);
    };
    let limit = 7;
    check(
        HttpError::BodyTooLarge { limit },
        413,
        "body_too_large",
        "body is over 7 bytes",
    );
    check(
        HttpError::RequestLineTooLong,
        414,
        "request_line_too_long",
        "request line is over 8192 bytes",
    );
    check(
        HttpError::HeadTooLarge,
        431,
        "head_too_large",
        "request head is over 16384 bytes",
    );
    check(
        HttpError::TooManyFields,
        431,
        "too_many_header_fields",
        "request has over 64 header fields",
    );
    check(
        HttpError::TrailersTooLarge,
        431,
        "trailers_too_large",
        "trailers are over 8192 bytes",
    );
    check(
        HttpError::HostMissing,
        400,
        "bad_host",
        "header Host is missing",
    );
    check(
        HttpError::FramingConflict,
        400,
        "bad_framing",
        "headers Content-Length and Transfer-Encoding exclude each other",
    );
    check(
        HttpError::TargetMalformed,
        400,
        "malformed_request",
        "request target is malformed",
    );
    check(
        HttpError::ChunkSizeInvalid,
        400,
        "bad_chunk",
        "a chunk size line is malformed",
    );
    assert_eq!(HttpError::ContentEncodingUnsupported.status(), 415);
}

#[test]
fn a_body_that_is_waited_for_can_be_refused_by_its_head() {
    let cases = [
        ("Content-Length: 2\r\n\r\n", "hi"),
        ("Content-Length: 2\r\nExpect: 100-continue\r\n\r\n", "hi"),
        ("Transfer-Encoding: chunked\r\n\r\n", "2\r\nhi\r\n0\r\n\r\n"),
    ];
    for (fields, body) in cases {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}");
        let mut reader = RequestReader::default();
        reader.receive(head.as_bytes());
        let mut asked = 0;
        let mut refuse = |_: &Head<'_>| {
            asked += 1;
            false
        };
        let refused = reader.next_admitted(|_| 9, &mut refuse);
        assert!(matches!(refused, Ok(Next::Refused)), "{fields}");
        reader.receive(body.as_bytes());
        assert_eq!((reader.buffered(), reader.phase()), (0, Phase::Idle));
        let refused = reader.next_admitted(|_| 9, &mut refuse);
        assert!(matches!(refused, Ok(Next::Refused)), "for good");
        assert_eq!(asked, 1, "{fields}");
    }
}

#[test]
fn a_body_of_known_length_that_is_here_with_its_head_is_not_asked_about() {
    let read = |framing: &str, body: &str| {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
        let mut reader = RequestReader::default();
        reader.receive(request.as_bytes());
        matches!(reader.next_admitted(|_| 9, |_| false), Ok(Next::Request(_)))
    };
    assert!(read("Content-Length: 2", "hi"));
    assert!(!read("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n"));
}
