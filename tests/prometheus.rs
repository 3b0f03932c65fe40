//! A real Prometheus scrapes the server: each expression of the dashboard and of the alerts in
//! `deploy/` returns data, and Prometheus reads the counters that were sent.
//!
//! Needs `prometheus` and `promtool` (Debian's package `prometheus` has both).

mod support;

use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::http::percent_encoded;
use support::server::{Server, free_port};
use support::{not_checked, wait_for};
use tempfile::TempDir;

fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file)
}

/// Whether the tools are there.
fn has_tools() -> bool {
    let is_there = |tool: &str| {
        let version = Command::new(tool).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    is_there("prometheus") && is_there("promtool")
}

/// A running Prometheus; killed when dropped.
struct Prometheus {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Prometheus {
    /// Scrapes a server as `deploy/prometheus/prometheus.yml` says, but every second.
    fn start(server: &Server) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let rules = deployed("prometheus/flux.rules.yml");
        let config =
            fs::read_to_string(deployed("prometheus/prometheus.yml")).expect("a file of deploy/");
        let config = config
            .replace("localhost:3000", &format!("127.0.0.1:{}", server.port))
            .replace("15s", "1s")
            .replace("flux.rules.yml", rules.to_str().expect("UTF-8"));
        let file = dir.path().join("prometheus.yml");
        fs::File::create(&file)
            .expect("a file")
            .write_all(config.as_bytes())
            .expect("room");
        let port = free_port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        let own = Self {
            child,
            port,
            _dir: dir,
        };
        wait_for("prometheus", || own.ask("/-/ready").is_some().then_some(()));
        own
    }

    /// The body of an answer, if it is a success. By HTTP/1.0, whose answers end with the
    /// connection.
    fn ask(&self, target: &str) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let request = format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?;
        (status == "200").then(|| body.as_bytes().to_vec())
    }

    /// The numbers that an expression returns now; NaN is none.
    fn query(&self, expression: &str) -> Vec<f64> {
        let target = format!("/api/v1/query?query={}", percent_encoded(expression));
        let answer = self.ask(&target);
        let answer = answer.unwrap_or_else(|| panic!("refused: {expression}"));
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        let result = answer["data"]["result"].as_array().expect("a list");
        let values = result
            .iter()
            .map(|it| it["value"][1].as_str().expect("a text").parse());
        values
            .map(|value: Result<f64, _>| value.expect("a number"))
            .filter(|value: &f64| !value.is_nan())
            .collect()
    }
}

/// The expressions of the dashboard, with its variables filled in.
fn of_dashboard() -> Vec<String> {
    let text = fs::read_to_string(deployed("grafana/flux.json")).expect("a file of deploy/");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let expressions = targets
        .flatten()
        .map(|target| target["expr"].as_str().expect("a text"));
    expressions
        .map(|it| {
            it.replace("$__rate_interval", "1m")
                .replace("$instance", ".+")
        })
        .collect()
}

/// The expressions of the alerts without their comparisons, as `promtool` and Prometheus list them.
fn of_alerts(prometheus: &Prometheus) -> Vec<String> {
    let answer = prometheus.ask("/api/v1/rules").expect("rules");
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    let groups = answer["data"]["groups"].as_array().expect("a list");
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("a list"));
    let alerts = rules.map(|rule| {
        assert_ne!(rule["health"], "err", "{rule}");
        let annotations = &rule["annotations"];
        let runbook = annotations["runbook"].as_str().expect("a text");
        assert!(runbook.starts_with("docs/OPERATIONS.md"), "{rule}");
        left_side(rule["query"].as_str().expect("a text")).to_owned()
    });
    alerts.collect()
}

/// What stands before the comparison that is in no parentheses.
fn left_side(expression: &str) -> &str {
    let mut depth = 0;
    for (place, character) in expression.char_indices() {
        match character {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            '<' | '>' | '=' if depth == 0 => return expression[..place].trim(),
            _ => {}
        }
    }
    panic!("no comparison: {expression}");
}

/// Publishes an event to each of a few namespaces.
fn publish(server: &Server) -> u32 {
    for number in 0..8 {
        assert_eq!(
            server.publish(&format!("p{number}/a"), r#"{"n":1}"#).status,
            200
        );
    }
    8
}

#[test]
fn every_expression_of_the_dashboard_and_the_alerts_returns_data() {
    if !has_tools() {
        return not_checked("the dashboard and the alerts: there is no prometheus here");
    }
    let server = Server::start(2);
    let prometheus = Prometheus::start(&server);
    let mut sent = 0;
    let scrapes = "count_over_time(flux_ready[1m])";
    wait_for("four scrapes", || {
        sent += publish(&server);
        assert_eq!(server.post("/api/events", "{}").status, 400);
        prometheus
            .query(scrapes)
            .iter()
            .any(|count| *count >= 4.0)
            .then_some(())
    });
    let alerts = of_alerts(&prometheus);
    assert_eq!(alerts.len(), 9);
    let dashboard = of_dashboard();
    assert!(dashboard.len() > 30, "{}", dashboard.len());
    for expression in dashboard.iter().chain(&alerts) {
        wait_for(expression, || {
            (!prometheus.query(expression).is_empty()).then_some(())
        });
    }
    let accepted = "sum(flux_events_accepted_total)";
    wait_for(accepted, || {
        (prometheus.query(accepted) == [f64::from(sent)]).then_some(())
    });
    let firing = "count(ALERTS{alertstate=\"firing\"})";
    assert!(prometheus.query(firing).is_empty(), "nothing is wrong");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_answer_and_the_alerts() {
    if !has_tools() {
        return not_checked("the answer and the alerts by promtool: it is not here");
    }
    let server = Server::start(2);
    publish(&server);
    let text = server.get("/metrics").text().to_owned();
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let checked = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}");
    let rules = deployed("prometheus/flux.rules.yml");
    let checked = Command::new("promtool")
        .args(["check", "rules"])
        .arg(rules)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn the_left_side_of_a_comparison_is_what_stands_before_it() {
    assert_eq!(left_side("up{job=\"flux\"} == 0"), "up{job=\"flux\"}");
    assert_eq!(
        left_side("a / on (b) c{d=~\"e\"} < 0.1"),
        "a / on (b) c{d=~\"e\"}"
    );
    assert_eq!(left_side("f(g[5m]) > on (i) h"), "f(g[5m])");
}
