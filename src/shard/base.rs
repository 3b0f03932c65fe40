//! The base of a log: the state that its first record is applied to.
//!
//! Before retention removes the beginning of a log, what it led to is worked into the base, in the
//! way in which a checkpoint is written. So the state at any time that is still told of can be had
//! from the base and the log.

use super::recovery::RecoverError;
use crate::engine::{Batch, Engine, Target};
use flux_storage::{CheckpointDir, CheckpointThrottle, LogReader, Sequence};
use std::ops::ControlFlow;

/// Works the log through `through` into its base, durably. If that was done before, nothing
/// happens. A log that begins with a segment without events gets a base that holds nothing: what
/// was removed is always covered by one. Blocks, for as long as reading that part of the log takes;
/// memory: the entities that it changed.
///
/// # Errors
/// [`RecoverError`]; the base is as it was, or advanced. `NoBase` if the log does not begin with
/// nothing and its base is gone: without it, nothing can be worked in.
pub fn advance_base(
    base: &mut CheckpointDir,
    reader: &LogReader,
    through: Sequence,
    pace: &mut CheckpointThrottle<'_>,
) -> Result<(), RecoverError> {
    let (mut engine, from) = match base.load()?.checkpoint {
        Some(checkpoint) if checkpoint.meta.through >= through => return Ok(()),
        Some(checkpoint) => {
            let from = checkpoint.meta.through.next();
            (
                Engine::from_checkpoint(checkpoint.stack, &checkpoint.meta)?,
                from,
            )
        }
        // What lies before it can't be left out: retention removed it, or it is in earlier
        // generations. Before the first event of all there is nothing.
        None if reader.first_sequence() > Sequence::new(1) => {
            return Err(RecoverError::NoBase {
                base: base.path().into(),
                first: reader.first_sequence().get(),
            });
        }
        None => (Engine::default(), reader.first_sequence()),
    };
    let mut batch = Batch::default();
    let mut target = Target {
        engine: &mut engine,
        shard: 0,
        shards: 1,
        progress: &mut |_, _| (),
    };
    reader.read_forward(from, |record| {
        if record.sequence > through {
            return Ok(ControlFlow::Break(()));
        }
        batch.push(&mut target, &record)?;
        Ok(ControlFlow::Continue(()))
    })?;
    batch.apply(&mut target)?;
    let pending = engine.freeze(through).write(base, pace)?;
    base.publish(pending)?;
    base.remove_unreferenced()?;
    Ok(())
}
