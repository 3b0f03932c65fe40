//! The tickets of all cores: a connection that comes with one may land on any.
//!
//! Behind a lock. It is not on the path of an event, and is held for one look-up.

use crate::auth::{NoTicket, OwnedNamespace, Tickets, TokenHash};
use crate::model::Timestamp;
#[expect(
    clippy::disallowed_types,
    reason = "off the path of events, and held for one look-up"
)]
use std::sync::Mutex;
use std::sync::{MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SharedTickets {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    tickets: Mutex<Tickets>,
}

impl SharedTickets {
    /// [`Tickets::add`].
    ///
    /// # Errors
    /// [`NoTicket`].
    pub(crate) fn add(
        &self,
        made: (TokenHash, TokenHash),
        namespace: Option<OwnedNamespace>,
        now: Timestamp,
    ) -> Result<(), NoTicket> {
        self.lock().add(made, namespace, now)
    }

    /// [`Tickets::look`].
    pub(crate) fn look(&self, ticket: &TokenHash, now: Timestamp) -> Option<TokenHash> {
        self.lock().look(ticket, now)
    }

    /// [`Tickets::take`].
    pub(crate) fn take(&self, ticket: &TokenHash, now: Timestamp) -> Option<TokenHash> {
        self.lock().take(ticket, now)
    }

    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
