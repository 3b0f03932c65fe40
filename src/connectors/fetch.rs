//! One request of a poll over the network: its redirects, its bounds, and the addresses it may go
//! to.
//!
//! TLS is rustls with the certificates that the system trusts. A name that is not to lead into the
//! server's own network is checked where it matters, in the addresses that a connection is made to:
//! whatever a name server says, and however often it changes its mind, a connection goes only to an
//! address that was looked at.

use super::address::is_public;
use super::exchange::{PollError, Request, Response};
use crate::limits::{POLL_ANSWER_BYTES_MAX, POLL_REDIRECTS_MAX, POLL_REQUEST_SECONDS};
use http::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION};
use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Milliseconds that a connection is kept for the next request: the next page, not the next poll.
const IDLE_MS: u64 = 2_000;

/// Which addresses a request may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// All.
    Anywhere,
    /// Those of the public Internet.
    Public,
    /// All of this server (scheme, host and port) that the operator named, and the public Internet.
    Operators,
}

/// What proves who asks.
pub(super) type Credential = Option<(HeaderName, HeaderValue)>;

const NOT_PUBLIC: &str = "the address is not public: with tokens in force, connectors do not reach loopback, \
    private and link-local addresses unless the operator sets FLUX_CONNECTORS_ALLOW_PRIVATE=true";

/// Makes requests, within the bounds of the module.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    open: Client,
    guarded: Client,
}

impl Fetcher {
    /// Reads the system's certificates. Blocks for some milliseconds.
    ///
    /// # Errors
    /// If no client can be made.
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self {
            open: client(None)?,
            guarded: client(Some(&Arc::new(PublicOnly)))?,
        })
    }

    /// Makes a request and returns its last answer, 304 and errors included.
    ///
    /// # Errors
    /// If there is no answer within the bounds, or the address may not be reached.
    pub(super) async fn fetch(
        &self,
        request: &Request,
        credential: &Credential,
        reach: Reach,
    ) -> Result<Response, PollError> {
        let limit = Duration::from_secs(POLL_REQUEST_SECONDS);
        let all = self.follow(request, credential, reach);
        tokio::time::timeout(limit, all).await.unwrap_or_else(|_| {
            Err(PollError::new(format!(
                "the source did not answer within {POLL_REQUEST_SECONDS} seconds"
            )))
        })
    }

    async fn follow(
        &self,
        request: &Request,
        credential: &Credential,
        reach: Reach,
    ) -> Result<Response, PollError> {
        let mut url = request.url.clone();
        for _ in 0..=POLL_REDIRECTS_MAX {
            let is_first_host = url.origin() == request.url.origin();
            let mut headers = HeaderMap::new();
            if is_first_host {
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
            let is_free = match reach {
                Reach::Anywhere => true,
                Reach::Public => false,
                Reach::Operators => is_first_host,
            };
            let answer = self.ask(&url, headers, is_free).await?;
            let is_redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            match answer.headers().get(LOCATION) {
                Some(location) if is_redirect => url = target(&url, location)?,
                _ => return read(answer).await,
            }
        }
        Err(PollError::new(format!(
            "the source redirects more than {POLL_REDIRECTS_MAX} times"
        )))
    }

    async fn ask(
        &self,
        url: &Url,
        headers: HeaderMap,
        is_free: bool,
    ) -> Result<reqwest::Response, PollError> {
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        if !is_free && literal.is_some_and(|address| !is_public(address)) {
            return Err(PollError::new(NOT_PUBLIC));
        }
        let client = if is_free { &self.open } else { &self.guarded };
        let sent = client.get(url.clone()).headers(headers).send();
        sent.await.map_err(|error| failure(url, error))
    }
}

fn client(resolver: Option<&Arc<PublicOnly>>) -> Result<Client, String> {
    let build = |with_certificates: bool| {
        let mut builder = Client::builder()
            .user_agent(concat!("flux/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_built_in_native_certs(with_certificates)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_millis(IDLE_MS));
        if let Some(resolver) = resolver {
            builder = builder.dns_resolver(Arc::clone(resolver));
        }
        builder.build()
    };
    // A machine without certificates can still poll what needs none.
    build(true)
        .or_else(|_| build(false))
        .map_err(|error| error.to_string())
}

/// Resolves names to public addresses.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let all: Vec<SocketAddr> = found.collect();
            // One answer of several that is not public is reason enough to trust none of them.
            if all.iter().any(|address| !is_public(address.ip())) {
                return Err(NOT_PUBLIC.into());
            }
            let addresses: Addrs = Box::new(all.into_iter());
            Ok(addresses)
        })
    }
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

async fn read(mut answer: reqwest::Response) -> Result<Response, PollError> {
    let too_large = || {
        PollError::new(format!(
            "the answer is larger than {POLL_ANSWER_BYTES_MAX} bytes"
        ))
    };
    let announced = answer.content_length().unwrap_or(0);
    if announced > POLL_ANSWER_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut body = Vec::new();
    let url = answer.url().clone();
    while let Some(chunk) = answer.chunk().await.map_err(|error| failure(&url, error))? {
        if body.len().saturating_add(chunk.len()) > POLL_ANSWER_BYTES_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status: answer.status().as_u16(),
        headers: std::mem::take(answer.headers_mut()),
        body,
    })
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
    if cause == NOT_PUBLIC {
        return PollError::new(NOT_PUBLIC);
    }
    let host = url.host_str().unwrap_or_default();
    let attempt = if error.is_connect() {
        "can't connect to"
    } else {
        "no answer from"
    };
    PollError::new(format!("{attempt} {host}: {cause}"))
}
