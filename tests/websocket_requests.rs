//! Requests over the WebSocket: publish, batch, get and delete, each answered by its id
//! (API contract §13).

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::http::request;
use support::server::Setup;
use support::watch::Watcher;
use support::{event, namespace, on_each};
use tempfile::TempDir;

/// Sends a request and returns the next message.
fn ask(watcher: &mut Watcher, request: &Value) -> Value {
    watcher.send(&request.to_string());
    watcher.next()
}

fn publish(id: impl Into<Value>, entity: &str, properties: &Value) -> Value {
    let event = event(entity, &properties.to_string());
    let event: Value = serde_json::from_str(&event).expect("JSON");
    json!({"type": "publish", "id": id.into(), "event": event})
}

#[test]
fn each_request_is_answered_with_the_body_of_its_rest_counterpart() {
    on_each(|server| {
        let space = namespace("requests");
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            // Ids without a namespace of their own land on different shards.
            let entity = format!("{space}{name}/x");
            let mut watcher = Watcher::connect(server);
            let mut request = publish(number, &entity, &json!({"n": 1.5}));
            request["event"]["eventId"] = json!("mine");
            let result = ask(&mut watcher, &request);
            assert_eq!(result["type"], "result", "{result}");
            assert_eq!(result["id"], number);
            assert_eq!(result["eventId"], "mine");
            assert!(result["stream"].is_string(), "{result}");

            let target = format!("/api/state/entities/{entity}");
            let rest = server.get(&target);
            let get = json!({"type": "get", "id": "g", "entity_id": entity});
            let result = ask(&mut watcher, &get);
            assert_eq!(result["type"], "result", "{result}");
            assert_eq!(result["entity"], rest.json());
            assert_eq!(result["etag"].as_str(), rest.header("etag"));
            assert!(result["cursor"].is_string(), "{result}");

            let events = [&request["event"], &json!({}), &request["event"]];
            let batch = json!({"type": "publish_batch", "id": 2, "events": events});
            let result = ask(&mut watcher, &batch);
            assert_eq!(result["failed"], 1, "{result}");
            assert_eq!(result["successful"], 2);
            assert_eq!(result["results"][1]["code"], "missing_field");

            let delete = json!({"type": "delete", "id": 3, "entity_id": entity});
            let result = ask(&mut watcher, &delete);
            assert_eq!(result["entity_id"], entity.as_str(), "{result}");
            assert!(result["eventId"].is_string(), "{result}");
            assert_eq!(server.get(&target).status, 404);
            for request in [get, delete] {
                let error = ask(&mut watcher, &request);
                assert_eq!(error["type"], "error", "{error}");
                assert_eq!(error["id"], request["id"]);
                assert_eq!(error["code"], server.get(&target).json()["code"]);
            }
        }
    });
}

#[test]
fn a_request_that_is_refused_does_nothing_and_the_connection_stays() {
    on_each(|server| {
        let entity = format!("{}/x", namespace("refused"));
        let mut watcher = Watcher::connect(server);
        let mut bad = publish(1, &entity, &json!({}));
        bad["event"]["stream"] = json!("NO");
        let mut bound = publish(1, &entity, &json!({}));
        bound["bind"] = json!("yes");
        let mut no_id = publish(1, &entity, &json!({}));
        no_id.as_object_mut().expect("as sent").remove("id");
        for (request, code) in [
            (bad, "invalid_field"),
            (bound, "invalid_field"),
            (no_id, "missing_id"),
            (
                json!({"type": "publish", "id": 1, "event": 7}),
                "invalid_body",
            ),
            (json!({"type": "publish", "id": 1}), "missing_field"),
            (json!({"type": "publish_batch", "id": 1}), "invalid_body"),
            (json!({"type": "get", "id": 1}), "missing_field"),
            (json!({"type": "delete", "entity_id": entity}), "missing_id"),
            (
                json!({"type": "delete", "id": 1, "entity_id": "flux-core/directory"}),
                "reserved_namespace",
            ),
        ] {
            let error = ask(&mut watcher, &request);
            assert_eq!(error["type"], "error", "{request}: {error}");
            assert_eq!(error["code"], code, "{request}: {error}");
        }
        let target = format!("/api/state/entities/{entity}");
        assert_eq!(server.get(&target).status, 404);
    });
}

#[test]
fn a_delete_has_conditions_as_its_rest_counterpart_has() {
    on_each(|server| {
        let entity = format!("{}/x", namespace("expect"));
        server.publish(&entity, r#"{"n":1.0}"#);
        let mut watcher = Watcher::connect(server);
        let etag = server.entity(&entity).header("etag").unwrap().to_owned();
        let delete = |expect: &Value| json!({"type": "delete", "id": 1, "entity_id": entity, "expect": expect});
        for expect in [
            json!({"version": 2}),
            json!({"absent": true}),
            json!({"etag": "\"0-0\""}),
            json!({"properties": {"n": 2}}),
            json!({"filter": "gt(n,1)"}),
        ] {
            let error = ask(&mut watcher, &delete(&expect));
            assert_eq!(error["code"], "precondition_failed", "{expect}: {error}");
            assert_eq!(error["entity"], server.entity(&entity).json(), "{expect}");
        }
        for (expect, code) in [
            (json!({"versions": 1}), "invalid_field"),
            (json!({"version": "1"}), "invalid_field"),
            (json!({"present": false}), "invalid_field"),
            (json!({"filter": "gt(n"}), "invalid_filter"),
            (json!(7), "invalid_field"),
        ] {
            let error = ask(&mut watcher, &delete(&expect));
            assert_eq!(error["code"], code, "{expect}: {error}");
        }
        let mut misplaced = publish(1, &entity, &json!({}));
        misplaced["expect"] = json!({"absent": true});
        assert_eq!(ask(&mut watcher, &misplaced)["code"], "invalid_field");
        assert_eq!(server.entity(&entity).json()["version"], 1);

        let expect = json!({"version": 1, "etag": etag, "properties": {"n": 1}});
        let result = ask(&mut watcher, &delete(&expect));
        assert_eq!(result["entity_id"], entity.as_str(), "{result}");
        let error = ask(&mut watcher, &delete(&json!({"present": true})));
        assert_eq!(error["code"], "precondition_failed", "{error}");
        assert_eq!(error["entity"], Value::Null, "{error}");
        for expect in [json!({"absent": true}), json!(null)] {
            let error = ask(&mut watcher, &delete(&expect));
            assert_eq!(error["code"], "entity_not_found", "{error}");
        }
    });
}

#[test]
fn answers_come_in_the_order_in_which_requests_took_effect_within_a_namespace() {
    const ROUNDS: usize = 400;
    on_each(|server| {
        let space = namespace("order");
        let entities: Vec<String> = (0..4).map(|n| format!("{space}{n}/x")).collect();
        let mut watcher = Watcher::connect(server);
        // Everything is in flight at once: what a get shows is what was published before it.
        for round in 0..ROUNDS {
            let entity = &entities[round % entities.len()];
            watcher.send(&publish(2 * round, entity, &json!({"n": round})).to_string());
            let get = json!({"type": "get", "id": 2 * round + 1, "entity_id": entity});
            watcher.send(&get.to_string());
            if round % 10 == 0 {
                let events: Vec<Value> = entities
                    .iter()
                    .map(|entity| publish(0, entity, &json!({"b": round}))["event"].clone())
                    .collect();
                let batch = json!({"type": "publish_batch", "id": "batch", "events": events});
                watcher.send(&batch.to_string());
            }
        }
        let mut last: BTreeMap<usize, u64> = BTreeMap::new();
        let mut answers = 0;
        while answers < 2 * ROUNDS {
            let result = watcher.next();
            assert_eq!(result["type"], "result", "{result}");
            let Some(id) = result["id"].as_u64() else {
                assert_eq!(result["failed"], 0, "{result}");
                continue;
            };
            answers += 1;
            let round = usize::try_from(id).expect("as sent") / 2;
            let of_namespace = last.insert(round % entities.len(), id);
            assert!(of_namespace < Some(id), "{of_namespace:?} before {id}");
            if id % 2 == 1 {
                assert_eq!(result["entity"]["properties"]["n"], round, "{result}");
            }
        }
    });
}

#[test]
fn a_client_that_reads_late_is_not_read_further_and_gets_every_answer() {
    const REQUESTS: usize = 20_000;
    on_each(|server| {
        let entity = format!("{}/x", namespace("late"));
        let mut watcher = Watcher::connect(server);
        ask(
            &mut watcher,
            &publish(0, &entity, &json!({"text": "x".repeat(1000)})),
        );
        let mut writer = watcher.socket.get_ref().try_clone().expect("a socket");
        let request = json!({"type": "get", "id": 1, "entity_id": entity}).to_string();
        let mut frame = vec![
            0x81,
            0x80 | u8::try_from(request.len()).expect("as sent"),
            0,
            0,
            0,
            0,
        ];
        frame.extend_from_slice(request.as_bytes());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..REQUESTS {
                    std::io::Write::write_all(&mut writer, &frame).expect("the server reads on");
                }
            });
            for _ in 0..REQUESTS {
                assert_eq!(watcher.next()["type"], "result");
            }
        });
    });
}

#[test]
fn in_auth_mode_the_token_of_the_handshake_decides() {
    let data = TempDir::new().expect("a temporary directory");
    let server = Setup::new(data.path(), 2).arg("--auth").arg("true").start();
    let body = r#"{"name":"house"}"#;
    let registered = server.post("/api/namespaces", body).json();
    let token = registered["token"].as_str().expect("a token");
    let mut watcher = Watcher::connect(&server);
    let error = ask(&mut watcher, &publish(1, "house/x", &json!({"n": 1})));
    assert_eq!(error["code"], "token_missing", "{error}");
    let mut watcher = Watcher::connect_with_token(&server, token);
    let result = ask(&mut watcher, &publish(1, "house/x", &json!({"n": 1})));
    assert_eq!(result["type"], "result", "{result}");
    let error = ask(&mut watcher, &publish(1, "garden/x", &json!({"n": 1})));
    assert_eq!(error["code"], "not_namespace_owner", "{error}");
    let handshake = [
        "Authorization: Bearer unknown",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let mut connection = server.connect();
    connection.send(request("GET", "/api/ws", &handshake, ""));
    connection.response().expect_error(401, "an unknown token");
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    for seed in 0..3 {
        let data = TempDir::new().expect("a temporary directory");
        let setup = Setup::new(data.path(), 2);
        let server = setup.start();
        let mut watcher = Watcher::connect(&server);
        let mut answered = Vec::new();
        for round in 0..500 {
            let entity = format!("k{}/e{round}", round % 3);
            watcher.send(&publish(round, &entity, &json!({"n": round})).to_string());
        }
        for _ in 0..50 + 100 * seed {
            let result = watcher.next();
            assert_eq!(result["type"], "result", "{result}");
            answered.push(result["id"].as_u64().expect("as sent"));
        }
        server.kill();
        let server = setup.start();
        for round in answered {
            let target = format!("/api/state/entities/k{}/e{round}", round % 3);
            assert_eq!(
                server.get(&target).json()["properties"]["n"],
                round,
                "{target}"
            );
        }
    }
}

#[test]
fn a_server_that_stops_answers_what_it_took_on_before_it_closes() {
    let data = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(data.path(), 2);
    let mut server = setup.start();
    let mut watcher = Watcher::connect(&server);
    for round in 0..200 {
        let entity = format!("k{}/e{round}", round % 3);
        watcher.send(&publish(round, &entity, &json!({"n": round})).to_string());
    }
    watcher.next();
    server.signal("TERM");
    let (answers, code) = watcher.rest();
    // What has arrived and is looked at only now is not taken on, and that is said.
    let is_refused = |answer: &Value| answer["code"] == "shutting_down";
    let (refused, results): (Vec<_>, Vec<_>) = answers.iter().partition(|it| is_refused(it));
    for result in &results {
        assert_eq!(result["type"], "result", "{result}");
    }
    let last = results.iter().map(|it| it["id"].as_u64()).max();
    let first_refused = refused.iter().map(|it| it["id"].as_u64()).min();
    assert!(
        first_refused.is_none() || last < first_refused,
        "in their order"
    );
    assert_eq!(code, 1001);
    assert!(server.wait().success());
    let server = setup.start();
    let count = (0..200)
        .filter(|round| {
            let target = format!("/api/state/entities/k{}/e{round}", round % 3);
            server.get(&target).status == 200
        })
        .count();
    assert_eq!(
        count,
        1 + results.len(),
        "nothing was taken on without an answer"
    );
}
