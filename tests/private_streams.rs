//! Private namespaces in what is pushed and polled, and what becomes of it when a token dies (API
//! contract §13, §16).

mod support;

use serde_json::{Value, json};
use support::events::Events;
use support::http::{Connection, percent_encoded, request};
use support::tenants::{ADMIN, Tenants, ask, auth};
use support::watch::Watcher;
use support::{event, wait_for};

fn start(private: &[&str]) -> Tenants {
    Tenants::start_with_private(2, private)
}

/// Publishes with the token of the id's namespace. Returns the cursor of the event.
fn publish(tenants: &Tenants, id: &str, n: u64) -> String {
    let (namespace, _) = id.split_once('/').expect("a namespace");
    let body = event(id, &format!(r#"{{"n":{n}}}"#));
    let token = &tenants.first[namespace];
    let answer = tenants
        .server
        .with_token(("POST", "/api/events"), token, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["cursor"]
        .as_str()
        .expect("a cursor")
        .to_owned()
}

fn reader(tenants: &Tenants, namespace: &str) -> support::tenants::Made {
    tenants.make(namespace, &json!({"scopes": ["read"]}))
}

fn connect(tenants: &Tenants, token: &str) -> Watcher {
    if token.is_empty() {
        Watcher::connect(&tenants.server)
    } else {
        Watcher::connect_with_token(&tenants.server, token)
    }
}

/// Subscribes in mode `entity`. The code of the refusal, if it is one.
fn subscribe(watcher: &mut Watcher, pattern: &str, more: &Value) -> String {
    let mut message = json!({"type": "subscribe", "id": pattern, "entity_id": pattern});
    let members = message.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    ask(watcher, &message)
}

/// The ids of the changes up to that of `last`, in mode `entity`, without the server's own.
fn ids_until(watcher: &mut Watcher, last: &str) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let message = watcher.next();
        if let Some(id) = message["entity_id"].as_str()
            && id != "flux-core/directory"
        {
            ids.push(id.to_owned());
            if id == last {
                return ids;
            }
        }
    }
}

fn stream(tenants: &Tenants, query: &str, token: &str) -> Events {
    let field = format!("Authorization: Bearer {token}");
    let fields = if token.is_empty() {
        vec![]
    } else {
        vec![field.as_str()]
    };
    Events::open(
        tenants.server.port,
        &format!("/api/stream?{query}"),
        &fields,
    )
}

fn poll(tenants: &Tenants, query: &str, token: &str) -> Connection {
    let field = format!("Authorization: Bearer {token}");
    let fields = if token.is_empty() {
        vec![]
    } else {
        vec![field.as_str()]
    };
    let mut connection = tenants.server.connect();
    let target = format!("/api/changes?{query}");
    connection.send(request("GET", &target, &fields, ""));
    connection
}

#[test]
fn what_names_nothing_but_a_private_namespace_is_refused_to_who_may_not_read_it() {
    let tenants = start(&["house"]);
    let of = |body: Value| tenants.make("house", &body).token;
    let narrow = of(json!({"scopes": ["read"], "prefix": "house/a/"}));
    let table = [
        ("none", String::new(), (401, "token_missing")),
        (
            "foreign",
            tenants.first["garden"].clone(),
            (403, "not_readable"),
        ),
        (
            "write",
            of(json!({"scopes": ["write", "delete", "manage"]})),
            (403, "not_readable"),
        ),
        ("narrow", narrow.clone(), (200, "")),
        ("read", reader(&tenants, "house").token, (200, "")),
        ("first", tenants.first["house"].clone(), (200, "")),
        ("operator", ADMIN.to_owned(), (200, "")),
    ];
    for (kind, token, (status, code)) in &table {
        for pattern in ["house/*", "house/a/1", "house/a*"] {
            let story = format!("{kind} {pattern}");
            let pattern_text = percent_encoded(pattern);
            let mut watcher = connect(&tenants, token);
            for more in [
                json!({}),
                json!({"mode": "event"}),
                json!({"snapshot": true}),
            ] {
                let found = subscribe(&mut watcher, pattern, &more);
                assert_eq!(found, *code, "{story} {more}");
                if code.is_empty() {
                    break;
                }
            }
            let query = format!("entity_id={pattern_text}");
            let mut events = stream(&tenants, &query, token);
            assert_eq!(events.head.status, *status, "{story}");
            if code.is_empty() {
                assert_eq!(events.next().kind, "ack", "{story}");
            }
            let answer = poll(&tenants, &query, token).response();
            assert_eq!(answer.status, *status, "{story}");
            if !code.is_empty() {
                assert_eq!(answer.expect_error(*status, &story), *code, "{story}");
            }
        }
        for wide in ["*", "h*", "house*", "garden/*"] {
            let mut watcher = connect(&tenants, token);
            assert_eq!(
                subscribe(&mut watcher, wide, &json!({})),
                "",
                "{kind} {wide}"
            );
        }
    }
    let mut watcher = connect(&tenants, &narrow);
    let refused = subscribe(&mut watcher, "house/b/*", &json!({}));
    assert_eq!(refused, "not_readable", "outside its prefix");
    let several = "entity_id=house/*&entity_id=garden/*";
    assert_eq!(stream(&tenants, several, "").head.status, 200);
}

#[test]
fn wide_subscriptions_polls_snapshots_and_resumes_go_on_without_what_is_private() {
    let tenants = start(&["house"]);
    let before = poll(&tenants, "", "").response().json()["cursor"].clone();
    let before = before.as_str().expect("a cursor").to_owned();
    for (number, id) in ["garden/a", "house/a", "house/z", "shed/a"]
        .iter()
        .enumerate()
    {
        publish(&tenants, id, number as u64);
    }
    let public = ["garden/a", "shed/a"];
    let all = ["garden/a", "house/a", "house/z", "shed/a"];
    for (token, expected) in [
        ("", &public[..]),
        (&tenants.first["garden"], &public[..]),
        (&tenants.first["house"], &all[..]),
        (ADMIN, &all[..]),
    ] {
        for mode in ["entity", "event"] {
            let query = format!("since={before}&mode={mode}");
            let answer = poll(&tenants, &query, token).response().json();
            let changes = answer["changes"].as_array().expect("changes").clone();
            let id = |change: &Value| match mode {
                "event" => change["payload"]["entity_id"].clone(),
                _ => change["entity_id"].clone(),
            };
            let mut ids: Vec<String> = changes
                .iter()
                .map(|change| id(change).as_str().expect("an id").to_owned())
                .filter(|id| id != "flux-core/directory")
                .collect();
            ids.sort();
            assert_eq!(ids, expected, "{mode} {token}");
            let mut events = stream(&tenants, &query, token);
            let mut ids = Vec::new();
            loop {
                let event = events.next();
                match event.kind.as_str() {
                    "caught_up" => break,
                    "entity" | "event" => ids.push(id(&event.data)),
                    _ => {}
                }
            }
            let mut ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
            ids.retain(|id| *id != "flux-core/directory");
            ids.sort_unstable();
            assert_eq!(ids, expected, "{mode} {token}");
        }
        let mut watcher = connect(&tenants, token);
        let snapshot = json!({"snapshot": true, "mode": "entity"});
        assert_eq!(subscribe(&mut watcher, "*", &snapshot), "");
        let mut ids = Vec::new();
        loop {
            let message = watcher.next();
            if message["type"] == "snapshot_end" {
                break;
            }
            let entities = message["entities"].as_array().into_iter().flatten();
            ids.extend(entities.filter_map(|it| Some(it["id"].as_str()?.to_owned())));
        }
        ids.retain(|id| id != "flux-core/directory");
        ids.sort();
        assert_eq!(ids, expected, "snapshot {token}");
    }
}

#[test]
fn live_changes_come_to_who_may_read_them_in_every_mode() {
    let tenants = start(&["house"]);
    let narrow = json!({"scopes": ["read"], "prefix": "house/in/"});
    let narrow = tenants.make("house", &narrow).token;
    for mode in ["property", "entity", "event"] {
        for (token, expected) in [
            ("", &["shed/end"][..]),
            (&narrow, &["house/in/a", "shed/end"][..]),
            (
                &tenants.first["house"],
                &["house/a", "house/in/a", "shed/end"][..],
            ),
        ] {
            let mut watcher = connect(&tenants, token);
            let more = json!({"mode": mode});
            assert_eq!(subscribe(&mut watcher, "*", &more), "");
            for id in ["house/a", "house/in/a", "shed/end"] {
                publish(&tenants, id, 1);
            }
            let mut ids = Vec::new();
            while ids.last().map(String::as_str) != Some("shed/end") {
                let message = watcher.next();
                let id = match mode {
                    "event" => &message["payload"]["entity_id"],
                    _ => &message["entity_id"],
                };
                if let Some(id) = id.as_str().filter(|id| *id != "flux-core/directory") {
                    ids.push(id.to_owned());
                }
            }
            ids.sort();
            assert_eq!(ids, expected, "{mode} {token}");
        }
    }
}

#[test]
fn a_token_that_is_added_brings_what_comes_from_then_on() {
    let tenants = start(&["house"]);
    let mut watcher = connect(&tenants, "");
    assert_eq!(subscribe(&mut watcher, "*", &json!({"mode": "entity"})), "");
    publish(&tenants, "house/before", 1);
    assert_eq!(auth(&mut watcher, &reader(&tenants, "house").token), "");
    publish(&tenants, "house/after", 1);
    publish(&tenants, "garden/end", 1);
    let mut ids = ids_until(&mut watcher, "garden/end");
    if ids.len() == 1 {
        ids.extend(ids_until(&mut watcher, "house/after"));
    }
    ids.sort();
    assert_eq!(ids, ["garden/end", "house/after"]);
    assert_eq!(subscribe(&mut watcher, "house/*", &json!({})), "");
}

/// What ends access to `house`.
#[derive(Debug, Clone, Copy)]
enum End {
    Revoked,
    Expired,
    Replaced,
    Deleted,
    /// It becomes private, and the token is of another namespace.
    Private,
}

/// Ends the access of a token to `house`. Whoever waits for an expiry waits for that here.
fn end(tenants: &Tenants, how: End, made: &support::tenants::Made) {
    match how {
        End::Revoked => tenants.revoke("house", &made.id),
        End::Expired => wait_for("the token to expire", || {
            let call = ("GET", "/health");
            let status = tenants.server.with_token(call, &made.token, "").status;
            (status == 401).then_some(())
        }),
        End::Replaced => {
            let call = ("POST", "/api/namespaces/house/token");
            assert_eq!(tenants.server.with_token(call, ADMIN, "").status, 200);
        }
        End::Private => {
            let call = ("PATCH", "/api/namespaces/house");
            let body = r#"{"read":"private"}"#;
            assert_eq!(tenants.server.with_token(call, ADMIN, body).status, 200);
        }
        End::Deleted => {
            let call = ("DELETE", "/api/namespaces/house");
            assert_eq!(tenants.server.with_token(call, ADMIN, "").status, 204);
        }
    }
}

#[test]
fn what_a_dead_token_alone_allowed_ends_and_the_rest_goes_on_without() {
    for how in [
        End::Revoked,
        End::Expired,
        End::Replaced,
        End::Deleted,
        End::Private,
    ] {
        let (private, namespace, status) = match how {
            End::Private => (&[][..], "garden", 403),
            _ => (&["house"][..], "house", 401),
        };
        let tenants = start(private);
        let seconds = if matches!(how, End::Expired) {
            json!(2)
        } else {
            Value::Null
        };
        let mut made = tenants.make(
            namespace,
            &json!({"scopes": ["read"], "expires_in_seconds": seconds}),
        );
        if matches!(how, End::Replaced) {
            made.token.clone_from(&tenants.first["house"]);
        }
        let token = made.token.clone();
        let story = format!("{how:?}");
        let mut watcher = connect(&tenants, &token);
        assert_eq!(
            subscribe(&mut watcher, "house/*", &json!({})),
            "",
            "{story}"
        );
        assert_eq!(
            subscribe(&mut watcher, "*", &json!({"mode": "entity"})),
            "",
            "{story}"
        );
        let mut narrow = stream(&tenants, "entity_id=house/*", &token);
        let mut wide = stream(&tenants, "entity_id=house/*&entity_id=garden/*", &token);
        assert_eq!(narrow.next().kind, "ack", "{story}");
        assert_eq!(wide.next().kind, "ack", "{story}");
        let cursor = poll(&tenants, "entity_id=house/*", &token)
            .response()
            .json();
        let since = cursor["cursor"].as_str().expect("a cursor").to_owned();
        let mut waiting = poll(
            &tenants,
            &format!("entity_id=house/*&wait=60&since={since}"),
            &token,
        );
        waiting.expect_nothing_yet();
        end(&tenants, how, &made);
        // The subscription that names nothing else says so.
        let ended = loop {
            let message = watcher.next();
            if message["type"] == "error" {
                break message;
            }
        };
        assert_eq!(ended["code"], "access_ended", "{story}: {ended}");
        assert_eq!(ended["entity_id"], "house/*", "{story}: {ended}");
        let last = loop {
            let event = narrow.next();
            if event.kind == "error" {
                break event;
            }
        };
        assert_eq!(last.data["code"], "access_ended", "{story}");
        assert_eq!(narrow.try_next(), None, "{story}");
        let answer = waiting.response();
        assert_eq!(answer.status, status, "{story}: {}", answer.text());
        // The wide ones go on without it.
        if !matches!(how, End::Deleted | End::Replaced) {
            publish(&tenants, "house/secret", 7);
        }
        publish(&tenants, "garden/end", 7);
        assert_eq!(
            ids_until(&mut watcher, "garden/end"),
            ["garden/end"],
            "{story}"
        );
        let next = loop {
            let event = wide.next();
            if event.kind == "entity" {
                break event;
            }
        };
        assert_eq!(next.data["entity_id"], "garden/end", "{story}");
    }
}
