//! `flux_wait_for`: until an entity matches a filter, or changes.
//!
//! What matches already is answered at once. Then it polls from the place of that look on, so
//! nothing is missed in between, and passes over changes that do not match.

use super::arguments::{Arguments, Query, Refused, Target};
use super::call::{Asker, Step};
use super::rpc::{notification, tool_result};
use super::shape;
use crate::api::ApiError;
use crate::api::json::{Kind, RawValue};
use crate::api::query::ListQuery;
use crate::api::stream_query::ChangesQuery;
use crate::limits::{
    MCP_CHANGES_BYTES_MAX, MCP_LIST_DEFAULT, MCP_PROGRESS_MS, MCP_WAIT_DEFAULT_MS, MCP_WAIT_MAX_MS,
};
use crate::log::Log;
use crate::service::{Begun, Caller, Context, KeptToken, Outcome, changes, list};

/// A wait on its way.
#[derive(Debug)]
pub(super) struct Wait {
    /// What it is about.
    target: Target,
    filter: Option<Box<str>>,
    /// It looks at what is there; a poll comes next.
    is_looking: bool,
    /// When it began and when it ends, milliseconds since the core began.
    begun_ms: u64,
    due_ms: u64,
    /// The JSON text of the client's token for progress.
    pub(super) progress_token: Option<Box<str>>,
    /// Seconds of the progress that was told last.
    told_seconds: Option<u64>,
}

impl Wait {
    /// Begins a wait.
    ///
    /// # Errors
    /// If an argument is refused, or the call that it comes to.
    pub(super) fn begin<L: Log>(
        context: &mut Context<L>,
        caller: &Caller<'_>,
        (arguments, progress_token, token): (&Arguments<'_>, Option<&str>, Option<KeptToken>),
    ) -> Result<(Self, Begun), Refused> {
        let target = arguments
            .target("prefix")?
            .ok_or_else(|| Refused::Argument {
                name: "id".to_owned(),
                rule: "`id` or `prefix` is needed".into(),
            })?;
        let wait_ms = arguments.timeout_ms(MCP_WAIT_DEFAULT_MS, MCP_WAIT_MAX_MS)?;
        let since = arguments.text("since")?;
        let filter = arguments.text("filter")?;
        let mut wait = Self {
            target,
            is_looking: filter.is_some() && since.is_none(),
            filter: filter.as_deref().map(Box::from),
            begun_ms: context.uptime_ms,
            due_ms: context.uptime_ms.saturating_add(wait_ms),
            progress_token: progress_token.map(Box::from),
            told_seconds: None,
        };
        let begun = if wait.is_looking {
            wait.look(context, caller)?
        } else {
            wait.poll(context, token, since.as_deref())?
        };
        Ok((wait, begun))
    }

    /// Heap that it holds.
    pub(super) fn heap_bytes(&self) -> usize {
        let (Target::Id(target) | Target::Other(target)) = &self.target;
        let texts = [&self.filter, &self.progress_token].into_iter().flatten();
        size_of::<Self>() + target.len() + texts.map(|text| text.len()).sum::<usize>()
    }

    /// Asks for what matches already.
    fn look<L: Log>(
        &mut self,
        context: &mut Context<L>,
        caller: &Caller<'_>,
    ) -> Result<Begun, ApiError> {
        let (prefix, limit) = match &self.target {
            // Of all ids that begin so, it is the first.
            Target::Id(id) => (id, 1),
            Target::Other(prefix) => (prefix, MCP_LIST_DEFAULT),
        };
        let mut query = Query::default();
        query.add("prefix", Some(prefix));
        query.add("filter", self.filter.as_deref());
        query.add("limit", Some(&limit.to_string()));
        context.check_serving()?;
        list::begin(context, caller, ListQuery::parse(Some(&query.text))?)
    }

    /// Asks for the changes after a place, or for the place of now.
    fn poll<L: Log>(
        &self,
        context: &mut Context<L>,
        token: Option<KeptToken>,
        since: Option<&str>,
    ) -> Result<Begun, ApiError> {
        context.check_serving()?;
        let mut query = Query::default();
        match &self.target {
            Target::Id(id) => query.add("entity_id", Some(id)),
            Target::Other(prefix) => query.add("entity_id", Some(&format!("{prefix}*"))),
        }
        query.add("filter", self.filter.as_deref());
        query.add("since", since);
        let mut query = ChangesQuery::parse(Some(&query.text))?;
        query.bytes_max = MCP_CHANGES_BYTES_MAX;
        query.limit = MCP_LIST_DEFAULT;
        query.wait_ms = self.due_ms.saturating_sub(context.uptime_ms);
        if self.progress_token.is_some() {
            query.wait_ms = query.wait_ms.min(MCP_PROGRESS_MS);
        }
        changes::begin(context, query, token)
    }

    /// Takes an outcome; `None` if it is a refusal.
    pub(super) fn take<L: Log>(
        &mut self,
        context: &mut Context<L>,
        asker: &Asker,
        (outcome, json): (&Outcome, &str),
    ) -> Option<Step> {
        let is_over = context.uptime_ms >= self.due_ms || context.counters.is_stopping();
        let found = match outcome {
            Outcome::Failed(_) => return None,
            Outcome::Page { next, cursor } => {
                let next = next.as_deref().and_then(ListQuery::after_of);
                self.take_page(json, (next.as_deref(), cursor.as_deref()?))?
            }
            _ => self.take_poll(json, is_over)?,
        };
        let cursor = match found {
            Found::Answer(found) => {
                let mut out = Vec::new();
                tool_result(&mut out, (&asker.id, asker.era), (&found, false));
                return Some(Step::Answer(out));
            }
            Found::Nothing { cursor } => cursor,
        };
        let notices = self.progress(context.uptime_ms);
        let begun = self.poll(context, asker.token, Some(&cursor));
        Some(Step::Next(notices, begun.unwrap_or_else(Begun::from)))
    }

    /// What matches already.
    fn take_page(&mut self, json: &str, (next, cursor): (Option<&str>, &str)) -> Option<Found> {
        self.is_looking = false;
        let matching = self.matching(json)?;
        if matching.is_empty() {
            let cursor = cursor.to_owned();
            return Some(Found::Nothing { cursor });
        }
        let matching = format!("[{}]", matching.join(","));
        let mut out = Vec::new();
        // Of an id, the page has all that there is.
        let next = next.filter(|_| matches!(self.target, Target::Other(_)));
        shape::entities(&mut out, &matching, (next, Some(cursor))).ok()?;
        let mut found = String::from_utf8(out).ok()?;
        found.insert_str(1, "\"timed_out\":false,");
        Some(Found::Answer(found))
    }

    /// What a poll brought.
    fn take_poll(&self, json: &str, is_over: bool) -> Option<Found> {
        let (all, cursor, _) = shape::poll(json)?;
        let wanted: Vec<_> = all.into_iter().filter(|it| self.wants(it)).collect();
        if wanted.is_empty() && !is_over {
            let cursor = cursor.into_owned();
            return Some(Found::Nothing { cursor });
        }
        let mut out = format!("{{\"timed_out\":{},", wanted.is_empty()).into_bytes();
        let is_cut = shape::changes(&mut out, &wanted).ok()?;
        shape::string_member(&mut out, "cursor", Some(&cursor));
        shape::end(&mut out, is_cut, None);
        String::from_utf8(out).ok().map(Found::Answer)
    }

    /// The entities of a page that are meant.
    fn matching<'j>(&self, json: &'j str) -> Option<Vec<&'j str>> {
        let found = shape::elements(json).ok()?;
        let is_meant = |entity: &&str| match &self.target {
            Target::Id(id) => shape::text_member(entity, "id").as_deref() == Some(id),
            Target::Other(_) => true,
        };
        Some(found.iter().map(|it| it.text).filter(is_meant).collect())
    }

    /// Whether a change is what is waited for: with a filter, that an entity matches.
    fn wants(&self, change: &RawValue<'_>) -> bool {
        let is_entity = || shape::text_member(change.text, "type").as_deref() == Some("entity");
        let matches = || match shape::member(change.text, "matches") {
            Some(matches) => matches.kind != Kind::False,
            None => true,
        };
        self.filter.is_none() || is_entity() && matches()
    }

    /// The notification that time goes by, if it is due and was asked for.
    pub(super) fn progress(&mut self, now_ms: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(token) = &self.progress_token else {
            return out;
        };
        let seconds = now_ms.saturating_sub(self.begun_ms) / 1000;
        if self.told_seconds.is_some_and(|told| told >= seconds) {
            return out;
        }
        self.told_seconds = Some(seconds);
        let total = self.due_ms.saturating_sub(self.begun_ms) / 1000;
        let params = format!(
            "\"progressToken\":{token},\"progress\":{seconds},\"total\":{total},\
             \"message\":\"waiting for a change\""
        );
        let mut message = Vec::new();
        notification(&mut message, "notifications/progress", &params);
        super::write_event(&mut out, &message);
        out
    }
}

/// What an outcome says.
enum Found {
    /// The JSON of the answer.
    Answer(String),
    /// Nothing that is waited for, up to this place.
    Nothing { cursor: String },
}
