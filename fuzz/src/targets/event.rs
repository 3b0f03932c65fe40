//! Event decoding: what it accepts is written as JSON and decoded again to the same event.

use flux::api::batch::{BatchContext, BatchPlan, EventPlace};
use flux::api::event::{Decoded, EventDecoder, EventIds};
use flux::api::event_encode;
use flux::api::json::Scanner;
use flux::api::outcome::PartOutcome;
use flux::model::{EventDraft, EventView, Stored, TokenSet};
use flux_storage::Sequence;

/// Texts of events.
pub const DICTIONARY: &[&[u8]] = &[
    br#"{"stream":"s","source":"t","payload":{"entity_id":"a","properties":{}}}"#,
    br#""eventId":"#,
    br#""stream":"#,
    br#""source":"#,
    br#""timestamp":"#,
    br#""key":"#,
    br#""schema":"#,
    br#""payload":{"#,
    br#""entity_id":"#,
    br#""properties":{"#,
    br#""__deleted__":true"#,
    br#"{"events":["#,
    br#""a":{"b":1,"b":2}"#,
    br"\u0061",
    br#""flux-core/x""#,
    b"1.0",
    b"1e3",
    b"-1",
    b"9223372036854775807",
    b"null",
    b",",
];

const NOW_MS: i64 = 1_700_000_000_000;

/// Runs the target.
pub fn target(data: &[u8]) {
    if let Some(stored) = decode(data) {
        let json = encode(&stored);
        let again = decode(&json);
        let again = again.unwrap_or_else(|| panic!("written, it is refused: {}", text(&json)));
        // An id that the server made is stored shorter than the text that a producer sends.
        assert_eq!(text(&encode(&again)), text(&json));
        assert_eq!(decode(&encode(&again)), Some(again));
    }
    batch(data);
}

fn encode(stored: &[u8]) -> Vec<u8> {
    let view = EventView::decode(stored).expect("what was encoded decodes");
    let mut json = Vec::new();
    event_encode::event(&mut json, &view);
    json
}

fn text(json: &[u8]) -> &str {
    std::str::from_utf8(json).expect("JSON is written as UTF-8")
}

/// The stored form of an event; `None` if it is refused.
fn decode(data: &[u8]) -> Option<Vec<u8>> {
    let mut scanner = Scanner::new(data).ok()?;
    let mut ids = EventIds::new(1);
    let mut decoder = EventDecoder::default();
    let stored = decoder.decode(&mut scanner, &mut ids, NOW_MS, |decoded| match decoded {
        Decoded::Event(draft, _) => {
            let mut out = Vec::new();
            draft.encode(&mut out);
            Some(out)
        }
        Decoded::Refused { .. } => None,
    });
    let stored = stored.ok()?;
    scanner.finish().ok()?;
    stored
}

/// A batch gives one result for each item, and its answer is JSON.
fn batch(data: &[u8]) {
    let mut context = BatchContext {
        decoder: &mut EventDecoder::default(),
        ids: &mut EventIds::new(1),
        now_ms: NOW_MS,
        shards: 2,
        place: |draft: &EventDraft<'_>, _: &[u8], _| {
            let shard = u16::from(draft.entity_id.len() % 2 == 1);
            let tokens = TokenSet::FIRST.with(draft.entity_id.len() % 3);
            Ok(EventPlace {
                shard,
                tokens,
                hides_results: false,
            })
        },
    };
    let Ok(plan) = BatchPlan::decode(data, &mut context) else {
        return;
    };
    let outcomes = plan.parts.iter().map(|part| {
        let mut outcome = PartOutcome::default();
        for version in (1..).take(part.pack.len()) {
            let sequence = Sequence::new(version);
            outcome.push(Stored { sequence, version }.into());
        }
        outcome
    });
    let outcomes: Vec<PartOutcome> = outcomes.collect();
    let mut answer = Vec::new();
    plan.answer(&outcomes, &mut answer);
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("answers are JSON");
    let number = |name: &str| answer[name].as_u64().expect("a number");
    let results = answer["results"].as_array().expect("a list").len() as u64;
    assert_eq!(number("successful") + number("failed"), results);
}
