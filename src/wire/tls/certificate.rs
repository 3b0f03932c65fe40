//! PEM → what is presented to clients, and whether it may be.
//!
//! rustls checks that the key belongs to the certificate, but no validity: that is read here, from
//! the DER of the first certificate (RFC 5280 §4.1).

use crate::model::{Timestamp, time_text};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{InconsistentKeys, ServerConfig};
use std::sync::Arc;

/// The only protocol that is spoken inside (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// Why a certificate and its key can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The file of certificates is no PEM, or holds none.
    #[error("it holds no certificate in PEM")]
    NoCertificate,
    /// The file of the key is no PEM, or holds none.
    #[error("it holds no private key in PEM")]
    NoKey,
    /// The key is encrypted.
    #[error("its key is encrypted: `openssl pkey -in FILE -out PLAIN` decrypts it")]
    EncryptedKey,
    /// The key is of another kind than is supported, or damaged.
    #[error("its key can't be used: {0}")]
    Key(Box<rustls::Error>),
    /// The key belongs to another certificate.
    #[error("its key does not belong to the certificate")]
    OtherKey,
    /// The certificate is damaged, or of a kind that is not supported.
    #[error("its first certificate can't be used: {0}")]
    Certificate(Box<rustls::Error>),
    /// The certificate has expired.
    #[error("its first certificate expired at {}", time(*at))]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// The operating system gave no randomness.
    #[error("no keys for session tickets: {0}")]
    Tickets(Box<rustls::Error>),
}

impl CertificateError {
    /// True if the file of the key is what is wrong.
    pub fn is_about_key(&self) -> bool {
        matches!(
            self,
            Self::NoKey | Self::EncryptedKey | Self::Key(_) | Self::OtherKey
        )
    }
}

/// A time for a person.
fn time(at: Timestamp) -> String {
    String::from_utf8_lossy(at.rfc3339().as_bytes()).into_owned()
}

/// A certificate with its chain and key, ready to be presented.
#[derive(Debug)]
pub struct Certified {
    config: Arc<ServerConfig>,
    valid: Option<Validity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Validity {
    from: Timestamp,
    until: Timestamp,
}

impl Certified {
    /// Reads a chain of certificates, the server's own first, and its key. `now`: the time at which
    /// it must not have expired.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn from_pem(chain: &[u8], key: &[u8], now: Timestamp) -> Result<Self, CertificateError> {
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.or(Err(CertificateError::NoCertificate))?;
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let valid = validity(first);
        let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
        if memchr::memmem::find(key, encrypted).is_some() {
            return Err(CertificateError::EncryptedKey);
        }
        let key = PrivateKeyDer::from_pem_slice(key).or(Err(CertificateError::NoKey))?;
        if let Some(Validity { until, .. }) = valid
            && until < now
        {
            return Err(CertificateError::Expired { at: until });
        }
        Ok(Self {
            config: Arc::new(config(chain, key)?),
            valid,
        })
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// In words, until when it is valid, or that it is not yet.
    pub fn describe(&self, now: Timestamp) -> String {
        match self.valid {
            None => "the certificate does not say until when it is valid".to_owned(),
            Some(Validity { from, .. }) if now < from => {
                format!("the certificate is not valid before {}", time(from))
            }
            Some(Validity { until, .. }) => {
                format!("the certificate is valid until {}", time(until))
            }
        }
    }

    /// True if clients refuse it now, or will in less than so many seconds.
    pub fn is_doubtful(&self, now: Timestamp, seconds: i64) -> bool {
        let soon = now
            .as_micros()
            .saturating_add(seconds.saturating_mul(1_000_000));
        self.valid
            .is_none_or(|valid| now < valid.from || valid.until.as_micros() < soon)
    }
}

/// TLS 1.2 and 1.3 with stateless tickets; no early data, which could be replayed.
fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, CertificateError> {
    let provider = Arc::new(ring::default_provider());
    // Asked first, to tell what is wrong with the key from what is wrong with the certificate.
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|error| CertificateError::Key(Box::new(error)))?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CertificateError::Certificate(Box::new(error)))?;
    let built = builder
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                CertificateError::OtherKey
            }
            error => CertificateError::Certificate(Box::new(error)),
        });
    let mut config = built?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer =
        ring::Ticketer::new().map_err(|error| CertificateError::Tickets(Box::new(error)))?;
    Ok(config)
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when until when a certificate is valid; `None` if that can't be read.
fn validity(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if let Some((_, rest)) = element(fields, VERSION) {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        fields = any_element(fields)?.2;
    }
    let (times, _) = element(fields, SEQUENCE)?;
    let (kind, from, rest) = any_element(times)?;
    let from = parse_time(kind, from)?;
    let (kind, until, _) = any_element(rest)?;
    let until = parse_time(kind, until)?;
    Some(Validity { from, until })
}

/// An element of this kind at the front, and what follows it.
fn element(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any_element(der)?;
    (found == kind).then_some((content, rest))
}

/// The element at the front: its kind, its content, and what follows it.
fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, len], mut rest) = der.split_first_chunk()?;
    let len = if len < 0x80 {
        usize::from(len)
    } else {
        let (digits, behind) = rest.split_at_checked(usize::from(len & 0x7f))?;
        rest = behind;
        let digits = digits.iter();
        digits.fold(0_usize, |len, &digit| {
            len.saturating_mul(256).saturating_add(usize::from(digit))
        })
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((kind, content, rest))
}

/// `YYMMDDHHMMSSZ`, or `YYYYMMDDHHMMSSZ` (RFC 5280 §4.1.2.5).
fn parse_time(kind: u8, text: &[u8]) -> Option<Timestamp> {
    let text = str::from_utf8(text).ok()?;
    let (century, rest) = match kind {
        UTC_TIME if text.get(..1)? < "5" => ("20", text),
        UTC_TIME => ("19", text),
        GENERALIZED_TIME => text.split_at_checked(2)?,
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at.checked_add(2)?);
    let date = format!("{century}{}-{}-{}", part(0)?, part(2)?, part(4)?);
    let time = format!("{}:{}:{}Z", part(6)?, part(8)?, part(10)?);
    time_text::parse(&format!("{date}T{time}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn at(text: &str) -> Timestamp {
        time_text::parse(text).unwrap()
    }

    /// A certificate for these years, and its key.
    fn made(from: i32, until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 2, 3);
        params.not_after = date_time_ymd(until, 12, 31);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn read(chain: &str, key: &str, now: &str) -> Result<Certified, CertificateError> {
        Certified::from_pem(chain.as_bytes(), key.as_bytes(), at(now))
    }

    #[test]
    fn validity_is_read_in_both_forms_of_a_time() {
        for (from, until) in [(1999, 2049), (2024, 2051), (2050, 4096)] {
            let (chain, _) = made(from, until);
            let der = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
            let expected = Validity {
                from: at(&format!("{from}-02-03T00:00:00Z")),
                until: at(&format!("{until}-12-31T00:00:00Z")),
            };
            assert_eq!(validity(&der), Some(expected));
            for len in 0..der.len() {
                assert_eq!(validity(&der[..len]), None, "{len}");
            }
        }
    }

    #[test]
    fn what_clients_would_refuse_is_told() {
        let (chain, key) = made(2020, 2026);
        let now = "2026-01-01T00:00:00Z";
        let certified = read(&chain, &key, now).unwrap();
        assert_eq!(
            certified.describe(at(now)),
            "the certificate is valid until 2026-12-31T00:00:00.000000Z"
        );
        let month = 30 * 86_400;
        assert!(!certified.is_doubtful(at(now), month));
        assert!(certified.is_doubtful(at("2026-12-10T00:00:00Z"), month));
        let early = at("2020-01-01T00:00:00Z");
        assert!(certified.is_doubtful(early, month));
        let early = certified.describe(early);
        assert!(early.contains("not valid before 2020-02-03"), "{early}");
    }

    #[test]
    fn what_can_not_be_used_says_why_in_one_line() {
        let (chain, key) = made(2020, 2026);
        let (other_chain, other_key) = made(2020, 2026);
        let damaged = chain.replacen("MII", "AII", 1);
        let check = |chain: &str, key: &str, now: &str, is_about_key: bool, words: &str| {
            let error = read(chain, key, now).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(words) && !text.contains('\n'), "{text}");
            assert_eq!(error.is_about_key(), is_about_key, "{text}");
        };
        let now = "2026-01-01T00:00:00Z";
        check("", &key, now, false, "no certificate");
        check(&key, &key, now, false, "no certificate");
        check(&damaged, &key, now, false, "can't be used");
        check(&chain, "", now, true, "no private key");
        check(&chain, &chain, now, true, "no private key");
        check(&chain, &other_key, now, true, "does not belong");
        check(&other_chain, &key, now, true, "does not belong");
        let encrypted = key.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE");
        check(&chain, &encrypted, now, true, "encrypted");
        let cut = key.replacen("MIG", "AIG", 1);
        check(&chain, &cut, now, true, "can't be used");
        let late = "2027-01-01T00:00:00Z";
        check(&chain, &key, late, false, "expired at 2026-12-31");
    }
}
