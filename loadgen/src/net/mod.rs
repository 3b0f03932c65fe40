//! Sockets: where the server is, non-blocking links to it, and readiness.

mod link;
mod poller;
mod target;

pub(crate) use link::{Input, LINK_PARTIAL_BYTES_MAX, Link, Received};
pub(crate) use poller::{Poller, Ready};
pub(crate) use target::Target;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets this process hold as many sockets as the system allows it. Where that fails, the soft limit stands, and opening
/// one socket too many says so.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    drop(setrlimit(Resource::Nofile, limit));
}
