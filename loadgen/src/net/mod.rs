//! Sockets: where the server is, plain or by TLS, non-blocking links to it, and readiness.

mod link;
mod poller;
mod stream;
mod target;

pub(crate) use link::{Input, LINK_PARTIAL_BYTES_MAX, Link, Received};
pub(crate) use poller::{Poller, Ready};
pub(crate) use stream::Stream;
pub(crate) use target::Target;

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets this process hold as many sockets as the system allows it.
///
/// # Errors
/// When the system refuses; the limit stays as it was.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot raise the limit of open files")
}
