//! `flux health`: whether the server of this machine can be asked, for containers, which have no
//! curl, and for whoever wants an exit code.
//!
//! It takes the settings of the server, asks `GET /ready` where that listens, and believes any
//! certificate: it asks for the state of its own machine, and sends no secret.

use super::{EXIT_FAILURE, read_settings, usage};
use crate::limits::HEALTH_SECONDS_MAX;
use crate::report::{self, LogEvent};
use crate::settings::Settings;
use clap::{Arg, ArgMatches, Command};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

/// `settings`: those of a server.
pub(super) fn command(settings: impl Iterator<Item = Arg>) -> Command {
    let about = "Say whether the server with these settings is ready (exit code 0) or not (1)";
    Command::new("health").about(about).args(settings)
}

/// 0 if the server is ready, 1 if not or if there is none.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let settings = match read_settings(matches) {
        Ok(settings) => settings,
        Err(error) => return usage(&error),
    };
    let url = url(&settings);
    match ask(&url) {
        Ok(()) => match writeln!(io::stdout(), "{url} is ready") {
            // The exit code says it too.
            Ok(()) | Err(_) => ExitCode::SUCCESS,
        },
        Err(error) => {
            report::say(
                LogEvent::CommandFailed,
                &format!("{url} is not ready: {error}"),
            );
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// What is asked: on the loopback address if the server listens on all.
fn url(settings: &Settings) -> String {
    let ip = match settings.bind.first().map(IpAddr::to_canonical) {
        Some(IpAddr::V4(ip)) if !ip.is_unspecified() => IpAddr::V4(ip),
        Some(IpAddr::V6(ip)) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Some(IpAddr::V6(ip)) => IpAddr::V6(ip),
        Some(IpAddr::V4(_)) | None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    format!("{scheme}://{}/ready", SocketAddr::new(ip, settings.port))
}

fn ask(url: &str) -> Result<(), HealthError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HealthError::Runtime)?;
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .danger_accept_invalid_certs(true)
            .no_proxy()
            .timeout(Duration::from_secs(HEALTH_SECONDS_MAX))
            .build()?;
        let status = client.get(url).send().await?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(HealthError::Status(status.as_u16()))
        }
    })
}

/// Why the server can't be asked.
#[derive(Debug, thiserror::Error)]
enum HealthError {
    /// Nothing can be asked from here.
    #[error("can't start the client: {0}")]
    Runtime(#[source] io::Error),
    /// Nobody answers.
    #[error("{}", innermost(.0))]
    Unreachable(#[from] reqwest::Error),
    /// It answers something else: 503 while it replays its logs or stops.
    #[error("it answers {0}")]
    Status(u16),
}

/// The cause, without the layers of the client above it.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
