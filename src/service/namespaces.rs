//! Namespaces, and the token of their registration: calls that take several steps, across cores.

use super::namespace_page::NamespacePage;
use super::tenants::{Operator, denied};
use super::{Begun, Caller, Context, Outcome, Pending, control};
use crate::api::ApiError;
use crate::api::namespaces::{self, NamespacesQuery};
use crate::auth::{Access, Denied, Extent, Grant, RateLimited, Readable, Token};
use crate::control::{Command, Namespace, automatic_name};
use crate::engine::NamespaceCounts;
use crate::limits::{NAME_ATTEMPTS_MAX, PURGE_ENTITIES_MAX};
use crate::log::Log;
use crate::model::{NameRule, RESERVED_NAMESPACE, Scope, check_name, place_key};
use crate::shard::{Reply, RequestId, ShardRequest};
use std::net::IpAddr;

/// A call on its way: what it waits for.
#[derive(Debug)]
pub(crate) enum PendingNamespace {
    /// What the name holds: entities that are left in it would have a new owner.
    Looking(Registration),
    /// The registration to be in force.
    Registering(Registration),
    /// The new token to be in force.
    Replacing {
        /// The namespace's id.
        id: Box<str>,
        /// Its name.
        name: Box<str>,
        /// Its new token.
        token: Token,
    },
    /// Others to read it, or no others.
    SettingVisibility {
        /// Its name.
        name: Box<str>,
    },
    /// The namespace to be gone.
    Deleting {
        /// Its name.
        name: Box<str>,
        /// Its entities go too.
        purge: bool,
    },
    /// Some entities of a deleted namespace, or their deletion.
    Purging {
        /// Its name.
        name: Box<str>,
    },
    /// What namespaces hold.
    Showing(NamespacePage),
    /// Nothing: the step at hand has ended the call.
    Ended,
}

/// A namespace that is to be registered.
#[derive(Debug)]
pub(crate) struct Registration {
    namespace: Namespace,
    token: Token,
    /// The server chose the name; so many that it chose were taken.
    attempts: Option<usize>,
    /// The address that it is counted for, if anyone may register.
    counted_for: Option<Counted>,
}

/// A registration that its address was charged for; of a client that is gone there is no address.
#[derive(Debug, Clone, Copy)]
struct Counted(Option<IpAddr>);

fn waiting(call: PendingNamespace) -> Begun {
    Begun::Waiting(Pending::Namespaces(Box::new(call)))
}

/// Registers a namespace.
///
/// # Errors
/// If nothing is registered.
pub(crate) fn register<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    body: &[u8],
) -> Result<Begun, ApiError> {
    let operator = match context.tenants.admin {
        Some(_) => context.operator(&caller.credentials)?,
        None => Operator::Yes,
    };
    let name = namespaces::parse_registration(body)?;
    if let Some(name) = &name {
        check_name(name).map_err(|NameRule| ApiError::InvalidField {
            field: "name",
            rule: NameRule::TEXT,
        })?;
    }
    if operator == Operator::No {
        return Err(ApiError::AdminOnly);
    }
    if name.as_deref() == Some(RESERVED_NAMESPACE) {
        return Err(ApiError::Reserved);
    }
    let token = new_token()?;
    let now = context.router.now;
    let counted_for = context
        .tenants
        .admin
        .is_none()
        .then_some(Counted(caller.address));
    if let Some(Counted(address)) = counted_for {
        let taken = context.counters.strangers.register(address, now);
        taken.map_err(|RateLimited { seconds }| ApiError::TooManyRegistrations { seconds })?;
    }
    let id = context.ids.next(now.as_millis()).simple();
    let mut registration = Registration {
        namespace: Namespace {
            id: format!("ns_{id}").into(),
            name: name.clone().unwrap_or_default(),
            token: token.hash(),
            created: now,
            after: None,
            visibility: context.tenants.new_namespaces,
        },
        token,
        attempts: name.is_none().then_some(0),
        counted_for,
    };
    if let Err(error) = registration.look(context, caller.request_id) {
        give_back(context, counted_for);
        return Err(error);
    }
    Ok(waiting(PendingNamespace::Looking(registration)))
}

/// A registration that was counted for this address has come to nothing.
fn give_back<L>(context: &Context<L>, counted_for: Option<Counted>) {
    if let Some(Counted(address)) = counted_for {
        context.counters.strangers.give_back(address);
    }
}

/// Gives a namespace a new token in place of its first one, which is dead from then on. Whoever
/// asks needs a token that may do as much.
///
/// # Errors
/// If the token stays as it is.
pub(crate) fn replace_token<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    name: &str,
) -> Result<Begun, ApiError> {
    let access = context.access(&caller.credentials)?;
    if name == RESERVED_NAMESPACE {
        return Err(ApiError::Reserved);
    }
    let known = known_to(context, &access, name)?;
    let (id, name) = (known.id.clone(), known.name.clone());
    let by = match manager(&access, &name)? {
        Some(grant) if !grant.is_whole() => return Err(ApiError::TokenExceeded),
        Some(_) => Some(caller.credentials.token()?),
        None => None,
    };
    let token = new_token()?;
    let command = Command::ReplaceToken {
        name: name.clone(),
        by,
        token: token.hash(),
    };
    control::ask(context, caller.request_id, command)?;
    Ok(waiting(PendingNamespace::Replacing { id, name, token }))
}

/// Says who may read a namespace: when the call is answered, no core shows more. A token for a part
/// of the namespace does not decide about the whole.
///
/// # Errors
/// If everything stays as it is.
pub(crate) fn set_visibility<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (name, body): (&str, &[u8]),
) -> Result<Begun, ApiError> {
    let access = context.access(&caller.credentials)?;
    let visibility = namespaces::parse_visibility(body)?;
    if name == RESERVED_NAMESPACE {
        return Err(ApiError::Reserved);
    }
    let name = known_to(context, &access, name)?.name.clone();
    let by = match manager(&access, &name)? {
        Some(grant) if grant.prefix.is_some() => return Err(ApiError::TokenExceeded),
        Some(_) => Some(caller.credentials.token()?),
        None => None,
    };
    let command = Command::SetVisibility {
        name: name.clone(),
        by,
        visibility,
    };
    control::ask(context, caller.request_id, command)?;
    Ok(waiting(PendingNamespace::SettingVisibility { name }))
}

/// Deletes a namespace; `purge`: with all that it holds.
///
/// # Errors
/// If it is not deleted.
pub(crate) fn delete<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (name, query): (&str, Option<&str>),
) -> Result<Begun, ApiError> {
    let operator = context.operator(&caller.credentials)?;
    let purge = namespaces::parse_purge(query)?;
    if operator == Operator::No {
        return Err(ApiError::AdminOnly);
    }
    if name == RESERVED_NAMESPACE {
        return Err(ApiError::Reserved);
    }
    let name = known(context, name)?.name.clone();
    let command = Command::Delete { name: name.clone() };
    control::ask(context, caller.request_id, command)?;
    Ok(waiting(PendingNamespace::Deleting { name, purge }))
}

/// Shows one namespace.
///
/// # Errors
/// If there is none of that name.
pub(crate) fn show<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    name: &str,
) -> Result<Begun, ApiError> {
    if context.extent_of(&caller.credentials, name) != Extent::Whole {
        return Err(ApiError::NoNamespace);
    }
    let page = NamespacePage::one(context, name, caller.request_id)?;
    Ok(showing(context, page))
}

/// Lists namespaces, for the operator.
///
/// # Errors
/// If somebody else asks, or the query is wrong.
pub(crate) fn list<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    query: Option<&str>,
) -> Result<Begun, ApiError> {
    let operator = context.operator(&caller.credentials)?;
    let query = NamespacesQuery::parse(query)?;
    if operator == Operator::No {
        return Err(ApiError::AdminOnly);
    }
    let page = NamespacePage::list(context, query, caller.request_id)?;
    Ok(showing(context, page))
}

/// What whoever manages a namespace may do in it; `None` of the operator.
///
/// # Errors
/// If the caller may not manage it.
pub(super) fn manager<'a>(access: &'a Access, name: &str) -> Result<Option<&'a Grant>, ApiError> {
    match access {
        Access::Owner(grant) if grant.namespace.as_str() != name => Err(ApiError::NotOwner),
        Access::Owner(grant) if grant.scopes.has(Scope::Manage) => Ok(Some(grant)),
        Access::Owner(_) => Err(denied(Denied::NoScope(Scope::Manage))),
        Access::Open | Access::Admin => Ok(None),
        Access::Several(all) => {
            let mut verdicts = all.iter().map(|it| manager(&it.access, name));
            verdicts
                .find(Result::is_ok)
                .unwrap_or(Err(ApiError::NotOwner))
        }
    }
}

fn showing<L: Log>(context: &mut Context<L>, page: NamespacePage) -> Begun {
    if page.is_done() {
        return Begun::at_once(page.finish(context));
    }
    waiting(PendingNamespace::Showing(page))
}

/// The namespace of this name. A private one is not there for the tokens of others.
pub(super) fn known_to<'c, L>(
    context: &'c Context<L>,
    access: &Access,
    name: &str,
) -> Result<&'c Namespace, ApiError> {
    let is_private = context.tenants.registry.private().holds(name);
    if is_private && !access.is_operator() && !access.is_of(name) {
        return Err(ApiError::NoNamespace);
    }
    known(context, name)
}

fn known<'c, L>(context: &'c Context<L>, name: &str) -> Result<&'c Namespace, ApiError> {
    let registry = &context.tenants.registry;
    registry.get(name).ok_or(ApiError::NoNamespace)
}

impl PendingNamespace {
    /// Takes a reply.
    ///
    /// # Errors
    /// If the call ends without having done what it asked for.
    pub(super) fn resume<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
        reply: (u16, Reply),
    ) -> Result<Option<Outcome>, ApiError> {
        let counted_for = match self {
            Self::Looking(registration) | Self::Registering(registration) => {
                registration.counted_for
            }
            _ => None,
        };
        let resumed = self.advance(context, request_id, reply);
        if resumed.is_err() {
            give_back(context, counted_for);
        }
        resumed
    }

    fn advance<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
        (from, reply): (u16, Reply),
    ) -> Result<Option<Outcome>, ApiError> {
        match (std::mem::replace(self, Self::Ended), reply) {
            (Self::Looking(mut registration), Reply::Namespaces(counts, last)) => {
                registration.namespace.after = Some(last);
                *self = registration.looked(context, request_id, &counts)?;
            }
            (Self::Registering(mut registration), Reply::Refused(ApiError::NamespaceTaken))
                if registration.attempts.is_some() =>
            {
                registration.look(context, request_id)?;
                *self = Self::Looking(registration);
            }
            (_, Reply::Refused(error))
            | (Self::Purging { .. }, Reply::DeletedMany(_, Some(error))) => return Err(error),
            (Self::Registering(done), Reply::Controlled) => {
                let Namespace { id, name, .. } = &done.namespace;
                return Ok(Some(with_token(context, (id, name, &done.token))));
            }
            (Self::Replacing { id, name, token }, Reply::Controlled) => {
                return Ok(Some(with_token(context, (&id, &name, &token))));
            }
            (Self::SettingVisibility { name }, Reply::Controlled) => {
                let page = NamespacePage::one(context, &name, request_id)?;
                *self = Self::Showing(page);
            }
            (Self::Deleting { name, purge: true }, Reply::Controlled)
            | (Self::Purging { name }, Reply::DeletedMany(_, None)) => {
                let request = ShardRequest::Collect {
                    namespace: Some(name.clone()),
                    prefix: None,
                    max: PURGE_ENTITIES_MAX,
                    found: Vec::new(),
                    passed: None,
                    seen: Box::new(Readable::all()),
                };
                let shard = place_key(&name, context.router.shards);
                context.router.ask(shard, request_id, request)?;
                *self = Self::Purging { name };
            }
            (Self::Purging { name }, Reply::Ids(ids)) if !ids.is_empty() => {
                let request = ShardRequest::DeleteMany {
                    ids: ids.into(),
                    done: Vec::new(),
                    charged: None,
                };
                context.router.ask(from, request_id, request)?;
                *self = Self::Purging { name };
            }
            (Self::Purging { .. }, Reply::Ids(_))
            | (Self::Deleting { purge: false, .. }, Reply::Controlled) => {
                return Ok(Some(Outcome::Empty));
            }
            (Self::Showing(mut page), Reply::Namespaces(counts, _)) => {
                page.take(context, request_id, (from, &counts))?;
                if page.is_done() {
                    return Ok(Some(page.finish(context)));
                }
                *self = Self::Showing(page);
            }
            (step, _) => *self = step,
        }
        Ok(None)
    }
}

impl Registration {
    /// Asks what the name holds; if the server chooses the name, for one that is not registered.
    fn look<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
    ) -> Result<(), ApiError> {
        let registry = &context.tenants.registry;
        if let Some(attempts) = &mut self.attempts {
            loop {
                if *attempts >= NAME_ATTEMPTS_MAX {
                    return Err(ApiError::Overloaded);
                }
                let name = automatic_name(*attempts, &mut || fastrand::u64(..));
                *attempts += 1;
                if registry.get(&name).is_none() {
                    self.namespace.name = name.into();
                    break;
                }
            }
        } else if registry.get(&self.namespace.name).is_some() {
            return Err(ApiError::NamespaceTaken);
        }
        let name = self.namespace.name.clone();
        let shard = place_key(&name, context.router.shards);
        let request = ShardRequest::Namespaces([name].into());
        context.router.ask(shard, request_id, request)
    }

    /// The name holds this: the next step.
    fn looked<L: Log>(
        mut self,
        context: &mut Context<L>,
        request_id: RequestId,
        counts: &[NamespaceCounts],
    ) -> Result<PendingNamespace, ApiError> {
        if counts.iter().all(|counts| counts.entities == 0) {
            let command = Command::Register(self.namespace.clone());
            control::ask(context, request_id, command)?;
            return Ok(PendingNamespace::Registering(self));
        }
        if self.attempts.is_none() {
            let name = &self.namespace.name;
            // A stranger is not told what a private namespace has left.
            let is_concealed =
                self.counted_for.is_some() && context.tenants.registry.private().holds(name);
            return Err(if is_concealed {
                ApiError::NamespaceTaken
            } else {
                ApiError::NamespaceNotEmpty
            });
        }
        self.look(context, request_id)?;
        Ok(PendingNamespace::Looking(self))
    }
}

fn with_token<L>(context: &mut Context<L>, (id, name, token): (&str, &str, &Token)) -> Outcome {
    context.answer.clear();
    namespaces::with_token(&mut context.answer, id, name, token.reveal());
    Outcome::Secret
}

pub(super) fn new_token() -> Result<Token, ApiError> {
    // Without randomness there is nothing to be done but to try again.
    Token::generate().or(Err(ApiError::Overloaded))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OPERATOR, TestCores};
    use super::super::{config, connectors, publish, status};
    use super::*;
    use crate::api::route::ConnectorRoute;
    use crate::limits::REGISTRATIONS_PER_ADDRESS_MAX_DEFAULT;
    use serde_json::Value;

    fn register(cores: &mut TestCores, name: &str) -> (Outcome, Value) {
        let body = format!(r#"{{"name":"{name}"}}"#);
        let (outcome, json) = cores.run((1, Some(OPERATOR)), |context, caller| {
            super::register(context, caller, body.as_bytes())
        });
        (outcome, serde_json::from_str(&json).unwrap_or_default())
    }

    fn publish(cores: &mut TestCores, token: &str) -> Outcome {
        let event =
            br#"{"stream":"s","source":"t","payload":{"entity_id":"house/a","properties":{}}}"#;
        let (outcome, _) = cores.run((0, Some(token)), |context, caller| {
            publish::begin(context, caller, event)
        });
        outcome
    }

    #[test]
    fn a_name_is_registered_once_and_its_token_is_in_force_on_every_core() {
        let mut cores = TestCores::with_auth(2);
        let (outcome, json) = register(&mut cores, "house");
        assert_eq!(outcome, Outcome::Secret);
        let token = json["token"].as_str().unwrap().to_owned();
        assert_eq!(publish(&mut cores, &token), Outcome::Done);
        let (outcome, _) = register(&mut cores, "house");
        assert_eq!(outcome, Outcome::Failed(ApiError::NamespaceTaken));
        let (outcome, _) = register(&mut cores, RESERVED_NAMESPACE);
        assert_eq!(outcome, Outcome::Failed(ApiError::Reserved));
    }

    #[test]
    fn strangers_of_one_address_register_so_many_and_what_fails_is_not_counted() {
        let mut cores = TestCores::with_open_registration(2);
        let mut register = |name: &str, core| {
            let body = format!(r#"{{"name":"{name}"}}"#);
            let (outcome, _) = cores.run((core, None), |context, caller| {
                super::register(context, caller, body.as_bytes())
            });
            outcome
        };
        for number in 0..REGISTRATIONS_PER_ADDRESS_MAX_DEFAULT {
            let core = usize::from(number % 2 == 0);
            assert_eq!(register(&format!("ns-{number}"), core), Outcome::Secret);
            if number == 0 {
                let taken = register("ns-0", 1 - core);
                assert_eq!(taken, Outcome::Failed(ApiError::NamespaceTaken));
                let reserved = register(RESERVED_NAMESPACE, core);
                assert_eq!(reserved, Outcome::Failed(ApiError::Reserved));
            }
        }
        let beyond = ApiError::TooManyRegistrations { seconds: 20 };
        assert_eq!(register("one-more", 0), Outcome::Failed(beyond.clone()));
        assert_eq!(register("one-more", 1), Outcome::Failed(beyond));
    }

    #[test]
    fn a_replaced_token_is_dead_and_a_purged_namespace_empty() {
        let mut cores = TestCores::with_auth(2);
        let (_, json) = register(&mut cores, "house");
        let old = json["token"].as_str().unwrap().to_owned();
        publish(&mut cores, &old);
        let (outcome, json) = cores.run((0, Some(&old)), |context, caller| {
            replace_token(context, caller, "house")
        });
        assert_eq!(outcome, Outcome::Secret);
        let json: Value = serde_json::from_str(&json).unwrap();
        let new = json["token"].as_str().unwrap().to_owned();
        assert_eq!(
            publish(&mut cores, &old),
            Outcome::Failed(ApiError::TokenUnknown)
        );
        assert_eq!(publish(&mut cores, &new), Outcome::Done);
        let show = |cores: &mut TestCores| {
            cores.run((1, None), |context, caller| show(context, caller, "house"))
        };
        let (outcome, json) = show(&mut cores);
        assert_eq!(
            outcome,
            Outcome::Page {
                next: None,
                cursor: None
            }
        );
        assert!(json.contains(r#""entityCount":1"#), "{json}");
        let (outcome, _) = cores.run((1, Some(OPERATOR)), |context, caller| {
            delete(context, caller, ("house", Some("purge=true")))
        });
        assert_eq!(outcome, Outcome::Empty);
        assert_eq!(show(&mut cores).0, Outcome::Failed(ApiError::NoNamespace));
        assert_eq!(
            register(&mut cores, "house").0,
            Outcome::Secret,
            "nothing is left in it"
        );
    }

    #[test]
    fn only_the_operator_lists_namespaces_and_changes_the_configuration() {
        let mut cores = TestCores::with_auth(2);
        for name in ["bbb", "aaa"] {
            register(&mut cores, name);
        }
        let list = |cores: &mut TestCores, token| {
            cores.run((0, token), |context, caller| list(context, caller, None))
        };
        let (outcome, json) = list(&mut cores, Some(OPERATOR));
        assert_eq!(
            outcome,
            Outcome::Page {
                next: None,
                cursor: None
            }
        );
        assert!(json.find("aaa") < json.find("bbb"), "{json}");
        assert_eq!(
            list(&mut cores, None).0,
            Outcome::Failed(ApiError::TokenMissing)
        );
        let change = |cores: &mut TestCores, token| {
            cores.run((1, token), |context, caller| {
                config::change(context, caller, br#"{"max_batch_delete":7}"#)
            })
        };
        assert_eq!(
            change(&mut cores, Some("x")).0,
            Outcome::Failed(ApiError::OperatorUnknown)
        );
        let (outcome, json) = change(&mut cores, Some(OPERATOR));
        assert_eq!(outcome, Outcome::Done);
        assert!(json.contains(r#""max_batch_delete":7"#), "{json}");
        let (_, json) = cores.run((0, None), |context, _| Ok(config::show(context)));
        assert!(
            json.contains(r#""max_batch_delete":7"#),
            "in force on the other core: {json}"
        );
    }

    #[test]
    fn what_shows_connectors_asks_their_supervisor() {
        let mut cores = TestCores::new(2);
        let call = cores.begin((1, None), |context, caller| {
            let call = connectors::ConnectorCall {
                route: ConnectorRoute::List,
                query: None,
                body: b"",
            };
            connectors::begin(context, caller, call)
        });
        assert_eq!(call.commit_point(), None);
        cores.context(1).router.sender.deliver();
        assert_eq!(cores.asked_supervisor(), 1);
    }

    #[test]
    fn a_server_is_ready_when_every_log_is_replayed() {
        let mut cores = TestCores::new(2);
        cores.close_shard(1);
        let (outcome, _) = cores.run((0, None), |context, _| status::ready(context));
        let expected = ApiError::Recovering {
            events: 0,
            percent: 0,
        };
        assert_eq!(outcome, Outcome::Failed(expected));
        let (outcome, json) = cores.run((0, None), |context, _| status::health(context, None));
        assert_eq!(outcome, Outcome::Done);
        assert!(json.contains(r#""status":"ok""#), "{json}");
    }
}
