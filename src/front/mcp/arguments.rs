//! The arguments of a tool: JSON → the parameters or the body of the call that REST has for it.
//!
//! Nothing is decided twice: a read becomes a query string that the parsers of `crate::api` take,
//! and a publish the body of `POST /api/events`. Here are only the names of arguments, which ones
//! there are, and which type each has.

use super::message::text;
use super::tools::Tool;
use crate::api::ApiError;
use crate::api::json::{Kind, RawValue, Scanner, write_string};
use crate::wire::http1::percent_encode;
use std::borrow::Cow;

/// The arguments of one call, each by its name, the last of each name.
#[derive(Debug, Default)]
pub(super) struct Arguments<'m> {
    given: Vec<(&'static str, RawValue<'m>)>,
}

/// Why the arguments of a tool are refused. An agent can mend what is wrong, so it is told by a
/// result and not by an error of the protocol.
#[derive(Debug)]
pub(super) enum Refused {
    /// By an argument's own rule.
    Argument {
        /// Its name.
        name: String,
        /// What it must be.
        rule: Cow<'static, str>,
    },
    /// By the call itself.
    Call(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Call(error)
    }
}

fn refused(name: &str, rule: impl Into<Cow<'static, str>>) -> Refused {
    Refused::Argument {
        name: name.to_owned(),
        rule: rule.into(),
    }
}

impl<'m> Arguments<'m> {
    /// Reads the arguments that a tool takes. `null` is as if absent, except where it is a value.
    pub(super) fn read(tool: Tool, given: Option<&RawValue<'m>>) -> Result<Self, Refused> {
        let mut arguments = Self::default();
        let Some(given) = given.filter(|given| given.kind != Kind::Null) else {
            return Ok(arguments);
        };
        if given.kind != Kind::Object {
            return Err(refused("arguments", "an object"));
        }
        let mut scanner = Scanner::of_text(given.text).map_err(ApiError::Json)?;
        let mut scratch = String::new();
        scanner.begin_object().map_err(ApiError::Json)?;
        while let Some(key) = scanner.next_key().map_err(ApiError::Json)? {
            let name = key.decode(&mut scratch);
            let known = tool.arguments().iter().find(|known| **known == name);
            let Some(known) = known else {
                let rule = format!("{} does not take it; it takes {}", tool.name(), tool.list());
                return Err(refused(name, rule));
            };
            let value = scanner.raw_value().map_err(ApiError::Json)?;
            arguments.given.retain(|(other, _)| other != known);
            if value.kind != Kind::Null || *known == "ttl" {
                arguments.given.push((known, value));
            }
        }
        Ok(arguments)
    }

    /// The JSON of an argument.
    pub(super) fn raw(&self, name: &str) -> Option<RawValue<'m>> {
        let mut given = self.given.iter();
        given.find(|(known, _)| *known == name).map(|it| it.1)
    }

    /// A string; an empty one is as if absent.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'m, str>>, Refused> {
        match self.raw(name) {
            None => Ok(None),
            Some(value) => match text(Some(&value)) {
                Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
                None => Err(refused(name, "a string")),
            },
        }
    }

    /// A string that has to be there.
    pub(super) fn needed(&self, name: &str) -> Result<Cow<'m, str>, Refused> {
        let text = self.text(name)?;
        text.ok_or_else(|| refused(name, "needed, a string that is not empty"))
    }

    /// A number's text.
    fn number(&self, name: &str) -> Result<Option<&'m str>, Refused> {
        match self.raw(name) {
            None => Ok(None),
            Some(value) if value.kind == Kind::Number => Ok(Some(value.text)),
            Some(_) => Err(refused(name, "a number")),
        }
    }

    /// A whole number from 1 to `max`.
    fn limit(&self, default: usize, max: usize) -> Result<usize, Refused> {
        let Some(text) = self.number("limit")? else {
            return Ok(default);
        };
        // To JSON Schema `50.0` is an integer too.
        let whole = text.trim_end_matches('0').strip_suffix('.');
        let limit = whole.unwrap_or(text).parse().ok();
        let limit = limit.filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| refused("limit", format!("a whole number from 1 to {max}")))
    }

    /// Milliseconds of `timeout_seconds`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be from 0 to the bound"
    )]
    pub(super) fn timeout_ms(&self, default_ms: u64, max_ms: u64) -> Result<u64, Refused> {
        const NAME: &str = "timeout_seconds";
        let Some(text) = self.number(NAME)? else {
            return Ok(default_ms);
        };
        let seconds = text.parse::<f64>().ok();
        let ms = seconds
            .map(|seconds| seconds * 1000.0)
            .filter(|ms| *ms >= 0.0);
        let ms = ms.filter(|ms| *ms as u64 <= max_ms);
        let rule = || refused(NAME, format!("a number from 0 to {}", max_ms / 1000));
        ms.map(|ms| ms.round() as u64).ok_or_else(rule)
    }

    /// Names, separated by commas, as a query has them.
    fn names(&self, name: &str) -> Result<Option<String>, Refused> {
        let rule = "an array of names without commas";
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        if value.kind != Kind::Array {
            return Err(refused(name, rule));
        }
        let mut names = Vec::new();
        let mut scanner = Scanner::of_text(value.text).map_err(ApiError::Json)?;
        scanner.begin_array().map_err(ApiError::Json)?;
        while scanner.next_element().map_err(ApiError::Json)? {
            let element = scanner.raw_value().map_err(ApiError::Json)?;
            let element = text(Some(&element)).filter(|text| !text.contains(','));
            names.push(element.ok_or_else(|| refused(name, rule))?);
        }
        Ok(Some(match names.as_slice() {
            // An empty value would keep all.
            [] => ",".to_owned(),
            [only] if only.is_empty() => ",".to_owned(),
            names => names.join(","),
        }))
    }

    /// The one of `id` and another argument that is there.
    pub(super) fn target(&self, other: &'static str) -> Result<Option<Target>, Refused> {
        match (self.text("id")?, self.text(other)?) {
            (Some(_), Some(_)) => Err(refused("id", format!("not together with `{other}`"))),
            (Some(id), None) if other == "prefix" && id.ends_with('*') => {
                Err(refused("id", "one that does not end with `*`"))
            }
            (Some(id), None) => Ok(Some(Target::Id(id.into()))),
            (None, Some(other)) => Ok(Some(Target::Other(other.into()))),
            (None, None) => Ok(None),
        }
    }

    /// The query of a list, with these limits of a page.
    pub(super) fn list_query(&self) -> Result<String, Refused> {
        let mut query = Query::default();
        query.add("prefix", self.text("prefix")?.as_deref());
        query.add("filter", self.text("filter")?.as_deref());
        query.add("after", self.text("after")?.as_deref());
        query.add("fields", self.names("fields")?.as_deref());
        query.add("at", self.time("time")?.as_deref());
        let limit = self.limit(crate::limits::MCP_LIST_DEFAULT, crate::limits::MCP_LIST_MAX)?;
        query.add("limit", Some(&limit.to_string()));
        Ok(query.text)
    }

    /// The query of a read.
    pub(super) fn read_query(&self) -> Result<String, Refused> {
        let mut query = Query::default();
        query.add("fields", self.names("fields")?.as_deref());
        query.add("at", self.time("time")?.as_deref());
        Ok(query.text)
    }

    /// A time: text, or a number of milliseconds.
    fn time(&self, name: &str) -> Result<Option<Cow<'m, str>>, Refused> {
        match self.raw(name) {
            Some(value) if value.kind == Kind::Number => Ok(Some(Cow::Borrowed(value.text))),
            _ => self.text(name),
        }
    }

    /// A time that has to be there.
    pub(super) fn needed_time(&self, name: &str) -> Result<(), Refused> {
        match self.time(name)? {
            Some(_) => Ok(()),
            None => Err(refused(
                name,
                "needed, an RFC 3339 time or Unix milliseconds",
            )),
        }
    }

    /// The query of past events.
    pub(super) fn events_query(&self) -> Result<String, Refused> {
        let mut query = Query::default();
        match self.target("namespace")? {
            Some(Target::Id(id)) => query.add("entity", Some(&id)),
            Some(Target::Other(name)) => query.add("namespace", Some(&name)),
            None => return Err(refused("id", "`id` or `namespace` is needed")),
        }
        query.add("before", self.text("before")?.as_deref());
        query.add("since", self.time("since")?.as_deref());
        query.add("until", self.time("until")?.as_deref());
        let (default, max) = (
            crate::limits::MCP_EVENTS_DEFAULT,
            crate::limits::EVENTS_PAGE_MAX,
        );
        query.add("limit", Some(&self.limit(default, max)?.to_string()));
        Ok(query.text)
    }

    /// The query of changes, but for where they begin.
    pub(super) fn changes_query(&self) -> Result<String, Refused> {
        let mut query = Query::default();
        match self.target("prefix")? {
            Some(Target::Id(id)) => query.add("entity_id", Some(&id)),
            Some(Target::Other(prefix)) => query.add("entity_id", Some(&format!("{prefix}*"))),
            None => {}
        }
        query.add("filter", self.text("filter")?.as_deref());
        let (default, max) = (crate::limits::MCP_LIST_DEFAULT, crate::limits::CHANGES_MAX);
        query.add("limit", Some(&self.limit(default, max)?.to_string()));
        Ok(query.text)
    }

    /// The body of the event that is published.
    pub(super) fn event(&self) -> Result<Vec<u8>, Refused> {
        let id = self.needed("id")?;
        let mut out = Vec::from(b"{");
        for (name, member) in [
            ("event_id", "eventId"),
            ("expect", "expect"),
            ("stream", "stream"),
            ("source", "source"),
        ] {
            match self.raw(name) {
                Some(value) => member_of(&mut out, member, value.text),
                None if matches!(name, "stream" | "source") => {
                    member_of(&mut out, member, DEFAULT_SOURCE);
                }
                None => {}
            }
        }
        out.extend_from_slice(b",\"payload\":{\"entity_id\":");
        write_string(&mut out, &id);
        for name in [
            "properties",
            "increment",
            "min",
            "max",
            "append",
            "unset",
            "ttl",
        ] {
            if let Some(value) = self.raw(name) {
                member_of(&mut out, name, value.text);
            }
        }
        out.extend_from_slice(b"}}");
        Ok(out)
    }
}

/// The stream and the source of events that name none.
const DEFAULT_SOURCE: &str = "\"mcp\"";

fn member_of(out: &mut Vec<u8>, name: &str, json: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(json.as_bytes());
}

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// This entity.
    Id(Box<str>),
    /// A prefix or a namespace.
    Other(Box<str>),
}

/// A query string that is put together.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// It, without the question mark.
    pub(super) text: String,
}

impl Query {
    /// Adds a parameter that is there.
    pub(super) fn add(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        if !self.text.is_empty() {
            self.text.push('&');
        }
        self.text.push_str(name);
        self.text.push('=');
        percent_encode(value, &mut self.text);
    }
}
