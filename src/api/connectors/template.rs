//! Templates of entity ids, with gaps that an item fills: `weather/{city}`,
//! `room/{/location/name}`.

use super::pointer::Pointer;
use super::selection::Taken;
use crate::api::json::{Kind, Scanner};
use crate::limits::ENTITY_ID_BYTES_MAX;

/// A part of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Gap { written: Box<str>, pointer: Pointer },
}

/// Why an item has no entity id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GapError {
    /// The item does not have what this gap names.
    #[error("`{{{0}}}` of `entity_id` is missing")]
    Missing(Box<str>),
    /// What this gap names can't be part of an id.
    #[error("`{{{0}}}` of `entity_id` is no text, number or boolean, or empty")]
    NoText(Box<str>),
}

/// A template, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const UNPAIRED: &str = "a text in which `{` and `}` come in pairs that are not nested";
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (gap, behind) = after.split_once('}').ok_or(UNPAIRED)?;
            if before.contains('}') || gap.contains('{') {
                return Err(UNPAIRED);
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let pointer = if gap.is_empty() {
                return Err("a text whose `{}` name a member or hold a JSON Pointer");
            } else if gap.starts_with('/') {
                Pointer::parse(gap).ok_or("a text whose `{/…}` hold JSON Pointers (RFC 6901)")?
            } else {
                Pointer::to_member(gap)
            };
            parts.push(Part::Gap {
                written: gap.into(),
                pointer,
            });
            rest = behind;
        }
        if rest.contains('}') {
            return Err(UNPAIRED);
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { parts })
    }

    /// The text before the first gap.
    pub fn beginning(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            Some(Part::Gap { .. }) | None => "",
        }
    }

    /// True if it has no gap.
    pub fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The pointers of the gaps, in order.
    pub(super) fn pointers(&self) -> impl Iterator<Item = &Pointer> {
        self.parts.iter().filter_map(|part| match part {
            Part::Gap { pointer, .. } => Some(pointer),
            Part::Text(_) => None,
        })
    }

    /// The id of an item. `values`: what the gaps' [`pointers`](Self::pointers) point to. One that
    /// is too long for an entity is cut behind the first byte that is too many.
    ///
    /// # Errors
    /// [`GapError`], for the first gap that has no text.
    pub(super) fn fill<'v>(
        &self,
        values: impl IntoIterator<Item = Taken<'v>>,
    ) -> Result<String, GapError> {
        let mut values = values.into_iter();
        let mut id = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => id.push_str(text),
                Part::Gap { written, .. } => {
                    let Some((kind, text)) = values.next().flatten() else {
                        return Err(GapError::Missing(written.clone()));
                    };
                    let len = id.len();
                    match kind {
                        Kind::String => push_string(&mut id, text),
                        Kind::Number | Kind::True | Kind::False => id.push_str(text),
                        Kind::Object | Kind::Array | Kind::Null => {}
                    }
                    if id.len() == len {
                        return Err(GapError::NoText(written.clone()));
                    }
                }
            }
            if id.len() > ENTITY_ID_BYTES_MAX {
                let ends = id
                    .char_indices()
                    .map(|(start, it)| start.saturating_add(it.len_utf8()));
                let too_long = ends.into_iter().find(|end| *end > ENTITY_ID_BYTES_MAX);
                id.truncate(too_long.unwrap_or(id.len()));
                break;
            }
        }
        id.shrink_to_fit();
        Ok(id)
    }
}

/// Appends the text of a JSON string.
fn push_string(out: &mut String, json: &str) {
    let string = Scanner::new(json.as_bytes()).and_then(|mut scanner| scanner.string());
    if let Ok(string) = string {
        string.decode_onto(out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::selection::Selection;
    use super::*;

    fn fill(text: &str, item: &str) -> Option<String> {
        let template = Template::parse(text).unwrap();
        let selection = Selection::new(template.pointers());
        let filled = template.fill(selection.take(item.as_bytes()).unwrap());
        if let Err(error) = &filled {
            assert!(error.to_string().contains(text), "{error}");
        }
        filled.ok()
    }

    #[test]
    fn gaps_are_filled_from_the_item() {
        let item = r#"{"city":"B\u0065rn","at":{"x/y":1e2},"ok":true,"list":[],"no":null,"e":""}"#;
        assert_eq!(
            fill("weather/{city}", item).as_deref(),
            Some("weather/Bern")
        );
        assert_eq!(fill("{/at/x~1y}-{ok}!", item).as_deref(), Some("1e2-true!"));
        assert_eq!(fill("fixed", item).as_deref(), Some("fixed"));
        for text in ["{list}", "{no}", "{at}", "{e}", "{nothing}", "{/city/x}"] {
            assert_eq!(fill(text, item), None);
        }
    }

    #[test]
    fn an_id_that_is_too_long_stays_so_and_grows_no_further() {
        let long = format!(r#"{{"a":"{}"}}"#, "ä".repeat(10_000));
        for template in ["{a}", "{a}{a}", "x{a}"] {
            let id = fill(template, &long).unwrap();
            assert!((513..=514).contains(&id.len()), "{}", id.len());
        }
    }

    #[test]
    fn braces_come_in_pairs() {
        for text in [
            "{", "}", "a{b", "a}b", "{a{b}}", "{a}}", "}{", "{}", "{/a~}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        let template = Template::parse("house/{a}").unwrap();
        assert_eq!(template.beginning(), "house/");
        assert!(!template.is_fixed());
        assert_eq!(Template::parse("{a}/house").unwrap().beginning(), "");
        assert!(Template::parse("house/lamp").unwrap().is_fixed());
    }
}
