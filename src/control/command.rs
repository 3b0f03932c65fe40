//! What is asked of the control plane, and what its current value makes of that.

use super::change::Change;
use super::connectors::{CONNECTORS_MAX, CONNECTORS_PER_OWNER_MAX};
use super::namespace::Namespace;
use super::registry::Registry;
use super::token::NamespaceToken;
use crate::auth::TokenHash;
use crate::limits::TOKENS_PER_NAMESPACE_MAX;
use crate::model::{ConfigPatch, ConnectorId, Sealed, Timestamp, Visibility};
use std::sync::Arc;

/// A call that changes the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Register a namespace.
    Register(Namespace),
    /// Give a namespace another token in place of its first.
    ReplaceToken {
        /// The namespace.
        name: Box<str>,
        /// The token of whoever asks, which has to be in force still; `None`: the operator.
        by: Option<TokenHash>,
        /// What is kept of the new token.
        token: TokenHash,
    },
    /// Delete a namespace.
    Delete {
        /// The namespace.
        name: Box<str>,
    },
    /// Change the configuration.
    Configure(ConfigPatch),
    /// Define a connector.
    DefineConnector {
        /// Which.
        id: ConnectorId,
        /// What it polls.
        definition: Arc<str>,
    },
    /// Remove a connector.
    RemoveConnector(ConnectorId),
    /// Give a connector a credential.
    StoreCredential {
        /// Which.
        id: ConnectorId,
        /// The credential, encrypted.
        sealed: Sealed,
    },
    /// Take a connector's credential away.
    RemoveCredential(ConnectorId),
    /// Make one more token.
    MakeToken {
        /// The namespace.
        name: Box<str>,
        /// As in [`Command::ReplaceToken`].
        by: Option<TokenHash>,
        /// The token.
        token: Box<NamespaceToken>,
    },
    /// Say who may read a namespace.
    SetVisibility {
        /// The namespace.
        name: Box<str>,
        /// As in [`Command::ReplaceToken`].
        by: Option<TokenHash>,
        /// Who.
        visibility: Visibility,
    },
    /// Revoke a token that was made so.
    RevokeToken {
        /// The namespace.
        name: Box<str>,
        /// As in [`Command::ReplaceToken`].
        by: Option<TokenHash>,
        /// The token's id.
        id: Box<str>,
        /// When.
        now: Timestamp,
    },
}

/// Why a call changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandRejection {
    /// Somebody has the name.
    Taken,
    /// The name is not registered.
    Unknown,
    /// The token of whoever asks was replaced or revoked meanwhile.
    TokenDead,
    /// The namespace has no token of that id.
    NoToken,
    /// The namespace has as many tokens as it may have.
    TooManyTokens,
    /// The owner has a connector of that name.
    ConnectorTaken,
    /// The owner has no connector of that name.
    NoConnector,
    /// It can't be removed.
    BuiltIn,
    /// It has no credential.
    NoCredential,
    /// There are as many connectors as there may be.
    TooManyConnectors,
    /// The namespace has had as much stored as it may for now.
    TooManyChanges {
        /// Seconds until it may.
        seconds: u32,
    },
}

impl Registry {
    /// What a call comes to.
    ///
    /// # Errors
    /// [`CommandRejection`].
    pub fn decide(&self, command: Command) -> Result<Change, CommandRejection> {
        match command {
            Command::Register(namespace) => match self.get(&namespace.name) {
                Some(_) => Err(CommandRejection::Taken),
                None => Ok(Change::Registered(namespace)),
            },
            Command::ReplaceToken { name, by, token } => {
                self.check_asker(&name, by)?;
                Ok(Change::TokenReplaced { name, token })
            }
            Command::MakeToken { name, by, token } => {
                self.check_asker(&name, by)?;
                let living = self.tokens().of(&name, token.created).count();
                if living >= TOKENS_PER_NAMESPACE_MAX {
                    return Err(CommandRejection::TooManyTokens);
                }
                Ok(Change::TokenMade { name, token })
            }
            Command::SetVisibility {
                name,
                by,
                visibility,
            } => {
                self.check_asker(&name, by)?;
                Ok(Change::VisibilitySet { name, visibility })
            }
            Command::RevokeToken { name, by, id, now } => {
                self.check_asker(&name, by)?;
                let is_there = self.tokens().of(&name, now).any(|token| token.id == id);
                if is_there {
                    Ok(Change::TokenRevoked { name, id })
                } else {
                    Err(CommandRejection::NoToken)
                }
            }
            Command::Delete { name } => match self.get(&name) {
                Some(_) => Ok(Change::Deleted { name }),
                None => Err(CommandRejection::Unknown),
            },
            Command::Configure(patch) => Ok(Change::Configured(patch)),
            Command::DefineConnector { id, definition } => {
                self.check_connector(&id)?;
                Ok(Change::ConnectorDefined { id, definition })
            }
            Command::RemoveConnector(id) => {
                if id.is_built_in() {
                    return Err(CommandRejection::BuiltIn);
                }
                match self.connectors().get(&id) {
                    Some(_) => Ok(Change::ConnectorRemoved(id)),
                    None => Err(CommandRejection::NoConnector),
                }
            }
            Command::StoreCredential { id, sealed } => {
                self.check_owner(&id)?;
                if !id.is_built_in() && self.connectors().get(&id).is_none() {
                    return Err(CommandRejection::NoConnector);
                }
                Ok(Change::CredentialStored { id, sealed })
            }
            Command::RemoveCredential(id) => match self.connectors().get(&id) {
                Some(connector) if connector.credential.is_some() => {
                    Ok(Change::CredentialRemoved(id))
                }
                None if !id.is_built_in() => Err(CommandRejection::NoConnector),
                Some(_) | None => Err(CommandRejection::NoCredential),
            },
        }
    }

    /// A namespace, or the token of whoever asks for something of it, may have gone since it was
    /// looked at.
    fn check_asker(&self, name: &str, by: Option<TokenHash>) -> Result<(), CommandRejection> {
        self.get(name).ok_or(CommandRejection::Unknown)?;
        let is_alive = by.is_none_or(|by| {
            let grant = self.tokens().get(&by);
            grant.is_some_and(|grant| grant.namespace.as_str() == name)
        });
        if is_alive {
            Ok(())
        } else {
            Err(CommandRejection::TokenDead)
        }
    }

    /// Whether a connector may be defined.
    fn check_connector(&self, id: &ConnectorId) -> Result<(), CommandRejection> {
        self.check_owner(id)?;
        let connectors = self.connectors();
        if id.is_built_in() || connectors.get(id).is_some() {
            return Err(CommandRejection::ConnectorTaken);
        }
        let of_owner = connectors.of(&id.owner).count();
        if of_owner >= CONNECTORS_PER_OWNER_MAX || connectors.len() >= CONNECTORS_MAX {
            return Err(CommandRejection::TooManyConnectors);
        }
        Ok(())
    }

    /// A namespace may have been deleted since its token was looked at.
    fn check_owner(&self, id: &ConnectorId) -> Result<(), CommandRejection> {
        if id.owner.is_empty() || self.get(&id.owner).is_some() {
            Ok(())
        } else {
            Err(CommandRejection::Unknown)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::LastUse;
    use super::*;
    use crate::model::Scopes;

    #[test]
    fn connectors_are_defined_once_for_each_owner_and_end_with_their_namespace() {
        let id = |owner: &str, name: &str| ConnectorId {
            owner: owner.into(),
            name: name.into(),
        };
        let define = |id| Command::DefineConnector {
            id,
            definition: "{}".into(),
        };
        let store = |id| Command::StoreCredential {
            id,
            sealed: Sealed::new(b"sealed"),
        };
        let mut registry = Registry::default();
        let run = |registry: &mut Registry, command| {
            registry
                .decide(command)
                .map(|change| registry.apply(&change))
        };
        let weather = id("", "weather");
        assert_eq!(run(&mut registry, define(weather.clone())), Ok(()));
        let taken = Err(CommandRejection::ConnectorTaken);
        assert_eq!(run(&mut registry, define(weather.clone())), taken);
        assert_eq!(run(&mut registry, define(id("", "github"))), taken);
        let stranger = define(id("house", "weather"));
        let unknown = Err(CommandRejection::Unknown);
        assert_eq!(run(&mut registry, stranger.clone()), unknown);
        let namespace = Namespace {
            id: "ns_1".into(),
            name: "house".into(),
            token: TokenHash::of(b"token"),
            created: Timestamp::default(),
            after: None,
            visibility: Visibility::Public,
        };
        run(&mut registry, Command::Register(namespace)).unwrap();
        assert_eq!(run(&mut registry, stranger), Ok(()));
        let none = Err(CommandRejection::NoConnector);
        assert_eq!(run(&mut registry, store(id("house", "nothing"))), none);
        assert_eq!(run(&mut registry, store(id("house", "github"))), Ok(()));
        assert_eq!(registry.connectors().of("house").count(), 2);
        let remove = |id| Command::RemoveCredential(id);
        let missing = Err(CommandRejection::NoCredential);
        assert_eq!(run(&mut registry, remove(weather.clone())), missing);
        assert_eq!(run(&mut registry, remove(id("", "github"))), missing);
        assert_eq!(run(&mut registry, remove(id("", "nothing"))), none);
        assert_eq!(run(&mut registry, store(weather.clone())), Ok(()));
        assert_eq!(run(&mut registry, remove(weather.clone())), Ok(()));
        let built_in = Command::RemoveConnector(id("house", "github"));
        assert_eq!(run(&mut registry, built_in), Err(CommandRejection::BuiltIn));
        let delete = Command::Delete {
            name: "house".into(),
        };
        assert_eq!(run(&mut registry, delete), Ok(()));
        let left: Vec<_> = registry.connectors().iter().map(|(id, _)| id).collect();
        assert_eq!(left, [&weather]);
        assert_eq!(
            run(&mut registry, Command::RemoveConnector(weather)),
            Ok(())
        );
        assert!(registry.connectors().is_empty());
    }

    #[test]
    fn tokens_are_made_up_to_a_bound_by_whoever_has_one_and_revoked_once() {
        let mut registry = Registry::default();
        let first = TokenHash::of(b"first");
        let namespace = Namespace {
            id: "ns_1".into(),
            name: "house".into(),
            token: first,
            created: Timestamp::default(),
            after: None,
            visibility: Visibility::Public,
        };
        let run = |registry: &mut Registry, command| {
            registry
                .decide(command)
                .map(|change| registry.apply(&change))
        };
        let make = |by, number: usize| Command::MakeToken {
            name: "house".into(),
            by,
            token: Box::new(NamespaceToken {
                id: format!("tok_{number}").into(),
                hash: TokenHash::of(&number.to_be_bytes()),
                label: None,
                scopes: Scopes::ALL,
                prefix: None,
                created: Timestamp::default(),
                expires: None,
                last_use: LastUse::default(),
            }),
        };
        let revoke = |by, id: &str| Command::RevokeToken {
            name: "house".into(),
            by,
            id: id.into(),
            now: Timestamp::default(),
        };
        let unknown = Err(CommandRejection::Unknown);
        assert_eq!(run(&mut registry, make(None, 0)), unknown);
        run(&mut registry, Command::Register(namespace)).unwrap();
        let stranger = Some(TokenHash::of(b"stranger"));
        let dead = Err(CommandRejection::TokenDead);
        assert_eq!(run(&mut registry, make(stranger, 0)), dead);
        for number in 0..TOKENS_PER_NAMESPACE_MAX {
            assert_eq!(run(&mut registry, make(Some(first), number)), Ok(()));
        }
        let too_many = Err(CommandRejection::TooManyTokens);
        let one_more = make(None, TOKENS_PER_NAMESPACE_MAX);
        assert_eq!(run(&mut registry, one_more.clone()), too_many);
        let second = Some(TokenHash::of(&0_usize.to_be_bytes()));
        assert_eq!(run(&mut registry, revoke(second, "tok_0")), Ok(()));
        assert_eq!(run(&mut registry, revoke(second, "tok_1")), dead);
        let none = Err(CommandRejection::NoToken);
        assert_eq!(run(&mut registry, revoke(None, "tok_0")), none);
        assert_eq!(run(&mut registry, one_more), Ok(()));
    }

    #[test]
    fn of_two_that_replace_one_token_the_second_is_refused() {
        let hash = |text: &str| TokenHash::of(text.as_bytes());
        let mut registry = Registry::default();
        let register = |token| {
            Command::Register(Namespace {
                id: "ns_1".into(),
                name: "house".into(),
                token,
                created: Timestamp::default(),
                after: None,
                visibility: Visibility::Public,
            })
        };
        let replace = |by, token| Command::ReplaceToken {
            name: "house".into(),
            by,
            token,
        };
        let old = hash("old");
        assert_eq!(
            registry.decide(replace(None, old)),
            Err(CommandRejection::Unknown)
        );
        registry.apply(&registry.decide(register(old)).unwrap());
        assert_eq!(
            registry.decide(register(hash("x"))),
            Err(CommandRejection::Taken)
        );
        let first = registry.decide(replace(Some(old), hash("first"))).unwrap();
        registry.apply(&first);
        let second = registry.decide(replace(Some(old), hash("second")));
        assert_eq!(second, Err(CommandRejection::TokenDead));
        assert!(registry.decide(replace(None, hash("operator's"))).is_ok());
    }
}
