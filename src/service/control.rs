//! Changes of the control plane: asking the core that carries them out, and putting them into force
//! on this one.

use super::Context;
use crate::api::ApiError;
use crate::api::directory::DIRECTORY_ID;
use crate::control::{Change, Command};
use crate::limits::CONTROL_CALLS_MAX;
use crate::log::Log;
use crate::model::{RESERVED_NAMESPACE, place_key};
use crate::report::{self, LogEvent};
use crate::shard::{ControlMessage, Message, Origin, RequestId};

/// The core that carries out control calls.
const CONTROL_CORE: u16 = 0;

/// Asks for a change. [`Reply::Controlled`](crate::shard::Reply::Controlled) comes to `request_id`
/// when it is in force on every core.
///
/// # Errors
/// [`ApiError::Overloaded`] if too many wait.
pub(super) fn ask<L: Log>(
    context: &mut Context<L>,
    request_id: RequestId,
    command: Command,
) -> Result<(), ApiError> {
    let origin = Origin {
        core: context.router.core,
        request_id,
    };
    if context.router.core == CONTROL_CORE {
        return enqueue(context, origin, command);
    }
    if !context.router.sender.has_room(CONTROL_CORE) {
        return Err(ApiError::Overloaded);
    }
    let message = Message::Control(ControlMessage::Ask { origin, command });
    context.router.sender.send(CONTROL_CORE, message);
    Ok(())
}

/// Takes a call to be carried out on this core.
///
/// # Errors
/// [`ApiError::Overloaded`] if too many wait.
pub(crate) fn enqueue<L: Log>(
    context: &mut Context<L>,
    origin: Origin,
    command: Command,
) -> Result<(), ApiError> {
    if context.control_calls.len() >= CONTROL_CALLS_MAX {
        return Err(ApiError::Overloaded);
    }
    context.control_calls.push_back((origin, command));
    Ok(())
}

/// Puts a change into force on this core.
pub(crate) fn apply<L: Log>(context: &mut Context<L>, change: &Change) {
    context.tenants.registry.apply(change);
    if let Change::TokenReplaced { name, .. }
    | Change::TokenRevoked { name, .. }
    | Change::Deleted { name } = change
        && let Some(shard) = &mut context.router.shard
    {
        let living = context.tenants.registry.writers_of(name);
        shard.revoke(|charged| charged.as_str() == &**name && !living.contains(&charged.token));
    }
    if let Change::VisibilitySet { .. } = change {
        close_directory(context);
    }
    match change {
        Change::Registered(namespace) => {
            note_registered(context, &namespace.name, true);
            begin_ids(context, &namespace.name);
        }
        Change::Deleted { name } => {
            note_registered(context, name, false);
            if let Some(shard) = &mut context.router.shard {
                shard.limiter_mut().forget(name);
                shard.engine_mut().recent_ids_mut().end(name);
            }
        }
        Change::Configured(patch) => {
            context.tenants.runtime = context.tenants.runtime.with(patch);
            configure_shard(context);
        }
        // The business of the registry alone, or of the supervisor of connectors.
        Change::TokenReplaced { .. }
        | Change::TokenMade { .. }
        | Change::VisibilitySet { .. }
        | Change::TokenRevoked { .. }
        | Change::TokensUsed(_)
        | Change::ConnectorDefined { .. }
        | Change::ConnectorRemoved(_)
        | Change::CredentialStored { .. }
        | Change::CredentialRemoved(_) => {}
    }
}

/// Tells a shard that was just opened what the control plane knows.
pub(crate) fn acquaint_shard<L: Log>(context: &mut Context<L>) {
    configure_shard(context);
    let (core, shards) = (context.router.core, context.router.shards);
    if let Some(shard) = &mut context.router.shard {
        for namespace in context.tenants.registry.list(None) {
            if place_key(&namespace.name, shards) == core {
                let names = shard.engine_mut().namespaces_mut();
                names.set_registered(&namespace.name, true);
                let start = namespace.history_start();
                let ids = shard.engine_mut().recent_ids_mut();
                ids.begin(&namespace.name, start);
            }
        }
    }
}

/// A namespace of this core's shard was registered: the ids that its events get are its own.
fn begin_ids<L: Log>(context: &mut Context<L>, name: &str) {
    let is_here = place_key(name, context.router.shards) == context.router.core;
    if is_here
        && let Some(start) = context.tenants.registry.history_starts().get(name)
        && let Some(shard) = &mut context.router.shard
    {
        shard.engine_mut().recent_ids_mut().begin(name, start);
    }
}

/// Takes what has become private out of the directory, if this core has that: when the call is
/// answered, nobody else is shown it any more.
fn close_directory<L: Log>(context: &mut Context<L>) {
    let router = &mut context.router;
    if place_key(RESERVED_NAMESPACE, router.shards) == router.core
        && let Some(shard) = &mut router.shard
    {
        let private = (context.tenants.registry.private(), router.now);
        if let Err(error) = shard.engine_mut().close_directory(private) {
            report::say(
                LogEvent::DirectoryStale,
                &format!("{DIRECTORY_ID} not brought up to date: {error}"),
            );
        }
    }
}

fn configure_shard<L: Log>(context: &mut Context<L>) {
    let enabled = context.tenants.auth && context.tenants.runtime.rate_limit_enabled;
    let per_minute = context.tenants.runtime.rate_limit_per_namespace_per_minute;
    if let Some(shard) = &mut context.router.shard {
        shard.limiter_mut().configure(enabled, per_minute);
    }
}

fn note_registered<L: Log>(context: &mut Context<L>, name: &str, registered: bool) {
    let router = &mut context.router;
    if place_key(name, router.shards) == router.core
        && let Some(shard) = &mut router.shard
    {
        let names = shard.engine_mut().namespaces_mut();
        names.set_registered(name, registered);
    }
}
