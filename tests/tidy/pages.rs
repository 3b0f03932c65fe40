//! The pages of the repository exist, and so do the files that they name.

use crate::{check, read, root};
use std::fs;

/// Pages whose paths are checked.
const PAGES: &[&str] = &[
    "ARCHITECTURE.md",
    "README.md",
    "bench/README.md",
    "bench/RESULTS.md",
];

/// Where a path begins, as a page names it: at the root of the repository.
const FOLDERS: &[&str] = &[
    "src/", "storage/", "tests/", "bench/", "loadgen/", "fuzz/", "scripts/", "docs/", "deploy/",
];

/// Paths between backquotes, up to the first space: what follows are arguments.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    quoted
        .filter_map(|code| code.split_whitespace().next())
        .filter(|path| FOLDERS.iter().any(|folder| path.starts_with(folder)))
        .filter(|path| !path.contains(['*', '{', '…']))
}

fn gone(page: &str, text: &str) -> Vec<String> {
    paths(text)
        .filter(|path| !root().join(path).exists())
        .map(|path| format!("{page}: there is no `{path}`"))
        .collect()
}

#[test]
fn pages_name_files_that_exist() {
    let example =
        "`src/lib.rs`, `src/gone.rs` and `bench/figures.sh table`.\n`src/*.rs`, `a/b.rs`.";
    assert_eq!(gone("a.md", example), ["a.md: there is no `src/gone.rs`"]);
    let complaints: Vec<String> = PAGES
        .iter()
        .flat_map(|page| gone(page, &read(page)))
        .collect();
    check("pages name files that exist", &complaints);
}

#[test]
fn the_pages_that_are_promised_exist() {
    let readme = read("README.md");
    for command in ["cargo run --release", "cargo test --workspace"] {
        assert!(
            readme.lines().any(|line| line == command),
            "`{command}` stands in the README"
        );
    }
    for page in [
        "CHANGELOG.md",
        "ARCHITECTURE.md",
        "docs/API.md",
        "storage/FORMAT.md",
    ] {
        assert!(read(page).len() > 100, "{page} says something");
    }
    for script in ["scripts/flux.sh", "scripts/host-metrics.sh"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(root().join(script))
            .expect("a script")
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{script} can be run");
    }
}
