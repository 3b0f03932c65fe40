//! Namespaces and the configuration in force on this core: who may write what. A look-up by the
//! token's hash in the core's own registry; nothing is shared with other cores.

use super::Credentials;
use crate::api::ApiError;
use crate::auth::{Access, BrowserPolicy, Denied, OwnedNamespace, Reader, TokenHash};
use crate::control::Registry;
use crate::model::{RuntimeConfig, Timestamp, Visibility};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Tenants {
    /// Writes need a token.
    pub(crate) auth: bool,
    /// What is kept of the operator's token.
    pub(crate) admin: Option<TokenHash>,
    /// The namespaces.
    pub(crate) registry: Registry,
    /// Who may read a new namespace.
    pub(crate) new_namespaces: Visibility,
    /// The configuration in force.
    pub(crate) runtime: RuntimeConfig,
    /// Which web pages may reach the server, and by which names.
    pub(crate) browsers: BrowserPolicy,
}

/// Whether a token was the operator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Yes,
    /// It is a namespace's.
    No,
}

/// A caller whose token was looked up.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// What it may write.
    pub(crate) access: Access,
    /// What is kept of the token.
    pub(crate) token: TokenHash,
}

/// The token that a call needs, whatever else it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenRule {
    /// None. An unknown one is refused all the same.
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

impl TokenRule {
    /// True if it may ask for the operator's, so that a wrong token may be a guess at that.
    fn is_of_operator(self) -> bool {
        match self {
            Self::None | Self::Writer => false,
            Self::Operator | Self::OperatorOnly | Self::Registrar => true,
        }
    }
}

impl Tenants {
    /// Looks up the token that a caller presents, once for its whole call. `None` if it presents
    /// none, and without auth, where only the operator's calls look at one.
    ///
    /// # Errors
    /// If the token is unknown or malformed, whether the call needs one or not.
    pub(crate) fn identify(
        &self,
        credentials: &Credentials<'_>,
        (rule, now): (TokenRule, Timestamp),
    ) -> Result<Option<Identity>, ApiError> {
        if !self.auth || matches!(credentials, Credentials::None) {
            return Ok(None);
        }
        let token = credentials.token()?;
        match self.access_of(&token, now) {
            Some(access) => Ok(Some(Identity { access, token })),
            None if rule.is_of_operator() => match self.admin {
                // The call is refused to everyone.
                None if rule != TokenRule::Registrar => Err(ApiError::AdminDisabled),
                None => Err(ApiError::TokenUnknown),
                Some(_) => Err(ApiError::OperatorUnknown),
            },
            None => Err(ApiError::TokenUnknown),
        }
    }

    /// Checks that a caller presents the token that its call needs. Returns the namespace that it
    /// is the token of.
    ///
    /// # Errors
    /// As [`Tenants::identify`], [`Tenants::access`] and [`Tenants::operator`].
    pub(crate) fn check(
        &self,
        credentials: &Credentials<'_>,
        (rule, now): (TokenRule, Timestamp),
    ) -> Result<Option<OwnedNamespace>, ApiError> {
        let identity = self.identify(credentials, (rule, now))?;
        let credentials = identity.as_ref().map_or(*credentials, Credentials::Known);
        match rule {
            TokenRule::Writer => {
                self.access(&credentials, now)?;
            }
            TokenRule::Registrar if self.admin.is_none() => {}
            TokenRule::Operator | TokenRule::Registrar => {
                self.operator(&credentials, now)?;
            }
            TokenRule::OperatorOnly => match self.operator(&credentials, now)? {
                Operator::Yes => {}
                Operator::No => return Err(ApiError::OperatorUnknown),
            },
            TokenRule::None => {}
        }
        let charged = identity.and_then(|identity| identity.access.charged(0));
        Ok(charged.map(|charged| charged.namespace))
    }

    /// What a caller may write.
    ///
    /// # Errors
    /// In auth mode, if it presents no token that somebody has.
    pub(crate) fn access(
        &self,
        credentials: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Access, ApiError> {
        if !self.auth {
            return Ok(Access::Open);
        }
        match credentials {
            Credentials::Own(access) | Credentials::Several(access) => Ok((*access).clone()),
            Credentials::Known(identity) => Ok(identity.access.clone()),
            _ => {
                let token = credentials.token()?;
                self.access_of(&token, now).ok_or(ApiError::TokenUnknown)
            }
        }
    }

    /// Who reads, by what a caller presents. An unknown token is as good as none: whether a call
    /// may present one is not judged here.
    pub(crate) fn reader(&self, credentials: &Credentials<'_>, now: Timestamp) -> Reader {
        self.access(credentials, now)
            .map_or(Reader::Public, Reader::of)
    }

    /// What the token with this hash lets its holder write, if somebody has it.
    pub(super) fn access_of(&self, token: &TokenHash, now: Timestamp) -> Option<Access> {
        if self.admin == Some(*token) {
            return Some(Access::Admin);
        }
        let grant = self.registry.tokens().present(token, now)?;
        Some(Access::Owner(grant.clone()))
    }

    /// Whether somebody has this token.
    pub(crate) fn is_alive(&self, token: &TokenHash, now: Timestamp) -> bool {
        !self.auth || self.access_of(token, now).is_some()
    }

    /// Whether the operator calls.
    ///
    /// # Errors
    /// If the server has no operator's token, or the caller presents none that somebody has.
    pub(crate) fn operator(
        &self,
        credentials: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Operator, ApiError> {
        let admin = self.admin.ok_or(ApiError::AdminDisabled)?;
        let token = credentials.token()?;
        if token == admin {
            Ok(Operator::Yes)
        } else if self.auth && self.access_of(&token, now).is_some() {
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
        Denied::OutsidePrefix => ApiError::OutsidePrefix,
        Denied::NoScope(scope) => ApiError::ScopeMissing {
            scope: scope.name(),
        },
    }
}
