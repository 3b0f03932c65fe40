//! What clients hold, by address: connections, subscriptions. Counted by all cores in one table of atomic words, so that
//! a bound holds whichever cores a client's connections came to, without a lock and without a message.
//!
//! A word is 40 bits of the address's hash, under a key that nobody outside knows, and a count of 24 bits. One whose
//! count is 0 is free. Two cores that count an address for the first time in the same instant may take a word each; then
//! the bound holds for each of them. An address that finds no free word is not bounded: there are twice as many
//! words as connections by default.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words of a table: 1 MiB.
const WORDS: usize = 128 * 1024;
/// Words that one address may lie in, from where its hash points to.
const PROBES: usize = 32;
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct AddressLimiter {
    words: Box<[AtomicU64]>,
    key: RandomState,
}

/// The address holds as much as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl AddressLimiter {
    pub(crate) fn new() -> Self {
        Self {
            words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
            key: RandomState::new(),
        }
    }

    /// Counts one more for this address.
    ///
    /// # Errors
    /// Where that would be more than `max`; nothing is counted then.
    pub(crate) fn add(&self, address: IpAddr, max: u32) -> Result<(), Exhausted> {
        let (tag, start) = self.place(address);
        let max = u64::from(max).min(COUNT_MAX);
        // Once more where another core took the free word that was found.
        for _ in 0..PROBES {
            let words = self.line(start);
            let found = words.clone().find(|word| is_of(word.load(Relaxed), tag));
            if let Some(word) = found {
                let added = word.fetch_update(Relaxed, Relaxed, |value| {
                    (is_of(value, tag) && value & COUNT_MAX < max).then_some(value + 1)
                });
                match added {
                    Ok(_) => return Ok(()),
                    Err(value) if is_of(value, tag) => return Err(Exhausted),
                    // It was given up in this instant.
                    Err(_) => continue,
                }
            }
            let free = |word: &&AtomicU64| word.load(Relaxed) & COUNT_MAX == 0;
            let Some(word) = words.clone().find(free) else {
                return Ok(());
            };
            let value = word.load(Relaxed);
            let taken = value & COUNT_MAX == 0
                && word
                    .compare_exchange(value, tag | 1, Relaxed, Relaxed)
                    .is_ok();
            if taken {
                return if max == 0 { Err(Exhausted) } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// Counts one less.
    pub(crate) fn remove(&self, address: IpAddr) {
        let (tag, start) = self.place(address);
        for word in self.line(start) {
            let removed = word.fetch_update(Relaxed, Relaxed, |value| {
                is_of(value, tag).then(|| value - 1)
            });
            if removed.is_ok() {
                return;
            }
        }
    }

    /// The hash's part of an address's words, and where the first may be.
    fn place(&self, address: IpAddr) -> (u64, usize) {
        let hash = self.key.hash_one(holder(address));
        let start = usize::try_from(hash & COUNT_MAX).unwrap_or(0) % WORDS;
        (hash & !COUNT_MAX, start)
    }

    fn line(&self, start: usize) -> impl Iterator<Item = &AtomicU64> + Clone {
        let first = start / 8 * 8;
        let (before, from) = self.words.split_at(first);
        from.iter().chain(before).take(PROBES)
    }
}

/// True of a word in use for this hash.
fn is_of(value: u64, tag: u64) -> bool {
    value & !COUNT_MAX == tag && value & COUNT_MAX > 0
}

/// Whom an address stands for: of an IPv6 address the network, since one client has all 2⁶⁴ addresses of it.
fn holder(address: IpAddr) -> IpAddr {
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

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn each_address_has_its_own_bound() {
        let tally = AddressLimiter::new();
        for number in 0..10_000 {
            for _ in 0..3 {
                assert_eq!(tally.add(address(number), 3), Ok(()));
            }
            assert_eq!(tally.add(address(number), 3), Err(Exhausted));
        }
        for number in 0..10_000 {
            tally.remove(address(number));
            assert_eq!(tally.add(address(number), 3), Ok(()), "{number}");
            assert_eq!(
                tally.add(address(number), 2),
                Err(Exhausted),
                "a lower bound"
            );
        }
    }

    #[test]
    fn what_is_given_back_is_free() {
        let tally = AddressLimiter::new();
        for round in 0..20_u32 {
            for number in 0..50_000 {
                assert_eq!(tally.add(address(round * 100_000 + number), 1), Ok(()));
            }
            for number in 0..50_000 {
                tally.remove(address(round * 100_000 + number));
            }
        }
        let used = tally
            .words
            .iter()
            .filter(|word| word.load(Relaxed) & COUNT_MAX > 0);
        assert_eq!(used.count(), 0);
        tally.remove(address(1));
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_the_ipv4_one() {
        let tally = AddressLimiter::new();
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(tally.add(parse("2001:db8:1:2::1"), 1), Ok(()));
        assert_eq!(tally.add(parse("2001:db8:1:2:ffff::9"), 1), Err(Exhausted));
        assert_eq!(tally.add(parse("2001:db8:1:3::1"), 1), Ok(()));
        assert_eq!(tally.add(parse("10.0.0.1"), 1), Ok(()));
        assert_eq!(tally.add(parse("::ffff:10.0.0.1"), 1), Err(Exhausted));
    }

    #[test]
    fn cores_count_together() {
        let tally = AddressLimiter::new();
        let work = || {
            for of in (0..20_000).map(|round| address(round % 10)) {
                if tally.add(of, 1_000).is_ok() {
                    tally.remove(of);
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
        let left = tally
            .words
            .iter()
            .filter(|word| word.load(Relaxed) & COUNT_MAX > 0);
        assert_eq!(left.count(), 0);
    }
}
