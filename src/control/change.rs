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
use crate::model::{ConfigPatch, ConnectorId, Scopes, Sealed, Timestamp, check_name};
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

const HAS_LABEL: u8 = 1;
const HAS_PREFIX: u8 = 2;
const HAS_EXPIRY: u8 = 4;

/// The number of the one setting that is no number.
const RATE_LIMIT_ENABLED: u8 = 1;

impl Change {
    /// Appends the stored form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Registered(namespace) => {
                let kind = namespace.after.map_or(REGISTERED, |_| REGISTERED_AFTER);
                out.push(kind);
                put_text(out, &namespace.id);
                put_text(out, &namespace.name);
                out.extend_from_slice(&namespace.token.to_bytes());
                out.extend_from_slice(&namespace.created.as_micros().to_le_bytes());
                if let Some(after) = namespace.after {
                    out.extend_from_slice(&after.get().to_le_bytes());
                }
            }
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
            REGISTERED | REGISTERED_AFTER => {
                let id = take_id(rest)?;
                Self::Registered(Namespace {
                    id,
                    name: take_name(rest)?,
                    token: TokenHash::from_bytes(take(rest)?),
                    created: Timestamp::from_micros(i64::from_le_bytes(take(rest)?)),
                    after: if kind == REGISTERED_AFTER {
                        Some(Sequence::new(u64::from_le_bytes(take(rest)?)))
                    } else {
                        None
                    },
                })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scope;

    fn connector(owner: &str) -> ConnectorId {
        ConnectorId {
            owner: owner.into(),
            name: "weather".into(),
        }
    }

    fn registered(after: Option<Sequence>) -> Change {
        Change::Registered(Namespace {
            id: "ns_1".into(),
            name: "abc".into(),
            token: TokenHash::from_bytes([7; 32]),
            created: Timestamp::from_micros(0x0102),
            after,
        })
    }

    fn changes() -> Vec<(Change, Vec<u8>)> {
        let token = TokenHash::from_bytes([7; 32]);
        let registered_before = registered(None);
        let registered_after = registered(Some(Sequence::new(0x0304)));
        let replaced = Change::TokenReplaced {
            name: "abc".into(),
            token,
        };
        let deleted = Change::Deleted { name: "abc".into() };
        let configured = Change::Configured(ConfigPatch {
            rate_limit_enabled: Some(false),
            body_size_limit_batch_bytes: Some(0x0102_0304),
            max_subscriptions_per_address: Some(1),
            ..ConfigPatch::default()
        });
        vec![
            (
                registered_before,
                [
                    b"\x01\x04ns_1\x03abc".as_slice(),
                    &[7; 32],
                    b"\x02\x01\0\0\0\0\0\0",
                ]
                .concat(),
            ),
            (
                registered_after,
                [
                    b"\x09\x04ns_1\x03abc".as_slice(),
                    &[7; 32],
                    b"\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0",
                ]
                .concat(),
            ),
            (replaced, [b"\x02\x03abc".as_slice(), &[7; 32]].concat()),
            (deleted, b"\x03\x03abc".to_vec()),
            (
                configured,
                b"\x04\x03\x01\0\0\0\0\x04\x04\x03\x02\x01\x09\x01\0\0\0".to_vec(),
            ),
            (
                Change::Configured(ConfigPatch::default()),
                b"\x04\0".to_vec(),
            ),
            (
                Change::ConnectorDefined {
                    id: connector("house"),
                    definition: "{}".into(),
                },
                b"\x05\x05house\x07weather\x02\0{}".to_vec(),
            ),
            (
                Change::ConnectorRemoved(connector("")),
                b"\x06\0\x07weather".to_vec(),
            ),
            (
                Change::CredentialStored {
                    id: connector("house"),
                    sealed: Sealed::new(&[7; 3]),
                },
                b"\x07\x05house\x07weather\x03\0\x07\x07\x07".to_vec(),
            ),
            (
                Change::CredentialRemoved(connector("house")),
                b"\x08\x05house\x07weather".to_vec(),
            ),
        ]
        .into_iter()
        .chain(token_changes())
        .collect()
    }

    fn token_changes() -> Vec<(Change, Vec<u8>)> {
        let plain = NamespaceToken {
            id: "tok_1".into(),
            hash: TokenHash::from_bytes([7; 32]),
            label: None,
            scopes: Scopes::ALL,
            prefix: None,
            created: Timestamp::from_micros(0x0102),
            expires: None,
            last_use: LastUse::default(),
        };
        let full = NamespaceToken {
            label: Some("x".into()),
            scopes: [Scope::Write].into_iter().collect(),
            prefix: Some("abc/d".into()),
            expires: Some(Timestamp::from_micros(0x0304)),
            ..plain.clone()
        };
        let made = |token| Change::TokenMade {
            name: "abc".into(),
            token: Box::new(token),
        };
        let begin = [b"\x0a\x03abc\x05tok_1".as_slice(), &[7; 32]].concat();
        let used = |id: &str| TokenUse {
            name: "abc".into(),
            id: id.into(),
            minute: 0x0506,
        };
        vec![
            (
                made(plain),
                [&*begin, b"\x0f\x02\x01\0\0\0\0\0\0\0"].concat(),
            ),
            (
                made(full),
                [
                    &*begin,
                    b"\x02\x02\x01\0\0\0\0\0\0\x07\x01x\x05\0abc/d\x04\x03\0\0\0\0\0\0",
                ]
                .concat(),
            ),
            (
                Change::TokenRevoked {
                    name: "abc".into(),
                    id: "tok_1".into(),
                },
                b"\x0b\x03abc\x05tok_1".to_vec(),
            ),
            (
                Change::TokensUsed([used("t"), used("u")].into()),
                b"\x0c\x02\0\x03abc\x01t\x06\x05\0\0\x03abc\x01u\x06\x05\0\0".to_vec(),
            ),
        ]
    }

    #[test]
    fn the_stored_form_never_changes() {
        for (change, bytes) in changes() {
            let mut out = Vec::new();
            change.encode(&mut out);
            assert_eq!(out, bytes, "{change:?}");
            assert_eq!(Change::decode(&bytes), Ok(change));
        }
    }

    #[test]
    fn what_is_cut_off_or_has_more_is_refused() {
        for (change, bytes) in changes() {
            for len in 0..bytes.len() {
                let cut = Change::decode(&bytes[..len]);
                assert_eq!(cut, Err(ChangeDecodeError::Truncated), "{change:?} {len}");
            }
            let longer = [&*bytes, b"\x01"].concat();
            let decoded = Change::decode(&longer);
            assert_eq!(decoded, Err(ChangeDecodeError::Excess), "{change:?}");
        }
    }

    #[test]
    fn every_setting_comes_back_under_its_number() {
        for setting in 1..=9_u8 {
            let bytes = [4, 1, setting, 1, 0, 0, 0];
            let change = Change::decode(&bytes).unwrap();
            let mut out = Vec::new();
            change.encode(&mut out);
            assert_eq!(out, bytes);
            let Change::Configured(patch) = change else {
                panic!("{change:?}");
            };
            let values = [
                patch.rate_limit_enabled.map(u32::from),
                patch.rate_limit_per_namespace_per_minute,
                patch.body_size_limit_single_bytes,
                patch.body_size_limit_batch_bytes,
                patch.max_batch_delete,
                patch.max_connections,
                patch.max_connections_per_address,
                patch.max_subscriptions,
                patch.max_subscriptions_per_address,
            ];
            for (value, number) in values.into_iter().zip(1..) {
                assert_eq!(value, (number == setting).then_some(1), "setting {setting}");
            }
        }
    }

    #[test]
    fn any_bytes_are_one_change_or_refused() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut accepted = 0_u32;
        for _ in 0..20_000 {
            for (_, mut bytes) in changes() {
                let at = random.usize(..bytes.len());
                bytes[at] ^= random.u8(..);
                if let Ok(change) = Change::decode(&bytes) {
                    let mut again = Vec::new();
                    change.encode(&mut again);
                    assert_eq!(again, bytes, "a change has one stored form");
                    accepted = accepted.saturating_add(1);
                }
            }
        }
        assert!(accepted > 1_000, "{accepted}");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(Change::decode(bytes), Err(expected), "{bytes:?}");
        };
        check(b"", ChangeDecodeError::Truncated);
        check(b"\x0d", ChangeDecodeError::Kind(13));
        check(b"\x0c\xff\xff", ChangeDecodeError::Count(0xffff));
        check(b"\x0b\x03abc\x03a/b", ChangeDecodeError::Text);
        let token = |scopes, has| {
            let before = [b"\x0a\x03abc\x05tok_1".as_slice(), &[7; 32]].concat();
            [&*before, &[scopes], &[0; 8], &[has]].concat()
        };
        check(&token(16, 0), ChangeDecodeError::Token);
        check(&token(1, 8), ChangeDecodeError::Token);
        check(b"\x05\0\x03abc\0\0", ChangeDecodeError::Length(0));
        let long = [&b"\x05\0\x03abc\xff\xff"[..], &vec![b'x'; 0xffff]].concat();
        check(&long, ChangeDecodeError::Length(0xffff));
        check(b"\x06\x02ab\x03abc", ChangeDecodeError::Text);
        check(b"\x06\0\0", ChangeDecodeError::Text);
        check(b"\x04\x01\x0a\x01\0\0\0", ChangeDecodeError::Setting(10));
        check(b"\x04\x01\x01\x02\0\0\0", ChangeDecodeError::Value(1));
        check(b"\x04\x01\x02\0\0\0\0", ChangeDecodeError::Value(2));
        check(b"\x04\x01\0\x01\0\0\0", ChangeDecodeError::Order(0));
        let twice = b"\x04\x02\x05\x01\0\0\0\x05\x01\0\0\0";
        check(twice, ChangeDecodeError::Order(5));
        check(b"\x03\x02ab", ChangeDecodeError::Text);
        check(b"\x03\x03a/b", ChangeDecodeError::Text);
        check(b"\x03\x03\xff\xff\xff", ChangeDecodeError::Text);
        check(b"\x03\x03abcd", ChangeDecodeError::Excess);
    }

    #[test]
    fn no_change_shows_a_token_hash() {
        let digits = format!("{:?}", [7_u8; 32]);
        for (change, _) in changes() {
            let shown = format!("{change:?}");
            assert!(
                !shown.contains(&digits) && !shown.contains("7, 7"),
                "{shown}"
            );
        }
    }
}
