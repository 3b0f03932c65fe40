//! The tokens that one connection has presented: the token of its handshake, and the tokens that
//! messages added to it.
//!
//! A request is judged by all of them that are alive, and counts against the one that allows it.
//! What several tokens grant together is looked up once and kept until a token dies or is made, so
//! a request of such a connection costs no more than that of any other.

use super::{Context, Credentials, KeptToken};
use crate::api::ApiError;
use crate::auth::{Access, Presented, Reader, TokenHash};
use crate::limits::TOKENS_PER_CONNECTION_MAX;
use crate::model::{TOKEN_SET_MAX, Timestamp};

const MICROS_PER_MINUTE: i64 = 60_000_000;

const _: () = assert!(
    TOKENS_PER_CONNECTION_MAX < TOKEN_SET_MAX,
    "that of the handshake is one more"
);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTokens {
    /// That of the handshake first, if there was one.
    presented: Vec<TokenHash>,
    /// How many of them messages have added.
    added: usize,
    /// What they grant together, if there are several.
    granted: Option<Granted>,
    /// When [`ConnectionTokens::reader`] was asked for last, if they are the same still.
    read: Option<Read>,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    /// Of the registry that was asked.
    revision: u64,
    /// When the first of the tokens ends that let their holder read.
    until: Option<Timestamp>,
}

/// What several tokens grant together.
#[derive(Debug)]
struct Granted {
    access: Access,
    /// Of the registry that was asked.
    revision: u64,
    /// When it was asked. A use of a token is noted to the minute, and so is its end here.
    minute: i64,
    /// When the first of the tokens ends.
    until: Option<Timestamp>,
}

impl ConnectionTokens {
    /// Of a connection whose handshake came with this token.
    pub(crate) fn new(of_handshake: Option<KeptToken>) -> Self {
        Self {
            presented: of_handshake.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds a token. One that is there already is not added again; tokens that have died make room.
    /// Without auth no token is looked at.
    ///
    /// # Errors
    /// [`ApiError::TokenUnknown`], [`ApiError::TooManyConnectionTokens`].
    pub(crate) fn add<L>(&mut self, context: &Context<L>, secret: &str) -> Result<(), ApiError> {
        let (tenants, now) = (&context.tenants, context.router.now);
        if !tenants.auth {
            return Ok(());
        }
        let token = TokenHash::of_presented(secret.as_bytes());
        let token = token.filter(|token| tenants.is_alive(token, now));
        let token = token.ok_or(ApiError::TokenUnknown)?;
        if self.presented.contains(&token) {
            return Ok(());
        }
        let of_handshake = self.presented.len() - self.added;
        let mut place = 0;
        self.presented.retain(|token| {
            place += 1;
            place <= of_handshake || tenants.is_alive(token, now)
        });
        self.added = self.presented.len() - of_handshake;
        if self.added >= TOKENS_PER_CONNECTION_MAX {
            return Err(ApiError::TooManyConnectionTokens);
        }
        self.presented.push(token);
        self.added += 1;
        self.granted = None;
        self.read = None;
        Ok(())
    }

    /// True if what the connection may read may be another than [`ConnectionTokens::reader`] said
    /// last.
    pub(crate) fn is_reader_stale<L>(&self, context: &Context<L>) -> bool {
        self.read.is_none_or(|read| {
            read.revision != context.tenants.registry.revision()
                || read.until.is_some_and(|until| until <= context.router.now)
        })
    }

    /// Who reads over the connection.
    pub(crate) fn reader<L>(&mut self, context: &Context<L>) -> Reader {
        let reader = context.reader(&self.credentials(context));
        let ends = reader.grants().iter().filter_map(|grant| grant.expires);
        self.read = Some(Read {
            revision: context.tenants.registry.revision(),
            until: ends.min(),
        });
        reader
    }

    /// Why the connection is refused what it may not read.
    pub(crate) fn refusal<L>(&self, context: &Context<L>) -> ApiError {
        let (tenants, now) = (&context.tenants, context.router.now);
        if self.presented.is_empty() {
            ApiError::TokenMissing
        } else if self.presented.iter().any(|it| tenants.is_alive(it, now)) {
            ApiError::NotReadable
        } else {
            ApiError::TokenUnknown
        }
    }

    /// What the connection presents to a request. If none of its tokens is alive, one that is dead.
    pub(crate) fn credentials<L>(&mut self, context: &Context<L>) -> Credentials<'_> {
        match self.presented[..] {
            [] => Credentials::None,
            [token] => Credentials::Token(token),
            [first, ..] => {
                self.look_up(context);
                let granted = self.granted.as_ref();
                granted.map_or(Credentials::Token(first), |granted| {
                    Credentials::Several(&granted.access)
                })
            }
        }
    }

    /// Looks up what the tokens grant, unless that is known.
    fn look_up<L>(&mut self, context: &Context<L>) {
        let (tenants, now) = (&context.tenants, context.router.now);
        let revision = tenants.registry.revision();
        let minute = now.as_micros() / MICROS_PER_MINUTE;
        let is_known = self.granted.as_ref().is_some_and(|granted| {
            granted.revision == revision
                && granted.minute == minute
                && granted.until.is_none_or(|until| now < until)
        });
        if is_known {
            return;
        }
        let presented = self.presented.iter().filter_map(|token| {
            let access = tenants.access_of(token, now)?;
            let token = *token;
            Some(Presented { token, access })
        });
        let presented: Vec<Presented> = presented.collect();
        let ends = presented.iter().filter_map(|it| match &it.access {
            Access::Owner(grant) => grant.expires,
            _ => None,
        });
        let until = ends.min();
        self.granted = (!presented.is_empty()).then(|| Granted {
            access: Access::Several(presented.into()),
            revision,
            minute,
            until,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{OPERATOR, TestCores};
    use super::super::{namespaces, tokens};
    use super::*;
    use crate::model::TokenSet;
    use serde_json::{Value, json};

    fn run(cores: &mut TestCores, call: (&str, &str), body: &Value) -> Value {
        let (name, by) = call;
        let body = body.to_string();
        let (_, json) = cores.run((0, Some(by)), |context, caller| match name {
            "" => namespaces::register(context, caller, body.as_bytes()),
            name => tokens::make(context, caller, (name, body.as_bytes())),
        });
        serde_json::from_str(&json).unwrap()
    }

    fn token_in(json: &Value) -> String {
        json["token"].as_str().unwrap().to_owned()
    }

    fn register(cores: &mut TestCores, name: &str) -> String {
        token_in(&run(cores, ("", OPERATOR), &json!({ "name": name })))
    }

    /// Which tokens let the connection publish this.
    fn allowed(cores: &mut TestCores, tokens: &mut ConnectionTokens, id: &str) -> Option<TokenSet> {
        let context = cores.context(0);
        let credentials = tokens.credentials(context);
        let access = context.access(&credentials).ok()?;
        access.may_publish(id, false).ok()
    }

    #[test]
    fn any_token_of_a_connection_counts_until_it_dies() {
        let mut cores = TestCores::with_auth(1);
        let house = register(&mut cores, "house");
        let garden = register(&mut cores, "garden");
        let short = json!({"scopes": ["write"], "expires_in_seconds": 5});
        let short = token_in(&run(&mut cores, ("house", &house), &short));
        let mut tokens = ConnectionTokens::new(None);
        assert!(matches!(
            tokens.credentials(cores.context(0)),
            Credentials::None
        ));
        tokens.add(cores.context(0), &short).unwrap();
        assert_eq!(allowed(&mut cores, &mut tokens, "garden/a"), None);
        tokens.add(cores.context(0), &garden).unwrap();
        tokens.add(cores.context(0), &garden).unwrap();
        assert_eq!(tokens.presented.len(), 2, "each once");
        let second = TokenSet::NONE.with(1);
        assert_eq!(allowed(&mut cores, &mut tokens, "garden/a"), Some(second));
        let first = Some(TokenSet::FIRST);
        assert_eq!(allowed(&mut cores, &mut tokens, "house/a"), first);
        cores.set_clocks(6_000_000);
        assert_eq!(allowed(&mut cores, &mut tokens, "house/a"), None);
        assert_eq!(allowed(&mut cores, &mut tokens, "garden/a"), first);
        cores.run((0, Some(&garden)), |context, caller| {
            namespaces::replace_token(context, caller, "garden")
        });
        let context = cores.context(0);
        let refused = context.access(&tokens.credentials(context));
        assert_eq!(refused, Err(ApiError::TokenUnknown));
    }

    #[test]
    fn a_connection_has_so_many_tokens_and_those_that_died_make_room() {
        let mut cores = TestCores::with_auth(1);
        let house = register(&mut cores, "house");
        let of_handshake = TokenHash::of(house.as_bytes());
        let mut tokens = ConnectionTokens::new(Some(of_handshake));
        let mut add = |cores: &mut TestCores, body: Value| {
            let token = token_in(&run(cores, ("house", &house), &body));
            tokens.add(cores.context(0), &token)
        };
        let (lasting, short) = (
            json!({"scopes": ["write"]}),
            json!({"scopes": ["write"], "expires_in_seconds": 5}),
        );
        for number in 0..TOKENS_PER_CONNECTION_MAX {
            let body = if number == 3 { &short } else { &lasting };
            assert_eq!(add(&mut cores, body.clone()), Ok(()), "{number}");
        }
        let beyond = Err(ApiError::TooManyConnectionTokens);
        assert_eq!(add(&mut cores, lasting.clone()), beyond);
        cores.set_clocks(6_000_000);
        assert_eq!(add(&mut cores, lasting.clone()), Ok(()));
        assert_eq!(add(&mut cores, lasting), beyond);
    }

    #[test]
    fn what_nobody_has_is_not_added() {
        let mut cores = TestCores::with_auth(1);
        let house = register(&mut cores, "house");
        let mut tokens = ConnectionTokens::default();
        let long = house.repeat(100);
        for unknown in ["", "x", &house[1..], &long] {
            let added = tokens.add(cores.context(0), unknown);
            assert_eq!(added, Err(ApiError::TokenUnknown), "{unknown}");
        }
        assert_eq!(tokens.add(TestCores::new(1).context(0), "x"), Ok(()));
        assert!(tokens.presented.is_empty());
    }
}
