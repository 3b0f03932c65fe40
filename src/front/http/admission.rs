//! What is decided about a request when its head is whole and its body is not: how long the body
//! may be, and whether it is read at all.
//!
//! A write without a token that somebody has is refused here, so a stranger's body takes no memory
//! (API contract §1). A request that arrived whole does not pass here: its call makes the same
//! checks, in the same order.

use super::client::credentials;
use crate::api::query;
use crate::api::route::{ControlRoute, is_of_auth_mode, nowhere};
use crate::api::{ApiError, Route, route};
use crate::limits::BODY_OTHER_BYTES_MAX;
use crate::pages;
use crate::service::{Context, TokenRule};
use crate::shard::MemoryClient;
use crate::wire::http1::{Field, Head};

/// The most bytes that the body of a request for this path may have: as configured, and what one
/// client may have in memory.
pub(crate) fn body_limit<L>(context: &Context<L>, path: &str) -> usize {
    let limit = match path {
        "/api/events" => context.tenants.runtime.body_size_limit_single_bytes,
        "/api/events/batch" => context.tenants.runtime.body_size_limit_batch_bytes,
        _ => return BODY_OTHER_BYTES_MAX,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    limit.min(context.memory.body_bytes_max())
}

/// Refuses a request of a web page that may not reach the server, or to a name that it is not known
/// by.
///
/// # Errors
/// [`ApiError::OriginRefused`], [`ApiError::HostRefused`].
pub(super) fn welcome<L>(context: &Context<L>, head: &Head<'_>) -> Result<(), ApiError> {
    let origin = match head.origin {
        Field::Absent => None,
        Field::One(origin) => Some(origin),
        // None that could be allowed.
        Field::Repeated => Some(&b""[..]),
    };
    context.welcome(head.host, origin)
}

/// The route of a request. The assets of a dashboard that is turned off are not there.
///
/// # Errors
/// As [`route`].
pub(super) fn find_route<'a, L>(
    context: &Context<L>,
    head: &Head<'a>,
) -> Result<Route<'a>, ApiError> {
    let found = route(head.method, head.path);
    let may_be_asset = matches!(
        found,
        Ok(Route::Page(_) | Route::Options(_)) | Err(ApiError::Method { .. })
    );
    if may_be_asset
        && !context.tenants.browsers.dashboard
        && pages::find(head.path).is_some_and(|page| page.of_dashboard)
    {
        return nowhere(head.method);
    }
    found
}

/// Admits the body of a request. Returns the namespace whose token came with it, which is
/// answerable for its memory.
///
/// # Errors
/// What the request would be answered with whatever its body says.
pub(crate) fn admit<L>(
    context: &Context<L>,
    head: &Head<'_>,
) -> Result<Option<MemoryClient>, ApiError> {
    welcome(context, head)?;
    if !context.tenants.auth && is_of_auth_mode(head.path) {
        return Err(ApiError::NoRoute);
    }
    let credentials = credentials(head);
    let now = context.router.now;
    let rule = match find_route(context, head) {
        Ok(route) => token_rule(&route),
        Err(error) => {
            context.identify(&credentials, TokenRule::None)?;
            return Err(error);
        }
    };
    let namespace = context.tenants.check(&credentials, (rule, now))?;
    query::check(head.query)?;
    Ok(namespace.map(MemoryClient::Namespace))
}

/// The token that a call needs.
pub(super) fn token_rule(route: &Route<'_>) -> TokenRule {
    match route {
        Route::Publish
        | Route::PublishBatch
        | Route::Delete(_)
        | Route::DeleteById
        | Route::DeleteBatch => TokenRule::Writer,
        Route::Control(route) => match route {
            ControlRoute::Register => TokenRule::Registrar,
            ControlRoute::Ticket
            | ControlRoute::ReplaceToken(_)
            | ControlRoute::Tokens(_)
            | ControlRoute::SetVisibility(_)
            | ControlRoute::Connectors(_) => TokenRule::Writer,
            ControlRoute::List | ControlRoute::Delete(_) => TokenRule::Operator,
            ControlRoute::Configure => TokenRule::OperatorOnly,
            ControlRoute::Show(_) | ControlRoute::Config => TokenRule::None,
        },
        Route::Events
        | Route::List
        | Route::Read(_)
        | Route::ReadById
        | Route::WebSocket
        | Route::Stream
        | Route::Changes
        | Route::Mcp
        | Route::Health
        | Route::Ready
        | Route::Page(_)
        | Route::Metrics
        | Route::Options(_) => TokenRule::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::testing::{OPERATOR, TestCores};
    use crate::wire::http1::{Next, RequestReader};

    /// What a head is refused with before its body came; `None` if the body is waited for.
    fn refusal(
        cores: &mut TestCores,
        call: &str,
        token: Option<&str>,
        framing: &str,
    ) -> Option<ApiError> {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        let head = format!("{call} HTTP/1.1\r\nHost: a\r\n{token}{framing}\r\n\r\n");
        let mut reader = RequestReader::default();
        reader.receive(head.as_bytes());
        let context = cores.context(0);
        let mut refused = None;
        let limit = |(_, path): (_, &str)| body_limit(context, path);
        let next = reader.next_admitted(limit, |head| {
            refused = admit(context, head).err();
            refused.is_none()
        });
        match next {
            Ok(Next::Refused) => assert!(refused.is_some(), "{call}"),
            Ok(Next::NeedMore | Next::Continue) => assert!(refused.is_none(), "{call}"),
            Ok(Next::Request(_)) => panic!("no body came: {call}"),
            Err(error) => refused = Some(ApiError::Http(error)),
        }
        refused
    }

    #[test]
    fn a_call_that_needs_a_token_is_refused_before_its_body_comes() {
        let calls = [
            "POST /api/events",
            "POST /api/events/batch",
            "DELETE /api/state/entities/house%2Fa",
            "POST /api/state/entities/delete",
            "POST /api/namespaces",
            "POST /api/namespaces/house/token",
            "POST /api/namespaces/house/tokens",
            "DELETE /api/namespaces/house",
            "PUT /api/admin/config",
            "POST /api/connectors",
            "POST /api/connectors/house/token",
        ];
        for framing in [
            "Content-Length: 9",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue\r\nContent-Length: 9",
        ] {
            for call in calls {
                let refusal = |token| {
                    let mut cores = TestCores::with_auth(1);
                    refusal(&mut cores, call, token, framing)
                };
                assert_eq!(refusal(None), Some(ApiError::TokenMissing), "{call}");
                let unknown = refusal(Some("x")).map(|error| (error.status(), error.code()));
                assert_eq!(unknown, Some((401, "token_unknown")), "{call}");
                assert_eq!(refusal(Some(OPERATOR)), None, "{call}");
            }
        }
    }

    #[test]
    fn what_needs_no_token_is_read_and_size_is_judged_before_the_token() {
        let mut cores = TestCores::with_auth(1);
        let length = "Content-Length: 9";
        for call in ["GET /api/state/entities", "GET /api/admin/config"] {
            assert_eq!(refusal(&mut cores, call, None, length), None, "{call}");
            let refused = refusal(&mut cores, call, Some("x"), length);
            assert_eq!(refused, Some(ApiError::TokenUnknown), "{call}");
        }
        let refused = refusal(&mut cores, "POST /nothing", Some("x"), length);
        assert_eq!(
            refused,
            Some(ApiError::TokenUnknown),
            "whatever it asks for"
        );
        let too_long = "Content-Length: 99999999";
        let refused = refusal(&mut cores, "POST /api/events", None, too_long);
        assert!(matches!(refused, Some(ApiError::Http(_))), "{refused:?}");
        let open = &mut TestCores::new(1);
        assert_eq!(refusal(open, "POST /api/events", None, length), None);
        let refused = refusal(open, "PUT /api/admin/config", None, length);
        assert_eq!(refused, Some(ApiError::AdminDisabled));
        let refused = refusal(open, "POST /api/namespaces", None, length);
        assert_eq!(refused, Some(ApiError::NoRoute));
        let refused = refusal(open, "POST /api/events?a=%zz", None, length);
        assert_eq!(refused, Some(ApiError::PercentEncoding { part: "query" }));
    }
}
