//! x
use crate::options::WatchOptions;
pub(crate) fn run(_o: &WatchOptions) -> anyhow::Result<()> {
    Ok(())
}
