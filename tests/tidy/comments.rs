//! How comments read: lines of at most 100 columns, and none of the phrases that a reader has to
//! read twice.

use crate::{Source, bad, check, others, sources};

/// Columns of a line that is a comment, indentation included.
const COLUMNS_MAX: usize = 100;

/// Phrases that use a clause for what the field has a noun for, or *where* for a condition.
const RIDDLES: &[&str] = &[
    "those who",
    "those that",
    "those whom",
    "to whom",
    "true where",
    "of which it is",
    "what is owed",
    "so does who",
    "nobody has",
];

/// Where code lies that is not Rust.
const FOLDERS: &[&str] = &[
    ".ci",
    "bench",
    "clients",
    "deploy",
    "examples",
    "scripts",
    "src/pages",
    "tests",
];

/// How files are named whose comments begin with `#`; an empty ending is that of a script.
const HASHES: &[&str] = &["", "py", "service", "sh", "toml", "yaml", "yml"];

/// How files are named whose comments begin with `//`, `/*` or `*`.
const SLASHES: &[&str] = &["css", "js", "mjs", "ts"];

/// Lines that are comments as a whole, with their numbers.
fn comment_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| line.trim_start().starts_with("//"))
}

fn wide_comments(source: &Source) -> Vec<String> {
    comment_lines(&source.text)
        .map(|(number, line)| (number, line.chars().count()))
        .filter(|(_, columns)| *columns > COLUMNS_MAX)
        .map(|(number, columns)| format!("{}:{number}: {columns} columns", source.path))
        .collect()
}

/// Wide comments of a file in another language than Rust.
fn wide_comments_of_others(source: &Source) -> Vec<String> {
    let name = source.path.rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let marks: &[&str] = if HASHES.contains(&ending) {
        &["#"]
    } else if SLASHES.contains(&ending) {
        &["//", "/*", "*"]
    } else {
        return Vec::new();
    };
    let is_comment = |line: &str| marks.iter().any(|mark| line.trim_start().starts_with(mark));
    let lines = source.text.lines().enumerate();
    lines
        .map(|(index, line)| (index + 1, line, line.chars().count()))
        .filter(|(_, line, columns)| *columns > COLUMNS_MAX && is_comment(line))
        .map(|(number, _, columns)| format!("{}:{number}: {columns} columns", source.path))
        .collect()
}

/// A phrase that is broken over two lines is found too: comments that follow each other are read as
/// one text.
fn riddles(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut text = String::new();
    let mut last = 0;
    let mut lines: Vec<(usize, &str)> = comment_lines(&source.text).collect();
    lines.push((usize::MAX, "//"));
    for (number, line) in lines {
        if number != last + 1 {
            complaints.extend(riddles_in(&text).map(|phrase| {
                format!(
                    "{}:{last}: the comment that ends here says \"{phrase}\"",
                    source.path
                )
            }));
            text.clear();
        }
        text.push(' ');
        text.push_str(line.trim_start().trim_start_matches(['/', '!']).trim());
        last = number;
    }
    complaints
}

fn riddles_in(text: &str) -> impl Iterator<Item = &'static str> {
    let text = text.to_lowercase();
    let stands_alone = move |phrase: &str| {
        text.match_indices(phrase).any(|(at, _)| {
            let around = [
                text[..at].chars().next_back(),
                text[at + phrase.len()..].chars().next(),
            ];
            around
                .into_iter()
                .flatten()
                .all(|letter| !letter.is_alphanumeric())
        })
    };
    RIDDLES
        .iter()
        .copied()
        .filter(move |phrase| stands_alone(phrase))
}

/// All sources but the one that states the rules.
fn commented() -> Vec<Source> {
    let others = |source: &Source| source.path != "tests/tidy/comments.rs";
    sources().into_iter().filter(others).collect()
}

#[test]
fn comments_are_at_most_a_hundred_columns_wide() {
    let wide = |line: &str| wide_comments(&bad("src/a.rs", line)).len();
    let words = "é".repeat(COLUMNS_MAX - 7);
    assert_eq!(wide(&format!("    // {words}")), 0);
    assert_eq!(wide(&format!("    // {words}é")), 1);
    assert_eq!(
        wide(&format!("    let a = {words}é;")),
        0,
        "code is for the formatter"
    );
    check(
        "comments are at most a hundred columns wide",
        &commented()
            .iter()
            .flat_map(wide_comments)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn comments_in_scripts_styles_and_pages_are_as_narrow() {
    let words = "é".repeat(COLUMNS_MAX - 1);
    let wide = |path: &str, line: &str| wide_comments_of_others(&bad(path, line)).len();
    for (path, mark) in [
        ("a/b.py", "#"),
        ("a/check", "#"),
        ("a.js", "//"),
        ("a.css", " * "),
    ] {
        assert_eq!(wide(path, &format!("{mark}{words}é")), 1, "{path}");
        assert_eq!(
            wide(path, &format!("const {mark}{words}é")),
            0,
            "{path}: code"
        );
    }
    assert_eq!(wide("a.py", &format!("#{words}")), 0);
    assert_eq!(wide("a.md", &format!("#{words}é")), 0, "a heading");
    let others = others(FOLDERS);
    assert!(others.iter().any(|file| file.path == ".ci/run"));
    let complaints: Vec<String> = others.iter().flat_map(wide_comments_of_others).collect();
    check(
        "comments in scripts, styles and pages are as narrow",
        &complaints,
    );
}

#[test]
fn comments_do_not_speak_in_riddles() {
    for phrase in RIDDLES {
        let comment = bad(
            "src/a.rs",
            &format!("fn f();\n/// A clock, {phrase} goes on.\n"),
        );
        assert_eq!(riddles(&comment).len(), 1, "{phrase}");
    }
    for text in [
        "//! Those\n//! who wait.",
        "// Waits for those who\n// come.\nlet x = 1;\n// True where it ends.",
    ] {
        assert!(!riddles(&bad("src/a.rs", text)).is_empty(), "{text}");
    }
    for text in [
        "let s = \"those who\";",
        "// Those.\n\n// Who.",
        "// Thread `to` whoever.",
    ] {
        check("a sound example", &riddles(&bad("src/a.rs", text)));
    }
    check(
        "comments do not speak in riddles",
        &commented().iter().flat_map(riddles).collect::<Vec<_>>(),
    );
}
