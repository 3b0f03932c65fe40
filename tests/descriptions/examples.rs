//! Every example of the descriptions can be sent as it stands, and what is answered looks as
//! described. Those of answers and of messages to clients have the shape that they are said to
//! have.

use super::support::described::{asyncapi, check_message, openapi};
use super::support::http::Response;
use super::support::schema::members;
use super::support::watch::Watcher;
use super::world::{OPERATOR, World, text};
use super::{Call, calls};
use serde_json::{Value, json};

/// A request that is put together from examples.
struct Sample {
    what: String,
    target: String,
    fields: Vec<String>,
    body: String,
}

/// The value of a parameter as it stands in a query or in the head.
fn plain(example: &Value) -> String {
    match example {
        Value::String(text) => text.clone(),
        Value::Array(items) => plain(&items[0]),
        other => other.to_string(),
    }
}

fn encoded(text: &str) -> String {
    super::support::http::percent_encoded(text)
}

impl Sample {
    /// With the parameters that are needed.
    fn of(call: &Call) -> Self {
        let mut sample = Self {
            what: call.id().to_owned(),
            target: call.example_path(),
            fields: Vec::new(),
            body: String::new(),
        };
        for kind in ["query", "header"] {
            for parameter in call.parameters(kind) {
                // A schema can't say that one of two parameters is needed.
                let is_one_of_two = call.id() == "listEvents" && parameter["name"] == "entity";
                if parameter["required"] == true || is_one_of_two {
                    sample.add(parameter);
                }
            }
        }
        sample
    }

    fn add(&mut self, parameter: &Value) {
        let name = parameter["name"].as_str().expect("a name");
        let value = plain(&parameter["example"]);
        if parameter["in"] == "header" {
            self.fields.push(format!("{name}: {value}"));
        } else {
            let separator = if self.target.contains('?') { '&' } else { '?' };
            self.target = format!("{}{separator}{name}={}", self.target, encoded(&value));
        }
        self.what = format!("{} with {name}", self.what);
    }
}

/// The requests that the examples of a call make: one for each body, and one for each parameter
/// that may be absent.
fn samples(call: &Call) -> Vec<Sample> {
    let bodies = &call.operation["requestBody"]["content"]["application/json"];
    let bodies: Vec<(&str, String)> = match bodies.get("examples") {
        None => vec![("", String::new())],
        Some(examples) => {
            let examples = members(examples).iter();
            examples
                .map(|(name, it)| (name.as_str(), it["value"].to_string()))
                .collect()
        }
    };
    let with_bodies = bodies.iter().map(|(name, body)| Sample {
        body: body.clone(),
        what: format!("{} {name}", call.id()),
        ..Sample::of(call)
    });
    let mut samples: Vec<Sample> = with_bodies.collect();
    for kind in ["query", "header"] {
        let parameters = call.parameters(kind).into_iter();
        for parameter in parameters.filter(|it| it["required"] != true) {
            if call.id() == "listEvents" && parameter["name"] == "entity" {
                continue;
            }
            if parameter["name"] == "ticket" {
                // Each is good once; tests/tickets.rs has them.
                continue;
            }
            assert!(parameter.get("example").is_some(), "{parameter}");
            let body = bodies[0].1.clone();
            let mut sample = Sample {
                body,
                ..Sample::of(call)
            };
            if parameter["name"] == "since" || parameter["name"] == "Last-Event-ID" {
                // A cursor of a namespace covers no more than that.
                let query = call.parameters("query").into_iter();
                query
                    .filter(|it| it["name"] == "entity_id")
                    .for_each(|it| sample.add(it));
            }
            sample.add(parameter);
            samples.push(sample);
        }
    }
    samples
}

fn send(world: &World, call: &Call, sample: &Sample) -> Response {
    let is_of_operator = ["/api/namespaces", "/api/admin"]
        .iter()
        .any(|it| call.path.starts_with(it));
    let token = if is_of_operator {
        OPERATOR
    } else {
        &world.owner
    };
    let mut target = sample.target.clone();
    if call.id() == "revokeToken" {
        // Its id can't be known before it is made.
        let (id, _) = world.token(&json!({"scopes": ["read"]}));
        let (folder, _) = target.rsplit_once('/').expect("a path");
        target = format!("{folder}/{id}");
    }
    world.ask_with(
        token,
        (&call.method, &target),
        (&sample.fields, &sample.body),
    )
}

#[test]
fn every_example_can_be_sent_and_is_answered_as_described() {
    let mut world = World::start();
    let mut sent = 0;
    for call in calls() {
        for sample in samples(&call) {
            world.make_all();
            if call.id() == "defineConnector" {
                world.ask("DELETE", "/api/connectors/weather?namespace=dawn-coral", "");
            }
            let answer = send(&world, &call, &sample);
            let what = &sample.what;
            let described = call.operation["responses"].get(answer.status.to_string());
            assert!(described.is_some(), "{what}: {}", answer.status_line);
            // There is an entity already.
            let is_refused = call.method != "GET" && sample.fields == ["If-None-Match: *"];
            if is_refused {
                assert_eq!(answer.expect_error(409, what), "precondition_failed");
            } else {
                assert!(answer.status < 400, "{what}: {}", answer.text());
            }
            sent += 1;
        }
    }
    assert!(sent > 80, "{sent} examples");
}

#[test]
fn examples_of_answers_have_the_shape_that_is_described() {
    let check = |content: &Value, what: &str| {
        for media in members(content).values() {
            let alone = media.get("example").into_iter();
            let several = media.get("examples").map(members).into_iter().flatten();
            for example in alone.chain(several.map(|(_, it)| &it["value"])) {
                let checked = openapi().check(&media["schema"], example);
                assert_eq!(checked, Ok(()), "{what}");
            }
        }
    };
    for call in calls() {
        if let Some(body) = call.operation.get("requestBody") {
            check(&body["content"], call.id());
        }
        for (status, response) in members(&call.operation["responses"]) {
            let content = openapi().resolved(response).get("content");
            let is_success = status.starts_with('2') && !["202", "204"].contains(&&**status);
            assert!(!is_success || content.is_some(), "{} {status}", call.id());
            if let Some(content) = content {
                check(content, &format!("{} {status}", call.id()));
            }
            if let Some(content) = content.filter(|_| is_success) {
                let mut media = members(content).values();
                assert!(media.all(|it| it.get("example").is_some()), "{}", call.id());
            }
        }
    }
}

#[test]
fn examples_of_messages_have_the_shape_that_is_described() {
    for (name, message) in members(&asyncapi().0["components"]["messages"]) {
        let examples = message["examples"].as_array().expect("examples");
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            check_message(&example["payload"]);
        }
    }
}

/// The messages that an operation is about, by name.
fn names(messages: &Value) -> Vec<String> {
    let references = messages.as_array().expect("messages").iter();
    let last = |reference: &Value| {
        let reference = reference["$ref"].as_str().expect("a reference");
        reference.rsplit('/').next().expect("a name").to_owned()
    };
    references.map(last).collect()
}

#[test]
fn every_message_of_a_client_can_be_sent_and_is_answered_as_described() {
    let mut world = World::start();
    let operations = members(&asyncapi().0["operations"]).iter();
    let of_clients = operations.filter(|(_, operation)| operation["action"] == "receive");
    for (name, operation) in of_clients {
        assert_eq!(names(&operation["messages"]), [name.as_str()]);
        let replies = names(&operation["reply"]["messages"]);
        let message = &asyncapi().0["components"]["messages"][name];
        for example in message["examples"].as_array().expect("examples") {
            world.make_all();
            let mut watcher = Watcher::connect_with_token(&world.server, &world.owner);
            let mut sent = example["payload"].clone();
            match name.as_str() {
                "auth" => sent["token"] = json!(world.token(&json!({"scopes": ["read"]})).1),
                "unsubscribe" => watcher.subscribe(&text(&sent, "entity_id")),
                _ => {}
            }
            watcher.send(&sent.to_string());
            let answer = loop {
                let message = watcher.next();
                if message["id"] == sent["id"] {
                    break message;
                }
            };
            let kind = text(&answer, "type");
            assert!(
                kind != "error" && replies.contains(&kind),
                "{sent}: {answer}"
            );
        }
    }
}

#[test]
fn messages_of_the_server_are_those_of_its_operations() {
    let operations = &asyncapi().0["operations"];
    let mut described: Vec<String> = Vec::new();
    for (_, operation) in members(operations) {
        described.extend(names(&operation["messages"]));
        if let Some(reply) = operation.get("reply") {
            described.extend(names(&reply["messages"]));
        }
    }
    for name in members(&asyncapi().0["components"]["messages"]).keys() {
        assert!(described.contains(name), "no operation has `{name}`");
    }
}
