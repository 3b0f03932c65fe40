//! Load for other programs' protocols, as `flux-loadgen` makes it for HTTP: so many connections,
//! each with so many requests in flight, that write three properties of an entity and wait for the
//! acknowledgement.
//!
//! | file | job |
//! | --- | --- |
//! | `load` | the closed loop over all connections, on one thread |
//! | `redis` | `HSET` and its replies |
//! | `nats` | publishing to a `JetStream` and its acknowledgements |

mod load;
mod nats;
mod redis;

use crate::affinity;
use crate::output;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use std::net::SocketAddr;

/// A protocol that load is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// `HSET` of some fields
    Redis,
    /// Publish with acknowledgement to a stream on files
    Nats,
}

#[derive(Debug, Args)]
pub(crate) struct PeerOptions {
    /// What the server speaks
    protocol: Protocol,
    /// Address of the server
    #[arg(long)]
    address: SocketAddr,
    #[command(flatten)]
    shape: Shape,
    /// Core to run on; without it the scheduler decides
    #[arg(long)]
    cpu: Option<usize>,
}

/// The part of a load that means the same to all protocols; named as `flux-loadgen` names it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shape {
    /// Connections
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Entities that are written
    #[arg(long, default_value_t = 1000)]
    entities: u64,
    /// Properties of each event
    #[arg(long, default_value_t = 3)]
    properties: usize,
    /// Seconds that are measured
    #[arg(long, default_value_t = 10)]
    duration: u64,
    /// Seconds of the same load before that
    #[arg(long, default_value_t = 2)]
    warmup: u64,
}

/// What a protocol brings: bytes out, and acknowledgements counted in what comes in.
pub(super) trait Dialect {
    /// Called once for each connection, and blocks until the server knows it.
    ///
    /// # Errors
    /// When the server refuses.
    fn greet(&self, stream: &mut std::net::TcpStream, connection: usize) -> Result<()>;

    /// Appends a connection's request that writes an entity; `value` differs from the one before.
    fn request(&self, out: &mut Vec<u8>, connection: usize, entity: u64, value: u64);

    /// Takes whole acknowledgements off the beginning of what came in: bytes consumed, and how many
    /// there were.
    ///
    /// # Errors
    /// When one of them is a refusal.
    fn acknowledged(&self, input: &[u8]) -> Result<(usize, usize)>;
}

/// Makes the load and prints its figures as JSON.
///
/// # Errors
/// When the server refuses, or the connection to it fails.
pub(crate) fn run(options: &PeerOptions) -> Result<()> {
    if let Some(cpu) = options.cpu {
        affinity::pin_to(cpu)?;
    }
    let shape = &options.shape;
    let properties = shape.properties;
    let report = match options.protocol {
        Protocol::Redis => load::run(&redis::Redis { properties }, options.address, shape),
        Protocol::Nats => {
            let nats = nats::Nats { properties };
            nats.make_stream(options.address)
                .context("cannot make the stream")?;
            load::run(&nats, options.address, shape)
        }
    };
    output::result(&report?.to_string());
    Ok(())
}
