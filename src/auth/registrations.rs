//! How many namespaces an address may register where anyone may: a token bucket for each address.
//!
//! A bucket holds as many registrations as are allowed in [`PERIOD_MICROS`], begins full, and is
//! refilled evenly. It is kept as one number, the time at which it is full again: a registration
//! moves that time ahead by its share of the period, and is refused if that would be more than a
//! period away. A bucket that is full says nothing and is forgotten.

use crate::auth::RateLimited;
use crate::limits::REGISTRATION_ADDRESSES_MAX;
use crate::model::Timestamp;
use std::collections::HashMap;
use std::net::IpAddr;

/// The time in which an empty bucket is refilled.
const PERIOD_MICROS: i64 = 600_000_000;

/// See the module.
#[derive(Debug)]
pub struct Registrations {
    /// What one registration moves the time by at which its bucket is full.
    cost_micros: i64,
    /// When buckets that are not full will be.
    full_at: HashMap<IpAddr, i64>,
    /// The bucket of all addresses for which there is no room in the table.
    others_full_at: i64,
}

impl Registrations {
    /// Allows `max` in ten minutes.
    pub fn new(max: u32) -> Self {
        Self {
            cost_micros: PERIOD_MICROS
                .checked_div(i64::from(max))
                .unwrap_or(PERIOD_MICROS),
            full_at: HashMap::new(),
            others_full_at: 0,
        }
    }

    /// Takes one registration of this address.
    ///
    /// # Errors
    /// If none is left: how long it takes until there is one.
    pub fn take(&mut self, address: IpAddr, now: Timestamp) -> Result<(), RateLimited> {
        let now = now.as_micros();
        let cost = self.cost_micros;
        let full_at = self.bucket(address, now);
        // If the clock was set back, the bucket is as empty as it can be, and no more than that.
        let latest = now.saturating_add(PERIOD_MICROS);
        let next = (*full_at).clamp(now, latest).saturating_add(cost);
        if next > latest {
            let wait = next.saturating_sub(latest);
            let seconds = u64::try_from(wait).unwrap_or(0).div_ceil(1_000_000);
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            return Err(RateLimited { seconds });
        }
        *full_at = next;
        Ok(())
    }

    /// Gives back what was taken for a registration that came to nothing.
    pub fn give_back(&mut self, address: IpAddr) {
        let cost = self.cost_micros;
        let full_at = match self.full_at.get_mut(&address) {
            Some(full_at) => full_at,
            None => &mut self.others_full_at,
        };
        *full_at = full_at.saturating_sub(cost);
    }

    fn bucket(&mut self, address: IpAddr, now: i64) -> &mut i64 {
        if self.full_at.len() >= REGISTRATION_ADDRESSES_MAX && !self.full_at.contains_key(&address)
        {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= REGISTRATION_ADDRESSES_MAX {
                return &mut self.others_full_at;
            }
        }
        self.full_at.entry(address).or_insert(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap()))
    }

    fn at(seconds: i64) -> Timestamp {
        let seconds = seconds.checked_add(1_000_000).unwrap();
        Timestamp::from_micros(seconds.checked_mul(1_000_000).unwrap())
    }

    fn drain(registrations: &mut Registrations, from: IpAddr, now: Timestamp) -> usize {
        let taken = std::iter::from_fn(|| registrations.take(from, now).ok());
        taken.take(1000).count()
    }

    #[test]
    fn each_address_has_its_own_and_they_come_back_evenly() {
        let mut registrations = Registrations::new(10);
        for number in 0..3 {
            assert_eq!(drain(&mut registrations, address(number), at(0)), 10);
        }
        let one = address(1);
        assert_eq!(drain(&mut registrations, one, at(59)), 0);
        assert_eq!(drain(&mut registrations, one, at(60)), 1);
        assert_eq!(drain(&mut registrations, one, at(240)), 3);
        assert_eq!(drain(&mut registrations, one, at(100_000)), 10);
    }

    #[test]
    fn the_time_to_wait_is_when_one_is_there() {
        for max in [1, 3, 7, 10, 1000] {
            let mut registrations = Registrations::new(max);
            let from = address(1);
            drain(&mut registrations, from, at(0));
            let seconds = registrations.take(from, at(0)).unwrap_err().seconds;
            assert!(seconds >= 1, "{max}");
            let early = registrations.take(from, at(i64::from(seconds) - 1));
            assert!(early.is_err(), "{max}: {seconds} s is not late");
            assert_eq!(
                registrations.take(from, at(i64::from(seconds))),
                Ok(()),
                "{max}"
            );
        }
    }

    #[test]
    fn what_came_to_nothing_costs_nothing() {
        let mut registrations = Registrations::new(2);
        for _ in 0..10 {
            assert_eq!(registrations.take(address(1), at(0)), Ok(()));
            registrations.give_back(address(1));
        }
        assert_eq!(drain(&mut registrations, address(1), at(0)), 2);
    }

    #[test]
    fn a_clock_that_is_set_back_refuses_nobody_for_longer_than_the_period() {
        let mut registrations = Registrations::new(10);
        drain(&mut registrations, address(1), at(1_000_000));
        assert_eq!(drain(&mut registrations, address(1), at(0)), 0);
        assert_eq!(drain(&mut registrations, address(2), at(0)), 10);
        let seconds = registrations.take(address(1), at(0)).unwrap_err().seconds;
        assert_eq!(seconds, 60);
    }

    #[test]
    fn the_table_is_bounded_and_addresses_beyond_it_share_one_bucket() {
        let mut registrations = Registrations::new(10);
        for number in 0..REGISTRATION_ADDRESSES_MAX {
            assert_eq!(registrations.take(address(number), at(0)), Ok(()));
        }
        let beyond = |number: usize| address(REGISTRATION_ADDRESSES_MAX + number);
        for number in 0..10 {
            assert_eq!(registrations.take(beyond(number), at(0)), Ok(()));
        }
        assert!(registrations.take(beyond(10), at(0)).is_err());
        assert_eq!(registrations.full_at.len(), REGISTRATION_ADDRESSES_MAX);
        assert_eq!(
            drain(&mut registrations, beyond(10), at(60)),
            10,
            "the others are full"
        );
        assert_eq!(registrations.full_at.len(), 1);
    }
}
