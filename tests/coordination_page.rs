//! The recipes of `docs/COORDINATION.md`, run as they stand there. What the page says that they
//! print, they print.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use support::server::Setup;

/// A block of commands and what stands below it.
#[derive(Debug)]
struct Recipe {
    commands: String,
    /// Pieces of the output, in this order.
    printed: Vec<String>,
}

/// The blocks of a page in which a block of commands is followed by what it prints.
fn recipes(page: &str) -> Vec<Recipe> {
    let mut recipes: Vec<Recipe> = Vec::new();
    // By turns text and blocks.
    for block in page.split("```").skip(1).step_by(2) {
        let (language, content) = block.split_once('\n').expect("a block of lines");
        match (language, recipes.last_mut()) {
            ("sh", _) => recipes.push(Recipe {
                commands: content.to_owned(),
                printed: Vec::new(),
            }),
            ("text", Some(last)) => {
                let pieces = content.split(['…', '\n']).filter(|it| !it.is_empty());
                last.printed = pieces.map(str::to_owned).collect();
            }
            other => panic!("a block of {other:?}"),
        }
    }
    recipes
}

#[test]
fn every_recipe_works_as_it_stands_and_prints_what_the_page_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/COORDINATION.md")).expect("the page");
    let recipes = recipes(&page);
    assert!(recipes.len() > 10, "{recipes:?}");
    let data = tempfile::TempDir::new().expect("a temporary directory");
    let server = Setup::new(data.path(), 2).start();
    for Recipe { commands, printed } in &recipes {
        assert!(!printed.is_empty(), "what does it print? {commands}");
        let typed = commands.replace("localhost:3000", &format!("localhost:{}", server.port));
        let output = Command::new("bash")
            .args(["-c", &format!("set -e; exec 2>&1\n{typed}")])
            .current_dir(root)
            .env("FLUX_URL", server.url())
            .env_remove("FLUX_TOKEN")
            .stdin(Stdio::null())
            .output()
            .expect("bash runs");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{commands}{shown}");
        let mut rest = &*shown;
        for piece in printed {
            let at = rest.find(piece.as_str());
            let at = at.unwrap_or_else(|| panic!("{piece} in order in:\n{commands}{shown}"));
            rest = &rest[at + piece.len()..];
        }
    }
}
