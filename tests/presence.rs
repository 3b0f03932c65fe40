//! Presence: entities that are bound to a connection go with it (API contract §14).
//!
//! Nothing here measures time. A *witness* is bound with the same `linger` as what is tested, and
//! the server lets go in the order in which that ends: when the witness is gone, whatever should
//! have gone is gone too, and what is there stays.

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::net::Shutdown;
use support::server::{Server, Setup};
use support::watch::Watcher;
use support::{batch, event, namespace, on_each, wait_for};
use tungstenite::Message;

/// Sends a request and returns its answer.
fn ask(watcher: &mut Watcher, request: &Value) -> Value {
    watcher.send(&request.to_string());
    watcher.next()
}

/// A request that binds an entity.
fn binding(entity: &str, linger: f64) -> Value {
    let event: Value = serde_json::from_str(&event(entity, r#"{"here":true}"#)).expect("JSON");
    json!({"type": "publish", "id": 1, "event": event, "bind": true, "linger": linger})
}

fn bind(watcher: &mut Watcher, entity: &str, linger: f64) {
    let result = ask(watcher, &binding(entity, linger));
    assert_eq!(result["type"], "result", "{result}");
    assert_eq!(result["bound"], true, "{result}");
}

/// A client with these entities bound to it.
fn client_with(server: &Server, entities: &[&str], linger: f64) -> Watcher {
    let mut watcher = Watcher::connect(server);
    for entity in entities {
        bind(&mut watcher, entity, linger);
    }
    watcher
}

fn is_there(server: &Server, entity: &str) -> bool {
    server.entity(entity).status == 200
}

fn wait_until_gone(server: &Server, entity: &str) {
    wait_for(entity, || (!is_there(server, entity)).then_some(()));
}

fn drop_socket(watcher: &Watcher) {
    let socket = watcher.socket.get_ref();
    socket.shutdown(Shutdown::Both).expect("a socket");
}

#[test]
fn a_bound_entity_goes_however_its_connection_ends() {
    on_each(|server| {
        let space = namespace("ends");
        let id = |name: &str| format!("{space}{name}/x");
        for name in ["close", "drop", "reset", "refused"] {
            server.publish(&id(name), r#"{"before":1}"#);
            let mut client = client_with(server, &[&id(name)], 0.0);
            // An event that says nothing of it leaves the binding.
            server.publish(&id(name), r#"{"later":1}"#);
            assert_eq!(server.entity(&id(name)).json()["version"], 3);
            match name {
                "close" => {
                    client.socket.close(None).expect("a close frame");
                    assert_eq!(client.close_code(), 1000);
                }
                "drop" => drop_socket(&client),
                "reset" => {
                    // Unread bytes make the kernel reset the connection.
                    client.send(&json!({"type": "ping", "id": 1}).to_string());
                    rustix::net::sockopt::set_socket_linger(
                        client.socket.get_ref(),
                        Some(std::time::Duration::ZERO),
                    )
                    .expect("a socket");
                    drop(client);
                }
                _ => {
                    let sent = client.socket.send(Message::binary(vec![1]));
                    sent.expect("the server takes it");
                    assert_eq!(client.close_code(), 1003);
                }
            }
            wait_until_gone(server, &id(name));
            let events = server
                .get(&format!("/api/events?entity={}", id(name)))
                .json();
            assert_eq!(events[0]["stream"], "flux.presence", "{events}");
            assert_eq!(events[0]["source"], "flux");
            assert_eq!(events[0]["payload"]["properties"]["__deleted__"], true);
        }
    });
}

#[test]
fn a_bind_counts_wherever_it_stands_in_the_message() {
    on_each(|server| {
        let space = namespace("order");
        for (number, bind) in [r#""bind":true,"linger":0"#, r#""linger":0,"bind":true"#]
            .into_iter()
            .enumerate()
        {
            let (before, behind) = (format!("{space}/a{number}"), format!("{space}/b{number}"));
            let mut client = Watcher::connect(server);
            let event = |entity: &str| event(entity, "{}");
            let (first, second) = (event(&before), event(&behind));
            client.send(&format!(
                r#"{{"type":"publish","id":1,{bind},"event":{first}}}"#
            ));
            assert_eq!(client.next()["bound"], true);
            client.send(&format!(
                r#"{{"type":"publish","id":1,"event":{second},{bind}}}"#
            ));
            assert_eq!(client.next()["bound"], true);
            drop(client);
            wait_until_gone(server, &before);
            wait_until_gone(server, &behind);
        }
    });
}

#[test]
fn watchers_see_that_it_has_gone() {
    on_each(|server| {
        let entity = format!("{}/x", namespace("watched"));
        let mut watcher = Watcher::connect(server);
        watcher.subscribe(&entity);
        drop(client_with(server, &[&entity], 0.0));
        assert_eq!(watcher.next()["property"], "here");
        let gone = watcher.next();
        assert_eq!(gone["type"], "entity_deleted", "{gone}");
    });
}

#[test]
fn what_is_bound_anew_in_time_stays_until_the_last_connection_ends() {
    on_each(|server| {
        let space = namespace("anew");
        let (entity, witness) = (format!("{space}/x"), format!("{space}/witness"));
        drop(client_with(server, &[&entity, &witness], 1.0));
        let second = client_with(server, &[&entity], 0.0);
        wait_until_gone(server, &witness);
        assert!(is_there(server, &entity), "it was bound anew");
        assert_eq!(server.entity(&entity).json()["version"], 2);
        drop(second);
        wait_until_gone(server, &entity);
    });
}

#[test]
fn the_last_bind_takes_an_entity_over() {
    on_each(|server| {
        let space = namespace("over");
        let (entity, witness) = (format!("{space}/x"), format!("{space}/witness"));
        let first = client_with(server, &[&entity, &witness], 0.0);
        let second = client_with(server, &[&entity], 0.0);
        drop(first);
        wait_until_gone(server, &witness);
        assert!(is_there(server, &entity), "another holds it");
        drop(second);
        wait_until_gone(server, &entity);
    });
}

#[test]
fn a_tombstone_ends_a_binding() {
    on_each(|server| {
        let space = namespace("tombstone");
        let (entity, witness) = (format!("{space}/x"), format!("{space}/witness"));
        for tombstone in [true, false] {
            let client = client_with(server, &[&entity, &witness], 0.0);
            if tombstone {
                server.publish(&entity, r#"{"__deleted__":true}"#);
            } else {
                let target = format!("/api/state/entities/{entity}");
                assert_eq!(server.request("DELETE", &target, "").status, 200);
            }
            server.publish(&entity, r#"{"n":1}"#);
            drop(client);
            wait_until_gone(server, &witness);
            assert!(is_there(server, &entity), "it was made anew without a bind");
        }
    });
}

#[test]
fn a_publish_that_is_refused_binds_nothing() {
    on_each(|server| {
        let space = namespace("refused");
        let (entity, witness) = (format!("{space}/x"), format!("{space}/witness"));
        server.publish(&entity, "{}");
        let mut client = client_with(server, &[&witness], 0.0);
        let mut request = binding(&entity, 0.0);
        request["event"]["expect"] = json!({"absent": true});
        let error = ask(&mut client, &request);
        assert_eq!(error["code"], "precondition_failed", "{error}");
        let with = |members: Value| {
            let mut request = binding(&entity, 0.0);
            for (name, value) in members.as_object().expect("members") {
                request[name] = value.clone();
            }
            request
        };
        let mut tombstone = binding(&entity, 0.0);
        tombstone["event"]["payload"]["properties"] = json!({"__deleted__": true});
        let mut inside = binding(&entity, 0.0);
        inside["event"]["bind"] = json!(true);
        for request in [
            with(json!({"bind": "yes"})),
            with(json!({"linger": -1})),
            with(json!({"linger": 300.001})),
            with(json!({"linger": "5"})),
            with(json!({"bind": false})),
            json!({"type": "publish_batch", "id": 1, "events": [], "bind": true}),
            json!({"type": "delete", "id": 1, "entity_id": entity, "bind": true}),
            tombstone,
            inside,
        ] {
            let error = ask(&mut client, &request);
            assert_eq!(error["type"], "error", "{request}: {error}");
            assert_eq!(error["code"], "invalid_field", "{request}: {error}");
        }
        drop(client);
        wait_until_gone(server, &witness);
        assert_eq!(server.entity(&entity).json()["version"], 1);
    });
}

#[test]
fn over_http_a_bind_is_refused_and_not_ignored() {
    on_each(|server| {
        let entity = format!("{}/x", namespace("http"));
        let bound = event(&entity, "{}").replacen('{', r#"{"bind":true,"#, 1);
        let lingers = event(&entity, "{}").replacen('{', r#"{"linger":5,"#, 1);
        for event in [&bound, &lingers] {
            let code = server.post("/api/events", event).expect_error(400, event);
            assert_eq!(code, "invalid_field");
        }
        let events = [bound, event(&entity, r#"{"n":1}"#)];
        let answer = server.post("/api/events/batch", &batch(&events)).json();
        assert_eq!(answer["failed"], 1, "{answer}");
        assert_eq!(answer["results"][0]["code"], "invalid_field");
        for members in [r#""bind":true"#, r#""linger":1"#] {
            let body = batch(&events[1..]).replacen('{', &format!("{{{members},"), 1);
            let code = server
                .post("/api/events/batch", &body)
                .expect_error(400, &body);
            assert_eq!(code, "invalid_field");
        }
        assert_eq!(server.entity(&entity).json()["version"], 1);
        let plain = event(&entity, "{}").replacen('{', r#"{"bind":false,"linger":null,"#, 1);
        assert_eq!(server.post("/api/events", &plain).status, 200);
    });
}

#[test]
fn a_repeated_publish_binds_to_the_connection_that_repeats_it() {
    on_each(|server| {
        let space = namespace("repeated");
        let (entity, witness) = (format!("{space}/x"), format!("{space}/witness"));
        let mut request = binding(&entity, 1.0);
        request["event"]["eventId"] = json!("mine");
        let mut first = client_with(server, &[&witness], 1.0);
        assert_eq!(ask(&mut first, &request)["bound"], true);
        let mut second = Watcher::connect(server);
        let result = ask(&mut second, &request);
        assert_eq!(result["duplicate"], true, "{result}");
        assert_eq!(result["bound"], true, "{result}");
        drop(first);
        wait_until_gone(server, &witness);
        assert!(is_there(server, &entity), "the second holds it");
        drop(second);
        wait_until_gone(server, &entity);
        let mut third = Watcher::connect(server);
        let result = ask(&mut third, &request);
        assert_eq!(result["duplicate"], true, "{result}");
        assert_eq!(result["bound"], false, "{result}");
        assert!(!is_there(server, &entity));
    });
}

#[test]
fn a_repetition_takes_nothing_from_who_bound_it_later() {
    on_each(|server| {
        let space = namespace("later");
        let (entity, witness) = (format!("{space}/x"), format!("{space}/witness"));
        let mut request = binding(&entity, 0.0);
        request["event"]["eventId"] = json!("mine");
        let mut first = client_with(server, &[&witness], 0.0);
        assert_eq!(ask(&mut first, &request)["bound"], true);
        let second = client_with(server, &[&entity], 0.0);
        assert_eq!(ask(&mut first, &request)["bound"], false);
        drop(first);
        wait_until_gone(server, &witness);
        assert!(is_there(server, &entity));
        drop(second);
        wait_until_gone(server, &entity);
    });
}

#[test]
fn what_was_bound_when_the_server_was_killed_goes_after_the_start() {
    for durability in ["sync", "async"] {
        let dir = tempfile::tempdir().expect("a directory");
        let setup = |shards| Setup::new(dir.path(), shards).durability(durability);
        let ids: Vec<String> = (0..8).map(|number| format!("n{number}/x")).collect();
        let server = setup(2).start();
        server.publish("free/x", "{}");
        let mut client = Watcher::connect(&server);
        for id in &ids {
            bind(&mut client, id, 1.0);
        }
        bind(&mut client, "long/x", 300.0);
        bind(&mut client, "deleted/x", 0.0);
        server.publish("deleted/x", r#"{"__deleted__":true}"#);
        server.publish("deleted/x", "{}");
        server.kill();

        let server = setup(3).start();
        let mut again = client_with(&server, &[&ids[0]], 0.0);
        for id in &ids[1..] {
            wait_until_gone(&server, id);
            let events = server.get(&format!("/api/events?entity={id}")).json();
            assert_eq!(events[0]["stream"], "flux.presence", "{events}");
        }
        for id in [&*ids[0], "free/x", "long/x", "deleted/x"] {
            assert!(is_there(&server, id), "{id}");
        }
        bind(&mut again, "long/x", 0.0);
        server.stop();
        // It ends with the server, or after the next start.
        let server = setup(1).start();
        for id in [&*ids[0], "long/x"] {
            wait_until_gone(&server, id);
        }
        assert!(is_there(&server, "free/x"));
        server.stop();
    }
}

/// Raises the limit of open files of this process and of the servers that it starts.
fn allow_files(count: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(count, |maximum| maximum.min(count));
    if current.is_some_and(|current| current < wanted) {
        let current = Some(wanted);
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("up to the hard limit");
    }
}

#[test]
fn a_thousand_connections_that_drop_at_once_leave_nothing() {
    const CLIENTS: usize = 1_000;
    allow_files(3 * CLIENTS as u64);
    for shards in [1, 2] {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Setup::new(dir.path(), shards).start();
        server.publish("room/door", "{}");
        let mut clients: Vec<Watcher> = (0..CLIENTS).map(|_| Watcher::connect(&server)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let entity = format!("room{}/agent-{number}", number % 4);
            client.send(&binding(&entity, 0.5).to_string());
        }
        for client in &mut clients {
            assert_eq!(client.next()["bound"], true);
        }
        assert_eq!(server.entities().len(), CLIENTS + 1);
        // One of them comes back in time.
        let stays = clients.pop().expect("the last one");
        clients.iter().for_each(drop_socket);
        let left = wait_for("all others to go", || {
            let entities = server.entities();
            (entities.len() == 2).then_some(entities)
        });
        assert_eq!(left[0]["id"], "room/door");
        assert_eq!(left[1]["id"], format!("room3/agent-{}", CLIENTS - 1));
        drop(stays);
        wait_until_gone(&server, &format!("room3/agent-{}", CLIENTS - 1));
        server.stop();
    }
}

#[test]
fn a_connection_binds_a_bounded_number() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Setup::new(dir.path(), 1).start();
    let mut client = Watcher::connect(&server);
    let id = |number: usize| format!("many/{number}");
    for number in 0..1024 {
        client.send(&binding(&id(number), 0.0).to_string());
    }
    for _ in 0..1024 {
        assert_eq!(client.next()["bound"], true);
    }
    let error = ask(&mut client, &binding(&id(1024), 0.0));
    assert_eq!(error["code"], "too_many_bindings", "{error}");
    assert!(!is_there(&server, &id(1024)));
    bind(&mut client, &id(0), 0.0);
    server.publish(&id(0), r#"{"__deleted__":true}"#);
    bind(&mut client, &id(1024), 0.0);
    drop(client);
    wait_for("all to go", || server.entities().is_empty().then_some(()));
    server.stop();
}
