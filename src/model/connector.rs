//! What names a connector, and the encrypted form of its credential. Both are opaque to whoever
//! stores them.

use std::fmt;
use std::sync::Arc;

/// The connectors that every owner has without defining them.
pub const BUILT_IN_CONNECTORS: &[&str] = &["github"];

/// A connector's owner and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectorId {
    /// A namespace; empty for the one owner of a server without tokens.
    pub owner: Box<str>,
    /// 3 to 32 of `a-z 0-9 - _`, unique among the owner's connectors.
    pub name: Box<str>,
}

impl ConnectorId {
    /// True if every owner has this connector without defining it.
    pub fn is_built_in(&self) -> bool {
        BUILT_IN_CONNECTORS.contains(&&*self.name)
    }
}

/// An encrypted credential.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Arc<[u8]>);

impl Sealed {
    /// Wraps the encryption's output.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes to store or to decrypt.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}
