//! Parses the JSON that defines an HTTP source, or names the first rule that it breaks (API
//! contract §12).

use super::pointer::{self, Pointer};
use super::selection::Selection;
use super::template::Template;
use crate::api::ApiError;
use crate::api::event::{check_entity_id, check_stream};
use crate::api::json::Scanner;
use crate::limits::{
    CONNECTOR_DEFINITION_BYTES_MAX, POLL_SECONDS, SOURCE_MEMBERS_MAX, SOURCE_URL_BYTES_MAX,
};
use crate::model::{NameRule, check_name, is_reserved};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use std::sync::Arc;
use url::Url;

const STREAM_DEFAULT: &str = "connectors";

/// The members of a definition; what else there is is ignored, and not stored.
const MEMBERS: &[&str] = &[
    "name",
    "url",
    "poll_interval_seconds",
    "entity_id",
    "stream",
    "items",
    "properties",
    "auth",
    "headers",
];

/// Headers that are the HTTP client's own business.
const FRAMING: &[HeaderName] = &[
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::ACCEPT_ENCODING,
    header::RANGE,
    header::IF_NONE_MATCH,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];

/// How a source wants its credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// It wants none.
    None,
    /// As `Authorization: Bearer`.
    Bearer,
    /// As the value of this header.
    Header(HeaderName),
}

/// A property's name, and its pointer into the item.
type Property = (Box<str>, Pointer);

/// An HTTP source as it is defined.
#[derive(Debug, Clone)]
pub struct HttpDefinition {
    /// Its name.
    pub name: Box<str>,
    /// What is polled, without a fragment.
    pub url: Url,
    /// Seconds from one poll to the next.
    pub interval_seconds: u32,
    /// The id of an item's entity.
    pub entity_id: Template,
    /// The stream of its events.
    pub stream: Box<str>,
    /// The pointer to the list; `None`: the answer is one item.
    pub items: Option<Pointer>,
    /// Names of properties and their pointers; `None`: all members of the item.
    pub properties: Option<Vec<Property>>,
    /// The pointers of `entity_id`, followed by the pointers of `properties`.
    pub(super) selection: Selection,
    /// Two of `properties` take the same value, or one takes what the other is a part of.
    pub(super) takes_twice: bool,
    /// How the source wants its credential.
    pub auth: Auth,
    /// Further headers of its requests.
    pub headers: HeaderMap,
}

/// Parses a definition, and gives the text by which it is stored. `owner`: the namespace that it is
/// to belong to; empty without tokens.
///
/// # Errors
/// [`ApiError::Json`], [`ApiError::Shape`], [`ApiError::MissingField`], or
/// [`ApiError::InvalidDefinition`] with the member and its rule.
pub fn parse_definition(body: &[u8], owner: &str) -> Result<(HttpDefinition, Arc<str>), ApiError> {
    let mut scanner = Scanner::new(body)?;
    scanner.raw_value()?;
    scanner.finish()?;
    let shape = ApiError::Shape {
        rule: "the body must be a JSON object that defines a connector",
    };
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
        return Err(shape);
    };
    let definition = read(&members, owner)?;
    members.retain(|name, _| MEMBERS.contains(&name.as_str()));
    let text = Value::Object(members).to_string();
    if text.len() > CONNECTOR_DEFINITION_BYTES_MAX {
        return Err(ApiError::Shape {
            rule: "a connector's definition must be at most 16384 bytes",
        });
    }
    Ok((definition, text.into()))
}

fn invalid(field: impl Into<Box<str>>, rule: impl Into<Box<str>>) -> ApiError {
    ApiError::InvalidDefinition {
        field: field.into(),
        rule: rule.into(),
    }
}

fn read(members: &Map<String, Value>, owner: &str) -> Result<HttpDefinition, ApiError> {
    let name = required_text(members, "name")?;
    check_name(name).map_err(|NameRule| invalid("name", NameRule::TEXT))?;
    let url = read_url(required_text(members, "url")?)?;
    let stream = text(members, "stream")?.unwrap_or(STREAM_DEFAULT);
    check_stream(stream)?;
    let items = text(members, "items")?
        .map(|text| Pointer::parse(text).ok_or_else(|| invalid("items", pointer::RULE)))
        .transpose()?;
    let auth = read_auth(members)?;
    let entity_id = read_entity_id(required_text(members, "entity_id")?, owner)?;
    let properties = read_properties(members)?;
    let taken = properties.iter().flatten().map(|(_, pointer)| pointer);
    let selection = Selection::new(entity_id.pointers().chain(taken));
    Ok(HttpDefinition {
        name: name.into(),
        url,
        interval_seconds: read_interval(members)?,
        entity_id,
        stream: stream.into(),
        items,
        takes_twice: properties.as_deref().is_some_and(overlap),
        properties,
        selection,
        headers: read_headers(members, &auth)?,
        auth,
    })
}

/// A member that is not there, or `null`, is absent.
fn member<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    members.get(name).filter(|value| !value.is_null())
}

fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, ApiError> {
    match member(members, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(name, "a string")),
    }
}

fn required_text<'m>(
    members: &'m Map<String, Value>,
    field: &'static str,
) -> Result<&'m str, ApiError> {
    text(members, field)?.ok_or(ApiError::MissingField { field })
}

fn read_url(text: &str) -> Result<Url, ApiError> {
    let broken = |rule: &str| Err(invalid("url", rule));
    if text.len() > SOURCE_URL_BYTES_MAX {
        return broken("at most 2048 bytes");
    }
    let mut url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return broken(&format!("an http or https URL ({error})")),
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return broken("an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return broken("a URL without user name and password: store a token instead, with `auth`");
    }
    url.set_fragment(None);
    Ok(url)
}

fn read_interval(members: &Map<String, Value>) -> Result<u32, ApiError> {
    const FIELD: &str = "poll_interval_seconds";
    let value = member(members, FIELD).ok_or(ApiError::MissingField { field: FIELD })?;
    let seconds = value.as_u64().and_then(|it| u32::try_from(it).ok());
    seconds
        .filter(|it| POLL_SECONDS.contains(it))
        .ok_or_else(|| invalid(FIELD, "an integer from 5 to 86400"))
}

fn read_entity_id(text: &str, owner: &str) -> Result<Template, ApiError> {
    const FIELD: &str = "entity_id";
    let template = Template::parse(text).map_err(|rule| invalid(FIELD, rule))?;
    let beginning = template.beginning();
    let sample = if template.is_fixed() { beginning } else { text };
    if check_entity_id(sample).is_err() {
        return Err(invalid(FIELD, "1 to 512 bytes without control characters"));
    }
    if is_reserved(beginning) {
        return Err(ApiError::Reserved);
    }
    let rest = beginning
        .strip_prefix(owner)
        .and_then(|rest| rest.strip_prefix('/'));
    let is_own = rest.is_some_and(|rest| !template.is_fixed() || !rest.is_empty());
    if !owner.is_empty() && !is_own {
        let rule = format!("it must begin with `{owner}/`, the namespace of the token");
        return Err(invalid(FIELD, rule));
    }
    Ok(template)
}

fn read_properties(members: &Map<String, Value>) -> Result<Option<Vec<Property>>, ApiError> {
    const FIELD: &str = "properties";
    let Some(value) = member(members, FIELD) else {
        return Ok(None);
    };
    let object = value
        .as_object()
        .filter(|it| (1..=SOURCE_MEMBERS_MAX).contains(&it.len()));
    let object = object
        .ok_or_else(|| invalid(FIELD, "an object of 1 to 256 property names and pointers"))?;
    let read = |(name, value): (&String, &Value)| {
        let pointer = value.as_str().and_then(Pointer::parse);
        let pointer = pointer.ok_or_else(|| invalid(format!("{FIELD}.{name}"), pointer::RULE))?;
        Ok((name.as_str().into(), pointer))
    };
    object.iter().map(read).collect::<Result<_, _>>().map(Some)
}

fn overlap(properties: &[Property]) -> bool {
    properties.iter().enumerate().any(|(index, (_, inner))| {
        let mut others = properties.iter().enumerate();
        others.any(|(at, (_, outer))| at != index && outer.leads_to(inner))
    })
}

fn read_auth(members: &Map<String, Value>) -> Result<Auth, ApiError> {
    let Some(value) = member(members, "auth") else {
        return Ok(Auth::None);
    };
    let kind = value.get("type").and_then(Value::as_str);
    match kind {
        Some("none") => Ok(Auth::None),
        Some("bearer") => Ok(Auth::Bearer),
        Some("header") => {
            const FIELD: &str = "auth.header";
            let header = value
                .get("header")
                .ok_or(ApiError::MissingField { field: FIELD })?;
            let header = header.as_str().and_then(header_name);
            header
                .map(Auth::Header)
                .ok_or_else(|| invalid(FIELD, "the name of a header that a client may choose"))
        }
        _ => Err(invalid(
            "auth",
            "an object with a `type` of `none`, `bearer` or `header`",
        )),
    }
}

fn header_name(text: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok()?;
    (!FRAMING.contains(&name)).then_some(name)
}

fn read_headers(members: &Map<String, Value>, auth: &Auth) -> Result<HeaderMap, ApiError> {
    const FIELD: &str = "headers";
    let mut headers = HeaderMap::new();
    let Some(value) = member(members, FIELD) else {
        return Ok(headers);
    };
    let object = value
        .as_object()
        .filter(|it| it.len() <= SOURCE_MEMBERS_MAX);
    let object =
        object.ok_or_else(|| invalid(FIELD, "an object of at most 256 header names and values"))?;
    for (name, value) in object {
        let broken = |rule: &str| invalid(format!("{FIELD}.{name}"), rule);
        let key = header_name(name)
            .ok_or_else(|| broken("the name of a header that a client may choose"))?;
        let is_credential = match auth {
            Auth::Header(header) => *header == key,
            Auth::None | Auth::Bearer => false,
        };
        if is_credential || matches!(key, header::AUTHORIZATION | header::PROXY_AUTHORIZATION) {
            return Err(broken(
                "no place for a credential, since definitions are not encrypted: store it as the connector's token",
            ));
        }
        let value = value.as_str().and_then(|it| HeaderValue::from_str(it).ok());
        let value =
            value.ok_or_else(|| broken("a string of visible ASCII characters and spaces"))?;
        headers.insert(key, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &Value, owner: &str) -> Result<(HttpDefinition, Arc<str>), ApiError> {
        parse_definition(value.to_string().as_bytes(), owner)
    }

    fn minimal() -> Value {
        json!({"name": "weather", "url": "http://localhost:1/x", "poll_interval_seconds": 5, "entity_id": "weather/{city}"})
    }

    #[test]
    fn what_is_stored_reads_as_what_was_sent() {
        let (definition, text) = parse(&minimal(), "").unwrap();
        assert_eq!(&*definition.name, "weather");
        assert_eq!(&*definition.stream, "connectors");
        assert_eq!((definition.items, definition.auth), (None, Auth::None));
        let full = json!({
            "name": "weather", "type": "http", "comment": [1], "url": "https://example.org/a?b=c#d", "poll_interval_seconds": 86400,
            "entity_id": "house/{/city}", "stream": "a.b", "items": "/list", "properties": {"t": "/temp", "all": ""},
            "auth": {"type": "header", "header": "X-Api-Key"}, "headers": {"Accept-Language": "de"},
        });
        let (definition, stored) = parse(&full, "house").unwrap();
        assert_eq!(definition.url.as_str(), "https://example.org/a?b=c");
        assert_eq!(
            definition.auth,
            Auth::Header(HeaderName::from_static("x-api-key"))
        );
        assert_eq!(definition.headers["accept-language"], "de");
        let (again, same) = parse_definition(stored.as_bytes(), "house").unwrap();
        assert_eq!(stored, same);
        assert_eq!(again.properties, definition.properties);
        assert!(!text.contains(": "), "it is minified: {text}");
        assert!(!stored.contains("comment"), "{stored}");
    }

    fn check(field: &str, value: Value) {
        let mut definition = minimal();
        let (member, _) = field.split_once('.').unwrap_or((field, ""));
        definition[member] = value;
        let error = parse(&definition, "").unwrap_err();
        assert_eq!(error.status(), 400, "{definition}");
        let named = error.to_string().contains(&format!("`{field}`"));
        assert!(named, "{error}: {definition}");
    }

    #[test]
    fn every_member_has_its_rule_and_the_refusal_names_it() {
        for name in [json!("ab"), json!("A b"), json!(7), json!("x".repeat(33))] {
            check("name", name);
        }
        for url in [
            json!("weather"),
            json!("ftp://x/"),
            json!("http://"),
            json!("http://a b/"),
            json!("file:///etc/passwd"),
            json!("http://user:pass@x/"),
            json!("http://user@x/"),
            json!(7),
            json!("http://x:99999/"),
            json!(format!("http://x/{}", "y".repeat(2048))),
        ] {
            check("url", url);
        }
        for seconds in [
            json!(4),
            json!(86401),
            json!(5.5),
            json!("60"),
            json!(-60),
            json!(0),
        ] {
            check("poll_interval_seconds", seconds);
        }
        for id in [
            json!(""),
            json!("a{b"),
            json!("a{}"),
            json!(7),
            json!("a\nb"),
            json!("x".repeat(513)),
        ] {
            check("entity_id", id);
        }
        for stream in [json!("A"), json!(".a"), json!(7), json!("")] {
            check("stream", stream);
        }
    }

    #[test]
    fn every_optional_member_has_its_rule_too() {
        check("items", json!("list"));
        check("items", json!(["/a"]));
        check("properties", json!({}));
        check("properties", json!(["/a"]));
        check("properties.t", json!({"t": "temp"}));
        check("properties.t", json!({"t": 7}));
        check("auth", json!("bearer"));
        check("auth", json!({}));
        check("auth", json!({"type": "basic"}));
        check("auth.header", json!({"type": "header"}));
        check(
            "auth.header",
            json!({"type": "header", "header": "two words"}),
        );
        check("auth.header", json!({"type": "header", "header": "Host"}));
        check("headers", json!(["a"]));
        check("headers.a b", json!({"a b": "c"}));
        check("headers.X-A", json!({"X-A": "c\r\nd: e"}));
        check("headers.X-A", json!({"X-A": 7}));
        check("headers.Content-Length", json!({"Content-Length": "5"}));
        check(
            "headers.Authorization",
            json!({"Authorization": "Bearer x"}),
        );
    }

    #[test]
    fn what_is_required_is_missed_by_its_name() {
        for field in ["name", "url", "poll_interval_seconds", "entity_id"] {
            let mut definition = minimal();
            definition[field] = Value::Null;
            let error = parse(&definition, "").unwrap_err();
            assert_eq!(error, ApiError::MissingField { field });
            definition.as_object_mut().unwrap().remove(field);
            assert_eq!(parse(&definition, "").unwrap_err(), error);
        }
        for body in ["", "[]", "7", "{\"name\":", "{} x"] {
            assert_eq!(
                parse_definition(body.as_bytes(), "").unwrap_err().status(),
                400,
                "{body}"
            );
        }
        let mut large = minimal();
        large["headers"] = json!({"x-a": "y".repeat(20_000)});
        assert!(matches!(parse(&large, ""), Err(ApiError::Shape { .. })));
    }

    #[test]
    fn with_an_owner_an_entity_lies_in_its_namespace() {
        let mut definition = minimal();
        for id in ["house/x", "house/{city}", "house/a{city}"] {
            definition["entity_id"] = json!(id);
            assert!(parse(&definition, "house").is_ok(), "{id}");
        }
        for id in [
            "x",
            "house",
            "house/",
            "house{city}/x",
            "{city}",
            "{city}/house/",
            "housex/y",
            "other/x",
        ] {
            definition["entity_id"] = json!(id);
            let error = parse(&definition, "house").unwrap_err().to_string();
            assert!(error.contains("`house/`"), "{error}");
        }
        definition["entity_id"] = json!("flux-core/x");
        assert_eq!(parse(&definition, "").unwrap_err(), ApiError::Reserved);
    }
}
