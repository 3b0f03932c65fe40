//! Namespaces with what they hold: one, or a list. The list is gathered a slice at a time, so that
//! however many there are, no core is kept from its other work.

use super::{Context, Outcome};
use crate::api::ApiError;
use crate::api::namespaces::{self, NamespacesQuery, ShownNamespace};
use crate::control::Namespace;
use crate::engine::NamespaceCounts;
use crate::limits::NAMESPACES_PER_SLICE;
use crate::log::Log;
use crate::model::{Timestamp, Visibility, place_key};
use crate::shard::{RequestId, ShardRequest};

/// See the module.
#[derive(Debug)]
pub(crate) struct NamespacePage {
    /// What was asked for; `None`: one alone.
    query: Option<NamespacesQuery>,
    /// How many more may be shown.
    left: usize,
    /// Those whose counts are awaited.
    slice: Vec<Shown>,
    /// Which of them each shard was asked for, in its order.
    asked: Vec<Vec<usize>>,
    waiting: usize,
    /// The JSON of those before, separated by commas.
    body: Vec<u8>,
    /// The way to the next page.
    link: Option<String>,
}

#[derive(Debug)]
struct Shown {
    id: Box<str>,
    name: Box<str>,
    created: Timestamp,
    entities: u64,
    visibility: Visibility,
}

impl Shown {
    fn of(namespace: &Namespace) -> Self {
        Self {
            id: namespace.id.clone(),
            name: namespace.name.clone(),
            created: namespace.created,
            entities: 0,
            visibility: namespace.visibility,
        }
    }
}

impl NamespacePage {
    /// One, alone.
    ///
    /// # Errors
    /// If there is none of that name, or its shard can't be asked.
    pub(super) fn one<L: Log>(
        context: &mut Context<L>,
        name: &str,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        let known = context
            .tenants
            .registry
            .get(name)
            .ok_or(ApiError::NoNamespace)?;
        let mut page = Self::empty(None, 1);
        page.slice.push(Shown::of(known));
        page.ask(context, request_id)?;
        Ok(page)
    }

    /// A list.
    ///
    /// # Errors
    /// If a shard can't be asked.
    pub(super) fn list<L: Log>(
        context: &mut Context<L>,
        query: NamespacesQuery,
        request_id: RequestId,
    ) -> Result<Self, ApiError> {
        let after = query.after.clone();
        let left = query.limit.unwrap_or(usize::MAX);
        let mut page = Self::empty(Some(query), left);
        page.go_on(context, after.as_deref(), request_id)?;
        Ok(page)
    }

    fn empty(query: Option<NamespacesQuery>, left: usize) -> Self {
        Self {
            query,
            left,
            slice: Vec::new(),
            asked: Vec::new(),
            waiting: 0,
            body: Vec::new(),
            link: None,
        }
    }

    /// True once everything is known that the answer says.
    pub(super) fn is_done(&self) -> bool {
        self.waiting == 0
    }

    /// Takes the next slice of a list, after this name, and asks what it holds.
    fn go_on<L: Log>(
        &mut self,
        context: &mut Context<L>,
        after: Option<&str>,
        request_id: RequestId,
    ) -> Result<(), ApiError> {
        let count = self.left.min(NAMESPACES_PER_SLICE);
        let mut found = context.tenants.registry.list(after);
        self.slice = found.by_ref().take(count).map(Shown::of).collect();
        let has_more = found.next().is_some();
        drop(found);
        self.left -= self.slice.len();
        if let (Some(query), Some(last)) = (&self.query, self.slice.last())
            && self.left == 0
            && has_more
        {
            self.link = Some(query.next_link(&last.name));
        }
        self.ask(context, request_id)
    }

    fn ask<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
    ) -> Result<(), ApiError> {
        self.asked = vec![Vec::new(); usize::from(context.router.shards)];
        for (index, shown) in self.slice.iter().enumerate() {
            self.asked[usize::from(place_key(&shown.name, context.router.shards))].push(index);
        }
        for (shard, indexes) in (0..).zip(&self.asked) {
            if !indexes.is_empty() {
                let names = indexes.iter().map(|index| self.slice[*index].name.clone());
                context
                    .router
                    .ask(shard, request_id, ShardRequest::Namespaces(names.collect()))?;
                self.waiting += 1;
            }
        }
        Ok(())
    }

    /// Takes a shard's counts, and goes on if the slice is known.
    ///
    /// # Errors
    /// If a shard can't be asked for the next.
    pub(super) fn take<L: Log>(
        &mut self,
        context: &mut Context<L>,
        request_id: RequestId,
        (shard, held): (u16, &[NamespaceCounts]),
    ) -> Result<(), ApiError> {
        self.waiting = self.waiting.saturating_sub(1);
        for (index, held) in self.asked[usize::from(shard)].iter().zip(held) {
            self.slice[*index].entities = held.entities;
        }
        if self.waiting > 0 {
            return Ok(());
        }
        for shown in &self.slice {
            if !self.body.is_empty() {
                self.body.push(b',');
            }
            let shown = ShownNamespace {
                id: &shown.id,
                name: &shown.name,
                created: shown.created,
                entities: shown.entities,
                visibility: shown.visibility,
            };
            namespaces::namespace(&mut self.body, shown);
        }
        match self.slice.pop() {
            Some(last) if self.query.is_some() && self.left > 0 => {
                self.go_on(context, Some(&last.name), request_id)
            }
            _ => Ok(()),
        }
    }

    /// What it came to.
    pub(super) fn finish<L>(self, context: &mut Context<L>) -> Outcome {
        context.answer.clear();
        if self.query.is_some() {
            context.answer.extend_from_slice(b"{\"namespaces\":[");
            context.answer.extend_from_slice(&self.body);
            context.answer.extend_from_slice(b"]}");
        } else {
            context.answer.extend_from_slice(&self.body);
        }
        Outcome::Page {
            next: self.link,
            cursor: None,
        }
    }
}
