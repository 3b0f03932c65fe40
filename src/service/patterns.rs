//! What a subscription or a read of changes names: its patterns, and the shards that they concern.

use super::streams::Stream;
use super::{ConnectionTokens, Context, KeptToken};
use crate::api::ApiError;
use crate::api::stream_options::StreamOptions;
use crate::auth::Readable;
use crate::log::Log;
use crate::subscribe::{Filter, Interest, Patterns};
use std::ops::Range;

/// The shards from the first that patterns concern to the last.
pub(super) fn shards_of<L: Log>(context: &Context<L>, patterns: &Patterns) -> Range<u16> {
    let key = patterns.concerns_single_placement();
    context.router.shards_of_key(key)
}

/// True if a reader may see anything that patterns name.
pub(super) fn are_readable(readable: &Readable, patterns: &Patterns) -> bool {
    readable.is_everything()
        || patterns.each().iter().any(|pattern| match pattern {
            Filter::All => true,
            Filter::Prefix(prefix) => readable.holds_within(prefix),
            Filter::Exact(id) => readable.holds(id),
        })
}

/// Refuses whoever presents this token what names nothing that the token may read.
///
/// # Errors
/// As [`ConnectionTokens::refusal`].
pub(crate) fn check_readable<L>(
    context: &Context<L>,
    token: Option<KeptToken>,
    patterns: &Patterns,
) -> Result<(), ApiError> {
    let mut tokens = ConnectionTokens::new(token);
    let readable = context.readable(&tokens.credentials(context));
    if are_readable(&readable, patterns) {
        Ok(())
    } else {
        Err(tokens.refusal(context))
    }
}

/// What is asked of which shards for a subscription.
pub(super) fn questions<L: Log>(
    context: &Context<L>,
    patterns: &Patterns,
    stream: Option<&StreamOptions>,
) -> Vec<(u16, Interest)> {
    let mut questions = Vec::new();
    for pattern in patterns.each() {
        let interest = Stream::interest(pattern, stream);
        let shards = context.router.shards_of(pattern);
        questions.extend(shards.map(|shard| (shard, interest.clone())));
    }
    questions
}

/// What a request names by these texts; by none: everything.
///
/// # Errors
/// [`ApiError::InvalidQuery`].
pub(crate) fn patterns_of(entity_ids: &[Box<str>]) -> Result<Patterns, ApiError> {
    let filters = entity_ids.iter().map(|text| Filter::parse(text));
    let filters: Result<Vec<Filter>, _> = filters.collect();
    let filters = filters.or(Err(ApiError::InvalidQuery {
        name: "entity_id",
        rule: PATTERN_RULE,
    }))?;
    Ok(Patterns::of(filters))
}

const PATTERN_RULE: &str =
    "an id, `*`, or a prefix and `*`; at most 512 bytes without control characters";

/// What a message names by this text.
///
/// # Errors
/// [`ApiError::InvalidField`].
pub(crate) fn parse(pattern: &str) -> Result<Filter, ApiError> {
    Filter::parse(pattern).or(Err(ApiError::InvalidField {
        field: "entity_id",
        rule: PATTERN_RULE,
    }))
}
