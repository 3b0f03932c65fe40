//! One poll, from the credential to the events.

use super::address::Reach;
use super::exchange::{Found, PollError, Source, Step};
use super::fetch::{Asking, Credential, Fetcher};
use super::memory::Held;
use super::publisher::Publisher;
use super::shares::Owner;
use crate::api::connectors::definition::Auth;
use crate::api::metrics::PollResult;
use crate::auth::credential::{self, EncryptionKey};
use crate::clock;
use crate::limits::POLL_REQUESTS_MAX;
use crate::model::{ConnectorId, Sealed};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use zeroize::Zeroizing;

/// Characters of an error that are shown.
const ERROR_CHARACTERS_MAX: usize = 500;

/// All that the polls of one connector need. It travels into each poll, and back when that ends.
pub(super) struct Polling {
    /// Whose it is, and which.
    pub(super) id: ConnectorId,
    /// Whose turns it takes.
    pub(super) owner: Owner,
    /// What is polled.
    pub(super) source: Box<dyn Source>,
    /// Publishes the findings.
    pub(super) publisher: Publisher,
    /// Seconds from one poll to the next.
    pub(super) interval_seconds: u32,
    /// How the source wants the credential.
    pub(super) auth: Auth,
    /// The credential as it is stored.
    pub(super) sealed: Option<Sealed>,
    /// What decrypts it.
    pub(super) key: Option<EncryptionKey>,
    /// Which addresses its requests may reach.
    pub(super) reach: Reach,
}

/// How a poll ended.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Events published.
    pub(super) events: u64,
    /// Why it failed.
    pub(super) error: Option<PollError>,
    /// What it left out and why, if the rest of it worked.
    pub(super) rejected: Option<String>,
}

impl Outcome {
    /// Of a poll that published nothing.
    pub(super) fn failed(error: PollError) -> Self {
        Self {
            error: Some(error),
            ..Self::default()
        }
    }

    /// As what it is counted.
    pub(super) fn result(&self) -> PollResult {
        match (&self.error, &self.rejected) {
            (Some(_), _) => PollResult::Failed,
            (None, Some(_)) => PollResult::Partial,
            (None, None) => PollResult::Ok,
        }
    }

    /// For `last_error`.
    pub(super) fn message(&self) -> Option<&str> {
        let error = self.error.as_ref().map(|error| error.message.as_str());
        error.or(self.rejected.as_deref())
    }
}

impl Polling {
    /// Polls once.
    pub(super) async fn run(&mut self, fetcher: &Fetcher, held: Held) -> Outcome {
        let secret = match self.secret() {
            Ok(secret) => secret,
            Err(error) => {
                return Outcome::failed(error);
            }
        };
        let mut outcome = self.run_with(fetcher, held, secret.as_deref()).await;
        if let Some(error) = &mut outcome.error {
            error.message = presentable(&error.message, secret.as_deref());
        }
        if let Some(rejected) = &mut outcome.rejected {
            *rejected = presentable(rejected, secret.as_deref());
        }
        outcome
    }

    async fn run_with(
        &mut self,
        fetcher: &Fetcher,
        mut held: Held,
        secret: Option<&Vec<u8>>,
    ) -> Outcome {
        let gathered = match self.credential(secret) {
            Ok(credential) => self.gather(fetcher, &credential, &mut held).await,
            Err(error) => Err(error),
        };
        let found = match gathered {
            Ok(found) => found,
            Err(error) => return Outcome::failed(error),
        };
        let published = self.publisher.publish(found.findings, &mut held).await;
        let parts: Vec<String> = found
            .rejected
            .into_iter()
            .chain(published.rejected())
            .collect();
        let rejected = (!parts.is_empty()).then(|| parts.join("; "));
        // What was left out is looked at again by the next poll, so that the error stays while its
        // cause does.
        if published.error.is_none() && rejected.is_none() && !published.more {
            self.source.commit();
        }
        Outcome {
            events: published.events,
            error: published.error,
            rejected,
        }
    }

    async fn gather(
        &mut self,
        fetcher: &Fetcher,
        credential: &Credential,
        held: &mut Held,
    ) -> Result<Found, PollError> {
        let mut answer = None;
        for _ in 0..=POLL_REQUESTS_MAX {
            let micros = clock::now().as_micros();
            let now_seconds = u64::try_from(micros).unwrap_or(0).div_euclid(1_000_000);
            match self.source.step(answer.take(), now_seconds)? {
                Step::Done(found) => return Ok(found),
                Step::Ask(request) => {
                    let asking = Asking {
                        owner: &self.owner,
                        credential,
                        reach: self.reach,
                        held_before: self.source.held_bytes(),
                    };
                    answer = Some(fetcher.fetch(&request, &asking, held).await?);
                }
            }
        }
        Err(PollError::new(format!(
            "there are more than {POLL_REQUESTS_MAX} pages"
        )))
    }

    /// The credential in the clear, if the source wants one. Erased when it is dropped.
    fn secret(&self) -> Result<Option<Zeroizing<Vec<u8>>>, PollError> {
        if self.auth == Auth::None {
            return Ok(None);
        }
        let (Some(key), Some(sealed)) = (&self.key, &self.sealed) else {
            return Err(PollError::new(
                "the stored token can't be decrypted: the server was started without FLUX_ENCRYPTION_KEY",
            ));
        };
        let opened = credential::open(key, &self.id, sealed);
        opened
            .map(Some)
            .map_err(|error| PollError::new(error.to_string()))
    }

    /// The header with the credential. Its memory is erased with its last copy; copies that the
    /// HTTP client makes while it sends are its own.
    fn credential(&self, secret: Option<&Vec<u8>>) -> Result<Credential, PollError> {
        let Some(secret) = secret else {
            return Ok(None);
        };
        let (name, scheme) = match &self.auth {
            Auth::None => return Ok(None),
            Auth::Bearer => (AUTHORIZATION, &b"Bearer "[..]),
            Auth::Header(name) => (name.clone(), &b""[..]),
        };
        let mut text = Zeroizing::new(Vec::with_capacity(
            scheme.len().saturating_add(secret.len()),
        ));
        text.extend_from_slice(scheme);
        text.extend_from_slice(secret);
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
            .ok()
            .ok_or_else(|| PollError::new("the stored token can't stand in a header"))?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }
}

/// A message that can be shown: one line of bounded length, without the credential, whatever the
/// source answered.
fn presentable(message: &str, secret: Option<&Vec<u8>>) -> String {
    let secret = secret.and_then(|it| std::str::from_utf8(it).ok());
    let hidden = match secret.filter(|it| !it.is_empty()) {
        Some(secret) => message.replace(secret, "[token]"),
        None => message.to_owned(),
    };
    let printable = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    hidden
        .chars()
        .take(ERROR_CHARACTERS_MAX)
        .map(printable)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_without_the_credential() {
        let secret = b"s3cret".to_vec();
        let shown = presentable("bad token s3cret\nand more", Some(&secret));
        assert_eq!(shown, "bad token [token] and more");
        assert_eq!(
            presentable(&"x".repeat(9_999), None).len(),
            ERROR_CHARACTERS_MAX
        );
    }
}
