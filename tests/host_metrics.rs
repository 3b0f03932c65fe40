//! `host-metrics.sh`: what it publishes, and how it starts and ends.

mod support;

use std::process::Command;
use support::script::{complain, script, succeed};
use support::server::{Server, free_port};

#[test]
fn host_metrics_publishes_load_memory_and_networks() {
    for shards in [1, 2] {
        let server = Server::start(shards);
        let once = || {
            let mut command = Command::new(script("host-metrics.sh"));
            let output = command
                .arg("--once")
                .env("FLUX_URL", server.url())
                .env_remove("FLUX_TOKEN")
                .output();
            let output = output.expect("the script runs");
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        once();
        let listed = succeed(&server, &["list", "--prefix", "host-"]);
        let listed = listed.as_array().expect("an array");
        let find = |suffix: &str| {
            let mut entities = listed.iter();
            entities.find(|entity| entity["id"].as_str().is_some_and(|id| id.ends_with(suffix)))
        };
        let load = find("/load").expect("an entity");
        let memory = find("/memory").expect("an entity");
        assert!(
            load["properties"]["load_1m"].is_number()
                && load["properties"]["uptime_seconds"].is_number(),
            "{load}"
        );
        assert!(
            memory["properties"]["total_bytes"].as_u64()
                > memory["properties"]["available_bytes"].as_u64()
        );
        let ns = load["id"]
            .as_str()
            .and_then(|id| id.split_once('/'))
            .expect("a namespace")
            .0;
        assert!((6..=32).contains(&ns.len()), "{ns}");
        assert!(
            ns.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
            "{ns}"
        );
        assert!(
            find("/network/lo").is_some(),
            "the loopback interface is there: {listed:?}"
        );
        once();
        assert_eq!(
            succeed(&server, &["get", &format!("{ns}/load")])["version"],
            2
        );
    }
}

#[test]
fn host_metrics_goes_on_while_the_server_is_away_and_ends_cleanly() {
    let port = free_port();
    let logs = tempfile::TempDir::new().expect("a temporary directory");
    let said = logs.path().join("stderr");
    for signal in ["TERM", "INT"] {
        let stderr = std::fs::File::create(&said).expect("a file");
        // A shell can't catch what was ignored when it began, as SIGINT is in whatever a shell runs
        // in the background.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT,TERM")
            .arg(script("host-metrics.sh"))
            .env("FLUX_URL", format!("http://127.0.0.1:{port}"))
            .env("INTERVAL", "0.1")
            .stderr(stderr);
        let mut child = command.spawn().expect("the script runs");
        support::wait_for("two complaints", || {
            let text = std::fs::read_to_string(&said).expect("a file");
            (text.matches("next try").count() >= 2).then_some(())
        });
        let kill = format!("kill -s {signal} {}", child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .expect("a shell")
                .success()
        );
        let status = support::wait_for("the script to end", || child.try_wait().expect("a child"));
        assert_eq!(status.code(), Some(0), "{signal}");
    }
    let once = Command::new(script("host-metrics.sh"))
        .arg("--once")
        .env("FLUX_URL", "http://127.0.0.1:1")
        .output();
    complain(&once.expect("the script runs"), 1, "once, and nobody there");
    for interval in ["0", "x", "-1", "", "1e3"] {
        let output = Command::new(script("host-metrics.sh"))
            .arg("--twice")
            .env("INTERVAL", interval)
            .output();
        complain(&output.expect("the script runs"), 2, interval);
    }
}

#[test]
fn host_metrics_runs_through_symbolic_links() {
    let server = Server::start(1);
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let direct = dir.path().join("metrics");
    std::os::unix::fs::symlink(script("host-metrics.sh"), &direct).expect("a link");
    // A link with a relative target, to a link.
    let relative = dir.path().join("again");
    std::os::unix::fs::symlink("metrics", &relative).expect("a link");
    for link in [&direct, &relative] {
        let output = Command::new(link)
            .arg("--once")
            .env("FLUX_URL", server.url())
            .env_remove("FLUX_TOKEN")
            .output()
            .expect("the script runs");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{complaint}");
    }
    let load = succeed(&server, &["list", "--prefix", "host-"]);
    assert!(load.as_array().is_some_and(|listed| !listed.is_empty()));
}

#[test]
fn host_metrics_explains_how_to_run_and_stop_it() {
    let output = Command::new(script("host-metrics.sh"))
        .arg("--help")
        .output()
        .expect("the script runs");
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    for word in ["--once", "INTERVAL", "FLUX_NAMESPACE", "kill"] {
        assert!(help.contains(word), "{word} in {help}");
    }
}
