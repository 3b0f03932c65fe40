//! `openapi.json` and `asyncapi.json` describe what the program has: its routes, its methods, and
//! its error codes with their statuses. What needs a running server is in `tests/descriptions.rs`.

use super::error::ApiError;
use super::route::{ConnectorRoute, ControlRoute, Route, TokenRoute, route};
use crate::pages::PAGES;
use crate::wire::http1::Method;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Gives each route its method and path. The compiler asks for a row for a new route, and the tests
/// for a description of each row.
macro_rules! routes {
    ($($route:pat => $method:literal $path:literal,)*) => {
        fn named(route: &Route<'_>) -> (&'static str, &'static str) {
            match route { $($route => ($method, $path),)* }
        }

        const ROUTES: &[(&str, &str)] = &[$(($method, $path),)*];
    };
}

routes! {
    Route::Publish => "post" "/api/events",
    Route::Events => "get" "/api/events",
    Route::PublishBatch => "post" "/api/events/batch",
    Route::List => "get" "/api/state/entities",
    Route::Read(_) => "get" "/api/state/entities/{id}",
    Route::Delete(_) => "delete" "/api/state/entities/{id}",
    Route::ReadById => "get" "/api/state/entity",
    Route::DeleteById => "delete" "/api/state/entity",
    Route::DeleteBatch => "post" "/api/state/entities/delete",
    Route::WebSocket => "get" "/api/ws",
    Route::Stream => "get" "/api/stream",
    Route::Changes => "get" "/api/changes",
    Route::Mcp => "post" "/mcp",
    Route::Health => "get" "/health",
    Route::Ready => "get" "/ready",
    Route::Metrics => "get" "/metrics",
    Route::Control(ControlRoute::Register) => "post" "/api/namespaces",
    Route::Control(ControlRoute::List) => "get" "/api/namespaces",
    Route::Control(ControlRoute::Show(_)) => "get" "/api/namespaces/{name}",
    Route::Control(ControlRoute::Delete(_)) => "delete" "/api/namespaces/{name}",
    Route::Control(ControlRoute::SetVisibility(_)) => "patch" "/api/namespaces/{name}",
    Route::Control(ControlRoute::ReplaceToken(_)) => "post" "/api/namespaces/{name}/token",
    Route::Control(ControlRoute::Tokens(TokenRoute::Make(_)))
        => "post" "/api/namespaces/{name}/tokens",
    Route::Control(ControlRoute::Tokens(TokenRoute::List(_)))
        => "get" "/api/namespaces/{name}/tokens",
    Route::Control(ControlRoute::Tokens(TokenRoute::Revoke(..)))
        => "delete" "/api/namespaces/{name}/tokens/{id}",
    Route::Control(ControlRoute::Ticket) => "post" "/api/tickets",
    Route::Control(ControlRoute::Config) => "get" "/api/admin/config",
    Route::Control(ControlRoute::Configure) => "put" "/api/admin/config",
    Route::Control(ControlRoute::Connectors(ConnectorRoute::List)) => "get" "/api/connectors",
    Route::Control(ControlRoute::Connectors(ConnectorRoute::Define)) => "post" "/api/connectors",
    Route::Control(ControlRoute::Connectors(ConnectorRoute::Show(_)))
        => "get" "/api/connectors/{name}",
    Route::Control(ControlRoute::Connectors(ConnectorRoute::Remove(_)))
        => "delete" "/api/connectors/{name}",
    Route::Control(ControlRoute::Connectors(ConnectorRoute::StoreToken(_)))
        => "post" "/api/connectors/{name}/token",
    Route::Control(ControlRoute::Connectors(ConnectorRoute::RemoveToken(_)))
        => "delete" "/api/connectors/{name}/token",
    // Each has a path of its own, which its file says.
    Route::Page(_) => "get" "pages",
    // Not described: it is there on every path.
    Route::Options(_) => "options" "*",
}

const METHODS: [(&str, Method); 7] = [
    ("get", Method::Get),
    ("head", Method::Head),
    ("post", Method::Post),
    ("put", Method::Put),
    ("patch", Method::Patch),
    ("delete", Method::Delete),
    ("options", Method::Options),
];

fn openapi() -> Value {
    serde_json::from_str(include_str!("../pages/openapi.json")).expect("openapi.json is JSON")
}

fn asyncapi() -> Value {
    serde_json::from_str(include_str!("../pages/asyncapi.json")).expect("asyncapi.json is JSON")
}

fn members(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

/// The methods that `openapi.json` describes, by path.
fn described() -> BTreeMap<String, BTreeSet<String>> {
    let document = openapi();
    let paths = members(&document["paths"]).iter();
    paths
        .map(|(path, methods)| (path.clone(), members(methods).keys().cloned().collect()))
        .collect()
}

#[test]
fn every_route_is_described_and_every_description_is_of_a_route() {
    let described: BTreeSet<(String, String)> = described()
        .into_iter()
        .flat_map(|(path, methods)| methods.into_iter().map(move |it| (it, path.clone())))
        .collect();
    let is_call = |(_, path): &&(&str, &str)| path.starts_with('/');
    // What pages load is a part of them.
    let pages = PAGES.iter().filter(|page| !page.is_asset);
    let pages: Vec<(&str, &str)> = pages.map(|page| ("get", page.path)).collect();
    let routes = ROUTES.iter().filter(is_call).chain(&pages);
    let routes = routes.map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(routes.collect::<BTreeSet<_>>(), described);
    for (method, path) in described {
        let (_, parsed) = METHODS
            .iter()
            .find(|(name, _)| *name == method)
            .expect("a method");
        let target = path.replace("{id}", "a%2Fb").replace("{name}", "abc");
        let found = route(*parsed, &target).expect("a described call has a route");
        let found = match found {
            Route::Page(page) => ("get", page.path),
            route => named(&route),
        };
        assert_eq!(found, (&*method, &*path));
    }
}

#[test]
fn a_path_takes_the_methods_that_are_described_and_says_so() {
    let described = described();
    for (path, methods) in &described {
        let mut methods = methods.clone();
        if path == "/api/state/entities/delete" {
            // An entity may have that name.
            methods.extend(described["/api/state/entities/{id}"].clone());
        }
        if methods.contains("get") {
            methods.insert("head".into());
        }
        methods.insert("options".into());
        let target = path.replace("{id}", "x").replace("{name}", "abc");
        for (name, method) in METHODS {
            let allow = match route(method, &target) {
                Ok(Route::Options(allow)) => allow,
                Err(ApiError::Method { allow }) => {
                    assert!(!methods.contains(name), "{name} {path}");
                    allow
                }
                other => {
                    assert!(methods.contains(name), "{name} {path}: {other:?}");
                    continue;
                }
            };
            let allowed = allow.split(", ").map(str::to_ascii_lowercase);
            assert_eq!(allowed.collect::<BTreeSet<_>>(), methods, "{name} {path}");
        }
    }
}

/// The codes of the program, each with the statuses that it has, read from the two tables in each
/// file of errors: nothing else lists them.
fn codes() -> BTreeMap<String, BTreeSet<u16>> {
    let sources = [
        include_str!("error.rs"),
        include_str!("../wire/http1/error.rs"),
        include_str!("../wire/ws/handshake.rs"),
    ];
    let mut codes: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for source in sources {
        let statuses = arms(source, "status");
        for (variant, code) in arms(source, "code") {
            let Some(code) = code.strip_prefix('"').and_then(|it| it.strip_suffix('"')) else {
                // The error within says it.
                assert!(code.contains(".code()"), "{variant}: {code}");
                continue;
            };
            let status = statuses.get(&variant).or_else(|| statuses.get("_"));
            let status = status.unwrap_or_else(|| panic!("{variant} has no status"));
            let status = status.parse().expect("a status");
            codes.entry(code.to_owned()).or_default().insert(status);
        }
    }
    codes
}

/// The arms of the `match` in a function, by variant: `Self::A { .. } | Self::B => value,`.
fn arms(source: &str, function: &str) -> BTreeMap<String, String> {
    let declared = source
        .split_once(&format!("pub fn {function}("))
        .expect("a function");
    let body = declared.1.split_once("match self {").expect("a match").1;
    let body = body.split_once("\n        }\n").expect("its end").0;
    let mut arms = BTreeMap::new();
    // A variant without a value of its own has that of the next one that has one.
    let order: Vec<&str> = body.split("Self::").skip(1).collect();
    let mut value = String::new();
    for arm in order.iter().rev() {
        let name_len = arm
            .find(|c: char| !c.is_alphanumeric())
            .expect("more than a name");
        if let Some((_, after)) = arm.split_once("=>") {
            let after = after.trim().trim_start_matches('{').trim();
            let end = after.find([',', '\n', '}']).unwrap_or(after.len());
            value = after[..end].trim().to_owned();
        }
        arms.insert(arm[..name_len].to_owned(), value.clone());
    }
    if let Some((_, rest)) = body.rsplit_once("_ => ") {
        arms.insert("_".into(), rest.trim().trim_end_matches(',').to_owned());
    }
    arms
}

/// The codes that a schema of `ErrorCode` explains.
fn explained(document: &Value) -> BTreeSet<String> {
    let codes = document["components"]["schemas"]["ErrorCode"]["oneOf"].as_array();
    let codes = codes.expect("a list of codes").iter();
    codes
        .map(|code| {
            assert!(code["description"].is_string(), "{code} is not explained");
            code["const"].as_str().expect("a code").to_owned()
        })
        .collect()
}

/// The codes in the responses of `openapi.json`, each with the statuses that it stands at.
fn in_responses() -> BTreeMap<String, BTreeSet<u16>> {
    let document = openapi();
    let mut found: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    let mut add = |status: u16, response: &Value| {
        let schema = &response["content"]["application/json"]["schema"];
        let codes = schema["properties"]["code"]["enum"].as_array();
        for code in codes.into_iter().flatten() {
            let code = code.as_str().expect("a code").to_owned();
            found.entry(code).or_default().insert(status);
        }
    };
    for methods in members(&document["paths"]).values() {
        for operation in members(methods).values() {
            for (status, response) in members(&operation["responses"]) {
                let named = response["$ref"]
                    .as_str()
                    .map(|it| it.trim_start_matches('#'));
                let response = named.map_or(Some(response), |it| document.pointer(it));
                add(
                    status.parse().expect("a status"),
                    response.expect("a response"),
                );
            }
        }
    }
    // No call carries it: what does is not described as a call.
    add(
        405,
        &document["components"]["responses"]["MethodNotAllowed"],
    );
    found
}

#[test]
fn every_code_is_described_with_its_status_and_no_other_is() {
    let mut codes = codes();
    assert!(codes.len() > 70, "the tables are read: {codes:?}");
    assert_eq!(codes["history_removed"], BTreeSet::from([410]));
    assert_eq!(codes["too_many_connections"], BTreeSet::from([429, 503]));
    let (http, live) = (explained(&openapi()), explained(&asyncapi()));
    let found = in_responses();
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), http);
    for (code, statuses) in &found {
        let known = codes
            .get(code)
            .unwrap_or_else(|| panic!("{code} is unknown"));
        assert_eq!(statuses, known, "{code}");
    }
    // A stream's client is told by an event what a WebSocket's is told by a close frame.
    codes.insert("slow_reader".into(), BTreeSet::new());
    let all: BTreeSet<String> = http.union(&live).cloned().collect();
    assert_eq!(codes.into_keys().collect::<BTreeSet<_>>(), all);
}

#[test]
fn what_both_descriptions_have_is_the_same() {
    let (openapi, asyncapi) = (openapi(), asyncapi());
    let shared = &openapi["components"]["schemas"];
    for (name, schema) in members(&asyncapi["components"]["schemas"]) {
        let same = shared.get(name).filter(|_| name != "ErrorCode");
        assert!(same.is_none_or(|same| same == schema), "{name}");
    }
}
