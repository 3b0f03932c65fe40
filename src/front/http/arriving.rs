//! A request while it arrives: whether its body is waited for, what it is counted under, and how it
//! is refused before it is whole.

use super::admission::{admit, body_limit};
use super::answers::Answers;
use super::call::RequestMeta;
use super::ledger::Asked;
use super::writer::AnswerWriter;
use crate::api::ApiError;
use crate::api::metrics::RoutePattern;
use crate::model::CommitPoint;
use crate::service::Context;
use crate::shard::MemoryClient;
use crate::wire::http1::{Head, HttpError, Next, RequestReader};
use std::cell::Cell;

/// What a look at the next request came to.
pub(crate) struct Arriving<'r> {
    /// The request, or what to do to get one.
    pub(crate) next: Result<Next<'r>, HttpError>,
    /// Whether its body may be waited for. The namespace is answerable for the body's memory.
    pub(crate) admitted: Result<Option<MemoryClient>, ApiError>,
    /// Of the answer if it is refused: the connection closes after that.
    pub(crate) meta: RequestMeta,
    /// What was not admitted, for the access log.
    pub(crate) refused: Option<Asked>,
}

/// Looks at the next request. `asked_micros`: the time, if there is an access log.
pub(crate) fn next_request<'r, L>(
    context: &Context<L>,
    reader: &'r mut RequestReader,
    asked_micros: Option<u64>,
) -> Arriving<'r> {
    let (mut admitted, mut refused) = (Ok(None), None);
    let pattern = Cell::new(pattern_of(reader));
    let admits = |head: &Head<'_>| {
        pattern.set(RoutePattern::of_target(head.method, head.path));
        admitted = admit(context, head);
        let asked_micros = asked_micros.filter(|_| admitted.is_err());
        refused = asked_micros.map(|now| Asked::of(head, 0, now));
        admitted.is_ok()
    };
    let next = reader.next_admitted(
        |(method, path)| {
            // A body that is too large is refused before its head is handed out.
            pattern.set(RoutePattern::of_target(method, path));
            body_limit(context, path)
        },
        admits,
    );
    Arriving {
        next,
        admitted,
        meta: RequestMeta::closing(pattern.get()),
        refused,
    }
}

/// Refuses the request that is being received. Until its head is whole, nobody knows what it is.
pub(crate) fn refuse_arriving(
    writer: &AnswerWriter,
    (answers, reader): (&mut Answers, &RequestReader),
    error: &ApiError,
) {
    let meta = RequestMeta::closing(pattern_of(reader));
    answers.push(CommitPoint::NONE, |out| writer.error(out, meta, error));
}

/// Refuses the request that is being received for want of memory. What is wrong with its head, and
/// its token, come first.
pub(crate) fn refuse_for_memory<L>(
    context: &Context<L>,
    writer: &AnswerWriter,
    (answers, reader): (&mut Answers, &mut RequestReader),
) {
    let (meta, error) = refusal_for_memory(context, reader);
    answers.push(CommitPoint::NONE, |out| writer.error(out, meta, &error));
}

fn refusal_for_memory<L>(
    context: &Context<L>,
    reader: &mut RequestReader,
) -> (RequestMeta, ApiError) {
    let Arriving {
        next,
        mut admitted,
        mut meta,
        ..
    } = next_request(context, reader, None);
    match next {
        Err(error) => return (meta, ApiError::Http(error)),
        Ok(Next::Request(request)) => {
            let head = &request.head;
            meta = RequestMeta::closing(RoutePattern::of_target(head.method, head.path));
            admitted = admit(context, head);
        }
        Ok(Next::NeedMore | Next::Continue | Next::Refused) => {}
    }
    (meta, admitted.err().unwrap_or(ApiError::OutOfMemory))
}

/// What a request is counted under whose body is waited for.
fn pattern_of(reader: &RequestReader) -> RoutePattern {
    reader.awaited_head().map_or(RoutePattern::Other, |head| {
        RoutePattern::of_target(head.method, head.path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::testing::{OPERATOR, TestCores};

    #[test]
    fn a_request_that_finds_no_memory_is_refused_for_its_token_first() {
        let mut cores = TestCores::with_auth(1);
        let mut refusal = |bytes: String| {
            let mut reader = RequestReader::default();
            reader.receive(bytes.as_bytes());
            let (meta, refused) = refusal_for_memory(cores.context(0), &mut reader);
            (meta.pattern, refused.status(), refused.code())
        };
        let head = |token: &str, length: usize| {
            format!(
                "POST /api/events/batch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
                 Content-Length: {length}\r\n\r\nxx"
            )
        };
        let batch = RoutePattern::PublishBatch;
        // The body is whole, or is not.
        for length in [2, 3] {
            let expected = (batch, 401, "token_unknown");
            assert_eq!(refusal(head("x", length)), expected, "{length}");
            let expected = (batch, 503, "overloaded");
            assert_eq!(refusal(head(OPERATOR, length)), expected, "{length}");
        }
        let part = refusal(head("x", 2)[..40].to_owned());
        assert_eq!((part.0, part.1), (RoutePattern::Other, 503));
        let bare = refusal("GET / HTTP/1.1\r\n\r\n".to_owned());
        assert_eq!((bare.0, bare.1), (RoutePattern::Other, 400));
    }

    #[test]
    fn what_is_refused_before_it_is_whole_is_counted_under_its_method_and_path() {
        let mut cores = TestCores::new(1);
        let mut counted = |pieces: &[&str]| {
            let mut reader = RequestReader::default();
            let mut last = None;
            for piece in pieces {
                reader.receive(piece.as_bytes());
                let arriving = next_request(cores.context(0), &mut reader, None);
                last = Some((arriving.meta.pattern, arriving.next.is_err()));
            }
            last.unwrap()
        };
        let large = "Host: a\r\nContent-Length: 99999999\r\n\r\n";
        for (target, pattern) in [
            ("POST /api/events", RoutePattern::Publish),
            ("PUT /api/events", RoutePattern::Other),
            ("GET /api/events", RoutePattern::Events),
            ("PUT /api/admin/config", RoutePattern::Configure),
            ("POST /api/connectors", RoutePattern::DefineConnector),
            ("DELETE /api/state/entities/a", RoutePattern::Delete),
            ("POST /nothing", RoutePattern::Other),
        ] {
            let head = format!("{target} HTTP/1.1\r\n{large}");
            assert_eq!(counted(&[&head]), (pattern, true), "{target}");
        }
        // The fault is in the body, which comes behind its head.
        let chunked = "POST /api/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let broken = counted(&[chunked, "1\r\n", "xyz\r\n"]);
        assert_eq!(broken, (RoutePattern::Publish, true));
    }
}
