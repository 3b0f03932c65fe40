//! The runtime configuration: showing and changing it.

use super::tenants::TokenRule;
use super::{Begun, Caller, Context, Outcome, Pending, control};
use crate::api::{ApiError, config};
use crate::control::Command;
use crate::log::Log;
use crate::shard::Reply;

/// Shows the configuration in force.
pub(crate) fn show<L: Log>(context: &mut Context<L>) -> Begun {
    Begun::at_once(encoded(context))
}

/// Changes the configuration by the patch that is the JSON `body`.
///
/// # Errors
/// If it stays as it is.
pub(crate) fn change<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    body: &[u8],
) -> Result<Begun, ApiError> {
    let tenants = &context.tenants;
    tenants.check(
        &caller.credentials,
        (TokenRule::OperatorOnly, context.router.now),
    )?;
    let patch = config::parse(body)?;
    control::ask(context, caller.request_id, Command::Configure(patch))?;
    Ok(Begun::Waiting(Pending::Configure))
}

/// Takes the reply to [`change`].
pub(super) fn resume<L>(
    context: &mut Context<L>,
    reply: Reply,
) -> Result<Option<Outcome>, ApiError> {
    match reply {
        Reply::Controlled => Ok(Some(encoded(context))),
        Reply::Refused(error) => Err(error),
        _ => Ok(None),
    }
}

fn encoded<L>(context: &mut Context<L>) -> Outcome {
    context.answer.clear();
    config::encode(&mut context.answer, &context.tenants.runtime);
    Outcome::Done
}
