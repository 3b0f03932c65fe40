//! What a subscription asks for besides a pattern (API contract §13), the same over every protocol.
//!
//! A protocol reads its members or parameters into [`StreamMembers`], as texts; what they mean and
//! which of them go together is decided here.

use super::error::ApiError;
use super::query::Fields;
use crate::filter::Filter;
use crate::limits;
use crate::model::Cursor;
use std::sync::Arc;

/// What a subscriber is told of each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamMode {
    /// A message for each property.
    #[default]
    Property,
    /// A message for each event: what it changed.
    Entity,
    /// Every event as it is stored.
    Event,
}

/// What comes before the live changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StreamStart {
    /// Nothing.
    #[default]
    Live,
    /// The current entities.
    Snapshot,
    /// What has happened after this place.
    Since(Cursor),
}

/// What a subscription asks for besides its pattern.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// What is told of each change.
    pub mode: StreamMode,
    /// Only changes to these, ascending; `None`: to all.
    pub properties: Option<Fields>,
    /// Only of entities that match.
    pub filter: Option<Arc<Filter>>,
    /// Microseconds between two messages of one entity, or property, at least.
    pub interval_micros: Option<u64>,
    /// What comes first.
    pub start: StreamStart,
    /// It asks for anything that a plain subscription does not name.
    pub is_extended: bool,
}

impl StreamOptions {
    /// True if its changes are those of a plain subscription.
    pub fn is_plain(&self) -> bool {
        self.mode == StreamMode::Property
            && self.start == StreamStart::Live
            && self.properties.is_none()
            && self.filter.is_none()
            && self.interval_micros.is_none()
    }
}

/// The options as a client wrote them, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamMembers<'m> {
    /// `mode`.
    pub mode: Option<&'m str>,
    /// `snapshot`.
    pub snapshot: Option<bool>,
    /// `since`.
    pub since: Option<&'m str>,
    /// `properties`, in any order.
    pub properties: Option<Vec<Box<str>>>,
    /// `filter`.
    pub filter: Option<&'m str>,
    /// `max_hz`: a number's text.
    pub max_hz: Option<&'m str>,
}

impl StreamMembers<'_> {
    /// What they ask for. A member that is `None` takes its default.
    ///
    /// # Errors
    /// If one of them is not as it must be, or does not go with another.
    pub fn read(self, default_mode: StreamMode) -> Result<StreamOptions, ApiError> {
        let is_extended = self != Self::default();
        let mode = self.mode.map_or(Ok(default_mode), parse_mode)?;
        let start = match (self.snapshot, self.since) {
            (Some(true), Some(_)) => {
                return Err(invalid("since", "not together with `snapshot`"));
            }
            (Some(true), None) => StreamStart::Snapshot,
            (_, None) => StreamStart::Live,
            (_, Some(text)) => {
                let cursor = Cursor::parse(text);
                StreamStart::Since(cursor.or(Err(ApiError::InvalidCursor { name: "since" }))?)
            }
        };
        if mode == StreamMode::Event {
            for (field, is_there) in [
                ("filter", self.filter.is_some()),
                ("max_hz", self.max_hz.is_some()),
            ] {
                if is_there {
                    return Err(invalid(field, "not together with the mode `event`"));
                }
            }
        }
        Ok(StreamOptions {
            mode,
            properties: self.properties.map(parse_properties).transpose()?,
            filter: match self.filter {
                None => None,
                Some(text) => Some(Arc::new(Filter::parse(text)?)),
            },
            interval_micros: self.max_hz.map(parse_rate).transpose()?,
            start,
            is_extended,
        })
    }
}

const fn invalid(field: &'static str, rule: &'static str) -> ApiError {
    ApiError::InvalidField { field, rule }
}

fn parse_mode(text: &str) -> Result<StreamMode, ApiError> {
    match text {
        "property" => Ok(StreamMode::Property),
        "entity" => Ok(StreamMode::Entity),
        "event" => Ok(StreamMode::Event),
        _ => Err(invalid("mode", "one of `property`, `entity` and `event`")),
    }
}

fn parse_properties(mut names: Vec<Box<str>>) -> Result<Fields, ApiError> {
    if !(1..=limits::STREAM_PROPERTIES_MAX).contains(&names.len()) {
        return Err(invalid("properties", "1 to 64 names"));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names.into())
}

/// The interval that a rate in hertz leaves, in microseconds.
fn parse_rate(text: &str) -> Result<u64, ApiError> {
    let rate = text.parse::<f64>().ok();
    let rate = rate.filter(|rate| (0.1..=100.0).contains(rate));
    let rate = rate.ok_or(invalid("max_hz", "a number from 0.1 to 100"))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 10,000 and 10,000,000"
    )]
    let micros = (1_000_000.0 / rate).ceil() as u64;
    Ok(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(members: StreamMembers<'_>) -> Result<StreamOptions, ApiError> {
        members.read(StreamMode::Property)
    }

    #[test]
    fn without_members_a_subscription_is_plain() {
        let options = read(StreamMembers::default()).unwrap();
        assert!(options.is_plain() && !options.is_extended);
        let named = read(StreamMembers {
            mode: Some("property"),
            ..StreamMembers::default()
        });
        let named = named.unwrap();
        assert!(named.is_plain() && named.is_extended);
        let default = StreamMembers::default().read(StreamMode::Entity);
        assert!(!default.unwrap().is_plain());
    }

    #[test]
    fn what_is_out_of_bounds_or_contradicts_itself_is_refused() {
        let check = |members: StreamMembers<'_>, code: &str| {
            assert_eq!(
                read(members.clone()).unwrap_err().code(),
                code,
                "{members:?}"
            );
        };
        let of = StreamMembers::default;
        let names = |count: usize| (0..count).map(|n| n.to_string().into()).collect();
        for mode in ["", "Entity", "events"] {
            let mode = Some(mode);
            check(StreamMembers { mode, ..of() }, "invalid_field");
        }
        for count in [0, 65] {
            let properties = Some(names(count));
            check(StreamMembers { properties, ..of() }, "invalid_field");
        }
        for rate in ["0", "0.09999", "100.0001", "-1", "1e9", "NaN", "x", ""] {
            let max_hz = Some(rate);
            check(StreamMembers { max_hz, ..of() }, "invalid_field");
        }
        let mode = Some("event");
        let filter = Some("exists(a)");
        check(
            StreamMembers {
                mode,
                filter,
                ..of()
            },
            "invalid_field",
        );
        let max_hz = Some("1");
        check(
            StreamMembers {
                mode,
                max_hz,
                ..of()
            },
            "invalid_field",
        );
        let filter = Some("exists(");
        check(StreamMembers { filter, ..of() }, "invalid_filter");
        let since = Some("x");
        check(StreamMembers { since, ..of() }, "invalid_cursor");
        let snapshot = Some(true);
        check(
            StreamMembers {
                snapshot,
                since,
                ..of()
            },
            "invalid_field",
        );
    }

    #[test]
    fn names_are_in_order_and_a_rate_is_an_interval() {
        let options = read(StreamMembers {
            properties: Some(["b", "a", "b"].map(Box::from).into()),
            max_hz: Some("2.5"),
            snapshot: Some(false),
            ..StreamMembers::default()
        });
        let options = options.unwrap();
        assert_eq!(options.properties, Some(["a", "b"].map(Box::from).into()));
        assert_eq!(options.interval_micros, Some(400_000));
        assert_eq!(options.start, StreamStart::Live);
        for (rate, micros) in [("0.1", 10_000_000), ("100", 10_000), ("1e1", 100_000)] {
            let max_hz = Some(rate);
            let options = read(StreamMembers {
                max_hz,
                ..StreamMembers::default()
            });
            assert_eq!(options.unwrap().interval_micros, Some(micros));
        }
    }
}
