//! Tickets: making one with a token, and presenting one in its place.

use super::{Begun, Caller, Context, Outcome};
use crate::api::{ApiError, tokens};
use crate::auth::{NoTicket, Token, TokenHash};
use crate::limits::TICKET_SECONDS;

/// A ticket that is presented, and not used yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PresentedTicket {
    ticket: TokenHash,
    /// What it stands for.
    pub(crate) token: TokenHash,
}

/// Makes a ticket that stands for the caller's token.
///
/// # Errors
/// If none is made.
pub(crate) fn make<L>(context: &mut Context<L>, caller: &Caller<'_>) -> Result<Begun, ApiError> {
    let access = context.access(&caller.credentials)?;
    let namespace = access.charged(0).map(|charged| charged.namespace);
    let token = caller.credentials.token()?;
    // Without randomness there is nothing to be done but to try again.
    let ticket = Token::ticket().or(Err(ApiError::Overloaded))?;
    let made = (ticket.hash(), token);
    let added = context
        .counters
        .tickets
        .add(made, namespace, context.router.now);
    added.map_err(|refused| match refused {
        NoTicket::OfNamespace(limited) => ApiError::TooManyTickets {
            seconds: limited.seconds,
        },
        NoTicket::OfAll => ApiError::Overloaded,
    })?;
    context.answer.clear();
    tokens::ticket(&mut context.answer, ticket.reveal(), TICKET_SECONDS);
    Ok(Begun::at_once(Outcome::CreatedSecret))
}

/// Looks at a ticket. It is good until it is used.
///
/// # Errors
/// [`ApiError::TicketUnknown`] also of one whose token has died.
pub(crate) fn look<L>(context: &Context<L>, text: &str) -> Result<PresentedTicket, ApiError> {
    let now = context.router.now;
    let found = TokenHash::of_presented(text.as_bytes()).and_then(|ticket| {
        let token = context.counters.tickets.look(&ticket, now)?;
        Some(PresentedTicket { ticket, token })
    });
    let alive = found.filter(|it| context.tenants.is_alive(&it.token, now));
    alive.ok_or(ApiError::TicketUnknown)
}

/// Uses a ticket.
///
/// # Errors
/// [`ApiError::TicketUnknown`] if another call has used it meanwhile.
pub(crate) fn take<L>(context: &Context<L>, presented: PresentedTicket) -> Result<(), ApiError> {
    let tickets = &context.counters.tickets;
    let taken = tickets.take(&presented.ticket, context.router.now);
    taken.map(drop).ok_or(ApiError::TicketUnknown)
}
