//! What the streams of one connection together want of a change: it comes once for each mode, in
//! the form that serves all of them.

use super::events::Fate;
use super::frames::{Current, changed};
use super::{Stream, Streams};
use crate::api::stream_options::{StreamMode, StreamOptions};
use crate::model::EventView;
use crate::subscribe::Verdict;

/// Which properties are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut<'s> {
    /// All.
    All,
    /// Those of one stream, ascending.
    Of(&'s [Box<str>]),
    /// Those of several, ascending.
    OfSeveral(Vec<&'s str>),
}

impl<'s> Cut<'s> {
    /// True if the property is shown.
    pub(crate) fn shows(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(names) => names.binary_search_by(|it| (**it).cmp(name)).is_ok(),
            Self::OfSeveral(names) => names.binary_search(&name).is_ok(),
        }
    }

    /// True if that are all.
    pub(crate) const fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    fn join(&mut self, other: &Self) {
        let mut names = match (&*self, other) {
            (Self::All, _) => return,
            (_, Self::All) => {
                *self = Self::All;
                return;
            }
            (left, right) if left == right => return,
            (left, right) => {
                let mut names = left.names();
                names.extend(right.names());
                names
            }
        };
        names.sort_unstable();
        names.dedup();
        *self = Self::OfSeveral(names);
    }

    fn names(&self) -> Vec<&'s str> {
        match self {
            Self::All => Vec::new(),
            Self::Of(names) => names.iter().map(|name| &**name).collect(),
            Self::OfSeveral(names) => names.clone(),
        }
    }
}

/// How an entity stands to the filter of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It no longer matches.
    Ends,
    /// It matches, and has matched.
    Matches,
    /// It begins to match: the subscriber does not have it.
    Begins,
}

/// What is wanted in one mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aspect<'s> {
    /// Of which properties.
    pub(crate) cut: Cut<'s>,
    /// Of an entity that stands so.
    pub(crate) standing: Standing,
    /// Microseconds between two messages; `None`: any.
    pub(crate) interval_micros: Option<u64>,
}

impl Aspect<'_> {
    /// Adds what another stream wants in the same mode.
    fn join(&mut self, other: Self) {
        let is_out = |standing| standing == Standing::Ends;
        match (is_out(self.standing), is_out(other.standing)) {
            // For one of the two it is not there any more; the other one decides.
            (false, true) => return,
            (true, false) => {
                *self = other;
                return;
            }
            _ => {}
        }
        let intervals = self.interval_micros.zip(other.interval_micros);
        self.interval_micros = intervals.map(|(own, other)| own.min(other));
        self.standing = self.standing.max(other.standing);
        self.cut.join(&other.cut);
    }
}

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted<'s> {
    /// In mode `property`.
    pub(crate) property: Option<Aspect<'s>>,
    /// In mode `entity`.
    pub(crate) entity: Option<Aspect<'s>>,
    /// In mode `event`.
    pub(crate) event: bool,
}

impl Wanted<'_> {
    /// True if that is nothing.
    pub(crate) const fn is_nothing(&self) -> bool {
        self.property.is_none() && self.entity.is_none() && !self.event
    }
}

impl Streams {
    /// What these streams, all of one connection, want of a change. `is_told`: the connection was
    /// told of every property of it already, by a plain subscription.
    pub(crate) fn wanted<'s>(
        &'s self,
        own: &[u32],
        current: &Current<'_>,
        is_told: bool,
    ) -> Wanted<'s> {
        let mut wanted = Wanted::default();
        for stream in own.iter().filter_map(|index| self.get(*index)) {
            if stream.fate != Fate::Push {
                continue;
            }
            match stream.options.mode {
                StreamMode::Property if is_told => {}
                StreamMode::Property => join(&mut wanted.property, aspect(stream, current)),
                // A change that came without its event is before the subscription: the shard was
                // not asked for events then.
                StreamMode::Entity if !current.is_event() => {}
                StreamMode::Entity => join(&mut wanted.entity, aspect(stream, current)),
                StreamMode::Event => wanted.event |= wants_event(stream, current),
            }
        }
        wanted
    }
}

fn join<'s>(all: &mut Option<Aspect<'s>>, one: Option<Aspect<'s>>) {
    match (all, one) {
        (_, None) => {}
        (Some(all), Some(one)) => all.join(one),
        (all, one) => *all = one,
    }
}

/// What a stream with these options is shown.
pub(crate) fn cut_of(options: &StreamOptions) -> Cut<'_> {
    match &options.properties {
        None => Cut::All,
        Some(names) => Cut::Of(names),
    }
}

/// What one stream wants of a change.
fn aspect<'s>(stream: &'s Stream, current: &Current<'_>) -> Option<Aspect<'s>> {
    let cut = cut_of(&stream.options);
    let standing = match &stream.options.filter {
        None => Standing::Matches,
        // A change before the shard was asked to ask the filter is before the subscription.
        // One that is too costly ends its subscription.
        Some(filter) => match current.change.verdict(filter)?.ok()? {
            Verdict {
                before: false,
                after: false,
            } => return None,
            Verdict {
                before: false,
                after: true,
            } => Standing::Begins,
            Verdict { after: true, .. } => Standing::Matches,
            Verdict { .. } if current.is_deletion() => Standing::Matches,
            Verdict { .. } => Standing::Ends,
        },
    };
    let is_shown = standing != Standing::Matches || current.is_deletion() || current.touches(&cut);
    is_shown.then(|| Aspect {
        cut,
        standing,
        interval_micros: stream.options.interval_micros,
    })
}

pub(super) fn wants_event(stream: &Stream, current: &Current<'_>) -> bool {
    // What is in no log is no event.
    current.change.sequence().is_some()
        && current.is_event()
        && (current.is_tombstone() || current.touches(&cut_of(&stream.options)))
}

/// True if `properties` selects an event, in mode `event`.
pub(crate) fn selects(cut: &Cut<'_>, event: &EventView<'_>) -> bool {
    cut.is_all() || event.tombstone || changed(event).any(|(name, _)| cut.shows(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aspect(cut: Cut<'_>, standing: Standing, interval_micros: Option<u64>) -> Aspect<'_> {
        Aspect {
            cut,
            standing,
            interval_micros,
        }
    }

    #[test]
    fn several_streams_are_served_by_one_message() {
        use Standing::{Begins, Ends, Matches};
        let check = |one: &Aspect<'static>, other: &Aspect<'static>, expected: &Aspect<'static>| {
            for (first, second) in [(one, other), (other, one)] {
                let mut joined = first.clone();
                joined.join(second.clone());
                assert_eq!(joined, *expected, "{first:?} {second:?}");
            }
        };
        let names = |names: &[&str]| -> &'static [Box<str>] {
            names
                .iter()
                .map(|name| Box::from(*name))
                .collect::<Vec<_>>()
                .leak()
        };
        let (ab, bc) = (Cut::Of(names(&["a", "b"])), Cut::Of(names(&["b", "c"])));
        let abc = Cut::OfSeveral(vec!["a", "b", "c"]);
        check(
            &aspect(ab.clone(), Matches, Some(10)),
            &aspect(bc.clone(), Begins, Some(5)),
            &aspect(abc, Begins, Some(5)),
        );
        check(
            &aspect(ab.clone(), Matches, Some(10)),
            &aspect(Cut::All, Matches, None),
            &aspect(Cut::All, Matches, None),
        );
        // It is there for the one, and gone for the other: it is there.
        check(
            &aspect(ab.clone(), Matches, Some(10)),
            &aspect(bc.clone(), Ends, None),
            &aspect(ab.clone(), Matches, Some(10)),
        );
        check(
            &aspect(ab.clone(), Ends, None),
            &aspect(ab.clone(), Ends, Some(3)),
            &aspect(ab, Ends, None),
        );
    }
}
