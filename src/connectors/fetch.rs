//! One request of a poll over the network: its redirects, its bounds, and the addresses it may go
//! to.
//!
//! TLS is rustls with the certificates that the system trusts. An answer is read in slices, between
//! which other polls have their turns, and no further than the memory of polls has room.

use super::address::{Allowed, Reach};
use super::exchange::{Content, PollError, Reading, Request, Response};
use super::lookup::{CheckedOnly, Lookup, with_addresses};
use super::memory::Held;
use super::patience::Patience;
use super::shares::Owner;
use crate::api::connectors::answer::AnswerReader;
use crate::limits::{
    POLL_ANSWER_BYTES_MAX, POLL_ERROR_BYTES_MAX, POLL_HELD_BYTES_MAX, POLL_REDIRECTS_MAX,
    POLL_SLICE_BYTES,
};
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION};
use reqwest::Client;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Milliseconds that a connection is kept for the next request: the next page, not the next poll.
const IDLE_MS: u64 = 2_000;
/// Bytes of an answer that are read at once without a turn among the large ones: what is taken of
/// the items may be many times as much.
const SMALL_SLICE_BYTES: usize = 4 * 1024;

/// What proves who asks.
pub(super) type Credential = Option<(HeaderName, HeaderValue)>;

/// Makes requests, within the bounds of the module.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    client: Client,
    lookup: Lookup,
}

/// Who asks, and what for.
#[derive(Debug)]
pub(super) struct Asking<'p> {
    /// Whose turns it takes.
    pub(super) owner: &'p Owner,
    /// What proves it to the source.
    pub(super) credential: &'p Credential,
    /// Where its requests may go.
    pub(super) reach: Reach,
    /// Bytes that the poll holds besides the answer.
    pub(super) held_before: usize,
}

impl Fetcher {
    /// Reads the system's certificates. Blocks for some milliseconds. `allowed`: addresses that the
    /// operator allows by name.
    ///
    /// # Errors
    /// If no client can be made.
    pub(super) fn new(allowed: Allowed) -> Result<Self, String> {
        Ok(Self {
            client: client()?,
            lookup: Lookup::new(allowed),
        })
    }

    /// Makes a request and returns its last answer, 304 and errors included.
    ///
    /// # Errors
    /// If there is no answer within the bounds, or the address may not be reached.
    pub(super) async fn fetch(
        &self,
        request: &Request,
        asking: &Asking<'_>,
        held: &mut Held,
    ) -> Result<Response, PollError> {
        let mut url = request.url.clone();
        let mut patience = Patience::new();
        // Once the chain has left, whoever led it back may have chosen the address.
        let mut is_home = true;
        for _ in 0..=POLL_REDIRECTS_MAX {
            is_home &= url.origin() == request.url.origin();
            let headers = headers(request, asking.credential, is_home);
            let reach = (asking.reach, is_home);
            let addresses = self
                .lookup
                .addresses(asking.owner, &url, reach, &mut patience);
            let addresses = addresses.await?;
            let sent = self.client.get(url.clone()).headers(headers).send();
            let answer = patience.wait(with_addresses(&url, addresses, sent)).await?;
            let answer = answer.map_err(|error| failure(&url, error))?;
            let is_redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            match answer.headers().get(LOCATION) {
                Some(location) if is_redirect => url = target(&url, location)?,
                _ => {
                    let mut body = Body::new(request, &answer, asking.held_before);
                    body.read(answer, &mut patience, held).await?;
                    return Ok(body.response);
                }
            }
        }
        Err(PollError::new(format!(
            "the source redirects more than {POLL_REDIRECTS_MAX} times"
        )))
    }
}

/// The headers of a request. What is the first server's business alone goes nowhere else.
fn headers(request: &Request, credential: &Credential, is_home: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if is_home {
        headers.clone_from(&request.headers);
        if let Some(etag) = &request.etag {
            headers.insert(IF_NONE_MATCH, etag.clone());
        }
        if let Some((name, value)) = credential {
            headers.insert(name, value.clone());
        }
    }
    if !headers.contains_key(ACCEPT) {
        headers.insert(ACCEPT, HeaderValue::from_static(request.accept));
    }
    headers
}

fn client() -> Result<Client, String> {
    let build = |with_certificates: bool| {
        Client::builder()
            .user_agent(concat!("flux/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_built_in_native_certs(with_certificates)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_millis(IDLE_MS))
            .dns_resolver(Arc::new(CheckedOnly))
            .build()
    };
    // A machine without certificates can still poll what needs none.
    build(true)
        .or_else(|_| build(false))
        .map_err(|error| error.to_string())
}

/// The target of a redirect.
fn target(url: &Url, location: &HeaderValue) -> Result<Url, PollError> {
    let broken = || PollError::new("the source redirects to an address that can't be followed");
    let joined = location.to_str().ok().and_then(|text| url.join(text).ok());
    let target = joined.ok_or_else(broken)?;
    if matches!(target.scheme(), "http" | "https") && target.has_host() {
        Ok(target)
    } else {
        Err(broken())
    }
}

/// The body of an answer on its way in.
#[derive(Debug)]
struct Body {
    response: Response,
    reader: Option<Box<AnswerReader>>,
    /// Bytes of it that are read.
    read: usize,
    /// Bytes that the source says it has.
    announced: usize,
    held_before: usize,
}

impl Body {
    fn new(request: &Request, answer: &reqwest::Response, held_before: usize) -> Self {
        let is_success = answer.status().is_success();
        let reader = match &request.reading {
            Reading::Findings(definition) if is_success => {
                Some(Box::new(AnswerReader::new(Arc::clone(definition))))
            }
            Reading::Findings(_) | Reading::Text => None,
        };
        Self {
            response: Response {
                status: answer.status().as_u16(),
                headers: answer.headers().clone(),
                content: Content::Text(Vec::new()),
            },
            reader,
            read: 0,
            announced: answer
                .content_length()
                .and_then(|len| usize::try_from(len).ok())
                .unwrap_or(0),
            held_before,
        }
    }

    /// Reads all of a success, and the beginning of what is none.
    async fn read(
        &mut self,
        mut answer: reqwest::Response,
        patience: &mut Patience,
        held: &mut Held,
    ) -> Result<(), PollError> {
        let is_success = answer.status().is_success();
        if is_success && self.announced > POLL_ANSWER_BYTES_MAX {
            return Err(too_large());
        }
        if self
            .reader
            .as_ref()
            .is_some_and(|reader| reader.multiplies())
        {
            held.wait_for_turn().await;
        }
        let url = answer.url().clone();
        loop {
            let chunk = patience.wait(answer.chunk()).await?;
            let Some(chunk) = chunk.map_err(|error| failure(&url, error))? else {
                break;
            };
            self.read = self.read.saturating_add(chunk.len());
            if is_success && self.read > POLL_ANSWER_BYTES_MAX {
                return Err(too_large());
            }
            self.take(&chunk, held).await?;
            if !is_success && self.read >= POLL_ERROR_BYTES_MAX {
                break;
            }
        }
        if let Some(reader) = self.reader.take() {
            self.response.content = Content::Findings(reader.finish());
        }
        Ok(())
    }

    /// Takes a part of the body, in slices.
    async fn take(&mut self, chunk: &[u8], held: &mut Held) -> Result<(), PollError> {
        let mut rest = chunk;
        let mut since_pause = 0_usize;
        while !rest.is_empty() {
            if held.must_wait() {
                held.wait_for_turn().await;
                self.make_room();
            }
            let len = if held.is_large() {
                POLL_SLICE_BYTES
            } else {
                SMALL_SLICE_BYTES
            };
            let (slice, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            self.take_slice(slice)?;
            rest = behind;
            held.set(self.held_bytes().saturating_add(rest.len()));
            since_pause = since_pause.saturating_add(slice.len());
            if since_pause >= POLL_SLICE_BYTES {
                since_pause = 0;
                tokio::task::yield_now().await;
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Makes room for all of a large answer at once: one that grows is copied, and takes twice its
    /// memory meanwhile.
    fn make_room(&mut self) {
        let len = self.announced.min(POLL_ANSWER_BYTES_MAX);
        match (&mut self.reader, &mut self.response.content) {
            (Some(reader), _) => reader.make_room(len),
            (None, Content::Text(text)) if self.response.status < 300 => {
                text.reserve_exact(len.saturating_sub(text.len()));
            }
            (None, Content::Text(_) | Content::Findings(_)) => {}
        }
    }

    fn take_slice(&mut self, slice: &[u8]) -> Result<(), PollError> {
        match (&mut self.reader, &mut self.response.content) {
            (Some(reader), _) => reader
                .feed(slice)
                .map_err(|error| PollError::new(error.to_string()))?,
            (None, Content::Text(text)) => text.extend_from_slice(slice),
            (None, Content::Findings(_)) => {}
        }
        if self.held_bytes() > POLL_HELD_BYTES_MAX {
            return Err(PollError::new(format!(
                "what it takes of the answers is larger than {POLL_HELD_BYTES_MAX} bytes"
            )));
        }
        Ok(())
    }

    fn held_bytes(&self) -> usize {
        let answer = match (&self.reader, &self.response.content) {
            (Some(reader), _) => reader.held_bytes(),
            (None, Content::Text(text)) => text.len(),
            (None, Content::Findings(_)) => 0,
        };
        answer.saturating_add(self.held_before)
    }
}

fn too_large() -> PollError {
    PollError::new(format!(
        "the answer is larger than {POLL_ANSWER_BYTES_MAX} bytes"
    ))
}

/// The error of a failed request: the host and the last cause. The URL is left out, since its query
/// may hold a secret.
fn failure(url: &Url, error: reqwest::Error) -> PollError {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let cause = cause.to_string();
    let host = url.host_str().unwrap_or_default();
    let attempt = if error.is_connect() {
        "can't connect to"
    } else {
        "no answer from"
    };
    PollError::new(format!("{attempt} {host}: {cause}"))
}
