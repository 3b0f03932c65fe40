//! x
use crate::options::IdleOptions;
pub(crate) fn run(_o: &IdleOptions) -> anyhow::Result<()> {
    Ok(())
}
