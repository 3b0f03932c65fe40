//! The HTTP codec against its rules, by theme.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "sizes and offsets of test inputs; an overflow fails the test"
)]

//! The HTTP/1.1 reader from outside: rules as tables, every split of the input, limits at n and
//! n+1, mutations.

mod framing;
mod limits;
mod mutation;
mod response;
mod rules;
mod splits;

use super::{HttpError, Next, RequestReader};

/// A body limit that no test but those of limits meets.
const ROOMY: usize = 1 << 20;

/// What a connection amounted to: its requests as text, then the error, or the bytes left over.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RequestsRead {
    requests: Vec<String>,
    end: Result<usize, HttpError>,
}

/// Reads all `pieces`, each as one receive, taking out requests after each.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, body_limit: usize) -> RequestsRead {
    let mut reader = RequestReader::default();
    let mut requests = Vec::new();
    for piece in pieces {
        reader.receive(piece);
        loop {
            match reader.next(|_| body_limit) {
                Ok(Next::NeedMore) => break,
                Ok(Next::Continue) => {}
                Ok(Next::Refused) => panic!("nothing is refused by its head here"),
                Ok(Next::Request(request)) => {
                    let body = request.body.escape_ascii();
                    requests.push(format!("{:?} body={body}", request.head));
                }
                Err(error) => {
                    assert_eq!(
                        reader.next(|_| body_limit).err(),
                        Some(error),
                        "failed for good"
                    );
                    return RequestsRead {
                        requests,
                        end: Err(error),
                    };
                }
            }
        }
    }
    RequestsRead {
        requests,
        end: Ok(reader.buffered()),
    }
}

/// Asserts that every two-way split, and one byte at a time, give what one read gives; returns
/// that.
fn read_every_way(bytes: &[u8], body_limit: usize) -> RequestsRead {
    let whole = read([bytes], body_limit);
    for at in 0..=bytes.len() {
        let (front, back) = bytes.split_at(at);
        let split = read([front, back], body_limit);
        assert_eq!(split, whole, "split at {at} of {}", bytes.escape_ascii());
    }
    let bytewise = read(bytes.chunks(1), body_limit);
    assert_eq!(
        bytewise,
        whole,
        "one byte at a time: {}",
        bytes.escape_ascii()
    );
    whole
}

/// Asserts that `bytes` are refused as `error`, without any request before, however they are split.
fn check_refused(bytes: &[u8], error: HttpError) {
    let expected = RequestsRead {
        requests: Vec::new(),
        end: Err(error),
    };
    assert_eq!(
        read_every_way(bytes, ROOMY),
        expected,
        "{}",
        bytes.escape_ascii()
    );
}

/// Asserts that `bytes` are requests with exactly these bodies and nothing more, however they are
/// split.
fn check_bodies(bytes: &[u8], bodies: &[&str]) {
    let outcome = read_every_way(bytes, ROOMY);
    let text = bytes.escape_ascii();
    assert_eq!(outcome.end, Ok(0), "{text}");
    let seen: Vec<_> = outcome
        .requests
        .iter()
        .map(|request| request.rsplit_once("body=").unwrap().1)
        .collect();
    assert_eq!(seen, bodies, "{text}");
}

/// Reads `bytes` as one whole request and looks at it.
fn with_request<T>(bytes: &[u8], look: impl Fn(&super::Request<'_>) -> T) -> T {
    let mut reader = RequestReader::default();
    reader.receive(bytes);
    match reader.next(|_| ROOMY) {
        Ok(Next::Request(request)) => look(&request),
        other => panic!("no request but {other:?} from {}", bytes.escape_ascii()),
    }
}
