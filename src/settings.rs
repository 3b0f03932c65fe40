//! The settings of `flux serve`: from flags and the environment, checked, with their defaults (API contract §11).

use crate::limits;
use crate::model::Durability;
use std::net::IpAddr;
use std::path::PathBuf;

/// Everything a server can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Port; 0 picks a free one.
    pub port: u16,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Where the data lies.
    pub data_dir: PathBuf,
    /// Number of shards; `None`: one for each core that the process may use.
    pub shards: Option<u16>,
    /// What a success promises.
    pub durability: Durability,
    /// Milliseconds between two flushes in `async` durability.
    pub flush_interval_ms: u64,
    /// Bytes of a full-grown log segment; `None`: chosen by the size of the file system.
    pub segment_bytes: Option<u64>,
    /// The body of one event, bytes.
    pub body_single_bytes_max: usize,
    /// The body of a batch, bytes.
    pub body_batch_bytes_max: usize,
    /// Connections of the process.
    pub connections_max: usize,
    /// Seconds for a request head.
    pub head_timeout_seconds: u64,
    /// Seconds that a body may pause.
    pub body_timeout_seconds: u64,
    /// Seconds between two requests of a connection.
    pub idle_timeout_seconds: u64,
    /// When checkpoints are taken and history is removed.
    pub upkeep: StorageUpkeep,
}

/// When a shard writes a checkpoint, and when it lets go of old history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageUpkeep {
    /// Seconds after which what changed is written as a checkpoint.
    pub checkpoint_seconds: u64,
    /// Bytes of a shard's log after the last checkpoint at which the next is taken.
    pub checkpoint_bytes: u64,
    /// Seconds for which history is kept; `None`: for ever.
    pub retention_seconds: Option<u64>,
    /// Bytes that the log may take, all shards together; `None`: any number.
    pub retention_bytes: Option<u64>,
}

impl StorageUpkeep {
    /// True where history is ever removed.
    pub fn has_retention(self) -> bool {
        self.retention_seconds.is_some() || self.retention_bytes.is_some()
    }
}

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {name}: {value:?} is not {rule}")]
pub struct InvalidSetting {
    /// The variable, or the flag that was given in its place.
    name: Box<str>,
    /// What was given.
    value: Box<str>,
    /// What it must be.
    rule: &'static str,
}

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
        "address to listen on [default: 127.0.0.1]",
    ),
    setting(
        DATA_DIR_VARIABLE,
        "data-dir",
        "where the data lies [default: ./flux-data]",
    ),
    setting(
        "FLUX_SHARDS",
        "shards",
        "number of shards, 1 to 1024 [default: one for each core]",
    ),
    setting(
        "FLUX_DURABILITY",
        "durability",
        "sync or async [default: sync]",
    ),
    setting(
        "FLUX_AUTH_ENABLED",
        "auth",
        "true or false [default: false]",
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
        "milliseconds between flushes in async durability, 1 to 60000 [default: 50]",
    ),
    setting(
        "FLUX_SEGMENT_BYTES",
        "segment-bytes",
        "bytes of a full-grown log segment, 65536 to 1073741824 [default: by the size of the file system]",
    ),
    setting(
        "FLUX_CONNECTIONS_MAX",
        "connections-max",
        "open connections [default: 65536]",
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
        "FLUX_CHECKPOINT_SECONDS",
        "checkpoint-seconds",
        "between two checkpoints of what changed, 1 to 86400 [default: 60]",
    ),
    setting(
        "FLUX_CHECKPOINT_BYTES",
        "checkpoint-bytes",
        "of a shard's log at which a checkpoint is taken earlier, at least 65536 [default: 268435456]",
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
];

const fn setting(variable: &'static str, flag: &'static str, help: &'static str) -> Setting {
    Setting {
        variable,
        flag,
        help,
    }
}

/// The largest body limit that can be set, bytes: a batch of one event must fit a log record.
const BODY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Where settings are looked up: the flag where it was given, else the variable where it is not empty.
struct Source<'s, F, V> {
    flag: &'s F,
    variable: &'s V,
}

impl<F: Fn(&str) -> Option<String>, V: Fn(&str) -> Option<String>> Source<'_, F, V> {
    fn get<T>(
        &self,
        variable: &str,
        rule: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, InvalidSetting> {
        let setting = SETTINGS.iter().find(|setting| setting.variable == variable);
        let flag = setting.map_or("", |setting| setting.flag);
        let (name, value) = match (self.flag)(flag) {
            Some(value) => (format!("--{flag}"), value),
            None => match (self.variable)(variable) {
                Some(value) if !value.is_empty() => (variable.to_owned(), value),
                _ => return Ok(None),
            },
        };
        match parse(&value) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(InvalidSetting {
                name: name.into(),
                value: value.into(),
                rule,
            }),
        }
    }

    fn number(
        &self,
        variable: &str,
        rule: &'static str,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, InvalidSetting> {
        self.get(variable, rule, |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|number| digits && bounds.contains(number))
        })
    }

    /// The settings of auth mode, which this version does not have.
    fn check_tenancy(&self) -> Result<(), InvalidSetting> {
        // Tenants are not there yet. To start open where a closed server was asked for would be worse than not to.
        self.get(
            "FLUX_AUTH_ENABLED",
            "supported by this version, only `false` is",
            |text| parse_bool(text).filter(|enabled| !enabled),
        )?;
        // They belong to auth mode; what is written in a unit file is checked all the same.
        self.get("FLUX_RATE_LIMIT_ENABLED", "`true` or `false`", parse_bool)?;
        self.number(
            "FLUX_RATE_LIMIT_PER_NAMESPACE_PER_MINUTE",
            "a positive number",
            1..=u64::from(u32::MAX),
        )?;
        Ok(())
    }

    fn data_dir(&self) -> Result<PathBuf, InvalidSetting> {
        let parse = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let found = self.get(DATA_DIR_VARIABLE, "a path", parse)?;
        Ok(found.unwrap_or_else(|| PathBuf::from("./flux-data")))
    }

    fn size(&self, variable: &str, default: usize) -> Result<usize, InvalidSetting> {
        let number = self.number(variable, "a number from 1 to 268435456", 1..=BODY_BYTES_MAX)?;
        Ok(number
            .and_then(|number| usize::try_from(number).ok())
            .unwrap_or(default))
    }

    fn upkeep(&self) -> Result<StorageUpkeep, InvalidSetting> {
        let checkpoint_bytes = self.number(
            "FLUX_CHECKPOINT_BYTES",
            "a number of at least 65536",
            65_536..=u64::MAX,
        )?;
        let unlimited = |number: Option<u64>| number.filter(|&number| number > 0);
        Ok(StorageUpkeep {
            checkpoint_seconds: self.seconds(
                "FLUX_CHECKPOINT_SECONDS",
                limits::CHECKPOINT_SECONDS_DEFAULT,
            )?,
            checkpoint_bytes: checkpoint_bytes.unwrap_or(limits::CHECKPOINT_BYTES_DEFAULT),
            retention_seconds: unlimited(self.number(
                "FLUX_RETENTION_SECONDS",
                "a number from 0 to 3153600000",
                0..=3_153_600_000,
            )?),
            retention_bytes: unlimited(self.number(
                "FLUX_RETENTION_BYTES",
                "a number of bytes",
                0..=u64::MAX,
            )?),
        })
    }

    fn seconds(&self, variable: &str, default: u64) -> Result<u64, InvalidSetting> {
        Ok(self
            .number(variable, "a number from 1 to 86400", 1..=86_400)?
            .unwrap_or(default))
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn parse_bind(text: &str) -> Option<IpAddr> {
    if text == "localhost" {
        Some(LOOPBACK)
    } else {
        text.parse().ok()
    }
}

fn parse_durability(text: &str) -> Option<Durability> {
    match text {
        "sync" => Some(Durability::Sync),
        "async" => Some(Durability::Async),
        _ => None,
    }
}

impl Settings {
    /// Reads and checks the data directory alone: all that a tool needs of the settings.
    ///
    /// # Errors
    /// Where it can't be used.
    pub fn read_data_dir(
        flag: &impl Fn(&str) -> Option<String>,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<PathBuf, InvalidSetting> {
        Source { flag, variable }.data_dir()
    }

    /// Reads and checks all settings. `flag` and `variable` look one up by name.
    ///
    /// # Errors
    /// The first that can't be used.
    pub fn read(
        flag: &impl Fn(&str) -> Option<String>,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidSetting> {
        let source = Source { flag, variable };
        source.check_tenancy()?;
        let port = source.number("PORT", "a port from 0 to 65535", 0..=65_535)?;
        let shards = source.number(
            "FLUX_SHARDS",
            "a number from 1 to 1024",
            1..=u64::from(limits::SHARDS_MAX),
        )?;
        let connections_max = source.number(
            "FLUX_CONNECTIONS_MAX",
            "a number from 1 to 1000000",
            1..=1_000_000,
        )?;
        Ok(Self {
            port: port
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(3000),
            bind: source
                .get("FLUX_BIND", "an IP address", parse_bind)?
                .unwrap_or(LOOPBACK),
            data_dir: source.data_dir()?,
            shards: shards.and_then(|shards| u16::try_from(shards).ok()),
            durability: source
                .get("FLUX_DURABILITY", "`sync` or `async`", parse_durability)?
                .unwrap_or(Durability::Sync),
            flush_interval_ms: source
                .number(
                    "FLUX_FLUSH_INTERVAL_MS",
                    "a number from 1 to 60000",
                    1..=60_000,
                )?
                .unwrap_or(limits::FLUSH_INTERVAL_MS_DEFAULT),
            segment_bytes: source.number(
                "FLUX_SEGMENT_BYTES",
                "a number from 65536 to 1073741824",
                65_536..=1_073_741_824,
            )?,
            body_single_bytes_max: source.size(
                "FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES",
                limits::BODY_SINGLE_BYTES_DEFAULT,
            )?,
            body_batch_bytes_max: source.size(
                "FLUX_BODY_SIZE_LIMIT_BATCH_BYTES",
                limits::BODY_BATCH_BYTES_DEFAULT,
            )?,
            connections_max: connections_max
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(limits::CONNECTIONS_MAX_DEFAULT),
            head_timeout_seconds: source.seconds(
                "FLUX_HEAD_TIMEOUT_SECONDS",
                limits::HEAD_TIMEOUT_SECONDS_DEFAULT,
            )?,
            body_timeout_seconds: source.seconds(
                "FLUX_BODY_TIMEOUT_SECONDS",
                limits::BODY_TIMEOUT_SECONDS_DEFAULT,
            )?,
            upkeep: source.upkeep()?,
            idle_timeout_seconds: source.seconds(
                "FLUX_IDLE_TIMEOUT_SECONDS",
                limits::IDLE_TIMEOUT_SECONDS_DEFAULT,
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        flags: &[(&str, &str)],
        variables: &[(&str, &str)],
    ) -> Result<Settings, InvalidSetting> {
        let find = |pairs: &[(&str, &str)], name: &str| {
            pairs
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&|name| find(flags, name), &|name| find(variables, name))
    }

    #[test]
    fn a_flag_beats_the_environment_and_an_empty_variable_is_unset() {
        let defaults = read(&[], &[("PORT", ""), ("FLUX_DURABILITY", "")]).unwrap();
        assert_eq!(
            (defaults.port, defaults.durability),
            (3000, Durability::Sync)
        );
        assert_eq!(
            (defaults.shards, defaults.bind.to_string().as_str()),
            (None, "127.0.0.1")
        );
        let both = read(
            &[("port", "4000")],
            &[("PORT", "5000"), ("FLUX_SHARDS", "2")],
        )
        .unwrap();
        assert_eq!((both.port, both.shards), (4000, Some(2)));
    }

    #[test]
    fn what_can_not_be_used_is_named() {
        let check = |variable: &str, value: &str| {
            let error = read(&[], &[(variable, value)]).unwrap_err().to_string();
            assert!(error.contains(variable) && !error.contains('\n'), "{error}");
        };
        check("PORT", "65536");
        check("PORT", "+1");
        check("FLUX_BIND", "nowhere");
        check("FLUX_SHARDS", "0");
        check("FLUX_SHARDS", "1025");
        check("FLUX_DURABILITY", "SYNC");
        check("FLUX_AUTH_ENABLED", "yes");
        check("FLUX_AUTH_ENABLED", "true");
        check("FLUX_RATE_LIMIT_ENABLED", "on");
        check("FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES", "0");
        check("FLUX_SEGMENT_BYTES", "1");
        let error = read(&[("shards", "x")], &[]).unwrap_err().to_string();
        assert!(error.contains("--shards"), "{error}");
    }
}
