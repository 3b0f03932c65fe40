//! Tokens and their hashes. A token has 256 random bits, so one pass of SHA-256 keeps it: there is
//! nothing to guess that a slow hash would protect.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use subtle::ConstantTimeEq as _;

/// What every token begins with, so that one that leaked is recognised for what it is.
const PREFIX: &str = "flux_";
/// What every ticket begins with.
const TICKET_PREFIX: &str = "fluxt_";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Bytes of the longest token that is looked up; a longer one is nobody's.
const PRESENTED_BYTES_MAX: usize = 512;

/// A secret that is handed out once, and kept only as its [`TokenHash`].
pub struct Token(Box<str>);

impl Token {
    /// A new one, from the operating system's randomness.
    ///
    /// # Errors
    /// If the operating system has none.
    pub fn generate() -> io::Result<Self> {
        Self::generate_with(PREFIX)
    }

    /// A new ticket, which is as long and as random.
    ///
    /// # Errors
    /// As [`Token::generate`].
    pub fn ticket() -> io::Result<Self> {
        Self::generate_with(TICKET_PREFIX)
    }

    fn generate_with(prefix: &str) -> io::Result<Self> {
        let mut bytes = [0_u8; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let mut text = prefix.to_owned();
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        Ok(Self(text.into()))
    }

    /// What is kept of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(self.0.as_bytes())
    }

    /// The secret, for the one answer that holds it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The SHA-256 of a token. Compared in constant time, and never shown.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Of what somebody presents as a secret; `None` if it is longer than any is.
    pub fn of_presented(text: &[u8]) -> Option<Self> {
        (text.len() <= PRESENTED_BYTES_MAX).then(|| Self::of(text))
    }

    /// As it is stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// To be stored, and for nothing else.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

/// A table may be looked up by it: whoever sends a token does not choose its hash, so the time that
/// a look-up takes says nothing about the hashes in the table that a guess could be built on.
impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

/// The token of an `Authorization` field: the scheme in any case, one or more spaces, and a
/// `b64token` (RFC 9110 §11.4, RFC 6750 §2.1). `None` if it is malformed, or longer than any
/// token is.
pub fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = field.split_at_checked(b"Bearer".len())?;
    let spaces = rest.iter().position(|&byte| byte != b' ')?;
    let token = rest.get(spaces..)?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && spaces > 0;
    let unpadded = token.iter().rposition(|&byte| byte != b'=')?;
    let is_token = token.get(..=unpadded)?.iter().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
    });
    (is_bearer && is_token && token.len() <= PRESENTED_BYTES_MAX).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_random_and_unlike_the_next() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_eq!(one.reveal().len(), PREFIX.len() + 43);
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.hash(), TokenHash::of(one.reveal().as_bytes()));
        assert_ne!(one.hash(), other.hash());
        assert_eq!(
            bearer(format!("Bearer {}", one.reveal()).as_bytes()),
            Some(one.reveal().as_bytes())
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let token = Token::generate().unwrap();
        assert_eq!(format!("{token:?} {:?}", token.hash()), "Token TokenHash");
    }

    #[test]
    fn the_hash_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let expected = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae,
            0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61,
            0xf2, 0x00, 0x15, 0xad,
        ];
        assert_eq!(TokenHash::of(b"abc").to_bytes(), expected);
    }

    #[test]
    fn only_a_well_formed_field_holds_a_token() {
        for field in ["Bearer abc", "bearer abc", "BEARER   abc"] {
            assert_eq!(bearer(field.as_bytes()), Some(&b"abc"[..]), "{field:?}");
        }
        assert_eq!(bearer(b"Bearer a-._~+/9=="), Some(&b"a-._~+/9=="[..]));
        let long = format!("Bearer {}", "a".repeat(PRESENTED_BYTES_MAX + 1));
        let malformed = [
            "",
            "Bearer",
            "Bearer ",
            "Bearerabc",
            "Basic abc",
            "Bearer a b",
            "Bearer =",
            "Bearer a=b",
            "Bearer a,b",
            "Bearer \"a\"",
            "Bear",
            "Token abc",
            "Bearer ä",
            "Bearer a\tb",
            "Bearer\tabc",
            "Bearer abc ",
            &long,
        ];
        for field in malformed {
            assert_eq!(bearer(field.as_bytes()), None, "{field:?}");
        }
        assert_eq!(
            bearer(&[b"Bearer ".as_slice(), &[0xff, 0x00]].concat()),
            None
        );
    }

    #[test]
    fn whatever_bytes_come_nothing_breaks() {
        const POOL: &[u8] = b"Bearer bEARER\t =-._~+/aZ9\xff\x00,\"";
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200_000 {
            let len = random.usize(..24);
            let field: Vec<u8> = (0..len).map(|_| POOL[random.usize(..POOL.len())]).collect();
            if let Some(token) = bearer(&field) {
                assert!(!token.is_empty() && token.iter().all(u8::is_ascii_graphic));
                assert!(field.to_ascii_lowercase().starts_with(b"bearer"));
            }
        }
    }
}
