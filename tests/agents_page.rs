//! `docs/AGENTS.md`: the calls of its three coordinations are made as they stand there, each way to
//! add the server to a host reaches it, and its table of costs says what is measured.

mod support;

use serde_json::{Deserializer, Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::scope;
use support::http::Connection;
use support::mcp::{ask, call, call_as, legacy, refused};
use support::server::{FLUX, Server};

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/AGENTS.md");
    std::fs::read_to_string(page).expect("the page")
}

/// The blocks of the page, each with its language.
fn blocks(page: &str) -> impl Iterator<Item = (&str, &str)> {
    // By turns text and blocks.
    let blocks = page.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.split_once('\n'))
}

/// The calls of the page, in order: each a tool and its arguments.
fn calls(page: &str) -> Vec<(String, Value)> {
    let blocks = blocks(page).filter(|(language, _)| *language == "text");
    let mut calls = Vec::new();
    for (_, mut rest) in blocks {
        while let Some((tool, arguments)) = rest.trim_start().split_once(' ') {
            let mut values = Deserializer::from_str(arguments).into_iter::<Value>();
            let value = values.next().expect("arguments").expect("JSON");
            calls.push((tool.to_owned(), value));
            rest = &arguments[values.byte_offset()..];
        }
    }
    calls
}

/// Makes calls as an agent does.
struct Agent {
    connection: Connection,
}

impl Agent {
    fn call(&mut self, (tool, arguments): &(String, Value)) -> Value {
        call(&mut self.connection, tool, arguments.clone())
    }

    fn refused(&mut self, (tool, arguments): &(String, Value)) -> Value {
        let (code, said) = refused(&mut self.connection, tool, arguments.clone());
        assert_eq!(code, "precondition_failed", "{said}");
        said
    }
}

/// The call with another argument.
fn with((tool, arguments): &(String, Value), name: &str, value: Value) -> (String, Value) {
    let mut arguments = arguments.clone();
    arguments[name] = value;
    (tool.clone(), arguments)
}

#[test]
fn the_coordinations_of_the_page_do_what_it_says() {
    let server = Server::start(2);
    let calls = calls(&page());
    let [list, claim, count, lease, renew, wait, hand_over] = &calls[..] else {
        panic!("{calls:?}");
    };
    let connection = server.connect();
    let mut agent = Agent { connection };

    server.publish("board/6", r#"{"status":"done","title":"a"}"#);
    server.publish("board/7", r#"{"status":"open","title":"b"}"#);
    let listed = agent.call(list);
    assert_eq!(listed["entities"][0]["id"], "board/7", "{listed}");
    assert_eq!(
        listed["entities"][0]["properties"],
        json!({"title": "b"}),
        "{listed}"
    );
    assert_eq!(agent.call(claim)["version"], 2);
    assert_eq!(agent.call(claim)["duplicate"], true, "it counts once");
    let second = agent.refused(&with(claim, "event_id", json!("bob-claims-7")));
    assert_eq!(second["entity"]["properties"]["owner"], "ada", "{second}");
    let finish = json!({"id": "board/7", "properties": {"status": "done"},
        "expect": {"properties": {"owner": "ada"}}});
    assert_eq!(agent.call(&(claim.0.clone(), finish))["version"], 3);

    assert_eq!(
        agent.call(count)["properties"],
        json!({"done": 1, "log": ["7 by ada"]})
    );
    assert_eq!(agent.call(count)["properties"]["done"], 2);

    agent.call(lease);
    agent.refused(lease);
    let renewed = agent.call(renew);
    scope(|scope| {
        let since = with(wait, "since", renewed["cursor"].clone());
        let connection = server.connect();
        let waits = scope.spawn(move || Agent { connection }.call(&since));
        agent.call(hand_over);
        let told = waits.join().expect("the agent that waits");
        assert_eq!(told["timed_out"], false, "{told}");
        assert_eq!(told["changes"][0]["properties"]["owner"], "bob", "{told}");
    });
    agent.refused(renew);
}

/// What `flux mcp` with this environment answers to `tools/list`.
fn asked_by_program(arguments: &[&str], environment: &[(&str, &str)]) -> Value {
    let mut child = Command::new(FLUX)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flux");
    let mut input = child.stdin.take().expect("its input");
    let output = child.stdout.take().expect("its output");
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    writeln!(input, "{message}").expect("flux reads");
    let mut line = String::new();
    let read = BufReader::new(output).read_line(&mut line);
    read.expect("an answer");
    drop(input);
    assert!(child.wait().expect("its end").success());
    serde_json::from_str(&line).expect("a message")
}

/// Checks an entry of a host's settings: it names this server, or a program that asks it.
fn check_entry(server: &Server, entry: &Value) {
    let own = |url: &str| url.replace("localhost:3000", &format!("localhost:{}", server.port));
    let address = ["url", "serverUrl", "httpUrl"]
        .into_iter()
        .find_map(|name| entry[name].as_str());
    if let Some(address) = address {
        assert_eq!(
            own(address),
            format!("http://localhost:{}/mcp", server.port)
        );
        let token = entry["headers"]["Authorization"].as_str();
        assert!(token.is_some_and(|it| it.starts_with("Bearer ")), "{entry}");
        return;
    }
    assert_eq!(entry["command"], "flux", "{entry}");
    let arguments = entry["args"].as_array().expect("arguments");
    let arguments: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
    let url = own(entry["env"]["FLUX_URL"].as_str().expect("an address"));
    let listed = asked_by_program(&arguments, &[("FLUX_URL", &url), ("FLUX_TOKEN", "")]);
    assert!(listed["result"]["tools"].is_array(), "{listed}");
}

#[test]
fn each_entry_for_a_host_reaches_the_server() {
    let server = Server::start(1);
    let (page, mut count) = (page(), 0);
    for (_, block) in blocks(&page).filter(|(language, _)| *language == "json") {
        let settings: Value = serde_json::from_str(block).expect("JSON");
        let servers = ["mcpServers", "servers"]
            .into_iter()
            .find_map(|name| settings[name].as_object());
        for entry in servers.expect("servers").values() {
            check_entry(&server, entry);
            count += 1;
        }
    }
    assert!(count >= 6, "{count}");
}

/// The bytes of each row of the table, by its first words.
fn told(page: &str) -> BTreeMap<String, usize> {
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (name, bytes) = (cells.next()?, cells.next()?);
        let bytes = bytes.replace(',', "").parse().ok()?;
        Some((name.to_owned(), bytes))
    });
    rows.collect()
}

/// The same, measured.
fn measured(server: &Server) -> BTreeMap<String, usize> {
    let mut connection = server.connect();
    let mut result = |method: &str, params: Value| {
        let answer = ask(&mut connection, &legacy(method, &params));
        answer.json()["result"].clone()
    };
    let tools = result("tools/list", json!({}))["tools"].clone();
    let shown: Vec<Value> = tools
        .as_array()
        .expect("tools")
        .iter()
        .map(|it| json!({"name": it["name"], "description": it["description"], "inputSchema": it["inputSchema"]}))
        .collect();
    let client = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let begun = result("initialize", client);
    let prompt = result("prompts/get", json!({"name": "flux_coordinate"}));
    let len = |text: &Value| text.as_str().expect("text").len();
    let mut rows = BTreeMap::from([
        (
            "the list of tools, once for each conversation",
            tools.to_string().len(),
        ),
        (
            "of it what hosts give the model: names, descriptions, arguments",
            json!(shown).to_string().len(),
        ),
        ("instructions", len(&begun["instructions"])),
        ("the prompt", len(&prompt["messages"][0]["content"]["text"])),
    ]);
    let mut tool = |tool: &str, arguments: Value| {
        let result = call_as(&mut connection, (tool, arguments), "");
        let cursor = result["structuredContent"]["cursor"].clone();
        (len(&result["content"][0]["text"]), cursor)
    };
    let mut published = 0;
    for task in 0..50 {
        let title = format!("Paint wall {task}");
        let task = json!({"id": format!("board/task-{task:02}"), "properties": {
            "title": title, "status": "open", "priority": task % 5, "owner": null}});
        published = tool("flux_publish", task).0;
    }
    rows.insert("`flux_publish`, done", published);
    let id = "board/task-07";
    let (got, cursor) = tool("flux_get", json!({"id": id}));
    rows.insert("`flux_get` of a task with four properties", got);
    let late = json!({"id": id, "properties": {"status": "mine"}, "expect": {"properties": {"status": "done"}}});
    let late = tool("flux_publish", late).0;
    rows.insert("the same, refused, with the entity as it is", late);
    let all = tool("flux_list", json!({"prefix": "board/"})).0;
    rows.insert("`flux_list` of 50 such tasks", all);
    let some = json!({"prefix": "board/", "fields": ["status"]});
    rows.insert(
        "the same with `fields` of one property",
        tool("flux_list", some).0,
    );
    let now = tool("flux_wait_for", json!({"id": id, "timeout_seconds": 0})).0;
    rows.insert("`flux_wait_for`, timed out", now);
    let claim = json!({"id": id, "properties": {"status": "claimed", "owner": "ada"}});
    tool("flux_publish", claim);
    let wait = json!({"id": id, "since": cursor, "timeout_seconds": 5});
    rows.insert("the same, ended by a change", tool("flux_wait_for", wait).0);
    let diff = json!({"prefix": "board/", "since": cursor});
    rows.insert(
        "`flux_diff_since`, one change",
        tool("flux_diff_since", diff).0,
    );
    let history = tool("flux_history", json!({"id": id})).0;
    rows.insert("`flux_history`, two events", history);
    rows.into_iter()
        .map(|(name, len)| (name.to_owned(), len))
        .collect()
}

#[test]
fn the_table_of_costs_says_what_is_measured() {
    let server = Server::start(1);
    let (told, measured) = (told(&page()), measured(&server));
    assert!(told.keys().eq(measured.keys()), "{told:?}\n{measured:?}");
    for (name, bytes) in &measured {
        // Cursors and sequences differ in length by a few bytes.
        let is_right = told[name].abs_diff(*bytes) <= bytes / 50;
        assert!(is_right, "{name}: {bytes}, and the page says {told:?}");
    }
}
