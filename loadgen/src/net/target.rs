//! The server that the load goes to.

use super::Stream;
use super::stream;
use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An address, and what every request to it carries.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// `host:port` as given, for the `Host` field.
    host: String,
    /// `Authorization` of writes.
    token: Option<String>,
    /// Whom the client trusts, and the name that the server must have; `None`: in plain text.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Target {
    /// Takes the token from `FLUX_TOKEN`: a secret on a command line is seen by every user of the
    /// machine. `FLUX_CA_FILE` names the authorities to trust, with `https`.
    ///
    /// # Errors
    /// When `url` is not `http://host[:port]` or `https://…`, the host is unknown, the token is not
    /// text, or there is nobody to trust.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let token = std::env::var_os("FLUX_TOKEN").filter(|token| !token.is_empty());
        let Some(rest) = url.strip_prefix("https://") else {
            return Self::with_token(url, token);
        };
        let mut target = Self::with_token(&format!("http://{rest}"), token)?;
        let ca_file = std::env::var_os("FLUX_CA_FILE").filter(|path| !path.is_empty());
        let ca_file = ca_file.context("https needs FLUX_CA_FILE, the authority to trust")?;
        let config = stream::client(&ca_file).context("FLUX_CA_FILE can't be used")?;
        let name = target.host.rsplit_once(':').map_or("", |(name, _)| name);
        let name = ServerName::try_from(name.to_owned()).context("no name for TLS")?;
        target.tls = Some((config, name));
        Ok(target)
    }

    fn with_token(url: &str, token: Option<OsString>) -> Result<Self> {
        let Some(host) = url.strip_prefix("http://") else {
            bail!("--url must begin with http://, not {url:?}");
        };
        let host = host.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ', '\r', '\n']) {
            bail!("--url must be http://host:port, not {url:?}");
        }
        let has_port = host
            .rsplit(':')
            .next()
            .is_some_and(|port| port.parse::<u16>().is_ok());
        let host = if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let mut addresses = host
            .to_socket_addrs()
            .with_context(|| format!("cannot resolve {host}"))?;
        let address = addresses
            .next()
            .with_context(|| format!("{host} has no address"))?;
        let token = token.map(token_text).transpose()?;
        Ok(Self {
            address,
            host,
            token,
            tls: None,
        })
    }

    /// Request line and fields, up to and including the empty line. `body_len` is given for
    /// requests with a body, which also carry the token.
    pub(crate) fn head(&self, method_and_path: &str, body_len: Option<usize>) -> Vec<u8> {
        let mut fields = String::new();
        if let Some(body_len) = body_len {
            let authorization = match &self.token {
                Some(token) => format!("Authorization: Bearer {token}\r\n"),
                None => String::new(),
            };
            fields = format!(
                "{authorization}Content-Type: application/json\r\nContent-Length: {body_len}\r\n"
            );
        }
        format!(
            "{method_and_path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n",
            self.host
        )
        .into_bytes()
    }

    /// A handshake for a WebSocket on `path` (RFC 6455 §4.1).
    pub(crate) fn upgrade_head(&self, path: &str, key: &str) -> Vec<u8> {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.host
        )
        .into_bytes()
    }

    /// A blocking connection without Nagle's delay.
    ///
    /// # Errors
    /// When the server does not accept within ten seconds, or shakes no hands.
    pub(crate) fn connect(&self) -> Result<Stream> {
        let stream = TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT)
            .with_context(|| format!("cannot connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Stream::plain(stream)),
            Some((config, name)) => {
                let sealed = Stream::sealed(stream, config, name);
                sealed.with_context(|| format!("no TLS with {}", self.host))
            }
        }
    }
}

fn token_text(token: OsString) -> Result<String> {
    match token.into_string() {
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(token),
        _ => bail!("FLUX_TOKEN must be printable ASCII without spaces"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_and_a_host() {
        let check = |url: &str, expected: Option<&str>| {
            let target = Target::with_token(url, None);
            assert_eq!(
                target.ok().map(|target| target.host).as_deref(),
                expected,
                "{url}"
            );
        };
        check("http://127.0.0.1:3000", Some("127.0.0.1:3000"));
        check("http://127.0.0.1:3000/", Some("127.0.0.1:3000"));
        check("http://127.0.0.1", Some("127.0.0.1:80"));
        check("https://127.0.0.1:3000", None);
        check("http://127.0.0.1:3000/api", None);
        check("http://", None);
    }

    #[test]
    fn only_requests_with_a_body_carry_the_token() {
        let target = Target::with_token("http://127.0.0.1:3000", Some("secret".into())).unwrap();
        let write = target.head("POST /api/events", Some(2));
        let read = target.head("GET /health", None);
        assert_eq!(
            String::from_utf8(write).unwrap(),
            "POST /api/events HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nAuthorization: Bearer secret\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        );
        assert_eq!(
            String::from_utf8(read).unwrap(),
            "GET /health HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n\r\n"
        );
    }

    #[test]
    fn a_token_that_would_break_the_head_is_refused() {
        for token in ["a\r\nX: y", "a b", "é"] {
            assert!(Target::with_token("http://127.0.0.1:1", Some(token.into())).is_err());
        }
    }
}
