//! Publishing: the rules of an event's fields, values that come back as they were sent, batches
//! (API contract §2).

mod support;

use serde_json::{Value, json};
use support::http::{percent_encoded, request};
use support::server::Setup;
use support::{batch, event, is_snake_case, is_uuid_v7, namespace, on_each, quoted};
use tempfile::TempDir;

const BODY_SINGLE_BYTES_MAX: usize = 1_048_576;
const BODY_BATCH_BYTES_MAX: usize = 10_485_760;
const DEPTH_MAX: usize = 128;

/// The members of a valid event about `id`, with one member replaced or added.
fn event_with(id: &str, member: &str, value: &str) -> String {
    let payload = format!(r#"{{"entity_id":{},"properties":{{"n":1}}}}"#, quoted(id));
    let sound = [
        ("stream", r#""sensors""#),
        ("source", r#""agent""#),
        ("payload", payload.as_str()),
    ];
    let others = sound.iter().filter(|(name, _)| *name != member);
    let mut members: Vec<String> = others
        .map(|(name, value)| format!(r#""{name}":{value}"#))
        .collect();
    if !value.is_empty() {
        members.push(format!(r#""{member}":{value}"#));
    }
    format!("{{{}}}", members.join(","))
}

fn nested(depth: usize) -> String {
    // The event, its payload and the properties are three containers already.
    let inner = depth - 3;
    format!(r#"{{"deep":{}{}}}"#, "[".repeat(inner), "]".repeat(inner))
}

#[test]
fn an_event_is_accepted_with_all_its_fields_and_with_the_least() {
    let long = |len: usize| quoted(&"x".repeat(len));
    let accepted = [
        ("nothing", String::new()),
        ("eventId", r#""my-id""#.to_owned()),
        ("eventId", long(128)),
        ("eventId", "null".to_owned()),
        ("eventId", r#""""#.to_owned()),
        ("stream", r#""a.b-c""#.replace('-', "")),
        ("stream", r#""0.1.2""#.to_owned()),
        ("stream", long(256)),
        ("source", r#""Ünïcode source \u0000\n""#.to_owned()),
        ("source", long(256)),
        ("timestamp", "1".to_owned()),
        ("timestamp", "9223372036854775807".to_owned()),
        ("timestamp", "null".to_owned()),
        ("key", r#""""#.to_owned()),
        ("key", long(1024)),
        ("key", "null".to_owned()),
        ("schema", long(1024)),
        ("schema", "null".to_owned()),
        ("unknown", r#"{"any":["thing"]}"#.to_owned()),
    ];
    on_each(|server| {
        let id = format!("{}/a", namespace("fields"));
        for (count, (member, value)) in accepted.iter().enumerate() {
            let answer = server.post("/api/events", &event_with(&id, member, value));
            assert_eq!(answer.status, 200, "{member}: {value}: {}", answer.text());
            assert_eq!(
                server.entity(&id).json()["version"],
                count + 1,
                "{member}: {value}"
            );
        }
    });
}

/// Values that a member of an event must not have, with ` | ` between them. `absent` leaves the
/// member out, `long N` is a string of N characters, `id X` and `properties X` a payload that is
/// otherwise valid.
const BAD_FIELDS: &str = r#"
eventId: 1 | {} | [] | true | long 129
stream: absent | null | 1 | "" | ".a" | "a." | "a..b" | "." | "A" | "a b" | "a-b" | "a_b" | "a/b" | "ä" | "a\u0000"
stream: ["a"] | long 257
source: absent | null | 1 | "" | {} | long 257
timestamp: 0 | -1 | 1.0 | 1.5 | 1e3 | "1" | true | [] | 9223372036854775808 | 123456789012345678901234567890
key: 1 | [] | false | long 1025
schema: 1 | {} | false | long 1025
payload: absent | null | 1 | [] | "{}" | {} | {"properties":{}} | {"entity_id":"a"}
payload: id null | id 1 | id "" | id [] | id long 513 | id "a\u0000" | id "a\nb" | id "a\u001f" | id "a\u007f" | id "\u009f"
payload: properties null | properties [] | properties 1 | properties "a"
"#;

fn bad_value(drawing: &str) -> String {
    if let Some(len) = drawing.strip_prefix("long ") {
        return quoted(&"x".repeat(len.parse().expect("a number")));
    }
    if let Some(id) = drawing.strip_prefix("id ") {
        return format!(r#"{{"entity_id":{},"properties":{{}}}}"#, bad_value(id));
    }
    if let Some(properties) = drawing.strip_prefix("properties ") {
        return format!(r#"{{"entity_id":"a","properties":{properties}}}"#);
    }
    drawing.replace("absent", "")
}

#[test]
fn a_bad_field_is_400_and_leaves_nothing() {
    on_each(|server| {
        let id = format!("{}/a", namespace("bad"));
        for line in BAD_FIELDS.lines().filter(|line| !line.is_empty()) {
            let (member, values) = line.split_once(": ").expect("a member and its values");
            for drawing in values.split(" | ") {
                let event = event_with(&id, member, &bad_value(drawing));
                let what = format!("{member}: {drawing}");
                server.post("/api/events", &event).expect_error(400, &what);
            }
        }
        assert_eq!(server.entity(&id).status, 404);
        assert_eq!(server.entity("a").status, 404);
    });
}

#[test]
fn the_message_names_the_field() {
    on_each(|server| {
        let id = format!("{}/a", namespace("named"));
        let table = [
            ("stream", "", "stream"),
            ("source", "1", "source"),
            ("timestamp", "0", "timestamp"),
            ("eventId", "[]", "eventId"),
            ("payload", r#"{"properties":{}}"#, "entity_id"),
            (
                "payload",
                r#"{"entity_id":"a","properties":1}"#,
                "properties",
            ),
        ];
        for (member, value, field) in table {
            let answer = server.post("/api/events", &event_with(&id, member, value));
            let message = answer.json()["error"].as_str().unwrap_or("").to_owned();
            assert!(message.contains(field), "{member}: {value}: {message}");
        }
    });
}

/// Bodies that are not the JSON of an event.
const BAD_BODIES: &str = r#"
 | null | [] | 1 | "event" | true | { | } | {}{} | nonsense | {'a':1} | {a:1} | {,}
"#;

/// Texts that are not a JSON value.
const BAD_VALUES: &str = r#"
 | 01 | 1. | .5 | +1 | - | 1e | 0x1 | 1_000 | NaN | Infinity | 1e309 | -1e400 | tru | nul | True | [1,] | [,1] | [1 2]
{"a":1,} | {"a"} | {"a" 1} | {1:1} | "\x" | "\u12" | "\ud800" | "\ud800\u0041" | "\udc00" | "\ud800\ud800" | " | "\" | 'a'
// x 1 | /*x*/1
"#;

fn drawn(table: &str) -> impl Iterator<Item = &str> {
    table
        .lines()
        .skip(1)
        .flat_map(|line| line.split(" | "))
        .map(str::trim)
}

fn bad_bodies() -> Vec<Vec<u8>> {
    let sound = event("x/y", r#"{"n":1}"#);
    let with_value = |value: &str| event("x/y", &format!(r#"{{"n":{value}}}"#));
    let mut texts: Vec<String> = Vec::new();
    texts.extend(drawn(BAD_VALUES).map(with_value));
    texts.extend(drawn(BAD_BODIES).map(str::to_owned));
    texts.extend(["\"\n\"", "\"\t\"", "\"\0\"", "\"\u{1f}\""].map(with_value));
    texts.push(sound[..sound.len() - 1].to_owned());
    texts.push(sound.replace('}', ",}"));
    let frames = [
        ("[", "]"),
        ("", "x"),
        ("", &sound),
        ("", "\0"),
        ("\u{feff}", ""),
        ("\u{b}", ""),
    ];
    texts.extend(frames.map(|(before, after)| format!("{before}{sound}{after}")));
    let mut bodies = Vec::new();
    for text in texts {
        bodies.push(text.into_bytes());
    }
    for bytes in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
    ] {
        let text = with_value("\"TEXT\"");
        let (before, after) = text.split_once("TEXT").expect("a place for the text");
        bodies.push([before.as_bytes(), bytes, after.as_bytes()].concat());
    }
    bodies
}

#[test]
fn bodies_that_are_not_json_are_400() {
    let bodies = bad_bodies();
    on_each(|server| {
        for body in &bodies {
            let what = String::from_utf8_lossy(body);
            let len = body.len();
            let head =
                format!("POST /api/events HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
            let mut connection = server.connect();
            connection.send(head);
            connection.send(body);
            connection.response().expect_error(400, &what);
            let health = connection.request("GET", "/health", "");
            assert_eq!(
                health.status, 200,
                "bad JSON does not cost the connection: {what}"
            );
        }
        assert_eq!(server.entity("x/y").status, 404);
    });
}

#[test]
fn json_rules_hold_inside_members_that_are_ignored() {
    on_each(|server| {
        let id = format!("{}/a", namespace("inside"));
        for value in ["01", r#""\ud800""#, "1e999", "{\"a\"}", "[1,]"] {
            server
                .post("/api/events", &event_with(&id, "unknown", value))
                .expect_error(400, value);
        }
    });
}

#[test]
fn numbers_come_back_digit_for_digit() {
    let numbers = [
        "0",
        "-0",
        "22.50",
        "1e2",
        "1E+2",
        "1.0",
        "-1.50e-07",
        "12345678901234567890123",
        "0.1000000000000000055511151",
        "1.7976931348623157e308",
        "9007199254740993",
        "1e-400",
        "18446744073709551616",
    ];
    on_each(|server| {
        let id = format!("{}/a", namespace("digits"));
        for number in numbers {
            server.publish(
                &id,
                &format!(r#"{{"n": {number} ,"nested":[{{"m":{number}}}]}}"#),
            );
            let text = server.entity(&id).text().replace([' ', '\n'], "");
            assert!(
                text.contains(&format!(r#""n":{number}"#)),
                "{number}: {text}"
            );
            assert!(
                text.contains(&format!(r#"[{{"m":{number}}}]"#)),
                "{number}: {text}"
            );
        }
    });
}

#[test]
fn strings_come_back_as_the_same_text() {
    let texts = [
        "",
        "plain",
        "quote \" backslash \\ slash /",
        "tab\tnewline\nreturn\r",
        "\u{0}\u{1}\u{1f}\u{7f}\u{80}\u{9f}",
        "Ünïcödé 漢字 😀 \u{10ffff}",
        "e\u{301} is not \u{e9}",
        "\u{feff}bom",
        "\u{2028}\u{2029}",
        "<script>&amp;",
    ];
    on_each(|server| {
        let ns = namespace("texts");
        for text in texts {
            let plain = quoted(text);
            let escaped: Vec<String> = text
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect();
            let escaped = format!("\"{}\"", escaped.concat());
            for (index, form) in [plain, escaped].iter().enumerate() {
                let id = format!("{ns}/{index}");
                server.publish(&id, &format!(r#"{{"v":{form},{form}:1}}"#));
                let properties = server.entity(&id).json()["properties"].clone();
                assert_eq!(properties["v"], text, "{form}");
                assert_eq!(properties[text], 1, "{form} as a name");
            }
        }
    });
}

#[test]
fn entity_ids_may_hold_any_text_but_control_characters() {
    on_each(|server| {
        let ns = namespace("ids");
        let longest = "x".repeat(512 - ns.len() - 1);
        let rests = [
            "a b",
            "ü/漢/😀",
            "a%2Fb",
            "100%",
            "a+b&c=d?e#f",
            "\"\\'",
            "//",
            "..",
            "*",
            "\u{a0}",
            &longest,
        ];
        for rest in rests {
            let id = format!("{ns}/{rest}");
            server.publish(&id, r#"{"n":1}"#);
            let answer = server.entity(&percent_encoded(&id));
            assert_eq!(answer.status, 200, "{id}");
            assert_eq!(answer.json()["id"], id.as_str());
        }
    });
}

#[test]
fn of_repeated_keys_the_last_wins() {
    on_each(|server| {
        let ns = namespace("twice");
        let id = format!("{ns}/a");
        server.publish(
            &id,
            r#"{"n":1,"m":{"x":1},"\u006e":2,"m":{"y":2},"o":null}"#,
        );
        let properties = server.entity(&id).json()["properties"].clone();
        assert_eq!(properties["n"], 2);
        assert_eq!(properties["m"]["y"], 2);
        assert_eq!(
            properties["m"]["x"],
            Value::Null,
            "a value is replaced whole"
        );
        // Also if an earlier value would be refused.
        let payload = |first: &str| {
            let id = quoted(&format!("{ns}/yes"));
            format!(r#"{{{first},"entity_id":{id},"properties":{{"n":1}}}}"#)
        };
        let sound = payload(r#""x":1"#);
        let table = [
            format!(r#"{{"stream":"BAD","source":"s","payload":{sound},"stream":"good"}}"#),
            format!(r#"{{"source":1,"stream":"good","payload":{sound},"source":"s"}}"#),
            format!(r#"{{"payload":[],"stream":"good","source":"s","payload":{sound}}}"#),
            format!(
                r#"{{"timestamp":"x","stream":"good","source":"s","payload":{sound},"timestamp":null}}"#
            ),
            format!(
                r#"{{"stream":"good","source":"s","payload":{}}}"#,
                payload(r#""entity_id":"other/no""#)
            ),
            format!(
                r#"{{"stream":"good","source":"s","payload":{}}}"#,
                payload(r#""entity_id":[]"#)
            ),
            format!(
                r#"{{"stream":"good","source":"s","payload":{}}}"#,
                payload(r#""properties":1"#)
            ),
            format!(
                r#"{{"stream":"good","source":"s","payload":{}}}"#,
                payload(r#""properties":{"no":1}"#)
            ),
        ];
        for (count, body) in table.iter().enumerate() {
            let answer = server.post("/api/events", body);
            assert_eq!(answer.status, 200, "{body}: {}", answer.text());
            assert_eq!(answer.json()["stream"], "good");
            let entity = server.entity(&format!("{ns}/yes")).json();
            assert_eq!(
                (&entity["version"], &entity["properties"]),
                (&json!(count + 1), &json!({"n": 1}))
            );
        }
        assert_eq!(server.entity("other/no").status, 404);
    });
}

#[test]
fn nesting_is_accepted_to_128_containers_and_refused_beyond() {
    on_each(|server| {
        let id = format!("{}/a", namespace("deep"));
        server.publish(&id, &nested(DEPTH_MAX));
        let deeper = event(&id, &nested(DEPTH_MAX + 1));
        server
            .post("/api/events", &deeper)
            .expect_error(400, "129 containers");
        let objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        server
            .post("/api/events", &event(&id, &objects))
            .expect_error(400, "100,000 containers");
        assert_eq!(server.entity(&id).json()["version"], 1);
    });
}

#[test]
fn bodies_are_accepted_to_the_last_byte_of_their_limit() {
    on_each(|server| {
        let id = format!("{}/a", namespace("size"));
        let single = |len: usize| {
            let frame = event(&id, r#"{"v":""}"#).len();
            event(&id, &format!(r#"{{"v":"{}"}}"#, "x".repeat(len - frame)))
        };
        assert_eq!(
            server
                .post("/api/events", &single(BODY_SINGLE_BYTES_MAX))
                .status,
            200
        );
        let read = server.entity(&id).json();
        assert_eq!(
            read["properties"]["v"].as_str().map(str::len),
            Some(single(BODY_SINGLE_BYTES_MAX).len() - frame(&id))
        );
        let mut connection = server.connect();
        connection.send_what_it_takes(request(
            "POST",
            "/api/events",
            &[],
            &single(BODY_SINGLE_BYTES_MAX + 1),
        ));
        connection.response().expect_error(413, "one byte too many");

        // Only the limit of the batch applies to an item, and the bound on an entity to properties.
        let batch_of = |len: usize| {
            let filled = |filler: &str| {
                let small = event(&id, r#"{"v":1}"#);
                let member = format!(r#""filler":"{filler}","entity_id""#);
                batch(&[small.replacen(r#""entity_id""#, &member, 1)])
            };
            filled(&"y".repeat(len - filled("").len()))
        };
        let answer = server.post("/api/events/batch", &batch_of(BODY_BATCH_BYTES_MAX));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["successful"], 1, "{}", answer.text());
        let mut connection = server.connect();
        connection.send_what_it_takes(request(
            "POST",
            "/api/events/batch",
            &[],
            &batch_of(BODY_BATCH_BYTES_MAX + 1),
        ));
        connection
            .response()
            .expect_error(413, "a batch of one byte too many");
        assert_eq!(server.entity(&id).json()["version"], 2);
        server.request("DELETE", &format!("/api/state/entities/{id}"), "");
    });
}

fn frame(id: &str) -> usize {
    event(id, r#"{"v":""}"#).len()
}

#[test]
fn an_event_id_is_kept_as_sent_or_made_as_a_uuid_of_version_7() {
    on_each(|server| {
        let id = format!("{}/a", namespace("event-id"));
        for sent in [
            "mine",
            "Ünïcode \"quoted\" \\ \n",
            "550e8400-e29b-41d4-a716-446655440000",
        ] {
            let answer = server
                .post("/api/events", &event_with(&id, "eventId", &quoted(sent)))
                .json();
            assert_eq!(answer["eventId"], sent);
            assert_eq!(answer["stream"], "sensors");
        }
        let mut made = Vec::new();
        for value in ["", "null", r#""""#, ""] {
            let answer = server
                .post("/api/events", &event_with(&id, "eventId", value))
                .json();
            let event_id = answer["eventId"].as_str().unwrap_or("").to_owned();
            assert!(is_uuid_v7(&event_id), "{event_id}");
            made.push(event_id);
        }
        let count = made.len();
        made.sort();
        made.dedup();
        assert_eq!(made.len(), count, "no id is made twice");
        // An event that is sent again under its id counts once.
        for _ in 0..2 {
            server.post("/api/events", &event_with(&id, "eventId", r#""again""#));
        }
        assert_eq!(server.entity(&id).json()["version"], 3 + 4 + 1);
    });
}

#[test]
fn a_reserved_namespace_takes_no_writes() {
    on_each(|server| {
        for id in ["flux-core/directory", "flux-core/x", "flux-core/"] {
            server
                .post("/api/events", &event(id, r#"{"n":1}"#))
                .expect_error(403, id);
            let answer = server.post("/api/events/batch", &batch(&[event(id, "{}")]));
            assert_eq!(answer.status, 200, "{}", answer.text());
            let answer = answer.json();
            assert_eq!(
                (&answer["successful"], &answer["failed"]),
                (&0.into(), &1.into())
            );
        }
        // Fields are judged before ownership.
        server
            .post("/api/events", &event("flux-core/x", "1"))
            .expect_error(400, "properties that are no object");
        let near = format!("flux-core-{}/x", namespace("near"));
        server.publish(&near, r#"{"n":1}"#);
    });
}

#[test]
fn a_batch_answers_for_each_item_in_request_order() {
    on_each(|server| {
        let ns = namespace("verdict");
        let id = |n: usize| format!("{ns}/{n}");
        let items = [
            event_with(&id(0), "eventId", r#""first""#),
            event_with(&id(1), "stream", r#""BAD""#),
            "1".to_owned(),
            "null".to_owned(),
            "[]".to_owned(),
            event_with(&id(2), "eventId", ""),
            event_with(&id(3), "source", r#""""#),
            event("flux-core/x", "{}"),
            event_with(&id(4), "payload", "{}"),
            event_with(&id(5), "eventId", r#""last""#),
        ];
        let answer = server.post("/api/events/batch", &batch(&items));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["successful"], 3);
        assert_eq!(answer["failed"], 7);
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results.len(), items.len());
        for (index, result) in results.iter().enumerate() {
            let accepted = matches!(index, 0 | 5 | 9);
            assert_eq!(
                result["error"].is_string(),
                !accepted,
                "item {index}: {result}"
            );
            if accepted {
                assert_eq!(result["stream"], "sensors", "item {index}: {result}");
            } else {
                assert!(
                    result["code"].as_str().is_some_and(is_snake_case),
                    "item {index}: {result}"
                );
            }
        }
        assert_eq!(results[0]["eventId"], "first");
        assert!(
            is_uuid_v7(results[5]["eventId"].as_str().unwrap_or("")),
            "{}",
            results[5]
        );
        assert_eq!(results[9]["eventId"], "last");
        for (n, status) in [(0, 200), (1, 404), (2, 200), (3, 404), (4, 404), (5, 200)] {
            assert_eq!(server.entity(&id(n)).status, status, "item about {}", id(n));
        }
    });
}

#[test]
fn a_batch_as_a_whole_is_refused_only_where_it_is_no_batch() {
    let table = [
        "",
        "{}",
        "[]",
        "null",
        r#"{"events":null}"#,
        r#"{"events":{}}"#,
        r#"{"events":[]}"#,
        r#"{"events":"[]"}"#,
        r#"{"events":[{}"#,
        r#"{"events":[{}]}x"#,
        r#"{"events":[{},]}"#,
        r#"{"events":[{"a":01}]}"#,
        r#"{"events":[{"a":"\ud800"}]}"#,
        r#"{"event":[{}]}"#,
        r#"{"events":[1],"events":[]}"#,
    ];
    on_each(|server| {
        let id = format!("{}/a", namespace("whole"));
        for body in table {
            server
                .post("/api/events/batch", body)
                .expect_error(400, body);
        }
        // A fault at the very end refuses the whole body.
        let body = format!(r#"{{"events":[{},{{"a":1.}}]}}"#, event(&id, "{}"));
        server
            .post("/api/events/batch", &body)
            .expect_error(400, &body);
        assert_eq!(server.entity(&id).status, 404);
        let body = format!(
            r#"{{"other":[1,{{"x":null}}],"events":[{}],"more":1}}"#,
            event(&id, "{}")
        );
        assert_eq!(
            server.post("/api/events/batch", &body).json()["successful"],
            1
        );
    });
}

#[test]
fn a_batch_over_many_namespaces_keeps_each_namespaces_order() {
    on_each(|server| {
        let ns = namespace("order");
        let events: Vec<String> = (0..1000)
            .map(|n| {
                event(
                    &format!("{ns}-{}/a", n % 10),
                    &format!(r#"{{"n":{n},"n{n}":true}}"#),
                )
            })
            .collect();
        let answer = server.post("/api/events/batch", &batch(&events));
        assert_eq!(answer.json()["successful"], 1000, "{}", answer.text());
        for shard in 0..10 {
            let entity = server.entity(&format!("{ns}-{shard}/a")).json();
            assert_eq!(entity["version"], 100);
            assert_eq!(
                entity["properties"]["n"],
                990 + shard,
                "the last of the request is the last applied"
            );
        }
    });
}

#[test]
fn a_read_that_starts_after_the_answer_sees_the_event() {
    on_each(|server| {
        let ns = namespace("fresh");
        let mut writer = server.connect();
        let mut readers: Vec<_> = (0..4).map(|_| server.connect()).collect();
        for n in 0..200 {
            // Namespaces and connections meet on every pair of cores.
            let id = format!("{ns}-{}/a", n % 5);
            let answer = writer.request(
                "POST",
                "/api/events",
                &event(&id, &format!(r#"{{"n":{n}}}"#)),
            );
            assert_eq!(answer.status, 200, "{}", answer.text());
            for reader in &mut readers {
                let read = reader.request("GET", &format!("/api/state/entities/{id}"), "");
                assert_eq!(read.json()["properties"]["n"], n);
            }
        }
    });
}

#[test]
fn body_limits_follow_their_settings() {
    let data_dir = TempDir::new().expect("a temporary directory");
    let single = event("small/a", r#"{"n":1}"#);
    let batch_body = batch(&[single.clone(), single.clone()]);
    let settings = [
        ("FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES", single.len()),
        ("FLUX_BODY_SIZE_LIMIT_BATCH_BYTES", batch_body.len()),
    ];
    let setup = |shortened: usize| {
        let setup = Setup::new(data_dir.path(), 1);
        settings.iter().fold(setup, |setup, (name, len)| {
            setup.env(name, &(len - shortened).to_string())
        })
    };
    let server = setup(0).start();
    assert_eq!(server.post("/api/events", &single).status, 200);
    assert_eq!(server.post("/api/events/batch", &batch_body).status, 200);
    server.stop();
    let server = setup(1).start();
    server
        .post("/api/events", &single)
        .expect_error(413, "one byte too many");
    server
        .post("/api/events/batch", &batch_body)
        .expect_error(413, "one byte too many");
    assert_eq!(server.entity("small/a").json()["version"], 3);
}
