//! The front of the Model Context Protocol: one JSON-RPC message → a call of the service, its
//! outcome → the answer. HTTP carries both (`front/http`); this folder knows neither its bytes nor
//! the order of answers.
//!
//! It is stateless: each request says all that there is to know, and no session is made. Both eras
//! of the protocol are answered on one path: 2026-07-28, and the versions that begin with
//! `initialize`. A tool is a call that REST has, so that tokens, scopes, privacy, rates, memory and
//! commit points are decided where they always are. A refusal of such a call is a result with our
//! code, from which an agent can go on; JSON-RPC errors are for what is wrong with the message.
//!
//! Source: modelcontextprotocol.io/specification/2026-07-28 (Overview; Streamable HTTP; Tools;
//! Resources; Prompts; Subscriptions), and the same of 2025-11-25.
//!
//! | file | job |
//! | --- | --- |
//! | `message` | one JSON-RPC message |
//! | `rpc` | JSON-RPC results, errors and notifications |
//! | `era` | which version a request is of, and whether its head agrees with it |
//! | `tools` | the tools and how they describe themselves |
//! | `arguments` | the arguments of a tool → the parameters of a call |
//! | `call` | a call that waits, and what its outcomes come to |
//! | `shape` | what a call came to → the JSON of a tool, within its bound |
//! | `wait` | `flux_wait_for` |
//! | `listen` | `subscriptions/listen` |
//! | `resources` | entities as resources |
//! | `prompts` | the prompt that teaches coordination |
//! | `invariants` | what holds of every message, whatever its bytes are |

mod arguments;
mod call;
mod era;
mod invariants;
mod listen;
mod message;
mod prompts;
mod resources;
mod rpc;
mod shape;
mod tools;
mod wait;

pub(crate) use call::{McpCall, Step};
pub use invariants::check_message;

use crate::api::history::EventsQuery;
use crate::api::json::{Kind, write_string};
use crate::api::query::{ListQuery, ReadQuery};
use crate::api::stream_query::ChangesQuery;
use crate::history::HistoryQuery;
use crate::limits::MCP_CHANGES_BYTES_MAX;
use crate::log::Log;
use crate::service::deferred::DeferredRead;
use crate::service::publish::{self, Besides};
use crate::service::{Begun, Caller, Context, Credentials, KeptToken, changes, delete, list, read};
use crate::wire::http1::Head;
use arguments::{Arguments, Query, Refused, Target};
use call::{Asker, INVALID_ARGUMENT, Work};
use era::{Headers, LEGACY, MODERN};
use listen::Listen;
use message::{Message, text};
use rpc::{Code, Era, RpcError, result};
use tools::Tool;
use wait::Wait;

/// What a message comes to.
#[derive(Debug)]
pub(crate) enum Received {
    /// An answer, with its HTTP status.
    Answer(u16, Vec<u8>),
    /// An answer around static bytes, with status 200.
    Around {
        /// What comes before them.
        before: Vec<u8>,
        /// They.
        bytes: &'static [u8],
        /// What comes behind them.
        behind: Vec<u8>,
    },
    /// There is nothing to answer.
    Accepted,
    /// A call of the service has begun.
    Begun(Begun, Box<McpCall>),
}

/// Writes an event of a stream.
pub(crate) fn write_event(out: &mut Vec<u8>, message: &[u8]) {
    out.extend_from_slice(b"event: message\ndata: ");
    out.extend_from_slice(message);
    out.extend_from_slice(b"\n\n");
}

/// Takes the body of a request.
pub(crate) fn receive<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (head, body): (&Head<'_>, &[u8]),
) -> Received {
    let message = match Message::read(body) {
        Ok(message) => message,
        Err(refused) => return refuse(refused.0, &refused.1),
    };
    let era = match Headers::of(head).judge(&message) {
        Ok(era) => era,
        Err(error) => return refuse(message.id, &error),
    };
    let Some(id) = message.id else {
        let is_taken = message.method.starts_with("notifications/") || message.is_response;
        return if is_taken {
            Received::Accepted
        } else {
            refuse(
                None,
                &RpcError::new(Code::Request, "a request needs an `id`"),
            )
        };
    };
    if message.is_response {
        return Received::Accepted;
    }
    let asker = Asker {
        id: id.into(),
        era,
        token: token_of(context, caller),
    };
    match dispatch(context, caller, (&message, asker)) {
        Ok(received) => received,
        Err(error) => {
            // An earlier client expects the answer to its call, whatever it says.
            let is_legacy = era == Era::Legacy;
            refuse(Some(id), &if is_legacy { error.answered() } else { error })
        }
    }
}

fn refuse(id: Option<&str>, error: &RpcError) -> Received {
    let mut out = Vec::new();
    error.write(&mut out, id);
    Received::Answer(error.status, out)
}

/// What a reader presents, for all that its call does. It was looked up before.
fn token_of<L>(context: &Context<L>, caller: &Caller<'_>) -> Option<KeptToken> {
    match caller.credentials {
        Credentials::None => None,
        _ if !context.tenants.auth => None,
        credentials => credentials.token().ok(),
    }
}

/// How long a list that never changes may be kept, by anyone: an hour.
const STATIC: &[u8] = b"\"ttlMs\":3600000,\"cacheScope\":\"public\",";

fn dispatch<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (message, asker): (&Message<'_>, Asker),
) -> Result<Received, RpcError> {
    let era = asker.era;
    let answer = |members: &[&[u8]]| {
        let mut out = Vec::new();
        result(&mut out, (&asker.id, era), |out| {
            for member in members {
                out.extend_from_slice(member);
            }
            if era == Era::Modern {
                out.extend_from_slice(STATIC);
            }
        });
        Ok(Received::Answer(200, out))
    };
    match (&*message.method, era) {
        ("server/discover", Era::Modern) => answer(&[&discovered()]),
        ("initialize", Era::Legacy) => answer(&[&initialized(message)?]),
        ("ping", Era::Legacy) => answer(&[]),
        ("tools/list", _) => {
            check_cursor(message)?;
            Ok(list_tools(&asker))
        }
        ("resources/templates/list", _) => {
            check_cursor(message)?;
            answer(&[resources::TEMPLATES.as_bytes()])
        }
        ("prompts/list", _) => {
            check_cursor(message)?;
            answer(&[prompts::PROMPTS.as_bytes()])
        }
        ("prompts/get", _) => {
            let members = prompts::get(message)?;
            let mut out = Vec::new();
            result(&mut out, (&asker.id, era), |out| {
                out.extend_from_slice(&members);
            });
            Ok(Received::Answer(200, out))
        }
        ("tools/call", _) => call_tool(context, caller, (message, asker)),
        ("resources/list", _) => list_resources(context, caller, (message, asker)),
        ("resources/read", _) => read_resource(context, caller, (message, asker)),
        ("subscriptions/listen", Era::Modern) => {
            let asked = (message.params.notifications.as_ref(), asker.token);
            let (listen, begun) = Listen::begin(context, asked)?;
            Ok(begin(asker, Work::Listen(Box::new(listen)), begun))
        }
        (method, _) => {
            let error = format!("Method not found: {method}");
            Err(RpcError::new(Code::Method, error))
        }
    }
}

fn begin(asker: Asker, work: Work, begun: Begun) -> Received {
    let call = McpCall {
        asker,
        work,
        stores_events: false,
    };
    Received::Begun(begun, Box::new(call))
}

/// The tools, around which only the id of the request and the version differ.
fn list_tools(asker: &Asker) -> Received {
    let (mut before, mut at) = (Vec::new(), 0);
    result(&mut before, (&asker.id, asker.era), |out| {
        out.extend_from_slice(b"\"tools\":");
        at = out.len();
        out.push(b',');
        if asker.era == Era::Modern {
            out.extend_from_slice(STATIC);
        }
    });
    let behind = before.split_off(at);
    Received::Around {
        before,
        bytes: tools::list_in_one_line().as_bytes(),
        behind,
    }
}

/// Of lists that have one page.
fn check_cursor(message: &Message<'_>) -> Result<(), RpcError> {
    match &message.params.cursor {
        Some(cursor) if cursor.kind != Kind::Null => {
            Err(RpcError::new(Code::Params, "invalid `cursor`: the list has one page").answered())
        }
        _ => Ok(()),
    }
}

/// The members of the result of `server/discover`.
fn discovered() -> Vec<u8> {
    let mut out = Vec::from(b"\"supportedVersions\":[");
    let versions = [MODERN].into_iter().chain(LEGACY);
    for (index, version) in versions.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(&mut out, version);
    }
    out.extend_from_slice(b"],\"capabilities\":{\"tools\":{},\"resources\":{\"subscribe\":true},");
    out.extend_from_slice(b"\"prompts\":{}},\"instructions\":");
    write_string(&mut out, prompts::INSTRUCTIONS);
    out.push(b',');
    out
}

/// The members of the result of `initialize`: the version that was asked for, or the newest that
/// begins so. Subscriptions need a session there, so none are offered.
fn initialized(message: &Message<'_>) -> Result<Vec<u8>, RpcError> {
    let asked = text(message.params.protocol_version.as_ref())
        .ok_or_else(|| RpcError::new(Code::Params, "`protocolVersion` is needed, a string"))?;
    let version = LEGACY.into_iter().find(|it| *it == asked);
    let version = version.unwrap_or(LEGACY[0]);
    let mut out = Vec::new();
    out.extend_from_slice(format!("\"protocolVersion\":\"{version}\",").as_bytes());
    out.extend_from_slice(b"\"capabilities\":{\"tools\":{},\"resources\":{},\"prompts\":{}},");
    out.extend_from_slice(b"\"serverInfo\":{\"name\":\"flux\",\"title\":\"Flux\",\"version\":\"");
    out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    out.extend_from_slice(b"\"},\"instructions\":");
    write_string(&mut out, prompts::INSTRUCTIONS);
    out.push(b',');
    Ok(out)
}

fn list_resources<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (message, asker): (&Message<'_>, Asker),
) -> Result<Received, RpcError> {
    let cursor = match &message.params.cursor {
        Some(cursor) if cursor.kind != Kind::Null => {
            let cursor = text(Some(cursor));
            let invalid = || RpcError::new(Code::Params, "invalid `cursor`").answered();
            Some(resources::after(&cursor.ok_or_else(invalid)?)?)
        }
        _ => None,
    };
    let mut query = Query::default();
    query.add("limit", Some(&crate::limits::MCP_LIST_DEFAULT.to_string()));
    // No property is shown.
    query.add("fields", Some(","));
    query.add("after", cursor.as_deref());
    let begun = ListQuery::parse(Some(&query.text))
        .and_then(|query| list::begin(context, caller, query))
        .unwrap_or_else(Begun::from);
    Ok(begin(asker, Work::Resources, begun))
}

fn read_resource<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (message, asker): (&Message<'_>, Asker),
) -> Result<Received, RpcError> {
    let uri = text(message.params.uri.as_ref());
    let uri = uri.ok_or_else(|| RpcError::new(Code::Params, "`uri` is needed, a string"))?;
    let Some(id) = resources::id_of(&uri) else {
        let absent = crate::api::ApiError::NoEntity;
        let asked = (&*asker.id, asker.era);
        return Err(resources::refused(asked, &absent, Some(&uri)));
    };
    let begun = read::begin(context, caller, (&id, ReadQuery::default()));
    let work = Work::Resource((&*uri).into());
    Ok(begin(asker, work, begun.unwrap_or_else(Begun::from)))
}

fn call_tool<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (message, asker): (&Message<'_>, Asker),
) -> Result<Received, RpcError> {
    let name = text(message.params.name.as_ref());
    let name = name.ok_or_else(|| RpcError::new(Code::Params, "`name` is needed, a string"))?;
    let Some(tool) = Tool::of(&name) else {
        let error = format!("Unknown tool: {name}");
        return Err(RpcError::new(Code::Params, error).answered());
    };
    let progress = message
        .params
        .meta
        .as_ref()
        .and_then(|it| it.progress_token);
    let progress = progress.filter(message::is_token).map(|token| token.text);
    let begun = Arguments::read(tool, message.params.arguments.as_ref()).and_then(|arguments| {
        let asked = (&arguments, progress, asker.token);
        begin_tool(context, caller, (tool, asked))
    });
    let (work, begun) = match begun {
        Ok(begun) => begun,
        Err(Refused::Call(error)) => (Work::Plain, Begun::from(error)),
        Err(Refused::Argument { name, rule }) => {
            if tool.stores_events() {
                context.tally().note_refused_code(INVALID_ARGUMENT, 1);
            }
            let mut json = Vec::new();
            call::argument_refusal(&mut json, (&name, &rule), INVALID_ARGUMENT);
            let json = String::from_utf8(json).unwrap_or_default();
            let done = Begun::at_once(crate::service::Outcome::Done);
            (Work::Refused(json.into()), done)
        }
    };
    let call = McpCall {
        asker,
        work,
        stores_events: tool.stores_events(),
    };
    Ok(Received::Begun(begun, Box::new(call)))
}

/// A tool's arguments, the client's token for progress, and what it presents.
type Asked<'a, 'm> = (&'a Arguments<'m>, Option<&'m str>, Option<KeptToken>);

fn begin_tool<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (tool, asked): (Tool, Asked<'_, '_>),
) -> Result<(Work, Begun), Refused> {
    let (arguments, _, token) = asked;
    match tool {
        Tool::Get => {
            let id = arguments.needed("id")?;
            let query = ReadQuery::parse(Some(&arguments.read_query()?))?;
            Ok((Work::Entity, read::begin(context, caller, (&id, query))?))
        }
        Tool::List => {
            let query = ListQuery::parse(Some(&arguments.list_query()?))?;
            Ok((Work::Entities, list::begin(context, caller, query)?))
        }
        Tool::Publish => {
            let event = arguments.event()?;
            let event = (&*event, Besides::default());
            Ok((Work::Plain, publish::begin_as(context, caller, event)?))
        }
        Tool::Delete => {
            let id = arguments.needed("id")?;
            let expect = arguments.raw("expect").map(|expect| expect.text);
            let conditions = delete::Conditions::Expect(expect);
            let begun = delete::begin(context, caller, (&id, conditions))?;
            Ok((Work::Plain, begun))
        }
        Tool::WaitFor => {
            let (wait, begun) = Wait::begin(context, caller, asked)?;
            Ok((Work::Wait(Box::new(wait)), begun))
        }
        Tool::DiffSince => {
            let mut query = Query {
                text: arguments.changes_query()?,
            };
            query.add("since", Some(&arguments.needed("since")?));
            context.check_serving()?;
            let mut query = ChangesQuery::parse(Some(&query.text))?;
            query.bytes_max = MCP_CHANGES_BYTES_MAX;
            Ok((Work::Changes, changes::begin(context, query, token)?))
        }
        Tool::History => {
            let query = EventsQuery::parse(Some(&arguments.events_query()?))?;
            let begun = DeferredRead::of_past(caller, HistoryQuery::Events(query));
            Ok((Work::Events, begun))
        }
        Tool::At => {
            arguments.needed_time("time")?;
            match arguments.target("prefix")? {
                Some(Target::Id(id)) => {
                    let query = ReadQuery::parse(Some(&arguments.read_query()?))?;
                    Ok((Work::Entity, read::begin(context, caller, (&id, query))?))
                }
                Some(Target::Other(_)) | None => {
                    let query = ListQuery::parse(Some(&arguments.list_query()?))?;
                    Ok((Work::Entities, list::begin(context, caller, query)?))
                }
            }
        }
    }
}
