//! Starts that are cut off by SIGTERM at any moment end cleanly: exit code 0, or the signal's own
//! end where the program has not begun yet; nothing on standard error but the server's own lines;
//! and the next start goes on from what is there.

mod support;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::server::{Setup, free_port};
use support::wait_for;
use tempfile::TempDir;

/// SIGTERM.
const TERM: i32 = 15;
/// Milliseconds between the start of the process and the signal: from before its first line to
/// after it is ready.
const DELAYS_MS: [u64; 12] = [0, 1, 2, 4, 7, 11, 16, 25, 40, 70, 120, 250];

/// Starts a server and ends it after a while.
fn start_and_end(setup: &Setup, delay_ms: u64) {
    let mut child = setup
        .command(free_port())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("flux starts");
    std::thread::park_timeout(Duration::from_millis(delay_ms));
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.is_ok_and(|status| status.success()));
    let status = wait_for("the server to end", || {
        child.try_wait().expect("a child can be waited for")
    });
    let output = child.wait_with_output().expect("its messages are readable");
    let said = String::from_utf8_lossy(&output.stderr);
    let is_clean = status.code() == Some(0) || (status.signal() == Some(TERM) && said.is_empty());
    let is_own = |line: &str| line.starts_with("flux: ") && !line.contains("error: ");
    assert!(
        is_clean && said.lines().all(is_own),
        "after {delay_ms} ms: {status}: {said}"
    );
}

/// As many as a server may have on this machine.
fn most_shards() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    4 * u32::try_from(cores).unwrap_or(1)
}

#[test]
fn of_servers_that_start_at_once_on_one_port_one_goes_on() {
    let dir = TempDir::new().expect("a temporary directory");
    for round in 0..10 {
        let port = free_port();
        let start = |name: &str| {
            let path = dir.path().join(format!("{round}-{name}"));
            let mut command = Setup::new(&path, 1).command(port);
            let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
            child.expect("flux starts")
        };
        let mut both = [start("a"), start("b")];
        let loser = wait_for("one of two to be refused", || {
            let mut ended = both.iter_mut().map(|child| {
                let status = child.try_wait().expect("a child can be waited for");
                status.is_some()
            });
            ended.position(|ended| ended)
        });
        let [a, b] = both;
        let (lost, mut won) = if loser == 0 { (a, b) } else { (b, a) };
        let lost = lost.wait_with_output().expect("its messages are readable");
        let said = String::from_utf8_lossy(&lost.stderr);
        assert_eq!(lost.status.code(), Some(1), "{said}");
        assert!(said.contains("is in use by another program"), "{said}");
        assert_eq!(won.try_wait().expect("a child can be waited for"), None);
        won.kill().expect("it runs");
        won.wait().expect("a child can be waited for");
    }
}

#[test]
fn a_start_that_is_told_to_stop_at_any_moment_ends_cleanly() {
    for shards in [1, most_shards()] {
        let dir = TempDir::new().expect("a temporary directory");
        let all = dir.path().join("all");
        for delay_ms in DELAYS_MS {
            // One is the first start of its directory, the other finds what the last has left.
            for path in [dir.path().join(delay_ms.to_string()), all.clone()] {
                start_and_end(&Setup::new(&path, shards), delay_ms);
                let with_tokens = Setup::new(&path, shards).env("FLUX_AUTH_ENABLED", "true");
                start_and_end(&with_tokens, delay_ms);
            }
        }
        Setup::new(&all, shards).start().stop();
    }
}
