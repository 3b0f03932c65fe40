//! A server that takes part in a comparison: its name and how it is started.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A server that takes part.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    /// Program and arguments, with `{port}` and `{data}`.
    words: Vec<String>,
}

/// The peers that Debian has: its servers, as durable as they can be told to be and as they are by
/// default.
pub(crate) const PEERS: &[&str] = &[
    "redis-always=redis-server --port {port} --bind 127.0.0.1 --dir {data} --appendonly yes \
     --appendfsync always",
    "redis-everysec=redis-server --port {port} --bind 127.0.0.1 --dir {data} --appendonly yes \
     --appendfsync everysec",
    "nats=nats-server --addr 127.0.0.1 --port {port} --jetstream --store_dir {data}",
];

impl Contender {
    /// From `name=command line`; words are separated by spaces, there is no quoting.
    ///
    /// # Errors
    /// When either part is missing, or the command has no `{port}`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let Some((name, command)) = text.split_once('=') else {
            bail!("a server is given as NAME=COMMAND, not {text:?}");
        };
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if name.is_empty() || !words.iter().skip(1).any(|word| word.contains("{port}")) {
            bail!("a server needs a name and a command with {{port}}: {text:?}");
        }
        Ok(Self {
            name: name.to_owned(),
            words,
        })
    }

    /// What its server speaks besides HTTP, by the name of the program.
    pub(crate) fn protocol(&self) -> Option<&'static str> {
        match self.words[0].rsplit('/').next() {
            Some("redis-server") => Some("redis"),
            Some("nats-server") => Some("nats"),
            _ => None,
        }
    }

    pub(crate) fn command(&self, port: u16, data: &Path) -> Result<Command> {
        let data = data.to_str().context("the path of the data is not UTF-8")?;
        let port = port.to_string();
        let fill = |word: &String| word.replace("{port}", &port).replace("{data}", data);
        let mut command = Command::new(fill(&self.words[0]));
        command
            .args(self.words[1..].iter().map(fill))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_every_word() {
        let contender = Contender::parse("a=prog --listen=127.0.0.1:{port} {data}/x").unwrap();
        let command = contender.command(4000, Path::new("/d")).unwrap();
        assert_eq!(contender.name, "a");
        assert_eq!(command.get_program(), "prog");
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, ["--listen=127.0.0.1:4000", "/d/x"]);
    }

    #[test]
    fn peers_are_known_by_their_programs() {
        let protocols: Vec<_> = PEERS
            .iter()
            .map(|text| Contender::parse(text).unwrap().protocol())
            .collect();
        assert_eq!(protocols, [Some("redis"), Some("redis"), Some("nats")]);
        let flux = Contender::parse("a=target/release/flux --port {port}").unwrap();
        assert_eq!(flux.protocol(), None);
    }

    #[test]
    fn what_names_no_server_is_refused() {
        for text in ["prog {port}", "=prog {port}", "a=", "a=prog", "a={port}"] {
            assert!(Contender::parse(text).is_err(), "{text}");
        }
    }
}
