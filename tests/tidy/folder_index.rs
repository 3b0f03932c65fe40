//! Every folder says what is in it: the header of its `mod.rs` has a table with a row for each
//! module.

use crate::{Source, bad, check, sources};

/// Folders whose index is still to be written. The list only gets shorter.
const UNFINISHED: &[&str] = &[];

/// The modules that `mod.rs` declares for tests only.
fn test_modules(text: &str) -> Vec<&str> {
    let mut modules = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix("mod ")
            .and_then(|rest| rest.strip_suffix(';'))
            && is_test
        {
            modules.push(name);
        }
        // Other attributes may stand between this one and the module.
        is_test = line == "#[cfg(test)]" || (is_test && line.starts_with("#["));
    }
    modules
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
        .filter(|name| *name != "mod")
        .collect();
    names.sort_unstable();
    names
}

/// The names between backquotes in such rows of a header; a folder may end with a slash.
fn indexed(rows: &[&str]) -> Vec<String> {
    let names = rows
        .iter()
        .flat_map(|row| row.split('`').skip(1).step_by(2));
    names
        .map(|name| name.trim_end_matches('/').to_owned())
        .collect()
}

/// Modules without a row, and rows that begin with no module.
fn wrong_index(source: &Source, paths: &[&str]) -> Vec<String> {
    let rows: Vec<&str> = source
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("//! |"))
        .collect();
    let firsts: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.split('|').next())
        .collect();
    let siblings = siblings(&source.path, paths);
    let (indexed, tests) = (indexed(&rows), test_modules(&source.text));
    let missing = siblings
        .iter()
        .filter(|name| !tests.contains(name) && indexed.iter().all(|row| row != *name))
        .map(|name| format!("{}: no row for `{name}`", source.path));
    let stale = self::indexed(&firsts)
        .into_iter()
        .filter(|name| !siblings.contains(&name.as_str()))
        .map(|name| format!("{}: `{name}` is gone", source.path));
    missing.chain(stale).collect()
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
    let header = "//! Codecs.\n//!\n//! | file | job |\n//! | --- | --- |\n//! | `head`, `body/` | them |\n//! | `scan` | `tail` |\n\n#[cfg(test)]\n#[path = \"x\"]\nmod check;\nmod late;";
    let paths = [
        "src/wire/mod.rs",
        "src/wire/body/mod.rs",
        "src/wire/body/chunk.rs",
        "src/wire/head.rs",
        "src/wire/late.rs",
        "src/wire/check.rs",
        "src/wired.rs",
    ];
    assert_eq!(
        wrong_index(&bad("src/wire/mod.rs", header), &paths),
        [
            "src/wire/mod.rs: no row for `late`",
            "src/wire/mod.rs: `scan` is gone"
        ]
    );
    assert_eq!(
        wrong_index(
            &bad("src/wire/mod.rs", "//! `head`, `body`, `late`."),
            &paths
        )
        .len(),
        4,
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
        .flat_map(|source| wrong_index(source, &paths))
        .collect();
    check("the index of each folder is complete", &complaints);
}
