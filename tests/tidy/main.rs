//! House rules that no compiler checks, read from the source tree: who may import whom, what may be
//! named where, what must not be left behind, how comments read (`comments`), that each folder says
//! what is in it (`folder_index`), and that pages name what exists (`pages`).
//!
//! Each rule is a function from text to complaints, and each is shown a bad example first: a rule
//! that can't fail checks nothing.

mod comments;
mod folder_index;
mod pages;

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 800;

/// A module of the server and what of the crate it may import besides itself, from the bottom up
/// (DESIGN §10). `limits` and `model` are open to all; what is not listed is the top (`server`,
/// `cli`, `main`) and may import all.
const LAYERS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("faults", &[]),
    ("clock", &["limits", "model"]),
    ("report", &["limits", "model", "clock"]),
    ("model", &["limits"]),
    ("wire", &["limits", "model"]),
    ("pages", &[]),
    ("settings", &["limits", "model", "report"]),
    ("filter", &["limits", "model"]),
    ("api", &["limits", "model", "wire", "filter", "pages"]),
    ("auth", &["limits", "model"]),
    ("control", &["limits", "model", "auth"]),
    ("state", &["limits", "model", "wire"]),
    ("subscribe", &["limits", "model", "wire", "filter"]),
    (
        "history",
        &[
            "limits",
            "model",
            "filter",
            "api",
            "auth",
            "state",
            "subscribe",
        ],
    ),
    ("log", &["limits", "model"]),
    (
        "engine",
        &[
            "limits",
            "model",
            "wire",
            "filter",
            "api",
            "auth",
            "log",
            "state",
            "subscribe",
        ],
    ),
    (
        "shard",
        &[
            "limits",
            "model",
            "wire",
            "filter",
            "api",
            "auth",
            "control",
            "log",
            "engine",
            "state",
            "subscribe",
            "history",
        ],
    ),
    (
        "background",
        &[
            "limits", "model", "clock", "report", "wire", "settings", "api", "control", "log",
            "engine", "state", "history", "shard",
        ],
    ),
    (
        "service",
        &[
            "limits",
            "model",
            "report",
            "api",
            "auth",
            "control",
            "log",
            "engine",
            "history",
            "subscribe",
            "shard",
            "background",
        ],
    ),
    (
        "connectors",
        &[
            "limits", "model", "clock", "faults", "report", "api", "auth", "control", "log",
            "shard", "service",
        ],
    ),
    (
        "front",
        &[
            "limits",
            "model",
            "wire",
            "pages",
            "api",
            "history",
            "log",
            "subscribe",
            "shard",
            "background",
            "service",
        ],
    ),
    (
        "reactor",
        &[
            "limits",
            "model",
            "clock",
            "faults",
            "report",
            "wire",
            "api",
            "control",
            "log",
            "engine",
            "state",
            "subscribe",
            "shard",
            "background",
            "service",
            "front",
        ],
    ),
];

/// Where the runtime may be named: the thin layer over it, and the programs that measure it.
const RUNTIME_USERS: &[&str] = &["src/reactor/", "bench/", "loadgen/"];

/// The files that may touch mapped memory, and the one that sets up the allocator.
const UNSAFE_USERS: &[&str] = &[
    "src/boot/allocator.rs",
    "storage/src/disk/region.rs",
    "storage/src/checkpoint/archive.rs",
];

/// The files that may see what a token's hash is made of: where it is compared, and where it is
/// stored.
const HASH_READERS: &[&str] = &["src/auth/token.rs", "src/control/change.rs"];

/// A file, by its path from the repository's root.
#[derive(Debug)]
struct Source {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file of the workspace.
fn sources() -> Vec<Source> {
    files(
        &["src", "storage", "bench", "loadgen", "fuzz", "tests"],
        is_rust,
    )
}

/// Every file in these folders that is text and not Rust.
fn others(folders: &[&str]) -> Vec<Source> {
    files(folders, |path| !is_rust(path))
}

fn is_rust(path: &Path) -> bool {
    path.extension() == Some("rs".as_ref())
}

/// The text files in these folders that are wanted.
fn files(folders: &[&str], is_wanted: fn(&Path) -> bool) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut paths);
    }
    assert!(paths.len() > 20, "the source tree was found");
    let files = paths.iter().filter_map(|file| {
        let text = is_wanted(file).then(|| fs::read(file).expect("a readable file"));
        let text = String::from_utf8(text?).ok()?;
        let path = file.strip_prefix(root()).expect("below the root");
        let path = path.to_string_lossy().into_owned();
        Some(Source { path, text })
    });
    files.collect()
}

/// All files below a folder, but what tools have made.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if !path.is_dir() {
            files.push(path);
        } else if !name.starts_with('.') && !["target", "node_modules"].contains(&&*name) {
            collect(&path, files);
        }
    }
}

/// Lines of code, without what is said in comments, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    lines.map(|(number, line)| (number, line.split("//").next().unwrap_or("")))
}

/// Words of a line that are identifiers.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The modules that a line names as `crate::module` or, within braces, `crate::{module, …}`.
fn imports(line: &str) -> Vec<&str> {
    let mut modules = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(group) => modules.extend(
                group
                    .split('}')
                    .next()
                    .unwrap_or("")
                    .split(',')
                    .map(first_word),
            ),
            None => modules.push(first_word(rest)),
        }
    }
    modules
}

fn first_word(text: &str) -> &str {
    words(text.trim_start()).next().unwrap_or("")
}

/// The module of `src` that a file belongs to.
fn module_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    let name = rest.split('/').next()?;
    Some(name.trim_end_matches(".rs"))
}

fn upward_imports(source: &Source) -> Vec<String> {
    let Some(module) = module_of(&source.path) else {
        return Vec::new();
    };
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == module) else {
        return Vec::new();
    };
    let modules = code_lines(&source.text)
        .flat_map(|(number, line)| imports(line).into_iter().map(move |name| (number, name)));
    modules
        .filter(|(_, name)| *name != module && !allowed.contains(name))
        .map(|(number, name)| format!("{}:{number}: `{module}` imports `{name}`", source.path))
        .collect()
}

/// Names that may stand only in some places.
fn misplaced(source: &Source, word: &str, places: &[&str]) -> Vec<String> {
    if places.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    let lines = code_lines(&source.text).filter(|(_, line)| words(line).any(|found| found == word));
    lines
        .map(|(number, _)| format!("{}:{number}: `{word}` is not for here", source.path))
        .collect()
}

/// Where the server compares secrets otherwise than in constant time, or shows them: the bytes of a
/// `TokenHash` taken out of it, a revealed token held against something, an equality or a text of
/// secrets that a derive would make.
fn exposed_secrets(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/") {
        return Vec::new();
    }
    let compares =
        |line: &str| line.contains("reveal()") && ["==", "!="].iter().any(|it| line.contains(it));
    let mut complaints = misplaced(source, "to_bytes", HASH_READERS);
    let lines: Vec<(usize, &str)> = code_lines(&source.text).collect();
    let mut derived = "";
    for &(number, line) in &lines {
        if source.path != "src/auth/token.rs" && compares(line) {
            complaints.push(format!(
                "{}:{number}: a token is compared as text",
                source.path
            ));
        }
        let names = ["Token", "TokenHash"];
        let is_secret = line.contains("struct ") && words(line).any(|word| names.contains(&word));
        if is_secret
            && ["PartialEq", "Debug"]
                .iter()
                .any(|it| words(derived).any(|word| word == *it))
        {
            complaints.push(format!(
                "{}:{number}: {} {}",
                source.path,
                derived.trim(),
                line.trim()
            ));
        }
        // Attributes stand between a derive and what it is for.
        if line.trim_start().starts_with("#[derive(") {
            derived = line;
        } else if !line.trim().is_empty() && !line.trim_start().starts_with("#[") {
            derived = "";
        }
    }
    complaints
}

/// Where the operator's token is taken from the environment. Text that only mentions the variable
/// is no such place.
fn reads_admin_token(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/") || source.path.starts_with("src/settings/") {
        return Vec::new();
    }
    let names = ["\"FLUX_ADMIN_TOKEN\"", "\"FLUX_ADMIN_TOKEN_FILE\""];
    code_lines(&source.text)
        .filter(|(_, line)| names.iter().any(|name| line.contains(name)))
        .map(|(number, _)| format!("{}:{number}: the operator's token is read", source.path))
        .collect()
}

fn left_behind(source: &Source) -> Vec<String> {
    // In parts, so that this file does not complain of itself.
    let marks = [
        ["to", "do!("],
        ["db", "g!("],
        ["unimpl", "emented!("],
        ["#[ig", "nore"],
    ]
    .map(|parts| parts.concat());
    let lines =
        code_lines(&source.text).filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)));
    lines
        .map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
        .collect()
}

fn too_long(source: &Source) -> Option<String> {
    let count = source.text.lines().count();
    (count > LINES_MAX).then(|| format!("{}: {count} lines", source.path))
}

fn without_header(source: &Source) -> Option<String> {
    (!source.text.starts_with("//! "))
        .then(|| format!("{}: does not begin with what it is", source.path))
}

/// Limits without a word about them, and limits that nobody uses.
fn idle_limits(limits: &str, others: &[Source]) -> Vec<String> {
    let lines: Vec<&str> = limits.lines().collect();
    let mut complaints = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("pub const ").map(first_word) else {
            continue;
        };
        if !index
            .checked_sub(1)
            .is_some_and(|above| lines[above].starts_with("/// "))
        {
            complaints.push(format!("`{name}` is not documented"));
        }
        let used = |source: &Source| {
            code_lines(&source.text).any(|(_, line)| words(line).any(|word| word == name))
        };
        if !others.iter().any(used) {
            complaints.push(format!("`{name}` is not used"));
        }
    }
    complaints
}

/// Dependencies of the workspace that stand there without a reason.
fn unexplained(manifest: &str) -> Vec<String> {
    let dependencies = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .unwrap_or("");
    let dependencies = dependencies.split("\n[").next().unwrap_or("");
    let lines = dependencies
        .lines()
        .filter(|line| line.contains('=') && !line.starts_with('#'));
    let explained = |line: &str| {
        line.split_once('#')
            .is_some_and(|(_, reason)| !reason.trim().is_empty())
    };
    let silent = lines.filter(|line| !explained(line));
    silent.map(|line| format!("no reason: {line}")).collect()
}

fn check(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}:\n{}", complaints.join("\n"));
}

fn bad(path: &str, text: &str) -> Source {
    Source {
        path: path.into(),
        text: text.into(),
    }
}

#[test]
fn imports_go_down_only() {
    let examples = [
        ("src/model/event.rs", "use crate::api::ApiError;"),
        (
            "src/wire/http1/head.rs",
            "    let x = crate::state::apply();",
        ),
        (
            "src/api/route.rs",
            "use crate::{limits, subscribe::Filter};",
        ),
        ("src/subscribe/mod.rs", "use crate::state;"),
        ("src/engine/mod.rs", "use crate::reactor::core;"),
        ("src/limits.rs", "use crate::model;"),
        ("src/auth/token.rs", "use crate::wire::http1::Head;"),
        ("src/control/store.rs", "use crate::state::State;"),
        ("src/background/flush.rs", "use crate::service::Context;"),
        ("src/background/job.rs", "use crate::reactor::workers;"),
        ("src/background/control.rs", "use crate::front::http;"),
        ("src/reactor/event_loop.rs", "use crate::boot::serve;"),
    ];
    for (path, text) in examples {
        assert_eq!(upward_imports(&bad(path, text)).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        (
            "src/engine/mod.rs",
            "use crate::{limits, state, subscribe};",
        ),
        ("src/reactor/core.rs", "use crate::shard;"),
        ("src/api/mod.rs", "//! The counterpart of crate::state."),
        ("storage/src/log.rs", "use crate::segment;"),
    ] {
        check("a sound example", &upward_imports(&bad(path, text)));
    }
    let complaints: Vec<String> = sources().iter().flat_map(upward_imports).collect();
    check("imports go down only", &complaints);
}

#[test]
fn the_runtime_is_named_in_its_thin_layer_only() {
    assert_eq!(
        misplaced(
            &bad("src/api/mod.rs", "use glommio::Task;"),
            "glommio",
            RUNTIME_USERS
        )
        .len(),
        1
    );
    assert_eq!(
        misplaced(
            &bad("src/reactor/runtime.rs", "use glommio::Task;"),
            "glommio",
            RUNTIME_USERS
        )
        .len(),
        0
    );
    let all = sources();
    let others = all
        .iter()
        .filter(|source| source.path != "tests/tidy/main.rs");
    let complaints: Vec<String> = others
        .flat_map(|source| misplaced(source, "glommio", RUNTIME_USERS))
        .collect();
    check("glommio stays in its layer", &complaints);
}

#[test]
fn memory_is_touched_in_the_mapped_region_only() {
    let example = "fn f() { unsafe { g() } }";
    assert_eq!(
        misplaced(&bad("src/wire/mod.rs", example), "unsafe", UNSAFE_USERS).len(),
        1
    );
    assert_eq!(
        misplaced(
            &bad("storage/src/disk/region.rs", example),
            "unsafe",
            UNSAFE_USERS
        )
        .len(),
        0
    );
    assert_eq!(
        misplaced(
            &bad("src/a.rs", "#![deny(unsafe_code)]"),
            "unsafe",
            UNSAFE_USERS
        )
        .len(),
        0
    );
    let all = sources();
    let others = all
        .iter()
        .filter(|source| source.path != "tests/tidy/main.rs");
    let complaints: Vec<String> = others
        .flat_map(|source| misplaced(source, "unsafe", UNSAFE_USERS))
        .collect();
    check("unsafe code stays in the region", &complaints);
}

#[test]
fn secrets_are_compared_in_constant_time_and_not_shown() {
    for (path, text) in [
        (
            "src/service/access.rs",
            "if hash.to_bytes() == other.to_bytes() {",
        ),
        (
            "src/control/registry.rs",
            "let key = namespace.token.to_bytes();",
        ),
        ("src/front/http.rs", "if token.reveal() == presented {"),
        (
            "src/auth/token.rs",
            "#[derive(Clone, PartialEq)]\npub struct TokenHash([u8; 32]);",
        ),
        (
            "src/auth/token.rs",
            "#[derive(Debug)]\n#[must_use]\npub struct Token(Box<str>);",
        ),
    ] {
        assert_eq!(exposed_secrets(&bad(path, text)).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("src/service/access.rs", "if hash == known.token {"),
        (
            "src/control/change.rs",
            "out.extend_from_slice(&token.to_bytes());",
        ),
        ("src/front/http.rs", "answer.push_str(token.reveal());"),
        (
            "src/auth/token.rs",
            "#[derive(Debug)]\npub struct Other;\npub struct Token(Box<str>);",
        ),
        ("storage/src/a.rs", "let bytes = sequence.to_bytes();"),
    ] {
        check("a sound example", &exposed_secrets(&bad(path, text)));
    }
    let token = read("src/auth/token.rs");
    assert!(
        token.contains("ct_eq"),
        "hashes are compared in constant time"
    );
    let all = sources();
    check(
        "secrets are compared in constant time and not shown",
        &all.iter().flat_map(exposed_secrets).collect::<Vec<_>>(),
    );
}

#[test]
fn the_operators_token_is_read_in_the_settings_only() {
    let text = "let token = source.secret(\"FLUX_ADMIN_TOKEN\")?;";
    assert_eq!(reads_admin_token(&bad("src/boot/serve.rs", text)).len(), 1);
    let mention = "report::info(\"FLUX_ADMIN_TOKEN is not set\");";
    for (path, text) in [
        ("src/settings/mod.rs", text),
        ("src/boot/serve.rs", mention),
    ] {
        check("a sound example", &reads_admin_token(&bad(path, text)));
    }
    let all = sources();
    check(
        "the operator's token is read in the settings only",
        &all.iter().flat_map(reads_admin_token).collect::<Vec<_>>(),
    );
}

#[test]
fn nothing_is_left_behind() {
    for parts in [
        ["to", "do!()"],
        ["db", "g!(x)"],
        ["unimpl", "emented!()"],
        ["#[ig", "nore = \"slow\"]"],
    ] {
        let text = parts.concat();
        assert_eq!(left_behind(&bad("src/a.rs", &text)).len(), 1, "{text}");
    }
    check(
        "nothing is left behind",
        &sources().iter().flat_map(left_behind).collect::<Vec<_>>(),
    );
}

#[test]
fn files_are_short_and_say_what_they_are() {
    assert!(too_long(&bad("src/a.rs", &"x\n".repeat(LINES_MAX + 1))).is_some());
    assert!(too_long(&bad("src/a.rs", &"x\n".repeat(LINES_MAX))).is_none());
    assert!(without_header(&bad("src/a.rs", "use std::fs;\n//! Late.")).is_some());
    let all = sources();
    check(
        "files are short",
        &all.iter().filter_map(too_long).collect::<Vec<_>>(),
    );
    check(
        "files have a header",
        &all.iter().filter_map(without_header).collect::<Vec<_>>(),
    );
}

#[test]
fn every_limit_is_documented_and_used() {
    let example = "/// Why.\npub const USED: usize = 1;\npub const SILENT: usize = 2;\n\n/// Why.\npub const IDLE: u8 = 3;\n";
    let user = bad("src/a.rs", "let x = USED + limits::SILENT; // IDLE");
    assert_eq!(
        idle_limits(example, &[user]),
        ["`SILENT` is not documented", "`IDLE` is not used"]
    );
    let others: Vec<Source> = sources()
        .into_iter()
        .filter(|source| source.path != "src/limits.rs")
        .collect();
    check(
        "limits are documented and used",
        &idle_limits(&read("src/limits.rs"), &others),
    );
}

#[test]
fn every_dependency_has_its_reason() {
    let example = "[workspace.dependencies]\na = \"1\"   # why\nb = \"2\"\nc = { version = \"3\" } #\n\n[package]\nname = \"d\"\n";
    assert_eq!(unexplained(example).len(), 2);
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("[workspace.dependencies]"));
    check("dependencies have reasons", &unexplained(&manifest));
}
