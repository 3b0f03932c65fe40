//! Targets and query parameters of requests, times, and the bodies of the calls that are no events.
//!
//! Nothing here panics whatever it is given. A link to the next page is read back to the place that
//! it names.

use flux::api::history::EventsQuery;
use flux::api::namespaces::{self, NamespacesQuery};
use flux::api::query::{self, ListQuery, ReadQuery};
use flux::api::{config, connectors, delete, time};
use flux::model::Cursor;
use flux::wire::http1::{percent_decode, percent_encode, query_pairs};

/// Texts of queries and bodies.
pub const DICTIONARY: &[&[u8]] = &[
    b"fields=a,b",
    b"namespace=",
    b"prefix=",
    b"limit=10000",
    b"after=",
    b"before=",
    b"at=2026-01-01T00:00:00Z",
    b"since=",
    b"until=1700000000000",
    b"entity=",
    b"purge=true",
    b"metrics=false",
    b"%",
    b"%2F",
    b"%00",
    b"%ff",
    b"+",
    b"&",
    b"=",
    b",",
    b"-00:00",
    b"+23:59",
    b".999999999",
    b"{\"prefix\":\"a/\"}",
    b"{\"entity_ids\":[\"a\",\"b\"]}",
    b"{\"rate_limit_enabled\":true}",
    b"{\"name\":\"abc\"}",
];

/// Runs the target.
pub fn target(data: &[u8]) {
    bodies(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut encoded = String::new();
    percent_encode(text, &mut encoded);
    assert_eq!(percent_decode(&encoded).as_deref(), Ok(text));
    let _is_target = percent_decode(text);
    query_pairs(text).for_each(drop);
    if let Some(time) = time::parse(text) {
        let shown = time.rfc3339().to_string();
        assert_eq!(
            time::parse(&shown),
            Some(time),
            "{text} is shown as {shown}"
        );
    }
    if let Ok(cursor) = Cursor::parse(text) {
        assert_eq!(cursor.encode(), text);
    }
    queries(Some(text));
}

fn queries(text: Option<&str>) {
    drop((ReadQuery::parse(text), NamespacesQuery::parse(text)));
    drop((namespaces::parse_purge(text), query::parse_websocket(text)));
    drop((connectors::parse_namespace(text), query::check(text)));
    drop(EventsQuery::parse(text));
    if let Ok(list) = ListQuery::parse(text) {
        const LAST_ID: &str = "a/b ä+&=%";
        let link = list.next_link(LAST_ID);
        let next = link
            .split_once('?')
            .and_then(|(_, rest)| rest.split_once('>'));
        let (next, _) = next.expect("a link holds a query");
        let again = ListQuery::parse(Some(next)).expect("a link that we give is one that we take");
        assert_eq!(again.next_link(LAST_ID), link);
    }
}

fn bodies(data: &[u8]) {
    drop((config::parse(data), delete::parse(data, 10)));
    drop(namespaces::parse_registration(data));
    drop(connectors::parse_token(data));
    drop(connectors::definition::parse_definition(data, ""));
}
