//! Real pages in a real Chromium: an `EventSource` that goes on over restarts of the server by
//! itself, a page on a loopback origin that works, one of another origin and one by a rebound name
//! that get nothing (API contract §13, §16). And the TypeScript client as a page loads it.

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::agent::history;
use support::chromium::{Chromium, FOREIGN};
use support::npm_tool;
use support::server::{Server, Setup};
use support::source::{Answer, Source};
use tempfile::TempDir;

/// Keeps the events of a namespace, and the state of all entities, as a page would.
const FOLLOWER: &str = r#"<!doctype html><title>follower</title><script>
const server = "SERVER";
const rows = [], held = {};
let errors = 0, acks = 0;
const events = new EventSource(server + "/api/stream?entity_id=yard/*&mode=event");
events.addEventListener("ack", () => acks++);
events.addEventListener("event", (e) => { const row = JSON.parse(e.data); rows.push([row.sequence, row.eventId]); });
events.onerror = () => errors++;
const state = new EventSource(server + "/api/stream?entity_id=yard/*&snapshot=true");
state.addEventListener("snapshot", (e) => { for (const entity of JSON.parse(e.data).entities) held[entity.id] = entity.properties; });
state.addEventListener("entity", (e) => {
  const change = JSON.parse(e.data);
  const properties = change.whole ? {} : held[change.entity_id] ?? {};
  Object.assign(properties, change.properties);
  for (const name of change.removed ?? []) delete properties[name];
  held[change.entity_id] = properties;
});
state.addEventListener("entity_deleted", (e) => delete held[JSON.parse(e.data).entity_id]);
state.addEventListener("resync", () => { for (const id in held) delete held[id]; });
</script>"#;

/// Tries all that a page can try, and keeps how each ended.
const INTRUDER: &str = r#"<!doctype html><title>intruder</title><script>
const server = "SERVER", outcome = {};
const event = JSON.stringify({ stream: "s", source: "page", payload: { entity_id: "made-by-page", properties: { n: 1 } } });
const settle = (name, promise) => promise.then(() => (outcome[name] = "works"), () => (outcome[name] = "fails"));
settle("read", fetch(server + "/api/state/entities").then((answer) => answer.json()));
settle("publish", fetch(server + "/api/events", { method: "POST", headers: { "Content-Type": "application/json" }, body: event }).then((answer) => answer.json()));
// Sent without a preflight; whether it had an effect is asked of the server.
fetch(server + "/api/events", { method: "POST", mode: "no-cors", body: event }).finally(() => (outcome.blind = "sent"));
settle("socket", new Promise((resolve, reject) => {
  const socket = new WebSocket(server.replace("http", "ws") + "/api/ws");
  socket.onopen = resolve;
  socket.onerror = reject;
}));
settle("stream", new Promise((resolve, reject) => {
  const source = new EventSource(server + "/api/stream");
  source.addEventListener("ack", () => { source.close(); resolve(); });
  source.onerror = () => { source.close(); reject(); };
}));
</script>"#;

/// The settings of a server as it is started without any.
fn defaults(dir: &TempDir) -> Setup {
    Setup::new(dir.path(), 2)
        .env("FLUX_OPEN", "")
        .env("FLUX_ALLOWED_ORIGINS", "")
}

/// Serves a page that knows the address of the server.
fn page(content: &str, server: &Server) -> Source {
    let content = content.replace("SERVER", &server.url());
    let head = vec!["Content-Type: text/html; charset=utf-8".to_owned()];
    Source::start(move |_| Answer::Http(200, head.clone(), content.clone()))
}

/// How each of the page's attempts ended.
fn outcome(browser: &Chromium, url: &str) -> Value {
    browser.open(url);
    browser.wait_for(
        "all attempts to end",
        "return Object.keys(outcome).length == 5 && outcome",
    )
}

#[test]
fn an_event_source_goes_on_by_itself_over_kills_and_misses_nothing() {
    let Some(browser) = Chromium::start("EventSource over a restart") else {
        return;
    };
    let dir = TempDir::new().expect("a temporary directory");
    let mut server = defaults(&dir).start();
    let port = server.port;
    server.publish("yard/crane", r#"{"load":0,"old":true}"#);
    let page = page(FOLLOWER, &server);
    browser.open(&page.url("/"));
    browser.wait_for("the streams", "return acks == 1 && 'yard/crane' in held");
    for round in 1..=2 {
        for n in 1..=5 {
            let load = format!(r#"{{"load":{round}{n}}}"#);
            server.publish("yard/crane", &load);
        }
        server.publish(&format!("yard/truck-{round}"), r#"{"at":"gate"}"#);
        let seen = format!("return rows.some((row) => row[0] >= {round} * 7)");
        browser.wait_for("what was published", &seen);
        server.kill();
        browser.wait_for("the break to be noticed", "return errors > 0");
        server = defaults(&dir).start_on(port);
        // The browser waits a while before it asks again: this happens between.
        server.request(
            "DELETE",
            &format!("/api/state/entities/yard/truck-{round}"),
            "",
        );
        browser.run("errors = 0; return true");
    }
    server.publish("yard/last", "{}");
    browser.wait_for("the last event", "return 'yard/last' in held");
    let stored = history(&server, "namespace=yard");
    let wanted = stored.len() - 1;
    let all = format!("return rows.length >= {wanted} && rows");
    let rows = browser.wait_for("every event", &all);
    let shown: Vec<Value> = stored[1..]
        .iter()
        .map(|row| json!([row["sequence"], row["eventId"]]))
        .collect();
    assert_eq!(rows, Value::from(shown), "each event once, in order");
    let held = browser.run("return held");
    assert_eq!(held, json!(server.held("yard/")), "the state");
}

#[test]
fn a_page_on_a_loopback_origin_works() {
    let Some(browser) = Chromium::start("a page on a loopback origin") else {
        return;
    };
    let dir = TempDir::new().expect("a temporary directory");
    let server = defaults(&dir).start();
    let page = page(INTRUDER, &server);
    let all = json!({"read": "works", "publish": "works", "blind": "sent", "socket": "works", "stream": "works"});
    assert_eq!(outcome(&browser, &page.url("/")), all);
    assert_eq!(server.entity("made-by-page").status, 200);
}

#[test]
fn a_page_of_another_origin_gets_nothing_unless_it_is_allowed() {
    let Some(browser) = Chromium::start("a page of another origin") else {
        return;
    };
    let dir = TempDir::new().expect("a temporary directory");
    let server = defaults(&dir).start();
    let page_of = page(INTRUDER, &server);
    let origin = format!("http://{FOREIGN}:{}", page_of.port);
    let nothing = json!({"read": "fails", "publish": "fails", "blind": "sent", "socket": "fails", "stream": "fails"});
    assert_eq!(outcome(&browser, &origin), nothing);
    assert_eq!(
        server.entity("made-by-page").status,
        404,
        "nothing was published"
    );
    // The name now points to the server itself: the page and the server have one origin.
    browser.open(&format!(
        "http://{FOREIGN}:{}/api/state/entities",
        server.port
    ));
    let text = browser.run("return document.body.innerText");
    let text = text.as_str().expect("a text");
    assert!(text.contains("host_refused"), "{text}");
    let port = server.port;
    server.stop();

    let allowed = defaults(&dir).env("FLUX_ALLOWED_ORIGINS", &origin);
    let server = allowed.start_on(port);
    let all = json!({"read": "works", "publish": "works", "blind": "sent", "socket": "works", "stream": "works"});
    assert_eq!(outcome(&browser, &origin), all, "so it was the origin");
    assert_eq!(server.entity("made-by-page").status, 200);
}

/// Follows a namespace with the TypeScript client, by each of the ways that a page has.
const CLIENT_PAGE: &str = r#"<!doctype html><title>client</title><script type="module">
import { Flux, FluxError } from "/client/browser.js";
const seen = (window.seen = { copies: {}, events: [], errors: [] });
const all = [];
for (const watchOver of ["websocket", "stream"]) {
  const flux = new Flux("SERVER", { token: "TOKEN", watchOver });
  all.push(flux);
  (async () => {
    const watch = flux.watch("yard/*");
    for await (const update of watch) {
      if (update.type === "reset") seen.errors.push(update.reason);
      seen.copies[watchOver] = Object.fromEntries([...watch.entities].map(([id, { properties }]) => [id, properties]));
    }
    seen.copies[watchOver] = "closed";
  })().catch((error) => seen.errors.push(String(error)));
}
const [flux] = all;
(async () => {
  for await (const update of await flux.watch("yard/*", { mode: "event" }).ready()) seen.events.push([update.sequence, update.eventId]);
})().catch((error) => seen.errors.push(String(error)));
// More than a browser has connections for.
const many = Array.from({ length: 8 }, () => flux.watch("yard/*").ready());
Promise.all(many).then(() => flux.publish("yard/page", { n: 1 })).then(() => (seen.published = true), (error) => seen.errors.push(String(error)));
new Flux("SERVER", { token: "TOKENx" }).watch("yard/*").next().catch((error) => (seen.refused = error instanceof FluxError && error.code));
new Flux("SERVER").watch("yard/*").next().catch((error) => (seen.missing = error.code));
window.end = () => all.forEach((flux) => flux.close());
</script>"#;

#[expect(clippy::disallowed_methods, reason = "a file in a fresh directory")]
fn write_file(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a written file");
}

/// The modules that a page loads, built into a folder; `None` if there is no compiler.
fn built_client() -> Option<TempDir> {
    let compiler = npm_tool("typescript/bin/tsc", "the TypeScript client in a browser")?;
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/typescript");
    let dir = TempDir::new().expect("a temporary directory");
    let options = json!({
        "extends": client.join("tsconfig.json"),
        "compilerOptions": {"types": [], "rootDir": client.join("src"), "outDir": dir.path().join("client")},
        "files": [client.join("src/browser.ts")],
        "include": [],
    });
    let project = dir.path().join("tsconfig.json");
    write_file(&project, &options.to_string());
    let output = std::process::Command::new("node")
        .arg(compiler)
        .arg("-p")
        .arg(project)
        .output();
    let output = output.expect("node");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    Some(dir)
}

#[test]
fn a_page_follows_a_private_namespace_by_the_typescript_client_over_a_kill() {
    let Some(browser) = Chromium::start("the TypeScript client in a browser") else {
        return;
    };
    let Some(client) = built_client() else {
        return;
    };
    let dir = TempDir::new().expect("a temporary directory");
    let setup = || {
        defaults(&dir)
            .env("FLUX_AUTH_ENABLED", "true")
            .env("FLUX_NAMESPACES_PRIVATE", "true")
    };
    let mut server = setup().start();
    let port = server.port;
    let made = server.post("/api/namespaces", r#"{"name":"yard"}"#).json();
    let token = made["token"].as_str().expect("a token").to_owned();
    let content = CLIENT_PAGE
        .replace("SERVER", &server.url())
        .replace("TOKEN", &token);
    let page = Source::start(move |asked| {
        let (kind, text) = match asked.target.strip_prefix("/client/") {
            Some(name) => {
                let file = client.path().join("client").join(name);
                let text = std::fs::read_to_string(file).expect("a module");
                ("text/javascript", text)
            }
            None => ("text/html; charset=utf-8", content.clone()),
        };
        Answer::Http(200, vec![format!("Content-Type: {kind}")], text)
    });
    browser.open(&page.url("/"));
    browser.wait_for("the page to publish", "return seen.published");
    let refused = "return seen.refused == 'token_unknown' && seen.missing == 'token_missing'";
    browser.wait_for("wrong tokens to be refused", refused);
    for round in 1..=2 {
        let body = format!(
            r#"{{"stream":"s","source":"t","payload":{{"entity_id":"yard/crane","properties":{{"load":{round}}}}}}}"#
        );
        let answer = server.with_token(("POST", "/api/events"), &token, &body);
        assert_eq!(answer.status, 200);
        let followed = format!(
            "const {{ websocket, stream }} = seen.copies;
            return [websocket, stream].every((copy) => copy?.['yard/crane']?.load == {round} && copy['yard/page']?.n == 1)"
        );
        browser.wait_for("both copies to follow", &followed);
        if round == 1 {
            server.kill();
            server = setup().start_on(port);
        }
    }
    browser.wait_for("each event once", "return seen.events.length == 3");
    browser.run("end(); return true");
    let closed = "return Object.values(seen.copies).join() == 'closed,closed'";
    browser.wait_for("the watches to end with their client", closed);
    assert_eq!(browser.run("return seen.errors"), json!([]));
}
