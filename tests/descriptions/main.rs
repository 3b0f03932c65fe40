//! `openapi.json` and `asyncapi.json` describe the server that runs: its methods, its parameters,
//! each error where it can come (`codes`), and examples that can be sent as they stand
//! (`examples`). They are served, and so are the pages that are made of them (`pages`).
//!
//! The clients of all integration tests hold every answer and message against the descriptions
//! too (`support/described.rs`). `src/api/description_test.rs` compares routes and codes without a
//! server.

mod codes;
mod examples;
mod pages;
#[path = "../support/mod.rs"]
mod support;
mod world;

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use support::described::openapi;
use support::files;
use support::http::Response;
use support::schema::members;
use world::World;

/// A described call.
struct Call {
    method: String,
    path: &'static str,
    operation: &'static Value,
}

impl Call {
    fn id(&self) -> &'static str {
        self.operation["operationId"]
            .as_str()
            .expect("an operationId")
    }

    /// Its parameters of a kind: `path`, `query` or `header`.
    fn parameters(&self, kind: &str) -> Vec<&'static Value> {
        let parameters = self.operation["parameters"].as_array();
        let parameters = parameters.into_iter().flatten();
        let parameters = parameters.map(|parameter| openapi().resolved(parameter));
        parameters
            .filter(|parameter| parameter["in"] == kind)
            .collect()
    }

    /// Its path with the examples of what stands in it.
    fn example_path(&self) -> String {
        let mut path = self.path.to_owned();
        for parameter in self.parameters("path") {
            let name = parameter["name"].as_str().expect("a name");
            let example = parameter["example"].as_str().expect("an example");
            path = path.replace(&format!("{{{name}}}"), example);
        }
        path
    }
}

/// Every call that `openapi.json` describes.
fn calls() -> Vec<Call> {
    let paths = members(&openapi().0["paths"]).iter();
    let calls = paths.flat_map(|(path, methods)| {
        members(methods)
            .iter()
            .map(move |(method, operation)| Call {
                method: method.to_ascii_uppercase(),
                path,
                operation,
            })
    });
    calls.collect()
}

#[test]
fn each_call_has_a_name_of_its_own_and_says_what_it_does() {
    let calls = calls();
    let ids: BTreeSet<&str> = calls.iter().map(Call::id).collect();
    assert_eq!(ids.len(), calls.len(), "names that are not taken twice");
    let tags = openapi().0["tags"].as_array().expect("tags");
    for call in &calls {
        let summary = call.operation["summary"].as_str().expect("a summary");
        assert!(summary.ends_with('.') && summary.len() < 80, "{summary}");
        let tag = &call.operation["tags"][0];
        assert!(tags.iter().any(|it| it["name"] == *tag), "{tag}");
        for kind in ["path", "query", "header"] {
            for parameter in call.parameters(kind) {
                assert!(parameter["description"].is_string(), "{parameter}");
                assert!(parameter["schema"].is_object(), "{parameter}");
            }
        }
    }
}

#[test]
fn options_and_405_name_the_methods_that_are_described() {
    let world = World::start();
    for call in calls() {
        let target = call.example_path();
        let of_path = calls().into_iter().filter(|other| other.path == call.path);
        let mut expected: BTreeSet<String> = of_path.map(|call| call.method).collect();
        if call.path == "/api/state/entities/delete" {
            expected.extend(["GET".into(), "DELETE".into()]);
        }
        if expected.contains("GET") {
            expected.insert("HEAD".into());
        }
        expected.insert("OPTIONS".into());
        let allowed = |answer: &Response| -> BTreeSet<String> {
            let allow = answer.header("allow").unwrap_or_default();
            allow.split(", ").map(str::to_owned).collect()
        };
        let answer = world.ask("OPTIONS", &target, "");
        assert_eq!(
            (answer.status / 100, allowed(&answer)),
            (2, expected.clone()),
            "{target}"
        );
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"] {
            if !expected.contains(method) {
                let answer = world.ask(method, &target, "");
                assert_eq!(
                    (answer.status, allowed(&answer)),
                    (405, expected.clone()),
                    "{method} {target}"
                );
            }
        }
    }
}

/// The names of query parameters in the program: what a parser takes, and the table of names that
/// other calls refuse.
fn parameter_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in files(&sources, ".rs") {
        let text = std::fs::read_to_string(&path).expect("a source");
        let once = text.split("once(\"").skip(1);
        let taken = once
            .filter_map(|rest| rest.split_once('"'))
            .map(|(name, _)| name);
        names.extend(taken.map(str::to_owned));
    }
    let query = include_str!("../../src/api/query.rs");
    let table = query.split_once("const PARAMETERS").expect("the table").1;
    let table = table.split_once("];").expect("its end").0;
    let listed = table.split('"').skip(1).step_by(2);
    names.extend(listed.map(str::to_owned));
    names
}

/// Whether a call takes a parameter: given twice (a name that may be repeated, so often that no
/// call takes all of it) it is refused for that, and given once it is not refused as misplaced.
fn is_taken(world: &World, call: &Call, name: &str) -> bool {
    let query = call.parameters("query").into_iter();
    let mut needed = query.filter(|it| it["required"] == true && it["name"] != name);
    let needed = needed.next().map_or(String::new(), |it| {
        let text = |member: &str| it[member].as_str().expect("a string");
        format!("{}={}&", text("name"), text("example"))
    });
    let refusal = |query: &str| {
        let target = format!("{}?{needed}{query}", call.example_path());
        let answer = world.ask(&call.method, &target, "");
        let is_refused = answer.status == 400 && answer.text().contains(&format!("`{name}`"));
        if is_refused {
            answer.text().to_owned()
        } else {
            String::new()
        }
    };
    let repeated = refusal(&vec![format!("{name}="); 65].join("&"));
    repeated.contains("given more than") && !refusal(&format!("{name}=1")).contains("not in a poll")
}

#[test]
fn each_call_takes_the_query_parameters_that_are_described() {
    let world = World::start();
    let mut names = parameter_names();
    assert!(names.len() > 20, "the parsers are read: {names:?}");
    for call in calls() {
        let query = call.parameters("query");
        names.extend(
            query
                .iter()
                .map(|it| it["name"].as_str().expect("a name").to_owned()),
        );
    }
    for call in calls() {
        let query = call.parameters("query");
        let described = query
            .iter()
            .map(|it| it["name"].as_str().expect("a name").to_owned());
        let described: BTreeSet<String> = described.collect();
        let taken = names.iter().filter(|name| is_taken(&world, &call, name));
        assert_eq!(
            taken.cloned().collect::<BTreeSet<_>>(),
            described,
            "{}",
            call.id()
        );
    }
}
