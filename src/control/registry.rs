//! The current value of the control plane, as each core has it.

use super::change::Change;
use super::connectors::Connectors;
use super::namespace::Namespace;
use super::tokens::Tokens;
use crate::auth::{PrivateNamespaces, TokenNumber};
use crate::model::{ConfigPatch, HistoryStarts, Visibility};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    namespaces: BTreeMap<Arc<str>, Namespace>,
    tokens: Tokens,
    starts: HistoryStarts,
    /// The private namespaces. A name stays among them if its namespace is deleted: what that
    /// leaves is the operator's alone to see.
    private: PrivateNamespaces,
    /// Names under which a private namespace was deleted once.
    left_private: BTreeSet<Box<str>>,
    config: ConfigPatch,
    connectors: Connectors,
    /// Rises with each change of who may do what.
    revision: u64,
}

impl Registry {
    /// Applies a change. What makes no sense, such as a token for a name that is not registered,
    /// changes nothing.
    pub fn apply(&mut self, change: &Change) {
        self.connectors.apply(change);
        if !matches!(change, Change::TokensUsed(_)) {
            self.revision = self.revision.wrapping_add(1);
        }
        match change {
            Change::Registered(namespace) => {
                let name: Arc<str> = (*namespace.name).into();
                if !self.namespaces.contains_key(&name) {
                    self.tokens.add_first(namespace);
                    self.starts.insert(&name, namespace.history_start());
                    self.set_private(&name, namespace.visibility);
                    self.namespaces.insert(name, namespace.clone());
                }
            }
            Change::TokenReplaced { name, token } => {
                if let Some(namespace) = self.namespaces.get_mut(&**name) {
                    let old = std::mem::replace(&mut namespace.token, *token);
                    self.tokens.replace_first(name, (Some(old), *token));
                }
            }
            Change::Deleted { name } => {
                if let Some(namespace) = self.namespaces.remove(&**name) {
                    self.tokens.remove_all(&namespace);
                    if namespace.visibility == Visibility::Private {
                        self.left_private.insert(name.clone());
                    } else if !self.left_private.contains(name) {
                        // Before the start there may be what a private one of that name left.
                        self.starts.remove(name);
                    }
                }
            }
            Change::VisibilitySet { name, visibility } => {
                if let Some(namespace) = self.namespaces.get_mut(&**name) {
                    namespace.visibility = *visibility;
                    self.set_private(name, *visibility);
                }
            }
            Change::TokenMade { name, token } => {
                if self.namespaces.contains_key(&**name) {
                    self.tokens.add(name, token);
                }
            }
            Change::TokenRevoked { name, id } => self.tokens.remove(name, id),
            Change::TokensUsed(uses) => self.tokens.note_stored(uses),
            Change::Configured(patch) => self.config = self.config.then(*patch),
            Change::ConnectorDefined { .. }
            | Change::ConnectorRemoved(_)
            | Change::CredentialStored { .. }
            | Change::CredentialRemoved(_) => {}
        }
    }

    /// Is another whenever somebody may do more or less than before, but for tokens that expire.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    fn set_private(&mut self, name: &str, visibility: Visibility) {
        match visibility {
            Visibility::Private => self.private.insert(name),
            Visibility::Public => self.private.remove(name),
        }
    }

    /// The namespaces that not everyone may read. Of a name that is not registered: what a private
    /// namespace has left under it.
    pub const fn private(&self) -> &PrivateNamespaces {
        &self.private
    }

    /// The namespace of this name.
    pub fn get(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// The tokens.
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Whose writes may be stored in a namespace: the numbers of its tokens, and that of the server
    /// itself. None if it is not registered.
    pub fn writers_of(&self, name: &str) -> Vec<TokenNumber> {
        let Some(namespace) = self.get(name) else {
            return Vec::new();
        };
        let numbers = self.tokens.numbers_of(namespace);
        numbers.chain([TokenNumber::NONE]).collect()
    }

    /// Where the history of each namespace begins.
    pub const fn history_starts(&self) -> &HistoryStarts {
        &self.starts
    }

    /// Namespaces by name, those after `after`.
    pub fn list(&self, after: Option<&str>) -> impl Iterator<Item = &Namespace> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self
            .namespaces
            .range::<str, (Bound<&str>, Bound<&str>)>((start, Bound::Unbounded));
        range.map(|(_, namespace)| namespace)
    }

    /// Number of namespaces.
    pub fn len(&self) -> usize {
        self.namespaces.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// The connectors.
    pub fn connectors(&self) -> &Connectors {
        &self.connectors
    }

    /// What was configured while the server ran.
    pub fn config(&self) -> &ConfigPatch {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenHash;
    use crate::model::{HistoryStart, Timestamp};
    use flux_storage::Sequence;

    fn hash(number: u64) -> TokenHash {
        TokenHash::of(&number.to_le_bytes())
    }

    #[test]
    fn a_registry_is_what_its_changes_made_of_it() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut registry = Registry::default();
        let mut model: BTreeMap<String, u64> = BTreeMap::new();
        for token in 0..5_000_u64 {
            let name = format!("ns-{}", random.u8(..40));
            let change = match random.u8(..4) {
                0 | 1 => {
                    model.entry(name.clone()).or_insert(token);
                    Change::Registered(Namespace {
                        id: format!("ns_{token}").into(),
                        name: name.into(),
                        token: hash(token),
                        created: Timestamp::default(),
                        after: None,
                        visibility: Visibility::Public,
                    })
                }
                2 => {
                    if let Some(known) = model.get_mut(&name) {
                        *known = token;
                    }
                    Change::TokenReplaced {
                        name: name.into(),
                        token: hash(token),
                    }
                }
                _ => {
                    model.remove(&name);
                    Change::Deleted { name: name.into() }
                }
            };
            registry.apply(&change);
            assert_eq!(registry.tokens.len(), model.len(), "one token each");
            let named = registry.get("ns-7").map(Namespace::history_start);
            assert_eq!(registry.history_starts().get("ns-7"), named);
        }
        let names: Vec<_> = registry.list(None).map(|it| it.name.to_string()).collect();
        assert_eq!(names, model.keys().cloned().collect::<Vec<_>>());
        for (name, token) in &model {
            let owner = registry.tokens.get(&hash(*token));
            let owner = owner.map(|grant| grant.namespace.as_str());
            assert_eq!(owner, Some(name.as_str()));
        }
        let after = registry.list(Some("ns-2")).next().map(|it| &*it.name);
        assert_eq!(
            after,
            model
                .range("ns-20".to_owned()..)
                .next()
                .map(|(name, _)| name.as_str())
        );
        let living = (0..5_000).filter(|it| registry.tokens.get(&hash(*it)).is_some());
        assert_eq!(living.count(), model.len(), "every other token is dead");
    }

    fn register(registry: &mut Registry, (name, after): (&str, u64), visibility: Visibility) {
        registry.apply(&Change::Registered(Namespace {
            id: format!("ns_{after}").into(),
            name: name.into(),
            token: hash(after),
            created: Timestamp::default(),
            after: Some(Sequence::new(after)),
            visibility,
        }));
    }

    #[test]
    fn what_a_deleted_private_namespace_leaves_stays_private_until_the_name_has_a_new_owner() {
        let mut registry = Registry::default();
        let delete = Change::Deleted {
            name: "house".into(),
        };
        let start = |after| Some(HistoryStart::After(Sequence::new(after)));
        register(&mut registry, ("house", 7), Visibility::Private);
        assert!(registry.private().holds("house"));
        registry.apply(&delete);
        assert!(registry.private().holds("house"), "nobody owns it");
        register(&mut registry, ("house", 20), Visibility::Public);
        assert!(!registry.private().holds("house"));
        registry.apply(&delete);
        assert!(!registry.private().holds("house"));
        let begins = registry.history_starts().get("house");
        assert_eq!(begins, start(20), "what came before was private");
        register(&mut registry, ("house", 30), Visibility::Public);
        assert_eq!(registry.history_starts().get("house"), start(30));
        // Of a name that never was private nothing is hidden.
        register(&mut registry, ("garden", 8), Visibility::Public);
        registry.apply(&Change::Deleted {
            name: "garden".into(),
        });
        assert_eq!(registry.history_starts().get("garden"), None);
    }

    #[test]
    fn who_may_read_changes_with_a_call_and_each_change_is_noticed() {
        let mut registry = Registry::default();
        let set = |name: &str, visibility| Change::VisibilitySet {
            name: name.into(),
            visibility,
        };
        register(&mut registry, ("house", 7), Visibility::Public);
        let mut seen = registry.revision();
        for visibility in [Visibility::Private, Visibility::Public] {
            registry.apply(&set("house", visibility));
            let is_private = visibility == Visibility::Private;
            assert_eq!(registry.private().holds("house"), is_private);
            assert_ne!(registry.revision(), seen);
            seen = registry.revision();
        }
        registry.apply(&set("nothing", Visibility::Private));
        assert!(registry.private().is_empty());
    }

    #[test]
    fn configurations_add_up() {
        let mut registry = Registry::default();
        for (rate, batch) in [(Some(5), None), (None, Some(7)), (Some(6), None)] {
            registry.apply(&Change::Configured(ConfigPatch {
                rate_limit_per_namespace_per_minute: rate,
                max_batch_delete: batch,
                ..ConfigPatch::default()
            }));
        }
        let config = registry.config();
        assert_eq!(config.rate_limit_per_namespace_per_minute, Some(6));
        assert_eq!(config.max_batch_delete, Some(7));
        assert_eq!(config.rate_limit_enabled, None);
    }
}
