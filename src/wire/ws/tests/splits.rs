//! However the bytes arrive, the messages are the same, whole or damaged.

use super::{
    CLOSE, LAST, MORE, PING, TEXT, TEXT_PART, WsError, frame, read, read_ahead, read_every_way,
};
use fastrand::Rng;

fn conversation() -> Vec<u8> {
    [
        frame(TEXT, br#"{"type":"subscribe","entity_id":"*"}"#),
        frame(PING, b"1"),
        frame(TEXT_PART, "\u{e4}\u{1f600}".as_bytes().split_at(3).0),
        frame(PING, b"2"),
        frame(MORE, "\u{e4}\u{1f600}".as_bytes().split_at(3).1),
        frame(LAST, b"end"),
        frame(TEXT, &[b'x'; 300]),
        frame(CLOSE, b"\x03\xe8bye"),
    ]
    .concat()
}

#[test]
fn every_split_of_a_conversation_reads_the_same() {
    let outcome = read_every_way(&conversation());
    assert_eq!((outcome.messages.len(), outcome.end), (6, Ok(0)));
}

#[test]
fn damaged_conversations_never_panic_and_do_not_depend_on_splits() {
    let (mut messages, mut errors) = (0, Vec::<WsError>::new());
    for seed in 0..30_000 {
        let random = &mut Rng::with_seed(seed);
        let mut bytes = conversation();
        for _ in 0..=random.usize(..3) {
            if bytes.is_empty() {
                break;
            }
            let at = random.usize(..bytes.len());
            let end = (at + random.usize(..12)).min(bytes.len());
            match random.usize(..5) {
                0 => bytes[at] ^= 1 << random.usize(..8),
                1 => bytes[at] = random.u8(..),
                2 => drop(bytes.drain(at..end)),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let kinds = [TEXT, TEXT_PART, MORE, LAST, PING, CLOSE, 0x82];
                    let payload = vec![b'a'; random.usize(..140)];
                    bytes.splice(at..at, frame(kinds[random.usize(..kinds.len())], &payload));
                }
            }
        }
        let whole = read([&bytes[..]]);
        let bytewise = read(bytes.chunks(1));
        assert_eq!(bytewise, whole, "seed {seed}: {}", bytes.escape_ascii());
        let piece_len = 1 + random.usize(..40);
        let pieces = read(bytes.chunks(piece_len));
        assert_eq!(
            pieces,
            whole,
            "seed {seed}, pieces of {piece_len}: {}",
            bytes.escape_ascii()
        );
        assert_eq!(
            read_ahead(bytes.chunks(piece_len), 3 * piece_len),
            whole,
            "seed {seed}, unmasked ahead: {}",
            bytes.escape_ascii()
        );
        messages += whole.messages.len();
        errors.extend(whole.end.err().filter(|error| !errors.contains(error)));
    }
    assert!(
        messages > 30_000,
        "damage must leave something to read: {messages}"
    );
    assert!(
        errors.len() > 9,
        "the damage must reach most rules: {errors:?}"
    );
}
