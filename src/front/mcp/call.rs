//! A call that waits for the service, and what its outcomes come to.
//!
//! ```text
//! begin ─▶ outcome ─▶ take ─┬─▶ Answer: the JSON-RPC answer, the end of the call
//!              ▲            └─▶ Next: what is sent meanwhile, and the next call of the service
//!              └───────────────────────────────┘
//! ```
//!
//! Most calls have one outcome. To wait is a look at what is there, then poll after poll until one
//! brings what is waited for; a stream of notifications is polls without end. So a client that
//! waits holds a poll like any other, and its cursor is exact.

use super::listen::Listen;
use super::rpc::{Code, Era, RpcError, tool_result};
use super::shape;
use super::wait::Wait;
use crate::api::json::{JsonError, write_string};
use crate::api::query::ListQuery;
use crate::api::{ApiError, encode};
use crate::limits::MCP_RESULT_BYTES_MAX;
use crate::log::Log;
use crate::service::{Begun, Context, KeptToken, Outcome};

/// See the module.
#[derive(Debug)]
pub(crate) struct McpCall {
    /// Whom its answer is for.
    pub(super) asker: Asker,
    /// What it does.
    pub(super) work: Work,
    /// It is to store an event: what it is refused for counts as a refused event.
    pub(super) stores_events: bool,
}

/// The request that a call answers.
#[derive(Debug)]
pub(super) struct Asker {
    /// The JSON text of its id.
    pub(super) id: Box<str>,
    /// How it is answered.
    pub(super) era: Era,
    /// What its sender presents.
    pub(super) token: Option<KeptToken>,
}

/// What a call does with its outcome.
#[derive(Debug)]
pub(super) enum Work {
    /// The entity is the answer.
    Entity,
    /// The page of entities is the answer.
    Entities,
    /// The page of events is the answer.
    Events,
    /// The JSON of the outcome is the answer.
    Plain,
    /// The changes of one poll are the answer.
    Changes,
    /// It waits.
    Wait(Box<Wait>),
    /// It sends notifications.
    Listen(Box<Listen>),
    /// The entity is the resource of this URI.
    Resource(Box<str>),
    /// The entities are resources.
    Resources,
    /// It is answered already: its arguments were refused, with this JSON.
    Refused(Box<str>),
}

/// What an outcome comes to.
#[derive(Debug)]
pub(crate) enum Step {
    /// The call is answered with this.
    Answer(Vec<u8>),
    /// It goes on: this is sent now, as events of its stream, and that is begun.
    Next(Vec<u8>, Begun),
}

impl McpCall {
    /// True if the answer becomes a stream of events once it has to wait.
    pub(crate) fn is_stream(&self) -> bool {
        match &self.work {
            Work::Wait(wait) => wait.progress_token.is_some(),
            Work::Listen(_) => true,
            _ => false,
        }
    }

    /// True if it is to store an event.
    pub(crate) const fn stores_events(&self) -> bool {
        self.stores_events
    }

    /// Heap that it holds.
    pub(crate) fn heap_bytes(&self) -> usize {
        let work = match &self.work {
            Work::Wait(wait) => wait.heap_bytes(),
            Work::Listen(listen) => listen.heap_bytes(),
            Work::Resource(text) | Work::Refused(text) => text.len(),
            Work::Entity
            | Work::Entities
            | Work::Events
            | Work::Plain
            | Work::Changes
            | Work::Resources => 0,
        };
        size_of::<Self>() + self.asker.id.len() + work
    }

    /// True if its answer tells of nothing that it has changed.
    pub(crate) const fn is_read(&self) -> bool {
        !matches!(self.work, Work::Plain)
    }

    /// Takes an outcome, whose JSON stands in [`Context::answer`].
    pub(crate) fn take<L: Log>(&mut self, context: &mut Context<L>, outcome: &Outcome) -> Step {
        if let Outcome::Failed(error) = outcome
            && self.stores_events
        {
            context.tally().note_refused(error);
            self.stores_events = false;
        }
        let json = std::mem::take(&mut context.answer);
        let json = String::from_utf8(json).unwrap_or_default();
        let went = match &mut self.work {
            Work::Wait(wait) => wait.take(context, &self.asker, (outcome, &json)),
            Work::Listen(listen) => listen.take(context, &self.asker, (outcome, &json)),
            _ => None,
        };
        let step = went.unwrap_or_else(|| Step::Answer(self.answer(outcome, &json)));
        context.answer = json.into_bytes();
        context.answer.clear();
        step
    }

    /// The answer if the server can't carry it out.
    pub(crate) fn refusal(&self, error: &ApiError) -> Vec<u8> {
        self.answer(&Outcome::Failed(error.clone()), "")
    }

    fn answer(&self, outcome: &Outcome, json: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let written = match outcome {
            Outcome::Failed(error) => {
                self.write_refusal(&mut out, error);
                Ok(())
            }
            _ => self.write(&mut out, outcome, json),
        };
        // What the service writes is JSON.
        if let Err(error) = written {
            out.clear();
            let error = RpcError::new(Code::Internal, error.to_string());
            error.write(&mut out, Some(&self.asker.id));
        }
        out
    }

    fn write(&self, out: &mut Vec<u8>, outcome: &Outcome, json: &str) -> Result<(), JsonError> {
        let asker = (&*self.asker.id, self.asker.era);
        let (next, cursor) = match outcome {
            Outcome::Page { next, cursor } => (next.as_deref(), cursor.as_deref()),
            Outcome::Entity { cursor, .. } => (None, str::from_utf8(cursor).ok()),
            _ => (None, None),
        };
        let mut found = Vec::new();
        match &self.work {
            Work::Entity => shape::entity(&mut found, json, cursor)?,
            Work::Entities => {
                let next = next.and_then(ListQuery::after_of);
                shape::entities(&mut found, json, (next.as_deref(), cursor))?;
            }
            Work::Events => shape::events(&mut found, json, next.is_some())?,
            Work::Changes => diff(&mut found, json)?,
            Work::Resource(uri) => return super::resources::read(out, asker, (uri, json)),
            Work::Resources => {
                let next = next.and_then(ListQuery::after_of);
                return super::resources::listed(out, asker, (json, next.as_deref()));
            }
            Work::Refused(refusal) => {
                tool_result(out, asker, (refusal, true));
                return Ok(());
            }
            Work::Plain | Work::Wait(_) | Work::Listen(_) => {
                if json.len() <= MCP_RESULT_BYTES_MAX {
                    found.extend_from_slice(json.as_bytes());
                } else {
                    plain_cut(&mut found, json)?;
                }
            }
        }
        let found = String::from_utf8(found).unwrap_or_default();
        tool_result(out, asker, (&found, false));
        Ok(())
    }

    fn write_refusal(&self, out: &mut Vec<u8>, error: &ApiError) {
        let asker = (&*self.asker.id, self.asker.era);
        match &self.work {
            Work::Resource(uri) => super::resources::refused(asker, error, Some(uri)),
            Work::Resources | Work::Listen(_) => super::resources::refused(asker, error, None),
            _ => {
                tool_result(out, asker, (&refusal(error), true));
                return;
            }
        }
        .answered()
        .write(out, Some(asker.0));
    }
}

/// What is told of a poll that does not wait.
fn diff(out: &mut Vec<u8>, json: &str) -> Result<(), JsonError> {
    let Some((changes, cursor, more)) = shape::poll(json) else {
        out.extend_from_slice(json.as_bytes());
        return Ok(());
    };
    out.push(b'{');
    let is_cut = shape::changes(out, &changes)?;
    shape::string_member(out, "cursor", Some(&cursor));
    out.extend_from_slice(if more {
        b",\"more\":true"
    } else {
        b",\"more\":false"
    });
    shape::end(out, is_cut || more, None);
    Ok(())
}

/// The answer to a publish whose operations led to more than has room: without what they led to.
fn plain_cut(out: &mut Vec<u8>, json: &str) -> Result<(), JsonError> {
    out.push(b'{');
    for (name, value) in shape::members(json)? {
        if value.text.len() < MCP_RESULT_BYTES_MAX / 16 {
            shape::member_of(out, &name, value.text);
        }
    }
    shape::end(out, true, None);
    Ok(())
}

/// The JSON of a refusal: its code, what is wrong, and what else helps to go on.
pub(super) fn refusal(error: &ApiError) -> String {
    let mut out = Vec::new();
    match error {
        // An agent knows arguments, and neither queries nor bodies.
        ApiError::InvalidQuery { name, rule } => {
            argument_refusal(&mut out, (name, rule), error.code());
        }
        _ => encode::error(&mut out, &error.to_string(), error.code()),
    }
    encode::rejection_details(&mut out, error, MCP_RESULT_BYTES_MAX - 4 * 1024);
    if let Some(seconds) = error.retry_after_seconds() {
        out.pop();
        out.extend_from_slice(format!(",\"retry_after_seconds\":{seconds}}}").as_bytes());
    }
    String::from_utf8(out).unwrap_or_default()
}

/// The code of an argument that a tool refuses by its own rule.
pub(super) const INVALID_ARGUMENT: &str = "invalid_argument";

/// Writes that an argument is not as it must be.
pub(super) fn argument_refusal(out: &mut Vec<u8>, (name, rule): (&str, &str), code: &str) {
    let mut message = Vec::new();
    write_string(&mut message, &format!("invalid argument `{name}`: {rule}"));
    out.extend_from_slice(b"{\"error\":");
    out.extend_from_slice(&message);
    out.extend_from_slice(format!(",\"code\":\"{code}\"}}").as_bytes());
}
