//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::time::Duration;

const TOKEN_HELP: &str = "A token for writes in auth mode is read from FLUX_TOKEN; it fits one namespace, so say \
    --namespaces 1 --namespace <its name> as well.";

/// Load against a running Flux server
#[derive(Debug, Parser)]
#[command(name = "flux-loadgen", version, after_help = TOKEN_HELP)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish single events
    Publish(PublishOptions),
    /// Publish events in batches
    Batch(BatchOptions),
    /// Create entities, or a given number of events of them, as fast as the server takes them
    Fill(FillOptions),
    /// Read single entities
    Get(GetOptions),
    /// List entities by namespace
    List(ListOptions),
    /// Publish, read and list in given proportions
    Mix(MixOptions),
    /// Find the highest rate of an open loop that keeps a given latency
    Ramp(RampOptions),
    /// Subscribe by WebSocket and time each event from publisher to watchers
    Watch(WatchOptions),
    /// Subscribe by WebSocket on many connections at once, and time until they are live
    CatchUp(CatchUpOptions),
    /// Open connections that do nothing
    Idle(IdleOptions),
    /// Open and close connections at a given rate: with https, a handshake each
    Handshakes(HandshakeOptions),
}

/// The server, the amount of load, and its duration.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadOptions {
    /// Server
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    pub(crate) url: String,
    /// Connections (watch: of the publishers)
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) connections: u16,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) pipeline: u16,
    /// Open loop: requests due each second, over all connections; without it, closed loop
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) rate: Option<u64>,
    /// Seconds that are measured
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// Seconds of the same load before that
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// Cores of the threads, in turn
    #[arg(long, value_delimiter = ',')]
    pub(crate) cpu: Vec<usize>,
    /// Process of the server, on this machine: report its processor time for each event or request
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is written and read.
#[derive(Clone, Debug, Args)]
pub(crate) struct EntityOptions {
    /// Entities
    #[arg(long, default_value_t = 10_000)]
    pub(crate) entities: u64,
    /// Namespaces that they are spread over; 0: ids without a namespace
    #[arg(long, default_value_t = 16)]
    pub(crate) namespaces: u64,
    /// Name of the namespace, or what the names of several begin with
    #[arg(long, default_value = "load")]
    pub(crate) namespace: String,
    /// Properties of each event; the first is a counter
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) properties: u16,
    /// Length of the values of the other properties
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) value_bytes: u32,
    /// Which entities are chosen how often
    #[arg(long, value_enum, default_value_t = Skew::Uniform)]
    pub(crate) skew: Skew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Skew {
    /// All alike
    Uniform,
    /// A few entities get most of the load, with the exponent 0.99; a few of each connection if
    /// connections have entities of their own
    Zipfian,
}

#[derive(Debug, Args)]
pub(crate) struct PublishOptions {
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) entities: EntityOptions,
    /// Publish by requests over a `WebSocket` for each connection
    #[arg(long)]
    pub(crate) websocket: bool,
    /// Afterwards, read every entity back and compare it with what was acknowledged
    #[arg(long)]
    pub(crate) verify: bool,
    /// Seconds to wait for the server to be reachable before verifying, for one that was killed and
    /// restarted
    #[arg(long, default_value = "0", value_parser = seconds)]
    pub(crate) verify_wait: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct BatchOptions {
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) entities: EntityOptions,
    /// Events of each batch
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) size: u16,
}

#[derive(Debug, Args)]
pub(crate) struct FillOptions {
    /// Server
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) entities: EntityOptions,
    /// Events, of the entities in turn; without it, one of each
    #[arg(long)]
    pub(crate) events: Option<u64>,
    /// Connections, each with a batch in flight
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) connections: u16,
    /// Events of each batch
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) size: u16,
    /// Core
    #[arg(long)]
    pub(crate) cpu: Vec<usize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GetOptions {
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) entities: EntityOptions,
    /// Assume that the entities exist
    #[arg(long)]
    pub(crate) no_setup: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListOptions {
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) entities: EntityOptions,
    /// Entities of each answer; 0: all of the namespace
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
    /// Assume that the entities exist
    #[arg(long)]
    pub(crate) no_setup: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MixOptions {
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) entities: EntityOptions,
    /// Share of single events, of the sum of the three shares
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) publish: u64,
    /// Share of reads of one entity
    #[arg(long, default_value_t = 45, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) get: u64,
    /// Share of listings of one namespace
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(crate) list: u64,
    /// Entities of each listing; 0: all of the namespace
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
    /// Assume that the entities exist
    #[arg(long)]
    pub(crate) no_setup: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RampOptions {
    /// What each rate is tried with
    #[arg(value_enum, default_value_t = RampOf::Publish)]
    pub(crate) of: RampOf,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) entities: EntityOptions,
    /// The 99th percentile that is still good, milliseconds from when a request was due
    #[arg(long, default_value = "5", value_parser = milliseconds)]
    pub(crate) p99_ms: Duration,
    /// The first rate, requests a second over all connections
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) from: u64,
    /// Assume that the entities exist
    #[arg(long)]
    pub(crate) no_setup: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RampOf {
    /// Single events
    Publish,
    /// Reads of single entities
    Get,
}

#[derive(Debug, Args)]
pub(crate) struct WatchOptions {
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    #[command(flatten)]
    pub(crate) entities: EntityOptions,
    /// WebSocket connections
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) watchers: u32,
    /// What each of them subscribes to
    #[arg(long, value_enum, default_value_t = Filter::All)]
    pub(crate) filter: Filter,
    /// How they are told: by each property, by entity or by event
    #[arg(long, value_enum, default_value_t = Mode::Property)]
    pub(crate) mode: Mode,
    /// Seconds without a message after which missing ones are given up
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) drain: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Filter {
    /// `*`
    #[value(name = "*", alias = "all")]
    All,
    /// One entity each, spread over all of them
    PerEntity,
    /// One namespace each, in turn
    PerNamespace,
}

/// How a subscriber is told of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// A message for each property
    Property,
    /// A message for each event, with what it changed
    Entity,
    /// Each event as it is stored
    Event,
}

#[derive(Debug, Args)]
pub(crate) struct CatchUpOptions {
    /// Server
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    pub(crate) url: String,
    /// Connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) clients: u32,
    /// What each of them subscribes to
    #[arg(long, default_value = "*")]
    pub(crate) pattern: String,
    /// How they are told
    #[arg(long, value_enum, default_value_t = Mode::Entity)]
    pub(crate) mode: Mode,
    /// Cursor of an earlier run: what has happened since; without it, a snapshot
    #[arg(long)]
    pub(crate) since: Option<String>,
    /// Core
    #[arg(long)]
    pub(crate) cpu: Vec<usize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IdleOptions {
    /// Server
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    pub(crate) url: String,
    /// Connections
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    /// Seconds that they stay open
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// What each does before it falls silent
    #[arg(long, value_enum, default_value_t = Greeting::None)]
    pub(crate) greeting: Greeting,
    /// Process id of the server, to tell how much memory a connection takes
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Same as --greeting websocket
    #[arg(long)]
    pub(crate) websocket: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HandshakeOptions {
    /// Server
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    pub(crate) url: String,
    /// Connections due each second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) rate: u64,
    /// Seconds
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Greeting {
    /// Nothing: a bare TCP connection
    None,
    /// One GET of /health
    Request,
    /// A WebSocket handshake, without subscriptions or metrics messages
    Websocket,
    /// The same, and a subscription to an entity of its own in mode `property`
    Property,
    /// The same in mode `entity`
    Entity,
    /// The same in mode `event`
    Event,
    /// A `GET /api/stream` of an entity of its own
    Stream,
}

/// Parses a number of seconds such as `10` or `0.5`, up to a day.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err("must be 0 to 86400 seconds".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Parses a number of milliseconds such as `5` or `0.5`, above 0 and up to a minute.
fn milliseconds(text: &str) -> Result<Duration, String> {
    let milliseconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if !(milliseconds > 0.0 && milliseconds <= 60_000.0) {
        return Err("must be above 0 and at most 60000 milliseconds".to_owned());
    }
    Duration::try_from_secs_f64(milliseconds / 1_000.0).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn seconds_are_whole_or_fractional_and_at_most_a_day() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["-1", "86401", "NaN", "inf", "x"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
