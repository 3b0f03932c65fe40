//! Credentials ⇄ what is stored of them (`storage/FORMAT.md`, record kind 3): AES-256-GCM under the
//! operator's key.
//!
//! ```text
//! 1 | nonce, 12 bytes | ciphertext | tag, 16 bytes        associated data: 1 | owner | 0 | name
//! ```
//!
//! A nonce is random and used once: with 96 bits, 2³² credentials under one key are within what
//! NIST SP 800-38D §8.3 allows. The associated data binds a credential to its connector: moved to
//! another, it can't be read.

use crate::model::{ConnectorId, Sealed};
use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;

/// The operator's key. Erased from memory with its last copy.
#[derive(Clone)]
pub struct EncryptionKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey")
    }
}

impl EncryptionKey {
    /// The key of 32 bytes that `text` is in base64; `None` if it is not.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(&bytes);
        Some(Self(key))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.0).into())
    }
}

/// Why a credential can't be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct SealError;

/// Why a stored credential can't be read: it was encrypted under another key, for another
/// connector, or is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored token can't be decrypted with this FLUX_ENCRYPTION_KEY: store the token again")]
pub struct OpenError;

fn associated(id: &ConnectorId) -> Vec<u8> {
    [
        &[VERSION][..],
        id.owner.as_bytes(),
        &[0],
        id.name.as_bytes(),
    ]
    .concat()
}

/// Encrypts a connector's credential.
///
/// # Errors
/// [`SealError`].
pub fn seal(key: &EncryptionKey, id: &ConnectorId, credential: &str) -> Result<Sealed, SealError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).or(Err(SealError))?;
    let payload = Payload {
        msg: credential.as_bytes(),
        aad: &associated(id),
    };
    let encrypted = key.cipher().encrypt(Nonce::from_slice(&nonce), payload);
    let encrypted = encrypted.or(Err(SealError))?;
    Ok(Sealed::new(&[&[VERSION][..], &nonce, &encrypted].concat()))
}

/// Decrypts a connector's credential; what is returned is erased when it is dropped.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    key: &EncryptionKey,
    id: &ConnectorId,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let rest = sealed
        .as_bytes()
        .strip_prefix(&[VERSION])
        .ok_or(OpenError)?;
    let (nonce, encrypted) = rest.split_at_checked(NONCE_BYTES).ok_or(OpenError)?;
    let payload = Payload {
        msg: encrypted,
        aad: &associated(id),
    };
    let opened = key.cipher().decrypt(Nonce::from_slice(nonce), payload);
    opened.map(Zeroizing::new).or(Err(OpenError))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn key(byte: u8) -> EncryptionKey {
        EncryptionKey::parse(&STANDARD.encode([byte; 32])).unwrap()
    }

    fn id(owner: &str, name: &str) -> ConnectorId {
        ConnectorId {
            owner: owner.into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_credential_is_read_with_its_key_for_its_connector_and_not_otherwise() {
        let connector = id("house", "weather");
        let sealed = seal(&key(1), &connector, "s3cret").unwrap();
        let opened = open(&key(1), &connector, &sealed).unwrap();
        assert_eq!(opened.as_slice(), b"s3cret");
        assert_eq!(open(&key(2), &connector, &sealed), Err(OpenError));
        for other in [
            id("", "weather"),
            id("house", "github"),
            id("hous", "eweather"),
        ] {
            assert_eq!(open(&key(1), &other, &sealed), Err(OpenError), "{other:?}");
        }
    }

    #[test]
    fn no_bit_can_be_changed_and_nothing_cut_off() {
        let connector = id("", "weather");
        let sealed = seal(&key(1), &connector, "s3cret").unwrap();
        let bytes = sealed.as_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x40;
            let changed = Sealed::new(&changed);
            assert_eq!(
                open(&key(1), &connector, &changed),
                Err(OpenError),
                "byte {at}"
            );
            let cut = Sealed::new(&bytes[..at]);
            assert_eq!(
                open(&key(1), &connector, &cut),
                Err(OpenError),
                "length {at}"
            );
        }
    }

    #[test]
    fn no_nonce_comes_twice_and_no_text_shows() {
        let connector = id("", "weather");
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let sealed = seal(&key(1), &connector, "s3cret").unwrap();
            let bytes = sealed.as_bytes().to_vec();
            assert!(!bytes.windows(6).any(|it| it == b"s3cret"));
            assert!(seen.insert(bytes[1..13].to_vec()));
        }
    }

    #[test]
    fn a_key_is_32_bytes_of_base64_and_is_not_shown() {
        assert!(EncryptionKey::parse("short").is_none());
        assert!(EncryptionKey::parse(&STANDARD.encode([1; 31])).is_none());
        assert!(EncryptionKey::parse(&STANDARD.encode([1; 33])).is_none());
        assert_eq!(format!("{:?}", key(7)), "EncryptionKey");
    }
}
