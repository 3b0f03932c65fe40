//! Namespaces and the configuration in force on this core: who may write what. A look-up by the
//! token's hash in the core's own registry; nothing is shared with other cores.

use super::Credentials;
use crate::api::ApiError;
use crate::auth::{Access, Denied, OwnedNamespace, TokenHash};
use crate::control::Registry;
use crate::model::RuntimeConfig;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Tenants {
    /// Writes need a token.
    pub(crate) auth: bool,
    /// What is kept of the operator's token.
    pub(crate) admin: Option<TokenHash>,
    /// The namespaces.
    pub(crate) registry: Registry,
    /// The configuration in force.
    pub(crate) runtime: RuntimeConfig,
}

/// Whether a token was the operator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Yes,
    /// It is a namespace's.
    No,
}

/// The token that a call needs, whatever else it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenRule {
    /// None.
    None,
    /// In auth mode, one that somebody has.
    Writer,
    /// One that somebody has, at a server whose operator has one.
    Operator,
    /// The operator's.
    OperatorOnly,
    /// As `Operator` if the operator has one, else none.
    Registrar,
}

impl Tenants {
    /// Checks that a caller presents the token that its call needs. Returns the namespace that it
    /// is the token of.
    ///
    /// # Errors
    /// As [`Tenants::access`] and [`Tenants::operator`].
    pub(crate) fn check(
        &self,
        credentials: &Credentials<'_>,
        rule: TokenRule,
    ) -> Result<Option<OwnedNamespace>, ApiError> {
        match rule {
            TokenRule::Writer => return Ok(self.access(credentials)?.charged()),
            TokenRule::Registrar if self.admin.is_none() => {}
            TokenRule::Operator | TokenRule::Registrar => {
                self.operator(credentials)?;
            }
            TokenRule::OperatorOnly => match self.operator(credentials)? {
                Operator::Yes => {}
                Operator::No => return Err(ApiError::OperatorUnknown),
            },
            TokenRule::None => {}
        }
        Ok(None)
    }

    /// What a caller may write.
    ///
    /// # Errors
    /// In auth mode, if it presents no token that somebody has.
    pub(crate) fn access(&self, credentials: &Credentials<'_>) -> Result<Access, ApiError> {
        if !self.auth {
            return Ok(Access::Open);
        }
        if let Credentials::Own(access) = credentials {
            return Ok(*access);
        }
        let token = credentials.token()?;
        if self.admin == Some(token) {
            return Ok(Access::Admin);
        }
        let owner = self.registry.owner_of(&token);
        owner
            .and_then(|namespace| OwnedNamespace::new(&namespace.name))
            .map(Access::Owner)
            .ok_or(ApiError::TokenUnknown)
    }

    /// Whether somebody has this token.
    pub(crate) fn is_alive(&self, token: &TokenHash) -> bool {
        !self.auth || self.admin == Some(*token) || self.registry.owner_of(token).is_some()
    }

    /// Whether the operator calls.
    ///
    /// # Errors
    /// If the server has no operator's token, or the caller presents none that somebody has.
    pub(crate) fn operator(&self, credentials: &Credentials<'_>) -> Result<Operator, ApiError> {
        let admin = self.admin.ok_or(ApiError::AdminDisabled)?;
        let token = credentials.token()?;
        if token == admin {
            Ok(Operator::Yes)
        } else if self.auth && self.registry.owner_of(&token).is_some() {
            Ok(Operator::No)
        } else {
            Err(ApiError::OperatorUnknown)
        }
    }
}

/// The rejection of a write.
pub(crate) fn denied(denied: Denied) -> ApiError {
    match denied {
        Denied::NoNamespace => ApiError::NamespaceRequired,
        Denied::NotOwner => ApiError::NotOwner,
    }
}
