//! The settings of `flux serve`: from flags and the environment, checked, with their defaults (API
//! contract §11).
//!
//! | file | job |
//! | --- | --- |
//! | `table` | every setting: variable, flag, what it is |
//! | `source` | one setting → its value |
//! | `unknown` | variables that look like settings and are none |

mod source;
mod table;
mod unknown;

pub use source::{BrowserSettings, Origins};
pub use table::{DATA_DIR_VARIABLE, SETTINGS, Setting};
pub use unknown::{UnknownVariable, unknown_variables};

use crate::limits;
use crate::model::{ConfigPatch, DedupWindow, Durability, Visibility};
use crate::report::{AccessTarget, LogSettings};
use source::{BOOLEAN, Source, parse_bool, parse_durability};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything a server can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Port; 0 picks a free one.
    pub port: u16,
    /// Addresses to listen on; there is one at least.
    pub bind: Box<[IpAddr]>,
    /// What clients are presented with; `None`: connections are not encrypted.
    pub tls: Option<TlsFiles>,
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
    /// Which web pages may reach the server, and by which names.
    pub browsers: BrowserSettings,
    /// The operator's token.
    pub admin_token: Option<Secret>,
    /// Namespaces that one address may register in ten minutes if the server has no operator.
    pub registrations_per_address_max: u32,
    /// Who may read a new namespace.
    pub new_namespaces: Visibility,
    /// What connectors' credentials are encrypted with: 32 bytes as base64.
    pub encryption_key: Option<Secret>,
    /// In auth mode, connectors may reach loopback and private addresses all the same.
    pub connectors_allow_private: bool,
    /// Addresses that connectors reach although they are link-local or, in auth mode, private.
    pub connectors_allow_addresses: Arc<[IpAddr]>,
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
    /// Seconds that a client may take nothing of what waits for it.
    pub stall_timeout_seconds: u64,
    /// Bytes of memory for clients; `None`: a quarter of what the process may use.
    pub memory_bytes: Option<usize>,
    /// When checkpoints are taken and history is removed.
    pub housekeeping: StorageHousekeeping,
    /// For how long an event that is sent again is known.
    pub dedup: DedupWindow,
    /// Where the access log goes.
    pub access_log: AccessTarget,
}

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its chain, in PEM.
    pub certificate: Arc<Path>,
    /// The key, in PEM.
    pub key: Arc<Path>,
}

impl TlsFiles {
    /// The variable that names the certificate's file.
    pub const CERTIFICATE_VARIABLE: &str = "FLUX_TLS_CERT_FILE";
    /// The variable that names the key's file.
    pub const KEY_VARIABLE: &str = "FLUX_TLS_KEY_FILE";
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
    /// More shards than the machine can carry.
    #[error(
        "invalid {name}: {number} shards are more than {max}, four for each core that this process \
         may use ({cores})"
    )]
    Shards {
        /// The variable, or the flag that was given in its place.
        name: Box<str>,
        /// What was given.
        number: u16,
        /// Cores that the process may use.
        cores: u16,
        /// As many shards as they can carry.
        max: u16,
    },
    /// One of two settings that need each other is missing.
    #[error("missing {missing}: {given} is set, and TLS needs both")]
    Pair {
        /// The variable that is not set.
        missing: &'static str,
        /// What was given: the variable or the flag.
        given: Box<str>,
    },
    /// Without auth, the server would listen to others than its own machine.
    #[error(
        "invalid {name}: without auth, whoever reaches {address} may read and write everything: set \
         FLUX_AUTH_ENABLED=true, or FLUX_OPEN=true if that is what you want"
    )]
    Exposed {
        /// The variable, or the flag that was given in its place.
        name: Box<str>,
        /// What was given.
        address: IpAddr,
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

    /// Reads and checks how lines are said: before all others, so that what is wrong with those is
    /// said as it should be.
    ///
    /// # Errors
    /// If one of these can't be used.
    pub fn read_log(
        flag: &impl Fn(&str) -> Option<String>,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<LogSettings, InvalidSetting> {
        Source { flag, variable }.log()
    }

    /// Reads and checks all settings. `cores`: that the process may use; `flag` and `variable` look
    /// a setting up by name.
    ///
    /// # Errors
    /// The first that can't be used.
    pub fn read(
        cores: u16,
        flag: &impl Fn(&str) -> Option<String>,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidSetting> {
        let source = Source { flag, variable };
        let port = source.number("PORT", "a port from 0 to 65535", 0..=65_535)?;
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
        let auth = source.get("FLUX_AUTH_ENABLED", BOOLEAN, parse_bool)?;
        let (auth, browsers) = (auth.unwrap_or(false), source.browsers()?);
        Ok(Self {
            port: port
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(3000),
            bind: source.bind(auth || browsers.open)?,
            tls: source.tls()?,
            data_dir: source.data_dir()?,
            shards: source.shards(cores)?,
            durability: source
                .get("FLUX_DURABILITY", "`sync` or `async`", parse_durability)?
                .unwrap_or(Durability::Sync),
            flush_interval_ms: source.flush_interval_ms()?,
            segment_bytes: source.number(
                "FLUX_SEGMENT_BYTES",
                "a number from 65536 to 1073741824",
                65_536..=1_073_741_824,
            )?,
            auth,
            browsers,
            admin_token: source.secret("FLUX_ADMIN_TOKEN")?,
            registrations_per_address_max: source.registrations()?,
            new_namespaces: source.new_namespaces()?,
            encryption_key: source.encryption_key()?,
            connectors_allow_private: source
                .get("FLUX_CONNECTORS_ALLOW_PRIVATE", BOOLEAN, parse_bool)?
                .unwrap_or(false),
            connectors_allow_addresses: source.allowed_addresses()?,
            github_url: source.github_url()?,
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
            memory_bytes: source.memory_bytes()?,
            housekeeping: source.housekeeping()?,
            dedup: source.dedup()?,
            access_log: source
                .get("FLUX_ACCESS_LOG", AccessTarget::RULE, AccessTarget::parse)?
                .unwrap_or_default(),
            idle_timeout_seconds: source.seconds(
                "FLUX_IDLE_TIMEOUT_SECONDS",
                limits::IDLE_TIMEOUT_SECONDS_DEFAULT,
            )?,
            stall_timeout_seconds: source.seconds(
                "FLUX_STALL_TIMEOUT_SECONDS",
                limits::STALL_TIMEOUT_SECONDS_DEFAULT,
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
        Settings::read(2, &|name| find(flags, name), &|name| find(variables, name))
    }

    #[test]
    fn a_flag_beats_the_environment_and_an_empty_variable_is_unset() {
        let defaults = read(&[], &[("PORT", ""), ("FLUX_DURABILITY", "")]).unwrap();
        assert_eq!(
            (defaults.port, defaults.durability),
            (3000, Durability::Sync)
        );
        assert_eq!(
            (defaults.shards, &*defaults.bind),
            (
                None,
                &["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()][..]
            )
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
    fn beyond_loopback_the_server_needs_auth_or_to_be_open() {
        let bind = |address: &str, more: &[(&str, &str)]| {
            read(&[], &[&[("FLUX_BIND", address)], more].concat())
        };
        for address in [
            "127.0.0.1",
            "127.8.9.1",
            "::1",
            "::ffff:127.0.0.1",
            "localhost",
        ] {
            assert!(bind(address, &[]).is_ok(), "{address}");
        }
        for address in [
            "0.0.0.0",
            "::",
            "192.0.2.7",
            "2001:db8::1",
            "::ffff:192.0.2.7",
        ] {
            let error = bind(address, &[]).unwrap_err().to_string();
            let names = [
                "FLUX_BIND",
                "FLUX_AUTH_ENABLED=true",
                "FLUX_OPEN=true",
                address,
            ];
            assert!(names.iter().all(|name| error.contains(name)), "{error}");
            assert!(bind(address, &[("FLUX_OPEN", "true")]).is_ok(), "{address}");
            assert!(
                bind(address, &[("FLUX_OPEN", "false")]).is_err(),
                "{address}"
            );
            let auth = [("FLUX_AUTH_ENABLED", "true")];
            assert!(bind(address, &auth).is_ok(), "{address}");
            let error = read(&[("bind", address)], &[]).unwrap_err().to_string();
            assert!(error.contains("--bind"), "{error}");
        }
    }

    #[test]
    fn certificate_and_key_are_set_both_or_not_at_all() {
        assert_eq!(read(&[], &[]).unwrap().tls, None);
        let both = [("FLUX_TLS_CERT_FILE", "a"), ("FLUX_TLS_KEY_FILE", "b")];
        let files = read(&[], &both).unwrap().tls.unwrap();
        assert_eq!(
            (&*files.certificate, &*files.key),
            (Path::new("a"), Path::new("b"))
        );
        for (index, given) in both.into_iter().enumerate() {
            let error = read(&[], &[given]).unwrap_err().to_string();
            let missing = format!("missing {}", both[1 - index].0);
            assert!(
                error.contains(&missing) && error.contains(given.0),
                "{error}"
            );
        }
        let error = read(&[("tls-key-file", "b")], &[]).unwrap_err().to_string();
        assert!(error.contains("--tls-key-file"), "{error}");
    }

    #[test]
    fn there_are_four_shards_for_each_core_at_most() {
        let shards = |number| read(&[], &[("FLUX_SHARDS", number)]);
        assert_eq!(shards("8").unwrap().shards, Some(8));
        let error = shards("9").unwrap_err().to_string();
        assert!(
            error.contains("more than 8") && error.contains("(2)"),
            "{error}"
        );
        let error = read(&[("shards", "64")], &[]).unwrap_err().to_string();
        assert!(error.contains("--shards: 64"), "{error}");
    }

    #[test]
    fn addresses_are_a_list() {
        let variable = (
            "FLUX_CONNECTORS_ALLOW_ADDRESSES",
            "169.254.1.1, ::ffff:10.0.0.1",
        );
        let given = read(&[], &[variable]).unwrap().connectors_allow_addresses;
        let expected: [IpAddr; 2] = ["169.254.1.1", "10.0.0.1"].map(|it| it.parse().unwrap());
        assert_eq!(*given, expected);
        assert!(
            read(&[], &[])
                .unwrap()
                .connectors_allow_addresses
                .is_empty()
        );
    }

    #[test]
    fn origins_and_hosts_are_lists() {
        let origins = |text| {
            read(&[], &[("FLUX_ALLOWED_ORIGINS", text)])
                .unwrap()
                .browsers
                .allowed_origins
        };
        assert_eq!(origins(""), None);
        assert_eq!(origins("*"), Some(Origins::Any));
        let listed: Arc<[Box<str>]> = ["https://a.example", "http://b:1"].map(Box::from).into();
        assert_eq!(
            origins("https://a.example, http://b:1"),
            Some(Origins::Listed(listed))
        );
        let hosts = read(&[], &[("FLUX_ALLOWED_HOSTS", "flux.lan,box:3000")]).unwrap();
        let listed: Arc<[Box<str>]> = ["flux.lan", "box:3000"].map(Box::from).into();
        assert_eq!(hosts.browsers.allowed_hosts, listed);
    }

    #[test]
    fn what_can_not_be_used_is_named() {
        let check = |variable: &str, value: &str| {
            let error = read(&[], &[(variable, value)]).unwrap_err().to_string();
            assert!(error.contains(variable) && !error.contains('\n'), "{error}");
        };
        check("FLUX_OPEN", "yes");
        check("FLUX_ALLOWED_ORIGINS", "app.example");
        check("FLUX_ALLOWED_ORIGINS", "https://app.example/");
        check("FLUX_ALLOWED_ORIGINS", "https://app.example,*");
        check("FLUX_ALLOWED_HOSTS", "http://flux.lan");
        check("FLUX_ALLOWED_HOSTS", "flux.lan,");
        check("FLUX_ADMIN_TOKEN", "two words");
        check("FLUX_ADMIN_TOKEN_FILE", "/nowhere/at/all");
        check("FLUX_SUBSCRIPTIONS_MAX", "0");
        check("PORT", "65536");
        check("PORT", "+1");
        check("FLUX_BIND", "nowhere");
        check("FLUX_SHARDS", "0");
        check("FLUX_SHARDS", "1025");
        check("FLUX_SHARDS", "9");
        check("FLUX_REGISTRATIONS_PER_ADDRESS_MAX", "0");
        check("FLUX_DURABILITY", "SYNC");
        check("FLUX_AUTH_ENABLED", "yes");
        check("FLUX_RATE_LIMIT_ENABLED", "on");
        check("FLUX_BODY_SIZE_LIMIT_SINGLE_BYTES", "0");
        check("FLUX_SEGMENT_BYTES", "1");
        check("FLUX_ENCRYPTION_KEY", "c2hvcnQ=");
        check("FLUX_ENCRYPTION_KEY", "no-base64");
        check("FLUX_CONNECTORS_ALLOW_PRIVATE", "maybe");
        check("FLUX_CONNECTORS_ALLOW_ADDRESSES", "metadata.internal");
        check("FLUX_CONNECTORS_ALLOW_ADDRESSES", "169.254.1.1,");
        check("FLUX_GITHUB_URL", "api.github.com");
        check("FLUX_MEMORY_BYTES", "16777215");
        check("FLUX_MEMORY_BYTES", "64M");
        let error = read(&[("shards", "x")], &[]).unwrap_err().to_string();
        assert!(error.contains("--shards"), "{error}");
    }
}
