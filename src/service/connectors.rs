//! Calls about connectors: what changes them goes through the control plane, what shows them asks their supervisor.

use super::context::{Answer, CORS_ORIGIN, Hub};
use super::namespaces::Progress;
use super::pending::RequestMeta;
use crate::api::ApiError;
use crate::api::connectors::{ShownConnector, parse_namespace, parse_token, write_list};
use crate::api::route::ConnectorRoute;
use crate::auth::Access;
use crate::connectors::{parse_definition, seal};
use crate::control::{Command, ConnectorId};
use crate::shard::{ConnectorsAsked, Message, Origin, Reply, RequestId};
use crate::wire::http1::Head;

/// A call on its way: what it waits for.
#[derive(Debug)]
pub(crate) enum ConnectorCall {
    /// The state of all connectors that whoever asks may see.
    Listing { with_owner: bool },
    /// The state of one.
    Showing { status: u16, with_owner: bool },
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

impl Whose {
    fn of(hub: &Hub, head: &Head<'_>) -> Result<Self, ApiError> {
        let access = hub.access(head)?;
        let named = parse_namespace(head.query)?;
        match (access, named) {
            (Access::Open, _) => Ok(Self::Of("".into())),
            (Access::Owner(own), named) => match named {
                Some(name) if *name != *own.as_str() => Err(ApiError::NotOwner),
                Some(_) | None => Ok(Self::Of(own.as_str().into())),
            },
            (Access::Admin, None) => Ok(Self::Everybodys),
            (Access::Admin, Some(name)) => match hub.registry.get(&name) {
                Some(_) => Ok(Self::Of(name)),
                None => Err(ApiError::NoNamespace),
            },
        }
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

impl ConnectorCall {
    /// Begins a call.
    ///
    /// # Errors
    /// Where it comes to nothing.
    pub(crate) fn start(
        hub: &mut Hub,
        (head, body): (&Head<'_>, &[u8]),
        route: ConnectorRoute<'_>,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        let whose = Whose::of(hub, head)?;
        let id = |whose: Whose, name: &str| {
            Ok::<_, ApiError>(ConnectorId {
                owner: whose.one()?,
                name: name.into(),
            })
        };
        match route {
            ConnectorRoute::List => {
                let owner = whose.any();
                let with_owner = owner.is_none();
                hub.ask_connectors(request_id, owner, None)?;
                Ok(Self::Listing { with_owner })
            }
            ConnectorRoute::Show(name) => {
                let owner = whose.any();
                let with_owner = owner.is_none();
                hub.ask_connectors(request_id, owner, Some(name.into()))?;
                Ok(Self::Showing {
                    status: 200,
                    with_owner,
                })
            }
            ConnectorRoute::Define => {
                let owner = whose.one()?;
                let (definition, text) = parse_definition(body, &owner)?;
                let id = ConnectorId {
                    owner,
                    name: definition.name,
                };
                let command = Command::DefineConnector {
                    id: id.clone(),
                    definition: text,
                };
                hub.ask_control(request_id, command)?;
                Ok(Self::Defining(id))
            }
            ConnectorRoute::Remove(name) => {
                hub.ask_control(request_id, Command::RemoveConnector(id(whose, &name)?))?;
                Ok(Self::Removing)
            }
            ConnectorRoute::StoreToken(name) => {
                let id = id(whose, &name)?;
                if !id.is_built_in() && hub.registry.connectors().get(&id).is_none() {
                    return Err(ApiError::NoConnector);
                }
                let token = parse_token(body)?;
                let key = hub.config.encryption_key.as_ref();
                let key = key.ok_or(ApiError::EncryptionKeyMissing)?;
                // Without randomness there is nothing to be done but to try again.
                let sealed = seal(key, &id, &token).or(Err(ApiError::Overloaded))?;
                hub.ask_control(request_id, Command::StoreCredential { id, sealed })?;
                Ok(Self::Changing)
            }
            ConnectorRoute::RemoveToken(name) => {
                hub.ask_control(request_id, Command::RemoveCredential(id(whose, &name)?))?;
                Ok(Self::Changing)
            }
        }
    }

    /// Takes a reply; writes the answer where it was the last.
    ///
    /// # Errors
    /// Where the call comes to nothing.
    pub(crate) fn take(
        &mut self,
        hub: &mut Hub,
        (request_id, meta): (RequestId, RequestMeta),
        reply: Reply,
        out: &mut Vec<u8>,
    ) -> Result<Progress, ApiError> {
        match (&*self, reply) {
            (_, Reply::Refused(error)) => return Err(error),
            (Self::Listing { with_owner }, Reply::Connectors(all)) => {
                let mut body = Vec::new();
                write_list(&mut body, &all, *with_owner);
                write(hub, meta, (200, &body), out);
            }
            (Self::Showing { status, with_owner }, Reply::Connectors(found)) => {
                let mut body = Vec::new();
                one(&found, *with_owner)?.write_detail(&mut body, *with_owner);
                write(hub, meta, (*status, &body), out);
            }
            (Self::Defining(id), Reply::Controlled) => {
                let owner = Some(id.owner.clone());
                hub.ask_connectors(request_id, owner, Some(id.name.clone()))?;
                *self = Self::Showing {
                    status: 201,
                    with_owner: false,
                };
                return Ok(Progress::Waiting);
            }
            (Self::Removing, Reply::Controlled) => write(hub, meta, (204, b""), out),
            (Self::Changing, Reply::Controlled) => {
                write(hub, meta, (200, b"{\"success\":true}"), out);
            }
            _ => return Ok(Progress::Waiting),
        }
        Ok(Progress::Done)
    }
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

fn write(hub: &Hub, meta: RequestMeta, (status, body): (u16, &[u8]), out: &mut Vec<u8>) {
    let answer = Answer {
        status,
        headers: &[CORS_ORIGIN],
        body,
    };
    hub.write_json(out, meta, answer);
}

impl Hub {
    /// Asks the supervisor of connectors what it knows; [`Reply::Connectors`] comes to `ticket`.
    ///
    /// # Errors
    /// Where it is too far behind.
    fn ask_connectors(
        &mut self,
        request_id: RequestId,
        owner: Option<Box<str>>,
        name: Option<Box<str>>,
    ) -> Result<(), ApiError> {
        let supervisor = self.shards;
        if !self.sender.has_room(supervisor) {
            return Err(ApiError::Overloaded);
        }
        let asked = ConnectorsAsked {
            origin: Origin {
                core: self.core,
                request_id,
            },
            owner,
            name,
        };
        self.sender.send(supervisor, Message::Connectors(asked));
        Ok(())
    }
}
