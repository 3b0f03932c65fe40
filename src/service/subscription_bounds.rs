//! What bounds subscriptions: their number, and what they take in memory.
//!
//! Memory is taken by their patterns and filters, on their core and at each shard that they
//! concern. It is asked for before a subscription is made and counted until it is taken back, as an
//! estimate: the tables that hold it belong to the core and to its shards.

use super::Context;
use crate::api::ApiError;
use crate::api::metrics::SubscriberKind;
use crate::api::stream_options::StreamOptions;
use crate::limits::MEMORY_UNCOUNTED_BYTES_MAX;
use crate::shard::{Exhausted, MemoryHolders};
use crate::subscribe::Patterns;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

/// About the bytes that a subscription takes on its core, besides its pattern and its filter.
const FIXED_BYTES: usize = 256;
/// The same on each shard that it concerns.
const SHARD_BYTES: usize = 96;
/// How many times the bytes of its text a filter takes, parsed.
const FILTER_COPIES: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct SubscriptionMemory {
    /// Who is answerable for it.
    holders: MemoryHolders,
    /// Of the subscriptions that there are.
    held: usize,
    /// What was added to it since the connection was last counted.
    uncounted: usize,
}

/// About what a subscription takes that concerns so many shards, bytes.
pub(super) fn bytes_of(patterns: &Patterns, options: &StreamOptions, shards: usize) -> usize {
    let filter = options.filter.as_ref().map_or(0, |it| it.text().len());
    let text = patterns.heap_bytes();
    let fixed = FIXED_BYTES + FILTER_COPIES * filter;
    fixed + text + shards * (SHARD_BYTES + text)
}

impl SubscriptionMemory {
    /// Of none.
    pub(super) const fn new(holders: MemoryHolders) -> Self {
        Self {
            holders,
            held: 0,
            uncounted: 0,
        }
    }

    /// Asks for what one more takes. A few are not refused, as little as the connection is then
    /// counted for.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(super) fn ask<L>(&self, context: &mut Context<L>, bytes: usize) -> Result<(), ApiError> {
        if self.held + bytes <= MEMORY_UNCOUNTED_BYTES_MAX {
            return Ok(());
        }
        let more = self.uncounted + bytes;
        let counted = self.held.saturating_sub(self.uncounted);
        if context.memory.admits(self.holders, counted, more) {
            Ok(())
        } else {
            Err(ApiError::OutOfMemory)
        }
    }

    /// One more is there.
    pub(super) fn add(&mut self, bytes: usize) {
        self.held += bytes;
        self.uncounted += bytes;
    }

    /// One is gone.
    pub(super) fn remove(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
        self.uncounted = self.uncounted.min(self.held);
    }

    /// What all take.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// The connection was counted with what it holds.
    pub(super) fn note_counted(&mut self) {
        self.uncounted = 0;
    }
}

/// Counts one more subscription, of all connections and of the client's address.
///
/// # Errors
/// If there are as many as there may be.
pub(super) fn count<L>(
    context: &Context<L>,
    (address, kind): (Option<IpAddr>, SubscriberKind),
) -> Result<(), ApiError> {
    let (runtime, counters) = (&context.tenants.runtime, &context.counters);
    let limit = runtime.max_subscriptions;
    if counters.subscriptions() >= u64::from(limit) {
        let holder = "all connections together hold";
        return Err(ApiError::SubscriptionsExhausted { holder, limit });
    }
    let limit = runtime.max_subscriptions_per_address;
    let added = match address {
        None => Ok(()),
        Some(address) => counters.subscribed.add(address, limit),
    };
    added.map_err(|Exhausted| ApiError::SubscriptionsExhausted {
        holder: "the connections from one address hold",
        limit,
    })?;
    let own = counters.of(context.router.core);
    own.subscriptions.fetch_add(1, Relaxed);
    context.tally().note_subscribed(kind);
    Ok(())
}

/// Counts one less.
pub(super) fn discount<L>(context: &Context<L>, (address, kind): (Option<IpAddr>, SubscriberKind)) {
    let own = context.counters.of(context.router.core);
    own.subscriptions.fetch_sub(1, Relaxed);
    context.tally().note_unsubscribed(kind);
    if let Some(address) = address {
        context.counters.subscribed.remove(address);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestCores;
    use super::*;
    use crate::shard::MemoryPart;

    #[test]
    fn a_few_are_made_also_if_there_is_no_memory_and_no_more() {
        let mut cores = TestCores::new(1);
        let context = cores.context(0);
        let limit = context.memory.budget().limit();
        let mut memory = SubscriptionMemory::new(MemoryHolders::default());
        assert_eq!(memory.ask(context, limit / 2), Ok(()));
        context.memory.change(MemoryPart::Bodies, 0, limit);
        let mut made = 0;
        while memory.ask(context, 400).is_ok() {
            memory.add(400);
            made += 1;
            assert!(made < 100);
        }
        assert_eq!(made, MEMORY_UNCOUNTED_BYTES_MAX / 400);
        assert_eq!(memory.ask(context, 400), Err(ApiError::OutOfMemory));
    }
}
