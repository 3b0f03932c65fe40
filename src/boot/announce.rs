//! What the server says of itself when it starts: where it listens, who may do what, and what is
//! wrong with the operator's token.

use crate::limits::ADMIN_TOKEN_CHARS_MIN;
use crate::model::Visibility;
use crate::report::{self, LogEvent};
use crate::settings::Settings;
use std::net::SocketAddr;

/// Says what the server is, where it listens, and who may do what. Returns where it
/// listens, in words.
pub(super) fn start(settings: &Settings, (addresses, shards): (&[SocketAddr], u16)) -> String {
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let mut urls = addresses
        .iter()
        .map(|address| format!("{scheme}://{address}"));
    let first = urls.next().unwrap_or_default();
    let others = urls.fold(String::new(), |others, url| others + "; also on " + &url);
    let listening = format!(
        "listening on {first}, {shards} shard{}",
        if shards == 1 { "" } else { "s" },
    );
    report::say(
        LogEvent::Listening,
        &format!(
            "version {} {listening}, data in {}{others}; {}",
            env!("CARGO_PKG_VERSION"),
            settings.data_dir.display(),
            access(settings),
        ),
    );
    operator(settings);
    listening
}

/// Who may write, who may read, and whether connections are encrypted.
fn access(settings: &Settings) -> String {
    let mut addresses = settings.bind.iter();
    let anyone = if addresses.all(|address| address.to_canonical().is_loopback()) {
        "anyone on this machine"
    } else {
        "anyone who reaches it"
    };
    let encrypted = if settings.tls.is_some() {
        "connections are encrypted"
    } else {
        "connections are not encrypted"
    };
    if settings.auth {
        let new = match settings.new_namespaces {
            Visibility::Public => "",
            Visibility::Private => " (new namespaces are)",
        };
        format!(
            "to write takes a token of the namespace, {anyone} may read what is not private{new}; {encrypted}"
        )
    } else {
        format!("{anyone} may write and read everything; {encrypted}")
    }
}

/// Says what nobody can do without an operator's token, or what is wrong with it.
fn operator(settings: &Settings) {
    match &settings.admin_token {
        Some(token) if token.reveal().chars().count() < ADMIN_TOKEN_CHARS_MIN => {
            report::say(
                LogEvent::AdminTokenWeak,
                &format!(
                    "FLUX_ADMIN_TOKEN has fewer than {ADMIN_TOKEN_CHARS_MIN} characters and can be guessed: \
                 `openssl rand -base64 32` makes a good one"
                ),
            );
        }
        Some(_) => {}
        None if settings.auth => report::say(
            LogEvent::RegistrationOpen,
            "FLUX_ADMIN_TOKEN is not set: anyone may register a namespace, and nobody may change the configuration",
        ),
        None => {
            report::say(
                LogEvent::AdminTokenMissing,
                "FLUX_ADMIN_TOKEN is not set: changes of the configuration are refused",
            );
        }
    }
}
