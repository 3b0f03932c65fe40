//! Who calls: where replies go, and what was presented as proof.

use super::Identity;
use crate::api::ApiError;
use crate::auth::{Access, TokenHash, bearer};
use crate::background::turns::Network;
use crate::model::TraceParent;
use crate::shard::{RequestId, network_of};
use std::net::IpAddr;

/// What is kept of a token that a client presented for all that follows.
pub(crate) type KeptToken = TokenHash;

/// The sender of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'c> {
    /// Where replies to this call go.
    pub(crate) request_id: RequestId,
    /// The address that the connection is counted for.
    pub(crate) address: Option<IpAddr>,
    /// What it presents.
    pub(crate) credentials: Credentials<'c>,
    /// The trace that its request is a part of.
    pub(crate) traceparent: Option<TraceParent>,
    /// It takes a long answer in parts, as they come.
    pub(crate) takes_parts: bool,
    /// This core's shard still owes it the reply to an earlier call, which this one must not
    /// overtake: it goes through the shard's queue too. Of no concern to a caller whose answers
    /// leave in the order of its calls.
    pub(crate) behind_asked: bool,
}

impl Caller<'_> {
    /// The address whose turn is taken at the helper thread that decodes. `None`: the server itself
    /// calls, whose core has no such thread, and may take its time.
    pub(super) fn network(&self) -> Option<Network> {
        match self.credentials {
            Credentials::Own(_) => None,
            _ => Some(self.address.map(network_of)),
        }
    }
}

/// What a caller presents. It is looked at only if a token is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credentials<'c> {
    /// Nothing.
    None,
    /// More than one token, of which nobody knows which is meant.
    Ambiguous,
    /// Nothing: the server itself calls, for whoever may write this.
    Own(&'c Access),
    /// A token that was looked up for this call.
    Known(&'c Identity),
    /// A token, of which the hash was kept.
    Token(TokenHash),
    /// Several tokens, that were looked up: what they grant together.
    Several(&'c Access),
    /// The value of an `Authorization` field (RFC 6750 §2.1), not looked at yet.
    Authorization(&'c [u8]),
}

impl Credentials<'_> {
    /// The hash of the presented token.
    ///
    /// # Errors
    /// [`ApiError::TokenMissing`], [`ApiError::TokenMalformed`].
    pub(crate) fn token(&self) -> Result<TokenHash, ApiError> {
        match self {
            Self::None | Self::Own(_) => Err(ApiError::TokenMissing),
            Self::Ambiguous => Err(ApiError::TokenMalformed),
            Self::Token(token) => Ok(*token),
            Self::Known(identity) => Ok(identity.token),
            Self::Several(access) => match access {
                Access::Several(all) => all.first().map(|first| first.token),
                _ => None,
            }
            .ok_or(ApiError::TokenMissing),
            Self::Authorization(value) => bearer(value)
                .map(TokenHash::of)
                .ok_or(ApiError::TokenMalformed),
        }
    }
}
