//! Five agents work through a board of tasks over `flux mcp`, each as a host would run it, while
//! the server is killed and started again: no task is lost, and none is done twice.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::scope;
use support::server::Setup;
use support::wait_for;
use tempfile::TempDir;

const AGENTS: usize = 5;
const TASKS: usize = 60;

/// A `flux mcp`, and what is said to it.
struct Host {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    asked: u64,
}

impl Host {
    fn start(url: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_flux"))
            .arg("mcp")
            .env("FLUX_URL", url)
            .env_remove("FLUX_TOKEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("flux mcp");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let mut host = Self {
            child,
            input,
            output,
            asked: 0,
        };
        let client = json!({"name": "board", "version": "1"});
        let params =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
        let begun = host.ask("initialize", &params);
        assert_eq!(begun["result"]["protocolVersion"], "2025-06-18", "{begun}");
        host
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let input = self.input.as_mut().expect("it is open");
        writeln!(input, "{message}").expect("flux mcp reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("an answer");
        let answer: Value = serde_json::from_str(&line).expect("a line is a message");
        assert_eq!(answer["id"], id, "one question at a time: {answer}");
        answer
    }

    /// Calls a tool until a server answers. What is written twice by that has an `event_id`.
    fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        wait_for("a server that answers", || {
            let answer = self.ask("tools/call", &params);
            let result = &answer["result"]["structuredContent"];
            let is_away = answer["error"]["data"]["code"] == "unreachable"
                || matches!(result["code"].as_str(), Some("not_ready" | "shutting_down"));
            assert!(is_away || result.is_object(), "{answer}");
            (!is_away).then(|| result.clone())
        })
    }

    /// Ends as a host ends it: by closing its input.
    fn end(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("its end");
        assert!(status.success(), "{status}");
    }
}

/// Takes tasks until none is open. The tasks that it has done.
fn work(url: &str, agent: usize) -> Vec<String> {
    let (mut host, mut done) = (Host::start(url), Vec::new());
    loop {
        let open = json!({"prefix": "board/", "filter": r#"eq(status,"open")"#, "limit": AGENTS});
        let open = host.call("flux_list", &open);
        let tasks = open["entities"].as_array().expect("entities");
        let Some(task) = tasks.get(agent % tasks.len().max(1)) else {
            host.end();
            return done;
        };
        let id = task["id"].as_str().expect("an id").to_owned();
        let claim = json!({
            "id": id,
            "properties": {"status": "claimed", "by": agent},
            "expect": {"properties": {"status": "open"}},
            "event_id": format!("{id} is claimed by {agent}"),
        });
        let claimed = host.call("flux_publish", &claim);
        if claimed["code"] == "precondition_failed" {
            let by = &claimed["entity"]["properties"]["by"];
            assert_ne!(*by, json!(agent), "its own claim is no conflict: {claimed}");
            continue;
        }
        let finish = json!({
            "id": id,
            "properties": {"status": "done"},
            "increment": {"times": 1},
            "expect": {"properties": {"status": "claimed", "by": agent}},
            "event_id": format!("{id} is done by {agent}"),
        });
        let finished = host.call("flux_publish", &finish);
        assert_eq!(finished.get("code"), None, "nobody else has it: {finished}");
        done.push(id);
    }
}

#[test]
fn every_list_is_one_line_on_standard_output() {
    let dir = TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 1).start();
    let mut host = Host::start(&server.url());
    for (method, member) in [
        ("tools/list", "tools"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
        ("prompts/list", "prompts"),
    ] {
        // `ask` reads one line, and its number is that of the question.
        let listed = host.ask(method, &json!({}));
        assert!(listed["result"][member].is_array(), "{method}: {listed}");
    }
    host.end();
}

#[test]
fn no_task_is_lost_or_done_twice_over_a_kill() {
    let dir = TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 2);
    let server = setup.start();
    let ids: Vec<String> = (0..TASKS).map(|task| format!("board/{task:02}")).collect();
    for id in &ids {
        server.publish(id, r#"{"status":"open"}"#);
    }
    let (port, url) = (server.port, server.url());
    let (server, done) = scope(|scope| {
        let url = &url;
        let start = |agent| scope.spawn(move || work(url, agent));
        let agents: [_; AGENTS] = std::array::from_fn(start);
        wait_for("a part of the tasks", || {
            let held = server.held("board/");
            let done = held.values().filter(|it| it["status"] == "done").count();
            (done >= TASKS / 4).then_some(())
        });
        server.kill();
        let server = setup.start_on(port);
        let done = agents
            .into_iter()
            .flat_map(|agent| agent.join().expect("an agent"));
        (server, done.collect::<Vec<String>>())
    });
    let mut times = BTreeMap::new();
    for id in done {
        *times.entry(id).or_insert(0) += 1;
    }
    assert!(times.keys().eq(&ids), "each was done: {times:?}");
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    for (id, properties) in server.held("board/") {
        assert_eq!(properties["status"], "done", "{id}");
        assert_eq!(properties["times"], 1, "{id}");
    }
}
