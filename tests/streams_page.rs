//! The clients of `docs/STREAMS.md`, taken from the page and run: through kills of the server,
//! restarts with other numbers of shards, and the loss of all data they hold what the server holds.
//!
//! They need Python with the package `websockets`, which is installed into a virtual environment if
//! it is missing, and a Node.js that has WebSocket. What is not there is said on standard error:
//! NOT CHECKED.

mod support;

use serde_json::{Map, Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use support::agent::history;
use support::server::{Server, Setup};
use support::{PATIENCE, batch, deadline, event, not_checked, now, wait_for};
use tempfile::TempDir;

/// Lines that a client of the page may have.
const CLIENT_LINES_MAX: usize = 60;

/// Answers each line with what the client holds.
const PYTHON_DRIVER: &str = r#"
import sys
async def drive():
    world = World(sys.argv[1], sys.argv[2])
    running = asyncio.create_task(world.run())
    while await asyncio.to_thread(sys.stdin.readline):
        if running.done():
            running.result()
        shown = {id: [e["properties"], e["version"]] for id, e in world.entities.items()}
        print(json.dumps({"is_current": world.is_current, "entities": shown}), flush=True)
    running.cancel()
asyncio.run(drive())
"#;

const JAVASCRIPT_DRIVER: &str = r#"
const world = new World(process.argv[2], process.argv[3]);
require("readline").createInterface({ input: process.stdin }).on("close", () => process.exit()).on("line", () => {
  const entities = {};
  for (const [id, { properties, version }] of world.entities) entities[id] = [properties, version];
  console.log(JSON.stringify({ is_current: world.isCurrent, entities }));
});
"#;

/// Answers each line with the events that were handled, and the last cursor.
const FOLLOWER_DRIVER: &str = r#"
import sys
events, cursors = [], []
def handle(message):
    if message["type"] == "event":
        events.append([message["sequence"], message["eventId"]])
    else:
        cursors.append(message["cursor"])
async def drive():
    running = asyncio.create_task(follow(sys.argv[1], sys.argv[2], handle))
    while await asyncio.to_thread(sys.stdin.readline):
        if running.done():
            running.result()
        print(json.dumps({"events": events, "cursors": len(cursors)}), flush=True)
    running.cancel()
asyncio.run(drive())
"#;

/// The blocks of the page in a language.
fn blocks(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/STREAMS.md");
    let page = std::fs::read_to_string(page).expect("the page");
    // By turns text and blocks.
    let blocks = page.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.split_once('\n'));
    blocks
        .filter(|(of, _)| *of == language)
        .map(|(_, content)| content.to_owned())
        .collect()
}

/// A Python that has the package, or `None`.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PYTHON.get_or_init(|| {
        let succeeds = |program: &Path, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            output.is_ok_and(|output| output.status.success())
        };
        let has_it = |python: &Path| succeeds(python, &["-c", "import websockets.asyncio.client"]);
        let own = Path::new("python3");
        if has_it(own) {
            return Some(own.to_owned());
        }
        let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-websockets");
        let python = environment.join("bin/python");
        if !has_it(&python) {
            let environment = environment.to_string_lossy();
            succeeds(own, &["-m", "venv", &environment]);
            let install = "-m pip install --quiet --timeout 10 --retries 1 websockets";
            let install: Vec<&str> = install.split(' ').collect();
            succeeds(&python, &install);
        }
        has_it(&python).then_some(python)
    });
    if found.is_none() {
        not_checked(
            "the Python clients of docs/STREAMS.md: no python3 with websockets, and none to install",
        );
    }
    found.as_deref()
}

/// The words that start a JavaScript file in a Node.js that has WebSocket, or `None`.
fn node() -> Option<&'static [&'static str]> {
    // Since Node.js 22 it is there without being asked for.
    let attempts: [&[&str]; 2] = [&["node"], &["node", "--experimental-websocket"]];
    let found = attempts.into_iter().find(|words| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.args([
            "-e",
            "process.exit(typeof WebSocket === 'function' ? 0 : 1)",
        ]);
        command.output().is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        not_checked("the JavaScript client of docs/STREAMS.md: no node that has WebSocket");
    }
    found
}

/// A program that answers each line with a line.
#[derive(Debug)]
struct Program {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    _folder: TempDir,
}

impl Program {
    /// `words`: what runs a file; behind it stand the arguments.
    fn start(words: &[&str], content: &str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let file = folder.path().join("client");
        std::fs::File::create(&file)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .expect("a file in a fresh directory");
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg(&file)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was found");
        let input = child.stdin.take().expect("a pipe");
        let output = child.stdout.take().expect("a pipe");
        let (sender, lines) = channel();
        std::thread::Builder::new()
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            })
            .expect("a thread");
        Self {
            child,
            input,
            lines,
            _folder: folder,
        }
    }

    fn ask(&mut self) -> Value {
        self.input.write_all(b"\n").expect("the client runs");
        let line = self.lines.recv_timeout(PATIENCE).expect("an answer");
        serde_json::from_str(&line).expect("JSON")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn url(port: u16) -> String {
    format!("ws://127.0.0.1:{port}/api/ws?metrics=false")
}

/// What the server holds under the prefix, as the drivers show it.
fn held(server: &Server) -> Value {
    let list = server.get("/api/state/entities?prefix=shop/").json();
    let entities = list.as_array().expect("a list").iter();
    let entities = entities.map(|entity| {
        let id = entity["id"].as_str().expect("an id").to_owned();
        (id, json!([entity["properties"], entity["version"]]))
    });
    Value::Object(entities.collect::<Map<_, _>>())
}

fn wait_until_equal(server: &Server, client: &mut Program, story: &str) {
    let until = deadline();
    let expected = held(server);
    loop {
        let answer = client.ask();
        if answer["is_current"] == true && answer["entities"] == expected {
            return;
        }
        if now() > until {
            let (held, expected) = (answer["entities"].as_object(), expected.as_object());
            let (held, expected) = (held.expect("entities"), expected.expect("entities"));
            let ids = held.keys().chain(expected.keys());
            let wrong = ids.filter(|id| held.get(*id) != expected.get(*id)).take(3);
            let wrong: Vec<_> = wrong
                .map(|id| (id, held.get(id), expected.get(id)))
                .collect();
            panic!("{story}: is_current {}, {wrong:?}", answer["is_current"]);
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn publish_all(server: &Server, events: &[String]) {
    let answer = server.post("/api/events/batch", &batch(events));
    assert_eq!(answer.json()["failed"], 0, "{}", answer.text());
}

/// Sets, removes, deletes and creates.
fn change(server: &Server, round: usize) {
    let id = |number: usize| format!("shop/{number:04}");
    let gone = r#"{"__deleted__":true}"#;
    let first = round * 40;
    let mut events = Vec::new();
    for number in first..first + 100 {
        events.push(event(
            &id(number),
            &format!(r#"{{"n":{round},"a b":[1,null]}}"#),
        ));
    }
    for number in first..first + 10 {
        events.push(event(&id(number), gone));
        events.push(event(&id(number + 100), gone));
        events.push(event(&id(number + 100), r#"{"anew":true}"#));
        events.push(event(&id(number + 50), "{}"));
        events.push(event(&format!("shop/new-{round}-{number}"), r#"{"n":0.5}"#));
        let unset = r#""properties":{},"unset":["text"]"#;
        events.push(event(&id(number + 60), "{}").replace(r#""properties":{}"#, unset));
    }
    publish_all(server, &events);
}

/// The story of the module doc, for a client of the page.
fn holds_what_the_server_holds(words: &[&str], content: &str) {
    let data = TempDir::new().expect("a temporary directory");
    let mut server = Setup::new(data.path(), 2).start();
    let port = server.port;
    let text = "x".repeat(300);
    let fill =
        (0..1500).map(|n| event(&format!("shop/{n:04}"), &format!(r#"{{"text":"{text}"}}"#)));
    publish_all(&server, &fill.collect::<Vec<_>>());
    server.publish("elsewhere/a", r#"{"n":1}"#);
    let mut client = Program::start(words, content, &[&url(port), "shop/*"]);
    for (round, shards) in [1, 2, 3, 2, 2].into_iter().enumerate() {
        // In the first round the client may be in its snapshot; in the fourth it waits for the
        // server.
        if round != 3 {
            change(&server, round * 2);
        }
        server.kill();
        if round == 3 {
            client.ask();
        }
        server = Setup::new(data.path(), shards).start_on(port);
        change(&server, round * 2 + 1);
        wait_until_equal(&server, &mut client, &format!("round {round}"));
    }
    server.kill();
    let other = TempDir::new().expect("a temporary directory");
    let server = Setup::new(other.path(), 2).start_on(port);
    change(&server, 0);
    wait_until_equal(&server, &mut client, "all data is gone");
    change(&server, 1);
    wait_until_equal(&server, &mut client, "live again");
}

#[test]
fn the_clients_are_as_short_as_promised() {
    for (language, clients) in [("python", [0, 2].as_slice()), ("js", &[0])] {
        let blocks = blocks(language);
        for client in clients {
            let lines = blocks[*client].lines().count();
            assert!(lines <= CLIENT_LINES_MAX, "{language} {client}: {lines}");
        }
    }
}

#[test]
fn the_python_client_holds_what_the_server_holds() {
    if let Some(python) = python() {
        let content = [&blocks("python")[0], PYTHON_DRIVER].concat();
        holds_what_the_server_holds(&[&python.to_string_lossy()], &content);
    }
}

#[test]
fn the_javascript_client_holds_what_the_server_holds() {
    if let Some(node) = node() {
        let content = [&blocks("js")[0], JAVASCRIPT_DRIVER].concat();
        holds_what_the_server_holds(node, &content);
    }
}

#[test]
fn the_lines_that_start_the_clients_show_what_changes() {
    let server = Server::start(2);
    let python = python().map(|it| it.to_string_lossy());
    let python = python.as_deref().map(|it| vec![it, "-u"]);
    let programs = [("python", python), ("js", node().map(<[_]>::to_vec))];
    for (language, words) in programs {
        let Some(words) = words else { continue };
        let content = blocks(language)[..2].join("\n");
        let content = content.replace("localhost:3000", &format!("127.0.0.1:{}", server.port));
        let client = Program::start(&words, &content, &[]);
        wait_for("a change to be shown", || {
            server.publish("shop/a", r#"{"price":12.5}"#);
            let line = client.lines.recv_timeout(Duration::from_millis(200)).ok()?;
            (line.starts_with("shop/a ") && line.contains("12.5")).then_some(())
        });
    }
}

#[test]
fn the_follower_of_the_page_is_handed_each_event_once_and_in_order() {
    let Some(python) = python() else { return };
    let data = TempDir::new().expect("a temporary directory");
    let mut server = Setup::new(data.path(), 2).start();
    let port = server.port;
    let content = [&blocks("python")[2], FOLLOWER_DRIVER].concat();
    let python = python.to_string_lossy();
    let mut client = Program::start(&[&python], &content, &[&url(port), "shop/*"]);
    wait_for("the subscription", || {
        (client.ask()["cursors"] != 0).then_some(())
    });
    for (round, shards) in [1, 3, 2].into_iter().enumerate() {
        change(&server, round * 2);
        server.kill();
        server = Setup::new(data.path(), shards).start_on(port);
        change(&server, round * 2 + 1);
    }
    let rows = history(&server, "namespace=shop");
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| json!([row["sequence"], row["eventId"]]))
        .collect();
    let mut handled = Value::Null;
    let until = deadline();
    while now() < until && handled.as_array().map(Vec::len) < Some(rows.len()) {
        handled = client.ask()["events"].take();
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert_eq!(handled, Value::Array(rows));
}
