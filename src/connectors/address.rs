//! Which addresses connectors reach.
//!
//! A server with several owners does not reach its own addresses, its network's and other forms of
//! either for any of them: what is left is the public Internet. No server reaches link-local
//! addresses, at which hosters answer with the machine's own secrets. Both rules yield to addresses
//! that the operator names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Why an address is not reached.
pub(super) const NOT_PUBLIC: &str = "the address is not public: with tokens in force, connectors do not reach loopback, \
    private and link-local addresses unless the operator sets FLUX_CONNECTORS_ALLOW_PRIVATE=true";
/// The same.
pub(super) const LINK_LOCAL: &str = "the address is link-local or a metadata service: connectors reach it only if the operator \
    names it in FLUX_CONNECTORS_ALLOW_ADDRESSES";

/// Which addresses a request may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// All but link-local ones.
    Anywhere,
    /// Those of the public Internet.
    Public,
    /// All of the server (scheme, host and port) that the operator named but link-local ones, and
    /// the public Internet.
    Operators,
}

/// The addresses that the operator allows by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Allowed(pub(super) Arc<[IpAddr]>);

impl Allowed {
    /// Whether a request that stays with the operator's server (`is_home`) may go to `address`.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(
        &self,
        address: IpAddr,
        reach: Reach,
        is_home: bool,
    ) -> Result<(), &'static str> {
        if self.0.contains(&address.to_canonical()) {
            return Ok(());
        }
        let is_free = match reach {
            Reach::Anywhere => true,
            Reach::Public => false,
            Reach::Operators => is_home,
        };
        if !is_free && !is_public(address) {
            return Err(NOT_PUBLIC);
        }
        if is_link_local(address) {
            return Err(LINK_LOCAL);
        }
        Ok(())
    }
}

/// True if an address is link-local, or one at which a hoster's machines ask for metadata.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_link_local_v4(address),
        IpAddr::V6(address) => {
            let within = [embedded(address), embedded_locally(address)];
            if within.into_iter().flatten().any(is_link_local_v4) {
                return true;
            }
            match address.segments() {
                // The metadata of Amazon, Google, and Scaleway.
                [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
                | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
                | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => true,
                [first, ..] => (0xfe80..=0xfebf).contains(&first),
            }
        }
    }
}

fn is_link_local_v4(address: Ipv4Addr) -> bool {
    matches!(
        address.octets(),
        // With the metadata of most hosters; Alibaba's; Oracle's; Azure's wire server, which has an
        // address like a public one.
        [169, 254, _, _] | [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16]
    )
}

/// The IPv4 address that an IPv6 address stands for.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        // IPv4-compatible (obsolete), IPv4-mapped, and translated by NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            (high, low)
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(v4(high, low))
}

/// The same of forms that only the machine's own network can give a meaning.
fn embedded_locally(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        // IPv4-translated (RFC 2765), and by NAT64 with a prefix of the network (RFC 8215).
        [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        // ISATAP (RFC 5214).
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(v4(high, low)),
        _ => None,
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

/// True if an address is one of the public Internet's (RFC 6890 and the registries of IANA that
/// it began).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match (a, b, c) {
        // This network (with the unspecified address), private, loopback, and what is multicast or
        // reserved.
        (0 | 10 | 127 | 224.., _, _)
        // Shared address space of carriers (RFC 6598).
        | (100, 64..=127, _)
        // Link-local, with the metadata services of hosters.
        | (169, 254, _)
        | (172, 16..=31, _)
        | (192, 168, _)
        // Protocol assignments, documentation, the old 6to4 relays, benchmarks.
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18 | 19, _)
        | (198, 51, 100)
        | (203, 0, 113) => true,
        _ => false,
    };
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match (address.segments(), embedded(address)) {
        // IPv4-compatible addresses are not routed, nor are Teredo and other protocol assignments,
        // and documentation (RFC 3849, RFC 9637).
        ([0, 0, 0, 0, 0, 0, ..], _)
        | ([0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..], None) => false,
        (_, Some(embedded)) => is_public_v4(embedded),
        // All that is routed on the Internet lies in 2000::/3.
        ([first, ..], None) => (0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:4860:4860::8888",
        ];
        for text in public {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        let others = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for text in others {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn link_local_addresses_are_reached_only_by_name() {
        let link_local = [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:42::42",
            "168.63.129.16",
            "::ffff:0:169.254.169.254",
            "64:ff9b:1::a9fe:a9fe",
            "2001:db9::5efe:a9fe:a9fe",
            "2001:db9::200:5efe:a9fe:a9fe",
            "100.100.100.200",
            "192.0.0.192",
        ];
        for text in link_local {
            let address: IpAddr = text.parse().unwrap();
            let none = Allowed::default();
            assert_eq!(
                none.check(address, Reach::Anywhere, true),
                Err(LINK_LOCAL),
                "{text}"
            );
            assert!(
                none.check(address, Reach::Operators, true).is_err(),
                "{text}"
            );
            assert!(none.check(address, Reach::Public, false).is_err(), "{text}");
            let named = Allowed([address.to_canonical()].into());
            assert_eq!(named.check(address, Reach::Public, false), Ok(()), "{text}");
        }
        for text in ["127.0.0.1", "10.0.0.1", "fec0::1", "fd00::1", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            let none = Allowed::default();
            assert_eq!(
                none.check(address, Reach::Anywhere, false),
                Ok(()),
                "{text}"
            );
            assert_eq!(
                none.check(address, Reach::Operators, true),
                Ok(()),
                "{text}"
            );
            assert_eq!(
                none.check(address, Reach::Operators, false),
                Err(NOT_PUBLIC),
                "{text}"
            );
        }
        let beside: IpAddr = "169.253.255.255".parse().unwrap();
        assert_eq!(
            Allowed::default().check(beside, Reach::Public, false),
            Ok(())
        );
    }
}
