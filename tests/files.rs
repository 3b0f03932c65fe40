//! Files of a server and of its tools: for their owner alone, and no symbolic link is followed.

mod support;

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::server::{FLUX, Setup};
use support::wait_for;
use tempfile::TempDir;

/// Words before a program that has it run with the umask of most systems, whatever that of the
/// tests is.
fn umask_022() -> Vec<String> {
    ["sh", "-c", "umask 022; exec \"$0\" \"$@\""]
        .map(str::to_owned)
        .to_vec()
}

fn flux(arguments: &[&str]) -> Output {
    let launcher = umask_022();
    Command::new(&launcher[0])
        .args(&launcher[1..])
        .arg(FLUX)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("flux runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the tests is text")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

fn setup(dir: &Path, shards: u32) -> Setup {
    Setup::new(dir, shards)
        .launched_by(umask_022())
        .env("FLUX_SEGMENT_BYTES", "65536")
        .env("FLUX_CHECKPOINT_SECONDS", "1")
        .env("FLUX_RETENTION_BYTES", "262144")
}

/// Every path below this one, itself included.
fn all_below(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            all.extend(all_below(&entry.expect("an entry").path()));
        }
    }
    all
}

#[track_caller]
fn expect_private(path: &Path) -> Vec<PathBuf> {
    let all = all_below(path);
    for path in &all {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        let mode = metadata.permissions().mode() & 0o777;
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{} has {mode:o}", path.display());
    }
    all
}

/// A data directory that has every kind of file that a server makes: two generations, indexes,
/// checkpoints, a base, and a control log.
fn filled(dir: &Path) {
    for shards in [1, 2] {
        let server = setup(dir, shards).start();
        let value = "v".repeat(2000);
        let has_base = || dir.join("base").is_dir() && dir.join("checkpoints").is_dir();
        let mut number = 0;
        wait_for("a checkpoint and retention", || {
            for _ in 0..50 {
                number += 1;
                let id = format!("n/{}", number % 40);
                server.publish(&id, &format!(r#"{{"n":{number},"v":"{value}"}}"#));
            }
            (shards == 2 || has_base()).then_some(())
        });
        server.stop();
    }
}

#[test]
fn what_a_server_and_its_tools_make_is_for_its_owner_alone() {
    let scratch = TempDir::new().expect("a temporary directory");
    let at = |name: &str| scratch.path().join(name);
    let data = at("data");
    filled(&data);
    let made = expect_private(&data);
    for kind in [
        ".seg",
        ".idx",
        ".layer",
        ".manifest",
        "DURABLE",
        "HORIZON",
        "WORLD",
        "LOCK",
    ] {
        let is_of_kind = |path: &PathBuf| text(path).ends_with(kind);
        assert!(made.iter().any(is_of_kind), "no {kind}: {made:?}");
    }
    let (backup, restored, exported) = (at("backup"), at("restored"), at("events.jsonl"));
    for arguments in [
        ["backup", "--data-dir", text(&data), text(&backup)].as_slice(),
        &["restore", "--data-dir", text(&restored), text(&backup)],
        &[
            "export",
            "--data-dir",
            text(&data),
            "--output",
            text(&exported),
        ],
        &[
            "import",
            "--data-dir",
            text(&at("imported")),
            "--shards",
            "2",
            text(&exported),
        ],
    ] {
        let output = flux(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    for name in ["backup", "restored", "events.jsonl", "imported"] {
        expect_private(&at(name));
    }
    // A repair of a damaged segment, which keeps what was there.
    let segments = support::files(&data.join("log"), ".seg");
    let segment = segments.first().expect("a segment");
    let options = fs::OpenOptions::new().write(true).open(segment);
    let file = options.expect("it is writable");
    file.write_all_at(&[0xff; 8], 4096 + 100)
        .expect("it is writable");
    let output = flux(&["log", "repair", "--yes", "--data-dir", text(&data)]);
    assert!(!said(&output).is_empty());
    expect_private(&data);
}

#[test]
fn a_symbolic_link_in_a_data_directory_is_named_and_not_followed() {
    let scratch = TempDir::new().expect("a temporary directory");
    let data = scratch.path().join("data");
    filled(&data);
    let made = all_below(&data);
    let outside = scratch.path().join("outside");
    for kind in [
        "LOCK",
        "WORLD",
        "log",
        "000-of-002",
        ".seg",
        "DURABLE",
        ".layer",
        ".manifest",
    ] {
        let path = made.iter().find(|path| text(path).ends_with(kind));
        let path = path.unwrap_or_else(|| panic!("no {kind}"));
        fs::rename(path, &outside).expect("it moves");
        let before = outside
            .is_file()
            .then(|| fs::read(&outside).expect("it is readable"));
        symlink(&outside, path).expect("a link");
        let started = setup(&data, 2).run(0);
        assert_eq!(started.status.code(), Some(1), "{kind}: {}", said(&started));
        let lines = said(&started);
        assert!(
            lines.contains(text(path)) && lines.contains("symbolic link"),
            "{kind}: {lines}"
        );
        for command in [
            ["log", "verify", "--data-dir", text(&data)].as_slice(),
            &["log", "repair", "--yes", "--data-dir", text(&data)],
            &["export", "--data-dir", text(&data)],
            &[
                "backup",
                "--data-dir",
                text(&data),
                text(&scratch.path().join("backup")),
            ],
        ] {
            let output = flux(command);
            assert!(!output.status.success(), "{kind} {command:?}");
            assert!(
                said(&output).contains("symbolic link"),
                "{command:?}: {}",
                said(&output)
            );
        }
        let after = outside
            .is_file()
            .then(|| fs::read(&outside).expect("it is readable"));
        assert_eq!(before, after, "{kind} is not written to");
        fs::remove_file(path).expect("the link goes");
        fs::rename(&outside, path).expect("it moves back");
    }
    // The directory itself may be one: its operator names it.
    let link = scratch.path().join("link");
    symlink(&data, &link).expect("a link");
    let server = setup(&link, 2).start();
    assert_eq!(server.entity("n/1").status, 200);
}
