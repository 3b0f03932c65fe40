//! What the head of a call asks for beyond its route: conditions and parameters. Each is honoured
//! or refused, and none is passed over (API contract §1).

use crate::api::conditions::{self, HeadConditions};
use crate::api::query;
use crate::api::route::ControlRoute;
use crate::api::{ApiError, Route};
use crate::service::{Caller, Context};
use crate::wire::http1::{Head, Method};

/// The conditions in the head of a write. Refuses what the call does not take, if the token that it
/// needs is known.
///
/// # Errors
/// [`ApiError::InvalidHeader`], [`ApiError::InvalidQuery`], and what the token is refused with.
pub(super) fn check<'h, L>(
    context: &Context<L>,
    caller: &Caller<'_>,
    (head, route): (&Head<'h>, &Route<'_>),
) -> Result<HeadConditions<'h>, ApiError> {
    let is_write = matches!(
        route,
        Route::Publish
            | Route::PublishBatch
            | Route::Delete(_)
            | Route::DeleteById
            | Route::DeleteBatch
    );
    conditions_of(head, route)
        .and_then(|taken| parameters_of(head, route).map(|()| taken))
        .or_else(|error| {
            if is_write {
                context.access(&caller.credentials)?;
            }
            Err(error)
        })
}

fn conditions_of<'h>(head: &Head<'h>, route: &Route<'_>) -> Result<HeadConditions<'h>, ApiError> {
    match route {
        Route::Publish | Route::Delete(_) | Route::DeleteById => {
            return HeadConditions::parse(head);
        }
        Route::PublishBatch | Route::DeleteBatch => conditions::check_batch(head)?,
        Route::Options(_) => {}
        _ => conditions::check_other(head, matches!(head.method, Method::Get | Method::Head))?,
    }
    Ok(HeadConditions::default())
}

/// Of calls that parse no query of their own.
fn parameters_of(head: &Head<'_>, route: &Route<'_>) -> Result<(), ApiError> {
    let takes_none = match route {
        Route::Publish
        | Route::PublishBatch
        | Route::Delete(_)
        | Route::DeleteById
        | Route::DeleteBatch
        | Route::Mcp
        | Route::Ready
        | Route::Metrics => true,
        Route::Control(route) => match route {
            ControlRoute::Register
            | ControlRoute::Ticket
            | ControlRoute::Show(_)
            | ControlRoute::ReplaceToken(_)
            | ControlRoute::Tokens(_)
            | ControlRoute::SetVisibility(_)
            | ControlRoute::Config
            | ControlRoute::Configure => true,
            ControlRoute::List | ControlRoute::Delete(_) | ControlRoute::Connectors(_) => false,
        },
        Route::Events
        | Route::List
        | Route::Read(_)
        | Route::ReadById
        | Route::WebSocket
        | Route::Stream
        | Route::Changes
        | Route::Health
        | Route::Page(_)
        | Route::Options(_) => false,
    };
    if takes_none {
        query::check_none(head.query)
    } else {
        Ok(())
    }
}
