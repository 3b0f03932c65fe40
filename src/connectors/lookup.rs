//! Names of hosts → addresses that a request may go to.
//!
//! The system's resolver blocks a thread for as long as it likes, so look-ups take turns by owner,
//! and a few names that nobody answers for keep no other owner's from being looked up.
//!
//! An address is checked where it matters: each connection goes to the addresses that were looked
//! up for its own request, and were checked then. Whatever a name server says, and however often it
//! changes its mind, a connection goes only to an address that was looked at.

use super::address::{Allowed, Reach};
use super::exchange::PollError;
use super::gate::Gate;
use super::patience::Patience;
use super::shares::Owner;
use crate::limits::{LOOKUP_SECONDS, LOOKUPS_MAX, LOOKUPS_PER_OWNER_MAX};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

tokio::task_local! {
    /// The host of the request that this task makes, and the addresses that were checked for it.
    static CHECKED: (String, Arc<[SocketAddr]>);
}

/// Looks up names, and checks addresses.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    allowed: Allowed,
    gate: Gate,
}

impl Lookup {
    /// `allowed`: what the operator allows by name.
    pub(super) fn new(allowed: Allowed) -> Self {
        Self {
            allowed,
            gate: Gate::new(LOOKUPS_MAX, LOOKUPS_PER_OWNER_MAX),
        }
    }

    /// The addresses of `url`'s host, all of which the request may go to. `is_home`: it stays with
    /// the operator's server.
    ///
    /// # Errors
    /// If there is none, or one of several is refused: a reason to trust none of them.
    pub(super) async fn addresses(
        &self,
        owner: &Owner,
        url: &Url,
        (reach, is_home): (Reach, bool),
        patience: &mut Patience,
    ) -> Result<Arc<[SocketAddr]>, PollError> {
        let found: Arc<[SocketAddr]> = match url.host() {
            Some(Host::Ipv4(address)) => [SocketAddr::new(IpAddr::V4(address), 0)].into(),
            Some(Host::Ipv6(address)) => [SocketAddr::new(IpAddr::V6(address), 0)].into(),
            Some(Host::Domain(name)) => self.resolve(owner, name, patience).await?,
            None => [].into(),
        };
        for address in &*found {
            let checked = self.allowed.check(address.ip(), reach, is_home);
            checked.map_err(PollError::new)?;
        }
        Ok(found)
    }

    async fn resolve(
        &self,
        owner: &Owner,
        name: &str,
        patience: &mut Patience,
    ) -> Result<Arc<[SocketAddr]>, PollError> {
        let pass = self.gate.enter(owner).await;
        let host = name.to_owned();
        // A task of its own: the look-up counts until its thread is free, whoever still waits.
        let lookup = tokio::task::spawn_local(async move {
            let found = tokio::net::lookup_host((host, 0)).await;
            drop(pass);
            found.map(Iterator::collect::<Arc<[SocketAddr]>>)
        });
        let limit = Duration::from_secs(LOOKUP_SECONDS);
        let failed = |cause: String| PollError::new(format!("can't connect to {name}: {cause}"));
        match patience.wait(tokio::time::timeout(limit, lookup)).await? {
            Ok(Ok(Ok(found))) if !found.is_empty() => Ok(found),
            Ok(Ok(Ok(_))) => Err(failed("the name has no address".to_owned())),
            Ok(Ok(Err(error))) => Err(failed(error.to_string())),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!(
                "the name was not resolved within {LOOKUP_SECONDS} seconds"
            ))),
        }
    }
}

/// Makes a request whose connection goes to `addresses`.
pub(super) async fn with_addresses<T>(
    url: &Url,
    addresses: Arc<[SocketAddr]>,
    request: impl Future<Output = T>,
) -> T {
    let host = url.host_str().unwrap_or_default().to_owned();
    CHECKED.scope((host, addresses), request).await
}

/// Gives the HTTP client the addresses that were checked for the request that it makes, and no
/// others.
#[derive(Debug)]
pub(super) struct CheckedOnly;

impl Resolve for CheckedOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let checked = CHECKED.try_with(|(host, addresses)| {
            let is_asked = host.eq_ignore_ascii_case(name.as_str());
            is_asked.then(|| Arc::clone(addresses))
        });
        Box::pin(async move {
            match checked {
                Ok(Some(addresses)) => {
                    let all: Vec<SocketAddr> = addresses.to_vec();
                    Ok(Box::new(all.into_iter()) as Addrs)
                }
                Ok(None) | Err(_) => Err("the address was not checked".into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::{LINK_LOCAL, NOT_PUBLIC};
    use super::*;
    use tokio::task::LocalSet;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, test)
    }

    #[test]
    fn addresses_are_checked_whether_they_are_written_or_looked_up() {
        let check = |url: &str, reach: Reach, expected: Result<usize, &str>| {
            let url = Url::parse(url).unwrap();
            let found = run(async {
                let lookup = Lookup::new(Allowed::default());
                let (owner, mut patience) = ("a".into(), Patience::new());
                let found = lookup.addresses(&owner, &url, (reach, false), &mut patience);
                found.await
            });
            let found = found.map(|found| found.len().min(1));
            let expected = expected.map_err(PollError::new);
            assert_eq!(found, expected, "{url}");
        };
        check("http://127.0.0.1:1/", Reach::Anywhere, Ok(1));
        check("http://localhost:1/", Reach::Anywhere, Ok(1));
        check("http://127.0.0.1/", Reach::Public, Err(NOT_PUBLIC));
        check("http://localhost/", Reach::Public, Err(NOT_PUBLIC));
        check("http://[::1]/", Reach::Operators, Err(NOT_PUBLIC));
        check("http://169.254.1.1/", Reach::Anywhere, Err(LINK_LOCAL));
        check("http://[fe80::1]/", Reach::Anywhere, Err(LINK_LOCAL));
    }

    #[test]
    fn a_connection_goes_only_to_addresses_that_were_checked_for_its_request() {
        let url = Url::parse("http://Example.org/x").unwrap();
        let address: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let ask = |name: &str| {
            let name: Name = name.parse().unwrap();
            CheckedOnly.resolve(name)
        };
        let found = run(with_addresses(&url, [address].into(), async {
            assert!(ask("other.org").await.is_err(), "of another host");
            ask("example.org").await.map(Iterator::collect::<Vec<_>>)
        }));
        assert_eq!(found.unwrap(), [address]);
        assert!(run(ask("example.org")).is_err(), "of another request");
    }
}
