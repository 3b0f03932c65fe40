//! What callers without a token of their own have tried, on all cores: registrations by address,
//! and guesses of the operator's token.
//!
//! A lock for each, because a caller comes to any core. Neither is on the path of an event, and
//! each is held for one look-up.

use super::address_limiter::network_of;
use crate::auth::{Failures, Guesses, RateLimited, Registrations};
use crate::model::Timestamp;
use std::net::{IpAddr, Ipv4Addr};
#[expect(
    clippy::disallowed_types,
    reason = "off the path of events, and held for one look-up"
)]
use std::sync::Mutex;
use std::sync::{MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Strangers {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    registrations: Mutex<Registrations>,
    #[expect(clippy::disallowed_types, reason = "see the import")]
    guesses: Mutex<Guesses>,
}

impl Strangers {
    /// Allows an address so many registrations in ten minutes.
    #[expect(clippy::disallowed_types, reason = "see the import")]
    pub(crate) fn new(registrations_per_address: u32) -> Self {
        Self {
            registrations: Mutex::new(Registrations::new(registrations_per_address)),
            guesses: Mutex::default(),
        }
    }

    /// Takes one registration of a caller.
    ///
    /// # Errors
    /// If its address has none left.
    pub(crate) fn register(
        &self,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<(), RateLimited> {
        self.registrations().take(of(address), now)
    }

    /// Gives back what was taken for a registration that came to nothing.
    pub(crate) fn give_back(&self, address: Option<IpAddr>) {
        self.registrations().give_back(of(address));
    }

    /// A caller has presented a wrong operator's token. Returns the milliseconds after which it is
    /// answered.
    pub(crate) fn guess(&self, address: Option<IpAddr>, now: Timestamp) -> u64 {
        let from = address.unwrap_or(UNKNOWN).to_canonical();
        self.guesses().note(from, now)
    }

    /// A caller has presented an unknown token to a call that takes other tokens too. Returns the
    /// milliseconds after which it is answered if it counts as a guess.
    pub(crate) fn unknown_token(&self, address: Option<IpAddr>, now: Timestamp) -> Option<u64> {
        let from = address.unwrap_or(UNKNOWN).to_canonical();
        self.guesses().note_unknown((from, network_of(from)), now)
    }

    /// What the operator is to be told of now.
    pub(crate) fn take_due(&self, now: Timestamp) -> Option<Failures> {
        self.guesses().take_due(now)
    }

    /// What the operator was not told of yet.
    pub(crate) fn take_rest(&self) -> Option<Failures> {
        self.guesses().take_rest()
    }

    fn registrations(&self) -> MutexGuard<'_, Registrations> {
        let locked = self.registrations.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for a client that was gone again before it was asked for its address.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whom a caller stands for.
fn of(address: Option<IpAddr>) -> IpAddr {
    address.map_or(UNKNOWN, network_of)
}
