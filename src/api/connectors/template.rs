//! Entity ids with gaps that an item fills: `weather/{city}`, `room/{/location/name}`.

use super::pointer::Pointer;
use serde_json::Value;

/// A part of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Gap { written: Box<str>, pointer: Pointer },
}

/// See the module.
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

    /// True where no item changes it.
    pub fn is_fixed(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The id of an item.
    ///
    /// # Errors
    /// What the item lacks.
    pub fn fill(&self, item: &Value) -> Result<String, String> {
        let mut id = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => id.push_str(text),
                Part::Gap { written, pointer } => match pointer.of(item) {
                    Some(Value::String(text)) if !text.is_empty() => id.push_str(text),
                    Some(Value::Number(number)) => id.push_str(&number.to_string()),
                    Some(Value::Bool(flag)) => id.push_str(if *flag { "true" } else { "false" }),
                    Some(_) => {
                        return Err(format!(
                            "`{{{written}}}` of `entity_id` is no text, number or boolean, or empty"
                        ));
                    }
                    None => return Err(format!("`{{{written}}}` of `entity_id` is missing")),
                },
            }
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn gaps_are_filled_from_the_item() {
        let item =
            json!({"city": "Bern", "at": {"x/y": 7}, "ok": true, "list": [], "no": null, "e": ""});
        let fill = |text: &str| Template::parse(text).unwrap().fill(&item);
        assert_eq!(fill("weather/{city}").as_deref(), Ok("weather/Bern"));
        assert_eq!(fill("{/at/x~1y}-{ok}!").as_deref(), Ok("7-true!"));
        assert_eq!(fill("fixed").as_deref(), Ok("fixed"));
        for text in ["{list}", "{no}", "{at}", "{e}", "{nothing}", "{/city/x}"] {
            let error = fill(text).unwrap_err();
            assert!(error.contains(text), "{error}");
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
