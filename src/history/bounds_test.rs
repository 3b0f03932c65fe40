//! What one request may cost, against a log without end: each bound is met at its number and told
//! with it.

use super::support::Endless;
use super::{EntityAt, Generation, HistoryError, Sight, entity_at, events, list_at};
use crate::api::history::EventsQuery;
use crate::api::query::ListQuery;
use crate::limits::{
    EVENTS_PAGE_BYTES_MAX, HISTORY_ENTITY_EVENTS_MAX, HISTORY_EVENT_BYTES_MAX,
    HISTORY_LIST_EVENTS_MAX, HISTORY_STATE_BYTES_MAX,
};
use crate::model::Timestamp;
use flux_storage::Sequence;

const NOW: Timestamp = Timestamp::from_micros(0);

fn generations(log: Endless) -> Vec<Generation<Endless>> {
    vec![Generation::new([Some(log)])]
}

fn bound<T>(outcome: Result<T, HistoryError>) -> (u64, &'static str) {
    match outcome {
        Err(HistoryError::TooLong { limit, unit, .. }) => (limit, unit),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is within bounds"),
    }
}

#[test]
fn an_entity_is_told_up_to_a_number_of_events() {
    let asked = EntityAt {
        id: "a/1",
        at: NOW,
        fields: None,
        start: None,
    };
    let most = HISTORY_ENTITY_EVENTS_MAX as u64;
    let found = entity_at(&generations(Endless::new(&["a/1"], 0, most)), asked);
    let json = String::from_utf8(found.unwrap().unwrap()).unwrap();
    assert!(json.ends_with(&format!("\"version\":{most}}}")), "{json}");
    let found = entity_at(&generations(Endless::new(&["a/1"], 0, most + 1)), asked);
    assert_eq!(bound(found), (most, "events"));
}

#[test]
fn an_entity_is_told_up_to_a_number_of_bytes() {
    let asked = EntityAt {
        id: "a/1",
        at: NOW,
        fields: None,
        start: None,
    };
    let found = entity_at(&generations(Endless::new(&["a/1"], 1 << 20, 65)), asked);
    let most = HISTORY_EVENT_BYTES_MAX as u64;
    assert_eq!(bound(found), (most, "bytes of events"));
}

#[test]
fn a_listing_reads_up_to_a_number_of_events() {
    let most = HISTORY_LIST_EVENTS_MAX;
    let query = ListQuery::default();
    let log = Endless::new(&["a/1"], 0, most + 1);
    assert_eq!(
        bound(list_at(&generations(log), (&query, &Sight::all()), NOW)),
        (most, "events")
    );
    // Too large for a buffer, and too long to be read without one.
    let query = ListQuery {
        namespace: Some("a".into()),
        ..query
    };
    let log = Endless::new(&["a/1"], 1 << 20, most);
    assert_eq!(
        bound(list_at(&generations(log), (&query, &Sight::all()), NOW)),
        (most, "events")
    );
}

#[test]
fn a_namespace_too_large_for_a_pile_is_read_in_order() {
    let query = ListQuery {
        namespace: Some("a".into()),
        ..ListQuery::default()
    };
    let log = Endless::new(&["a/1", "b/1"], 1 << 20, 140);
    let page = list_at(&generations(log), (&query, &Sight::all()), NOW).unwrap();
    let json = String::from_utf8(page.json).unwrap();
    assert!(json.ends_with("\"version\":70}]"), "{}", json.len());
}

#[test]
fn a_listing_holds_up_to_a_number_of_bytes() {
    let ids: Vec<String> = (0..20).map(|number| format!("a/{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let log = Endless::new(&ids, 16 << 20, 20);
    let found = list_at(
        &generations(log),
        (&ListQuery::default(), &Sight::all()),
        NOW,
    );
    let most = HISTORY_STATE_BYTES_MAX as u64;
    assert_eq!(bound(found), (most, "bytes of entities"));
}

#[test]
fn a_query_works_in_the_memory_that_there_is() {
    let asked = EntityAt {
        id: "a/1",
        at: NOW,
        fields: None,
        start: None,
    };
    let list = |namespace: Option<&str>, memory_bytes| {
        let ids: Vec<String> = (0..20).map(|number| format!("a/{number}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut log = Endless::new(&ids, 1 << 20, 60);
        log.memory_bytes = memory_bytes;
        let query = ListQuery {
            namespace: namespace.map(Box::from),
            limit: Some(1),
            ..ListQuery::default()
        };
        list_at(&generations(log), (&query, &Sight::all()), NOW)
    };
    let out_of_memory = Some("there is no memory for it".to_owned());
    let is_refused = |refused: Option<HistoryError>| refused.map(|error| error.to_string());
    for memory_bytes in [4 << 20, 100 << 20] {
        let mut log = Endless::new(&["a/1"], 1 << 20, 20);
        log.memory_bytes = memory_bytes;
        let entity = entity_at(&generations(log), asked);
        let expected = out_of_memory.clone().filter(|_| memory_bytes < 20 << 20);
        assert_eq!(is_refused(entity.err()), expected, "{memory_bytes}");
        for namespace in [None, Some("a")] {
            let listed = list(namespace, memory_bytes);
            assert_eq!(is_refused(listed.err()), expected, "{memory_bytes}");
        }
    }
    // Not enough for the events of the namespace beside each other, but for its entities.
    assert!(list(Some("a"), 60 << 20).is_ok());
}

fn query(entity: &str) -> EventsQuery {
    EventsQuery {
        entity: Some(entity.into()),
        namespace: None,
        since: None,
        until: None,
        before: None,
        limit: 500,
    }
}

#[test]
fn a_page_of_large_events_ends_early_and_leads_on() {
    let check = |bytes: usize, expected: usize, next: u64| {
        let log = Endless::new(&["a/1"], bytes, 20);
        let page = events(&generations(log), &query("a/1"), &Sight::all()).unwrap();
        assert_eq!(page.next, Some(Sequence::new(next)), "{bytes}");
        let shown: serde_json::Value = serde_json::from_slice(&page.json).unwrap();
        assert_eq!(shown.as_array().map(Vec::len), Some(expected), "{bytes}");
        let fits = page.json.len() <= EVENTS_PAGE_BYTES_MAX;
        assert!(fits || expected == 1, "{bytes}: {}", page.json.len());
    };
    check(EVENTS_PAGE_BYTES_MAX / 4, 3, 18);
    check(EVENTS_PAGE_BYTES_MAX, 1, 20);
    check(EVENTS_PAGE_BYTES_MAX * 4, 1, 20);
}

#[test]
fn ids_that_share_a_key_do_not_keep_a_page_from_ending() {
    let most = HISTORY_ENTITY_EVENTS_MAX as u64;
    let log = Endless::new(&["a/1"], 0, most + 7);
    // The log answers any key, as if the ids collided.
    let page = events(&generations(log), &query("a/2"), &Sight::all()).unwrap();
    assert_eq!(page.json, b"[]");
    assert_eq!(page.next, Some(Sequence::new(8)));
}

#[test]
fn a_cursor_beyond_the_end_of_the_log_is_told_of() {
    let page = |before: u64| {
        let before = Some(Sequence::new(before));
        let query = EventsQuery {
            before,
            ..query("a/1")
        };
        events(
            &generations(Endless::new(&["a/1"], 0, 20)),
            &query,
            &Sight::all(),
        )
    };
    assert!(page(20).is_ok());
    let beyond = page(21);
    assert!(matches!(beyond, Err(HistoryError::BeyondEnd)), "{beyond:?}");
}
