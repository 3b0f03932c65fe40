//! Static pages: which form of one a request gets, and its answer.
//!
//! A page is sent compressed or as it is, by `Accept-Encoding`. `/` has two pages besides: the
//! dashboard for who names `text/html` and gives JSON no higher weight, and JSON that names the API
//! for anyone else. A client may keep an asset for ever, and has to ask for a page again, with its
//! tag. Unless it is short, it is not copied for a client: however many do not take it, they hold
//! nothing but their answers' heads.

use super::call::RequestMeta;
use super::client::Client;
use super::dispatch::Next;
use super::slot::StaticAnswer;
use super::writer::{AnswerWriter, PageAnswer};
use crate::limits::STATIC_BYTES_MIN;
use crate::model::CommitPoint;
use crate::pages::{self, Page};
use crate::service::Context;
use crate::wire::http1::{Coding, Field, Head, weight};

/// What a document may load and do: its own modules, styles and calls. Nothing may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers a request for a page.
pub(super) fn serve<L>(
    context: &mut Context<L>,
    writer: &AnswerWriter,
    client: &mut Client<'_>,
    (page, head, meta): (&'static Page, &Head<'_>, RequestMeta),
) -> Next {
    let has_dashboard = context.tenants.browsers.dashboard;
    let is_root = page.path == pages::DASHBOARD.path;
    let page = if is_root && has_dashboard && prefers_html(head.accept) {
        &pages::DASHBOARD
    } else {
        page
    };
    let gzip = page.gzip.filter(|_| head.coding == Coding::Gzip);
    let body = gzip.unwrap_or(page.bytes);
    let tag = if gzip.is_some() {
        page.gzip_tag
    } else {
        page.tag
    };
    let is_known = match head.if_none_match {
        Field::One(field) => pages::is_named_by(tag, field),
        Field::Absent | Field::Repeated => false,
    };
    let mut headers = vec![
        (
            "Cache-Control",
            if page.is_asset {
                "public, max-age=31536000, immutable"
            } else {
                "no-cache"
            },
        ),
        ("ETag", tag),
        (
            "Vary",
            if is_root {
                "Accept, Accept-Encoding"
            } else {
                "Accept-Encoding"
            },
        ),
    ];
    if gzip.is_some() && !is_known {
        headers.push(("Content-Encoding", "gzip"));
    }
    if page.is_document() {
        headers.push(("Content-Security-Policy", POLICY));
        headers.push(("Referrer-Policy", "no-referrer"));
    }
    let answer = PageAnswer {
        content_type: page.content_type,
        headers: &headers,
        length: (!is_known).then_some(body.len() as u64),
    };
    let sent = if is_known || meta.head_only {
        &[]
    } else {
        body
    };
    if sent.len() < STATIC_BYTES_MIN {
        client.answers.push(CommitPoint::NONE, |out| {
            writer.page_head(out, meta, answer);
            out.extend_from_slice(sent);
        });
    } else {
        let mut head = Vec::new();
        writer.page_head(&mut head, meta, answer);
        let answer = StaticAnswer::new(head, sent, Vec::new());
        client.answers.push_static(answer);
    }
    Next::Go
}

/// True if the client names `text/html`, and prefers nothing that JSON is (RFC 9110 §12.5.1).
fn prefers_html(accept: Field<'_>) -> bool {
    let Field::One(list) = accept else {
        return false;
    };
    let ranges: [&[u8]; 3] = [b"application/json", b"application/*", b"*/*"];
    let json = ranges.iter().find_map(|range| weight(list, range));
    let html = weight(list, b"text/html").unwrap_or(0);
    html > 0 && html >= json.unwrap_or(0)
}
