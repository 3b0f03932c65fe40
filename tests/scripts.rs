//! `flux.sh`: publishing, deleting, tokens, arguments and exit codes.
//!
//! Most tests run against a real server. Tests of what goes over the wire (tokens, encodings) run
//! against a listener that records one request.

mod support;

use fastrand::Rng;
use serde_json::{Value, json};
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Output, Stdio};
use support::connectors::KEY;
use support::http::percent_encoded;
use support::script::{Recorded, complain, flux, read_request, record, run, succeed};
use support::server::{Server, Setup, free_port};
use support::{namespace, on_each, quoted};

/// What the README types, `stream source entity_id properties`.
const PUBLISHED: &str = r#"
sensors agent-01 dawn-coral/sensor-01 {"temperature":22.5}
sensors agent-01 dawn-coral/temp-sensor-01 {"temperature":22.5,"unit":"celsius"}
sensors agent-a dawn-coral/room-101 {"temperature":22.5}
system monitor dawn-coral/api-gateway {"status":"healthy","uptime":3600}
sensors plc scada/pump-1 {"rpm":1450}
test me test/old-entity {}
"#;

const BATCH: &str = r#"[
  {"stream":"sensors","source":"agent-01","payload":{"entity_id":"dawn-coral/sensor-01","properties":{"temp":22}}},
  {"stream":"sensors","source":"agent-01","payload":{"entity_id":"dawn-coral/sensor-02","properties":{"temp":23}}}
]"#;

#[test]
fn the_readmes_use_cases_work_as_they_are_typed() {
    for shards in [1, 2] {
        // A server of its own: `list` without a filter shows everything.
        let server = Server::start(shards);
        assert_eq!(succeed(&server, &["health"])["status"], "ok");
        let published: Vec<&str> = PUBLISHED.lines().skip(1).collect();
        for line in &published {
            let arguments: Vec<&str> = ["publish"].into_iter().chain(line.split(' ')).collect();
            let answer = succeed(&server, &arguments);
            assert_eq!(answer["stream"], arguments[1]);
            assert!(answer["eventId"].is_string(), "{answer}");
        }
        let sensor = succeed(&server, &["get", "dawn-coral/temp-sensor-01"]);
        assert_eq!(
            sensor["properties"],
            json!({"temperature": 22.5, "unit": "celsius"})
        );
        let count = |arguments: &[&str]| succeed(&server, arguments).as_array().map(Vec::len);
        // The server's own directory is an entity as well.
        assert_eq!(count(&["list"]), Some(published.len() + 1));
        assert_eq!(count(&["list", "--prefix", "scada/"]), Some(1));
        assert_eq!(count(&["list", "--namespace", "dawn-coral"]), Some(4));
        assert_eq!(
            count(&["list", "--namespace=dawn-coral", "--prefix=dawn-coral/s"]),
            Some(1)
        );

        let deleted = succeed(&server, &["delete", "test/old-entity"]);
        assert_eq!(deleted["entity_id"], "test/old-entity");
        let complaint = complain(
            &run(&server, &["delete", "test/old-entity"]),
            1,
            "deleting again",
        );
        assert!(
            complaint.contains("not found"),
            "the server's message: {complaint}"
        );

        assert_eq!(succeed(&server, &["batch", BATCH])["successful"], 2);
        assert_eq!(
            succeed(&server, &["get", "dawn-coral/sensor-02"])["properties"]["temp"],
            23
        );
        let filter = r#"{"prefix":"dawn-coral/sensor-"}"#;
        assert_eq!(succeed(&server, &["batch-delete", filter])["deleted"], 2);
    }
}

#[test]
fn help_is_printed_where_it_is_asked_for_and_otherwise_a_complaint() {
    for word in ["help", "--help", "-h"] {
        let output = flux("http://127.0.0.1:1", &[word])
            .output()
            .expect("the script runs");
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let commands = [
            "health",
            "publish",
            "get",
            "list",
            "delete",
            "increment",
            "batch",
            "batch-delete",
            "connectors",
            "admin-config",
        ];
        for command in commands
            .iter()
            .chain(&["FLUX_URL", "FLUX_TOKEN", "FLUX_ADMIN_TOKEN"])
        {
            assert!(text.contains(command), "{command} in {text}");
        }
    }
    complain(
        &flux("http://127.0.0.1:1", &[])
            .output()
            .expect("the script runs"),
        2,
        "no command",
    );
}

#[test]
fn arguments_arrive_as_they_were_given() {
    let hostile = [
        "plain",
        "with space",
        "quote\"d",
        "back\\slash",
        "it's",
        "ünï/漢/😀",
        "100%",
        "%2F",
        "a+b",
        "a&b=c",
        "a#b",
        "a?b",
        "-dash",
        "--prefix",
        "$HOME",
        "`id`",
        "$(id)",
        "*",
        "a;b|c>d",
        "{}",
        "[1-3]",
        "a//b",
        "../up",
        "~",
        "\\u0041",
        "&&",
        "\\n",
        "\\\\",
        "tab\there",
    ];
    on_each(|server| {
        let ns = namespace("shell");
        for text in hostile {
            let id = format!("{ns}/{text}");
            let name = quoted(text);
            let properties = format!(r#"{{{name}:{name},"number":22.50}}"#);
            if text.contains('\t') {
                // The server takes no control character in an id; its refusal comes back.
                let output = run(server, &["publish", "shell", text, &id, &properties]);
                assert!(complain(&output, 1, text).contains("entity_id"));
                continue;
            }
            succeed(server, &["publish", "shell", text, &id, &properties]);
            assert_eq!(succeed(server, &["get", &id])["properties"][text], text);
            assert_eq!(server.entity(&percent_encoded(&id)).status, 200, "{id}");
            let output = run(server, &["get", &id]);
            assert!(
                String::from_utf8_lossy(&output.stdout).contains("22.50"),
                "digit for digit in a pipe"
            );
            assert_eq!(
                succeed(server, &["list", "--prefix", &id])[0]["id"],
                id.as_str()
            );
            assert_eq!(succeed(server, &["delete", &id])["entity_id"], id.as_str());
        }
    });
}

#[test]
fn every_byte_of_an_argument_is_escaped_in_json_and_in_paths() {
    // Everything below U+0100 and one character of each longer form. No argument can hold a NUL.
    let all: String = (1..=0xff)
        .filter_map(char::from_u32)
        .chain("漢😀".chars())
        .collect();
    let recorded = record(&["publish", &all, &all, &all, "{}"], &[]);
    let body: Value = serde_json::from_str(&recorded.body).expect("the body is JSON");
    assert_eq!(recorded.request_line, "POST /api/events HTTP/1.1");
    assert_eq!(
        (&body["stream"], &body["source"]),
        (&json!(all), &json!(all))
    );
    assert_eq!(body["payload"], json!({"entity_id": all, "properties": {}}));

    let encoded = percent_encoded(&all);
    let path = recorded_target(&record(&["get", &all], &[]));
    assert_eq!(
        path,
        format!("/api/state/entities/{}", encoded.replace("%2F", "/"))
    );
    let path = recorded_target(&record(
        &["list", "--prefix", &all, "--namespace", "-n"],
        &[],
    ));
    assert_eq!(
        path,
        format!("/api/state/entities?prefix={encoded}&namespace=-n")
    );
}

fn recorded_target(recorded: &Recorded) -> String {
    recorded
        .request_line
        .split(' ')
        .nth(1)
        .expect("a target")
        .to_owned()
}

#[test]
fn tokens_go_into_the_header_of_the_calls_they_are_for() {
    let tokens = [
        ("FLUX_TOKEN", "ns \"token\" \\ #1"),
        ("FLUX_ADMIN_TOKEN", "admin'token"),
    ];
    let with = |arguments: &[&str]| record(arguments, &tokens).authorization;
    assert_eq!(
        with(&["get", "a"]).as_deref(),
        Some("Bearer ns \"token\" \\ #1")
    );
    assert_eq!(
        with(&["publish", "s", "s", "a", "{}"]).as_deref(),
        Some("Bearer ns \"token\" \\ #1")
    );
    assert_eq!(
        with(&["admin-config"]).as_deref(),
        Some("Bearer admin'token")
    );
    let change = record(&["admin-config", r#"{"max_batch_delete":5}"#], &tokens);
    assert_eq!(change.request_line, "PUT /api/admin/config HTTP/1.1");
    assert_eq!(change.authorization.as_deref(), Some("Bearer admin'token"));
    assert_eq!(change.body, r#"{"max_batch_delete":5}"#);
    assert_eq!(record(&["admin-config"], &[]).authorization, None);
    assert_eq!(
        record(&["connectors"], &[]).request_line,
        "GET /api/connectors HTTP/1.1"
    );
    let mut command = flux("http://127.0.0.1:1", &["health"]);
    let output = command
        .env("FLUX_TOKEN", "a\r\nX: y")
        .output()
        .expect("the script runs");
    complain(&output, 2, "a token that would be two headers");
}

#[test]
fn tokens_are_on_no_command_line() {
    const SECRET: &str = "not-for-other-eyes";
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut command = flux(&format!("http://127.0.0.1:{port}"), &["get", "a"]);
    let mut child = command
        .env("FLUX_TOKEN", SECRET)
        .stdout(Stdio::null())
        .spawn()
        .expect("the script runs");
    // curl runs while the request waits for its answer.
    let (stream, _) = listener.accept().expect("a connection");
    let recorded = read_request(&stream);
    assert_eq!(recorded.authorization, Some(format!("Bearer {SECRET}")));
    let curl = command_lines()
        .into_iter()
        .any(|line| line.contains("curl") && line.contains(&port.to_string()));
    assert!(curl, "curl is running");
    let exposed: Vec<String> = command_lines()
        .into_iter()
        .filter(|line| line.contains(SECRET))
        .collect();
    assert!(exposed.is_empty(), "{exposed:?}");
    let mut answer = &stream;
    answer
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        .expect("curl reads");
    assert!(child.wait().expect("the script ends").success());
}

#[test]
fn connectors_are_run_from_the_command_line_and_their_tokens_are_not_on_it() {
    const SECRET: &str = "s3cret \\ \"token\"";
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let setup = Setup::new(dir.path(), 1).env("FLUX_ENCRYPTION_KEY", KEY);
    let server = setup.start();
    let definition = json!({
        "name": "weather", "url": "http://127.0.0.1:1/", "poll_interval_seconds": 60, "entity_id": "weather",
        "auth": {"type": "bearer"},
    });
    let defined = succeed(&server, &["connectors", "add", &definition.to_string()]);
    assert_eq!(defined["status"], "not_configured");
    assert_eq!(
        succeed(&server, &["connectors"])["connectors"][1]["name"],
        "weather"
    );
    let store = |stdin: Option<&str>, environment: &[(&str, &str)]| {
        let mut command = flux(&server.url(), &["connectors", "token", "weather"]);
        command.envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the script runs");
        let mut pipe = child.stdin.take().expect("a pipe");
        // The script does not read if the environment has the token.
        drop(pipe.write_all(stdin.unwrap_or_default().as_bytes()));
        drop(pipe);
        let output = child.wait_with_output().expect("the script ends");
        assert!(output.status.success(), "{stdin:?}");
        assert_eq!(output.stdout, b"{\"success\":true}\n");
    };
    store(Some(&format!("{SECRET}\n")), &[]);
    assert_eq!(
        succeed(&server, &["connectors", "show", "weather"])["enabled"],
        true
    );
    let removed = succeed(&server, &["connectors", "token", "weather", "--remove"]);
    assert_eq!(removed["success"], true);
    store(None, &[("FLUX_CONNECTOR_TOKEN", SECRET)]);
    let removed = run(&server, &["connectors", "remove", "weather"]);
    assert!(removed.status.success());
    let gone = run(&server, &["connectors", "show", "weather"]);
    let complaint = complain(&gone, 1, "a connector that is gone");
    assert!(
        complaint.contains("connector not found (HTTP 404)"),
        "{complaint}"
    );
    let built_in = run(&server, &["connectors", "remove", "github"]);
    complain(&built_in, 1, "a built-in connector");
    let token = [("FLUX_CONNECTOR_TOKEN", SECRET), ("FLUX_TOKEN", "own")];
    let recorded = record(&["connectors", "token", "a/b"], &token);
    assert_eq!(
        recorded.request_line,
        "POST /api/connectors/a%2Fb/token HTTP/1.1"
    );
    assert_eq!(recorded.authorization.as_deref(), Some("Bearer own"));
    let body: Value = serde_json::from_str(&recorded.body).expect("JSON");
    assert_eq!(body, json!({ "token": SECRET }));
}

fn command_lines() -> Vec<String> {
    let processes = std::fs::read_dir("/proc")
        .expect("Linux")
        .filter_map(Result::ok);
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .collect()
}

#[test]
fn wrong_usage_is_refused_before_anything_is_sent() {
    let table: &[&[&str]] = &[
        &["nonsense"],
        &["health", "x"],
        &["publish"],
        &["publish", "s", "s", "id"],
        &["publish", "s", "s", "id", "{}", "x"],
        &["publish", "s", "s", "", "{}"],
        &["publish", "s", "s", "id", ""],
        &["publish", "s", "s", "id", "[]"],
        &["publish", "s", "s", "id", "1"],
        &["publish", "s", "s", "id", "nonsense"],
        &["publish", "s", "s", "id", r#"{"a":1},"x":{"b":2}"#],
        &["get"],
        &["get", ""],
        &["get", "a", "b"],
        &["list", "x"],
        &["list", "--prefix"],
        &["list", "--nonsense", "x"],
        &["list", "--prefix", "a", "--prefix=b"],
        &["delete"],
        &["delete", "a", "b"],
        &["batch"],
        &["batch", "{}"],
        &["batch", "[1,]"],
        &["batch", "[]", "[]"],
        &["batch-delete"],
        &["batch-delete", "[]"],
        &["batch-delete", r#"{"prefix":"a""#],
        &["connectors", "x"],
        &["connectors", "show"],
        &["connectors", "show", "a", "b"],
        &["connectors", "add"],
        &["connectors", "add", "[]"],
        &["connectors", "remove", ""],
        &["connectors", "token"],
        &["connectors", "token", "weather", "s3cret"],
        &["connectors", "token", "weather"],
        &["admin-config", "[]"],
        &["admin-config", "{}", "{}"],
    ];
    // Nobody listens there: an attempt to send would end with 1.
    let url = format!("http://127.0.0.1:{}", free_port());
    for arguments in table {
        let output = flux(&url, arguments).output().expect("the script runs");
        complain(&output, 2, &format!("{arguments:?}"));
    }
    for url in ["nonsense", "ftp://localhost", "-K/etc/passwd", "http://a b"] {
        complain(
            &flux(url, &["health"]).output().expect("the script runs"),
            2,
            url,
        );
    }
}

#[test]
fn the_json_checker_agrees_with_a_parser() {
    const SEED: u64 = 0x5eed_0002;
    let mut random = Rng::with_seed(SEED);
    let url = format!("http://127.0.0.1:{}", free_port());
    let sound = [
        r#"{"a":[1,-0.5e+10,true,false,null,"x\"\\\/\b\f\n\r\t\u00e9"],"b":{}}"#,
        "{ \"ü\" : { \"漢\" : [ [ ] , { } , \"😀\" ] } }",
        r#"{"":"\ud83d\ude00","n":0,"m":12.5E-3,"s":"\u0000"}"#,
    ];
    let mut texts: Vec<String> = sound.map(str::to_owned).into();
    for round in 0..90 {
        let mut chars: Vec<char> = sound[round % sound.len()].chars().collect();
        let at = random.usize(..chars.len());
        let alphabet: Vec<char> = "{}[]:,\"\\01-+.eEtu \n\t\u{1}aü".chars().collect();
        let with = alphabet[random.usize(..alphabet.len())];
        match random.u64(..3) {
            0 => chars[at] = with,
            1 => chars.insert(at, with),
            _ => drop(chars.remove(at)),
        }
        texts.push(chars.into_iter().collect());
    }
    for text in texts {
        let output = flux(&url, &["batch-delete", &text])
            .output()
            .expect("the script runs");
        let sound = serde_json::from_str::<serde_json::Map<String, Value>>(&text).is_ok();
        // Valid JSON is sent, and nobody listens (1). The rest is refused (2).
        let expected = if sound { 1 } else { 2 };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "seed {SEED:#x}: {text}"
        );
    }
}

#[test]
fn the_json_checker_names_the_place() {
    for (text, place) in [
        (r#"{"a":nul}"#, "an unexpected nul (line 1, column 6)"),
        ("{\n \"a\": tru\n}", "an unexpected tru (line 2, column 7)"),
        (r#"{"a" 1}"#, "a missing comma or colon (line 1, column 6)"),
        (r#"{"a":1,}"#, "an unexpected } (line 1, column 8)"),
    ] {
        let output = flux("http://localhost", &["batch-delete", text])
            .output()
            .expect("the script runs");
        let message = complain(&output, 2, text);
        assert!(message.contains(place), "{text}: {message}");
    }
}

#[test]
fn failures_are_told_on_standard_error_with_the_exit_code() {
    on_each(|server| {
        let absent = format!("{}/absent", namespace("told"));
        let message = server.entity(&absent).json()["error"]
            .as_str()
            .expect("a message")
            .to_owned();
        assert!(
            complain(&run(server, &["get", &absent]), 1, "an absent entity").contains(&message)
        );
        let output = run(server, &["publish", "BAD STREAM", "s", &absent, "{}"]);
        assert!(complain(&output, 1, "a bad stream").contains("stream"));
        // A batch with failed items is 200. The answer is printed, and the exit code is 1.
        let output = run(server, &["batch", "[1]"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            serde_json::from_slice::<Value>(&output.stdout).expect("the answer")["failed"],
            1
        );
        assert!(!output.stderr.is_empty());
    });
    let url = format!("http://127.0.0.1:{}", free_port());
    let output = flux(&url, &["health"]).output().expect("the script runs");
    assert!(
        complain(&output, 1, "nobody listens").contains(&url),
        "names the address"
    );
}

#[test]
fn json_is_read_from_standard_input_where_it_is_a_dash() {
    on_each(|server| {
        let ns = namespace("stdin");
        // Too long for an argument.
        let events: Vec<String> = (0..3_000)
            .map(|n| support::event(&format!("{ns}/{n}"), r#"{"n":1}"#))
            .collect();
        let mut child = flux(&server.url(), &["batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin
            .write_all(format!("[{}]", events.join(",\n")).as_bytes())
            .expect("the script reads");
        drop(stdin);
        let output = child.wait_with_output().expect("the script ends");
        assert!(output.status.success());
        assert_eq!(
            serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["successful"],
            3_000
        );
    });
}

/// A server with tokens in force, and its data directory. The operator's token is `op-secret`.
fn with_operator() -> (Server, tempfile::TempDir) {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 2)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", "op-secret")
        .start();
    (server, dir)
}

/// Runs the script with these variables.
fn run_as(server: &Server, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = flux(&server.url(), arguments);
    command.envs(environment.iter().copied());
    command.output().expect("the script runs")
}

/// The same, and expects it to succeed; null if what it prints is no JSON.
fn ask_as(server: &Server, environment: &[(&str, &str)], arguments: &[&str]) -> Value {
    let output = run_as(server, environment, arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn a_private_namespace_is_read_with_a_token_of_it_or_the_operators() {
    let (server, _dir) = with_operator();
    let run_as =
        |environment: &[(&str, &str)], arguments: &[&str]| run_as(&server, environment, arguments);
    let ask = |environment: &[(&str, &str)], arguments: &[&str]| -> Value {
        ask_as(&server, environment, arguments)
    };
    let operator: &[(&str, &str)] = &[("FLUX_ADMIN_TOKEN", "op-secret")];
    let made = ask(operator, &["namespace", "create", "house"]);
    let token = made["token"].as_str().expect("a token");
    let owner: &[(&str, &str)] = &[("FLUX_TOKEN", token)];
    ask(owner, &["publish", "sensors", "me", "house/room", "{}"]);
    let private = ask(owner, &["namespace", "private", "house"]);
    assert_eq!(private["read"], "private");
    complain(&run_as(&[], &["get", "house/room"]), 1, "private");
    for (reader, told) in [(owner, 1), (operator, 1), (&[][..], 0)] {
        let list = ask(reader, &["list", "--namespace", "house"]);
        assert_eq!(list.as_array().map(Vec::len), Some(told));
    }
    let public = ask(operator, &["namespace", "public", "house"]);
    assert_eq!(public["read"], "public");
}

#[test]
fn an_operator_runs_namespaces_and_refusals_say_what_helps() {
    let (server, _dir) = with_operator();
    let run_as =
        |environment: &[(&str, &str)], arguments: &[&str]| run_as(&server, environment, arguments);
    let ask = |environment: &[(&str, &str)], arguments: &[&str]| -> Value {
        ask_as(&server, environment, arguments)
    };
    let operator: &[(&str, &str)] = &[("FLUX_ADMIN_TOKEN", "op-secret")];
    let made = ask(operator, &["namespace", "create", "house"]);
    let token = made["token"].as_str().expect("a token").to_owned();
    let owner: &[(&str, &str)] = &[("FLUX_TOKEN", &token)];
    assert!(ask(operator, &["namespace", "create"])["name"].is_string());
    let event = ["publish", "sensors", "me", "house/room", r#"{"t":1}"#];
    ask(owner, &event);
    assert_eq!(ask(&[], &["namespace", "show", "house"])["entityCount"], 1);
    let listed = ask(operator, &["namespace", "list"]);
    assert_eq!(listed["namespaces"].as_array().map(Vec::len), Some(2));

    let said = complain(&run_as(&[], &event), 1, "no token");
    assert!(
        said.contains("HTTP 401") && said.contains("FLUX_TOKEN"),
        "{said}"
    );
    let foreign = ["publish", "sensors", "me", "other/room", "{}"];
    let said = complain(&run_as(owner, &foreign), 1, "another's namespace");
    assert!(
        said.contains("HTTP 403") && said.contains("does not allow"),
        "{said}"
    );
    ask(
        operator,
        &[
            "admin-config",
            r#"{"rate_limit_per_namespace_per_minute":1}"#,
        ],
    );
    ask(owner, &event);
    let said = complain(&run_as(owner, &event), 1, "over the rate");
    assert!(
        said.contains("HTTP 429") && said.contains("try again in 60 s"),
        "{said}"
    );

    let rotated = ask(owner, &["namespace", "rotate", "house"]);
    assert_ne!(rotated["token"], made["token"]);
    complain(
        &run_as(owner, &["namespace", "rotate", "house"]),
        1,
        "a dead token",
    );
    ask(operator, &["namespace", "delete", "house", "--purge"]);
    complain(&run_as(&[], &["namespace", "show", "house"]), 1, "deleted");
    assert_eq!(server.entities().len(), 0);
    for wrong in [
        &["namespace"][..],
        &["namespace", "make"],
        &["namespace", "show"],
        &["namespace", "private"],
        &["namespace", "create", "a", "b"],
        &["namespace", "delete", "a", "--purge", "b"],
    ] {
        complain(&run_as(operator, wrong), 2, &format!("{wrong:?}"));
    }
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let server = Setup::new(dir.path(), 2)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", "op-secret")
        .start();
    let run = |arguments: &[&str]| {
        let mut command = flux(&server.url(), arguments);
        command.env("FLUX_ADMIN_TOKEN", "op-secret");
        command.output().expect("the script runs")
    };
    let ask = |arguments: &[&str]| -> Value {
        let output = run(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    };
    ask(&["namespace", "create", "house"]);
    let create = ["token", "create", "house"];
    let options = [
        "--scopes",
        "read,delete",
        "--label",
        "attic \"2\"",
        "--expires",
        "60",
    ];
    let mut options = options.to_vec();
    options.extend(["--prefix", "house/attic"]);
    let made = ask(&[&create[..], &options].concat());
    assert_eq!(made["scopes"], serde_json::json!(["read", "delete"]));
    assert_eq!(
        (&made["label"], &made["prefix"]),
        (&"attic \"2\"".into(), &"house/attic".into())
    );
    assert!(made["expiresAt"].is_string() && made["token"].is_string());
    assert_eq!(ask(&create)["scopes"], serde_json::json!(["write"]));
    let listed = ask(&["token", "list", "house"])["tokens"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    let id = made["id"].as_str().expect("an id");
    let revoke = ["token", "revoke", "house", id];
    assert_eq!(run(&revoke).status.code(), Some(0));
    complain(&run(&revoke), 1, "a dead token");
    for wrong in [
        &["token"][..],
        &["token", "make"],
        &["token", "create"],
        &["token", "create", "abc", "--scopes", "read,rite"],
        &["token", "create", "abc", "--scopes", ""],
        &["token", "create", "abc", "--expires", "soon"],
        &["token", "create", "abc", "--label"],
        &["token", "list"],
        &["token", "revoke", "abc"],
    ] {
        complain(&run(wrong), 2, &format!("{wrong:?}"));
    }
}
