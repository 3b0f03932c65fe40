//! Valid requests, damaged at random: no panic, and the same result however they are split.

use super::{RequestsRead, read};
use crate::wire::http1::HttpError;
use fastrand::Rng;

const SEEDS: [&[u8]; 4] = [
    b"POST /a?b=c HTTP/1.1\r\nHost: h:1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n\
      GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\r\nGET http://h/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer x\r\n\r\n",
    b"PUT / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nabOPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
];

/// Pieces that matter to the grammar, more likely to break something than any byte.
const TOKENS: [&[u8]; 22] = [
    b"\r\n",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"0",
    b"1",
    b"ffffffffffffffff",
    b";",
    b",",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: h\r\n",
    b"0\r\n\r\n",
    b"+",
    b"#",
    b"HTTP/1.1",
    b"\xff",
    b"Expect: 100-continue\r\n",
];

fn mutate(bytes: &mut Vec<u8>, random: &mut Rng) {
    let at = random.usize(..=bytes.len());
    match random.usize(..6) {
        0 if at < bytes.len() => bytes[at] = random.u8(..),
        1 if at < bytes.len() => {
            bytes.remove(at);
        }
        2 => {
            let end = (at + random.usize(..20)).min(bytes.len());
            bytes.drain(at..end);
        }
        3 => {
            let end = (at + random.usize(..40)).min(bytes.len());
            let copy = bytes[at..end].to_vec();
            let to = random.usize(..=bytes.len());
            bytes.splice(to..to, copy);
        }
        4 => bytes.truncate(at.max(bytes.len() / 2)),
        _ => {
            let token = TOKENS[random.usize(..TOKENS.len())];
            bytes.splice(at..at, token.iter().copied());
        }
    }
}

fn random_pieces<'a>(mut bytes: &'a [u8], random: &mut Rng) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(1 + random.usize(..bytes.len().min(30)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[test]
fn damaged_requests_never_panic_and_do_not_depend_on_splits() {
    let (mut whole_requests, mut errors) = (0, Vec::<HttpError>::new());
    for seed in 0..40_000 {
        let random = &mut Rng::with_seed(seed);
        let mut bytes = SEEDS[random.usize(..SEEDS.len())].to_vec();
        for _ in 0..=random.usize(..4) {
            mutate(&mut bytes, random);
        }
        let body_limit = [4, 64, 1 << 20][random.usize(..3)];
        let whole: RequestsRead = read([&bytes[..]], body_limit);
        let text = || format!("seed {seed}: {}", bytes.escape_ascii());
        assert_eq!(read(bytes.chunks(1), body_limit), whole, "{}", text());
        assert_eq!(
            read(random_pieces(&bytes, random), body_limit),
            whole,
            "{}",
            text()
        );
        whole_requests += whole.requests.len();
        errors.extend(whole.end.err().filter(|error| !errors.contains(error)));
    }
    assert!(
        whole_requests > 5_000,
        "damage must leave something to read: {whole_requests}"
    );
    assert!(
        errors.len() > 15,
        "the damage must reach most rules: {errors:?}"
    );
}

#[test]
fn what_was_sent_before_changes_nothing_of_what_a_request_means() {
    const BEFORE: [&[u8]; 2] = [
        b"POST /a?b=c HTTP/1.1\r\nHost: h:1\r\nContent-Length: 5\r\n\r\nhello",
        b"PUT / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    ];
    let mut same = 0;
    for seed in 0..40_000 {
        let random = &mut Rng::with_seed(seed);
        let which = random.usize(..2);
        let mut bytes = SEEDS[3 * which].to_vec();
        for _ in 0..=random.usize(..3) {
            mutate(&mut bytes, random);
        }
        let alone = read([&bytes[..]], 64);
        let mut after = read([BEFORE[which], &bytes[..]], 64);
        let before = after.requests.remove(0);
        assert_eq!(after, alone, "seed {seed}: {}", bytes.escape_ascii());
        same += usize::from(alone.requests.first() == Some(&before));
    }
    assert!(same > 1_000, "some have to be the same: {same}");
}
