//! WebSocket messages from clients (API contract §8, §13).

use super::error::ApiError;
use super::event::check_misplaced;
use super::event_member::BESIDE_EVENT;
use super::json::{JsonError, Kind, Place, RawValue, Scanner};
use super::stream_options::{StreamMembers, StreamMode, StreamOptions, StreamStart};
use crate::limits;
use std::borrow::Cow;
use std::fmt;

/// The pattern of a message that names none.
const EVERYTHING: &str = "*";

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'m> {
    /// Push changes of what the pattern names.
    Subscribe(Box<Subscribe>),
    /// Take that same subscription back.
    Unsubscribe(Box<str>),
    /// Answer with a pong.
    Ping,
    /// Add this token to the connection.
    Auth(Secret),
    /// Answer with the result of a call.
    Request(Request<'m>),
}

/// A token that a message brings, which nothing shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Its text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a client subscribes to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The ids.
    pub pattern: Box<str>,
    /// What it asks for besides.
    pub options: StreamOptions,
}

/// A call that is answered as its REST counterpart is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'m> {
    /// Publish an event.
    Publish {
        /// Its JSON.
        event: &'m str,
        /// Bind its entity to the connection; it lingers for so many milliseconds.
        linger_ms: Option<u32>,
    },
    /// Publish the event that begins at this place of the message. It is not looked at yet: if it
    /// is not JSON, or something follows it, [`parse_whole`] says what the message asks for.
    PublishFrom(&'m str, Place),
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
    pub id: Option<&'m str>,
    /// What it asks for, or why it can't be understood.
    pub action: Result<Action<'m>, ApiError>,
    /// It is to store events, as far as it is understood.
    pub stores_events: bool,
}

/// Understands one text message. Never fails as a whole: what is wrong goes back to the client as
/// an answer.
///
/// Most messages publish, and their event comes last. Such a one is not walked over here, because
/// whoever publishes it does that.
pub fn parse(message: &str) -> ClientMessage<'_> {
    usual_publish(message).unwrap_or_else(|| read(message, Fields::default()))
}

/// The same, of a message whose [`Request::PublishFrom`] turned out to be none.
pub fn parse_whole(message: &str) -> ClientMessage<'_> {
    let fields = Fields {
        whole: true,
        ..Fields::default()
    };
    read(message, fields)
}

fn read<'m>(message: &'m str, mut fields: Fields<'m>) -> ClientMessage<'m> {
    let read = fields.read(message);
    let stores_events = matches!(
        fields.kind.as_deref(),
        Some("publish" | "publish_batch" | "delete")
    );
    let (id, action) = match read {
        Ok(()) => {
            let action = fields.action(message);
            (fields.id, action)
        }
        Err(error) => (None, Err(error.into())),
    };
    ClientMessage {
        id,
        action,
        stores_events,
    }
}

/// The message if it is what most are: a `type`, an `id` and an event behind them, and nothing else
/// before it. `None` says nothing: [`read`] understands every message, in three times as many
/// instructions.
fn usual_publish(message: &str) -> Option<ClientMessage<'_>> {
    let mut scanner = Scanner::of_text(message).ok()?;
    scanner.begin_object().ok()?;
    let (mut is_publish, mut id) = (false, None);
    loop {
        match scanner.known_key(UsualMember::known)? {
            UsualMember::Type => {
                is_publish = scanner.string_or_other().ok()??.plain() == Some("publish");
            }
            UsualMember::Id => id = Some(scanner.raw_value().ok().filter(is_message_id)?.text),
            UsualMember::Event => {
                id.filter(|_| is_publish)?;
                let request = Request::PublishFrom(message, scanner.place());
                let action = Ok(Action::Request(request));
                return Some(ClientMessage {
                    id,
                    action,
                    stores_events: true,
                });
            }
        }
    }
}

/// A member of a message that publishes.
#[derive(Clone, Copy)]
enum UsualMember {
    Type,
    Id,
    Event,
}

impl UsualMember {
    /// The member that `text` begins with, as a name in quotes, and the bytes of that.
    fn known(text: &[u8]) -> Option<(Self, usize)> {
        let names = [
            (Self::Type, &b"\"type\""[..]),
            (Self::Id, b"\"id\""),
            (Self::Event, b"\"event\""),
        ];
        let mut names = names.iter();
        let (member, name) = names.find(|(_, name)| text.starts_with(name))?;
        Some((*member, name.len()))
    }
}

/// Whether a value may be a message's `id`.
fn is_message_id(value: &RawValue<'_>) -> bool {
    let fits = value.text.len() <= limits::MESSAGE_ID_BYTES_MAX;
    fits && matches!(value.kind, Kind::String | Kind::Number)
}

/// The members of a subscription that ask for more than a plain one has.
const STREAM_MEMBERS: [&str; 6] = [
    "mode",
    "snapshot",
    "since",
    "properties",
    "filter",
    "max_hz",
];

#[derive(Default)]
struct Fields<'m> {
    /// All of the message is to be read.
    whole: bool,
    id: Option<&'m str>,
    kind: Option<Cow<'m, str>>,
    entity_id: Option<Cow<'m, str>>,
    /// The JSON text of `event`.
    event: Option<&'m str>,
    /// Where the event begins, behind which nothing was read.
    event_place: Option<Place>,
    /// The JSON text of `expect`, unless it is null.
    expect: Option<&'m str>,
    /// `token`, which only an `auth` looks at.
    token: Option<RawValue<'m>>,
    /// `bind` and `linger`.
    bind: Option<RawValue<'m>>,
    linger: Option<RawValue<'m>>,
    /// The values of [`STREAM_MEMBERS`] that were there, each name once.
    stream: Vec<(&'static str, RawValue<'m>)>,
    /// The rules that were broken, each with the member that broke it; one that comes again starts
    /// afresh.
    errors: Vec<(&'static str, ApiError)>,
}

impl<'m> Fields<'m> {
    fn read(&mut self, message: &'m str) -> Result<(), JsonError> {
        let mut scanner = Scanner::of_text(message)?;
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
                "event" if self.may_publish_now() => {
                    self.event_place = Some(scanner.place());
                    return Ok(());
                }
                "event" => self.event = Some(scanner.raw_value()?.text),
                "expect" => {
                    let value = scanner.raw_value()?;
                    self.expect = (value.kind != Kind::Null).then_some(value.text);
                }
                "token" => self.token = Some(scanner.raw_value()?),
                "bind" => self.bind = Some(scanner.raw_value()?),
                "linger" => self.linger = Some(scanner.raw_value()?),
                name => {
                    let member = STREAM_MEMBERS.iter().find(|member| **member == name);
                    let value = scanner.raw_value()?;
                    if let Some(member) = member {
                        self.stream.retain(|(other, _)| other != member);
                        self.stream.push((member, value));
                    }
                }
            }
        }
        scanner.finish()
    }

    /// True if the message publishes, should nothing follow its event.
    fn may_publish_now(&self) -> bool {
        let is_publish = self.kind.as_deref() == Some("publish");
        let binds = self
            .bind
            .iter()
            .any(|bind| !matches!(bind.kind, Kind::False | Kind::Null))
            || self.linger.iter().any(|linger| linger.kind != Kind::Null);
        let is_plain = !binds && self.expect.is_none() && self.errors.is_empty();
        is_publish && is_plain && self.id.is_some() && !self.whole
    }

    fn read_id(&mut self, scanner: &mut Scanner<'m>) -> Result<(), JsonError> {
        self.errors.retain(|(field, _)| *field != "id");
        let value = scanner.raw_value()?;
        if is_message_id(&value) {
            self.id = Some(value.text);
        } else {
            self.id = None;
            self.invalid("id", "a string or a number of at most 256 bytes");
        }
        Ok(())
    }

    fn text(
        &mut self,
        scanner: &mut Scanner<'m>,
        field: &'static str,
    ) -> Result<Option<Cow<'m, str>>, JsonError> {
        self.errors.retain(|(broken, _)| *broken != field);
        if scanner.kind()? == Kind::String {
            return Ok(Some(scanner.string()?.to_cow()));
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
        if self.expect.is_some() && *kind != *"delete" {
            return Err(ApiError::InvalidField {
                field: "expect",
                rule: "only in a `delete`, and in the `event` of a `publish`",
            });
        }
        let linger_ms = self.linger_ms(&kind)?;
        let request = match &*kind {
            "subscribe" => return self.subscribe(),
            "unsubscribe" => return Ok(Action::Unsubscribe(self.pattern())),
            "ping" => return Ok(Action::Ping),
            "auth" => return self.secret().map(Action::Auth),
            "publish" => match (self.event_place, self.event) {
                (Some(place), _) => Ok(Request::PublishFrom(message, place)),
                (None, Some(event)) => Ok(Request::Publish { event, linger_ms }),
                (None, None) => Err(ApiError::MissingField { field: "event" }),
            },
            "publish_batch" => Ok(Request::PublishBatch(message)),
            "get" => self.entity_id().map(Request::Get),
            "delete" => self.entity_id().map(|id| Request::Delete {
                id,
                expect: self.expect,
            }),
            _ => {
                return Err(ApiError::InvalidField {
                    field: "type",
                    rule: "one of `subscribe`, `unsubscribe`, `ping`, `auth`, `publish`, \
                        `publish_batch`, `get` and `delete`",
                });
            }
        };
        if self.id.is_none() {
            return Err(ApiError::MissingId);
        }
        request.map(Action::Request)
    }

    fn subscribe(&mut self) -> Result<Action<'m>, ApiError> {
        let mut texts = [const { String::new() }; 3];
        let options = read_stream_members(&self.stream, &mut texts)?.read(StreamMode::Property)?;
        if self.id.is_none() && options.start != StreamStart::Live {
            return Err(ApiError::MissingId);
        }
        let pattern = self.pattern();
        Ok(Action::Subscribe(Box::new(Subscribe { pattern, options })))
    }

    fn secret(&self) -> Result<Secret, ApiError> {
        let field = "token";
        let value = self.token.as_ref().filter(|it| it.kind != Kind::Null);
        let value = value.ok_or(ApiError::MissingField { field })?;
        if value.kind != Kind::String {
            let rule = "a string";
            return Err(ApiError::InvalidField { field, rule });
        }
        let mut text = String::new();
        decode_string(value.text, &mut text)?;
        Ok(Secret(text.into()))
    }

    /// How long an entity lingers that the message asks to bind.
    fn linger_ms(&self, kind: &str) -> Result<Option<u32>, ApiError> {
        let invalid = |field, rule| Err(ApiError::InvalidField { field, rule });
        let bind = self.bind.as_ref().map_or(Kind::Null, |value| value.kind);
        let linger = self
            .linger
            .as_ref()
            .filter(|value| value.kind != Kind::Null);
        if kind != "publish" {
            check_misplaced("bind", bind, BESIDE_EVENT)?;
            let linger = linger.map_or(Kind::Null, |value| value.kind);
            check_misplaced("linger", linger, BESIDE_EVENT)?;
            return Ok(None);
        }
        match (bind, linger) {
            (Kind::True, None) => Ok(Some(limits::BINDING_LINGER_MS_DEFAULT)),
            (Kind::True, Some(linger)) => match linger_ms(linger) {
                None => invalid("linger", "a number of seconds from 0 to 300"),
                linger_ms => Ok(linger_ms),
            },
            (Kind::False | Kind::Null, None) => Ok(None),
            (Kind::False | Kind::Null, Some(_)) => invalid("linger", "only with `bind`: true"),
            _ => invalid("bind", "true or false"),
        }
    }

    fn pattern(&mut self) -> Box<str> {
        let pattern = self.entity_id.take();
        pattern.map_or_else(|| EVERYTHING.into(), Box::from)
    }

    fn entity_id(&mut self) -> Result<Box<str>, ApiError> {
        let field = "entity_id";
        let id = self.entity_id.take().map(Box::from);
        id.ok_or(ApiError::MissingField { field })
    }
}

/// Decodes the members of a subscription; `texts`: room for the strings among them.
fn read_stream_members<'m>(
    members: &[(&'static str, RawValue<'m>)],
    [mode, since, filter]: &'m mut [String; 3],
) -> Result<StreamMembers<'m>, ApiError> {
    let mut read = StreamMembers::default();
    for (field, value) in members {
        let field = *field;
        let invalid = |rule| ApiError::InvalidField { field, rule };
        match (field, value.kind) {
            (_, Kind::Null) => {}
            ("snapshot", Kind::True) => read.snapshot = Some(true),
            ("snapshot", Kind::False) => read.snapshot = Some(false),
            ("snapshot", _) => return Err(invalid("true or false")),
            ("max_hz", Kind::Number) => read.max_hz = Some(value.text),
            ("max_hz", _) => return Err(invalid("a number from 0.1 to 100")),
            ("properties", Kind::Array) => read.properties = Some(read_names(value.text)?),
            ("properties", _) => return Err(invalid("1 to 64 names")),
            ("mode", Kind::String) => decode_string(value.text, mode)?,
            ("since", Kind::String) => decode_string(value.text, since)?,
            ("filter", Kind::String) => decode_string(value.text, filter)?,
            _ => return Err(invalid("a string")),
        }
    }
    let is_there = |name: &str| {
        let mut members = members.iter();
        members.any(|(field, value)| *field == name && value.kind == Kind::String)
    };
    read.mode = is_there("mode").then_some(mode.as_str());
    read.since = is_there("since").then_some(since.as_str());
    read.filter = is_there("filter").then_some(filter.as_str());
    Ok(read)
}

/// Decodes a JSON string.
fn decode_string(json: &str, out: &mut String) -> Result<(), ApiError> {
    let mut scanner = Scanner::new(json.as_bytes())?;
    scanner.string()?.decode_onto(out);
    Ok(())
}

/// Decodes a JSON array of strings.
fn read_names(json: &str) -> Result<Vec<Box<str>>, ApiError> {
    let mut scanner = Scanner::new(json.as_bytes())?;
    let mut names = Vec::new();
    scanner.begin_array()?;
    while scanner.next_element()? {
        if scanner.kind()? != Kind::String || names.len() > limits::STREAM_PROPERTIES_MAX {
            let (field, rule) = ("properties", "1 to 64 names");
            return Err(ApiError::InvalidField { field, rule });
        }
        let mut name = String::new();
        scanner.string()?.decode_onto(&mut name);
        names.push(name.into());
    }
    Ok(names)
}

/// The milliseconds of a `linger`; `None` if it is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be from 0 to 300,000"
)]
fn linger_ms(value: &RawValue<'_>) -> Option<u32> {
    let seconds: f64 = value.text.parse().ok()?;
    let is_within = (0.0..=f64::from(limits::BINDING_LINGER_SECONDS_MAX)).contains(&seconds);
    (value.kind == Kind::Number && is_within).then(|| (seconds * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cursor, CursorScope};
    use flux_storage::Sequence;

    fn plain(pattern: &str) -> Action<'static> {
        let options = StreamOptions::default();
        let pattern = pattern.into();
        Action::Subscribe(Box::new(Subscribe { pattern, options }))
    }

    #[test]
    fn messages_are_understood_with_their_id() {
        let check = |message, id: Option<&'static str>, action| {
            assert_eq!(
                parse(message),
                ClientMessage {
                    id,
                    action: Ok(action),
                    stores_events: false,
                },
                "{message}"
            );
        };
        check(
            r#"{"type":"subscribe","entity_id":"a/*"}"#,
            None,
            plain("a/*"),
        );
        check(r#"{"id":7,"type":"ping"}"#, Some("7"), Action::Ping);
        check(r#"{"type":"subscribe"}"#, None, plain("*"));
        check(r#"{"type":"subscribe","entityId":"a"}"#, None, plain("a"));
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
        check(&format!(r#""event":{event},"type":"publish""#), &|_| {
            Request::Publish {
                event,
                linger_ms: None,
            }
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
            let error = parse_whole(message).action.unwrap_err();
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
    fn an_event_that_comes_last_is_left_to_whoever_publishes_it() {
        let event = r#"{"stream":"s"}"#;
        let is_left = |message: &str| {
            let action = parse(message).action;
            matches!(action, Ok(Action::Request(Request::PublishFrom(_, place)))
                if message[place.offset()..].starts_with(event))
        };
        let before = [
            (r#""type":"publish","id":1"#, true),
            (r#""id":"a","other":{},"type":"publish""#, true),
            (r#""id":1,"type":"publish","linger":null"#, true),
            (r#""type":"publish""#, false),
            (r#""id":1"#, false),
            (r#""id":1,"type":"get""#, false),
            (r#""id":[],"type":"publish""#, false),
            (r#""id":1,"type":"publish","bind":true"#, false),
            (r#""id":1,"type":"publish","expect":{}"#, false),
        ];
        for (members, expected) in before {
            let message = format!(r#"{{{members},"event":{event}}}"#);
            assert_eq!(is_left(&message), expected, "{message}");
            let whole = parse_whole(&message).action;
            let is_whole = whole
                == Ok(Action::Request(Request::Publish {
                    event,
                    linger_ms: None,
                }));
            assert_eq!(is_whole, expected, "{message}");
        }
    }

    #[test]
    fn a_usual_publish_is_understood_as_every_message_is() {
        let (mut usual, mut texts) = (0, Vec::new());
        for plain in [
            r#"{"type":"publish","id":12,"event":{"id":1}}"#,
            r#"{ "id":"a\n","type":"publish", "event":{},"bind":true}"#,
        ] {
            for at in 0..=plain.len() {
                let (before, after) = plain.split_at(at);
                texts.push(before.to_owned());
                for piece in [
                    "",
                    ",",
                    " ",
                    "\"",
                    ":",
                    "}",
                    "\\",
                    "x",
                    "\"id\":3,",
                    "\"type\":1,",
                ] {
                    texts.push(format!("{before}{piece}{after}"));
                    let after = after.get(1..).unwrap_or_default();
                    texts.push(format!("{before}{piece}{after}"));
                }
            }
        }
        for text in &texts {
            if let Some(message) = usual_publish(text) {
                usual += 1;
                assert_eq!(message, read(text, Fields::default()), "{text}");
            }
        }
        assert!(usual > 100, "{usual} of {}", texts.len());
        let id = "1".repeat(limits::MESSAGE_ID_BYTES_MAX + 1);
        let text = format!(r#"{{"type":"publish","id":{id},"event":{{}}}}"#);
        assert!(usual_publish(&text).is_none());
    }

    #[test]
    fn a_publish_may_bind_its_entity_and_nothing_else_may() {
        let check = |kind: &str, members: &str, expected: Result<Option<u32>, &'static str>| {
            let head = format!(r#""id":1,"type":"{kind}","event":{{}},"entity_id":"a""#);
            let message = format!("{{{head},{members}}}");
            let found = match parse_whole(&message).action {
                Ok(Action::Request(Request::Publish { linger_ms, .. })) => Ok(linger_ms),
                Ok(_) => Ok(None),
                Err(ApiError::InvalidField { field, .. }) => Err(field),
                Err(error) => panic!("{message}: {error}"),
            };
            assert_eq!(found, expected, "{message}");
        };
        check("publish", r#""bind":true"#, Ok(Some(5000)));
        check("publish", r#""bind":true,"linger":null"#, Ok(Some(5000)));
        check("publish", r#""b\u0069nd":true,"linger":0"#, Ok(Some(0)));
        check("publish", r#""bind":true,"linger":0.25"#, Ok(Some(250)));
        check("publish", r#""bind":true,"linger":3e2"#, Ok(Some(300_000)));
        check("publish", r#""bind":false,"linger":null"#, Ok(None));
        check("publish", r#""bind":null"#, Ok(None));
        check("publish", r#""bind":true,"linger":300.1"#, Err("linger"));
        check("publish", r#""bind":true,"linger":-1"#, Err("linger"));
        check("publish", r#""bind":true,"linger":"5""#, Err("linger"));
        check("publish", r#""linger":5"#, Err("linger"));
        check("publish", r#""bind":false,"linger":5"#, Err("linger"));
        check("publish", r#""bind":1"#, Err("bind"));
        for kind in ["publish_batch", "get", "delete", "subscribe", "ping"] {
            check(kind, r#""bind":true"#, Err("bind"));
            check(kind, r#""linger":1"#, Err("linger"));
            check(kind, r#""bind":false"#, Ok(None));
        }
    }

    #[test]
    fn members_that_ask_for_nothing_are_passed_over() {
        let check = |kind: &str, members: &str| {
            let message = format!(r#"{{"id":1,"type":"{kind}","entity_id":"a",{members}}}"#);
            let parsed = parse_whole(&message);
            assert_eq!(parsed.id, Some("1"), "{message}");
            assert!(parsed.action.is_ok(), "{message}");
        };
        check("subscribe", r#""other":1"#);
        check("unsubscribe", r#""snapshot":true"#);
        check("publish", r#""event":{},"bind":false"#);
        check("ping", r#""since":"x""#);
    }

    #[test]
    fn the_members_of_a_subscription_are_understood_or_refused() {
        let options = |members: &str| {
            let message = format!(r#"{{"id":1,"type":"subscribe",{members}}}"#);
            match parse(&message).action {
                Ok(Action::Subscribe(subscribe)) => Ok(subscribe.options),
                Err(error) => Err(error.code()),
                other => panic!("{message}: {other:?}"),
            }
        };
        let found = options(
            r#""m\u006fde":"ent\u0069ty","properties":["b","\u0061"],"filter":"eq(a,\"x\")","max_hz":10"#,
        );
        let found = found.unwrap();
        assert_eq!(found.mode, StreamMode::Entity);
        assert_eq!(found.properties, Some(["a", "b"].map(Box::from).into()));
        assert_eq!(found.filter.unwrap().text(), "eq(a,\"x\")");
        assert_eq!(found.interval_micros, Some(100_000));
        let cursor = Cursor::of(CursorScope::of("n/a"), Sequence::new(7));
        let since = options(&format!(
            r#""since":"{}","snapshot":false"#,
            cursor.encode()
        ));
        assert_eq!(since.unwrap().start, StreamStart::Since(cursor));
        let snapshot = options(r#""snapshot":true,"since":null"#).unwrap();
        assert_eq!(snapshot.start, StreamStart::Snapshot);
        for members in [
            r#""mode":null,"mode":7"#,
            r#""mode":"Property""#,
            r#""snapshot":1"#,
            r#""since":1"#,
            r#""properties":[]"#,
            r#""properties":"a""#,
            r#""properties":[1]"#,
            r#""filter":{}"#,
            r#""max_hz":"1""#,
            r#""max_hz":0"#,
            r#""mode":"event","max_hz":1"#,
            r#""mode":"event","filter":"exists(a)""#,
        ] {
            assert_eq!(options(members), Err("invalid_field"), "{members}");
        }
        assert_eq!(options(r#""filter":"eq(a""#), Err("invalid_filter"));
        assert_eq!(options(r#""since":"x""#), Err("invalid_cursor"));
        assert!(options(r#""mode":7,"mode":"property""#).unwrap().is_plain());
        let refused = parse(r#"{"type":"subscribe","snapshot":true}"#).action;
        assert_eq!(refused, Err(ApiError::MissingId));
    }

    #[test]
    fn what_can_not_be_understood_is_refused_with_its_id_where_that_is_known() {
        let check = |message, id: Option<&str>, code| {
            let parsed = parse(message);
            assert_eq!(parsed.id, id, "{message}");
            assert_eq!(parsed.action.unwrap_err().code(), code, "{message}");
        };
        check("nonsense", None, "invalid_json");
        check("[]", None, "invalid_body");
        check(r#"{"id":1}"#, Some("1"), "missing_field");
        check(r#"{"id":1,"type":"jump"}"#, Some("1"), "invalid_field");
        check(r#"{"id":[],"type":"ping"}"#, None, "invalid_field");
    }
}
