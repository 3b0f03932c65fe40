//! x
use anyhow::Result;
#[derive(Debug, clap::Args)]
pub(crate) struct CompareOptions {}
pub(crate) fn run(_o: &CompareOptions) -> Result<()> {
    Ok(())
}
