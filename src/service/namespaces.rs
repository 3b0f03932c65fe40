//! Calls about namespaces and the configuration: those that take several steps, across cores.

use super::access::Operator;
use super::connectors::ConnectorCall;
use super::context::{Answer, CORS_ORIGIN, Hub};
use super::namespace_page::NamespacePage;
use super::pending::RequestMeta;
use crate::api::namespaces::{self, NamespacesQuery};
use crate::api::route::ConnectorRoute;
use crate::api::{ApiError, config};
use crate::auth::Token;
use crate::control::{Command, NameRule, Namespace, automatic_name, check_name};
use crate::engine::NamespaceCounts;
use crate::limits::{NAME_ATTEMPTS_MAX, PURGE_ENTITIES_MAX};
use crate::model::place_key;
use crate::model::{ConfigPatch, RESERVED_NAMESPACE};
use crate::shard::{Reply, RequestId, ShardRequest};
use crate::wire::http1::Head;

/// A call on its way.
#[derive(Debug)]
pub(crate) struct ControlCall {
    meta: RequestMeta,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Waits for what the name holds: entities that are left in it would have a new owner.
    Looking(Registration),
    Registering(Registration),
    Replacing {
        id: Box<str>,
        name: Box<str>,
        token: Token,
    },
    Deleting {
        name: Box<str>,
        purge: bool,
    },
    /// Waits for some entities of a deleted namespace, or for their deletion.
    Purging {
        name: Box<str>,
    },
    Showing(NamespacePage),
    Configuring,
    Connectors(ConnectorCall),
}

#[derive(Debug)]
struct Registration {
    namespace: Namespace,
    token: Token,
    /// The server chose the name; so many that it chose were taken.
    attempts: Option<usize>,
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It waits for a reply.
    Waiting,
    /// Its answer is written.
    Done,
}

impl ControlCall {
    /// For the answer's head.
    pub(crate) fn meta(&self) -> RequestMeta {
        self.meta
    }

    /// `POST /api/namespaces`.
    ///
    /// # Errors
    /// Where nothing is registered.
    pub(crate) fn register(
        hub: &mut Hub,
        (head, body): (&Head<'_>, &[u8]),
        meta: RequestMeta,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        let operator = match hub.config.admin {
            Some(_) => hub.operator(head)?,
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
        let id = hub.ids.next(hub.now.as_millis()).simple();
        let mut registration = Registration {
            namespace: Namespace {
                id: format!("ns_{id}").into(),
                name: name.clone().unwrap_or_default(),
                token: token.hash(),
                created: hub.now,
            },
            token,
            attempts: name.is_none().then_some(0),
        };
        registration.look(hub, request_id)?;
        Ok(Self {
            meta,
            step: Step::Looking(registration),
        })
    }

    /// `POST /api/namespaces/:name/token`.
    ///
    /// # Errors
    /// Where the token stays as it is.
    pub(crate) fn replace_token(
        hub: &mut Hub,
        (head, name): (&Head<'_>, &str),
        meta: RequestMeta,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        let access = hub.access(head)?;
        if name == RESERVED_NAMESPACE {
            return Err(ApiError::Reserved);
        }
        let known = hub.registry.get(name).ok_or(ApiError::NoNamespace)?;
        let by = match access.charged() {
            None => None,
            Some(own) if own.as_str() == name => Some(known.token),
            Some(_) => return Err(ApiError::NotOwner),
        };
        let (id, name) = (known.id.clone(), known.name.clone());
        let token = new_token()?;
        let command = Command::ReplaceToken {
            name: name.clone(),
            by,
            token: token.hash(),
        };
        hub.ask_control(request_id, command)?;
        Ok(Self {
            meta,
            step: Step::Replacing { id, name, token },
        })
    }

    /// `DELETE /api/namespaces/:name`.
    ///
    /// # Errors
    /// Where it is not deleted.
    pub(crate) fn delete(
        hub: &mut Hub,
        (head, name): (&Head<'_>, &str),
        meta: RequestMeta,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        let operator = hub.operator(head)?;
        let purge = namespaces::parse_purge(head.query)?;
        if operator == Operator::No {
            return Err(ApiError::AdminOnly);
        }
        if name == RESERVED_NAMESPACE {
            return Err(ApiError::Reserved);
        }
        let known = hub.registry.get(name).ok_or(ApiError::NoNamespace)?;
        let name = known.name.clone();
        hub.ask_control(request_id, Command::Delete { name: name.clone() })?;
        Ok(Self {
            meta,
            step: Step::Deleting { name, purge },
        })
    }

    /// `GET /api/namespaces/:name`.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub(crate) fn show(
        hub: &mut Hub,
        name: &str,
        meta: RequestMeta,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            meta,
            step: Step::Showing(NamespacePage::one(hub, name, request_id)?),
        })
    }

    /// `GET /api/namespaces`.
    ///
    /// # Errors
    /// Where the operator does not ask, or for something else than there is.
    pub(crate) fn list(
        hub: &mut Hub,
        head: &Head<'_>,
        meta: RequestMeta,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        let operator = hub.operator(head)?;
        let query = NamespacesQuery::parse(head.query)?;
        if operator == Operator::No {
            return Err(ApiError::AdminOnly);
        }
        Ok(Self {
            meta,
            step: Step::Showing(NamespacePage::list(hub, query, request_id)?),
        })
    }

    /// `PUT /api/admin/config`.
    ///
    /// # Errors
    /// Where it stays as it is.
    pub(crate) fn configure(
        hub: &mut Hub,
        (head, body): (&Head<'_>, &[u8]),
        meta: RequestMeta,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        if hub.operator(head)? == Operator::No {
            return Err(ApiError::TokenUnknown);
        }
        let patch: ConfigPatch = config::parse(body)?;
        hub.ask_control(request_id, Command::Configure(patch))?;
        Ok(Self {
            meta,
            step: Step::Configuring,
        })
    }

    /// What is under `/api/connectors`.
    ///
    /// # Errors
    /// Where it comes to nothing.
    pub(crate) fn connectors(
        hub: &mut Hub,
        request: (&Head<'_>, &[u8]),
        route: ConnectorRoute<'_>,
        (meta, request_id): (RequestMeta, RequestId),
    ) -> Result<Self, ApiError> {
        Ok(Self {
            meta,
            step: Step::Connectors(ConnectorCall::start(hub, request, route, request_id)?),
        })
    }

    /// Where nothing has to be waited for, writes the answer.
    pub(crate) fn begin(&self, hub: &Hub, out: &mut Vec<u8>) -> Progress {
        match &self.step {
            Step::Showing(page) if page.is_done() => {
                page.write(hub, self.meta, out);
                Progress::Done
            }
            _ => Progress::Waiting,
        }
    }

    /// Takes a reply; writes the answer where it was the last.
    ///
    /// # Errors
    /// Where the call ends without having done what it asked for.
    pub(crate) fn take(
        &mut self,
        hub: &mut Hub,
        request_id: RequestId,
        (from, reply): (u16, Reply),
        out: &mut Vec<u8>,
    ) -> Result<Progress, ApiError> {
        let step = std::mem::replace(&mut self.step, Step::Configuring);
        match (step, reply) {
            (Step::Connectors(mut call), reply) => {
                let progress = call.take(hub, (request_id, self.meta), reply, out)?;
                self.step = Step::Connectors(call);
                return Ok(progress);
            }
            (Step::Looking(registration), Reply::Namespaces(held)) => {
                self.step = registration.looked(hub, request_id, &held)?;
            }
            (Step::Registering(mut registration), Reply::Refused(ApiError::NamespaceTaken))
                if registration.attempts.is_some() =>
            {
                registration.look(hub, request_id)?;
                self.step = Step::Looking(registration);
            }
            (_, Reply::Refused(error))
            | (Step::Purging { .. }, Reply::DeletedMany(_, Some(error))) => return Err(error),
            (Step::Registering(done), Reply::Controlled) => {
                let Namespace { id, name, .. } = &done.namespace;
                self.write_token(hub, (id, name, &done.token), out);
                return Ok(Progress::Done);
            }
            (Step::Replacing { id, name, token }, Reply::Controlled) => {
                self.write_token(hub, (&id, &name, &token), out);
                return Ok(Progress::Done);
            }
            (Step::Deleting { name, purge: true }, Reply::Controlled)
            | (Step::Purging { name }, Reply::DeletedMany(_, None)) => {
                let request = ShardRequest::Collect {
                    namespace: Some(name.clone()),
                    prefix: None,
                    max: PURGE_ENTITIES_MAX,
                };
                hub.ask(place_key(&name, hub.shards), request_id, request)?;
                self.step = Step::Purging { name };
            }
            (Step::Purging { name }, Reply::Ids(ids)) if !ids.is_empty() => {
                let request = ShardRequest::DeleteMany {
                    ids,
                    done: Vec::new(),
                    charged: None,
                };
                hub.ask(from, request_id, request)?;
                self.step = Step::Purging { name };
            }
            (Step::Purging { .. }, Reply::Ids(_))
            | (Step::Deleting { purge: false, .. }, Reply::Controlled) => {
                self.write(hub, 204, &[], out);
                return Ok(Progress::Done);
            }
            (Step::Showing(mut page), Reply::Namespaces(held)) => {
                page.take(hub, request_id, (from, &held))?;
                self.step = Step::Showing(page);
                return Ok(self.begin(hub, out));
            }
            (Step::Configuring, Reply::Controlled) => {
                let mut body = Vec::new();
                config::encode(&mut body, &hub.runtime);
                self.write(hub, 200, &body, out);
                return Ok(Progress::Done);
            }
            (step, _) => self.step = step,
        }
        Ok(Progress::Waiting)
    }

    fn write_token(&self, hub: &Hub, (id, name, token): (&str, &str, &Token), out: &mut Vec<u8>) {
        let mut body = Vec::new();
        namespaces::with_token(&mut body, id, name, token.reveal());
        let answer = Answer {
            status: 200,
            // RFC 9111 §5.2.2.5: a secret is not for caches.
            headers: &[("Cache-Control", "no-store"), CORS_ORIGIN],
            body: &body,
        };
        hub.write_json(out, self.meta, answer);
    }

    fn write(&self, hub: &Hub, status: u16, body: &[u8], out: &mut Vec<u8>) {
        let answer = Answer {
            status,
            headers: &[CORS_ORIGIN],
            body,
        };
        hub.write_json(out, self.meta, answer);
    }
}

impl Registration {
    /// Asks what the name holds; where the server chooses the name, for one that is not registered.
    fn look(&mut self, hub: &mut Hub, request_id: RequestId) -> Result<(), ApiError> {
        if let Some(attempts) = &mut self.attempts {
            loop {
                if *attempts >= NAME_ATTEMPTS_MAX {
                    return Err(ApiError::Overloaded);
                }
                let name = automatic_name(*attempts, &mut || fastrand::u64(..));
                *attempts += 1;
                if hub.registry.get(&name).is_none() {
                    self.namespace.name = name.into();
                    break;
                }
            }
        } else if hub.registry.get(&self.namespace.name).is_some() {
            return Err(ApiError::NamespaceTaken);
        }
        let name = self.namespace.name.clone();
        let shard = place_key(&name, hub.shards);
        hub.ask(shard, request_id, ShardRequest::Namespaces([name].into()))
    }

    /// The name holds this: the next step.
    fn looked(
        mut self,
        hub: &mut Hub,
        request_id: RequestId,
        held: &[NamespaceCounts],
    ) -> Result<Step, ApiError> {
        if held.iter().all(|held| held.entities == 0) {
            hub.ask_control(request_id, Command::Register(self.namespace.clone()))?;
            return Ok(Step::Registering(self));
        }
        if self.attempts.is_none() {
            return Err(ApiError::NamespaceNotEmpty);
        }
        self.look(hub, request_id)?;
        Ok(Step::Looking(self))
    }
}

fn new_token() -> Result<Token, ApiError> {
    // Without randomness there is nothing to be done but to try again.
    Token::generate().or(Err(ApiError::Overloaded))
}
