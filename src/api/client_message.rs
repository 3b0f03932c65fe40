//! WebSocket messages from clients (API contract §8, §13).

use super::error::ApiError;
use super::json::{JsonError, Kind, RawValue, Scanner};
use crate::limits;

/// The pattern of a message that names none.
const EVERYTHING: &str = "*";

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'m> {
    /// Push changes of what the pattern names.
    Subscribe(Box<str>),
    /// Take that same subscription back.
    Unsubscribe(Box<str>),
    /// Answer with a pong.
    Ping,
    /// Answer with the result of a call.
    Request(Request<'m>),
}

/// A call that is answered as its REST counterpart is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'m> {
    /// Publish the event that is this JSON.
    Publish(&'m str),
    /// Publish the batch that is this message: its `events` are those of a batch's body.
    PublishBatch(&'m str),
    /// Read this entity.
    Get(Box<str>),
    /// Delete an entity.
    Delete {
        /// Its id.
        id: Box<str>,
        /// The JSON text of the conditions that have to hold.
        expect: Option<&'m str>,
    },
}

/// A message and the `id` its answer carries, as JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessage<'m> {
    /// The client's `id`: a string or a number, JSON text.
    pub id: Option<Box<str>>,
    /// What it asks for, or why it can't be understood.
    pub action: Result<Action<'m>, ApiError>,
}

/// Understands one text message. Never fails as a whole: what is wrong goes back to the client as
/// an answer.
pub fn parse(message: &str) -> ClientMessage<'_> {
    let mut fields = Fields::default();
    match fields.read(message) {
        Ok(()) => {
            let action = fields.action(message);
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

/// The members of a message that ask for what this server does not do yet, each with the type of
/// message that may carry it (API contract §13, §14).
const OPTIONS: [(&str, &str); 8] = [
    ("subscribe", "snapshot"),
    ("subscribe", "since"),
    ("subscribe", "mode"),
    ("subscribe", "properties"),
    ("subscribe", "filter"),
    ("subscribe", "max_hz"),
    ("publish", "bind"),
    ("publish", "linger"),
];

#[derive(Default)]
struct Fields<'m> {
    id: Option<Box<str>>,
    kind: Option<Box<str>>,
    entity_id: Option<Box<str>>,
    /// The JSON text of `event`.
    event: Option<&'m str>,
    /// The JSON text of `expect`, unless it is null.
    expect: Option<&'m str>,
    /// The names in [`OPTIONS`] that were there.
    options: Vec<&'static str>,
    /// The rules that were broken, each with the member that broke it; one that comes again starts
    /// afresh.
    errors: Vec<(&'static str, ApiError)>,
}

impl<'m> Fields<'m> {
    fn read(&mut self, message: &'m str) -> Result<(), JsonError> {
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
                "event" => self.event = Some(scanner.raw_value()?.text),
                "expect" => {
                    let value = scanner.raw_value()?;
                    self.expect = (value.kind != Kind::Null).then_some(value.text);
                }
                name => {
                    let option = OPTIONS.iter().find(|(_, option)| *option == name);
                    let value = scanner.raw_value()?;
                    if let Some((_, option)) = option {
                        self.read_option(option, &value);
                    }
                }
            }
        }
        scanner.finish()
    }

    /// Notes an option, unless it asks for what is done without it.
    fn read_option(&mut self, option: &'static str, value: &RawValue<'_>) {
        self.options.retain(|other| *other != option);
        let is_default = match option {
            "snapshot" | "bind" => value.kind == Kind::False,
            "mode" => value.text == "\"property\"",
            _ => false,
        };
        if !is_default && value.kind != Kind::Null {
            self.options.push(option);
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

    fn action(&mut self, message: &'m str) -> Result<Action<'m>, ApiError> {
        if let Some((_, error)) = self.errors.drain(..).next() {
            return Err(error);
        }
        let kind = self.kind.take();
        let kind = kind.ok_or(ApiError::MissingField { field: "type" })?;
        let unsupported = OPTIONS
            .iter()
            .find(|(of, option)| **of == *kind && self.options.contains(option));
        if let Some((_, feature)) = unsupported {
            return Err(ApiError::NotSupported { feature });
        }
        if self.expect.is_some() && *kind != *"delete" {
            return Err(ApiError::InvalidField {
                field: "expect",
                rule: "only in a `delete`, and in the `event` of a `publish`",
            });
        }
        let request = match &*kind {
            "subscribe" => return Ok(Action::Subscribe(self.pattern())),
            "unsubscribe" => return Ok(Action::Unsubscribe(self.pattern())),
            "ping" => return Ok(Action::Ping),
            "publish" => self
                .event
                .map(Request::Publish)
                .ok_or(ApiError::MissingField { field: "event" }),
            "publish_batch" => Ok(Request::PublishBatch(message)),
            "get" => self.entity_id().map(Request::Get),
            "delete" => self.entity_id().map(|id| Request::Delete {
                id,
                expect: self.expect,
            }),
            _ => {
                return Err(ApiError::InvalidField {
                    field: "type",
                    rule: "one of `subscribe`, `unsubscribe`, `ping`, `publish`, `publish_batch`, \
                        `get` and `delete`",
                });
            }
        };
        if self.id.is_none() {
            return Err(ApiError::MissingId);
        }
        request.map(Action::Request)
    }

    fn pattern(&mut self) -> Box<str> {
        self.entity_id.take().unwrap_or_else(|| EVERYTHING.into())
    }

    fn entity_id(&mut self) -> Result<Box<str>, ApiError> {
        let field = "entity_id";
        self.entity_id
            .take()
            .ok_or(ApiError::MissingField { field })
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
    fn a_request_is_understood_with_its_id_and_refused_without_one() {
        let event = r#"{"stream":"s"}"#;
        let check = |members: &str, request: &dyn Fn(&'static str) -> Request<'static>| {
            let message: &'static str = format!(r#"{{"id":7,{members}}}"#).leak();
            let action = parse(message).action;
            assert_eq!(action, Ok(Action::Request(request(message))), "{message}");
            let message = format!("{{{members}}}");
            assert_eq!(
                parse(&message).action,
                Err(ApiError::MissingId),
                "{message}"
            );
        };
        check(&format!(r#""type":"publish","event":{event}"#), &|_| {
            Request::Publish(event)
        });
        check(
            r#""type":"publish_batch","events":[]"#,
            &Request::PublishBatch,
        );
        check(r#""type":"get","entity_id":"a/*""#, &|_| {
            Request::Get("a/*".into())
        });
        for (expect, expected) in [
            ("", None),
            (r#","expect":null"#, None),
            (r#","expect":{"absent":true}"#, Some(r#"{"absent":true}"#)),
            (r#","expect":1,"\u0065xpect":{}"#, Some("{}")),
        ] {
            check(
                &format!(r#""type":"delete","entity_id":"a"{expect}"#),
                &|_| Request::Delete {
                    id: "a".into(),
                    expect: expected,
                },
            );
        }
        for message in [
            r#"{"id":1,"type":"publish","event":{},"expect":{}}"#,
            r#"{"id":1,"type":"publish_batch","events":[],"expect":{}}"#,
            r#"{"id":1,"type":"get","entity_id":"a","expect":{}}"#,
        ] {
            let error = parse(message).action.unwrap_err();
            assert!(
                matches!(
                    error,
                    ApiError::InvalidField {
                        field: "expect",
                        ..
                    }
                ),
                "{message}: {error}"
            );
        }
        for (message, field) in [
            (r#"{"id":1,"type":"publish"}"#, "event"),
            (r#"{"id":1,"type":"get"}"#, "entity_id"),
            (r#"{"id":1,"type":"delete"}"#, "entity_id"),
        ] {
            assert_eq!(parse(message).action, Err(ApiError::MissingField { field }));
        }
    }

    #[test]
    fn options_are_refused_and_not_ignored() {
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
        check("publish", r#""event":{},"bind":true"#, Some("bind"));
        check("publish", r#""event":{},"linger":1"#, Some("linger"));
        check("publish", r#""event":{},"bind":false"#, None);
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
