//! Method and path to [`Route`].

use super::error::ApiError;
use crate::pages::{self, Page};
use crate::wire::http1::{Method, percent_decode};
use std::borrow::Cow;

/// What a request asks for. Paths are compared raw; only an entity id is percent-decoded, so that
/// an id may hold any character, a slash included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'a> {
    /// `POST /api/events`
    Publish,
    /// `GET /api/events`
    Events,
    /// `POST /api/events/batch`
    PublishBatch,
    /// `GET /api/state/entities`
    List,
    /// `GET /api/state/entities/:id`
    Read(Cow<'a, str>),
    /// `DELETE /api/state/entities/:id`
    Delete(Cow<'a, str>),
    /// `GET /api/state/entity?id=`, for ids that a client's URL can't carry in its path.
    ReadById,
    /// `DELETE /api/state/entity?id=`
    DeleteById,
    /// `POST /api/state/entities/delete`
    DeleteBatch,
    /// `GET /api/ws`
    WebSocket,
    /// `GET /api/stream`
    Stream,
    /// `GET /api/changes`
    Changes,
    /// `POST /mcp`
    Mcp,
    /// `GET /health`
    Health,
    /// `GET /ready`
    Ready,
    /// `GET` of a static page. Of `/`: what programs get.
    Page(&'static Page),
    /// `GET /metrics`
    Metrics,
    /// About namespaces or the configuration.
    Control(ControlRoute<'a>),
    /// `OPTIONS` of any path; holds the `Allow` header.
    Options(&'static str),
}

/// What a request asks for that is about namespaces or the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlRoute<'a> {
    /// `POST /api/namespaces`
    Register,
    /// `GET /api/namespaces`
    List,
    /// `GET /api/namespaces/:name`
    Show(Cow<'a, str>),
    /// `DELETE /api/namespaces/:name`
    Delete(Cow<'a, str>),
    /// `POST /api/namespaces/:name/token`
    ReplaceToken(Cow<'a, str>),
    /// `GET /api/admin/config`
    Config,
    /// `PATCH /api/namespaces/:name`
    SetVisibility(Cow<'a, str>),
    /// `PUT /api/admin/config`
    Configure,
    /// About the other tokens of a namespace.
    Tokens(TokenRoute<'a>),
    /// `POST /api/tickets`
    Ticket,
    /// About connectors.
    Connectors(ConnectorRoute<'a>),
}

/// What a request asks for that is about the other tokens of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRoute<'a> {
    /// `POST /api/namespaces/:name/tokens`
    Make(Cow<'a, str>),
    /// `GET /api/namespaces/:name/tokens`
    List(Cow<'a, str>),
    /// `DELETE /api/namespaces/:name/tokens/:id`
    Revoke(Cow<'a, str>, Cow<'a, str>),
}

impl ControlRoute<'_> {
    /// True if the body holds a secret.
    pub fn brings_secret(&self) -> bool {
        matches!(self, Self::Connectors(ConnectorRoute::StoreToken(_)))
    }
}

/// What a request asks for that is about connectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectorRoute<'a> {
    /// `GET /api/connectors`
    List,
    /// `POST /api/connectors`
    Define,
    /// `GET /api/connectors/:name`
    Show(Cow<'a, str>),
    /// `DELETE /api/connectors/:name`
    Remove(Cow<'a, str>),
    /// `POST /api/connectors/:name/token`
    StoreToken(Cow<'a, str>),
    /// `DELETE /api/connectors/:name/token`
    RemoveToken(Cow<'a, str>),
}

const GET: &str = "GET, HEAD, OPTIONS";
const POST: &str = "POST, OPTIONS";
const GET_AND_POST: &str = "GET, HEAD, POST, OPTIONS";
const GET_AND_DELETE: &str = "GET, HEAD, DELETE, OPTIONS";
const GET_POST_AND_DELETE: &str = "GET, HEAD, POST, DELETE, OPTIONS";

const DELETE: &str = "DELETE, OPTIONS";
const POST_AND_DELETE: &str = "POST, DELETE, OPTIONS";
const GET_PATCH_AND_DELETE: &str = "GET, HEAD, PATCH, DELETE, OPTIONS";
const GET_AND_PUT: &str = "GET, HEAD, PUT, OPTIONS";

const CONNECTORS: &str = "/api/connectors";
const NAMESPACES: &str = "/api/namespaces";
const TICKETS: &str = "/api/tickets";
const ENTITIES: &str = "/api/state/entities";

/// Finds the route. `OPTIONS` has one for every path: a browser asks before a call, and has to
/// see that call's own answer.
///
/// # Errors
/// [`ApiError::NoRoute`], [`ApiError::Method`] with what the path takes, or
/// [`ApiError::PercentEncoding`] for a bad entity id.
pub fn route(method: Method, path: &str) -> Result<Route<'_>, ApiError> {
    match find(method, path) {
        Err(ApiError::NoRoute) => nowhere(method),
        found => found,
    }
}

/// The route of a path that is not there.
///
/// # Errors
/// [`ApiError::NoRoute`], except for `OPTIONS`.
pub fn nowhere(method: Method) -> Result<Route<'static>, ApiError> {
    match method {
        Method::Options => Ok(Route::Options("OPTIONS")),
        _ => Err(ApiError::NoRoute),
    }
}

fn find(method: Method, path: &str) -> Result<Route<'_>, ApiError> {
    match path {
        "/api/events" => match method {
            Method::Post => Ok(Route::Publish),
            Method::Get | Method::Head => Ok(Route::Events),
            Method::Options => Ok(Route::Options(GET_AND_POST)),
            _ => Err(ApiError::Method {
                allow: GET_AND_POST,
            }),
        },
        "/api/events/batch" => fixed(method, Method::Post, Route::PublishBatch),
        ENTITIES => fixed(method, Method::Get, Route::List),
        "/api/state/entity" => match method {
            Method::Get | Method::Head => Ok(Route::ReadById),
            Method::Delete => Ok(Route::DeleteById),
            Method::Options => Ok(Route::Options(GET_AND_DELETE)),
            _ => Err(ApiError::Method {
                allow: GET_AND_DELETE,
            }),
        },
        TICKETS => fixed(method, Method::Post, Route::Control(ControlRoute::Ticket)),
        "/api/ws" => fixed(method, Method::Get, Route::WebSocket),
        "/api/stream" => fixed(method, Method::Get, Route::Stream),
        "/api/changes" => fixed(method, Method::Get, Route::Changes),
        "/mcp" => fixed(method, Method::Post, Route::Mcp),
        "/health" => fixed(method, Method::Get, Route::Health),
        "/ready" => fixed(method, Method::Get, Route::Ready),
        "/metrics" => fixed(method, Method::Get, Route::Metrics),
        NAMESPACES => collection(method, ControlRoute::Register, ControlRoute::List),
        CONNECTORS => collection(
            method,
            ControlRoute::Connectors(ConnectorRoute::Define),
            ControlRoute::Connectors(ConnectorRoute::List),
        ),
        "/api/admin/config" => match method {
            Method::Put => Ok(Route::Control(ControlRoute::Configure)),
            Method::Get | Method::Head => Ok(Route::Control(ControlRoute::Config)),
            Method::Options => Ok(Route::Options(GET_AND_PUT)),
            _ => Err(ApiError::Method { allow: GET_AND_PUT }),
        },
        "*" if method == Method::Options => Ok(Route::Options(GET_POST_AND_DELETE)),
        _ => {
            let below = |folder| path.strip_prefix(folder)?.strip_prefix('/');
            if let Some(name) = below(NAMESPACES) {
                namespace(method, name)
            } else if let Some(name) = below(CONNECTORS) {
                connector(method, name)
            } else if let Some(id) = below(ENTITIES) {
                entity(method, id)
            } else if let Some(page) = pages::find(path) {
                fixed(method, Method::Get, Route::Page(page))
            } else {
                Err(ApiError::NoRoute)
            }
        }
    }
}

/// A path that takes one method, `HEAD` with `GET`, and `OPTIONS`.
fn fixed(method: Method, taken: Method, route: Route<'static>) -> Result<Route<'static>, ApiError> {
    let allow = if taken == Method::Get { GET } else { POST };
    match method {
        Method::Options => Ok(Route::Options(allow)),
        Method::Head if taken == Method::Get => Ok(route),
        _ if method == taken => Ok(route),
        _ => Err(ApiError::Method { allow }),
    }
}

/// True of a path that is there in auth mode only.
pub fn is_of_auth_mode(path: &str) -> bool {
    let rest = path.strip_prefix(NAMESPACES);
    path == TICKETS || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path that takes a new member, and lists all.
fn collection(
    method: Method,
    add: ControlRoute<'static>,
    list: ControlRoute<'static>,
) -> Result<Route<'static>, ApiError> {
    match method {
        Method::Post => Ok(Route::Control(add)),
        Method::Get | Method::Head => Ok(Route::Control(list)),
        Method::Options => Ok(Route::Options(GET_AND_POST)),
        _ => Err(ApiError::Method {
            allow: GET_AND_POST,
        }),
    }
}

/// The name in `:name` or `:name/token`, and which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Member,
    Token,
}

fn member<'a>(rest: &'a str, part: &'static str) -> Result<(Cow<'a, str>, Of), ApiError> {
    let (raw_name, of) = match rest.split_once('/') {
        None => (rest, Of::Member),
        Some((name, "token")) => (name, Of::Token),
        Some(_) => return Err(ApiError::NoRoute),
    };
    if raw_name.is_empty() {
        return Err(ApiError::NoRoute);
    }
    let name = percent_decode(raw_name).or(Err(ApiError::PercentEncoding { part }))?;
    Ok((name, of))
}

/// `None` of a path that is about something else.
fn tokens(method: Method, rest: &str) -> Option<Result<Route<'_>, ApiError>> {
    let (name, below) = rest.split_once('/')?;
    let below = below.strip_prefix("tokens")?;
    let id = match below.strip_prefix('/') {
        None if below.is_empty() => None,
        Some(id) if !id.is_empty() && !id.contains('/') => Some(id),
        _ => return Some(Err(ApiError::NoRoute)),
    };
    if name.is_empty() {
        return Some(Err(ApiError::NoRoute));
    }
    let allow = if id.is_some() { DELETE } else { GET_AND_POST };
    let decoded = |text, part| percent_decode(text).or(Err(ApiError::PercentEncoding { part }));
    let route = || {
        let name = decoded(name, "namespace's name")?;
        let route = match (method, id) {
            (Method::Options, _) => return Ok(Route::Options(allow)),
            (Method::Post, None) => TokenRoute::Make(name),
            (Method::Get | Method::Head, None) => TokenRoute::List(name),
            (Method::Delete, Some(id)) => TokenRoute::Revoke(name, decoded(id, "token's id")?),
            _ => return Err(ApiError::Method { allow }),
        };
        Ok(Route::Control(ControlRoute::Tokens(route)))
    };
    Some(route())
}

fn namespace(method: Method, rest: &str) -> Result<Route<'_>, ApiError> {
    if let Some(route) = tokens(method, rest) {
        return route;
    }
    let (name, of) = member(rest, "namespace's name")?;
    match (method, of) {
        (Method::Post, Of::Token) => Ok(Route::Control(ControlRoute::ReplaceToken(name))),
        (Method::Options, Of::Token) => Ok(Route::Options(POST)),
        (_, Of::Token) => Err(ApiError::Method { allow: POST }),
        (Method::Get | Method::Head, Of::Member) => Ok(Route::Control(ControlRoute::Show(name))),
        (Method::Patch, Of::Member) => Ok(Route::Control(ControlRoute::SetVisibility(name))),
        (Method::Delete, Of::Member) => Ok(Route::Control(ControlRoute::Delete(name))),
        (Method::Options, Of::Member) => Ok(Route::Options(GET_PATCH_AND_DELETE)),
        (_, Of::Member) => Err(ApiError::Method {
            allow: GET_PATCH_AND_DELETE,
        }),
    }
}

fn connector(method: Method, rest: &str) -> Result<Route<'_>, ApiError> {
    let (name, of) = member(rest, "connector's name")?;
    let allow = match of {
        Of::Member => GET_AND_DELETE,
        Of::Token => POST_AND_DELETE,
    };
    let route = match (method, of) {
        (Method::Get | Method::Head, Of::Member) => ConnectorRoute::Show(name),
        (Method::Delete, Of::Member) => ConnectorRoute::Remove(name),
        (Method::Post, Of::Token) => ConnectorRoute::StoreToken(name),
        (Method::Delete, Of::Token) => ConnectorRoute::RemoveToken(name),
        (Method::Options, _) => return Ok(Route::Options(allow)),
        _ => return Err(ApiError::Method { allow }),
    };
    Ok(Route::Control(ControlRoute::Connectors(route)))
}

fn entity(method: Method, raw_id: &str) -> Result<Route<'_>, ApiError> {
    if raw_id.is_empty() {
        return Err(ApiError::NoRoute);
    }
    let allow = if raw_id == "delete" {
        GET_POST_AND_DELETE
    } else {
        GET_AND_DELETE
    };
    let id = || percent_decode(raw_id).or(Err(ApiError::PercentEncoding { part: "entity id" }));
    match method {
        Method::Get | Method::Head => Ok(Route::Read(id()?)),
        Method::Delete => Ok(Route::Delete(id()?)),
        Method::Post if raw_id == "delete" => Ok(Route::DeleteBatch),
        Method::Options => Ok(Route::Options(allow)),
        _ => Err(ApiError::Method { allow }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "each row makes its own")]
    fn check(method: Method, path: &str, expected: Result<Route<'_>, ApiError>) {
        assert_eq!(route(method, path), expected, "{method:?} {path}");
    }

    #[test]
    fn a_call_says_who_may_read_a_namespace() {
        let set = ControlRoute::SetVisibility(Cow::Borrowed("abc"));
        let path = "/api/namespaces/abc";
        check(Method::Patch, path, Ok(Route::Control(set)));
        let allow = Route::Options(GET_PATCH_AND_DELETE);
        check(Method::Options, path, Ok(allow));
    }

    #[test]
    fn calls_of_namespaces_and_of_the_operator_find_their_route() {
        let name = || Cow::Borrowed("abc");
        check(
            Method::Post,
            "/api/namespaces",
            Ok(Route::Control(ControlRoute::Register)),
        );
        check(
            Method::Get,
            "/api/namespaces",
            Ok(Route::Control(ControlRoute::List)),
        );
        check(
            Method::Get,
            "/api/namespaces/abc",
            Ok(Route::Control(ControlRoute::Show(name()))),
        );
        check(
            Method::Delete,
            "/api/namespaces/a%62c",
            Ok(Route::Control(ControlRoute::Delete(name()))),
        );
        check(
            Method::Post,
            "/api/namespaces/abc/token",
            Ok(Route::Control(ControlRoute::ReplaceToken(name()))),
        );
        check(
            Method::Get,
            "/api/namespaces/abc/token",
            Err(ApiError::Method { allow: POST }),
        );
        let of_tokens = |route| Ok(Route::Control(ControlRoute::Tokens(route)));
        let path = "/api/namespaces/abc/tokens";
        check(Method::Post, path, of_tokens(TokenRoute::Make(name())));
        check(Method::Head, path, of_tokens(TokenRoute::List(name())));
        check(Method::Options, path, Ok(Route::Options(GET_AND_POST)));
        let revoke = TokenRoute::Revoke(name(), Cow::Borrowed("tok_1"));
        let path = "/api/namespaces/abc/tokens/tok_1";
        check(Method::Delete, path, of_tokens(revoke));
        check(Method::Get, path, Err(ApiError::Method { allow: DELETE }));
        check(
            Method::Put,
            "/api/namespaces/abc",
            Err(ApiError::Method {
                allow: GET_PATCH_AND_DELETE,
            }),
        );
        for path in [
            "/api/namespaces/",
            "/api/namespaces/abc/",
            "/api/namespaces/a/b",
            "/api/namespaces/abc/tokensx",
            "/api/namespaces/abc/tokens/",
            "/api/namespaces/abc/tokens/a/b",
            "/api/namespaces//tokens",
            "/api/namespacesx",
        ] {
            check(Method::Get, path, Err(ApiError::NoRoute));
        }
        check(
            Method::Put,
            "/api/admin/config",
            Ok(Route::Control(ControlRoute::Configure)),
        );
        check(
            Method::Post,
            "/api/admin/config",
            Err(ApiError::Method { allow: GET_AND_PUT }),
        );
        assert!(is_of_auth_mode("/api/namespaces/x") && !is_of_auth_mode("/api/namespacesx"));
    }

    #[test]
    fn paths_and_methods_find_their_route() {
        let read = |id: &'static str| Ok(Route::Read(Cow::Borrowed(id)));
        check(Method::Post, "/api/events", Ok(Route::Publish));
        check(Method::Get, "/api/events", Ok(Route::Events));
        check(Method::Head, "/api/events", Ok(Route::Events));
        check(
            Method::Options,
            "/api/events",
            Ok(Route::Options(GET_AND_POST)),
        );
        check(
            Method::Delete,
            "/api/events",
            Err(ApiError::Method {
                allow: GET_AND_POST,
            }),
        );
        check(
            Method::Get,
            "/api/events/batch",
            Err(ApiError::Method { allow: POST }),
        );
        check(Method::Post, "/api/events/", Err(ApiError::NoRoute));
        check(Method::Head, "/api/state/entities", Ok(Route::List));
        check(Method::Get, "/api/state/entities/", Err(ApiError::NoRoute));
        check(Method::Get, "/api/state/entities/a/b", read("a/b"));
        check(Method::Get, "/api/state/entities/a%2Fb", read("a/b"));
        check(Method::Get, "/api/state/entities/a+b", read("a+b"));
        check(Method::Get, "/api/state/entities/delete", read("delete"));
        check(
            Method::Post,
            "/api/state/entities/delete",
            Ok(Route::DeleteBatch),
        );
        check(
            Method::Put,
            "/api/state/entities/delete",
            Err(ApiError::Method {
                allow: GET_POST_AND_DELETE,
            }),
        );
        check(
            Method::Post,
            "/api/state/entities/x",
            Err(ApiError::Method {
                allow: GET_AND_DELETE,
            }),
        );
        check(Method::Post, "/mcp", Ok(Route::Mcp));
        for method in [Method::Get, Method::Delete] {
            check(method, "/mcp", Err(ApiError::Method { allow: POST }));
        }
        check(Method::Options, "/health", Ok(Route::Options(GET)));
        let root = pages::find("/").unwrap();
        check(Method::Get, "/", Ok(Route::Page(root)));
        check(Method::Head, "/", Ok(Route::Page(root)));
        check(Method::Post, "/", Err(ApiError::Method { allow: GET }));
        check(Method::Options, "/nothing", Ok(Route::Options("OPTIONS")));
        check(Method::Get, "/nothing", Err(ApiError::NoRoute));
        check(
            Method::Get,
            "/api/state/entities/%zz",
            Err(ApiError::PercentEncoding { part: "entity id" }),
        );
    }
}
