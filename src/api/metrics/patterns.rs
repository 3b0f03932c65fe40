//! Routes as a label: the pattern of a path, and never the path.

use super::super::error::ApiError;
use super::super::route::{ConnectorRoute, ControlRoute, Route, TokenRoute, route};
use crate::wire::http1::Method;

/// Defines the patterns with their method and path.
macro_rules! patterns {
    ($($member:ident = $method:literal $path:literal,)+) => {
        /// What a request is counted under. `HEAD` counts as `GET`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the call of its name; the table says which")]
        pub enum RoutePattern {
            $($member,)+
        }

        impl RoutePattern {
            /// All of them, by index.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$member,)+];
            /// How many there are.
            pub const COUNT: usize = [$($path,)+].len();

            /// Its place in [`RoutePattern::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The method.
            pub const fn method(self) -> &'static str {
                match self {
                    $(Self::$member => $method,)+
                }
            }

            /// The path, with names in the place of what callers choose.
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$member => $path,)+
                }
            }
        }
    };
}

patterns! {
    Publish = "POST" "/api/events",
    Events = "GET" "/api/events",
    PublishBatch = "POST" "/api/events/batch",
    List = "GET" "/api/state/entities",
    Read = "GET" "/api/state/entities/:id",
    Delete = "DELETE" "/api/state/entities/:id",
    ReadById = "GET" "/api/state/entity",
    DeleteById = "DELETE" "/api/state/entity",
    DeleteBatch = "POST" "/api/state/entities/delete",
    WebSocket = "GET" "/api/ws",
    Stream = "GET" "/api/stream",
    Changes = "GET" "/api/changes",
    Mcp = "POST" "/mcp",
    Health = "GET" "/health",
    Ready = "GET" "/ready",
    Metrics = "GET" "/metrics",
    Root = "GET" "/",
    Page = "GET" "/:page",
    Asset = "GET" "/assets/:name",
    Register = "POST" "/api/namespaces",
    ListNamespaces = "GET" "/api/namespaces",
    ShowNamespace = "GET" "/api/namespaces/:name",
    DeleteNamespace = "DELETE" "/api/namespaces/:name",
    SetVisibility = "PATCH" "/api/namespaces/:name",
    ReplaceToken = "POST" "/api/namespaces/:name/token",
    MakeToken = "POST" "/api/namespaces/:name/tokens",
    ListTokens = "GET" "/api/namespaces/:name/tokens",
    RevokeToken = "DELETE" "/api/namespaces/:name/tokens/:id",
    Ticket = "POST" "/api/tickets",
    Config = "GET" "/api/admin/config",
    Configure = "PUT" "/api/admin/config",
    ListConnectors = "GET" "/api/connectors",
    DefineConnector = "POST" "/api/connectors",
    ShowConnector = "GET" "/api/connectors/:name",
    RemoveConnector = "DELETE" "/api/connectors/:name",
    StoreCredential = "POST" "/api/connectors/:name/token",
    RemoveCredential = "DELETE" "/api/connectors/:name/token",
    Options = "OPTIONS" "*",
    Other = "other" "other",
}

impl RoutePattern {
    /// Of a request whose route was looked for. What has no route, a wrong method or a bad path is
    /// [`RoutePattern::Other`].
    pub fn of(route: &Result<Route<'_>, ApiError>) -> Self {
        match route {
            Ok(Route::Publish) => Self::Publish,
            Ok(Route::Events) => Self::Events,
            Ok(Route::PublishBatch) => Self::PublishBatch,
            Ok(Route::List) => Self::List,
            Ok(Route::Read(_)) => Self::Read,
            Ok(Route::Delete(_)) => Self::Delete,
            Ok(Route::ReadById) => Self::ReadById,
            Ok(Route::DeleteById) => Self::DeleteById,
            Ok(Route::DeleteBatch) => Self::DeleteBatch,
            Ok(Route::WebSocket) => Self::WebSocket,
            Ok(Route::Stream) => Self::Stream,
            Ok(Route::Changes) => Self::Changes,
            Ok(Route::Mcp) => Self::Mcp,
            Ok(Route::Health) => Self::Health,
            Ok(Route::Ready) => Self::Ready,
            Ok(Route::Metrics) => Self::Metrics,
            Ok(Route::Page(page)) if page.is_asset => Self::Asset,
            Ok(Route::Page(page)) if page.path == "/" => Self::Root,
            Ok(Route::Page(_)) => Self::Page,
            Ok(Route::Control(route)) => Self::of_control(route),
            Ok(Route::Options(_)) => Self::Options,
            Err(_) => Self::Other,
        }
    }

    /// Of a request of which only this is known. Most that have a body are told at a glance.
    pub fn of_target(method: Method, path: &str) -> Self {
        match (method, path) {
            (Method::Post, "/api/events") => Self::Publish,
            (Method::Post, "/api/events/batch") => Self::PublishBatch,
            (Method::Post, "/mcp") => Self::Mcp,
            _ => Self::of(&route(method, path)),
        }
    }

    fn of_control(route: &ControlRoute<'_>) -> Self {
        match route {
            ControlRoute::Register => Self::Register,
            ControlRoute::List => Self::ListNamespaces,
            ControlRoute::Show(_) => Self::ShowNamespace,
            ControlRoute::Delete(_) => Self::DeleteNamespace,
            ControlRoute::SetVisibility(_) => Self::SetVisibility,
            ControlRoute::ReplaceToken(_) => Self::ReplaceToken,
            ControlRoute::Tokens(TokenRoute::Make(_)) => Self::MakeToken,
            ControlRoute::Tokens(TokenRoute::List(_)) => Self::ListTokens,
            ControlRoute::Tokens(TokenRoute::Revoke(..)) => Self::RevokeToken,
            ControlRoute::Ticket => Self::Ticket,
            ControlRoute::Config => Self::Config,
            ControlRoute::Configure => Self::Configure,
            ControlRoute::Connectors(route) => match route {
                ConnectorRoute::List => Self::ListConnectors,
                ConnectorRoute::Define => Self::DefineConnector,
                ConnectorRoute::Show(_) => Self::ShowConnector,
                ConnectorRoute::Remove(_) => Self::RemoveConnector,
                ConnectorRoute::StoreToken(_) => Self::StoreCredential,
                ConnectorRoute::RemoveToken(_) => Self::RemoveCredential,
            },
        }
    }

    /// True of a call that stores events: what it is refused for counts as a refused event.
    pub const fn stores_events(self) -> bool {
        matches!(
            self,
            Self::Publish
                | Self::PublishBatch
                | Self::Delete
                | Self::DeleteById
                | Self::DeleteBatch
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_its_method_and_pattern() {
        for pattern in RoutePattern::ALL {
            let method = match pattern.method() {
                // Which pages there are, others know.
                _ if matches!(pattern, RoutePattern::Page | RoutePattern::Asset) => continue,
                "GET" => Method::Get,
                "POST" => Method::Post,
                "DELETE" => Method::Delete,
                "PATCH" => Method::Patch,
                "PUT" => Method::Put,
                _ => continue,
            };
            let path = pattern
                .path()
                .replace(":id", "some")
                .replace(":name", "some");
            assert_eq!(RoutePattern::of(&route(method, &path)), pattern, "{path}");
            assert_eq!(RoutePattern::of_target(method, &path), pattern, "{path}");
        }
        let of = |method, path| RoutePattern::of(&route(method, path));
        assert_eq!(of(Method::Head, "/metrics"), RoutePattern::Metrics);
        assert_eq!(of(Method::Options, "/anything"), RoutePattern::Options);
        assert_eq!(of(Method::Get, "/anything"), RoutePattern::Other);
        assert_eq!(of(Method::Post, "/metrics"), RoutePattern::Other);
        for path in ["/api/events", "/api/events/batch", "/mcp"] {
            let pattern = RoutePattern::of_target(Method::Put, path);
            assert_eq!(pattern, RoutePattern::Other, "{path}");
        }
    }
}
