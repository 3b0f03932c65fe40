//! The settings of `flux serve`: from flags and the environment, checked, with their defaults (API
//! contract §11).

use crate::limits;
use crate::model::{ConfigPatch, Durability};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;
use std::path::PathBuf;
use zeroize::Zeroizing;

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
    /// Writes need a token.
    pub auth: bool,
    /// The operator's token.
    pub admin_token: Option<Secret>,
    /// What connectors' credentials are encrypted with: 32 bytes as base64.
    pub encryption_key: Option<Secret>,
    /// In auth mode, connectors may reach loopback and private addresses all the same.
    pub connectors_allow_private: bool,
    /// GitHub's REST API.
    pub github_url: url::Url,
    /// What the environment says of the configuration: what is stored goes before it.
    pub configured: ConfigPatch,
    /// What flags say of it: they go before what is stored.
    pub overriding: ConfigPatch,
    /// Seconds for a request head.
    pub head_timeout_seconds: u64,
    /// Seconds that a body may pause.
    pub body_timeout_seconds: u64,
    /// Seconds between two requests of a connection.
    pub idle_timeout_seconds: u64,
    /// When checkpoints are taken and history is removed.
    pub housekeeping: StorageHousekeeping,
}

/// A secret that the server was started with. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// When a shard writes a checkpoint, and when it lets go of old history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageHousekeeping {
    /// Seconds after which what changed is written as a checkpoint.
    pub checkpoint_seconds: u64,
    /// Bytes of a shard's log after the last checkpoint at which the next is taken.
    pub checkpoint_bytes: u64,
    /// Seconds for which history is kept; `None`: for ever.
    pub retention_seconds: Option<u64>,
    /// Bytes that the log may take, all shards together; `None`: any number.
    pub retention_bytes: Option<u64>,
}

impl StorageHousekeeping {
    /// True if history is ever removed.
    pub fn has_retention(self) -> bool {
        self.retention_seconds.is_some() || self.retention_bytes.is_some()
    }
}

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSetting {
    /// It breaks its rule.
    #[error("invalid {name}: {value:?} is not {rule}")]
    Value {
        /// The variable, or the flag that was given in its place.
        name: Box<str>,
        /// What was given.
        value: Box<str>,
        /// What it must be.
        rule: &'static str,
    },
    /// A secret can't be used. What it is is not shown.
    #[error("invalid {name}: {problem}")]
    Secret {
        /// The variable.
        name: Box<str>,
        /// What is wrong with it.
        problem: Box<str>,
    },
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
        "of a shard's log at which a checkpoint is taken earlier, at twice as many where it grows by more than 20 MiB a second; at least 65536 [default: 268435456]",
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

/// If settings are looked up: the flag if it was given, else the variable if it is not empty.
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
            None => Err(InvalidSetting::Value {
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

    fn data_dir(&self) -> Result<PathBuf, InvalidSetting> {
        let parse = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let found = self.get(DATA_DIR_VARIABLE, "a path", parse)?;
        Ok(found.unwrap_or_else(|| PathBuf::from("./flux-data")))
    }

    /// A number that fits a `u32`.
    fn number32(
        &self,
        variable: &str,
        rule: &'static str,
        max: u32,
    ) -> Result<Option<u32>, InvalidSetting> {
        let number = self.number(variable, rule, 1..=u64::from(max))?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    /// What can also be changed while the server runs.
    fn config(&self) -> Result<ConfigPatch, InvalidSetting> {
        let connections = "a number from 1 to 1000000";
        let size = "a number from 1 to 268435456";
        let positive = "a positive number below 4294967296";
        Ok(ConfigPatch {
            rate_limit_enabled: self.get("FLUX_RATE_LIMIT_ENABLED", BOOLEAN, parse_bool)?,
            rate_limit_per_namespace_per_minute: self.number32(
                "FLUX_RATE_LIMIT_PER_NAMESPACE_PER_MINUTE",
                positive,
                u32::MAX,
            )?,
            body_size_limit_single_bytes: self.number32(
                "FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES",
                size,
                limits::BODY_BYTES_SETTABLE_MAX,
            )?,
            body_size_limit_batch_bytes: self.number32(
                "FLUX_BODY_SIZE_LIMIT_BATCH_BYTES",
                size,
                limits::BODY_BYTES_SETTABLE_MAX,
            )?,
            max_batch_delete: self.number32(
                "FLUX_MAX_BATCH_DELETE",
                "a number from 1 to 100000",
                limits::BATCH_DELETE_SETTABLE_MAX,
            )?,
            max_connections: self.number32(
                "FLUX_CONNECTIONS_MAX",
                connections,
                limits::CONNECTIONS_SETTABLE_MAX,
            )?,
            max_connections_per_address: self.number32(
                "FLUX_CONNECTIONS_PER_ADDRESS_MAX",
                connections,
                limits::CONNECTIONS_SETTABLE_MAX,
            )?,
            max_subscriptions: self.number32("FLUX_SUBSCRIPTIONS_MAX", positive, u32::MAX)?,
            max_subscriptions_per_address: self.number32(
                "FLUX_SUBSCRIPTIONS_PER_ADDRESS_MAX",
                positive,
                u32::MAX,
            )?,
        })
    }

    /// A secret: from its variable, or from the file that `…_FILE` names. Never from the command
    /// line.
    fn secret(&self, variable: &str) -> Result<Option<Secret>, InvalidSetting> {
        let given = |name: &str| (self.variable)(name).filter(|text| !text.is_empty());
        let file_variable = format!("{variable}_FILE");
        let refused = |name: &str, problem: String| InvalidSetting::Secret {
            name: name.into(),
            problem: problem.into(),
        };
        let (name, text) = match (given(variable), given(&file_variable)) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                let problem = format!("{variable} is set as well; set one of them");
                return Err(refused(&file_variable, problem));
            }
            (Some(text), None) => (variable, text),
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) => (&*file_variable, text),
                Err(error) => {
                    return Err(refused(
                        &file_variable,
                        format!("can't read {path}: {error}"),
                    ));
                }
            },
        };
        // A file ends with a line break; a token that a header can't carry could never be sent.
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "a secret is visible ASCII characters without spaces".to_owned();
            return Err(refused(name, problem));
        }
        Ok(Some(Secret(text.into())))
    }

    fn encryption_key(&self) -> Result<Option<Secret>, InvalidSetting> {
        const VARIABLE: &str = "FLUX_ENCRYPTION_KEY";
        let key = self.secret(VARIABLE)?;
        let is_key = |key: &Secret| {
            let bytes = STANDARD.decode(key.reveal()).map(Zeroizing::new);
            bytes.is_ok_and(|bytes| bytes.len() == ENCRYPTION_KEY_BYTES)
        };
        if key.as_ref().is_some_and(|key| !is_key(key)) {
            return Err(InvalidSetting::Secret {
                name: VARIABLE.into(),
                problem: "it must be 32 bytes as base64, such as `openssl rand -base64 32` makes"
                    .into(),
            });
        }
        Ok(key)
    }

    fn housekeeping(&self) -> Result<StorageHousekeeping, InvalidSetting> {
        let checkpoint_bytes = self.number(
            "FLUX_CHECKPOINT_BYTES",
            "a number of at least 65536",
            65_536..=u64::MAX,
        )?;
        let unlimited = |number: Option<u64>| number.filter(|&number| number > 0);
        Ok(StorageHousekeeping {
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

const BOOLEAN: &str = "`true` or `false`";

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

const GITHUB_URL: &str = "https://api.github.com";
/// For AES-256.
const ENCRYPTION_KEY_BYTES: usize = 32;

fn parse_url(text: &str) -> Option<url::Url> {
    let url = url::Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
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
    /// If it can't be used.
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
        let port = source.number("PORT", "a port from 0 to 65535", 0..=65_535)?;
        let shards = source.number(
            "FLUX_SHARDS",
            "a number from 1 to 1024",
            1..=u64::from(limits::SHARDS_MAX),
        )?;
        let none = |_: &str| None;
        let (flags, environment) = (
            Source {
                flag,
                variable: &none,
            },
            Source {
                flag: &none,
                variable,
            },
        );
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
            auth: source
                .get("FLUX_AUTH_ENABLED", BOOLEAN, parse_bool)?
                .unwrap_or(false),
            admin_token: source.secret("FLUX_ADMIN_TOKEN")?,
            encryption_key: source.encryption_key()?,
            connectors_allow_private: source
                .get("FLUX_CONNECTORS_ALLOW_PRIVATE", BOOLEAN, parse_bool)?
                .unwrap_or(false),
            github_url: match source.get("FLUX_GITHUB_URL", "an http or https URL", parse_url)? {
                Some(url) => url,
                None => parse_url(GITHUB_URL).expect("it is a URL"),
            },
            configured: environment.config()?,
            overriding: flags.config()?,
            head_timeout_seconds: source.seconds(
                "FLUX_HEAD_TIMEOUT_SECONDS",
                limits::HEAD_TIMEOUT_SECONDS_DEFAULT,
            )?,
            body_timeout_seconds: source.seconds(
                "FLUX_BODY_TIMEOUT_SECONDS",
                limits::BODY_TIMEOUT_SECONDS_DEFAULT,
            )?,
            housekeeping: source.housekeeping()?,
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
    fn a_secret_comes_from_its_variable_or_a_file_and_is_never_shown() {
        let given = read(&[], &[("FLUX_ADMIN_TOKEN", "s3cret")]).unwrap();
        assert_eq!(given.admin_token.as_ref().unwrap().reveal(), "s3cret");
        assert!(!format!("{given:?}").contains("s3cret"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, b"fr0m-file\r\n").unwrap();
        let path = path.to_str().unwrap();
        let given = read(&[], &[("FLUX_ADMIN_TOKEN_FILE", path)]).unwrap();
        assert_eq!(given.admin_token.unwrap().reveal(), "fr0m-file");
        let both = [
            ("FLUX_ADMIN_TOKEN", "s3cret"),
            ("FLUX_ADMIN_TOKEN_FILE", path),
        ];
        let error = read(&[], &both).unwrap_err().to_string();
        assert!(error.contains("FLUX_ADMIN_TOKEN_FILE") && !error.contains("s3cret"));
        let error = read(&[], &[("FLUX_ADMIN_TOKEN", "s3cret word")]);
        assert!(!error.unwrap_err().to_string().contains("s3cret"));
    }

    #[test]
    fn flags_and_environment_of_the_configuration_are_told_apart() {
        let rate = "FLUX_RATE_LIMIT_PER_NAMESPACE_PER_MINUTE";
        let flags = [("rate-limit-per-namespace-per-minute", "5")];
        let given = read(&flags, &[(rate, "7"), ("FLUX_MAX_BATCH_DELETE", "3")]).unwrap();
        let of = |patch: &ConfigPatch| patch.rate_limit_per_namespace_per_minute;
        assert_eq!(
            (of(&given.overriding), of(&given.configured)),
            (Some(5), Some(7))
        );
        assert_eq!(given.configured.max_batch_delete, Some(3));
        assert_eq!(given.overriding.max_batch_delete, None);
    }

    #[test]
    fn what_can_not_be_used_is_named() {
        let check = |variable: &str, value: &str| {
            let error = read(&[], &[(variable, value)]).unwrap_err().to_string();
            assert!(error.contains(variable) && !error.contains('\n'), "{error}");
        };
        check("FLUX_ADMIN_TOKEN", "two words");
        check("FLUX_ADMIN_TOKEN_FILE", "/nowhere/at/all");
        check("FLUX_SUBSCRIPTIONS_MAX", "0");
        check("PORT", "65536");
        check("PORT", "+1");
        check("FLUX_BIND", "nowhere");
        check("FLUX_SHARDS", "0");
        check("FLUX_SHARDS", "1025");
        check("FLUX_DURABILITY", "SYNC");
        check("FLUX_AUTH_ENABLED", "yes");
        check("FLUX_RATE_LIMIT_ENABLED", "on");
        check("FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES", "0");
        check("FLUX_SEGMENT_BYTES", "1");
        check("FLUX_ENCRYPTION_KEY", "c2hvcnQ=");
        check("FLUX_ENCRYPTION_KEY", "no-base64");
        check("FLUX_CONNECTORS_ALLOW_PRIVATE", "maybe");
        check("FLUX_GITHUB_URL", "api.github.com");
        let error = read(&[("shards", "x")], &[]).unwrap_err().to_string();
        assert!(error.contains("--shards"), "{error}");
    }
}
