//! The tokens of a namespace besides that of its registration: making, showing and revoking them.

use super::namespaces::{known_to, manager, new_token};
use super::{Begun, Caller, Context, Outcome, Pending, control};
use crate::api::ApiError;
use crate::api::tokens::{self, ShownToken, TokenRequest};
use crate::auth::{Access, Grant, OwnedNamespace, Token, TokenHash, TokenNumber};
use crate::control::{Command, LastUse, NamespaceToken};
use crate::log::Log;
use crate::model::{RESERVED_NAMESPACE, Timestamp};
use crate::shard::Reply;

/// A call on its way.
#[derive(Debug)]
pub(crate) enum PendingToken {
    /// The token is to be in force.
    Making(Box<NamespaceToken>, Token),
    /// The token is to be dead.
    Revoking,
}

/// Makes a token that may do no more than the one that it is made with.
///
/// # Errors
/// If none is made.
pub(crate) fn make<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (name, body): (&str, &[u8]),
) -> Result<Begun, ApiError> {
    let access = context.access(&caller.credentials)?;
    let request = tokens::parse(body, name)?;
    check_there(context, &access, name)?;
    let secret = new_token()?;
    let now = context.router.now;
    let id = context.ids.next(now.as_millis()).simple();
    let token = new(request, (format!("tok_{id}"), secret.hash()), now);
    let by = match manager(&access, name)? {
        None => None,
        Some(grant) if grant.covers(&granted(grant.namespace, &token)) => {
            Some(caller.credentials.token()?)
        }
        Some(_) => return Err(ApiError::TokenExceeded),
    };
    let token = Box::new(token);
    let command = Command::MakeToken {
        name: name.into(),
        by,
        token: token.clone(),
    };
    control::ask(context, caller.request_id, command)?;
    Ok(waiting(PendingToken::Making(token, secret)))
}

fn new(request: TokenRequest, (id, hash): (String, TokenHash), now: Timestamp) -> NamespaceToken {
    let end = |seconds: i64| {
        let micros = seconds.saturating_mul(1_000_000);
        Timestamp::from_micros(now.as_micros().saturating_add(micros))
    };
    NamespaceToken {
        id: id.into(),
        hash,
        label: request.label,
        scopes: request.scopes,
        prefix: request.prefix.map(Into::into),
        created: now,
        expires: request.expires_in_seconds.map(end),
        last_use: LastUse::default(),
    }
}

fn granted(namespace: OwnedNamespace, token: &NamespaceToken) -> Grant {
    Grant {
        scopes: token.scopes,
        prefix: token.prefix.clone(),
        expires: token.expires,
        ..Grant::whole(namespace, TokenNumber::NONE)
    }
}

/// Shows the tokens of a namespace, the oldest first.
///
/// # Errors
/// If the caller may not manage it.
pub(crate) fn list<L>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    name: &str,
) -> Result<Begun, ApiError> {
    let access = context.access(&caller.credentials)?;
    check_there(context, &access, name)?;
    manager(&access, name)?;
    let all = context.tenants.registry.tokens();
    let all = all.of(name, context.router.now);
    let answer = &mut context.answer;
    answer.clear();
    tokens::list(
        answer,
        all.map(|token| (shown(token), token.last_use.time())),
    );
    Ok(Begun::at_once(Outcome::Done))
}

/// Revokes a token: when the call is answered, no core takes it any more.
///
/// # Errors
/// If it stays.
pub(crate) fn revoke<L: Log>(
    context: &mut Context<L>,
    caller: &Caller<'_>,
    (name, id): (&str, &str),
) -> Result<Begun, ApiError> {
    let access = context.access(&caller.credentials)?;
    check_there(context, &access, name)?;
    let by = match manager(&access, name)? {
        None => None,
        Some(_) => Some(caller.credentials.token()?),
    };
    let command = Command::RevokeToken {
        name: name.into(),
        by,
        id: id.into(),
        now: context.router.now,
    };
    control::ask(context, caller.request_id, command)?;
    Ok(waiting(PendingToken::Revoking))
}

fn check_there<L>(context: &Context<L>, access: &Access, name: &str) -> Result<(), ApiError> {
    if name == RESERVED_NAMESPACE {
        return Err(ApiError::Reserved);
    }
    known_to(context, access, name).map(drop)
}

fn waiting(call: PendingToken) -> Begun {
    Begun::Waiting(Pending::Tokens(Box::new(call)))
}

fn shown(token: &NamespaceToken) -> ShownToken<'_> {
    ShownToken {
        id: &token.id,
        label: token.label.as_deref(),
        scopes: token.scopes,
        prefix: token.prefix.as_deref(),
        created: token.created,
        expires: token.expires,
    }
}

impl PendingToken {
    /// Takes a reply.
    ///
    /// # Errors
    /// If the call comes to nothing.
    pub(super) fn resume<L>(
        &self,
        context: &mut Context<L>,
        reply: Reply,
    ) -> Result<Option<Outcome>, ApiError> {
        match (self, reply) {
            (_, Reply::Refused(error)) => Err(error),
            (Self::Making(token, secret), Reply::Controlled) => {
                context.answer.clear();
                tokens::made(&mut context.answer, shown(token), secret.reveal());
                Ok(Some(Outcome::CreatedSecret))
            }
            (Self::Revoking, Reply::Controlled) => Ok(Some(Outcome::Empty)),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OPERATOR, TestCores};
    use super::super::{batch, namespaces, publish};
    use super::*;
    use serde_json::{Value, json};

    /// Two cores with the namespaces `house` and `garden`, and the token of the first.
    fn registered() -> (TestCores, String) {
        let mut cores = TestCores::with_auth(2);
        let [house, _] = ["house", "garden"].map(|name| {
            let body = json!({ "name": name }).to_string();
            let (_, json) = cores.run((1, Some(OPERATOR)), |context, caller| {
                namespaces::register(context, caller, body.as_bytes())
            });
            token_in(&json)
        });
        (cores, house)
    }

    fn token_in(json: &str) -> String {
        let json: Value = serde_json::from_str(json).unwrap();
        json["token"].as_str().unwrap().to_owned()
    }

    fn make(cores: &mut TestCores, by: &str, body: &Value) -> (Outcome, Value) {
        let body = body.to_string();
        let (outcome, json) = cores.run((0, Some(by)), |context, caller| {
            super::make(context, caller, ("house", body.as_bytes()))
        });
        (outcome, serde_json::from_str(&json).unwrap_or_default())
    }

    fn publish(cores: &mut TestCores, (core, token): (usize, &str), id: &str) -> Outcome {
        let event = json!({
            "stream": "s", "source": "t", "payload": {"entity_id": id, "properties": {}}
        });
        let (outcome, _) = cores.run((core, Some(token)), |context, caller| {
            publish::begin(context, caller, event.to_string().as_bytes())
        });
        outcome
    }

    #[test]
    fn a_token_is_in_force_on_every_core_until_it_is_revoked() {
        let (mut cores, house) = registered();
        let (outcome, made) = make(&mut cores, &house, &json!({"scopes": ["write"]}));
        assert_eq!(outcome, Outcome::CreatedSecret);
        let (token, id) = (
            made["token"].as_str().unwrap(),
            made["id"].as_str().unwrap(),
        );
        for core in 0..2 {
            let done = publish(&mut cores, (core, token), "house/a");
            assert_eq!(done, Outcome::Done, "core {core}");
        }
        let (outcome, json) = cores.run((1, Some(OPERATOR)), |context, caller| {
            list(context, caller, "house")
        });
        assert_eq!(outcome, Outcome::Done);
        let listed: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(listed["tokens"][0]["id"], id);
        assert!(listed["tokens"][0].get("token").is_none(), "{json}");
        // The clock of these cores stands at one second.
        assert_eq!(listed["tokens"][0]["lastUsedAt"], Value::Null);
        let (outcome, _) = cores.run((1, Some(&house)), |context, caller| {
            revoke(context, caller, ("house", id))
        });
        assert_eq!(outcome, Outcome::Empty);
        for core in 0..2 {
            let refused = publish(&mut cores, (core, token), "house/a");
            assert_eq!(refused, Outcome::Failed(ApiError::TokenUnknown));
            assert_eq!(
                publish(&mut cores, (core, &house), "house/a"),
                Outcome::Done
            );
        }
    }

    #[test]
    fn an_expired_token_is_nobodys_on_any_core() {
        let (mut cores, house) = registered();
        let body = json!({"scopes": ["write"], "expires_in_seconds": 5});
        let (_, made) = make(&mut cores, &house, &body);
        let token = made["token"].as_str().unwrap();
        assert_eq!(made["expiresAt"], "1970-01-01T00:00:06.000000Z");
        cores.set_clocks(5_999_999);
        assert_eq!(publish(&mut cores, (0, token), "house/a"), Outcome::Done);
        cores.set_clocks(6_000_000);
        for core in 0..2 {
            let refused = publish(&mut cores, (core, token), "house/a");
            assert_eq!(refused, Outcome::Failed(ApiError::TokenUnknown));
        }
    }

    #[test]
    fn nobody_makes_a_token_that_may_do_more_than_their_own() {
        let (mut cores, house) = registered();
        let own = json!({
            "scopes": ["write", "manage"], "prefix": "house/a/", "expires_in_seconds": 60
        });
        let (_, made) = make(&mut cores, &house, &own);
        let token = made["token"].as_str().unwrap().to_owned();
        let exceeded = Outcome::Failed(ApiError::TokenExceeded);
        let mut check = |member: &str, value: Value, expected: &Outcome| {
            let mut body = own.clone();
            body[member] = value;
            let (outcome, _) = make(&mut cores, &token, &body);
            assert_eq!(outcome, *expected, "{body}");
        };
        check("label", json!("same"), &Outcome::CreatedSecret);
        check("scopes", json!(["write"]), &Outcome::CreatedSecret);
        check("prefix", json!("house/a/b"), &Outcome::CreatedSecret);
        check("expires_in_seconds", json!(59), &Outcome::CreatedSecret);
        check("scopes", json!(["write", "read"]), &exceeded);
        check("prefix", json!("house/"), &exceeded);
        check("prefix", Value::Null, &exceeded);
        check("expires_in_seconds", json!(61), &exceeded);
        check("expires_in_seconds", Value::Null, &exceeded);
        let (outcome, _) = cores.run((0, Some(&token)), |context, caller| {
            namespaces::replace_token(context, caller, "house")
        });
        assert_eq!(outcome, exceeded, "the first token may do everything");
    }

    #[test]
    fn only_who_manages_a_namespace_sees_and_changes_its_tokens() {
        let (mut cores, house) = registered();
        let (_, writer) = make(
            &mut cores,
            &house,
            &json!({"scopes": ["read", "write", "delete"]}),
        );
        let writer = writer["token"].as_str().unwrap().to_owned();
        let no_scope = Outcome::Failed(ApiError::ScopeMissing { scope: "manage" });
        let not_owner = Outcome::Failed(ApiError::NotOwner);
        let absent = Outcome::Failed(ApiError::NoNamespace);
        let reserved = Outcome::Failed(ApiError::Reserved);
        let body = br#"{"scopes":["read"]}"#;
        for (token, name, expected) in [
            (&writer, "house", &no_scope),
            (&house, "garden", &not_owner),
            (&house, "nothing", &absent),
            (&house, RESERVED_NAMESPACE, &reserved),
        ] {
            let mut check =
                |call: &dyn Fn(&mut Context<_>, &Caller<'_>) -> Result<Begun, ApiError>| {
                    let (outcome, _) = cores.run((0, Some(token)), call);
                    assert_eq!(outcome, *expected, "{name}");
                };
            check(&|context, caller| super::make(context, caller, (name, body)));
            check(&|context, caller| list(context, caller, name));
            check(&|context, caller| revoke(context, caller, (name, "tok_1")));
            check(&|context, caller| namespaces::replace_token(context, caller, name));
        }
    }

    #[test]
    fn what_a_revoked_token_sent_is_not_stored_and_what_others_sent_is() {
        let (mut cores, house) = registered();
        let (_, made) = make(&mut cores, &house, &json!({"scopes": ["write"]}));
        let (token, id) = (
            made["token"].as_str().unwrap(),
            made["id"].as_str().unwrap(),
        );
        let event =
            r#"{"stream":"s","source":"t","payload":{"entity_id":"house/a","properties":{}}}"#;
        let body = format!(r#"{{"events":[{}]}}"#, [event; 400].join(","));
        let mut begin = |token: &str| {
            cores.begin((0, Some(token)), |context, caller| {
                batch::begin(context, caller, body.as_bytes())
            })
        };
        let (dead, living) = (begin(token), begin(&house));
        cores.run((0, Some(&house)), |context, caller| {
            revoke(context, caller, ("house", id))
        });
        for (mut call, expected) in [(dead, 0), (living, 400)] {
            for _ in 0..100 {
                while cores.go_on(&mut call) {}
                cores.flush();
                cores.deliver(&mut call);
            }
            let (_, json) = call.over();
            let begins = format!(r#"{{"successful":{expected},"#);
            assert!(json.starts_with(&begins), "{json}");
        }
    }
}
