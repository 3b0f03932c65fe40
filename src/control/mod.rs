//! The control plane: namespaces with the hashes of their tokens, and the configuration that was
//! set while running.
//!
//! Its changes are records of a log of their own with one writer (core 0); its current value is a
//! [`Registry`], of which every core has its own.
//!
//! | file | job |
//! | --- | --- |
//! | `namespace` | what is kept of one namespace |
//! | `token` | what is kept of one token |
//! | `tokens` | all tokens: what each grants, and which a namespace has |
//! | `change` | a change ⇄ its stored form |
//! | `registry` | the current value |
//! | `connectors` | the part of it that is about connectors |
//! | `command` | a call → a change, or a rejection |
//! | `rates` | how much a namespace may have stored in the log |
//! | `names` | names of namespaces that the server makes up |
//! | `store` | the log |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod change;
#[cfg(test)]
mod change_test;
pub mod command;
pub mod connectors;
pub mod names;
pub mod namespace;
pub mod rates;
pub mod registry;
pub mod store;
pub mod token;
pub mod tokens;

pub use change::{Change, ChangeDecodeError, RECORD_KIND_CONTROL, TokenUse};
pub use command::{Command, CommandRejection};
pub use connectors::{Connectors, StoredConnector};
pub use names::automatic_name;
pub use namespace::Namespace;
pub use rates::ControlRates;
pub use registry::Registry;
pub use store::{ControlError, ControlStore};
pub use token::{LastUse, NamespaceToken};
pub use tokens::Tokens;
