//! Who sends a request, by its `Authorization` and this core's own registry. A look-up by the token's hash; nothing is
//! shared with other cores.

use super::context::Hub;
use crate::api::ApiError;
use crate::auth::{Access, Denied, OwnedNamespace, TokenHash, bearer};
use crate::wire::http1::{Field, Head};

/// The hash of the token that a request presents.
fn presented(head: &Head<'_>) -> Result<TokenHash, ApiError> {
    match head.authorization {
        Field::Absent => Err(ApiError::TokenMissing),
        Field::Repeated => Err(ApiError::TokenMalformed),
        Field::One(value) => bearer(value)
            .map(TokenHash::of)
            .ok_or(ApiError::TokenMalformed),
    }
}

/// Whether a token was the operator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Yes,
    /// It is a namespace's.
    No,
}

impl Hub {
    /// What whoever sends this request may write.
    ///
    /// # Errors
    /// In auth mode, where it has no token that somebody has.
    pub(crate) fn access(&self, head: &Head<'_>) -> Result<Access, ApiError> {
        if !self.config.auth {
            return Ok(Access::Open);
        }
        let token = presented(head)?;
        if self.config.admin == Some(token) {
            return Ok(Access::Admin);
        }
        let owner = self.registry.owner_of(&token);
        owner
            .and_then(|namespace| OwnedNamespace::new(&namespace.name))
            .map(Access::Owner)
            .ok_or(ApiError::TokenUnknown)
    }

    /// Whether the operator sends this request.
    ///
    /// # Errors
    /// Where the server has no operator's token, or the request none that somebody has.
    pub(crate) fn operator(&self, head: &Head<'_>) -> Result<Operator, ApiError> {
        let admin = self.config.admin.ok_or(ApiError::AdminDisabled)?;
        let token = presented(head)?;
        if token == admin {
            Ok(Operator::Yes)
        } else if self.config.auth && self.registry.owner_of(&token).is_some() {
            Ok(Operator::No)
        } else {
            Err(ApiError::TokenUnknown)
        }
    }
}

/// The refusal of a write.
pub(crate) fn denied(denied: Denied) -> ApiError {
    match denied {
        Denied::NoNamespace => ApiError::NamespaceRequired,
        Denied::NotOwner => ApiError::NotOwner,
    }
}
