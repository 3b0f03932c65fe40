//! What all cores have counted, as a scrape tells it.

use super::{Begun, Context, Outcome};
use crate::api::metrics::{self, Format, Snapshot};
use crate::limits::{METRICS_HISTOGRAM_SHARDS_MAX, METRICS_SHARDS_MAX, METRICS_UNITS};
use crate::log::Log;

/// Adds up what is counted. It is answered as long as the process serves, ready or not, and to
/// everyone: no number is about one namespace.
pub(crate) fn begin<L: Log>(context: &mut Context<L>, format: Format) -> Begun {
    context.router.spend(METRICS_UNITS);
    let counters = &context.counters;
    let usage = counters.memory.usage();
    let snapshot = Snapshot {
        is_ready: counters.is_ready() && !counters.is_stopping(),
        durability: counters.durability().name(),
        process: counters.process.load(),
        connections: counters.sessions(),
        accept_failures: counters.accept_failures(),
        subscriptions: counters.subscriptions_by_kind(),
        totals: &counters.totals(),
        shards: &counters.shard_samples(METRICS_SHARDS_MAX),
        histograms: &counters.shard_samples(METRICS_HISTOGRAM_SHARDS_MAX),
        memory_limit_bytes: usage.limit as u64,
        memory: &usage.named().map(|(name, bytes)| (name, bytes as u64)),
    };
    context.answer.clear();
    metrics::write(&mut context.answer, &snapshot, format);
    Begun::at_once(Outcome::Text(format.content_type()))
}
