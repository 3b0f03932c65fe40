//! The comparison with the server, while nothing happens.

use super::client::Client;
use super::held::{Entities, Entity, namespace_of};
use super::kinds::{FILTERS, Mode, NAMESPACES, SINGLES};
use super::publisher::Publishers;
use super::say;
use super::support::http::percent_encoded;
use super::support::server::Server;
use super::support::{now, wait_for, wait_within};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long clients may take to come to rest.
const REST: Duration = Duration::from_secs(60);

/// See the module. It remembers how far the history was compared.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    /// By namespace, the last sequence that was compared.
    compared: BTreeMap<String, u64>,
    checks: u64,
    events: usize,
    retries: usize,
    counts: [u64; 4],
}

/// What the server holds.
struct World {
    all: Entities,
    /// By filter, the ids that match.
    matching: Vec<BTreeSet<String>>,
}

impl Quiet {
    /// Waits until every client has its snapshot, or its first cursor.
    pub(crate) fn wait_until_all_have_begun(clients: &[Arc<Client>]) {
        wait_for("all clients to begin", || {
            let mut clients = clients.iter();
            let has_begun = clients.all(|client| client.with(|held| held.is_current));
            has_begun.then_some(())
        });
    }

    /// Waits until every client has come to rest, and compares.
    pub(crate) fn check(
        &mut self,
        server: &Server,
        clients: &[Arc<Client>],
        publishers: &Publishers,
    ) {
        let begin = now();
        wait_for("everything to expire", || {
            let is_expiring = |entity: &Value| !entity["expiresAt"].is_null();
            (!server.entities().iter().any(is_expiring)).then_some(())
        });
        let world = World::of(server);
        let rows = self.new_rows(server);
        self.events += rows.values().map(Vec::len).sum::<usize>();
        check_acknowledged(&rows, publishers);
        for client in clients {
            let differs = || difference(client, &world, &rows);
            let mut last = None;
            let rests = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                wait_within(REST, "a client to come to rest", || {
                    last = differs();
                    last.is_none().then_some(())
                });
            }));
            if rests.is_err() {
                let (connections, messages) = client.with(|held| (held.connections, held.messages));
                panic!(
                    "{:?} after {connections} connections and {messages} messages: {}",
                    client.kind,
                    last.unwrap_or_default()
                );
            }
        }
        // And it stays so.
        for client in clients {
            // A connection that ends meanwhile, as one that waited too long does, begins anew.
            wait_within(
                REST,
                "a client to be told again that it is current",
                || match difference(client, &world, &rows) {
                    None => Some(()),
                    Some(why) if why == NOT_CURRENT => None,
                    Some(why) => panic!("{:?} changed while nothing happened: {why}", client.kind),
                },
            );
            client.with(|held| {
                held.events.clear();
                // What the server keeps itself is in no log.
                held.seen.retain(|(id, _)| !id.starts_with("flux-core/"));
                for (id, sequence) in held.seen.drain(..) {
                    check_seen(&rows, (&id, sequence), &self.compared);
                }
                let counts = [held.connections, held.messages, held.repeats, held.resyncs];
                let sums = self.counts.iter_mut().zip(counts);
                sums.for_each(|(sum, count)| *sum += count);
                [held.connections, held.messages, held.repeats, held.resyncs] = [0; 4];
            });
        }
        for (namespace, rows) in rows {
            if let Some(last) = rows.last() {
                self.compared.insert(namespace, sequence_of(last));
            }
        }
        self.checks += 1;
        self.retries = publishers.retries();
        if now() - begin > REST / 4 {
            say(&format!("it took {:?} to come to rest", now() - begin));
        }
    }

    pub(crate) fn summary(&self) -> String {
        let [connections, messages, repeats, resyncs] = self.counts;
        format!(
            "{} comparisons, {} events, {} retries; {connections} subscriptions, {messages} messages, \
             {repeats} repeats, {resyncs} resyncs",
            self.checks, self.events, self.retries
        )
    }

    /// By namespace, the events since the last comparison, from the oldest.
    fn new_rows(&self, server: &Server) -> BTreeMap<String, Vec<Value>> {
        let namespaces = NAMESPACES.iter().map(|name| (*name, "namespace"));
        let names = namespaces.chain(SINGLES.iter().map(|name| (*name, "entity")));
        names
            .map(|(name, by)| {
                let after = self.compared.get(name).copied().unwrap_or_default();
                (
                    name.to_owned(),
                    rows_after(server, &format!("{by}={name}"), after),
                )
            })
            .collect()
    }
}

fn sequence_of(row: &Value) -> u64 {
    row["sequence"].as_u64().expect("a sequence")
}

fn rows_after(server: &Server, query: &str, after: u64) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut target = format!("/api/events?{query}&limit=500");
    loop {
        let page = server.get(&target);
        assert_eq!(page.status, 200, "{target}: {}", page.text());
        let mut all = page.json();
        let page_rows = all.as_array_mut().expect("rows");
        let count = page_rows.len();
        let new = page_rows
            .drain(..)
            .take_while(|row| sequence_of(row) > after);
        let before = rows.len();
        rows.extend(new);
        let (true, Some(link)) = (rows.len() == before + count, page.header("link")) else {
            break;
        };
        let next = link.split(['<', '>']).nth(1).expect("a link");
        target = String::from(next);
    }
    rows.reverse();
    rows
}

impl World {
    fn of(server: &Server) -> Self {
        let all = server.entities().into_iter().map(|entity| {
            let id = entity["id"].as_str().expect("an id").to_owned();
            let held = Entity {
                properties: entity["properties"]
                    .as_object()
                    .expect("properties")
                    .clone(),
                version: entity["version"].as_u64(),
            };
            (id, held)
        });
        let all = all.collect();
        let matching = FILTERS.iter().map(|filter| {
            let filter = percent_encoded(filter);
            let list = server
                .get(&format!("/api/state/entities?filter={filter}"))
                .json();
            let list = list.as_array().expect("a list").iter();
            list.filter_map(|entity| Some(entity["id"].as_str()?.to_owned()))
                .collect()
        });
        Self {
            all,
            matching: matching.collect(),
        }
    }
}

/// What is wrong of a client that is not told that it has everything.
const NOT_CURRENT: &str = "it is not told that it is current";

/// What a client has wrong, if anything.
fn difference(
    client: &Client,
    world: &World,
    rows: &BTreeMap<String, Vec<Value>>,
) -> Option<String> {
    let kind = &client.kind;
    client.with(|held| {
        if let Some(wrong) = &held.wrong {
            return Some(wrong.clone());
        }
        if !held.is_current {
            return Some(String::from(NOT_CURRENT));
        }
        if kind.mode == Mode::Event {
            return rows.iter().find_map(|(namespace, rows)| {
                let expected = rows.iter().filter(|row| kind.selects(row));
                let expected: Vec<(u64, String)> = expected
                    .map(|row| {
                        let id = row["eventId"].as_str().unwrap_or_default();
                        (sequence_of(row), id.to_owned())
                    })
                    .collect();
                let had = held.events.get(namespace);
                let had = had.map_or(&[][..], Vec::as_slice);
                (had != expected).then(|| first_difference(namespace, had, &expected))
            });
        }
        let matching = |id: &String| kind.filter.is_none_or(|it| world.matching[it].contains(id));
        let mut expected = kind.comparable(&world.all);
        expected.retain(|id, _| matching(id));
        let holds = kind.comparable(&held.entities);
        if holds == expected {
            return None;
        }
        let mut ids = holds.keys().chain(expected.keys());
        let id = ids.find(|id| holds.get(*id) != expected.get(*id))?;
        let short = |entity: Option<&Entity>| format!("{:.300}", format!("{entity:?}"));
        Some(format!(
            "{id}: holds {} instead of {}",
            short(holds.get(id)),
            short(expected.get(id))
        ))
    })
}

fn first_difference(namespace: &str, had: &[(u64, String)], expected: &[(u64, String)]) -> String {
    let at = had
        .iter()
        .zip(expected)
        .position(|(had, wanted)| had != wanted);
    let at = at.unwrap_or_else(|| had.len().min(expected.len()));
    format!(
        "{namespace}: {} events instead of {}; number {at} is {:?} instead of {:?}",
        had.len(),
        expected.len(),
        had.get(at),
        expected.get(at)
    )
}

/// Each event that was acknowledged is there once, where its answer said.
fn check_acknowledged(rows: &BTreeMap<String, Vec<Value>>, publishers: &Publishers) {
    let mut places: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for row in rows.values().flatten() {
        let id = row["eventId"].as_str().expect("an id");
        places.entry(id).or_default().push(sequence_of(row));
    }
    for event in publishers.take_acknowledged() {
        let found = places.get(event.event_id.as_str());
        assert_eq!(
            found,
            Some(&vec![event.sequence]),
            "{event:?} was acknowledged"
        );
    }
}

/// What a client was shown before a break is in the history.
fn check_seen(
    rows: &BTreeMap<String, Vec<Value>>,
    (id, sequence): (&str, u64),
    compared: &BTreeMap<String, u64>,
) {
    let namespace = namespace_of(id);
    let is_older = compared
        .get(namespace)
        .is_some_and(|last| sequence <= *last);
    let is_there = |rows: &Vec<Value>| {
        let mut rows = rows.iter();
        rows.any(|row| sequence_of(row) == sequence && row["payload"]["entity_id"] == id)
    };
    assert!(
        is_older || rows.get(namespace).is_some_and(is_there),
        "{id} with sequence {sequence} was seen and is not there"
    );
}
