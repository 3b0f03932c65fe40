//! Events as JSON: what is taken, what is refused and why.

use super::error::ApiError;
use super::event::{Decoded, EventDecoder, EventIds};
use super::json::{JsonError, Scanner};
use crate::model::{EventDraft, EventId, TermKind, Terms};

fn decode<R>(json: &str, then: impl FnOnce(Decoded<'_>) -> R) -> Result<R, JsonError> {
    let mut scanner = Scanner::new(json.as_bytes())?;
    let mut decoder = EventDecoder::default();
    let result = decoder.decode(&mut scanner, &mut EventIds::new(1), 1_700_000_000_000, then)?;
    scanner.finish()?;
    Ok(result)
}

fn event(members: &str, payload: &str) -> String {
    format!(r#"{{"stream":"s","source":"a"{members},"payload":{payload}}}"#)
}

fn refused(json: &str) -> ApiError {
    decode(json, |decoded| match decoded {
        Decoded::Refused { error, .. } => error,
        Decoded::Event(draft, _) => panic!("{json} gave {draft:?}"),
    })
    .unwrap()
}

#[test]
fn every_field_arrives_with_its_escapes_undone() {
    let json = r#" {"eventId":"e\u0031","stream":"a.b1","source":"s\"","timestamp":5,"key":"k","schema":null,
        "payload":{"unit" : [1, 2],"entity_id":"h\/r","properties":{"b":22.50,"a\n":{"x" : " y "}}},"z":1}"#;
    decode(json, |decoded| {
        let Decoded::Event(draft, _) = decoded else {
            panic!("{decoded:?}")
        };
        assert_eq!(draft.event_id, EventId::Text("e1"));
        assert_eq!((draft.stream, draft.source), ("a.b1", "s\""));
        assert_eq!(
            (draft.timestamp_ms, draft.key, draft.schema),
            (Some(5), Some("k"), None)
        );
        assert_eq!((draft.entity_id, draft.extra), ("h/r", r#""unit":[1,2]"#));
        let names = [("a\n", r#"{"x":" y "}"#), ("b", "22.50")];
        assert_eq!(
            draft
                .properties
                .iter()
                .map(|p| (p.name, p.value))
                .collect::<Vec<_>>(),
            names
        );
    })
    .unwrap();
}

#[test]
fn members_are_told_however_their_names_are_written() {
    let plain = r#"{"eventId":"e","stream":"s","source":"a","timestamp":5,"key":"k","schema":"c","payload":{"entity_id":"x","properties":{"a":1},"stream":7}}"#;
    let spelled = plain
        .replace("\"stream\"", "\"str\\u0065am\"")
        .replace("\"payload\"", "\"p\\u0061yload\"")
        .replace("\"entity_id\"", "\"entity\\u005fid\"")
        .replace("\"properties\"", "\"\\u0070roperties\"");
    for json in [
        plain.to_owned(),
        plain.replace(',', ", ").replace("\":", "\": "),
        plain.replace(',', "  ,\n\t").replace("\":", "\" :\r\n"),
        spelled,
    ] {
        decode(&json, |decoded| {
            let Decoded::Event(draft, _) = decoded else {
                panic!("{json} gave {decoded:?}")
            };
            assert_eq!(draft.event_id, EventId::Text("e"), "{json}");
            assert_eq!((draft.stream, draft.source), ("s", "a"), "{json}");
            assert_eq!(draft.timestamp_ms, Some(5), "{json}");
            assert_eq!((draft.key, draft.schema), (Some("k"), Some("c")), "{json}");
            assert_eq!((draft.entity_id, draft.properties.len()), ("x", 1));
            assert!(draft.extra.ends_with(":7"), "{json}: {}", draft.extra);
        })
        .unwrap();
    }
}

#[test]
fn of_repeated_members_the_last_wins() {
    let json = event(
        r#","stream":"t""#,
        r#"{"entity_id":"x","entity_id":"y","properties":{"a":1,"b":2,"a":3,"__deleted__":true,"__deleted__":false}}"#,
    );
    decode(&json, |decoded| {
        let Decoded::Event(draft, _) = decoded else {
            panic!("{decoded:?}")
        };
        assert_eq!(
            (draft.stream, draft.entity_id, draft.tombstone),
            ("t", "y", false)
        );
        let values: Vec<_> = draft.properties.iter().map(|p| p.value).collect();
        assert_eq!(values, ["false", "3", "2"]);
    })
    .unwrap();
}

#[test]
fn of_repeated_names_inside_values_the_last_wins() {
    let json = event(
        "",
        r#"{"unit":{"a":1,"a":2},"entity_id":"x","\u0075nit":[{"b":1,"\u0062":1e2}],"more":0,
            "properties":{"cfg":{"role":"admin","role" : "guest"},"n":[{"d":{"x":1,"x":2.50}}]}}"#,
    );
    decode(&json, |decoded| {
        let Decoded::Event(draft, _) = decoded else {
            panic!("{decoded:?}")
        };
        assert_eq!(draft.extra, r#""\u0075nit":[{"\u0062":1e2}],"more":0"#);
        let values: Vec<_> = draft.properties.iter().map(|p| p.value).collect();
        assert_eq!(values, [r#"{"role":"guest"}"#, r#"[{"d":{"x":2.50}}]"#]);
    })
    .unwrap();
}

#[test]
fn an_absent_id_becomes_a_version_7_uuid() {
    for id in ["", r#","eventId":null"#, r#","eventId":"""#] {
        decode(
            &event(id, r#"{"entity_id":"x","properties":{}}"#),
            |decoded| {
                let Decoded::Event(
                    EventDraft {
                        event_id: EventId::Uuid(uuid),
                        ..
                    },
                    _,
                ) = decoded
                else {
                    panic!("{decoded:?}")
                };
                assert_eq!(uuid.get_version_num(), 7);
            },
        )
        .unwrap();
    }
}

fn invalid(json: &str, expected: &str) {
    match refused(json) {
        ApiError::InvalidField { field, .. } | ApiError::MissingField { field } => {
            assert_eq!(field, expected, "{json}");
        }
        other => panic!("{json} gave {other:?}"),
    }
}

#[test]
fn each_broken_rule_names_its_field() {
    let payload = r#"{"entity_id":"x","properties":{}}"#;
    for timestamp in [
        "0",
        "-1",
        "1.0",
        "1e3",
        "9223372036854775808",
        "\"1\"",
        "true",
    ] {
        invalid(
            &event(&format!(r#","timestamp":{timestamp}"#), payload),
            "timestamp",
        );
    }
    for stream in [
        "",
        ".a",
        "a.",
        "a..b",
        "A",
        "a b",
        "a/b",
        "ä",
        &"a".repeat(257),
    ] {
        invalid(
            &event(&format!(r#","stream":"{stream}""#), payload),
            "stream",
        );
    }
    invalid(&event(r#","source":"""#, payload), "source");
    invalid(
        &event(&format!(r#","source":"{}""#, "a".repeat(257)), payload),
        "source",
    );
    invalid(
        &event(&format!(r#","eventId":"{}""#, "a".repeat(129)), payload),
        "eventId",
    );
    invalid(
        &event(&format!(r#","key":"{}""#, "a".repeat(1025)), payload),
        "key",
    );
    invalid(&event(r#","schema":1"#, payload), "schema");
}

#[test]
fn each_broken_rule_of_the_payload_names_its_field() {
    invalid(&event("", "[]"), "payload");
    invalid(&event("", r#"{"properties":{}}"#), "payload.entity_id");
    invalid(
        &event("", r#"{"entity_id":"","properties":{}}"#),
        "payload.entity_id",
    );
    invalid(
        &event("", r#"{"entity_id":"a\u0085","properties":{}}"#),
        "payload.entity_id",
    );
    invalid(
        &event("", r#"{"entity_id":"a\u007f","properties":{}}"#),
        "payload.entity_id",
    );
    invalid(
        &event("", r#"{"entity_id":1,"properties":{}}"#),
        "payload.entity_id",
    );
    invalid(&event("", r#"{"entity_id":"x"}"#), "payload.properties");
    invalid(
        &event("", r#"{"entity_id":"x","properties":null}"#),
        "payload.properties",
    );
    invalid(r#"{"stream":"s","source":"a"}"#, "payload");
    invalid(r#"{"source":"a","payload":{}}"#, "stream");
    assert!(matches!(refused("[]"), ApiError::Shape { .. }));
    assert_eq!(
        refused(&event("", r#"{"entity_id":"flux-core/x","properties":{}}"#)),
        ApiError::Reserved
    );
}

#[test]
fn a_filter_of_a_condition_is_read_with_the_event() {
    let payload = r#"{"entity_id":"x","properties":{}}"#;
    for (filter, code) in [
        (r#""eq(a,)""#, "invalid_filter"),
        (r#""""#, "invalid_filter"),
        ("7", "invalid_field"),
        ("null", "invalid_field"),
    ] {
        let json = event(&format!(r#","expect":{{"filter":{filter}}}"#), payload);
        assert_eq!(refused(&json).code(), code, "{json}");
    }
}

#[test]
fn a_ttl_out_of_bounds_is_refused_and_not_ignored() {
    for ttl in [
        "0",
        "-1",
        "0.09999999999999999999",
        "315360000.1",
        "1e9",
        "\"5\"",
        "true",
        "[]",
        "{}",
    ] {
        for member in [format!(r#""ttl":{ttl}"#), format!(r#""t\u0074l":{ttl}"#)] {
            for properties in ["", r#","properties":{}"#] {
                let payload = format!(r#"{{"entity_id":"x",{member}{properties}}}"#);
                let error = refused(&event("", &payload));
                let invalid = matches!(
                    error,
                    ApiError::InvalidField {
                        field: "payload.ttl",
                        ..
                    }
                );
                assert!(invalid, "{payload}: {error:?}");
            }
        }
    }
}

#[test]
fn what_says_nothing_of_a_lifetime_is_taken() {
    let payload = r#"{"entity_id":"x","properties":{}}"#;
    // What asks for nothing, what is a property's name, and what a later repetition took back.
    for json in [
        event(r#","expect":null,"ttl":null,"increment":null"#, payload),
        event(r#","ttl":1,"ttl":null"#, payload),
        event(r#","expect":{"filter":""},"expect":null"#, payload),
        event("", r#"{"entity_id":"x","properties":{"ttl":1,"expect":2}}"#),
        event(
            "",
            r#"{"ttl":1},"payload":{"entity_id":"x","properties":{}}"#,
        ),
        event("", r#"{"entity_id":"x","properties":{},"expect":null}"#),
    ] {
        decode(&json, |decoded| {
            assert!(matches!(decoded, Decoded::Event(..)), "{json}: {decoded:?}");
        })
        .unwrap();
    }
}

#[test]
fn limits_hold_at_n() {
    let id = "i".repeat(512);
    let json = event(
        &format!(
            r#","stream":"{}","source":"{}","eventId":"{}","key":"{}""#,
            "s".repeat(256),
            "o".repeat(256),
            "e".repeat(128),
            "k".repeat(1024)
        ),
        &format!(r#"{{"entity_id":"{id}","properties":{{}}}}"#),
    );
    decode(&json, |decoded| {
        assert!(matches!(decoded, Decoded::Event(..)), "{decoded:?}");
    })
    .unwrap();
}

/// An event with so many properties, the last `repeated` of them under the name of the first.
fn with_properties(distinct: usize, repeated: usize) -> String {
    let names = (0..distinct).chain(std::iter::repeat_n(0, repeated));
    let members: Vec<String> = names.map(|number| format!(r#""p{number}":1"#)).collect();
    let properties = members.join(",");
    event(
        "",
        &format!(r#"{{"properties":{{{properties}}},"entity_id":"x"}}"#),
    )
}

#[test]
fn an_event_has_at_most_as_many_properties_as_an_entity() {
    let check = |json: &str, expected: Option<usize>| {
        decode(json, |decoded| match decoded {
            Decoded::Event(draft, _) => assert_eq!(Some(draft.properties.len()), expected),
            Decoded::Refused { error, .. } => {
                assert_eq!(error, ApiError::EntityTooLarge);
                assert_eq!(expected, None);
            }
        })
        .unwrap();
    };
    check(&with_properties(10_000, 0), Some(10_000));
    check(&with_properties(10_001, 0), None);
    check(&with_properties(30_000, 0), None);
    check(&with_properties(1, 50_000), Some(1));
    check(&with_properties(10_000, 15_000), Some(10_000));
    // What a later repetition of a member takes back is not counted.
    let taken_back = with_properties(30_000, 0).replace(
        r#""entity_id":"x""#,
        r#""properties":{"a":1},"entity_id":"x""#,
    );
    check(&taken_back, Some(1));
}

#[test]
fn an_event_has_at_most_as_many_bytes_of_properties_as_an_entity() {
    let check = |len: usize, expected: bool| {
        let value = "v".repeat(len - 3);
        let properties = format!(r#"{{"entity_id":"x","properties":{{"p":"{value}" , "q":[ ]}}}}"#);
        decode(&event("", &properties), |decoded| match decoded {
            Decoded::Event(..) => assert!(expected, "{len}"),
            Decoded::Refused { error, .. } => {
                assert_eq!(
                    (error, expected),
                    (ApiError::EntityTooLarge, false),
                    "{len}"
                );
            }
        })
        .unwrap();
    };
    // `p` with its value, `q` and `[]`.
    check(4 * 1024 * 1024 - 3, true);
    check(4 * 1024 * 1024 - 2, false);
}

/// The terms of an event with this `expect`.
fn expected(expect: &str) -> Vec<(TermKind, String, String)> {
    let json = event(
        &format!(r#","expect":{expect}"#),
        r#"{"entity_id":"x","properties":{}}"#,
    );
    decode(&json, |decoded| match decoded {
        Decoded::Event(_, terms) => Terms::new(terms)
            .map(|term| (term.kind, term.name.to_owned(), term.value.to_owned()))
            .collect(),
        Decoded::Refused { error, .. } => panic!("{expect} gave {error:?}"),
    })
    .unwrap()
}

#[test]
fn conditions_become_terms_in_their_order() {
    let check = |expect: &str, terms: &[(TermKind, &str, &str)]| {
        let found = expected(expect);
        let found: Vec<_> = found
            .iter()
            .map(|(kind, name, value)| (*kind, name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, terms, "{expect}");
    };
    check("null", &[]);
    check("{}", &[]);
    check(r#"{"version":7}"#, &[(TermKind::Version, "", "7")]);
    check(
        r#"{"etag":"\"1-a\""}"#,
        &[(TermKind::EntityTag, "", "\"1-a\"")],
    );
    check(r#"{"absent":true}"#, &[(TermKind::Absent, "", "")]);
    check(
        r#"{"absent_properties":["b","\u0061","b"],"present":true,"properties":{"z":[1, 2],"a":1,"a":2.0}}"#,
        &[
            (TermKind::Present, "", ""),
            (TermKind::Equal, "a", "2.0"),
            (TermKind::Equal, "z", "[1,2]"),
            (TermKind::Missing, "a", ""),
            (TermKind::Missing, "b", ""),
        ],
    );
    // Of repeated members the last counts.
    check(
        r#"{"version":7,"properties":{"a":1},"version":8,"properties":{}}"#,
        &[(TermKind::Version, "", "8")],
    );
    check(
        r#"{"version":"x","version":1}"#,
        &[(TermKind::Version, "", "1")],
    );
    check(
        r#"{"absent":true},"expect":{"present":true}"#,
        &[(TermKind::Present, "", "")],
    );
    check(r#"{"absent":true},"expect":null"#, &[]);
}

#[test]
fn a_condition_that_can_not_be_honoured_is_refused() {
    let check = |expect: &str, field: &str| {
        let payload = r#"{"entity_id":"x","properties":{}}"#;
        invalid(&event(&format!(r#","expect":{expect}"#), payload), field);
    };
    check("false", "expect");
    check("[]", "expect");
    check(r#"{"versoin":1}"#, "expect");
    for version in [
        "0",
        "-1",
        "1.0",
        "1e0",
        "\"1\"",
        "null",
        "99999999999999999999",
    ] {
        check(&format!(r#"{{"version":{version}}}"#), "expect.version");
    }
    for tag in [
        "1",
        r#""1-a""#,
        r#""*""#,
        r#""W/\"1\"""#,
        r#""\"1\", \"2\"""#,
        r#""""#,
    ] {
        check(&format!(r#"{{"etag":{tag}}}"#), "expect.etag");
    }
    check(r#"{"absent":false}"#, "expect.absent");
    check(r#"{"present":1}"#, "expect.present");
    check(r#"{"properties":[]}"#, "expect.properties");
    check(r#"{"absent_properties":"a"}"#, "expect.absent_properties");
    check(
        r#"{"absent_properties":["a",1]}"#,
        "expect.absent_properties",
    );
}

/// The terms of an event, and its payload's other members.
type Operated = (Vec<(TermKind, String, String)>, String);

/// What an event with this payload asks for and stores; its error.
fn operated(payload: &str) -> Result<Operated, ApiError> {
    let decoded = decode(&event("", payload), |decoded| match decoded {
        Decoded::Event(draft, terms) => {
            let terms = Terms::new(terms)
                .map(|term| (term.kind, term.name.to_owned(), term.value.to_owned()))
                .collect();
            Ok((terms, draft.extra.to_owned()))
        }
        Decoded::Refused { error, .. } => Err(error),
    });
    decoded?
}

#[test]
fn operations_become_terms_and_stay_in_the_event() {
    let check = |members: &str, terms: &[(TermKind, &str, &str)], extra: &str| {
        let (found, kept) = operated(&format!(r#"{{"entity_id":"x",{members}}}"#)).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(kind, name, value)| (*kind, name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, terms, "{members}");
        assert_eq!(kept, extra, "{members}");
    };
    check(
        r#""increment":{"n":1.50,"a":-1e2}"#,
        &[
            (TermKind::Increment, "a", "-1e2"),
            (TermKind::Increment, "n", "1.50"),
        ],
        r#""increment":{"n":1.50,"a":-1e2}"#,
    );
    check(
        r#""unset":["b","a","b"],"append":{"l":[1, {"x": 2}]},"max":{"m":1},"min":{"k":0}"#,
        &[
            (TermKind::Min, "k", "0"),
            (TermKind::Max, "m", "1"),
            (TermKind::Append, "l", r#"[1,{"x":2}]"#),
            (TermKind::Unset, "a", ""),
            (TermKind::Unset, "b", ""),
        ],
        r#""unset":["b","a","b"],"append":{"l":[1,{"x":2}]},"max":{"m":1},"min":{"k":0}"#,
    );
    // Of repeated members the last counts.
    check(
        r#""increment":"x","\u0069ncrement":{"a":1,"a":2},"properties":{"b":1}"#,
        &[(TermKind::Increment, "a", "2")],
        r#""increment":{"a":2}"#,
    );
    check(r#""increment":{}"#, &[], r#""increment":{}"#);
    check(
        r#""ttl":0.1,"unset":["a"]"#,
        &[(TermKind::Unset, "a", ""), (TermKind::Ttl, "", "0.1")],
        r#""ttl":0.1,"unset":["a"]"#,
    );
    for ttl in ["3.1536e8", "null", "100e-3"] {
        let member = format!(r#""ttl":{ttl}"#);
        check(&member, &[(TermKind::Ttl, "", ttl)], &member);
        check(
            &format!(r#""ttl":"x",{member},"properties":{{"ttl":1}}"#),
            &[(TermKind::Ttl, "", ttl)],
            &member,
        );
    }
}

#[test]
fn an_operation_that_can_not_be_done_is_refused() {
    let check = |members: &str, code: &str| {
        let error = operated(&format!(r#"{{"entity_id":"x",{members}}}"#)).unwrap_err();
        assert_eq!((error.status(), error.code()), (400, code), "{members}");
    };
    for members in [
        r#""increment":{"n":"1"}"#,
        r#""increment":[1]"#,
        r#""increment":null"#,
        r#""min":{"n":null}"#,
        r#""max":{"n":[1]}"#,
        r#""append":{"l":1}"#,
        r#""append":{"l":{}}"#,
        r#""unset":"a""#,
        r#""unset":{"a":1}"#,
        r#""unset":["a",1]"#,
    ] {
        check(members, "operation_type");
    }
    for members in [
        r#""increment":{"n":1},"properties":{"n":1}"#,
        r#""increment":{"n":1},"min":{"n":1}"#,
        r#""append":{"n":[]},"unset":["n"]"#,
        r#""unset":["n"],"properties":{"a":1,"n":2}"#,
    ] {
        check(members, "operation_conflict");
    }
    let digits = "1".repeat(300);
    let long = format!("0.{}", "1".repeat(1001));
    check(&format!(r#""increment":{{"n":{long}}}"#), "operation_limit");
    let fits = format!(r#"{{"entity_id":"x","max":{{"n":{digits}}}}}"#);
    operated(&fits).unwrap();
    let elements = |count| vec!["1"; count].join(",");
    check(
        &format!(r#""append":{{"l":[{}]}}"#, elements(10_001)),
        "operation_limit",
    );
    operated(&format!(
        r#"{{"entity_id":"x","append":{{"l":[{}]}}}}"#,
        elements(10_000)
    ))
    .unwrap();
    invalid(&event("", r#"{"entity_id":"x"}"#), "payload.properties");
}
