//! One setting → its value: looked up, parsed, and held to its rule.

use super::table::{DATA_DIR_VARIABLE, SETTINGS};
use super::{InvalidSetting, Secret, StorageHousekeeping, TlsFiles};
use crate::limits;
use crate::model::{ConfigPatch, DedupWindow, Durability, Visibility};
use crate::report::{LogFormat, LogLevel, LogSettings};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Where settings are looked up: the flag if it was given, else the variable if it is not empty.
pub(super) struct Source<'s, F, V> {
    pub(super) flag: &'s F,
    pub(super) variable: &'s V,
}

impl<F: Fn(&str) -> Option<String>, V: Fn(&str) -> Option<String>> Source<'_, F, V> {
    /// What a setting was given by, the flag or the variable, and its text. `None` if it is unset.
    fn look_up(&self, variable: &str) -> Option<(String, String)> {
        let setting = SETTINGS.iter().find(|setting| setting.variable == variable);
        let flag = setting.map_or("", |setting| setting.flag);
        if let Some(value) = (self.flag)(flag) {
            return Some((format!("--{flag}"), value));
        }
        let value = (self.variable)(variable).filter(|value| !value.is_empty())?;
        Some((variable.to_owned(), value))
    }

    pub(super) fn get<T>(
        &self,
        variable: &str,
        rule: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, InvalidSetting> {
        let Some((name, value)) = self.look_up(variable) else {
            return Ok(None);
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

    /// The number of shards. More than a few for each core only make each of them slower, and cost
    /// threads, rings and files.
    pub(super) fn shards(&self, cores: u16) -> Result<Option<u16>, InvalidSetting> {
        const VARIABLE: &str = "FLUX_SHARDS";
        let rule = "a number from 1 to 1024";
        let number = self.number(VARIABLE, rule, 1..=u64::from(limits::SHARDS_MAX))?;
        let number = number.and_then(|number| u16::try_from(number).ok());
        let max = cores.saturating_mul(limits::SHARDS_PER_CORE_MAX);
        match (number, self.look_up(VARIABLE)) {
            (Some(number), Some((name, _))) if number > max => Err(InvalidSetting::Shards {
                name: name.into(),
                number,
                cores,
                max,
            }),
            _ => Ok(number),
        }
    }

    pub(super) fn number(
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

    /// How lines are said.
    pub(super) fn log(&self) -> Result<LogSettings, InvalidSetting> {
        let usual = LogSettings::default();
        let level = self.get("FLUX_LOG", LogLevel::RULE, LogLevel::parse)?;
        let format = self.get("FLUX_LOG_FORMAT", LogFormat::RULE, LogFormat::parse)?;
        Ok(LogSettings {
            level: level.unwrap_or(usual.level),
            format: format.unwrap_or(usual.format),
        })
    }

    pub(super) fn data_dir(&self) -> Result<PathBuf, InvalidSetting> {
        let parse = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let found = self.get(DATA_DIR_VARIABLE, "a path", parse)?;
        Ok(found.unwrap_or_else(|| PathBuf::from("./flux-data")))
    }

    /// The addresses to listen on. `may_be_reached`: by others than the machine's own programs.
    pub(super) fn bind(&self, may_be_reached: bool) -> Result<Box<[IpAddr]>, InvalidSetting> {
        const VARIABLE: &str = "FLUX_BIND";
        let found = self.get(VARIABLE, "an IP address", parse_bind)?;
        let addresses = found.unwrap_or_else(loopback);
        let exposed = addresses
            .iter()
            .find(|address| !address.to_canonical().is_loopback());
        let Some(&address) = exposed.filter(|_| !may_be_reached) else {
            return Ok(addresses);
        };
        let name = self
            .look_up(VARIABLE)
            .map_or_else(|| VARIABLE.into(), |(name, _)| name.into());
        Err(InvalidSetting::Exposed { name, address })
    }

    pub(super) fn tls(&self) -> Result<Option<TlsFiles>, InvalidSetting> {
        let pair = (
            self.look_up(TlsFiles::CERTIFICATE_VARIABLE),
            self.look_up(TlsFiles::KEY_VARIABLE),
        );
        let missing = |missing, given: String| {
            let given = given.into();
            Err(InvalidSetting::Pair { missing, given })
        };
        match pair {
            (None, None) => Ok(None),
            (Some((name, _)), None) => missing(TlsFiles::KEY_VARIABLE, name),
            (None, Some((name, _))) => missing(TlsFiles::CERTIFICATE_VARIABLE, name),
            (Some((_, certificate)), Some((_, key))) => Ok(Some(TlsFiles {
                certificate: PathBuf::from(certificate).into(),
                key: PathBuf::from(key).into(),
            })),
        }
    }

    /// A number that fits a `u32`.
    pub(super) fn number32(
        &self,
        variable: &str,
        rule: &'static str,
        max: u32,
    ) -> Result<Option<u32>, InvalidSetting> {
        let number = self.number(variable, rule, 1..=u64::from(max))?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    /// Namespaces that one address may register.
    pub(super) fn registrations(&self) -> Result<u32, InvalidSetting> {
        let number = self.number32(
            "FLUX_REGISTRATIONS_PER_ADDRESS_MAX",
            "a positive number below 4294967296",
            u32::MAX,
        )?;
        Ok(number.unwrap_or(limits::REGISTRATIONS_PER_ADDRESS_MAX_DEFAULT))
    }

    /// Who may read a new namespace.
    pub(super) fn new_namespaces(&self) -> Result<Visibility, InvalidSetting> {
        let private = self.get("FLUX_NAMESPACES_PRIVATE", BOOLEAN, parse_bool)?;
        Ok(match private {
            Some(true) => Visibility::Private,
            Some(false) | None => Visibility::Public,
        })
    }

    /// What can also be changed while the server runs.
    pub(super) fn config(&self) -> Result<ConfigPatch, InvalidSetting> {
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
    pub(super) fn secret(&self, variable: &str) -> Result<Option<Secret>, InvalidSetting> {
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
            (None, Some(path)) => match read_secret(&path) {
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

    pub(super) fn encryption_key(&self) -> Result<Option<Secret>, InvalidSetting> {
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

    pub(super) fn flush_interval_ms(&self) -> Result<u64, InvalidSetting> {
        let rule = "a number from 1 to 60000";
        let number = self.number("FLUX_FLUSH_INTERVAL_MS", rule, 1..=60_000)?;
        Ok(number.unwrap_or(limits::FLUSH_INTERVAL_MS_DEFAULT))
    }

    pub(super) fn dedup(&self) -> Result<DedupWindow, InvalidSetting> {
        let seconds = self.number(
            "FLUX_DEDUP_SECONDS",
            "a number from 0 to 86400",
            0..=limits::DEDUP_SECONDS_SETTABLE_MAX,
        )?;
        let events = self.number(
            "FLUX_DEDUP_EVENTS",
            "a number from 0 to 100000000",
            0..=limits::DEDUP_EVENTS_SETTABLE_MAX,
        )?;
        Ok(DedupWindow {
            seconds: seconds.unwrap_or(limits::DEDUP_SECONDS_DEFAULT),
            events: events.unwrap_or(limits::DEDUP_EVENTS_DEFAULT),
        })
    }

    pub(super) fn housekeeping(&self) -> Result<StorageHousekeeping, InvalidSetting> {
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

    pub(super) fn github_url(&self) -> Result<url::Url, InvalidSetting> {
        let found = self.get("FLUX_GITHUB_URL", "an http or https URL", parse_url)?;
        Ok(found.unwrap_or_else(|| parse_url(GITHUB_URL).expect("it is a URL")))
    }

    pub(super) fn allowed_addresses(&self) -> Result<Arc<[IpAddr]>, InvalidSetting> {
        let variable = "FLUX_CONNECTORS_ALLOW_ADDRESSES";
        let found = self.get(
            variable,
            "IP addresses separated by commas",
            parse_addresses,
        )?;
        Ok(found.unwrap_or_default())
    }

    pub(super) fn browsers(&self) -> Result<BrowserSettings, InvalidSetting> {
        let open = self.get("FLUX_OPEN", BOOLEAN, parse_bool)?;
        let origins = "`*`, or origins such as https://app.example:8443, separated by commas";
        let hosts = "names, each with a port or without, separated by commas";
        let allowed_hosts = self.get("FLUX_ALLOWED_HOSTS", hosts, parse_hosts)?;
        Ok(BrowserSettings {
            open: open.unwrap_or(false),
            allowed_origins: self.get("FLUX_ALLOWED_ORIGINS", origins, parse_origins)?,
            allowed_hosts: allowed_hosts.unwrap_or_default(),
            dashboard: self
                .get("FLUX_DASHBOARD", BOOLEAN, parse_bool)?
                .unwrap_or(true),
        })
    }

    pub(super) fn memory_bytes(&self) -> Result<Option<usize>, InvalidSetting> {
        let least = limits::MEMORY_BYTES_MIN as u64;
        let rule = "a number of bytes of at least 16777216";
        let bytes = self.number("FLUX_MEMORY_BYTES", rule, least..=u64::MAX)?;
        Ok(bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    pub(super) fn seconds(&self, variable: &str, default: u64) -> Result<u64, InvalidSetting> {
        Ok(self
            .number(variable, "a number from 1 to 86400", 1..=86_400)?
            .unwrap_or(default))
    }
}

pub(super) const BOOLEAN: &str = "`true` or `false`";

pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

const GITHUB_URL: &str = "https://api.github.com";
/// For AES-256.
pub(super) const ENCRYPTION_KEY_BYTES: usize = 32;

fn parse_url(text: &str) -> Option<url::Url> {
    let url = url::Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// What `localhost` may stand for.
fn loopback() -> Box<[IpAddr]> {
    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into()
}

fn parse_bind(text: &str) -> Option<Box<[IpAddr]>> {
    if text == "localhost" {
        Some(loopback())
    } else {
        Some([text.parse().ok()?].into())
    }
}

/// IPv4-mapped addresses are as what they stand for.
fn parse_addresses(text: &str) -> Option<Arc<[IpAddr]>> {
    let parse = |text: &str| Some(text.trim().parse::<IpAddr>().ok()?.to_canonical());
    text.split(',').map(parse).collect()
}

/// Which web pages may reach the server, and by which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserSettings {
    /// Without auth, anybody may reach the server by any name.
    pub open: bool,
    /// The pages, if not the usual ones.
    pub allowed_origins: Option<Origins>,
    /// Without auth, names by which the server may be asked besides addresses and `localhost`.
    pub allowed_hosts: Arc<[Box<str>]>,
    /// Browsers are shown the dashboard.
    pub dashboard: bool,
}

/// The web pages that may reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All.
    Any,
    /// Those of these origins.
    Listed(Arc<[Box<str>]>),
}

fn parse_origins(text: &str) -> Option<Origins> {
    if text.trim() == "*" {
        return Some(Origins::Any);
    }
    let parse = |text: &str| {
        let text = text.trim();
        let (scheme, authority) = text.split_once("://")?;
        (!scheme.is_empty() && is_authority(authority)).then(|| text.into())
    };
    let listed: Option<Arc<[Box<str>]>> = text.split(',').map(parse).collect();
    listed.map(Origins::Listed)
}

fn parse_hosts(text: &str) -> Option<Arc<[Box<str>]>> {
    let parse = |text: &str| {
        let text = text.trim();
        is_authority(text).then(|| text.into())
    };
    text.split(',').map(parse).collect()
}

/// A name or address, and perhaps a port.
fn is_authority(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b"/?#@*\\".contains(&byte);
    let ports = text.matches(':').count();
    !text.is_empty() && text.bytes().all(is_part) && (ports <= 1 || text.starts_with('['))
}

pub(super) fn parse_durability(text: &str) -> Option<Durability> {
    match text {
        "sync" => Some(Durability::Sync),
        "async" => Some(Durability::Async),
        _ => None,
    }
}

/// The text of a file that holds a secret, or of a pipe. One without end is cut off.
fn read_secret(path: &str) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(limits::SECRET_FILE_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}
