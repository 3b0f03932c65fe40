//! A change of the control plane ⇄ the payload of its log record (drawn in `storage/FORMAT.md`).
//!
//! ```text
//! 1 | id | name | token hash, 32 bytes | created i64 LE        registered, by an earlier version
//! 2 | name | token hash, 32 bytes                               token replaced
//! 3 | name                                                      deleted
//! 4 | count u8 | (setting u8 | value u32 LE) ...                configured
//! 5 | owner | name | definition, long text                      connector defined
//! 6 | owner | name                                              connector and credential removed
//! 7 | owner | name | sealed credential, long text               credential stored
//! 8 | owner | name                                              credential removed
//! 9 | id | name | token hash, 32 bytes | created i64 LE | after u64 LE        registered
//! 10 | name | token                                             token made
//! 11 | name | id                                                token revoked
//! 12 | count u16 LE | (name | id | minute u32 LE) ...           tokens used
//! 13 | as 9                                                     registered, private
//! 14 | name | private u8                                        who may read it
//!
//! token: id | token hash, 32 bytes | scopes u8 | created i64 LE | has u8, then what it has:
//!        1 label | 2 prefix, long text | 4 expires i64 LE
//! ```
//!
//! A text is its length in one byte and its bytes; a long one has two bytes of length,
//! little-endian. Settings ascend by their numbers, each once. An owner is a namespace, or empty
//! if the server runs without tokens.

use super::namespace::Namespace;
use super::token::{LastUse, NamespaceToken};
use crate::auth::TokenHash;
use crate::limits::{
    CONNECTOR_DEFINITION_BYTES_MAX, ENTITY_ID_BYTES_MAX, TOKEN_LABEL_BYTES_MAX,
    TOKEN_USES_PER_CHANGE_MAX,
};
use crate::model::{ConfigPatch, ConnectorId, Scopes, Sealed, Timestamp, Visibility, check_name};
use flux_storage::Sequence;
use std::sync::Arc;

/// Bytes of the longest credential as it is stored.
const SEALED_BYTES_MAX: usize = 8 * 1024;

/// The kind of a log record that holds a change.
pub const RECORD_KIND_CONTROL: u8 = 3;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A namespace was registered.
    Registered(Namespace),
    /// A namespace has another token from now on.
    TokenReplaced {
        /// The namespace.
        name: Box<str>,
        /// What is kept of the new token.
        token: TokenHash,
    },
    /// A namespace was deleted.
    Deleted {
        /// The namespace.
        name: Box<str>,
    },
    /// The configuration was changed.
    Configured(ConfigPatch),
    /// A connector was defined.
    ConnectorDefined {
        /// Which.
        id: ConnectorId,
        /// What it polls, as `connectors` writes and reads it.
        definition: Arc<str>,
    },
    /// A connector was removed, with its credential.
    ConnectorRemoved(ConnectorId),
    /// A connector has this credential from now on.
    CredentialStored {
        /// Which.
        id: ConnectorId,
        /// The credential, encrypted.
        sealed: Sealed,
    },
    /// A connector has no credential any more.
    CredentialRemoved(ConnectorId),
    /// A namespace has one more token from now on.
    TokenMade {
        /// The namespace.
        name: Box<str>,
        /// The token.
        token: Box<NamespaceToken>,
    },
    /// A token that was made so is dead from now on.
    TokenRevoked {
        /// The namespace.
        name: Box<str>,
        /// The token's id.
        id: Box<str>,
    },
    /// Such tokens were used.
    TokensUsed(Box<[TokenUse]>),
    /// A namespace may be read by these from now on.
    VisibilitySet {
        /// The namespace.
        name: Box<str>,
        /// Who may read it.
        visibility: Visibility,
    },
}

/// The last use of a token, as far as the control log knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUse {
    /// The namespace.
    pub name: Box<str>,
    /// The token's id.
    pub id: Box<str>,
    /// The minute since 1970.
    pub minute: u32,
}

/// Why bytes are no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeDecodeError {
    /// They end too early.
    #[error("it is cut off")]
    Truncated,
    /// More follows than belongs to it.
    #[error("bytes follow its end")]
    Excess,
    /// A newer version wrote it.
    #[error("its kind {0} is not known to this version of flux")]
    Kind(u8),
    /// A newer version wrote it.
    #[error("it sets {0}, which is not known to this version of flux")]
    Setting(u8),
    /// Settings do not ascend.
    #[error("setting {0} stands where it can't stand")]
    Order(u8),
    /// A setting has a value that it can't have.
    #[error("setting {0} has a value that it can't have")]
    Value(u8),
    /// A text is no name or id.
    #[error("it holds a name or id that can't be one")]
    Text,
    /// The definition or credential of a connector, or the prefix of a token, has a length that it
    /// can't have.
    #[error(
        "it holds a connector's definition or credential, or a prefix, of {0} bytes, which can't be"
    )]
    Length(u16),
    /// A token has what a newer version gave it.
    #[error("it holds a token with what is not known to this version of flux")]
    Token,
    /// A count that can't be.
    #[error("it counts {0} uses of tokens, which can't be")]
    Count(u16),
    /// It says who may read a namespace in a way that a newer version knows.
    #[error("it lets {0} read a namespace, which is not known to this version of flux")]
    Visibility(u8),
}

const REGISTERED: u8 = 1;
const TOKEN_REPLACED: u8 = 2;
const DELETED: u8 = 3;
const CONFIGURED: u8 = 4;
const CONNECTOR_DEFINED: u8 = 5;
const CONNECTOR_REMOVED: u8 = 6;
const CREDENTIAL_STORED: u8 = 7;
const CREDENTIAL_REMOVED: u8 = 8;
const REGISTERED_AFTER: u8 = 9;
const TOKEN_MADE: u8 = 10;
const TOKEN_REVOKED: u8 = 11;
const TOKENS_USED: u8 = 12;
const REGISTERED_PRIVATE: u8 = 13;
const VISIBILITY_SET: u8 = 14;

const HAS_LABEL: u8 = 1;
const HAS_PREFIX: u8 = 2;
const HAS_EXPIRY: u8 = 4;

/// The number of the one setting that is no number.
const RATE_LIMIT_ENABLED: u8 = 1;

impl Change {
    /// Appends the stored form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Registered(namespace) => put_namespace(out, namespace),
            Self::TokenReplaced { name, token } => {
                out.push(TOKEN_REPLACED);
                put_text(out, name);
                out.extend_from_slice(&token.to_bytes());
            }
            Self::Deleted { name } => {
                out.push(DELETED);
                put_text(out, name);
            }
            Self::Configured(patch) => put_settings(out, *patch),
            Self::ConnectorDefined { id, definition } => {
                put_connector(out, CONNECTOR_DEFINED, id);
                put_long(out, definition.as_bytes());
            }
            Self::ConnectorRemoved(id) => put_connector(out, CONNECTOR_REMOVED, id),
            Self::CredentialStored { id, sealed } => {
                put_connector(out, CREDENTIAL_STORED, id);
                put_long(out, sealed.as_bytes());
            }
            Self::CredentialRemoved(id) => put_connector(out, CREDENTIAL_REMOVED, id),
            Self::TokenMade { name, token } => {
                out.push(TOKEN_MADE);
                put_text(out, name);
                put_token(out, token);
            }
            Self::TokenRevoked { name, id } => {
                out.push(TOKEN_REVOKED);
                put_text(out, name);
                put_text(out, id);
            }
            Self::TokensUsed(uses) => {
                out.push(TOKENS_USED);
                let count = u16::try_from(uses.len()).expect("a change tells of a bounded number");
                out.extend_from_slice(&count.to_le_bytes());
                for TokenUse { name, id, minute } in uses {
                    put_text(out, name);
                    put_text(out, id);
                    out.extend_from_slice(&minute.to_le_bytes());
                }
            }
            Self::VisibilitySet { name, visibility } => {
                out.push(VISIBILITY_SET);
                put_text(out, name);
                out.push(u8::from(*visibility == Visibility::Private));
            }
        }
    }

    /// Decodes a payload.
    ///
    /// # Errors
    /// [`ChangeDecodeError`] where the bytes are not exactly one change.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChangeDecodeError> {
        let rest = &mut &*bytes;
        let [kind] = take(rest)?;
        let change = match kind {
            REGISTERED | REGISTERED_AFTER | REGISTERED_PRIVATE => {
                Self::Registered(take_namespace(rest, kind)?)
            }
            TOKEN_REPLACED => Self::TokenReplaced {
                name: take_name(rest)?,
                token: TokenHash::from_bytes(take(rest)?),
            },
            DELETED => Self::Deleted {
                name: take_name(rest)?,
            },
            CONFIGURED => Self::Configured(take_settings(rest)?),
            CONNECTOR_DEFINED => Self::ConnectorDefined {
                id: take_connector(rest)?,
                definition: std::str::from_utf8(take_long(rest, CONNECTOR_DEFINITION_BYTES_MAX)?)
                    .or(Err(ChangeDecodeError::Text))?
                    .into(),
            },
            CONNECTOR_REMOVED => Self::ConnectorRemoved(take_connector(rest)?),
            CREDENTIAL_STORED => Self::CredentialStored {
                id: take_connector(rest)?,
                sealed: Sealed::new(take_long(rest, SEALED_BYTES_MAX)?),
            },
            CREDENTIAL_REMOVED => Self::CredentialRemoved(take_connector(rest)?),
            TOKEN_MADE => Self::TokenMade {
                name: take_name(rest)?,
                token: Box::new(take_token(rest)?),
            },
            TOKEN_REVOKED => Self::TokenRevoked {
                name: take_name(rest)?,
                id: take_id(rest)?,
            },
            TOKENS_USED => Self::TokensUsed(take_uses(rest)?),
            VISIBILITY_SET => Self::VisibilitySet {
                name: take_name(rest)?,
                visibility: match take(rest)? {
                    [0] => Visibility::Public,
                    [1] => Visibility::Private,
                    [other] => return Err(ChangeDecodeError::Visibility(other)),
                },
            },
            kind => return Err(ChangeDecodeError::Kind(kind)),
        };
        if rest.is_empty() {
            Ok(change)
        } else {
            Err(ChangeDecodeError::Excess)
        }
    }
}

/// The settings that are numbers of at least 1, each with its number in the stored form.
fn numbers(patch: &mut ConfigPatch) -> [(u8, &mut Option<u32>); 8] {
    [
        (2, &mut patch.rate_limit_per_namespace_per_minute),
        (3, &mut patch.body_size_limit_single_bytes),
        (4, &mut patch.body_size_limit_batch_bytes),
        (5, &mut patch.max_batch_delete),
        (6, &mut patch.max_connections),
        (7, &mut patch.max_connections_per_address),
        (8, &mut patch.max_subscriptions),
        (9, &mut patch.max_subscriptions_per_address),
    ]
}

fn put_settings(out: &mut Vec<u8>, mut patch: ConfigPatch) {
    out.push(CONFIGURED);
    let count_at = out.len();
    out.push(0);
    let mut count = 0_u8;
    if let Some(enabled) = patch.rate_limit_enabled {
        out.push(RATE_LIMIT_ENABLED);
        out.extend_from_slice(&u32::from(enabled).to_le_bytes());
        count = count.saturating_add(1);
    }
    for (setting, value) in numbers(&mut patch) {
        if let Some(value) = value {
            out.push(setting);
            out.extend_from_slice(&value.to_le_bytes());
            count = count.saturating_add(1);
        }
    }
    if let Some(place) = out.get_mut(count_at) {
        *place = count;
    }
}

fn take_settings(rest: &mut &[u8]) -> Result<ConfigPatch, ChangeDecodeError> {
    let mut patch = ConfigPatch::default();
    let [count] = take(rest)?;
    let mut before = 0;
    for _ in 0..count {
        let [setting] = take(rest)?;
        if setting <= before {
            return Err(ChangeDecodeError::Order(setting));
        }
        before = setting;
        let value = u32::from_le_bytes(take(rest)?);
        if setting == RATE_LIMIT_ENABLED {
            patch.rate_limit_enabled = match value {
                0 => Some(false),
                1 => Some(true),
                _ => return Err(ChangeDecodeError::Value(setting)),
            };
            continue;
        }
        let mut numbers = numbers(&mut patch).into_iter();
        let known = numbers.find(|(number, _)| *number == setting);
        let (_, field) = known.ok_or(ChangeDecodeError::Setting(setting))?;
        if value == 0 {
            return Err(ChangeDecodeError::Value(setting));
        }
        *field = Some(value);
    }
    Ok(patch)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("names and ids are short"));
    out.extend_from_slice(text.as_bytes());
}

fn put_connector(out: &mut Vec<u8>, kind: u8, id: &ConnectorId) {
    out.push(kind);
    put_text(out, &id.owner);
    put_text(out, &id.name);
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("definitions and credentials are bounded");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_namespace(out: &mut Vec<u8>, namespace: &Namespace) {
    let kind = match (namespace.visibility, namespace.after) {
        (Visibility::Private, _) => REGISTERED_PRIVATE,
        (Visibility::Public, Some(_)) => REGISTERED_AFTER,
        (Visibility::Public, None) => REGISTERED,
    };
    out.push(kind);
    put_text(out, &namespace.id);
    put_text(out, &namespace.name);
    out.extend_from_slice(&namespace.token.to_bytes());
    out.extend_from_slice(&namespace.created.as_micros().to_le_bytes());
    if kind != REGISTERED {
        let after = namespace.after.unwrap_or(Sequence::ZERO);
        out.extend_from_slice(&after.get().to_le_bytes());
    }
}

fn take_namespace(rest: &mut &[u8], kind: u8) -> Result<Namespace, ChangeDecodeError> {
    let id = take_id(rest)?;
    Ok(Namespace {
        id,
        name: take_name(rest)?,
        token: TokenHash::from_bytes(take(rest)?),
        created: Timestamp::from_micros(i64::from_le_bytes(take(rest)?)),
        after: if kind == REGISTERED {
            None
        } else {
            Some(Sequence::new(u64::from_le_bytes(take(rest)?)))
        },
        visibility: if kind == REGISTERED_PRIVATE {
            Visibility::Private
        } else {
            Visibility::Public
        },
    })
}

fn put_token(out: &mut Vec<u8>, token: &NamespaceToken) {
    put_text(out, &token.id);
    out.extend_from_slice(&token.hash.to_bytes());
    out.push(token.scopes.bits());
    out.extend_from_slice(&token.created.as_micros().to_le_bytes());
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    out.push(
        flag(token.label.is_some(), HAS_LABEL)
            | flag(token.prefix.is_some(), HAS_PREFIX)
            | flag(token.expires.is_some(), HAS_EXPIRY),
    );
    if let Some(label) = &token.label {
        put_text(out, label);
    }
    if let Some(prefix) = &token.prefix {
        put_long(out, prefix.as_bytes());
    }
    if let Some(expires) = token.expires {
        out.extend_from_slice(&expires.as_micros().to_le_bytes());
    }
}

fn take_token(rest: &mut &[u8]) -> Result<NamespaceToken, ChangeDecodeError> {
    let id = take_id(rest)?;
    let hash = TokenHash::from_bytes(take(rest)?);
    let [scopes] = take(rest)?;
    let created = Timestamp::from_micros(i64::from_le_bytes(take(rest)?));
    let [has] = take(rest)?;
    if has & !(HAS_LABEL | HAS_PREFIX | HAS_EXPIRY) != 0 {
        return Err(ChangeDecodeError::Token);
    }
    let mut token = NamespaceToken {
        id,
        hash,
        label: None,
        scopes: Scopes::from_bits(scopes).ok_or(ChangeDecodeError::Token)?,
        prefix: None,
        created,
        expires: None,
        last_use: LastUse::default(),
    };
    if has & HAS_LABEL != 0 {
        let label = take_text(rest)?;
        if label.len() > TOKEN_LABEL_BYTES_MAX {
            return Err(ChangeDecodeError::Text);
        }
        token.label = Some(label.into());
    }
    if has & HAS_PREFIX != 0 {
        let prefix = std::str::from_utf8(take_long(rest, ENTITY_ID_BYTES_MAX)?);
        token.prefix = Some(prefix.or(Err(ChangeDecodeError::Text))?.into());
    }
    if has & HAS_EXPIRY != 0 {
        let expires = i64::from_le_bytes(take(rest)?);
        token.expires = Some(Timestamp::from_micros(expires));
    }
    Ok(token)
}

fn take_uses(rest: &mut &[u8]) -> Result<Box<[TokenUse]>, ChangeDecodeError> {
    let count = u16::from_le_bytes(take(rest)?);
    if usize::from(count) > TOKEN_USES_PER_CHANGE_MAX {
        return Err(ChangeDecodeError::Count(count));
    }
    let mut uses = Vec::new();
    for _ in 0..count {
        uses.push(TokenUse {
            name: take_name(rest)?,
            id: take_id(rest)?,
            minute: u32::from_le_bytes(take(rest)?),
        });
    }
    Ok(uses.into())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ChangeDecodeError> {
    let (taken, left) = rest
        .split_first_chunk::<N>()
        .ok_or(ChangeDecodeError::Truncated)?;
    *rest = left;
    Ok(*taken)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, ChangeDecodeError> {
    let [len] = take(rest)?;
    let (text, left) = rest
        .split_at_checked(usize::from(len))
        .ok_or(ChangeDecodeError::Truncated)?;
    *rest = left;
    std::str::from_utf8(text).or(Err(ChangeDecodeError::Text))
}

fn take_id(rest: &mut &[u8]) -> Result<Box<str>, ChangeDecodeError> {
    let id = take_text(rest)?;
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if id.is_empty() || !id.bytes().all(is_id) {
        return Err(ChangeDecodeError::Text);
    }
    Ok(id.into())
}

fn take_name(rest: &mut &[u8]) -> Result<Box<str>, ChangeDecodeError> {
    let name = take_text(rest)?;
    check_name(name).or(Err(ChangeDecodeError::Text))?;
    Ok(name.into())
}

fn take_connector(rest: &mut &[u8]) -> Result<ConnectorId, ChangeDecodeError> {
    let owner = take_text(rest)?;
    if !owner.is_empty() {
        check_name(owner).or(Err(ChangeDecodeError::Text))?;
    }
    Ok(ConnectorId {
        owner: owner.into(),
        name: take_name(rest)?,
    })
}

fn take_long<'a>(rest: &mut &'a [u8], max: usize) -> Result<&'a [u8], ChangeDecodeError> {
    let len = u16::from_le_bytes(take(rest)?);
    if len == 0 || usize::from(len) > max {
        return Err(ChangeDecodeError::Length(len));
    }
    let (taken, left) = rest
        .split_at_checked(usize::from(len))
        .ok_or(ChangeDecodeError::Truncated)?;
    *rest = left;
    Ok(taken)
}
