//! WebSocket messages from clients (API contract §8).

use super::error::ApiError;
use super::json::{JsonError, Kind, RawValue, Scanner};
use crate::limits;

/// The pattern of a message that names none.
const EVERYTHING: &str = "*";

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Push changes of what the pattern names.
    Subscribe(Box<str>),
    /// Take that same subscription back.
    Unsubscribe(Box<str>),
    /// Answer with a pong.
    Ping,
}

/// A message and the `id` its answer carries, as JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessage {
    /// The client's `id`: a string or a number, JSON text.
    pub id: Option<Box<str>>,
    /// What it asks for, or why it can't be understood.
    pub action: Result<Action, ApiError>,
}

/// Understands one text message. Never fails as a whole: what is wrong goes back to the client as
/// an answer.
pub fn parse(message: &str) -> ClientMessage {
    let mut fields = Fields::default();
    match fields.read(message) {
        Ok(()) => {
            let action = fields.action();
            ClientMessage {
                id: fields.id,
                action,
            }
        }
        Err(error) => ClientMessage {
            id: None,
            action: Err(error.into()),
        },
    }
}

/// The options of a subscription (API contract §13).
const OPTIONS: [&str; 6] = [
    "snapshot",
    "since",
    "mode",
    "properties",
    "filter",
    "max_hz",
];

#[derive(Default)]
struct Fields {
    id: Option<Box<str>>,
    kind: Option<Box<str>>,
    entity_id: Option<Box<str>>,
    /// The members of a `subscribe` that ask for what this server does not do yet (API contract
    /// §13).
    not_supported: Vec<&'static str>,
    /// The rules that were broken, each with the member that broke it; one that comes again starts
    /// afresh.
    errors: Vec<(&'static str, ApiError)>,
}

impl Fields {
    fn read(&mut self, message: &str) -> Result<(), JsonError> {
        let mut scanner = Scanner::new(message.as_bytes())?;
        if scanner.kind()? != Kind::Object {
            let rule = "a message must be a JSON object";
            self.errors.push(("", ApiError::Shape { rule }));
            scanner.raw_value()?;
            return scanner.finish();
        }
        let mut scratch = String::new();
        scanner.begin_object()?;
        while let Some(key) = scanner.next_key()? {
            scratch.clear();
            match key.decode(&mut scratch) {
                "id" => self.read_id(&mut scanner)?,
                "type" => self.kind = self.text(&mut scanner, "type")?,
                // Clients in use send either name.
                "entity_id" | "entityId" => {
                    self.entity_id = self.text(&mut scanner, "entity_id")?;
                }
                name => {
                    let option = OPTIONS.iter().find(|option| **option == name);
                    let value = scanner.raw_value()?;
                    if let Some(option) = option {
                        self.read_option(option, &value);
                    }
                }
            }
        }
        scanner.finish()
    }

    /// Notes an option of a subscription, unless it asks for what every subscription does.
    fn read_option(&mut self, option: &'static str, value: &RawValue<'_>) {
        self.not_supported.retain(|other| *other != option);
        let is_default = match option {
            "snapshot" => value.kind == Kind::False,
            "mode" => value.text == "\"property\"",
            _ => false,
        };
        if !is_default && value.kind != Kind::Null {
            self.not_supported.push(option);
        }
    }

    fn read_id(&mut self, scanner: &mut Scanner<'_>) -> Result<(), JsonError> {
        self.errors.retain(|(field, _)| *field != "id");
        let value = scanner.raw_value()?;
        let fits = value.text.len() <= limits::MESSAGE_ID_BYTES_MAX;
        if fits && matches!(value.kind, Kind::String | Kind::Number) {
            self.id = Some(value.text.into());
        } else {
            self.id = None;
            self.invalid("id", "a string or a number of at most 256 bytes");
        }
        Ok(())
    }

    fn text(
        &mut self,
        scanner: &mut Scanner<'_>,
        field: &'static str,
    ) -> Result<Option<Box<str>>, JsonError> {
        self.errors.retain(|(broken, _)| *broken != field);
        if scanner.kind()? == Kind::String {
            let mut scratch = String::new();
            return Ok(Some(scanner.string()?.decode(&mut scratch).into()));
        }
        scanner.raw_value()?;
        self.invalid(field, "a string");
        Ok(None)
    }

    fn invalid(&mut self, field: &'static str, rule: &'static str) {
        self.errors
            .push((field, ApiError::InvalidField { field, rule }));
    }

    fn action(&mut self) -> Result<Action, ApiError> {
        if let Some((_, error)) = self.errors.drain(..).next() {
            return Err(error);
        }
        let kind = self
            .kind
            .take()
            .ok_or(ApiError::MissingField { field: "type" })?;
        let pattern = self.entity_id.take().unwrap_or_else(|| EVERYTHING.into());
        match &*kind {
            "subscribe" => match self.not_supported.first() {
                Some(feature) => Err(ApiError::NotSupported { feature }),
                None => Ok(Action::Subscribe(pattern)),
            },
            "unsubscribe" => Ok(Action::Unsubscribe(pattern)),
            "ping" => Ok(Action::Ping),
            _ => Err(ApiError::InvalidField {
                field: "type",
                rule: "one of `subscribe`, `unsubscribe` and `ping`",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood_with_their_id() {
        let check = |message, id: Option<&str>, action| {
            let id = id.map(Box::from);
            assert_eq!(
                parse(message),
                ClientMessage {
                    id,
                    action: Ok(action)
                },
                "{message}"
            );
        };
        check(
            r#"{"type":"subscribe","entity_id":"a/*"}"#,
            None,
            Action::Subscribe("a/*".into()),
        );
        check(r#"{"id":7,"type":"ping"}"#, Some("7"), Action::Ping);
        check(
            r#"{"type":"subscribe"}"#,
            None,
            Action::Subscribe("*".into()),
        );
        check(
            r#"{"type":"subscribe","entityId":"a"}"#,
            None,
            Action::Subscribe("a".into()),
        );
        check(
            r#"{"type":"unsubscribe","entity_id":"*","id":"x\n"}"#,
            Some(r#""x\n""#),
            Action::Unsubscribe("*".into()),
        );
    }

    #[test]
    fn options_of_a_subscription_are_refused_and_not_ignored() {
        let check = |kind: &str, options: &str, expected: Option<&'static str>| {
            let message = format!(r#"{{"id":1,"type":"{kind}","entity_id":"a",{options}}}"#);
            let parsed = parse(&message);
            assert_eq!(parsed.id.as_deref(), Some("1"), "{message}");
            match expected {
                None => assert!(parsed.action.is_ok(), "{message}"),
                Some(feature) => assert_eq!(
                    parsed.action,
                    Err(ApiError::NotSupported { feature }),
                    "{message}"
                ),
            }
        };
        check("subscribe", r#""snapshot":true"#, Some("snapshot"));
        check("subscribe", r#""since":"AQ""#, Some("since"));
        check("subscribe", r#""mode":"event""#, Some("mode"));
        check("subscribe", r#""properties":["a"]"#, Some("properties"));
        check("subscribe", r#""filter":"exists(a)""#, Some("filter"));
        check("subscribe", r#""max_hz":1"#, Some("max_hz"));
        check("subscribe", r#""\u006dax_hz":1"#, Some("max_hz"));
        check("subscribe", r#""mode":null,"mode":7"#, Some("mode"));
        check("subscribe", r#""mode":7,"mode":"property""#, None);
        check("subscribe", r#""snapshot":false,"since":null"#, None);
        check("subscribe", r#""other":1"#, None);
        check("unsubscribe", r#""snapshot":true"#, None);
        check("ping", r#""since":"x""#, None);
    }

    #[test]
    fn what_can_not_be_understood_is_refused_with_its_id_where_that_is_known() {
        let check = |message, id: Option<&str>, code| {
            let parsed = parse(message);
            assert_eq!(parsed.id.as_deref(), id, "{message}");
            assert_eq!(parsed.action.unwrap_err().code(), code, "{message}");
        };
        check("nonsense", None, "invalid_json");
        check("[]", None, "invalid_body");
        check(r#"{"id":1}"#, Some("1"), "missing_field");
        check(r#"{"id":1,"type":"jump"}"#, Some("1"), "invalid_field");
        check(r#"{"id":[],"type":"ping"}"#, None, "invalid_field");
    }
}
