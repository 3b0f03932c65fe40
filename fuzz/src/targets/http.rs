//! The HTTP/1.1 reader: any split of a connection's bytes gives the same requests and the same
//! error.

use super::pieces;
use flux::wire::http1::{HttpError, Next, RequestReader};

/// Texts of requests.
pub const DICTIONARY: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /api/events HTTP/1.1\r\n",
    b"Host: a\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: websocket\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Authorization: Bearer x\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"\n",
    b" HTTP/1.0",
    b"0\r\n\r\n",
    b": ",
    b"\t",
    b"%2F",
];

/// Bytes of the longest body.
const BODY_BYTES_MAX: usize = 4096;

/// What a connection came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Head and body of each request.
    requests: Vec<(String, Vec<u8>)>,
    error: Option<HttpError>,
}

/// Runs the target.
pub fn target(data: &[u8]) {
    let [whole, rest @ ..] = pieces(data);
    let expected = read(data, whole);
    for piece in rest {
        assert_eq!(read(data, piece), expected, "in pieces of {piece}");
    }
}

/// Reads `data` as it comes in pieces of `piece` bytes.
fn read(data: &[u8], piece: usize) -> Outcome {
    let mut reader = RequestReader::default();
    let mut outcome = Outcome {
        requests: Vec::new(),
        error: None,
    };
    for bytes in data.chunks(piece) {
        reader.receive(bytes);
        loop {
            match reader.next(|_| BODY_BYTES_MAX) {
                Ok(Next::NeedMore) => break,
                // Said only if the body is not there yet, so it depends on the split.
                Ok(Next::Continue) => {}
                Ok(Next::Refused) => panic!("nothing is refused by its head here"),
                Ok(Next::Request(request)) => {
                    assert!(request.body.len() <= BODY_BYTES_MAX);
                    let head = format!("{:?}", request.head);
                    outcome.requests.push((head, request.body.to_vec()));
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome
}
