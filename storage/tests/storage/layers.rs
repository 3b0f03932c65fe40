//! The rooms of this crate: which folder may import which, and no circle between files of different
//! folders.
//!
//! Both rules read the source text. Each is shown a bad example first: a rule that can't fail
//! checks nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A folder, and the folders that its files may import besides itself. The root files (`error`,
/// `sequence`) import no folder and are open to all.
const LAYERS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("sequence", &[]),
    ("format", &[]),
    ("disk", &["format"]),
    ("index", &["disk", "format"]),
    ("log", &["index", "disk", "format"]),
    ("checkpoint", &["disk", "format"]),
    ("offline", &["log", "checkpoint", "index", "disk", "format"]),
];

/// The files of the crate by their module paths, without their tests.
type Modules = BTreeMap<String, String>;

fn modules() -> Modules {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = Modules::new();
    collect(&root, "", &mut modules);
    assert!(modules.len() > 40, "the sources were found");
    modules
}

fn collect(dir: &Path, prefix: &str, modules: &mut Modules) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let module = join(prefix, name);
        if path.is_dir() {
            collect(&path, &module, modules);
            continue;
        }
        if name == "testing" || name.ends_with("_test") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let module = if name == "mod" { prefix } else { &module };
        modules.insert(module.to_owned(), code.to_owned());
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}::{name}")
    }
}

/// The paths of all imports in a module, from the crate's root on.
fn imports(module: &str, code: &str) -> Vec<String> {
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n");
    let folder = module.rsplit_once("::").map_or("", |(folder, _)| folder);
    let mut paths = Vec::new();
    for statement in code.split("use ").skip(1) {
        let statement: String = statement
            .split(';')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        for path in flat(&statement) {
            if let Some(path) = path.strip_prefix("crate::") {
                paths.push(path.to_owned());
            } else if let Some(path) = path.strip_prefix("super::") {
                let up = folder.rsplit_once("::").map_or("", |(up, _)| up);
                match path.strip_prefix("super::") {
                    Some(path) => paths.push(join(up, path)),
                    None => paths.push(join(folder, path)),
                }
            }
        }
    }
    let inline = code.split("crate::").skip(1);
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    paths.extend(inline.map(|rest| rest.split(|c| !is_path(c)).next().unwrap().to_owned()));
    paths
}

/// The paths of one `use`, without braces.
fn flat(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else {
        return vec![tree.to_owned()];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let mut depth = 0;
    let parts = inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.filter(|part| !part.is_empty());
    parts
        .flat_map(|part| flat(&format!("{prefix}{part}")))
        .collect()
}

/// The module that an imported path leads to: its longest beginning that is one. What the crate's
/// root exports is looked up there.
fn target(path: &str, modules: &Modules) -> Option<String> {
    let mut module = path;
    loop {
        if modules.contains_key(module) {
            break;
        }
        match module.rsplit_once("::") {
            Some((shorter, _)) => module = shorter,
            None => return exported(module, modules),
        }
    }
    Some(module.to_owned())
}

fn exported(name: &str, modules: &Modules) -> Option<String> {
    let root = modules.get("lib")?;
    let found = root.split("pub use ").skip(1).find_map(|statement| {
        let statement: String = statement.split(';').next()?.split_whitespace().collect();
        flat(&statement)
            .into_iter()
            .find(|path| path.rsplit("::").next() == Some(name))
    })?;
    target(&found, modules)
}

fn folder_of(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(folder, _)| folder)
}

/// Who imports whom, by module.
fn graph(modules: &Modules) -> BTreeMap<&str, BTreeSet<String>> {
    let others = modules.iter().filter(|(module, _)| *module != "lib");
    others
        .map(|(module, code)| {
            let targets = imports(module, code)
                .iter()
                .filter_map(|path| target(path, modules))
                .filter(|found| found != module)
                .collect();
            (module.as_str(), targets)
        })
        .collect()
}

fn upward(modules: &Modules) -> Vec<String> {
    let mut complaints = Vec::new();
    let first = |module: &str| module.split("::").next().unwrap().to_owned();
    for (module, targets) in graph(modules) {
        let folder = first(module);
        let layer = LAYERS.iter().find(|(layer, _)| *layer == folder);
        let (_, allowed) = layer.unwrap_or_else(|| panic!("{module} has a layer"));
        for target in targets {
            let to = first(&target);
            let is_root = ["error", "sequence"].contains(&&*to);
            if to != folder && !is_root && !allowed.contains(&&*to) {
                complaints.push(format!("{module} imports {target}"));
            }
        }
    }
    complaints
}

/// Pairs of modules of different folders that reach each other.
fn circles(modules: &Modules) -> Vec<String> {
    let graph = graph(modules);
    // A folder's own file names its children, which is no import between rooms.
    let is_parent = |one: &str, other: &str| folder_of(other) == one || folder_of(one) == other;
    let reach = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![from.to_owned()];
        while let Some(module) = waiting.pop() {
            for next in graph.get(&*module).into_iter().flatten() {
                if !is_parent(&module, next) && seen.insert(next.clone()) {
                    waiting.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = graph
        .keys()
        .map(|&module| (module, reach(module)))
        .collect();
    let mut complaints = Vec::new();
    for (module, targets) in &reached {
        for target in targets {
            let is_back = reached
                .get(&**target)
                .is_some_and(|back| back.contains(*module));
            if *module < &**target && is_back && folder_of(module) != folder_of(target) {
                complaints.push(format!("{module} and {target} import each other"));
            }
        }
    }
    complaints
}

fn example(files: &[(&str, &str)]) -> Modules {
    let owned = files.iter();
    owned
        .map(|(module, code)| ((*module).to_owned(), (*code).to_owned()))
        .collect()
}

#[test]
fn folders_import_downward_only() {
    let bad = example(&[
        ("lib", "pub use log::open_log::Log;"),
        ("log::open_log", "use crate::disk::files::{self, at};"),
        ("disk::files", "use crate::{Log, StorageError};"),
        ("index::file", "fn f() { crate::checkpoint::dir::g() }"),
        ("checkpoint::dir", "use super::layer::Layer;"),
    ]);
    assert_eq!(
        upward(&bad),
        [
            "disk::files imports log::open_log",
            "index::file imports checkpoint::dir"
        ]
    );
    assert_eq!(upward(&modules()), Vec::<String>::new());
}

#[test]
fn no_files_of_different_folders_import_each_other() {
    let bad = example(&[
        ("log::open_log", "use crate::log::reader::part::Part;"),
        ("log::reader::part", "use super::super::place::LogPlace;"),
        ("log::place", "use super::open_log::Log;"),
        ("log::reader", "mod part;"),
    ]);
    assert_eq!(circles(&bad).len(), 2, "{:?}", circles(&bad));
    assert_eq!(circles(&modules()), Vec::<String>::new());
}

#[test]
fn each_folder_lists_its_files() {
    let modules = modules();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in modules.keys() {
        let (folder, name) = module.rsplit_once("::").unwrap_or(("", module));
        if folder.is_empty() {
            continue;
        }
        let path = root.join(folder.replace("::", "/")).join("mod.rs");
        let index = fs::read_to_string(&path).unwrap();
        let listed = index
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .any(|line| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .any(|word| word == name)
            });
        assert!(listed, "{} does not list `{name}`", path.display());
    }
}
