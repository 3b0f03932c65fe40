//! What clients hold, counted by address: connections, subscriptions. All cores count in one table,
//! so that a bound holds whichever cores a client's connections came to.
//!
//! The table is split by the address's hash into parts with a lock each. Every count is exact: a
//! lock-free table could give one address two entries if two cores counted it for the first time in
//! the same instant. An address is counted if a connection begins or ends and if a subscription
//! does, never for an event; the lock is held for one look-up.
//!
//! An entry lives while its count is above zero, so the table is as large as what it counts, which
//! is bounded itself.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
#[expect(
    clippy::disallowed_types,
    reason = "off the path of events, and held for one look-up"
)]
use std::sync::Mutex;
use std::sync::{MutexGuard, PoisonError};

/// Parts of a table: more than cores that accept connections in the same instant.
const PARTS: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct AddressLimiter {
    parts: Box<[Part]>,
    /// Chooses the part. Keyed, so that nobody outside can choose addresses of one part.
    hash: RandomState,
}

type Counts = HashMap<IpAddr, u32>;

/// On a cache line of its own: cores that count different addresses do not wait for each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Part {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    counts: Mutex<Counts>,
}

/// The address holds as much as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl AddressLimiter {
    pub(crate) fn new() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Part::default()).collect(),
            hash: RandomState::new(),
        }
    }

    /// Counts one more for this address.
    ///
    /// # Errors
    /// If that would be more than `max`; nothing is counted then.
    pub(crate) fn add(&self, address: IpAddr, max: u32) -> Result<(), Exhausted> {
        let network = network_of(address);
        let mut counts = self.counts(network);
        match counts.entry(network) {
            Entry::Occupied(mut entry) if *entry.get() < max => *entry.get_mut() += 1,
            Entry::Vacant(entry) if max > 0 => {
                entry.insert(1);
            }
            Entry::Occupied(_) | Entry::Vacant(_) => return Err(Exhausted),
        }
        Ok(())
    }

    /// Counts one less.
    pub(crate) fn remove(&self, address: IpAddr) {
        let network = network_of(address);
        let mut counts = self.counts(network);
        if let Entry::Occupied(mut entry) = counts.entry(network) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn counts(&self, network: IpAddr) -> MutexGuard<'_, Counts> {
        let index = self.hash.hash_one(network) % PARTS as u64;
        let part = &self.parts[usize::try_from(index).unwrap_or(0)];
        // Each change is one step: a thread that panicked leaves whole counts.
        part.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom an address stands for: an IPv6 address for its network, since one client has all 2⁶⁴
/// addresses of it.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn is_empty(limiter: &AddressLimiter) -> bool {
        let mut parts = limiter.parts.iter();
        parts.all(|part| part.counts.lock().unwrap().is_empty())
    }

    #[test]
    fn each_address_has_its_own_bound() {
        let limiter = AddressLimiter::new();
        for number in 0..10_000 {
            for _ in 0..3 {
                assert_eq!(limiter.add(address(number), 3), Ok(()));
            }
            assert_eq!(limiter.add(address(number), 3), Err(Exhausted));
        }
        for number in 0..10_000 {
            limiter.remove(address(number));
            assert_eq!(limiter.add(address(number), 3), Ok(()), "{number}");
            let lower = limiter.add(address(number), 2);
            assert_eq!(lower, Err(Exhausted), "a lower bound");
        }
    }

    #[test]
    fn nothing_is_allowed_by_a_bound_of_zero_and_nothing_is_counted() {
        let limiter = AddressLimiter::new();
        assert_eq!(limiter.add(address(1), 0), Err(Exhausted));
        limiter.remove(address(1));
        assert!(is_empty(&limiter));
    }

    #[test]
    fn what_is_given_back_takes_no_memory() {
        let limiter = AddressLimiter::new();
        for number in 0..50_000 {
            assert_eq!(limiter.add(address(number), 1), Ok(()));
        }
        for number in 0..50_000 {
            limiter.remove(address(number));
        }
        assert!(is_empty(&limiter));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_the_ipv4_one() {
        let limiter = AddressLimiter::new();
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(limiter.add(parse("2001:db8:1:2::1"), 1), Ok(()));
        let same = limiter.add(parse("2001:db8:1:2:ffff::9"), 1);
        assert_eq!(same, Err(Exhausted));
        assert_eq!(limiter.add(parse("2001:db8:1:3::1"), 1), Ok(()));
        assert_eq!(limiter.add(parse("10.0.0.1"), 1), Ok(()));
        assert_eq!(limiter.add(parse("::ffff:10.0.0.1"), 1), Err(Exhausted));
    }

    /// The first count of an address on two cores at once is what the bound is easily lost at.
    #[test]
    fn the_bound_holds_if_cores_count_an_address_in_the_same_instant() {
        const MAX: u32 = 5;
        let limiter = AddressLimiter::new();
        let together = Barrier::new(2);
        let add_all = || {
            let mut added = 0;
            for number in 0..2_000 {
                together.wait();
                let results = (0..MAX).map(|_| limiter.add(address(number), MAX));
                added += results.flatten().count();
            }
            added
        };
        let added = std::thread::scope(|scope| {
            let other = scope.spawn(add_all);
            add_all() + other.join().unwrap()
        });
        assert_eq!(added, 2_000 * MAX as usize);
    }
}
