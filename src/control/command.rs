//! What is asked of the control plane, and what its current value makes of that.

use super::change::Change;
use super::registry::{Namespace, Registry};
use crate::auth::TokenHash;
use crate::model::ConfigPatch;

/// A call that changes the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Register a namespace.
    Register(Namespace),
    /// Give a namespace another token.
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
}

/// Why a call changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandRefusal {
    /// Somebody has the name.
    Taken,
    /// Nobody has the name.
    Unknown,
    /// The token of whoever asks was replaced meanwhile.
    TokenDead,
}

impl Registry {
    /// What a call comes to.
    ///
    /// # Errors
    /// [`CommandRefusal`].
    pub fn decide(&self, command: Command) -> Result<Change, CommandRefusal> {
        match command {
            Command::Register(namespace) => match self.get(&namespace.name) {
                Some(_) => Err(CommandRefusal::Taken),
                None => Ok(Change::Registered(namespace)),
            },
            Command::ReplaceToken { name, by, token } => {
                let known = self.get(&name).ok_or(CommandRefusal::Unknown)?;
                if by.is_some_and(|by| by != known.token) {
                    return Err(CommandRefusal::TokenDead);
                }
                Ok(Change::TokenReplaced { name, token })
            }
            Command::Delete { name } => match self.get(&name) {
                Some(_) => Ok(Change::Deleted { name }),
                None => Err(CommandRefusal::Unknown),
            },
            Command::Configure(patch) => Ok(Change::Configured(patch)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

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
            Err(CommandRefusal::Unknown)
        );
        registry.apply(&registry.decide(register(old)).unwrap());
        assert_eq!(
            registry.decide(register(hash("x"))),
            Err(CommandRefusal::Taken)
        );
        let first = registry.decide(replace(Some(old), hash("first"))).unwrap();
        registry.apply(&first);
        let second = registry.decide(replace(Some(old), hash("second")));
        assert_eq!(second, Err(CommandRefusal::TokenDead));
        assert!(registry.decide(replace(None, hash("operator's"))).is_ok());
    }
}
