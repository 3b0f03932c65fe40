//! Who may write what, and how often. Pure: time and tokens are arguments, and nothing is shared
//! between cores.
//!
//! | file | job |
//! | --- | --- |
//! | `access` | what a token lets its holder touch |
//! | `credential` | connectors' credentials ⇄ their encrypted form |
//! | `rate` | token buckets of namespaces |
//! | `token` | secrets, their hashes, and the `Authorization` field |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod access;
pub mod credential;
pub mod rate;
pub mod token;

pub use access::{Access, Denied, OwnedNamespace};
pub use credential::{EncryptionKey, seal};
pub use rate::{RateLimited, RateLimiter};
pub use token::{Token, TokenHash, bearer};
