//! The tokens of all namespaces: by their hashes, to look up what a caller may do, and by their
//! namespaces, to show them.

use super::change::{Change, TokenUse};
use super::namespace::Namespace;
use super::token::{LastUse, NamespaceToken};
use crate::auth::{Grant, OwnedNamespace, TokenHash, TokenNumber};
use crate::limits::TOKEN_USES_PER_CHANGE_MAX;
use crate::model::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    known: HashMap<TokenHash, Known>,
    /// Tokens made besides the first of their namespaces, the oldest first.
    made: BTreeMap<Box<str>, Vec<Made>>,
    last_number: TokenNumber,
}

/// What a hash stands for.
#[derive(Debug, Clone)]
struct Known {
    grant: Grant,
    last_use: Option<LastUse>,
}

#[derive(Debug, Clone)]
struct Made {
    token: NamespaceToken,
    /// The minute of its last use that the control log knows.
    stored_minute: u32,
}

impl Tokens {
    /// What the token with this hash grants now, which is a use of it.
    pub fn present(&self, hash: &TokenHash, now: Timestamp) -> Option<&Grant> {
        let Known { grant, last_use } = self.known.get(hash)?;
        if grant.has_expired(now) {
            return None;
        }
        if let Some(last_use) = last_use {
            last_use.note(now);
        }
        Some(grant)
    }

    /// What the token with this hash grants, expired or not.
    pub fn get(&self, hash: &TokenHash) -> Option<&Grant> {
        self.known.get(hash).map(|known| &known.grant)
    }

    /// The tokens of a namespace that were made besides its first and have not expired, the oldest
    /// first.
    pub fn of(&self, name: &str, now: Timestamp) -> impl Iterator<Item = &NamespaceToken> {
        let made = self.made.get(name).into_iter().flatten();
        let tokens = made.map(|made| &made.token);
        tokens.filter(move |token| !token.has_expired(now))
    }

    /// The numbers of a namespace's tokens.
    pub(super) fn numbers_of<'t>(
        &'t self,
        namespace: &'t Namespace,
    ) -> impl Iterator<Item = TokenNumber> + 't {
        let made = self.made.get(&namespace.name).into_iter().flatten();
        let hashes = made.map(|made| &made.token.hash).chain([&namespace.token]);
        hashes.filter_map(|hash| self.get(hash).map(|grant| grant.number))
    }

    /// Number of tokens, expired ones included.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// A namespace is registered.
    pub(super) fn add_first(&mut self, namespace: &Namespace) {
        self.replace_first(&namespace.name, (None, namespace.token));
    }

    /// The first token of a namespace is another.
    pub(super) fn replace_first(&mut self, name: &str, (old, new): (Option<TokenHash>, TokenHash)) {
        if let Some(old) = old {
            self.known.remove(&old);
        }
        if let Some(name) = OwnedNamespace::new(name) {
            let grant = Grant::whole(name, self.next_number());
            let last_use = None;
            self.known.insert(new, Known { grant, last_use });
        }
    }

    /// Another token is made. Those of the namespace that have expired by then go.
    pub(super) fn add(&mut self, name: &str, token: &NamespaceToken) {
        let Some(namespace) = OwnedNamespace::new(name) else {
            return;
        };
        let grant = Grant {
            namespace,
            number: self.next_number(),
            scopes: token.scopes,
            prefix: token.prefix.clone(),
            expires: token.expires,
        };
        let last_use = Some(token.last_use.clone());
        self.known.insert(token.hash, Known { grant, last_use });
        let known = &mut self.known;
        let all = self.made.entry(name.into()).or_default();
        all.retain(|made| {
            let has_expired = made.token.has_expired(token.created);
            if has_expired {
                known.remove(&made.token.hash);
            }
            !has_expired
        });
        all.push(Made {
            token: token.clone(),
            stored_minute: 0,
        });
    }

    /// A token is revoked.
    pub(super) fn remove(&mut self, name: &str, id: &str) {
        if let Some(all) = self.made.get_mut(name) {
            for made in all.extract_if(.., |made| *made.token.id == *id) {
                self.known.remove(&made.token.hash);
            }
            if all.is_empty() {
                self.made.remove(name);
            }
        }
    }

    /// A namespace is gone, and its tokens with it.
    pub(super) fn remove_all(&mut self, namespace: &Namespace) {
        self.known.remove(&namespace.token);
        for made in self.made.remove(&namespace.name).unwrap_or_default() {
            self.known.remove(&made.token.hash);
        }
    }

    /// The control log knows of these uses.
    pub(super) fn note_stored(&mut self, uses: &[TokenUse]) {
        for TokenUse { name, id, minute } in uses {
            let all = self.made.get_mut(name).into_iter().flatten();
            for made in all.filter(|made| made.token.id == *id) {
                made.token.last_use.set(*minute);
                made.stored_minute = *minute;
            }
        }
    }

    /// Changes that tell the control log of the uses that it does not know.
    pub fn unstored_uses(&self) -> Vec<Change> {
        let mut unstored = Vec::new();
        for (name, all) in &self.made {
            for Made {
                token,
                stored_minute,
            } in all
            {
                let minute = token.last_use.minute();
                if minute > *stored_minute {
                    unstored.push(TokenUse {
                        name: name.clone(),
                        id: token.id.clone(),
                        minute,
                    });
                }
            }
        }
        let changes = unstored.chunks(TOKEN_USES_PER_CHANGE_MAX);
        changes
            .map(|uses| Change::TokensUsed(uses.into()))
            .collect()
    }

    fn next_number(&mut self) -> TokenNumber {
        self.last_number = self.last_number.next();
        self.last_number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scopes;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_micros(minute.checked_mul(60_000_000).unwrap())
    }

    fn token(id: &str, (created, expires): (i64, Option<i64>)) -> NamespaceToken {
        NamespaceToken {
            id: id.into(),
            hash: TokenHash::of(id.as_bytes()),
            label: None,
            scopes: Scopes::ALL,
            prefix: None,
            created: at(created),
            expires: expires.map(at),
            last_use: LastUse::default(),
        }
    }

    fn ids(tokens: &Tokens, now: i64) -> Vec<&str> {
        tokens.of("house", at(now)).map(|it| &*it.id).collect()
    }

    #[test]
    fn an_expired_token_grants_nothing_and_goes_with_the_next_one_made() {
        let mut tokens = Tokens::default();
        tokens.add("house", &token("a", (1, Some(5))));
        tokens.add("house", &token("b", (2, None)));
        let hash = TokenHash::of(b"a");
        assert!(tokens.present(&hash, at(4)).is_some());
        assert!(tokens.present(&hash, at(5)).is_none());
        assert_eq!(
            (ids(&tokens, 4), ids(&tokens, 5)),
            (vec!["a", "b"], vec!["b"])
        );
        assert_eq!(tokens.len(), 2);
        tokens.add("house", &token("c", (5, None)));
        assert_eq!(tokens.len(), 2);
        tokens.remove("house", "b");
        assert_eq!(ids(&tokens, 5), ["c"]);
        tokens.remove("house", "c");
        assert!(tokens.is_empty());
    }

    #[test]
    fn uses_that_the_log_does_not_know_are_told_once() {
        let mut tokens = Tokens::default();
        for id in ["a", "b"] {
            tokens.add("house", &token(id, (1, None)));
        }
        assert_eq!(tokens.unstored_uses(), []);
        tokens.present(&TokenHash::of(b"b"), at(7));
        let told = tokens.unstored_uses();
        let used = TokenUse {
            name: "house".into(),
            id: "b".into(),
            minute: 7,
        };
        let uses: Box<[TokenUse]> = [used].into();
        assert_eq!(told, [Change::TokensUsed(uses.clone())]);
        tokens.note_stored(&uses);
        assert_eq!(tokens.unstored_uses(), []);
    }
}
