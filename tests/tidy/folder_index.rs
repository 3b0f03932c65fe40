//! Every folder says what is in it: the header of its `mod.rs` has a table with a row for each
//! module.

use crate::{Source, bad, check, sources};

/// Folders whose index is still to be written. The list only gets shorter.
const UNFINISHED: &[&str] = &[
    "src/api/",
    "src/background/",
    "src/boot/",
    "src/cli/",
    "src/connectors/",
    "src/engine/",
    "src/front/",
    "src/history/",
    "src/log/",
    "src/model/",
    "src/reactor/",
    "src/service/",
    "src/shard/",
    "src/state/",
    "src/subscribe/",
    "src/wire/",
    "storage/src/",
];

/// Modules of tests, whose names say what they are for.
fn is_test(name: &str) -> bool {
    name == "tests" || name.ends_with("_test") || name.ends_with("_tests")
}

/// The modules beside a `mod.rs`: files, and folders that have a `mod.rs` of their own.
fn siblings<'a>(index: &str, paths: &[&'a str]) -> Vec<&'a str> {
    let Some(folder) = index.strip_suffix("mod.rs") else {
        return Vec::new();
    };
    let mut names: Vec<&str> = paths
        .iter()
        .filter_map(|path| path.strip_prefix(folder)?.strip_suffix(".rs"))
        .filter_map(|name| match name.split_once('/') {
            None => Some(name),
            Some((name, "mod")) => Some(name),
            Some(_) => None,
        })
        .filter(|name| *name != "mod" && !is_test(name))
        .collect();
    names.sort_unstable();
    names
}

/// What stands between backquotes in the table of a header; a folder may end with a slash.
fn indexed(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("//! |"))
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .map(|name| name.trim_end_matches('/'))
        .collect()
}

fn missing_from_index(source: &Source, paths: &[&str]) -> Vec<String> {
    let indexed = indexed(&source.text);
    siblings(&source.path, paths)
        .into_iter()
        .filter(|name| !indexed.contains(name))
        .map(|name| format!("{}: no row for `{name}`", source.path))
        .collect()
}

/// Whether the source is an index that has to be complete.
fn is_index(source: &Source) -> bool {
    let path = source.path.as_str();
    let folder = ["src/", "storage/src/", "bench/src/"]
        .iter()
        .any(|folder| path.starts_with(folder));
    folder && path.ends_with("/mod.rs") && !path.contains("/tests/")
}

#[test]
fn the_index_of_each_folder_is_complete() {
    let header = "//! Codecs.\n//!\n//! | file | job |\n//! | --- | --- |\n//! | `head`, `body/` | `scan` them |\n\nmod x; // `late`";
    let paths = [
        "src/wire/mod.rs",
        "src/wire/body/mod.rs",
        "src/wire/body/chunk.rs",
        "src/wire/head.rs",
        "src/wire/late.rs",
        "src/wire/tests.rs",
        "src/wire/head_test.rs",
        "src/wired.rs",
    ];
    assert_eq!(
        missing_from_index(&bad("src/wire/mod.rs", header), &paths),
        ["src/wire/mod.rs: no row for `late`"]
    );
    assert_eq!(
        missing_from_index(
            &bad("src/wire/mod.rs", "//! `head`, `body`, `late`."),
            &paths
        )
        .len(),
        3,
        "an index is a table"
    );
    let sources = sources();
    let paths: Vec<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let complaints: Vec<String> = sources
        .iter()
        .filter(|source| is_index(source))
        .filter(|source| {
            let path = source.path.as_str();
            !UNFINISHED
                .iter()
                .any(|unfinished| path.starts_with(unfinished))
        })
        .flat_map(|source| missing_from_index(source, &paths))
        .collect();
    check("the index of each folder is complete", &complaints);
}
