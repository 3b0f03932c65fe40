//! What `npm` has installed for the tests into the folder that `NPM_TOOLS` names.

use super::not_checked;
use std::path::PathBuf;

const TOOLS: &str = "NPM_TOOLS";

/// A file of an installed package; `None`, and a line on standard error, if there is none.
pub(crate) fn tool(path: &str, what: &str) -> Option<PathBuf> {
    let tools = std::env::var_os(TOOLS).map(PathBuf::from);
    let file = tools.map(|tools| tools.join("node_modules").join(path));
    let found = file.filter(|file| file.exists());
    if found.is_none() {
        not_checked(&format!("{what}: {TOOLS} holds no {path}"));
    }
    found
}
