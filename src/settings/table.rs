//! Every setting that stands on a command line: its variable, its flag, and what it is.

use super::TlsFiles;

/// One setting: its variable and its flag.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Environment variable.
    pub variable: &'static str,
    /// Flag, without the dashes.
    pub flag: &'static str,
    /// What it is, with its default.
    pub help: &'static str,
}

/// The variable that says where the data lies.
pub const DATA_DIR_VARIABLE: &str = "FLUX_DATA_DIR";

/// All settings that stand on a command line, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    setting(
        "PORT",
        "port",
        "port to listen on, 0 for any free one [default: 3000]",
    ),
    setting(
        "FLUX_BIND",
        "bind",
        "address to listen on; without auth, one beyond loopback needs FLUX_OPEN=true [default: 127.0.0.1 and ::1]",
    ),
    setting(
        TlsFiles::CERTIFICATE_VARIABLE,
        "tls-cert-file",
        "certificate and its chain, in PEM: the port then speaks TLS only",
    ),
    setting(
        TlsFiles::KEY_VARIABLE,
        "tls-key-file",
        "the certificate's private key, in PEM",
    ),
    setting(
        DATA_DIR_VARIABLE,
        "data-dir",
        "where the data lies [default: ./flux-data]",
    ),
    setting(
        "FLUX_SHARDS",
        "shards",
        "number of shards, at most four for each core that the process may use [default: one for each]",
    ),
    setting(
        "FLUX_DURABILITY",
        "durability",
        "sync (on the disk) or async (a power cut loses what came since the last finished flush began) [default: sync]",
    ),
    setting(
        "FLUX_AUTH_ENABLED",
        "auth",
        "true or false [default: false]",
    ),
    setting(
        "FLUX_ALLOWED_ORIGINS",
        "allowed-origins",
        "web pages that may reach the server: origins separated by commas, or * for any [default: * in auth mode, else loopback origins and the server's own]",
    ),
    setting(
        "FLUX_ALLOWED_HOSTS",
        "allowed-hosts",
        "names separated by commas by which the server may be asked besides addresses and localhost; without auth",
    ),
    setting(
        "FLUX_OPEN",
        "open",
        "true or false; without auth, the server may be asked by any name, and may listen beyond loopback [default: false]",
    ),
    setting(
        "FLUX_DASHBOARD",
        "dashboard",
        "true or false; `GET /` answers browsers with the dashboard [default: true]",
    ),
    setting(
        "FLUX_NAMESPACES_PRIVATE",
        "namespaces-private",
        "true or false; in auth mode, new namespaces are private [default: false]",
    ),
    setting(
        "FLUX_RATE_LIMIT_ENABLED",
        "rate-limit-enabled",
        "true or false; in auth mode [default: true]",
    ),
    setting(
        "FLUX_RATE_LIMIT_PER_NAMESPACE_PER_MINUTE",
        "rate-limit-per-namespace-per-minute",
        "events per minute; in auth mode [default: 10000]",
    ),
    setting(
        "FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES",
        "body-size-limit-single-bytes",
        "largest body of one event [default: 1048576]",
    ),
    setting(
        "FLUX_BODY_SIZE_LIMIT_BATCH_BYTES",
        "body-size-limit-batch-bytes",
        "largest body of a batch [default: 10485760]",
    ),
    setting(
        "FLUX_FLUSH_INTERVAL_MS",
        "flush-interval-ms",
        "milliseconds from the beginning of a flush to the next in async durability, 1 to 60000 [default: 50]",
    ),
    setting(
        "FLUX_SEGMENT_BYTES",
        "segment-bytes",
        "bytes of a full-grown log segment, 65536 to 1073741824 [default: by the size of the file system]",
    ),
    setting(
        "FLUX_MAX_BATCH_DELETE",
        "max-batch-delete",
        "entities that one batch delete may match [default: 10000]",
    ),
    setting(
        "FLUX_CONNECTIONS_MAX",
        "connections-max",
        "open connections [default: 65536]",
    ),
    setting(
        "FLUX_CONNECTIONS_PER_ADDRESS_MAX",
        "connections-per-address-max",
        "open connections from one address [default: 65536]",
    ),
    setting(
        "FLUX_SUBSCRIPTIONS_MAX",
        "subscriptions-max",
        "subscriptions of all connections [default: 4000000]",
    ),
    setting(
        "FLUX_SUBSCRIPTIONS_PER_ADDRESS_MAX",
        "subscriptions-per-address-max",
        "subscriptions from one address [default: 1000000]",
    ),
    setting(
        "FLUX_REGISTRATIONS_PER_ADDRESS_MAX",
        "registrations-per-address-max",
        "namespaces that one address may register in ten minutes without an operator's token [default: 30]",
    ),
    setting(
        "FLUX_MEMORY_BYTES",
        "memory-bytes",
        "memory for bodies, answers, outboxes and queries, at least 16777216 [default: a quarter of the machine's or the container's]",
    ),
    setting(
        "FLUX_HEAD_TIMEOUT_SECONDS",
        "head-timeout-seconds",
        "for a request head [default: 10]",
    ),
    setting(
        "FLUX_BODY_TIMEOUT_SECONDS",
        "body-timeout-seconds",
        "that a body may pause [default: 20]",
    ),
    setting(
        "FLUX_IDLE_TIMEOUT_SECONDS",
        "idle-timeout-seconds",
        "between two requests [default: 75]",
    ),
    setting(
        "FLUX_STALL_TIMEOUT_SECONDS",
        "stall-timeout-seconds",
        "that a client may take nothing of what it is sent [default: 120]",
    ),
    setting(
        "FLUX_CHECKPOINT_SECONDS",
        "checkpoint-seconds",
        "between two checkpoints of what changed, 1 to 86400 [default: 60]",
    ),
    setting(
        "FLUX_CHECKPOINT_BYTES",
        "checkpoint-bytes",
        "of a shard's log at which a checkpoint is taken earlier, at twice as many where it grows by more than 20 MiB a second; at least 65536 [default: 268435456]",
    ),
    setting(
        "FLUX_DEDUP_SECONDS",
        "dedup-seconds",
        "for which the eventId of a producer is known, 0 to 86400, 0 turns it off [default: 600]",
    ),
    setting(
        "FLUX_DEDUP_EVENTS",
        "dedup-events",
        "of its shard after which an eventId is not known any more, 0 to 100000000 [default: 1000000]",
    ),
    setting(
        "FLUX_RETENTION_SECONDS",
        "retention-seconds",
        "for which history is kept, 0 for ever [default: 0]",
    ),
    setting(
        "FLUX_RETENTION_BYTES",
        "retention-bytes",
        "that the log may take, 0 for any number [default: 0]",
    ),
    setting(
        "FLUX_CONNECTORS_ALLOW_PRIVATE",
        "connectors-allow-private",
        "true or false; in auth mode, lets connectors reach loopback and private addresses [default: false]",
    ),
    setting(
        "FLUX_CONNECTORS_ALLOW_ADDRESSES",
        "connectors-allow-addresses",
        "IP addresses, separated by commas, that connectors reach although they are link-local or, in auth mode, private",
    ),
    setting(
        "FLUX_LOG",
        "log",
        "least level of the lines on stderr: error, warn, info or debug [default: info]",
    ),
    setting(
        "FLUX_LOG_FORMAT",
        "log-format",
        "text, or json for one object a line [default: text]",
    ),
    setting(
        "FLUX_ACCESS_LOG",
        "access-log",
        "a line for each request: off, stderr or the path of a file [default: off]",
    ),
    setting(
        "FLUX_GITHUB_URL",
        "github-url",
        "GitHub's REST API [default: https://api.github.com]",
    ),
];

const fn setting(variable: &'static str, flag: &'static str, help: &'static str) -> Setting {
    Setting {
        variable,
        flag,
        help,
    }
}
