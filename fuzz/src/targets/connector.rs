//! Answers of sources that connectors poll: whatever an answer is and however it arrives, its
//! findings are the same, and are events that are decoded.

use flux::api::connectors::answer::{Answer, AnswerError, AnswerReader, read_answer};
use flux::api::connectors::definition::{HttpDefinition, parse_definition};
use flux::api::json::Scanner;
use std::cell::OnceCell;
use std::sync::Arc;

const DEFINITIONS: [&[u8]; 3] = [
    br#"{"name":"abc","url":"http://a/","poll_interval_seconds":5,"entity_id":"x/{a}"}"#,
    br#"{"name":"abc","url":"http://a/","poll_interval_seconds":5,"entity_id":"x/{a}","items":""}"#,
    br#"{"name":"abc","url":"http://a/","poll_interval_seconds":5,"entity_id":"{/a}{b}","items":"/a/0",
        "properties":{"a":"/a","b":"/a/b","c":"/a/0","d":""}}"#,
];

thread_local! {
    static PARSED: OnceCell<[Arc<HttpDefinition>; 3]> = const { OnceCell::new() };
}

/// Runs the target.
pub fn target(data: &[u8]) {
    PARSED.with(|parsed| {
        let definitions = parsed.get_or_init(|| {
            DEFINITIONS.map(|text| Arc::new(parse_definition(text, "").expect("a definition").0))
        });
        for definition in definitions {
            check(definition, data);
        }
    });
}

/// As if it had arrived in two parts, of lengths that its bytes choose.
fn read_in_parts(definition: &Arc<HttpDefinition>, data: &[u8]) -> Result<Answer, AnswerError> {
    let sum = data.iter().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add((*byte).into())
    });
    let (first, second) = data.split_at(sum % data.len().wrapping_add(1));
    let mut reader = AnswerReader::new(Arc::clone(definition));
    reader.feed(first)?;
    reader.feed(second)?;
    reader.finish()
}

fn check(definition: &Arc<HttpDefinition>, data: &[u8]) {
    let answer = read_answer(definition, data);
    assert_eq!(
        answer,
        read_in_parts(definition, data),
        "however it arrives"
    );
    let Ok(answer) = answer else {
        return;
    };
    // All of a poll go in one body, so none may break it.
    let events: Vec<String> = answer
        .findings
        .iter()
        .map(|finding| finding.event("s", "connector/abc"))
        .collect();
    let body = format!("{{\"events\":[{}]}}", events.join(","));
    let mut scanner = Scanner::new(body.as_bytes()).expect("a text");
    let passed = scanner.raw_value();
    assert!(passed.is_ok(), "{passed:?}: {body}");
    assert!(scanner.finish().is_ok(), "{body}");
    assert_eq!(
        answer.rejected.count > 0,
        answer.rejected.first.is_some(),
        "what is counted has a first"
    );
}
