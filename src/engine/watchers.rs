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
use crate::filter::{Effort, Facts, Filter};
use crate::limits::{
    FILTER_CHANGE_UNITS_MAX, FILTER_COMPARISONS_PER_SHARD_MAX, FILTERS_PER_SHARD_MAX,
};
use crate::state::Entity;
use crate::subscribe::{FilterVerdict, Interest, Registry, TooCostly, Verdict};
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
    /// Comparisons of all filters.
    comparisons: usize,
    asked: Vec<u32>,
    /// Filters that need more than an equal share of what they may look at: their verdicts.
    unfinished: Vec<(usize, Effort)>,
    /// Units of work that the filters have taken.
    spent: u64,
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
        let begins = |it: &FilterVerdict| it.verdict.is_ok_and(|it| !it.before && it.after);
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

    /// Units of work that the filters have taken.
    pub(super) const fn spent(&self) -> u64 {
        self.spent
    }

    /// Asks the filters about an entity before it changes; `None`: there is none.
    pub(super) fn ask_before(&mut self, entity_id: &str, entity: Option<Entity<'_>>) {
        self.filtered.matches(entity_id, &mut self.asked);
        self.wanted.verdicts.clear();
        for index in &self.asked {
            let Some(Some(held)) = self.filters.get(*index as usize) else {
                continue;
            };
            let filter = Arc::clone(&held.filter);
            let verdict = Ok(Verdict {
                before: false,
                after: false,
            });
            self.wanted.verdicts.push(FilterVerdict { filter, verdict });
        }
        self.judge(entity, |verdict, matches| verdict.before = matches);
    }

    /// Who wants a change; asks the filters that were asked before about the entity after it.
    pub(super) fn ask_after(&mut self, entity_id: &str, entity: Option<Entity<'_>>) -> &Wanted {
        self.judge(entity, |verdict, matches| verdict.after = matches);
        self.wanted_by_cores(entity_id)
    }

    /// Asks each filter about an entity. What all of them together may look at is bounded, because
    /// the change and the core wait meanwhile. Each has an equal share of it; a filter that needs
    /// more has a share of what the others leave. One that needs more still is too costly.
    fn judge(&mut self, entity: Option<Entity<'_>>, note: impl Fn(&mut Verdict, bool)) {
        let Some(entity) = entity else {
            return;
        };
        let facts = Facts::of(entity.head());
        let verdicts = &mut self.wanted.verdicts;
        let mut left = FILTER_CHANGE_UNITS_MAX;
        let share = left / verdicts.len().max(1) as u64;
        for (index, it) in verdicts.iter_mut().enumerate() {
            let Ok(verdict) = &mut it.verdict else {
                continue;
            };
            let mut effort = Effort::strict(share);
            match (it.filter).judge(&facts, entity.properties(), &mut effort) {
                Some(matches) => note(verdict, matches),
                None => self.unfinished.push((index, effort)),
            }
            left = left.saturating_sub(effort.spent());
            self.spent += effort.spent();
        }
        let count = self.unfinished.len();
        for (number, (index, mut effort)) in self.unfinished.drain(..).enumerate() {
            let Some(it) = verdicts.get_mut(index) else {
                continue;
            };
            let before = effort.spent();
            effort.give(left / (count - number) as u64);
            let matches = (it.filter).judge(&facts, entity.properties(), &mut effort);
            match (&mut it.verdict, matches) {
                (Ok(verdict), Some(matches)) => note(verdict, matches),
                (verdict, _) => *verdict = Err(TooCostly),
            }
            let spent = effort.spent() - before;
            left = left.saturating_sub(spent);
            self.spent += spent;
        }
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
        if self.comparisons + filter.comparisons() > FILTER_COMPARISONS_PER_SHARD_MAX {
            let limit = FILTER_COMPARISONS_PER_SHARD_MAX;
            return Err(ApiError::ComparisonsExhausted { limit });
        }
        self.comparisons += filter.comparisons();
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
            self.comparisons -= held.filter.comparisons();
            self.by_text.remove(held.filter.text());
            *place = None;
        }
    }
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

    #[test]
    fn comparisons_of_all_filters_are_bounded_and_come_back() {
        let mut watchers = Watchers::default();
        let one = |number: usize| {
            let part = format!("eq(a,{number})");
            interest("*", Some(&format!("and({})", vec![part; 64].join(","))))
        };
        let most = FILTER_COMPARISONS_PER_SHARD_MAX / 64;
        for number in 0..most {
            watchers.subscribe(0, &one(number)).unwrap();
        }
        let refused = watchers.subscribe(0, &one(most)).unwrap_err();
        assert_eq!(refused.code(), "too_many_subscriptions");
        watchers.unsubscribe(0, &one(3));
        watchers.subscribe(0, &one(most)).unwrap();
    }

    #[test]
    fn a_filter_that_looks_at_too_much_is_too_costly_and_no_other() {
        let mut watchers = Watchers::default();
        let search = |count: usize, number: usize| {
            let part = format!(r#"like(text,"*{number}")"#);
            format!("or({})", vec![part; count].join(","))
        };
        // One that can be judged, one that can't, and as many as make an equal share small.
        let mut filters = vec![search(1, 1), search(64, 2)];
        filters.extend((0..1000).map(|number| format!("eq(kind,{number})")));
        for filter in &filters {
            watchers.subscribe(0, &interest("*", Some(filter))).unwrap();
        }
        let mut engine = crate::engine::Engine::default();
        let text = format!("\"\\n{}1\"", "a".repeat(256 * 1024));
        let properties = [("kind", "7"), ("text", text.as_str())];
        crate::engine::testing::TestEvent::new("x", (&properties, false), &[])
            .publish((&mut engine, &mut crate::log::MemoryLog::new()))
            .unwrap();
        let entity = engine.state().get("x").unwrap();
        watchers.ask_before("x", None);
        let wanted = watchers.ask_after("x", entity);
        let verdict = |text: &str| {
            let found = wanted.verdicts.iter().find(|it| it.filter.text() == text);
            found.map(|it| it.verdict.map(|verdict| verdict.after))
        };
        assert_eq!(verdict(&filters[0]), Some(Ok(true)));
        assert_eq!(verdict(&filters[1]), Some(Err(TooCostly)));
        for (number, filter) in filters[2..].iter().enumerate() {
            assert_eq!(verdict(filter), Some(Ok(number == 7)));
        }
        assert!(watchers.spent() <= 2 * FILTER_CHANGE_UNITS_MAX);
    }
}
