//! Connectors and their credentials: what changes them goes through the control plane, what shows
//! them asks their supervisor.

use super::tenants::denied;
use super::{Begun, Caller, Context, Outcome, Pending, control};
use crate::api::ApiError;
use crate::api::connectors::definition::parse_definition;
use crate::api::connectors::{ShownConnector, parse_namespace, parse_token, write_list};
use crate::api::route::ConnectorRoute;
use crate::auth::{Access, Denied, Grant, seal};
use crate::control::Command;
use crate::log::Log;
use crate::model::{ConnectorId, Scope};
use crate::shard::{ConnectorsAsked, Message, Origin, Reply, RequestId};

/// A call on its way: what it waits for.
#[derive(Debug)]
pub(crate) enum PendingConnector {
    /// The state of all connectors that whoever asks may see.
    Listing { with_owner: bool },
    /// The state of one.
    Showing { created: bool, with_owner: bool },
    /// A definition to be in force.
    Defining(ConnectorId),
    /// A connector to be gone.
    Removing,
    /// A credential to be stored or gone.
    Changing,
}

/// Whose connectors a call is about.
enum Whose {
    /// One owner's.
    Of(Box<str>),
    /// The operator asks, and names nobody.
    Everybodys,
}

const NAME_THE_OWNER: ApiError = ApiError::InvalidQuery {
    name: "namespace",
    rule: "with the operator's token it must name the namespace whose connector is meant",
};

/// Whether a call may be about what it names. It is judged after the body (API contract §1).
type Verdict = Result<(), ApiError>;

impl Whose {
    /// Whose connectors a call is about if the verdict lets it.
    fn of<L>(
        context: &Context<L>,
        caller: &Caller<'_>,
        (query, route): (Option<&str>, &ConnectorRoute<'_>),
    ) -> Result<(Self, Verdict), ApiError> {
        let access = context.access(&caller.credentials)?;
        let named = parse_namespace(query)?;
        Ok(match (access, named) {
            (Access::Open, _) => (Self::Of("".into()), Ok(())),
            (Access::Owner(grant), named) => {
                let own = grant.namespace;
                let is_own = named.is_none_or(|name| *name == *own.as_str());
                let verdict = if is_own {
                    check_grant(&grant, route)
                } else {
                    Err(ApiError::NotOwner)
                };
                (Self::Of(own.as_str().into()), verdict)
            }
            // Over HTTP a call has one token.
            (Access::Several(_), _) => (Self::Of("".into()), Err(ApiError::NotOwner)),
            (Access::Admin, None) => (Self::Everybodys, Ok(())),
            (Access::Admin, Some(name)) => {
                let known = context.tenants.registry.get(&name);
                let verdict = known.map(drop).ok_or(ApiError::NoNamespace);
                (Self::Of(name), verdict)
            }
        })
    }

    /// For what shows.
    fn any(self) -> Option<Box<str>> {
        match self {
            Self::Of(owner) => Some(owner),
            Self::Everybodys => None,
        }
    }

    /// For what changes.
    fn one(self) -> Result<Box<str>, ApiError> {
        self.any().ok_or(NAME_THE_OWNER)
    }
}

/// Whether a token may do this to a connector of its namespace. Connectors publish anywhere in it,
/// so whoever changes one needs to be allowed that too.
fn check_grant(grant: &Grant, route: &ConnectorRoute<'_>) -> Verdict {
    match route {
        ConnectorRoute::List | ConnectorRoute::Show(_) => return Ok(()),
        ConnectorRoute::Define
        | ConnectorRoute::Remove(_)
        | ConnectorRoute::StoreToken(_)
        | ConnectorRoute::RemoveToken(_) => {}
    }
    let needed = [Scope::Manage, Scope::Write].into_iter();
    let mut lacking = needed.filter(|scope| !grant.scopes.has(*scope));
    match lacking.next() {
        Some(scope) => Err(denied(Denied::NoScope(scope))),
        None if grant.prefix.is_some() => Err(ApiError::OutsidePrefix),
        None => Ok(()),
    }
}

/// What one call asks for.
#[derive(Debug)]
pub(crate) struct ConnectorCall<'c> {
    /// What, and of which connector.
    pub(crate) route: ConnectorRoute<'c>,
    /// The raw query, which may name the namespace that is meant.
    pub(crate) query: Option<&'c str>,
    /// The JSON that came with it.
    pub(crate) body: &'c [u8],
}

/// Begins a call.
///
/// # Errors
/// If it comes to nothing.
pub(crate) fn begin<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    call: ConnectorCall<'_>,
) -> Result<Begun, ApiError> {
    let pending = PendingConnector::start(context, caller, call)?;
    Ok(Begun::Waiting(Pending::Connectors(Box::new(pending))))
}

impl PendingConnector {
    fn start<L: Log>(
        context: &mut Context<L>,
        caller: &Caller<'_>,
        ConnectorCall { route, query, body }: ConnectorCall<'_>,
    ) -> Result<Self, ApiError> {
        let (whose, verdict) = Whose::of(context, caller, (query, &route))?;
        let request_id = caller.request_id;
        let id = |whose: Whose, name: &str| {
            Ok::<_, ApiError>(ConnectorId {
                owner: whose.one()?,
                name: name.into(),
            })
        };
        match route {
            ConnectorRoute::List => {
                verdict?;
                let owner = whose.any();
                let with_owner = owner.is_none();
                ask_supervisor(context, request_id, owner, None)?;
                Ok(Self::Listing { with_owner })
            }
            ConnectorRoute::Show(name) => {
                verdict?;
                let owner = whose.any();
                let with_owner = owner.is_none();
                ask_supervisor(context, request_id, owner, Some(name.into()))?;
                Ok(Self::Showing {
                    created: false,
                    with_owner,
                })
            }
            ConnectorRoute::Define => {
                let owner = whose.one()?;
                let (definition, text) = parse_definition(body, &owner)?;
                verdict?;
                let id = ConnectorId {
                    owner,
                    name: definition.name,
                };
                let command = Command::DefineConnector {
                    id: id.clone(),
                    definition: text,
                };
                control::ask(context, request_id, command)?;
                Ok(Self::Defining(id))
            }
            ConnectorRoute::Remove(name) => {
                verdict?;
                control::ask(
                    context,
                    request_id,
                    Command::RemoveConnector(id(whose, &name)?),
                )?;
                Ok(Self::Removing)
            }
            ConnectorRoute::StoreToken(name) => {
                let token = parse_token(body)?;
                verdict?;
                store_token(context, request_id, (id(whose, &name)?, &token))?;
                Ok(Self::Changing)
            }
            ConnectorRoute::RemoveToken(name) => {
                verdict?;
                control::ask(
                    context,
                    request_id,
                    Command::RemoveCredential(id(whose, &name)?),
                )?;
                Ok(Self::Changing)
            }
        }
    }

    /// Takes a reply.
    ///
    /// # Errors
    /// If the call comes to nothing.
    pub(super) fn resume<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
        reply: Reply,
    ) -> Result<Option<Outcome>, ApiError> {
        let answer = &mut context.answer;
        match (&*self, reply) {
            (_, Reply::Refused(error)) => Err(error),
            (Self::Listing { with_owner }, Reply::Connectors(all)) => {
                answer.clear();
                write_list(answer, &all, *with_owner);
                Ok(Some(Outcome::Page {
                    next: None,
                    cursor: None,
                }))
            }
            (
                Self::Showing {
                    created,
                    with_owner,
                },
                Reply::Connectors(found),
            ) => {
                answer.clear();
                one(&found, *with_owner)?.write_detail(answer, *with_owner);
                Ok(Some(if *created {
                    Outcome::Created
                } else {
                    Outcome::Done
                }))
            }
            (Self::Defining(id), Reply::Controlled) => {
                let owner = Some(id.owner.clone());
                ask_supervisor(context, request_id, owner, Some(id.name.clone()))?;
                *self = Self::Showing {
                    created: true,
                    with_owner: false,
                };
                Ok(None)
            }
            (Self::Removing, Reply::Controlled) => Ok(Some(Outcome::Empty)),
            (Self::Changing, Reply::Controlled) => {
                answer.clear();
                answer.extend_from_slice(b"{\"success\":true}");
                Ok(Some(Outcome::Done))
            }
            _ => Ok(None),
        }
    }
}

/// Asks for a credential to be encrypted and stored.
fn store_token<L: Log>(
    context: &mut Context<L>,
    request_id: RequestId,
    (id, token): (ConnectorId, &str),
) -> Result<(), ApiError> {
    if !id.is_built_in() && context.tenants.registry.connectors().get(&id).is_none() {
        return Err(ApiError::NoConnector);
    }
    let key = context.encryption_key.as_ref();
    let key = key.ok_or(ApiError::EncryptionKeyMissing)?;
    // Without randomness there is nothing to be done but to try again.
    let sealed = seal(key, &id, token).or(Err(ApiError::Overloaded))?;
    control::ask(context, request_id, Command::StoreCredential { id, sealed })
}

/// The one connector of a name; the operator may mean any of several.
fn one(found: &[ShownConnector], with_owner: bool) -> Result<&ShownConnector, ApiError> {
    match found {
        [one] => Ok(one),
        [] => Err(ApiError::NoConnector),
        _ if with_owner => Err(NAME_THE_OWNER),
        [first, ..] => Ok(first),
    }
}

/// Asks the supervisor of connectors what it knows; [`Reply::Connectors`] comes to `request_id`.
///
/// # Errors
/// [`ApiError::Overloaded`] if it is too far behind.
fn ask_supervisor<L: Log>(
    context: &mut Context<L>,
    request_id: RequestId,
    owner: Option<Box<str>>,
    name: Option<Box<str>>,
) -> Result<(), ApiError> {
    let router = &mut context.router;
    // It is the member of the mailboxes behind those of the shards.
    let supervisor = router.shards;
    if !router.sender.has_room(supervisor) {
        return Err(ApiError::Overloaded);
    }
    let asked = ConnectorsAsked {
        origin: Origin {
            core: router.core,
            request_id,
        },
        owner,
        name,
    };
    router.sender.send(supervisor, Message::Connectors(asked));
    Ok(())
}
