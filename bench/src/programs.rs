//! The other programs of the workspace, built into the directory of this one.

use anyhow::{Context, Result, bail};

/// The path of a program.
///
/// # Errors
/// When it has not been built.
pub(crate) fn beside_this_program(name: &str) -> Result<String> {
    let path = std::env::current_exe()
        .context("cannot find this program")?
        .with_file_name(name);
    if !path.exists() {
        bail!("{} does not exist: build it first", path.display());
    }
    let path = path.into_os_string().into_string();
    path.ok().context("the path of this program is not UTF-8")
}
