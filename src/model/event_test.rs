//! The stored form of an event: every field comes back, and no byte makes decoding panic.

use super::event::*;
use super::{ExpiryChange, LifetimeChange, Timestamp, TraceParent};

const PROPERTIES: &[Property<'static>] = &[
    Property {
        name: "a",
        value: "22.50",
    },
    Property {
        name: "b\"",
        value: "{\"x\":[1,2]}",
    },
];

const TRACE: [u8; TraceParent::LEN] = [7; TraceParent::LEN];

fn full() -> EventDraft<'static> {
    EventDraft {
        entity_id: "house/room",
        event_id: EventId::Text("e-1"),
        stream: "sensors.indoor",
        source: "agent",
        timestamp_ms: Some(1_700_000_000_000),
        key: Some("k"),
        schema: Some(""),
        traceparent: TraceParent::from_bytes(TRACE),
        extra: "\"unit\":\"C\"",
        tombstone: true,
        properties: PROPERTIES,
    }
}

fn encoded(draft: &EventDraft<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    draft.encode(&mut bytes);
    bytes
}

#[test]
fn every_field_comes_back() {
    let bytes = encoded(&full());
    let view = EventView::decode(&bytes).unwrap();
    assert_eq!(view.entity_id, "house/room");
    assert_eq!(view.event_id, EventId::Text("e-1"));
    assert_eq!((view.stream, view.source), ("sensors.indoor", "agent"));
    assert_eq!(view.timestamp_ms, Some(1_700_000_000_000));
    assert_eq!(
        (view.key, view.schema, view.extra),
        (Some("k"), Some(""), "\"unit\":\"C\"")
    );
    assert!(view.tombstone);
    assert_eq!(view.traceparent, TraceParent::from_bytes(TRACE));
    assert_eq!(EventView::entity_id_of(&bytes), Some(&b"house/room"[..]));
    assert_eq!(view.properties().collect::<Vec<_>>(), PROPERTIES);
}

#[test]
fn absent_fields_cost_nothing() {
    let uuid = uuid::Uuid::from_u128(7);
    let draft = EventDraft {
        event_id: EventId::Uuid(uuid),
        timestamp_ms: None,
        key: None,
        schema: None,
        traceparent: None,
        extra: "",
        tombstone: false,
        properties: &[],
        ..full()
    };
    let bytes = encoded(&draft);
    assert_eq!(bytes.len(), 1 + (1 + 10) + 16 + (1 + 14) + (1 + 5) + 1);
    let view = EventView::decode(&bytes).unwrap();
    assert_eq!(EventView::entity_id_of(&bytes), Some(&b"house/room"[..]));
    assert_eq!(view.event_id, EventId::Uuid(uuid));
    assert_eq!(
        (view.timestamp_ms, view.key, view.schema, view.extra),
        (None, None, None, "")
    );
    assert_eq!(view.properties().len(), 0);
}

fn decided(event: &[u8], version: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let draft = DecidedDraft {
        version: Some(version),
        ..DecidedDraft::default()
    };
    draft.encode(event, &mut bytes);
    bytes
}

#[test]
fn what_the_owner_decided_stands_beside_the_event_as_it_came() {
    let came = encoded(&full());
    for version in [1, 127, 128, u64::MAX] {
        let bytes = decided(&came, version);
        let view = EventView::decode(&bytes).unwrap();
        assert_eq!(view.decided.version, Some(version));
        assert_eq!((view.entity_id, view.source), ("house/room", "agent"));
        assert_eq!(view.properties().collect::<Vec<_>>(), PROPERTIES);
        assert_eq!(EventView::entity_id_of(&bytes), Some(&b"house/room"[..]));
        let (sent, before) = (Sent::of(&bytes).unwrap(), Sent::of(&came).unwrap());
        assert_eq!(sent.content(), before.content());
        assert_eq!(sent.decided.version, Some(version));
        assert_eq!((sent.event_id, before.event_id), (&b"e-1"[..], &b"e-1"[..]));
        assert_eq!(before.decided.version, None);
    }
    let mut bytes = Vec::new();
    DecidedDraft::default().encode(&came, &mut bytes);
    assert_eq!(bytes, came);
    let event_id = EventId::Uuid(uuid::Uuid::from_u128(7));
    let made = encoded(&EventDraft { event_id, ..full() });
    assert!(Sent::of(&made).is_none(), "the server made its id");
}

#[test]
fn results_of_operations_are_told_from_what_was_sent() {
    let properties = ["a", "b", "c"].map(|name| Property { name, value: "1" });
    let all = encoded(&EventDraft {
        properties: &properties,
        ..full()
    });
    let mut bytes = Vec::new();
    let draft = DecidedDraft {
        version: Some(3),
        operations: Some((&[0, 2], &["d", "e"])),
        lifetime: LifetimeChange {
            expires: ExpiryChange::At(Timestamp::from_micros(-9)),
            linger_ms: Some(300_000),
        },
    };
    draft.encode(&all, &mut bytes);
    let view = EventView::decode(&bytes).unwrap();
    let names = view.results().map(|result| result.name);
    assert_eq!(names.collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(view.decided.removed().collect::<Vec<_>>(), ["d", "e"]);
    assert_eq!(view.decided.version, Some(3));
    assert!(view.decided.has_operations() && view.decided.has_results());
    assert_eq!(view.decided.lifetime, draft.lifetime);
    let mut came = Vec::new();
    view.encode_as_it_came(&mut came);
    let sent = encoded(&EventDraft {
        properties: &properties[1..2],
        ..full()
    });
    assert_eq!(came, sent);
    for len in 0..bytes.len() {
        assert!(EventView::decode(&bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn what_becomes_of_a_lifetime_comes_back() {
    let came = encoded(&full());
    let at = ExpiryChange::At(Timestamp::from_micros(7));
    for expires in [ExpiryChange::None, ExpiryChange::Never, at] {
        for linger_ms in [None, Some(0), Some(300_000)] {
            let lifetime = LifetimeChange { expires, linger_ms };
            let mut bytes = Vec::new();
            let draft = DecidedDraft {
                lifetime,
                ..DecidedDraft::default()
            };
            draft.encode(&came, &mut bytes);
            let view = EventView::decode(&bytes).unwrap();
            assert_eq!(view.decided.lifetime, lifetime);
            assert_eq!(bytes == came, lifetime.is_none());
            let (sent, before) = (Sent::of(&bytes).unwrap(), Sent::of(&came).unwrap());
            assert_eq!(sent.content(), before.content());
        }
    }
}

#[test]
fn every_truncation_and_an_extra_byte_are_refused() {
    let mut bytes = decided(&encoded(&full()), 300);
    for len in 0..bytes.len() {
        assert!(EventView::decode(&bytes[..len]).is_err(), "cut to {len}");
    }
    bytes.push(0);
    assert_eq!(
        EventView::decode(&bytes).unwrap_err(),
        EventDecodeError::Length
    );
}

#[test]
fn no_byte_can_make_decoding_panic() {
    let bytes = decided(&encoded(&full()), 300);
    for at in 0..bytes.len() {
        for value in 0..=255 {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            let id = EventView::entity_id_of(&damaged);
            Sent::of(&damaged);
            if let Ok(view) = EventView::decode(&damaged) {
                assert_eq!(id, Some(view.entity_id.as_bytes()));
                assert_eq!(view.properties().count(), view.properties().len());
            }
        }
    }
}

#[test]
fn properties_of_every_length_and_script_come_back() {
    let long = format!("\"{}\"", "ä".repeat(100));
    for value in ["1", "\"ä\"", long.as_str()] {
        let properties = ["a", "é", "ø"].map(|name| Property { name, value });
        let bytes = encoded(&EventDraft {
            properties: &properties,
            ..full()
        });
        let view = EventView::decode(&bytes).unwrap();
        assert_eq!(view.properties().collect::<Vec<_>>(), properties);
    }
}

#[test]
fn a_name_that_ends_within_a_character_is_refused() {
    let properties = [Property {
        name: "é",
        value: "1",
    }];
    let mut bytes = encoded(&EventDraft {
        properties: &properties,
        ..full()
    });
    // The name's length is before its two bytes, the value's length and the value.
    let len = bytes.len() - 5;
    assert_eq!(bytes[len], 2);
    bytes[len] = 1;
    assert!(EventView::decode(&bytes).is_err());
}

#[test]
fn properties_out_of_order_are_refused() {
    let backwards = [PROPERTIES[1], PROPERTIES[0]];
    let twice = [PROPERTIES[0], PROPERTIES[0]];
    for properties in [&backwards, &twice] {
        let bytes = encoded(&EventDraft {
            properties,
            ..full()
        });
        assert_eq!(
            EventView::decode(&bytes).unwrap_err(),
            EventDecodeError::Order
        );
    }
}

#[test]
fn a_trace_lies_between_what_was_decided_and_what_came_and_is_no_content() {
    let draft = EventDraft {
        traceparent: None,
        ..full()
    };
    let (plain, traced) = (encoded(&draft), encoded(&full()));
    let (flags, rest) = plain.split_first().unwrap();
    let expected = [&[flags | 128, 1][..], &TRACE, rest].concat();
    assert_eq!(traced, expected);
    let (decided_plain, decided_traced) = (decided(&plain, 300), decided(&traced, 300));
    assert_eq!(decided_traced.len(), decided_plain.len() + 1 + TRACE.len());
    for bytes in [&traced, &decided_plain, &decided_traced] {
        let (sent, before) = (Sent::of(bytes).unwrap(), Sent::of(&plain).unwrap());
        assert_eq!(sent.content(), before.content());
        assert_eq!(
            (sent.entity_id, sent.event_id),
            (before.entity_id, before.event_id)
        );
    }
}

#[test]
fn an_announcement_that_is_not_known_and_a_trace_that_is_none_are_refused() {
    let traced = encoded(&full());
    let refused = |at: std::ops::Range<usize>, byte: u8| {
        let mut bytes = traced.clone();
        bytes[at].fill(byte);
        EventView::decode(&bytes).unwrap_err()
    };
    for flags in [0, 2, 3, 129] {
        assert_eq!(refused(1..2, flags), EventDecodeError::Flags { flags });
    }
    assert_eq!(refused(2..18, 0), EventDecodeError::Trace);
    assert_eq!(refused(18..26, 0), EventDecodeError::Trace);
}
