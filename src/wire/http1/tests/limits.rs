//! Each bound at n and n+1.

use super::{ROOMY, read};
use crate::limits::{
    CHUNK_EXTENSION_BYTES_MAX, CHUNK_LINE_BYTES_MAX, HEAD_BYTES_MAX, HEADER_COUNT_MAX,
    REQUEST_LINE_BYTES_MAX, TRAILER_BYTES_MAX,
};
use crate::wire::http1::HttpError;

/// Asserts the same result in one read and in pieces: refused as `error`, or one whole request.
fn check(bytes: &[u8], error: Option<HttpError>) {
    for piece_len in [bytes.len(), 1, 7, 1000] {
        let outcome = read(bytes.chunks(piece_len), ROOMY);
        let requests = usize::from(error.is_none());
        assert_eq!(
            outcome.end,
            error.map_or(Ok(0), Err),
            "pieces of {piece_len}"
        );
        assert_eq!(outcome.requests.len(), requests, "pieces of {piece_len}");
    }
}

/// `text` with `{}` filled up so that the whole has `len` bytes.
fn padded(text: &str, len: usize) -> Vec<u8> {
    let (front, back) = text.split_once("{}").unwrap();
    let padding = "a".repeat(len - front.len() - back.len());
    [front, &padding, back].concat().into_bytes()
}

#[test]
fn request_line_is_bounded_before_its_end_arrives() {
    let line = |len| padded("GET /{} HTTP/1.1", len);
    let rest = b"\r\nHost: h\r\n\r\n";
    check(&[&line(REQUEST_LINE_BYTES_MAX)[..], rest].concat(), None);
    let long = line(REQUEST_LINE_BYTES_MAX + 1);
    check(
        &[&long[..], rest].concat(),
        Some(HttpError::RequestLineTooLong),
    );
    check(
        &[&long[..], b"a"].concat(),
        Some(HttpError::RequestLineTooLong),
    );
    check(
        &vec![b'a'; REQUEST_LINE_BYTES_MAX + 2],
        Some(HttpError::RequestLineTooLong),
    );
}

#[test]
fn head_is_bounded_before_its_end_arrives() {
    let head = |len| padded("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", len);
    check(&head(HEAD_BYTES_MAX), None);
    check(&head(HEAD_BYTES_MAX + 1), Some(HttpError::HeadTooLarge));
    check(&head(HEAD_BYTES_MAX * 2), Some(HttpError::HeadTooLarge));
    let endless = padded("GET / HTTP/1.1\r\nHost: h\r\nA: {}", HEAD_BYTES_MAX);
    check(&endless, Some(HttpError::HeadTooLarge));
    let outcome = read([&endless[..HEAD_BYTES_MAX - 1]], ROOMY);
    assert_eq!(outcome.end, Ok(HEAD_BYTES_MAX - 1));
}

#[test]
fn fields_are_counted() {
    let head = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "A: b\r\n".repeat(count - 1)
        )
        .into_bytes()
    };
    check(&head(HEADER_COUNT_MAX), None);
    check(&head(HEADER_COUNT_MAX + 1), Some(HttpError::TooManyFields));
}

#[test]
fn empty_lines_do_not_count_towards_the_head() {
    let head = padded("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", HEAD_BYTES_MAX);
    check(&[b"\r\n\r\n", &head[..]].concat(), None);
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunked(rest: &[u8]) -> Vec<u8> {
    [CHUNKED.as_bytes(), rest].concat()
}

#[test]
fn chunk_lines_are_bounded_before_their_end_arrives() {
    let size_line = |len| [padded("0;{}", len), b"\r\n\r\n".to_vec()].concat();
    check(&chunked(&size_line(CHUNK_LINE_BYTES_MAX)), None);
    check(
        &chunked(&size_line(CHUNK_LINE_BYTES_MAX + 1)),
        Some(HttpError::ChunkLineTooLong),
    );
    let endless = padded("0;{}", CHUNK_LINE_BYTES_MAX + 2);
    check(&chunked(&endless), Some(HttpError::ChunkLineTooLong));
    let trailer = |len| [b"0\r\n", &padded("A:{}", len)[..], b"\r\n\r\n"].concat();
    check(&chunked(&trailer(CHUNK_LINE_BYTES_MAX)), None);
    check(
        &chunked(&trailer(CHUNK_LINE_BYTES_MAX + 1)),
        Some(HttpError::ChunkLineTooLong),
    );
}

#[test]
fn extensions_are_bounded_over_the_whole_body() {
    let extensions = |total: usize| {
        let mut body = Vec::new();
        let mut left = total;
        while left > 0 {
            let len = left.min(1000);
            body.extend_from_slice(&padded("1;{}\r\nx\r\n", len + 6));
            left -= len;
        }
        body.extend_from_slice(b"0\r\n\r\n");
        chunked(&body)
    };
    check(&extensions(CHUNK_EXTENSION_BYTES_MAX), None);
    check(
        &extensions(CHUNK_EXTENSION_BYTES_MAX + 1),
        Some(HttpError::ChunkExtensionsTooLong),
    );
}

#[test]
fn trailers_are_bounded_together() {
    let trailers = |total: usize| {
        let full = padded("A:{}\r\n", 1024);
        let mut lines = full.repeat(total / 1024 - 1);
        lines.extend_from_slice(&padded("A:{}\r\n", 1024 - 100));
        lines.extend_from_slice(&padded("A:{}\r\n", 100 + total % 1024));
        assert_eq!(lines.len(), total);
        chunked(&[b"0\r\n", &lines[..], b"\r\n"].concat())
    };
    check(&trailers(TRAILER_BYTES_MAX), None);
    check(
        &trailers(TRAILER_BYTES_MAX + 1),
        Some(HttpError::TrailersTooLarge),
    );
}

#[test]
fn extensions_do_not_count_towards_trailers() {
    let size_line = padded("0;{}\r\n", CHUNK_LINE_BYTES_MAX);
    let trailers = padded("A:{}\r\n", 1024).repeat(TRAILER_BYTES_MAX / 1024);
    check(
        &chunked(&[&size_line[..], &trailers, b"\r\n"].concat()),
        None,
    );
}
