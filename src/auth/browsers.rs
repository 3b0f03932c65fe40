//! Which web pages and which names may reach the server (API contract §16).
//!
//! A browser lets any page send requests to a server on its user's machine, and says in `Origin`
//! which page it was. A page may also have its own name point to that machine (DNS rebinding); then
//! it is of the server's own origin, and only `Host` gives it away.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserPolicy {
    /// Which pages.
    pub origins: AllowedOrigins,
    /// By which names.
    pub hosts: AllowedHosts,
    /// How the server is asked.
    pub scheme: Scheme,
    /// Browsers are shown the dashboard.
    pub dashboard: bool,
}

/// How a server is asked, as an origin says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// By TLS.
    Https,
}

impl Scheme {
    /// As it stands in an origin.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// What an origin begins with, and the port that it leaves out.
    const fn of_origin(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Http => (b"http://", b":80"),
            Self::Https => (b"https://", b":443"),
        }
    }
}

/// The pages that may reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// All.
    Any,
    /// Pages that the user's machine serves itself, on any port, and the server's own.
    LoopbackAndOwn,
    /// These.
    Listed(Arc<[Box<str>]>),
}

/// The names by which the server may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedHosts {
    /// All.
    Any,
    /// Addresses, `localhost`, and these.
    AddressesAnd(Arc<[Box<str>]>),
}

/// Why a request is refused whatever it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwelcome {
    /// It comes from a page that may not reach the server.
    Origin,
    /// It names the server in a way that it is not known by.
    Host,
}

impl BrowserPolicy {
    /// Everything may reach the server.
    pub const OPEN: Self = Self {
        origins: AllowedOrigins::Any,
        hosts: AllowedHosts::Any,
        scheme: Scheme::Http,
        dashboard: true,
    };

    /// Judges a request. `host`: whom it asks, `None` in HTTP/1.0 if it says nothing of that;
    /// `origin`: the page that sends it, if one does.
    ///
    /// # Errors
    /// [`Unwelcome`].
    pub fn check(&self, host: Option<&[u8]>, origin: Option<&[u8]>) -> Result<(), Unwelcome> {
        if let AllowedHosts::AddressesAnd(names) = &self.hosts
            && let Some(host) = host
            && !is_usual(host)
            && !is_known(host, names)
        {
            return Err(Unwelcome::Host);
        }
        let Some(origin) = origin else {
            return Ok(());
        };
        let is_allowed = match &self.origins {
            AllowedOrigins::Any => true,
            AllowedOrigins::LoopbackAndOwn => {
                is_loopback(origin) || is_own(self.scheme, origin, host)
            }
            AllowedOrigins::Listed(listed) => {
                let mut listed = listed.iter();
                listed.any(|it| it.as_bytes().eq_ignore_ascii_case(origin))
            }
        };
        if is_allowed {
            Ok(())
        } else {
            Err(Unwelcome::Origin)
        }
    }
}

/// Whether a `Host` is an address, `localhost` or one of `names`, each of which has a port or means
/// any.
fn is_known(host: &[u8], names: &[Box<str>]) -> bool {
    let name = without_port(host);
    let is = |known: &str| {
        let known = known.as_bytes();
        known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host)
    };
    is("localhost") || is_address(name) || names.iter().any(|known| is(known))
}

/// Whether a `Host` is one that most clients on the server's own machine send: told without a look
/// for the port and without parsing an address, which every request would pay for.
fn is_usual(host: &[u8]) -> bool {
    let local = host.strip_prefix(b"127.0.0.1");
    let port = local.or_else(|| host.strip_prefix(b"localhost"));
    match port.and_then(|port| port.split_first()) {
        None => port.is_some(),
        Some((b':', digits)) => digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    }
}

/// What lies before the port, if there is one.
fn without_port(host: &[u8]) -> &[u8] {
    let end_of_literal = host.iter().position(|&byte| byte == b']');
    let from = end_of_literal.unwrap_or_default();
    let rest = host.get(from..).unwrap_or_default();
    match rest.iter().position(|&byte| byte == b':') {
        Some(colon) => host.get(..from.saturating_add(colon)).unwrap_or_default(),
        None => host,
    }
}

fn is_address(name: &[u8]) -> bool {
    as_ipv4(name).is_some() || as_ipv6(name).is_some()
}

fn as_ipv4(name: &[u8]) -> Option<Ipv4Addr> {
    str::from_utf8(name).ok()?.parse().ok()
}

fn as_ipv6(name: &[u8]) -> Option<Ipv6Addr> {
    let literal = name.strip_prefix(b"[")?.strip_suffix(b"]")?;
    str::from_utf8(literal).ok()?.parse().ok()
}

/// What follows the scheme of an origin, with its port.
fn authority(origin: &[u8]) -> Option<&[u8]> {
    let after = |scheme: &[u8]| {
        let (begin, rest) = origin.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    after(b"http://").or_else(|| after(b"https://"))
}

fn is_loopback(origin: &[u8]) -> bool {
    let Some(name) = authority(origin).map(without_port) else {
        return false;
    };
    name.eq_ignore_ascii_case(b"localhost")
        || as_ipv4(name).is_some_and(|it| it.is_loopback())
        || as_ipv6(name).is_some_and(|it| it.is_loopback())
}

/// Whether a page comes from the server that it asks.
fn is_own(scheme: Scheme, origin: &[u8], host: Option<&[u8]>) -> bool {
    let (beginning, port) = scheme.of_origin();
    let (Some(own), Some(host)) = (origin.strip_prefix(beginning), host) else {
        return false;
    };
    let plain = |authority: &[u8]| -> Vec<u8> {
        let authority = authority.strip_suffix(port).unwrap_or(authority);
        authority
            .strip_suffix(b":")
            .unwrap_or(authority)
            .to_ascii_lowercase()
    };
    plain(own) == plain(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Arc<[Box<str>]> {
        names.iter().map(|name| (*name).into()).collect()
    }

    /// Without auth, a server that is known by two names.
    fn own(scheme: Scheme) -> BrowserPolicy {
        BrowserPolicy {
            origins: AllowedOrigins::LoopbackAndOwn,
            hosts: AllowedHosts::AddressesAnd(names(&["flux.lan", "box:3000"])),
            scheme,
            dashboard: true,
        }
    }

    #[test]
    fn a_page_of_another_origin_and_a_name_that_is_not_known_are_refused() {
        let policy = own(Scheme::Http);
        let check = |host: &str, origin: &str, expected| {
            let origin = (!origin.is_empty()).then_some(origin.as_bytes());
            let judged = policy.check(Some(host.as_bytes()), origin);
            assert_eq!(judged, expected, "{host} {origin:?}");
        };
        for host in [
            "localhost",
            "127.0.0.1",
            "LOCALHOST:3000",
            "127.0.0.1:3000",
            "10.0.0.7",
            "[::1]:3000",
            "[2001:db8::1]",
            "flux.lan",
            "Flux.Lan:8080",
            "box:3000",
        ] {
            check(host, "", Ok(()));
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhostevil.example",
            "127.0.0.1evil.example",
            "127.0.0.1.evil.example:3000",
            "127.1",
            "0x7f000001",
            "box",
            "box:3001",
            "[::1].evil.example",
        ] {
            check(host, "", Err(Unwelcome::Host));
            check(host, "http://localhost", Err(Unwelcome::Host));
        }
        for origin in [
            "http://localhost",
            "https://localhost:5173",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://[::1]:1",
            "http://flux.lan:3000",
            "http://FLUX.lan:3000",
        ] {
            check("flux.lan:3000", origin, Ok(()));
        }
        for origin in [
            "null",
            "http://evil.example",
            "https://flux.lan:3000",
            "http://flux.lan",
            "http://flux.lan:3001",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://evil.example/localhost",
            "file://",
            "localhost",
            "http://",
        ] {
            check("flux.lan:3000", origin, Err(Unwelcome::Origin));
        }
        check("flux.lan:80", "http://flux.lan", Ok(()));
        check("flux.lan", "http://flux.lan:80", Ok(()));
        assert_eq!(policy.check(None, None), Ok(()), "HTTP/1.0 without a host");
        let page = Some(&b"http://evil.example"[..]);
        assert_eq!(policy.check(None, page), Err(Unwelcome::Origin));
    }

    #[test]
    fn the_own_origin_of_a_server_that_speaks_tls_is_https() {
        let policy = own(Scheme::Https);
        let check = |host: &str, origin: &str| {
            let judged = policy.check(Some(host.as_bytes()), Some(origin.as_bytes()));
            judged.is_ok()
        };
        assert!(check("flux.lan:3000", "https://flux.lan:3000"));
        assert!(check("flux.lan", "https://flux.lan:443"));
        assert!(check("flux.lan:443", "https://flux.lan"));
        assert!(check("flux.lan", "http://localhost:5173"));
        assert!(!check("flux.lan:3000", "http://flux.lan:3000"));
        assert!(!check("flux.lan:80", "https://flux.lan"));
    }

    #[test]
    fn a_list_of_origins_stands_in_place_of_the_usual_ones() {
        let policy = BrowserPolicy {
            origins: AllowedOrigins::Listed(names(&["https://app.example"])),
            hosts: AllowedHosts::Any,
            scheme: Scheme::Https,
            dashboard: true,
        };
        let check = |origin: &str| policy.check(Some(b"any.example"), Some(origin.as_bytes()));
        assert_eq!(check("https://app.example"), Ok(()));
        for origin in [
            "http://app.example",
            "https://app.example:8443",
            "http://localhost",
            "http://any.example",
        ] {
            assert_eq!(check(origin), Err(Unwelcome::Origin), "{origin}");
        }
        let page = Some(&b"http://evil.example"[..]);
        assert_eq!(BrowserPolicy::OPEN.check(Some(b"x"), page), Ok(()));
    }
}
