//! The first minute of `README.md`, run as it stands there.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use support::http::Connection;
use support::server::{FLUX, free_port};

/// The shell blocks of a section, in order.
fn shell_blocks(readme: &str, section: &str) -> Vec<String> {
    let heading = format!("## {section}\n");
    let text = readme.split_once(&heading).expect("the section is there").1;
    let text = text.split("\n## ").next().expect("a section");
    let blocks = text.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().expect("a block").to_owned())
        .collect()
}

#[test]
fn the_first_minute_works_when_it_is_pasted_as_a_whole() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let mut blocks = shell_blocks(&readme, "The first minute");
    // The last block needs a WebSocket client that is installed from elsewhere.
    let websocket = blocks.pop().expect("blocks");
    assert!(websocket.contains("/api/ws"), "{websocket}");
    let pasted = blocks.concat();
    let port = free_port();
    let watch = "./scripts/flux.sh watch 'host-*'";
    for there in ["cargo build --release\n", "./target/release/flux &", watch] {
        assert!(pasted.contains(there), "{there} in {pasted}");
    }
    // The binary of this test in place of a release build; an end to the watching in place of
    // Ctrl-C.
    let typed = pasted
        .replace("cargo build --release\n", "")
        .replace("./target/release/flux", FLUX)
        .replace("localhost:3000", &format!("localhost:{port}"))
        .replace(watch, &format!("timeout 2 {watch}"));
    let data = tempfile::TempDir::new().expect("a temporary directory");
    let output = Command::new("bash")
        .args(["-c", &typed])
        .current_dir(root)
        .env("PORT", port.to_string())
        .env("FLUX_URL", format!("http://localhost:{port}"))
        .env("FLUX_DATA_DIR", data.path().join("data"))
        .env_remove("FLUX_TOKEN")
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for line in [
        r#"[{"id":"host-"#,
        r#""stream":"sensors""#,
        r#""properties":{"humidity":40,"temperature":22.50},"#,
        r#""payload":{"entity_id":"dawn-coral/sensor-01","properties":{"humidity":40}}"#,
        r#"{"type":"entity","entity_id":"host-"#,
    ] {
        assert!(shown.contains(line), "{line} in {shown}\n{said}");
    }
    let state = r#""properties":{"humidity":40,"temperature":22.50},"#;
    assert_eq!(shown.matches(state).count(), 2, "also after the kill");
    assert!(!said.contains("no answer"), "{said}");
    support::wait_for("the server to be stopped", || {
        Connection::try_open(port).is_err().then_some(())
    });
}
