//! Who watches a shard: which cores want which changes in which form, and the filters that the
//! shard asks for them.
//!
//! ```text
//! event ─▶ before(entity) ─▶ apply ─▶ wanted(entity after) ─▶ cores, filters' verdicts
//! ```
//!
//! Filters are asked here because only the owner of an entity has it as it was and as it is. Each
//! distinct filter is kept once, and is asked of a change only if a subscription with it names the
//! change's id.

use crate::api::ApiError;
use crate::filter::{Facts, Filter};
use crate::limits::FILTERS_PER_SHARD_MAX;
use crate::state::Entity;
use crate::subscribe::{FilterVerdict, Interest, Registry, Verdict};
use hashbrown::HashMap;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    /// Interests held.
    count: usize,
    /// Cores that want frames of properties.
    frames: Registry<u16>,
    /// Cores that want events.
    events: Registry<u16>,
    /// Which filters are asked of which ids.
    filtered: Registry<u32>,
    filters: Vec<Option<HeldFilter>>,
    by_text: HashMap<Box<str>, u32>,
    asked: Vec<u32>,
    /// What was found out about the change at hand.
    wanted: Wanted,
}

#[derive(Debug)]
struct HeldFilter {
    filter: Arc<Filter>,
    /// Interests with it.
    count: usize,
}

/// Who wants a change, and what its filters say of it.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Cores that want frames of properties, ascending.
    pub(super) frames: Vec<u16>,
    /// Cores that want the event, ascending.
    pub(super) events: Vec<u16>,
    /// What each filter says that was asked.
    pub(super) verdicts: Vec<FilterVerdict>,
}

impl Wanted {
    /// True if the entity begins to match a filter.
    pub(super) fn begins(&self) -> bool {
        let begins = |it: &FilterVerdict| !it.verdict.before && it.verdict.after;
        self.verdicts.iter().any(begins)
    }
}

impl Watchers {
    /// `core` wants what `interest` says.
    ///
    /// # Errors
    /// If the shard asks too many filters already.
    pub(super) fn subscribe(&mut self, core: u16, interest: &Interest) -> Result<(), ApiError> {
        if let Some(filter) = &interest.filter {
            let index = self.hold(filter)?;
            self.filtered.subscribe(index, &interest.pattern);
        }
        if interest.forms.frames {
            self.frames.subscribe(core, &interest.pattern);
        }
        if interest.forms.events {
            self.events.subscribe(core, &interest.pattern);
        }
        self.count += 1;
        Ok(())
    }

    /// `core` takes one such interest back.
    pub(super) fn unsubscribe(&mut self, core: u16, interest: &Interest) {
        let pattern = &interest.pattern;
        let mut removed = false;
        if interest.forms.frames {
            removed |= self.frames.unsubscribe(core, pattern);
        }
        if interest.forms.events {
            removed |= self.events.unsubscribe(core, pattern);
        }
        if !removed {
            return;
        }
        self.count = self.count.saturating_sub(1);
        if let Some(filter) = &interest.filter
            && let Some(&index) = self.by_text.get(filter.text())
            && self.filtered.unsubscribe(index, pattern)
        {
            self.release(index);
        }
    }

    /// True if nobody watches.
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// True if filters are asked.
    pub(super) fn has_filters(&self) -> bool {
        !self.by_text.is_empty()
    }

    /// Asks the filters about an entity before it changes; `None`: there is none.
    pub(super) fn ask_before(&mut self, entity_id: &str, entity: Option<Entity<'_>>) {
        self.filtered.matches(entity_id, &mut self.asked);
        self.wanted.verdicts.clear();
        for index in &self.asked {
            let Some(Some(held)) = self.filters.get(*index as usize) else {
                continue;
            };
            let before = matches(&held.filter, entity);
            let filter = Arc::clone(&held.filter);
            let verdict = Verdict {
                before,
                after: false,
            };
            self.wanted.verdicts.push(FilterVerdict { filter, verdict });
        }
    }

    /// Who wants a change; asks the filters that were asked before about the entity after it.
    pub(super) fn ask_after(&mut self, entity_id: &str, entity: Option<Entity<'_>>) -> &Wanted {
        for it in &mut self.wanted.verdicts {
            it.verdict.after = matches(&it.filter, entity);
        }
        self.wanted_by_cores(entity_id)
    }

    /// Who wants a change, if no filter is asked.
    pub(super) fn ask_none(&mut self, entity_id: &str) -> &Wanted {
        self.wanted.verdicts.clear();
        self.wanted_by_cores(entity_id)
    }

    fn wanted_by_cores(&mut self, entity_id: &str) -> &Wanted {
        self.frames.matches(entity_id, &mut self.wanted.frames);
        self.events.matches(entity_id, &mut self.wanted.events);
        &self.wanted
    }

    fn hold(&mut self, filter: &Arc<Filter>) -> Result<u32, ApiError> {
        if let Some(&index) = self.by_text.get(filter.text()) {
            if let Some(Some(held)) = self.filters.get_mut(index as usize) {
                held.count += 1;
            }
            return Ok(index);
        }
        if self.by_text.len() >= FILTERS_PER_SHARD_MAX {
            let limit = u32::try_from(FILTERS_PER_SHARD_MAX).unwrap_or(u32::MAX);
            let holder = "all subscriptions together name filters, and hold";
            return Err(ApiError::SubscriptionsExhausted { holder, limit });
        }
        let held = HeldFilter {
            filter: Arc::clone(filter),
            count: 1,
        };
        let vacant = self.filters.iter().position(Option::is_none);
        let index = vacant.unwrap_or(self.filters.len());
        match self.filters.get_mut(index) {
            Some(place) => *place = Some(held),
            None => self.filters.push(Some(held)),
        }
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.by_text.insert(filter.text().into(), index);
        Ok(index)
    }

    fn release(&mut self, index: u32) {
        let Some(place) = self.filters.get_mut(index as usize) else {
            return;
        };
        let Some(held) = place else {
            return;
        };
        held.count -= 1;
        if held.count == 0 {
            self.by_text.remove(held.filter.text());
            *place = None;
        }
    }
}

fn matches(filter: &Filter, entity: Option<Entity<'_>>) -> bool {
    entity.is_some_and(|entity| filter.matches(&Facts::of(entity.head()), entity.properties()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscribe::{Filter as Pattern, Forms};

    fn interest(pattern: &str, filter: Option<&str>) -> Interest {
        Interest {
            pattern: Pattern::parse(pattern).unwrap(),
            forms: Forms {
                frames: filter.is_none(),
                events: filter.is_some(),
            },
            filter: filter.map(|text| Arc::new(Filter::parse(text).unwrap())),
        }
    }

    #[test]
    fn a_filter_is_held_once_and_as_long_as_an_interest_names_it() {
        let mut watchers = Watchers::default();
        let (wide, narrow) = (
            interest("*", Some("exists(a)")),
            interest("n/*", Some("exists(a)")),
        );
        for one in [&wide, &narrow, &wide] {
            watchers.subscribe(1, one).unwrap();
        }
        assert_eq!(watchers.by_text.len(), 1);
        watchers.ask_before("n/a", None);
        assert_eq!(watchers.ask_after("n/a", None).verdicts.len(), 1);
        watchers.unsubscribe(1, &wide);
        watchers.unsubscribe(1, &wide);
        watchers.unsubscribe(1, &wide);
        watchers.ask_before("m/a", None);
        assert!(watchers.ask_after("m/a", None).verdicts.is_empty());
        watchers.unsubscribe(1, &narrow);
        assert!(watchers.is_empty() && !watchers.has_filters());
    }

    #[test]
    fn one_filter_more_than_allowed_is_refused_and_room_is_used_again() {
        let mut watchers = Watchers::default();
        let one = |index: usize| interest("*", Some(&format!("eq(a,{index})")));
        for index in 0..FILTERS_PER_SHARD_MAX {
            watchers.subscribe(0, &one(index)).unwrap();
        }
        let more = one(FILTERS_PER_SHARD_MAX);
        let refused = watchers.subscribe(0, &more).unwrap_err();
        assert_eq!(refused.code(), "too_many_subscriptions");
        watchers.unsubscribe(0, &one(7));
        watchers.subscribe(0, &more).unwrap();
        assert_eq!(watchers.filters.len(), FILTERS_PER_SHARD_MAX);
    }

    #[test]
    fn cores_are_told_in_the_form_that_they_ask_for() {
        let mut watchers = Watchers::default();
        watchers.subscribe(2, &interest("n/*", None)).unwrap();
        watchers
            .subscribe(1, &interest("*", Some("exists(a)")))
            .unwrap();
        let wanted = watchers.ask_none("n/a");
        assert_eq!((&*wanted.frames, &*wanted.events), (&[2][..], &[1][..]));
    }
}
