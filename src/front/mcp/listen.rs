//! `subscriptions/listen`: a stream that says which resources have changed, until its client goes.
//!
//! The acknowledgement is sent once the place of now is known: every later change is told. A client
//! that is told that a resource has changed reads it, so several changes may be told as one.

use super::arguments::Query;
use super::call::{Asker, Step};
use super::resources::id_of;
use super::rpc::{Code, RpcError, notification, result};
use super::shape;
use crate::api::ApiError;
use crate::api::json::{Kind, RawValue, write_string};
use crate::api::stream_query::ChangesQuery;
use crate::limits::{CHANGES_MAX, MCP_CHANGES_BYTES_MAX, MCP_PROGRESS_MS, STREAM_ENTITY_IDS_MAX};
use crate::log::Log;
use crate::service::{Begun, Context, KeptToken, Outcome, changes};

/// A stream of notifications.
#[derive(Debug)]
pub(super) struct Listen {
    /// The entities, each with the URI that it was named by.
    subscribed: Vec<(Box<str>, Box<str>)>,
    is_acknowledged: bool,
}

/// What an entity takes besides its texts, bytes, rounded up.
const TEXTS_OVERHEAD_BYTES: usize = 96;

/// An id that no entity has: nobody may write one to the reserved namespace.
const NOTHING: &str = "flux-core/none";

impl Listen {
    /// Begins a stream of what `notifications` names. Lists never change here, so of the other
    /// kinds none is honoured.
    ///
    /// # Errors
    /// If it is not as it must be.
    pub(super) fn begin<L: Log>(
        context: &mut Context<L>,
        (notifications, token): (Option<&RawValue<'_>>, Option<KeptToken>),
    ) -> Result<(Self, Begun), RpcError> {
        let rule = |rule: &str| {
            RpcError::new(Code::Params, format!("invalid `notifications`: {rule}")).answered()
        };
        let given = notifications.filter(|given| given.kind == Kind::Object);
        let given = given.ok_or_else(|| rule("an object is needed"))?;
        let mut subscribed: Vec<(Box<str>, Box<str>)> = Vec::new();
        if let Some(uris) = shape::member(given.text, "resourceSubscriptions") {
            let uris = shape::elements(uris.text);
            let uris = uris.map_err(|error| rule(&format!("`resourceSubscriptions`: {error}")))?;
            for uri in &uris {
                let uri = super::message::text(Some(uri));
                let uri = uri.ok_or_else(|| rule("`resourceSubscriptions` holds strings"))?;
                // What is no resource of this server is not honoured.
                if let Some(id) = id_of(&uri).filter(|id| !id.ends_with('*')) {
                    subscribed.push((id.into(), (&*uri).into()));
                }
            }
        }
        if subscribed.len() > STREAM_ENTITY_IDS_MAX {
            return Err(rule("at most 64 resources"));
        }
        let listen = Self {
            subscribed,
            is_acknowledged: false,
        };
        let begun = listen
            .poll(context, token, None)
            .unwrap_or_else(Begun::from);
        Ok((listen, begun))
    }

    /// Heap that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        let texts = self.subscribed.iter();
        let texts = texts.map(|(id, uri)| id.len() + uri.len() + TEXTS_OVERHEAD_BYTES);
        size_of::<Self>() + texts.sum::<usize>()
    }

    fn poll<L: Log>(
        &self,
        context: &mut Context<L>,
        token: Option<KeptToken>,
        since: Option<&str>,
    ) -> Result<Begun, ApiError> {
        context.check_serving()?;
        let mut query = Query::default();
        for (id, _) in &self.subscribed {
            query.add("entity_id", Some(id));
        }
        if self.subscribed.is_empty() {
            query.add("entity_id", Some(NOTHING));
        }
        query.add("since", since);
        let mut query = ChangesQuery::parse(Some(&query.text))?;
        query.bytes_max = MCP_CHANGES_BYTES_MAX;
        query.limit = CHANGES_MAX;
        query.wait_ms = MCP_PROGRESS_MS;
        changes::begin(context, query, token)
    }

    /// Takes an outcome; `None` if it is a refusal, which ends the stream.
    pub(super) fn take<L: Log>(
        &mut self,
        context: &mut Context<L>,
        asker: &Asker,
        (outcome, json): (&Outcome, &str),
    ) -> Option<Step> {
        if context.counters.is_stopping() {
            let mut out = Vec::new();
            let members = format!(
                "\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{}}},\
                 \"resultType\":\"complete\"",
                asker.id
            );
            result(&mut out, (&asker.id, super::rpc::Era::Legacy), |out| {
                out.extend_from_slice(members.as_bytes());
            });
            return Some(Step::Answer(out));
        }
        let mut notices = Vec::new();
        let since = match outcome {
            // How far it came can't be told: anything may have changed, and it goes on from now.
            Outcome::Failed(ApiError::HistoryRemoved { .. } | ApiError::CursorBeyondEnd) => {
                for (_, uri) in &self.subscribed {
                    updated(&mut notices, asker, uri);
                }
                None
            }
            Outcome::Failed(_) => return None,
            _ => {
                let (changes, cursor, _) = shape::poll(json)?;
                if !std::mem::replace(&mut self.is_acknowledged, true) {
                    self.acknowledge(&mut notices, asker);
                }
                for change in &changes {
                    let id = shape::text_member(change.text, "entity_id")?;
                    for (_, uri) in self.subscribed.iter().filter(|(other, _)| **other == *id) {
                        updated(&mut notices, asker, uri);
                    }
                }
                if notices.is_empty() {
                    // A comment keeps proxies from closing what is quiet.
                    notices.extend_from_slice(b":\n\n");
                }
                Some(cursor)
            }
        };
        let begun = self.poll(context, asker.token, since.as_deref());
        Some(Step::Next(notices, begun.unwrap_or_else(Begun::from)))
    }

    fn acknowledge(&self, out: &mut Vec<u8>, asker: &Asker) {
        let mut uris = Vec::new();
        for (_, uri) in &self.subscribed {
            if !uris.is_empty() {
                uris.push(b',');
            }
            write_string(&mut uris, uri);
        }
        let honoured = match &*String::from_utf8_lossy(&uris) {
            "" => String::new(),
            uris => format!("\"resourceSubscriptions\":[{uris}]"),
        };
        let params = format!("{},\"notifications\":{{{honoured}}}", meta(asker));
        let mut message = Vec::new();
        notification(
            &mut message,
            "notifications/subscriptions/acknowledged",
            &params,
        );
        super::write_event(out, &message);
    }
}

fn meta(asker: &Asker) -> String {
    format!(
        "\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":{}}}",
        asker.id
    )
}

fn updated(out: &mut Vec<u8>, asker: &Asker, uri: &str) {
    let mut params = format!("{},\"uri\":", meta(asker)).into_bytes();
    write_string(&mut params, uri);
    let mut message = Vec::new();
    let params = String::from_utf8_lossy(&params);
    notification(&mut message, "notifications/resources/updated", &params);
    super::write_event(out, &message);
}
