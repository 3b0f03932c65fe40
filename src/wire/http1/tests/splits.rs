//! However the bytes arrive, the requests are the same; and buffering costs what it should.

use super::{ROOMY, read, read_every_way};
use crate::wire::http1::{Next, RequestReader};

const REQUESTS: [&[u8]; 7] = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\r\nPOST /api/events?x=1 HTTP/1.1\r\nHost: localhost:3000\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
      Authorization: Bearer abc\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"a\": true}",
    b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n\
      5;ext=\"1\"\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"GET /api/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
    b"DELETE http://h/api/state/entities/a%2Fb HTTP/1.1\r\nHost: h\r\nIf-Match: \"x\"\r\n\r\n",
];

#[test]
fn every_split_of_each_request_parses_the_same() {
    for bytes in REQUESTS {
        let outcome = read_every_way(bytes, ROOMY);
        assert_eq!((outcome.requests.len(), outcome.end), (1, Ok(0)));
    }
}

#[test]
fn every_split_of_pipelined_requests_parses_the_same() {
    let bytes = REQUESTS.concat();
    let outcome = read_every_way(&bytes, ROOMY);
    let single: Vec<_> = REQUESTS
        .iter()
        .flat_map(|bytes| read([*bytes], ROOMY).requests)
        .collect();
    assert_eq!(outcome.requests, single);
    assert_eq!(outcome.end, Ok(0));
}

#[test]
fn every_three_way_split_of_a_chunked_request_parses_the_same() {
    let bytes = REQUESTS[2];
    let whole = read([bytes], ROOMY);
    for first in 0..bytes.len() {
        for second in first..bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert_eq!(read(pieces, ROOMY), whole, "split at {first} and {second}");
        }
    }
}

#[test]
fn thousands_of_pipelined_requests_in_one_read_all_come_out() {
    let bytes = REQUESTS[1].repeat(5000);
    let outcome = read([&bytes[..]], ROOMY);
    assert_eq!((outcome.requests.len(), outcome.end), (5000, Ok(0)));
}

#[test]
fn an_idle_trimmed_reader_holds_no_heap_and_a_busy_one_keeps_its_bytes() {
    let mut reader = RequestReader::default();
    reader.receive(REQUESTS[1]);
    reader.trim();
    assert!(matches!(reader.next(|_| ROOMY), Ok(Next::Request(_))));
    reader.trim();
    let idle = format!("{reader:?}");
    assert_eq!(idle, format!("{:?}", RequestReader::default()));
    assert_eq!(reader.take_rest().capacity(), 0);
}
