//! What the control plane keeps of connectors: their definitions and their credentials, as bytes
//! that others read.

use super::change::Change;
use crate::model::{ConnectorId, Sealed};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Connectors of one owner. More are refused.
pub const CONNECTORS_PER_OWNER_MAX: usize = 2_000;
/// Connectors of all owners together. More are refused.
pub const CONNECTORS_MAX: usize = 10_000;

/// What is known of one connector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredConnector {
    /// What it polls; `None` for one that is built in.
    pub definition: Option<Arc<str>>,
    /// Its credential.
    pub credential: Option<Sealed>,
}

/// All connectors. One that is built in is here only while it has a credential.
#[derive(Debug, Clone, Default)]
pub struct Connectors {
    all: BTreeMap<ConnectorId, StoredConnector>,
}

impl Connectors {
    /// Applies a change. What makes no sense, such as a credential for a connector that nobody
    /// defined, changes nothing.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::ConnectorDefined { id, definition } => {
                let connector = self.all.entry(id.clone()).or_default();
                connector.definition = Some(Arc::clone(definition));
            }
            Change::ConnectorRemoved(id) => {
                self.all.remove(id);
            }
            Change::CredentialStored { id, sealed } => {
                if id.is_built_in() || self.all.contains_key(id) {
                    let connector = self.all.entry(id.clone()).or_default();
                    connector.credential = Some(sealed.clone());
                }
            }
            Change::CredentialRemoved(id) => {
                if let Some(connector) = self.all.get_mut(id) {
                    connector.credential = None;
                    if connector.definition.is_none() {
                        self.all.remove(id);
                    }
                }
            }
            Change::Deleted { name } => self.all.retain(|id, _| id.owner != *name),
            Change::Registered(_)
            | Change::TokenReplaced { .. }
            | Change::TokenMade { .. }
            | Change::TokenRevoked { .. }
            | Change::VisibilitySet { .. }
            | Change::TokensUsed(_)
            | Change::Configured(_) => {}
        }
    }

    /// What is known of one.
    pub fn get(&self, id: &ConnectorId) -> Option<&StoredConnector> {
        self.all.get(id)
    }

    /// All of one owner, by name.
    pub fn of<'c>(
        &'c self,
        owner: &'c str,
    ) -> impl Iterator<Item = (&'c ConnectorId, &'c StoredConnector)> {
        let first = ConnectorId {
            owner: owner.into(),
            name: "".into(),
        };
        let from = self.all.range(first..);
        from.take_while(move |(id, _)| *id.owner == *owner)
    }

    /// All, by owner and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ConnectorId, &StoredConnector)> {
        self.all.iter()
    }

    /// Number of connectors.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
