//! `flux.sh`: help, messages, the terminal, and the commands that read: `get`, `list`, `history`,
//! `watch`.

mod support;

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use support::connectors::KEY;
use support::script::{complain, flux, run, script, succeed};
use support::server::{Server, Setup};

use support::{namespace, on_each};

/// Every command and subcommand, in an order in which their examples can run one after the other.
const COMMANDS: &[&str] = &[
    "health",
    "publish",
    "increment",
    "batch",
    "get",
    "list",
    "history",
    "watch",
    "delete",
    "batch-delete",
    "connectors",
    "connectors add",
    "connectors show",
    "connectors token",
    "connectors remove",
    "admin-config",
    "namespace",
    "namespace create",
    "namespace show",
    "namespace list",
    "namespace private",
    "namespace public",
    "namespace rotate",
    "token",
    "token create",
    "token list",
    "token revoke",
    "namespace delete",
];

fn help_of(command: &str) -> String {
    let mut arguments: Vec<&str> = command.split(' ').collect();
    let asked_first = flux("http://127.0.0.1:1", &[&["help"], &arguments[..]].concat()).output();
    arguments.push("--help");
    let output = flux("http://127.0.0.1:1", &arguments).output();
    let output = output.expect("the script runs");
    assert_eq!(output.status.code(), Some(0), "{command} --help");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command}");
    assert_eq!(
        asked_first.expect("the script runs").stdout,
        output.stdout,
        "help {command} is {command} --help"
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn examples(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().skip_while(|line| !line.starts_with("example"));
    lines.skip(1).map(str::trim)
}

#[test]
fn every_command_explains_itself_with_an_example_that_runs() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let open = Setup::new(&dir.path().join("open"), 1)
        .env("FLUX_ENCRYPTION_KEY", KEY)
        .env("FLUX_ADMIN_TOKEN", "operator")
        .start();
    let with_tokens = Setup::new(&dir.path().join("with-tokens"), 1)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", "operator")
        .start();
    write(&dir.path().join("token-file"), "s3cret\n");
    let event = support::event("dawn-coral/sensor-02", r#"{"temperature":23}"#);
    write(&dir.path().join("events.json"), &format!("[{event}]"));
    let scripts = script("flux.sh");
    let scripts = scripts.parent().expect("a folder").to_string_lossy();
    let path = std::env::var_os("PATH").expect("a path").into_string();
    let path = format!("{scripts}:{}", path.expect("UTF-8"));
    for command in COMMANDS {
        let help = help_of(command);
        assert!(
            help.starts_with(&format!("usage: flux.sh {command}")),
            "{help}"
        );
        let server = if command.starts_with("namespace") || command.starts_with("token") {
            &with_tokens
        } else {
            &open
        };
        let mut count = 0;
        // One runs until it is stopped, the other names a token that is not there.
        let runs = |line: &&str| !line.contains(" watch") && !line.contains(" revoke ");
        for example in examples(&help).filter(runs) {
            assert!(example.starts_with("flux.sh "), "{example}");
            let output = Command::new("bash")
                .args(["-c", example])
                .current_dir(dir.path())
                .env("PATH", &path)
                .env("FLUX_URL", server.url())
                .env("FLUX_ADMIN_TOKEN", "operator")
                .env_remove("FLUX_TOKEN")
                .stdin(Stdio::null())
                .output()
                .expect("a shell");
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{example}: {complaint}");
            count += 1;
        }
        assert!(count > 0 || *command == "watch", "an example in {help}");
    }
}

#[test]
fn wrong_usage_points_to_the_help_of_the_command() {
    for (arguments, help) in [
        (&["publish", "x"][..], "flux.sh publish --help"),
        (&["list", "--nonsense"], "flux.sh list --help"),
        (&["namespace", "show"], "flux.sh namespace show --help"),
        (&["connectors", "x"], "flux.sh connectors --help"),
        (&["nonsense"], "flux.sh help"),
        (&["help", "nonsense"], "flux.sh help"),
    ] {
        let output = flux("http://127.0.0.1:1", arguments).output();
        let said = complain(
            &output.expect("the script runs"),
            2,
            &format!("{arguments:?}"),
        );
        assert!(said.contains(help), "{said}");
    }
}

#[test]
fn a_missing_tool_is_named_before_anything_is_done() {
    let bash = find_in_path("bash").expect("bash");
    for missing in ["curl", "awk", "mktemp"] {
        let tools = tempfile::TempDir::new().expect("a temporary directory");
        for tool in ["curl", "awk", "cat", "mktemp", "rm", "sleep", "tail"] {
            if tool != missing {
                let found = find_in_path(tool).unwrap_or_else(|| panic!("{tool} is installed"));
                std::os::unix::fs::symlink(found, tools.path().join(tool)).expect("a link");
            }
        }
        let output = Command::new(&bash)
            .arg(script("flux.sh"))
            .args(["publish", "s", "s", "id", r#"{"n":1}"#])
            .env("PATH", tools.path())
            .env("FLUX_URL", "http://127.0.0.1:1")
            .output();
        let said = complain(&output.expect("bash runs"), 2, missing);
        assert!(
            said.contains(&format!("{missing} is not installed")),
            "{said}"
        );
        let help = Command::new(&bash)
            .arg(script("flux.sh"))
            .arg("help")
            .env("PATH", tools.path())
            .output();
        assert!(
            help.expect("bash runs").status.success(),
            "help needs no tool"
        );
    }
}

fn write(path: &std::path::Path, text: &str) {
    let mut file = std::fs::File::create(path).expect("a file");
    file.write_all(text.as_bytes()).expect("a file takes bytes");
}

fn find_in_path(tool: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file())
}

#[test]
fn refusals_fit_the_token_that_was_sent_or_not() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let open = Setup::new(&dir.path().join("open"), 1).start();
    for (arguments, why) in [
        (&["publish", "s", "s", "flux-core/x", "{}"][..], "reserved"),
        (
            &["admin-config", r#"{"max_batch_delete":5}"#],
            "without FLUX_ADMIN_TOKEN",
        ),
    ] {
        let said = complain(&run(&open, arguments), 1, "refused to everyone");
        assert!(said.contains(why), "{said}");
        assert!(
            said.trim_end().ends_with("(HTTP 403)"),
            "no token would help: {said}"
        );
    }
    let server = Setup::new(&dir.path().join("with-tokens"), 1)
        .env("FLUX_AUTH_ENABLED", "true")
        .env("FLUX_ADMIN_TOKEN", "operator")
        .start();
    let refused = |environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = flux(&server.url(), arguments);
        command.envs(environment.iter().copied());
        complain(&command.output().expect("the script runs"), 1, "a refusal")
    };
    let event = ["publish", "s", "s", "house/room", "{}"];
    let said = refused(&[], &event);
    assert!(said.contains("no token was sent: set FLUX_TOKEN"), "{said}");
    let said = refused(&[("FLUX_TOKEN", "unknown")], &event);
    assert!(
        said.contains("does not accept the token in FLUX_TOKEN"),
        "{said}"
    );
    let said = refused(&[("FLUX_TOKEN", "operator")], &event);
    assert!(
        said.contains("the token in FLUX_TOKEN does not allow this"),
        "{said}"
    );
    let config = ["admin-config", r#"{"max_batch_delete":5}"#];
    let said = refused(&[], &config);
    assert!(
        said.contains("no token was sent: set FLUX_ADMIN_TOKEN"),
        "{said}"
    );
    let said = refused(&[("FLUX_ADMIN_TOKEN", "wrong")], &config);
    assert!(said.contains("the token in FLUX_ADMIN_TOKEN"), "{said}");
}

/// Runs `flux.sh` with a terminal as its standard output.
fn on_a_terminal(server: &Server, arguments: &str) -> String {
    let command = format!("{} {arguments}", script("flux.sh").display());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("FLUX_URL", server.url())
        .stdin(Stdio::null())
        .output()
        .expect("script (util-linux) runs");
    assert!(output.status.success(), "{arguments}");
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .replace('\r', "")
}

#[test]
fn a_terminal_shows_the_digits_that_were_sent_laid_out() {
    on_each(|server| {
        let ns = namespace("terminal");
        let properties = r#"{"a":23.50,"b":12345678901234567890123,"c":1e2,"d":[],"e":{},"f":[1,{"g":"x\"{,}\\"}],"h":""}"#;
        succeed(
            server,
            &["publish", "s", "s", &format!("{ns}/x"), properties],
        );
        let shown = on_a_terminal(server, &format!("get {ns}/x"));
        for line in [
            r#"    "a": 23.50,"#,
            r#"    "b": 12345678901234567890123,"#,
            r#"    "c": 1e2,"#,
            r#"    "d": [],"#,
            r#"    "e": {},"#,
            r#"        "g": "x\"{,}\\""#,
            r#"    "h": """#,
        ] {
            assert!(
                shown.lines().any(|found| found == line),
                "{line} in {shown}"
            );
        }
        assert_eq!(
            serde_json::from_str::<Value>(&shown).expect("JSON"),
            succeed(server, &["get", &format!("{ns}/x")])
        );
        assert_eq!(
            on_a_terminal(server, &format!("list --prefix {ns}/none")),
            "[]\n"
        );
    });
}

#[test]
fn a_terminal_gets_no_control_character_from_a_value() {
    on_each(|server| {
        let id = format!("{}/x", namespace("control"));
        let properties = json!({"a": "\u{9b}31m\u{7f}é\u{85}"}).to_string();
        succeed(server, &["publish", "s", "s", &id, &properties]);
        let shown = on_a_terminal(server, &format!("get {id}"));
        assert!(shown.contains(r"\u009b31m\u007fé\u0085"), "{shown:?}");
    });
}

#[test]
fn lists_are_limited_paged_cut_to_fields_and_read_in_the_past() {
    on_each(|server| {
        let ns = namespace("pages");
        for name in ["a", "b c", "ü"] {
            let id = format!("{ns}/{name}");
            succeed(
                server,
                &["publish", "s", "s", &id, r#"{"t":1,"u":2.50,"v":3}"#],
            );
        }
        let ids = |output: &std::process::Output| -> Vec<String> {
            assert!(output.status.success());
            let listed: Vec<Value> = serde_json::from_slice(&output.stdout).expect("an array");
            listed
                .iter()
                .map(|entity| entity["id"].as_str().expect("an id").to_owned())
                .collect()
        };
        let first = run(server, &["list", "--namespace", &ns, "--limit", "2"]);
        assert_eq!(ids(&first), [format!("{ns}/a"), format!("{ns}/b c")]);
        let said = String::from_utf8_lossy(&first.stderr).into_owned();
        let next = said.split_once("--after ").expect("the next page").1;
        assert_eq!(next.trim_end(), format!("{ns}/b\\ c"));
        let after = format!("{ns}/b c");
        let last = run(
            server,
            &["list", "--namespace", &ns, "--limit=2", "--after", &after],
        );
        assert_eq!(ids(&last), [format!("{ns}/ü")]);
        assert_eq!(String::from_utf8_lossy(&last.stderr), "");
        let cut = succeed(server, &["list", "--prefix", &ns, "--fields", "t,v"]);
        assert_eq!(cut[0]["properties"], json!({"t": 1, "v": 3}));
        let match_none = succeed(server, &["list", "--prefix", &ns, "--filter", "gt(t,1)"]);
        assert_eq!(match_none, json!([]));
        let filter = "and(eq(u,2.5),exists(\"v\"))";
        let matching = succeed(server, &["list", "--prefix", &ns, "--filter", filter]);
        assert_eq!(matching.as_array().map(Vec::len), Some(3));
        let id = format!("{ns}/a");
        let one = succeed(server, &["get", &id, "--fields=u"]);
        assert_eq!(one["properties"].to_string(), r#"{"u":2.50}"#);

        let then = one["lastUpdated"].as_str().expect("a time").to_owned();
        succeed(server, &["publish", "s", "s", &id, r#"{"t":9}"#]);
        let past = succeed(server, &["list", "--prefix", &id, "--at", &then]);
        assert_eq!(past[0]["properties"]["t"], 1);
        assert_eq!(
            succeed(server, &["get", &id, "--at", &then])["properties"]["t"],
            1
        );
        assert_eq!(succeed(server, &["get", &id])["properties"]["t"], 9);
        for wrong in [
            &["list", "--limit"][..],
            &["list", "--limit=1", "--limit=2"],
            &["get", "a", "--limit=2"],
            &["get", "a", "--at"],
        ] {
            complain(&run(server, wrong), 2, &format!("{wrong:?}"));
        }
        complain(&run(server, &["list", "--limit", "0"]), 1, "a bad limit");
    });
}

#[test]
fn history_shows_the_events_of_an_entity_or_namespace_newest_first() {
    on_each(|server| {
        let ns = namespace("past");
        let id = format!("{ns}/x");
        for value in ["1.0", "2.0", "3.0"] {
            let properties = format!(r#"{{"t":{value}}}"#);
            succeed(server, &["publish", "s", "s", &id, &properties]);
        }
        let values = |output: &std::process::Output| -> Vec<String> {
            assert!(output.status.success());
            let rows: Vec<Value> = serde_json::from_slice(&output.stdout).expect("an array");
            rows.iter()
                .map(|row| row["payload"]["properties"]["t"].to_string())
                .collect()
        };
        let page = run(server, &["history", &id, "--limit", "2"]);
        assert_eq!(values(&page), ["3.0", "2.0"]);
        let said = String::from_utf8_lossy(&page.stderr).into_owned();
        let cursor = said.split_once("--before ").expect("the next page").1;
        let page = run(server, &["history", &id, "--before", cursor.trim_end()]);
        assert_eq!(values(&page), ["1.0"]);
        let rows = succeed(server, &["history", "--namespace", &ns]);
        let time = rows[1]["acceptedAt"].as_str().expect("a time");
        let one = run(server, &["history", &id, "--since", time, "--until", time]);
        assert_eq!(values(&one), ["2.0"]);
        complain(&run(server, &["history"]), 2, "of nothing");
        complain(&run(server, &["history", "a", "b"]), 2, "of two");
    });
}

/// A `flux.sh watch` that runs, and ends with the test.
struct Watch {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watch {
    fn start(server: &Server, pattern: &[&str]) -> Self {
        let arguments = [&["watch"], pattern].concat();
        let mut command = flux(&server.url(), &arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    fn text(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.text()).expect("a line of JSON")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn watching_one_entity_prints_each_state_and_its_deletion() {
    on_each(|server| {
        let id = format!("{}/a b", namespace("watch"));
        succeed(
            server,
            &["publish", "s", "s", &id, r#"{"t":22.50,"o":{"id":"x"}}"#],
        );
        let mut watch = Watch::start(server, &[&id]);
        let text = watch.text();
        assert!(text.contains("22.50"), "digits as they are: {text}");
        let first: Value = serde_json::from_str(&text).expect("JSON");
        let entity = succeed(server, &["get", &id]);
        assert_eq!(
            first,
            json!({"type": "entity", "entity_id": id, "whole": true, "properties": entity["properties"],
                "timestamp": entity["lastUpdated"], "version": 1})
        );
        succeed(server, &["publish", "s", "s", &id, r#"{"t":23.50}"#]);
        let text = watch.text();
        assert!(text.contains(r#""properties":{"t":23.50}"#), "{text}");
        succeed(server, &["delete", &id]);
        let deleted = watch.next();
        assert_eq!(deleted["type"], "entity_deleted");
        assert_eq!(deleted["entity_id"], id);
        succeed(server, &["publish", "s", "s", &id, r"{}"]);
        assert_eq!(watch.next()["version"], 1);
    });
}

#[test]
fn an_id_that_looks_like_an_option_comes_behind_two_dashes() {
    on_each(|server| {
        let id = format!("--{}", namespace("dashes"));
        succeed(server, &["publish", "s", "t", &id, r#"{"n":1}"#]);
        let rows = succeed(server, &["history", "--", &id, "--limit", "1"]);
        assert_eq!(rows[0]["payload"]["entity_id"], id);
        let mut watch = Watch::start(server, &["--", &id]);
        assert_eq!(watch.next()["entity_id"], id);
    });
}

#[test]
fn watching_a_prefix_prints_each_entity_and_then_each_change() {
    on_each(|server| {
        let ns = namespace("watch");
        let publish = |name: &str, properties: &str| {
            let id = format!("{ns}/{name}");
            succeed(server, &["publish", "s", "s", &id, properties]);
        };
        publish("a", r#"{"t":"},{\"id\":\"x\\"}"#);
        publish("b", "{}");
        let pattern = format!("{ns}/*");
        let mut watch = Watch::start(server, &[&pattern]);
        let first = watch.next();
        assert_eq!(first["entity_id"], format!("{ns}/a"));
        assert_eq!(first["whole"], true);
        assert_eq!(first["properties"]["t"], "},{\"id\":\"x\\");
        assert_eq!(watch.next()["properties"], json!({}));
        for n in 1..=20 {
            publish("b", &format!(r#"{{"u":[{{"id":{n}}}]}}"#));
            assert_eq!(watch.next()["properties"], json!({"u": [{"id": n}]}));
        }
        publish("c", r#"{"v":1}"#);
        assert_eq!(watch.next()["entity_id"], format!("{ns}/c"));
        succeed(server, &["delete", &format!("{ns}/a")]);
        assert_eq!(watch.next()["type"], "entity_deleted");
    });
}

#[test]
fn a_watch_selects_by_filter_properties_and_place_and_shows_events() {
    on_each(|server| {
        let ns = namespace("watch");
        let publish = |name: &str, properties: &str| {
            let id = format!("{ns}/{name}");
            succeed(server, &["publish", "s", "s", &id, properties])
        };
        let before = publish("a", r#"{"t":1,"u":1}"#);
        publish("b", r#"{"t":5,"u":1}"#);
        let pattern = format!("{ns}/*");
        let mut hot = Watch::start(server, &[&pattern, "--filter", "gt(t,3)", "--fields", "t"]);
        let entity = hot.next();
        assert_eq!(entity["entity_id"], format!("{ns}/b"));
        assert_eq!(entity["properties"], json!({"t": 5}));
        let cursor = before["cursor"].as_str().expect("a cursor");
        let mut later = Watch::start(server, &[&pattern, "--since", cursor]);
        assert_eq!(later.next()["entity_id"], format!("{ns}/b"));
        let mut events = Watch::start(server, &[&pattern, "--mode", "event", "--since", cursor]);
        let event = events.next();
        assert_eq!(event["type"], "event");
        assert_eq!(event["payload"]["entity_id"], format!("{ns}/b"));
        let mut slow = Watch::start(server, &[&pattern, "--interval", "0.05"]);
        assert_eq!(slow.next()["entity_id"], format!("{ns}/a"));
    });
}

/// The largest lines that there are: pages of a snapshot, and one entity of nearly a message.
#[test]
fn a_watch_prints_entities_of_many_pages_and_large_ones() {
    on_each(|server| {
        let ns = namespace("watch");
        let ids: Vec<String> = (0..3000).map(|n| format!("{ns}/{n:05}")).collect();
        support::publish_all(server, &ids, r#"{"t":22.50,"text":"a \"quoted\" word"}"#);
        let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(900_000));
        server.publish(&format!("{ns}/z"), &large);
        let mut watch = Watch::start(server, &[&format!("{ns}/*")]);
        for id in &ids {
            assert_eq!(watch.next()["entity_id"], *id);
        }
        let last = watch.next();
        assert_eq!(
            last["properties"]["text"].as_str().map(str::len),
            Some(900_000)
        );
    });
}

#[test]
fn a_watch_that_loses_the_server_says_so_once_and_goes_on() {
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let setup = Setup::new(&dir.path().join("data"), 1);
    let server = setup.start();
    let port = server.port;
    succeed(&server, &["publish", "s", "s", "a", r#"{"t":1}"#]);
    let said = dir.path().join("stderr");
    let mut command = flux(&server.url(), &["watch", "a"]);
    command.stderr(std::fs::File::create(&said).expect("a file"));
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut watch = Watch { child, lines };
    assert_eq!(watch.next()["properties"]["t"], 1);
    server.stop();
    let complaint = support::wait_for("a complaint", || {
        let text = std::fs::read_to_string(&said).expect("a file");
        text.ends_with('\n').then_some(text)
    });
    assert!(complaint.contains("no answer"), "{complaint}");
    let server = setup.start_on(port);
    succeed(&server, &["publish", "s", "s", "a", r#"{"t":2}"#]);
    loop {
        let update = watch.next();
        if update["properties"]["t"] == 2 {
            break;
        }
    }
    let text = std::fs::read_to_string(&said).expect("a file");
    assert_eq!(text.lines().count(), 1, "{text}");
    drop(watch);

    let nobody = format!("http://127.0.0.1:{}", support::server::free_port());
    let output = flux(&nobody, &["watch", "a"]).output();
    complain(&output.expect("it runs"), 1, "nobody was ever there");
    for interval in ["0", "x", "-1", "0.001", "11", "1;2"] {
        let output = flux(&nobody, &["watch", "--interval", interval]).output();
        complain(&output.expect("it runs"), 2, interval);
    }
}
