//! The port by TLS, seen by the programs that people have: `openssl s_client`, curl, the script,
//! Python, and a page in a real browser. Tests of a program that is missing say so.

mod support;

use serde_json::json;
use std::process::Command;
use support::chromium::{Chromium, FOREIGN};
use support::http::request;
use support::server::Server;
use support::tls::{Authority, Sealed, setup, text, tunnel, with_input};
use support::{event, not_checked, wait_for};
use tempfile::TempDir;

/// True if a program is here; else what is not checked for want of it is said.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    if !found {
        not_checked(&format!("TLS with {program}: there is none"));
    }
    found
}

/// What the page does. `seen` is what came of it.
const PAGE: &str = r#"
window.seen = [];
const say = what => window.seen.push(what);
const socket = new WebSocket("wss://" + location.host + "/api/ws?metrics=false");
socket.onmessage = message => say("socket " + JSON.parse(message.data).type);
socket.onerror = () => say("socket failed");
socket.onopen = () => socket.send(JSON.stringify({type: "subscribe", id: 1, entity_id: "page/*"}));
const stream = new EventSource("/api/stream?entity_id=page/*");
stream.addEventListener("ack", () => say("stream ack"));
stream.addEventListener("entity", () => say("stream entity"));
window.publish = () => fetch("/api/events", {method: "POST", body: JSON.stringify({
  stream: "s", source: "page", payload: {entity_id: "page/a", properties: {n: 1}}})})
  .then(answer => say("publish " + answer.status), error => say("publish " + error));
"#;

fn started(authority: &Authority, data: &TempDir) -> Server {
    setup(authority, data.path(), 2)
        .env("FLUX_OPEN", "false")
        .env("FLUX_ALLOWED_ORIGINS", "")
        .env("FLUX_ALLOWED_HOSTS", FOREIGN)
        .start()
}

#[test]
fn a_page_of_the_server_reaches_it_by_fetch_websocket_and_event_source() {
    let Some(browser) = Chromium::start("TLS in a browser") else {
        return;
    };
    let authority = Authority::new();
    authority.issue("server", "first");
    let data = TempDir::new().expect("a temporary directory");
    let server = started(&authority, &data);
    tunnel(authority.client(), server.port);
    browser.open(&format!("https://{FOREIGN}:{}/health", server.port));
    let shown = browser.run("return document.body.innerText");
    assert!(shown.to_string().contains("https"), "{shown}");
    browser.run(PAGE);
    let seen = || browser.run("return window.seen");
    let await_all = |expected: &[&str]| {
        wait_for(&format!("{expected:?}"), || {
            let seen = seen();
            let list = seen.as_array().expect("a list");
            assert!(!list.contains(&json!("socket failed")), "{seen}");
            let has = |what: &&str| list.contains(&json!(what));
            expected.iter().all(has).then_some(())
        });
    };
    await_all(&["socket ack", "stream ack"]);
    browser.run("window.publish()");
    await_all(&["publish 200", "socket state_update", "stream entity"]);
    server.stop();
}

#[test]
fn openssl_speaks_1_2_and_1_3_and_nothing_older() {
    if !has("openssl") {
        return;
    }
    let sealed = Sealed::start(2);
    let call = request("GET", "/health", &["Connection: close"], "");
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let output = sealed.s_client(
            &[
                flag,
                "-alpn",
                "h2,http/1.1",
                "-ign_eof",
                "-verify_return_error",
            ],
            &call,
        );
        let said = text(&output.stdout);
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        assert!(said.contains(version), "{said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
        assert!(said.contains("HTTP/1.1 200"), "{said}");
        assert!(
            output.status.success(),
            "an end in order: {}",
            text(&output.stderr)
        );
    }
    for arguments in [
        &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..],
        &["-tls1_3", "-alpn", "h2"],
    ] {
        let output = sealed.s_client(arguments, "");
        let said = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said.contains("alert"), "{said}");
    }
}

#[test]
fn a_ticket_is_taken_by_every_core_and_by_none_after_sighup() {
    if !has("openssl") {
        return;
    }
    let sealed = Sealed::start(2);
    let call = request("GET", "/health", &["Connection: close"], "");
    for flag in ["-tls1_2", "-tls1_3"] {
        let session = sealed.authority.path("session");
        let session = session.to_str().expect("text");
        let store = [flag, "-ign_eof", "-sess_out", session];
        let first = text(&sealed.s_client(&store, &call).stdout);
        assert!(first.contains("New, TLS"), "{first}");
        let resume = [flag, "-ign_eof", "-sess_in", session];
        for _ in 0..8 {
            let said = text(&sealed.s_client(&resume, &call).stdout);
            assert!(said.contains("Reused, TLS"), "{said}");
            assert!(said.contains("HTTP/1.1 200"), "{said}");
        }
        let count = sealed.server.said().matches("SIGHUP").count();
        sealed.server.signal("HUP");
        wait_for("a line about it", || {
            (sealed.server.said().matches("SIGHUP").count() > count).then_some(())
        });
        let said = text(&sealed.s_client(&resume, &call).stdout);
        assert!(said.contains("New, TLS"), "{said}");
    }
}

#[test]
fn an_rsa_key_and_a_renegotiation_are_no_trouble() {
    if !has("openssl") {
        return;
    }
    let authority = Authority::new();
    let (certificate, key) = (authority.path("server.pem"), authority.path("server.key"));
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output();
    assert!(made.expect("openssl").status.success());
    let data = TempDir::new().expect("a temporary directory");
    let server = setup(&authority, data.path(), 1).start();
    let url = format!("https://localhost:{}/health", server.port);
    let mut curl = Command::new("curl");
    curl.args(["-sSf", &url, "--cacert"]).arg(&certificate);
    let output = with_input(curl, "");
    assert!(
        text(&output.stdout).contains("https"),
        "{}",
        text(&output.stderr)
    );
    // `R` asks for another handshake.
    let mut openssl = Command::new("openssl");
    let port = format!("localhost:{}", server.port);
    openssl.args(["s_client", "-tls1_2", "-connect", &port, "-CAfile"]);
    let output = with_input(
        {
            openssl.arg(&certificate);
            openssl
        },
        "R\n",
    );
    assert!(text(&output.stdout).contains("TLSv1.2"));
    let mut curl = Command::new("curl");
    curl.args(["-sSf", &url, "--cacert"]).arg(&certificate);
    assert!(with_input(curl, "").status.success());
    server.stop();
}

#[test]
fn curl_and_the_script_trust_a_ca_file() {
    if !has("curl") {
        return;
    }
    let sealed = Sealed::start(2);
    let ids: Vec<String> = (0..500).map(|number| format!("curl/{number}")).collect();
    let events: Vec<String> = ids.iter().map(|id| event(id, "{}")).collect();
    let answer = sealed.ask("POST", "/api/events/batch", &support::batch(&events));
    assert_eq!(answer.status, 200);
    let list = format!("{}/api/state/entities?namespace=curl", sealed.url());
    let mut curl = Command::new("curl");
    curl.args(["-sSf", &list, &list, "--cacert"])
        .arg(sealed.authority.ca());
    let output = with_input(curl, "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).matches("curl/").count(), 1000);
    let mut stranger = Command::new("curl");
    stranger.args(["-sSf", &list]);
    assert_eq!(
        with_input(stranger, "").status.code(),
        Some(60),
        "an unknown authority"
    );

    let script = |arguments: &[&str]| {
        let mut script = support::script::flux(&sealed.url(), arguments);
        script.env("FLUX_CA_FILE", sealed.authority.ca());
        with_input(script, "")
    };
    let output = script(&["publish", "s", "t", "script/a", r#"{"n":22.50}"#]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = script(&["get", "script/a"]);
    assert!(
        text(&output.stdout).contains("22.50"),
        "{}",
        text(&output.stderr)
    );
    let script = support::script::flux(&sealed.url(), &["get", "script/a"]);
    let output = with_input(script, "");
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("certificate problem"), "{complaint}");
    assert!(complaint.contains("FLUX_CA_FILE"), "{complaint}");
    let mut script = support::script::flux(&sealed.url(), &["get", "script/a"]);
    script.env("FLUX_CA_FILE", "/nowhere");
    let output = with_input(script, "");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("FLUX_CA_FILE"));
}

#[test]
fn python_reads_answers_and_server_sent_events() {
    const PROGRAM: &str = r#"
import http.client, json, ssl, sys
port, ca = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=ca)
connection = http.client.HTTPSConnection("localhost", port, context=context)
for number in range(20):
    event = {"stream": "s", "source": "p", "payload": {"entity_id": "py/%d" % number, "properties": {"n": number}}}
    connection.request("POST", "/api/events", json.dumps(event))
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
connection.request("GET", "/api/state/entities?namespace=py")
assert len(json.load(connection.getresponse())) == 20
stream = http.client.HTTPSConnection("localhost", port, context=context)
stream.request("GET", "/api/stream?entity_id=py/*&snapshot=true")
version = stream.sock.version()
answer = stream.getresponse()
line = b""
while not line.startswith(b"event: snapshot_end"):
    line = answer.readline()
    assert line, "the stream ended"
print(version, "done")
"#;
    if !has("python3") {
        return;
    }
    let sealed = Sealed::start(2);
    let mut python = Command::new("python3");
    python.args(["-c", PROGRAM, &sealed.server.port.to_string()]);
    python.arg(sealed.authority.ca());
    let output = with_input(python, "");
    assert_eq!(
        text(&output.stdout).trim(),
        "TLSv1.3 done",
        "{}",
        text(&output.stderr)
    );
}
