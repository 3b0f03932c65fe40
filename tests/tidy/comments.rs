//! How comments read: lines of at most 100 columns, and none of the phrases that a reader has to
//! read twice.

use crate::{Source, bad, check, sources};

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
