//! What runs without a server, or beside one without its lock: reading, checking, repairing and
//! copying.
//!
//! | file | |
//! | --- | --- |
//! | `read_only` | reads a data directory while its server writes to it |
//! | `scrub` | reads a log that may be damaged, and judges what is missing |
//! | `verify` | reports what a scrub of a whole directory finds |
//! | `repair` | makes a damaged directory one that a server opens |
//! | `backup` | copies a directory beside its server, and puts a copy back |
//!
//! It must not know an open log: it reads files, and nothing in `log` or `checkpoint` imports it.

pub(crate) mod backup;
pub(crate) mod read_only;
pub(crate) mod repair;
pub(crate) mod scrub;
pub(crate) mod verify;
