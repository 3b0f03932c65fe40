//! What a call of the service came to → what a tool answers, within its bound.
//!
//! Values are copied as JSON text, digit for digit. What has no room is left out whole: entities
//! and events from the first one that does not fit, properties of one entity each by its size; and
//! the answer says so, and where to go on.

use crate::api::json::{JsonError, Kind, RawValue, Scanner, write_string};
use crate::limits::MCP_RESULT_BYTES_MAX;
use crate::model::write_decimal;
use std::borrow::Cow;

/// Room for what stands around entities: cursors, the names of what was left out.
const ROOM_AROUND: usize = 6 * 1024;
/// Bytes of entities, events or changes of an answer.
const ROOM: usize = MCP_RESULT_BYTES_MAX - ROOM_AROUND;
/// Bytes of the names of properties that were left out of one entity.
const NAMES_BYTES_MAX: usize = 3 * 1024;

/// The members of an object, in order.
pub(super) fn members(json: &str) -> Result<Vec<(Cow<'_, str>, RawValue<'_>)>, JsonError> {
    let mut found = Vec::new();
    let mut scanner = Scanner::of_text(json)?;
    scanner.begin_object()?;
    while let Some(key) = scanner.next_key()? {
        found.push((key.to_cow(), scanner.raw_value()?));
    }
    Ok(found)
}

/// The elements of an array, in order.
pub(super) fn elements(json: &str) -> Result<Vec<RawValue<'_>>, JsonError> {
    let mut found = Vec::new();
    let mut scanner = Scanner::of_text(json)?;
    scanner.begin_array()?;
    while scanner.next_element()? {
        found.push(scanner.raw_value()?);
    }
    Ok(found)
}

/// The member of this name of an object.
pub(super) fn member<'j>(json: &'j str, name: &str) -> Option<RawValue<'j>> {
    let members = members(json).ok()?;
    members
        .into_iter()
        .find(|(key, _)| key == name)
        .map(|it| it.1)
}

/// The same, if it is a string.
pub(super) fn text_member<'j>(json: &'j str, name: &str) -> Option<Cow<'j, str>> {
    super::message::text(member(json, name).as_ref())
}

/// `{"entity":…,"cursor":…}`.
pub(super) fn entity(out: &mut Vec<u8>, json: &str, cursor: Option<&str>) -> Result<(), JsonError> {
    out.extend_from_slice(b"{\"entity\":");
    let is_cut = write_entity(out, json, ROOM)?;
    string_member(out, "cursor", cursor);
    end(out, is_cut, None);
    Ok(())
}

/// The entity alone; what has no room is left out of it.
pub(super) fn bounded_entity(out: &mut Vec<u8>, json: &str) -> Result<(), JsonError> {
    write_entity(out, json, ROOM).map(drop)
}

/// `{"entities":[…],"cursor":…}`, and `after` if there are more. `next`: the id after which the
/// next page begins.
pub(super) fn entities(
    out: &mut Vec<u8>,
    json: &str,
    (next, cursor): (Option<&str>, Option<&str>),
) -> Result<(), JsonError> {
    out.extend_from_slice(b"{\"entities\":");
    let all = elements(json)?;
    let Written { last, rest, is_cut } = write_elements(out, &all, write_entity)?;
    let last = last.and_then(|last| text_member(last.text, "id"));
    let after = if rest { last.as_deref() } else { next };
    string_member(out, "cursor", cursor);
    let is_truncated = is_cut || after.is_some();
    end(out, is_truncated, after.map(|after| ("after", after)));
    Ok(())
}

/// `{"events":[…]}`, and `before` if there are more. `has_next`: there is another page.
pub(super) fn events(out: &mut Vec<u8>, json: &str, has_next: bool) -> Result<(), JsonError> {
    out.extend_from_slice(b"{\"events\":");
    let all = elements(json)?;
    let Written { last, rest, is_cut } = write_elements(out, &all, write_event)?;
    let last = last.and_then(|last| text_member(last.text, "cursor"));
    let before = last.filter(|_| rest || has_next);
    let is_truncated = is_cut || before.is_some();
    end(
        out,
        is_truncated,
        before.as_deref().map(|before| ("before", before)),
    );
    Ok(())
}

/// Writes the changes of a poll that are wanted, as the member `changes`. They take no more than
/// the poll was told to gather, but for the last. True if one of them was left out.
pub(super) fn changes(out: &mut Vec<u8>, changes: &[RawValue<'_>]) -> Result<bool, JsonError> {
    out.extend_from_slice(b"\"changes\":[");
    let (start, mut is_cut) = (out.len(), false);
    for change in changes {
        if out.len() > start {
            out.push(b',');
        }
        if out.len() - start + change.text.len() <= ROOM {
            out.extend_from_slice(change.text.as_bytes());
            continue;
        }
        is_cut = true;
        write_without(out, change.text, &["properties", "removed"])?;
    }
    out.push(b']');
    Ok(is_cut)
}

/// What was written of an array.
struct Written<'e, 'j> {
    /// Its last element that was.
    last: Option<&'e RawValue<'j>>,
    /// There are more.
    rest: bool,
    /// Something of one was left out.
    is_cut: bool,
}

/// Writes the elements that fit, each by `write`, which says whether it left something out.
fn write_elements<'e, 'j>(
    out: &mut Vec<u8>,
    elements: &'e [RawValue<'j>],
    write: impl Fn(&mut Vec<u8>, &str, usize) -> Result<bool, JsonError>,
) -> Result<Written<'e, 'j>, JsonError> {
    out.push(b'[');
    let (start, mut last) = (out.len(), None);
    let (mut rest, mut is_cut) = (false, false);
    for element in elements {
        let used = out.len() - start;
        if used > 0 && used + element.text.len() > ROOM {
            rest = true;
            break;
        }
        if used > 0 {
            out.push(b',');
        }
        is_cut |= write(out, element.text, ROOM)?;
        last = Some(element);
    }
    out.push(b']');
    Ok(Written { last, rest, is_cut })
}

/// Writes an entity. One of more than `room` bytes is written without the properties that do not
/// fit, whose names and bytes stand in `omitted`. True if there are such.
fn write_entity(out: &mut Vec<u8>, json: &str, room: usize) -> Result<bool, JsonError> {
    if json.len() <= room {
        out.extend_from_slice(json.as_bytes());
        return Ok(false);
    }
    out.push(b'{');
    let mut omitted = Vec::new();
    for (name, value) in members(json)? {
        if name != "properties" {
            member_of(out, &name, value.text);
            continue;
        }
        separate(out);
        out.extend_from_slice(b"\"properties\":{");
        let start = out.len();
        for (name, value) in members(value.text)? {
            let bytes = name.len() + value.text.len() + r#""":,"#.len();
            if out.len() - start + bytes > room - NAMES_BYTES_MAX {
                omitted.push((name, value.text.len()));
            } else {
                member_of(out, &name, value.text);
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b",\"omitted\":{");
    let start = out.len();
    for (name, bytes) in &omitted {
        if out.len() - start + name.len() < NAMES_BYTES_MAX {
            member_of(out, name, &bytes.to_string());
        }
    }
    out.extend_from_slice(b"},\"omitted_count\":");
    write_decimal(out, omitted.len() as u64);
    out.push(b'}');
    Ok(true)
}

/// Writes an event; one that has no room without its payload.
fn write_event(out: &mut Vec<u8>, json: &str, room: usize) -> Result<bool, JsonError> {
    if json.len() <= room {
        out.extend_from_slice(json.as_bytes());
        return Ok(false);
    }
    write_without(out, json, &["payload"])?;
    Ok(true)
}

/// Writes an object without some members, and how many bytes it has with them.
fn write_without(out: &mut Vec<u8>, json: &str, without: &[&str]) -> Result<(), JsonError> {
    out.push(b'{');
    for (name, value) in members(json)? {
        if !without.contains(&&*name) {
            member_of(out, &name, value.text);
        }
    }
    separate(out);
    out.extend_from_slice(b"\"value_omitted\":true,\"bytes\":");
    write_decimal(out, json.len() as u64);
    out.push(b'}');
    Ok(())
}

fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// Adds a member to an object.
pub(super) fn member_of(out: &mut Vec<u8>, name: &str, json: &str) {
    separate(out);
    write_string(out, name);
    out.push(b':');
    out.extend_from_slice(json.as_bytes());
}

/// Adds a member that is a string, if there is one.
pub(super) fn string_member(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        separate(out);
        write_string(out, name);
        out.push(b':');
        write_string(out, value);
    }
}

/// Ends an answer, which says whether it is all.
pub(super) fn end(out: &mut Vec<u8>, is_truncated: bool, place: Option<(&str, &str)>) {
    if is_truncated {
        out.extend_from_slice(b",\"truncated\":true");
    }
    if let Some((name, value)) = place {
        string_member(out, name, Some(value));
    }
    out.push(b'}');
}

/// The elements of a poll's answer, its cursor, and whether there is more.
pub(super) fn poll(json: &str) -> Option<(Vec<RawValue<'_>>, Cow<'_, str>, bool)> {
    let changes = elements(member(json, "changes")?.text).ok()?;
    let cursor = text_member(json, "cursor")?;
    let more = member(json, "more")?.kind == Kind::True;
    Some((changes, cursor, more))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entity_of(id: &str, properties: &Value) -> String {
        json!({"id": id, "properties": properties, "lastUpdated": "t", "version": 1}).to_string()
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut out = Vec::new();
        write(&mut out);
        assert!(out.len() <= MCP_RESULT_BYTES_MAX, "{}", out.len());
        serde_json::from_slice(&out).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&out));
        })
    }

    #[test]
    fn what_fits_is_copied_digit_for_digit() {
        let mut out = Vec::new();
        let json = r#"{"id":"a","properties":{"n":1.50e2},"version":1}"#;
        entity(&mut out, json, Some("c")).unwrap();
        let expected = format!(r#"{{"entity":{json},"cursor":"c"}}"#);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_list_ends_before_the_first_entity_that_has_no_room() {
        let text = "x".repeat(10_000);
        let all: Vec<String> = (0..9)
            .map(|it| entity_of(&format!("e{it}"), &json!({"t": text})))
            .collect();
        let array = format!("[{}]", all.join(","));
        let found = written(|out| entities(out, &array, (Some("e8"), None)).unwrap());
        assert_eq!(found["entities"].as_array().unwrap().len(), 3);
        assert_eq!(
            (&found["truncated"], &found["after"]),
            (&json!(true), &json!("e2"))
        );
        let small = format!("[{}]", entity_of("e", &json!({})));
        let found = written(|out| entities(out, &small, (Some("e"), Some("c"))).unwrap());
        assert_eq!(found["after"], "e", "another page");
        let found = written(|out| entities(out, "[]", (None, Some("c"))).unwrap());
        assert_eq!(found, json!({"entities": [], "cursor": "c"}));
    }

    #[test]
    fn an_entity_too_large_says_which_properties_were_left_out() {
        let large = entity_of("a", &json!({"a": 1, "b": "x".repeat(50_000), "c": "y"}));
        let found = written(|out| entity(out, &large, None).unwrap());
        assert_eq!(found["truncated"], true);
        assert_eq!(found["entity"]["properties"], json!({"a": 1, "c": "y"}));
        assert_eq!(found["entity"]["omitted"], json!({"b": 50_002}));
        let names: serde_json::Map<String, Value> = (0..10_000)
            .map(|it| (format!("property-{it:05}"), json!("0123456789")))
            .collect();
        let found = written(|out| {
            entity(out, &entity_of("a", &Value::Object(names)), None).unwrap();
        });
        let shown = found["entity"]["properties"].as_object().unwrap().len();
        let omitted = found["entity"]["omitted_count"].as_u64().unwrap();
        assert_eq!(shown as u64 + omitted, 10_000);
    }

    #[test]
    fn events_and_changes_keep_their_place_without_what_has_no_room() {
        let event = |it: u32, len: usize| {
            json!({"eventId": it.to_string(), "payload": {"t": "x".repeat(len)}, "cursor": format!("c{it}")})
                .to_string()
        };
        let array = format!("[{},{}]", event(1, 60_000), event(2, 10));
        let found = written(|out| events(out, &array, false).unwrap());
        assert_eq!(found["events"].as_array().unwrap().len(), 2);
        assert_eq!(found["events"][0]["value_omitted"], true);
        let array = format!("[{},{}]", event(1, 30_000), event(2, 30_000));
        let found = written(|out| events(out, &array, false).unwrap());
        assert_eq!(
            (&found["before"], &found["truncated"]),
            (&json!("c1"), &json!(true))
        );
        let large =
            json!([{"entity_id": "a", "properties": {"t": "x".repeat(50_000)}}]).to_string();
        let found = written(|out| {
            out.push(b'{');
            assert!(changes(out, &elements(&large).unwrap()).unwrap());
            out.push(b'}');
        });
        assert_eq!(found["changes"][0]["entity_id"], "a");
        assert_eq!(found["changes"][0]["value_omitted"], true);
    }
}
