//! Health and readiness.

use super::{Begun, Context, Outcome};
use crate::api::{ApiError, encode};
use crate::log::Log;

/// What the process is and holds: answered as long as it serves.
pub(crate) fn health<L: Log>(context: &mut Context<L>) -> Begun {
    let health = encode::Health {
        uptime_seconds: context.uptime_ms / 1000,
        entities: context.counters.metrics().entities,
        shards: u64::from(context.router.shards),
    };
    context.answer.clear();
    encode::health(&mut context.answer, &health);
    Begun::at_once(Outcome::Done)
}

/// Whether every log is replayed.
///
/// # Errors
/// [`ApiError::ShuttingDown`], [`ApiError::Recovering`] with how far the replay has come.
pub(crate) fn ready<L: Log>(context: &mut Context<L>) -> Result<Begun, ApiError> {
    context.check_serving()?;
    if !context.counters.is_ready() {
        let progress = context.counters.recovery();
        return Err(ApiError::Recovering {
            events: progress.events,
            percent: (progress.bytes.min(progress.bytes_total) * 100)
                .checked_div(progress.bytes_total)
                .unwrap_or(0),
        });
    }
    context.answer.clear();
    context.answer.extend_from_slice(b"{\"status\":\"ready\"}");
    Ok(Begun::at_once(Outcome::Done))
}
