//! The body and the answer of `/api/admin/config` (API contract §7).

use super::body;
use super::error::ApiError;
use super::json::write_string;
use crate::limits::{BATCH_DELETE_SETTABLE_MAX, BODY_BYTES_SETTABLE_MAX, CONNECTIONS_SETTABLE_MAX};
use crate::model::{ConfigPatch, RuntimeConfig};
use crate::wire::http1::write_decimal;

const RATE_LIMIT_ENABLED: &str = "rate_limit_enabled";

/// A member that is a number: its name, its largest value, where it is in a change, and in the
/// whole.
struct NumberMember {
    name: &'static str,
    max: u32,
    rule: &'static str,
    set: fn(&mut ConfigPatch, u32),
    get: fn(&RuntimeConfig) -> u32,
}

const POSITIVE: &str = "an integer from 1 to 4294967295";
const BODY: &str = "an integer from 1 to 268435456";
const CONNECTIONS: &str = "an integer from 1 to 1000000";

const NUMBERS: &[NumberMember] = &[
    NumberMember {
        name: "rate_limit_per_namespace_per_minute",
        max: u32::MAX,
        rule: POSITIVE,
        set: |patch, value| patch.rate_limit_per_namespace_per_minute = Some(value),
        get: |config| config.rate_limit_per_namespace_per_minute,
    },
    NumberMember {
        name: "body_size_limit_single_bytes",
        max: BODY_BYTES_SETTABLE_MAX,
        rule: BODY,
        set: |patch, value| patch.body_size_limit_single_bytes = Some(value),
        get: |config| config.body_size_limit_single_bytes,
    },
    NumberMember {
        name: "body_size_limit_batch_bytes",
        max: BODY_BYTES_SETTABLE_MAX,
        rule: BODY,
        set: |patch, value| patch.body_size_limit_batch_bytes = Some(value),
        get: |config| config.body_size_limit_batch_bytes,
    },
    NumberMember {
        name: "max_batch_delete",
        max: BATCH_DELETE_SETTABLE_MAX,
        rule: "an integer from 1 to 100000",
        set: |patch, value| patch.max_batch_delete = Some(value),
        get: |config| config.max_batch_delete,
    },
    NumberMember {
        name: "max_connections",
        max: CONNECTIONS_SETTABLE_MAX,
        rule: CONNECTIONS,
        set: |patch, value| patch.max_connections = Some(value),
        get: |config| config.max_connections,
    },
    NumberMember {
        name: "max_connections_per_address",
        max: CONNECTIONS_SETTABLE_MAX,
        rule: CONNECTIONS,
        set: |patch, value| patch.max_connections_per_address = Some(value),
        get: |config| config.max_connections_per_address,
    },
    NumberMember {
        name: "max_subscriptions",
        max: u32::MAX,
        rule: POSITIVE,
        set: |patch, value| patch.max_subscriptions = Some(value),
        get: |config| config.max_subscriptions,
    },
    NumberMember {
        name: "max_subscriptions_per_address",
        max: u32::MAX,
        rule: POSITIVE,
        set: |patch, value| patch.max_subscriptions_per_address = Some(value),
        get: |config| config.max_subscriptions_per_address,
    },
];

/// Parses a change. It is taken whole or not at all.
///
/// # Errors
/// [`ApiError::Json`], [`ApiError::Shape`], or [`ApiError::InvalidField`] for a member that there
/// is none of, or whose value it can't have.
pub fn parse(body: &[u8]) -> Result<ConfigPatch, ApiError> {
    let mut scanner = body::object(body, "the body must be a JSON object")?;
    let mut patch = ConfigPatch::default();
    let mut rejection = None;
    let mut scratch = String::new();
    while let Some(key) = scanner.next_key()? {
        scratch.clear();
        let name = key.decode(&mut scratch);
        let value = scanner.raw_value()?;
        // What is no JSON further on counts for more than a value that does not fit.
        if let Err(error) = set(&mut patch, name, value.text) {
            rejection.get_or_insert(error);
        }
    }
    scanner.finish()?;
    match rejection {
        None => Ok(patch),
        Some(error) => Err(error),
    }
}

fn set(patch: &mut ConfigPatch, name: &str, value: &str) -> Result<(), ApiError> {
    if name == RATE_LIMIT_ENABLED {
        patch.rate_limit_enabled = Some(match value {
            "true" => true,
            "false" => false,
            _ => {
                return Err(ApiError::InvalidField {
                    field: RATE_LIMIT_ENABLED,
                    rule: "true or false",
                });
            }
        });
        return Ok(());
    }
    let known = NUMBERS.iter().find(|member| member.name == name);
    let member = known.ok_or(ApiError::Shape {
        rule: "the body has a member that is no setting; GET /api/admin/config shows them all",
    })?;
    // Only digits: `1.0` and `1e3` are no integers by the contract, and Rust would take a `+`.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse::<u32>() {
        Ok(number) if digits && (1..=member.max).contains(&number) => {
            (member.set)(patch, number);
            Ok(())
        }
        _ => Err(ApiError::InvalidField {
            field: member.name,
            rule: member.rule,
        }),
    }
}

/// The whole configuration.
pub fn encode(out: &mut Vec<u8>, config: &RuntimeConfig) {
    out.push(b'{');
    write_string(out, RATE_LIMIT_ENABLED);
    let enabled: &[u8] = if config.rate_limit_enabled {
        b":true"
    } else {
        b":false"
    };
    out.extend_from_slice(enabled);
    for member in NUMBERS {
        out.push(b',');
        write_string(out, member.name);
        out.push(b':');
        write_decimal(out, u64::from((member.get)(config)));
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_can_be_set_and_is_shown() {
        let mut text = Vec::new();
        encode(&mut text, &RuntimeConfig::default());
        let shown: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let contract = serde_json::json!({
            "rate_limit_enabled": true, "rate_limit_per_namespace_per_minute": 10_000,
            "body_size_limit_single_bytes": 1_048_576, "body_size_limit_batch_bytes": 10_485_760,
            "max_batch_delete": 10_000,
        });
        for (name, value) in contract.as_object().unwrap() {
            assert_eq!(&shown[name], value, "{name}");
        }
        for (name, value) in shown.as_object().unwrap() {
            let other = if value.is_boolean() { "false" } else { "77" };
            let patch = parse(format!(r#"{{"{name}":{other}}}"#).as_bytes()).unwrap();
            text.clear();
            encode(&mut text, &RuntimeConfig::default().with(&patch));
            let changed: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(changed[name].to_string(), other, "{name}");
            let others = |whole: &serde_json::Value| {
                let mut rest = whole.as_object().unwrap().clone();
                rest.remove(name);
                rest
            };
            assert_eq!(others(&changed), others(&shown), "{name}");
        }
        assert_eq!(parse(b"{}"), Ok(ConfigPatch::default()));
    }

    #[test]
    fn what_is_no_setting_or_no_value_is_refused_whole() {
        for body in [
            "[]",
            "1",
            "",
            "{",
            "{}x",
            r#"{"x":1}"#,
            r#"{"max_batch_delete":0}"#,
            r#"{"max_batch_delete":-1}"#,
            r#"{"max_batch_delete":1.0}"#,
            r#"{"max_batch_delete":1e3}"#,
            r#"{"max_batch_delete":"5"}"#,
            r#"{"max_batch_delete":null}"#,
            r#"{"max_batch_delete":4294967296}"#,
            r#"{"rate_limit_enabled":1}"#,
            r#"{"rate_limit_enabled":null}"#,
            r#"{"body_size_limit_single_bytes":268435457}"#,
            r#"{"max_batch_delete":5,"rate_limit_enabled":"true"}"#,
        ] {
            let error = parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), 400, "{body}");
        }
    }
}
