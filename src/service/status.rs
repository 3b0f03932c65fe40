//! Health and readiness.

use super::{Begun, Context, Outcome};
use crate::api::query::parse_health;
use crate::api::{ApiError, encode};
use crate::log::Log;

/// What the process is and holds: answered as long as it serves. With `detail` in the query, also
/// the memory that clients take.
///
/// # Errors
/// If the query is wrong.
pub(crate) fn health<L: Log>(
    context: &mut Context<L>,
    query: Option<&str>,
) -> Result<Begun, ApiError> {
    let with_detail = parse_health(query)?;
    let health = encode::Health {
        uptime_seconds: context.uptime_ms / 1000,
        entities: context.counters.metrics().entities,
        shards: u64::from(context.router.shards),
        scheme: context.tenants.browsers.scheme.name(),
    };
    context.answer.clear();
    if with_detail {
        let usage = context.counters.memory.usage();
        let parts = usage.named().map(|(name, bytes)| (name, bytes as u64));
        let memory = (usage.limit as u64, &parts[..]);
        encode::health_detail(&mut context.answer, &health, memory);
    } else {
        encode::health(&mut context.answer, &health);
    }
    Ok(Begun::at_once(Outcome::Done))
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
