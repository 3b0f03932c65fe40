//! Who may write and read what, and how often. Pure: time and tokens are arguments, and nothing is
//! shared between cores.
//!
//! | file | job |
//! | --- | --- |
//! | `access` | what a token lets its holder touch |
//! | `browsers` | which web pages may reach the server, and by which names |
//! | `credential` | connectors' credentials ⇄ their encrypted form |
//! | `grant` | what a token of a namespace grants, and whose rate a write counts against |
//! | `guesses` | wrong operator's tokens: how late they are answered |
//! | `private` | the names of the namespaces that not everyone may read |
//! | `rate` | token buckets of namespaces |
//! | `reader` | who reads, and what that lets it see |
//! | `registrations` | how many namespaces an address may register |
//! | `tickets` | what stands for a token once |
//! | `token` | secrets, their hashes, and the `Authorization` field |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod access;
pub mod browsers;
pub mod credential;
pub mod grant;
pub mod guesses;
pub mod private;
pub mod rate;
pub mod reader;
pub mod registrations;
pub mod tickets;
pub mod token;

pub use access::{Access, Denied, OwnedNamespace, Presented};
pub use browsers::{AllowedHosts, AllowedOrigins, BrowserPolicy, Scheme, Unwelcome};
pub use credential::{EncryptionKey, seal};
pub use grant::{Charged, Grant, TokenNumber};
pub use guesses::{Failures, Guesses};
pub use private::PrivateNamespaces;
pub use rate::{RateLimited, RateLimiter};
pub use reader::{Extent, Readable, Reader};
pub use registrations::Registrations;
pub use tickets::{NoTicket, Tickets};
pub use token::{Token, TokenHash, bearer};
