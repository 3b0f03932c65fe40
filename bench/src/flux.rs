//! Flux on a data directory, started by this program on a core of its own.

use crate::clock::Clock;
use crate::http::{Client, Reply};
use crate::programs::beside_this_program;
use crate::server::{Server, free_port};
use crate::{affinity, output};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Between looks at whether the server answers.
const PAUSE: Duration = Duration::from_micros(200);
/// How long a server may take to be ready: a log of a hundred million events is replayed within it.
const READY_NANOS_MAX: u64 = 120 * crate::numbers::SECOND;

/// Which data, and where the server runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct FluxOptions {
    /// Data directory, filled by `flux-loadgen fill`
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Entities that it was filled with
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) entities: u64,
    /// Core of the server, its helper threads included
    #[arg(long, default_value_t = 0)]
    pub(crate) server_cpu: usize,
    /// Core of this program
    #[arg(long, default_value_t = 1)]
    pub(crate) load_cpu: usize,
}

/// A running Flux with one shard, in sync durability.
#[derive(Debug)]
pub(crate) struct Flux {
    pub(crate) server: Server,
    /// From before its process was made.
    clock: Clock,
}

/// What a process takes of the memory, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Its own.
    pub(crate) anonymous: u64,
    /// Of files that it has mapped, which the kernel may take back.
    pub(crate) file: u64,
}

/// What the server said of its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) millis: u64,
    pub(crate) entities: u64,
    /// Events replayed over the checkpoint.
    pub(crate) replayed: u64,
}

impl Flux {
    /// Starts it with some arguments more, and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be started on its core.
    pub(crate) fn start(options: &FluxOptions, arguments: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(beside_this_program("flux")?);
        command
            .args(["--port", &port.to_string(), "--shards", "1"])
            .arg("--data-dir")
            .arg(&options.data)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let log = options.data.with_extension("stderr");
        // Children inherit the binding of the thread that starts them.
        affinity::pin_to(options.server_cpu)?;
        let clock = Clock::start();
        let server = Server::spawn(&mut command, port, log)?;
        affinity::pin_to(options.load_cpu)?;
        Ok(Self { server, clock })
    }

    /// Asks for `path` until it is answered with 200. Returns the answer and when it came,
    /// nanoseconds since the server's process was made.
    ///
    /// # Errors
    /// When the server ends, says something else than that it is busy, or takes two minutes.
    pub(crate) fn first_answer(&mut self, path: &str) -> Result<(Reply, u64)> {
        while self.clock.nanos() < READY_NANOS_MAX {
            if let Ok(mut client) = Client::connect(self.server.port()) {
                let reply = client.get(path)?;
                match reply.status {
                    200 => return Ok((reply, self.clock.nanos())),
                    503 => {}
                    status => bail!("the server answered {path} with {status}"),
                }
            }
            self.server.check_it_runs()?;
            std::thread::park_timeout(PAUSE);
        }
        bail!("the server was not ready in time")
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// As for [`Self::first_answer`].
    pub(crate) fn wait(&mut self) -> Result<()> {
        self.first_answer("/ready").map(drop)
    }

    /// # Errors
    /// When nobody listens.
    pub(crate) fn connect(&self) -> Result<Client> {
        Client::connect(self.server.port())
    }

    /// # Errors
    /// When `/proc` does not tell.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id()))?;
        Memory::parse(&status).context("/proc does not tell the server's memory")
    }

    /// What it said of its start, once it is ready.
    pub(crate) fn ready(&self) -> Option<Ready> {
        self.server.words().lines().find_map(Ready::parse)
    }

    /// Runs `flux-loadgen` against it and returns when that is done.
    ///
    /// # Errors
    /// When it fails.
    pub(crate) fn load(&self, arguments: &[&str]) -> Result<()> {
        let url = format!("http://127.0.0.1:{}", self.server.port());
        let output = Command::new(beside_this_program("flux-loadgen")?)
            .args(arguments)
            .args(["--url", &url])
            .stdin(Stdio::null())
            .output()
            .context("cannot run the load generator")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().last().unwrap_or_default();
            bail!("the load generator failed: {last}");
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            output::note(line);
        }
        Ok(())
    }

    /// # Errors
    /// When it does not end well within twenty seconds.
    pub(crate) fn stop(self) -> Result<()> {
        let status = self.server.stop()?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(())
    }
}

impl Memory {
    fn parse(status: &str) -> Option<Self> {
        let kib = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self {
            anonymous: kib("RssAnon:")? * 1024,
            file: kib("RssFile:")? * 1024,
        })
    }
}

impl Ready {
    /// From `… ready after N ms, E entities, R events replayed`.
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(": ready after ")?;
        let mut numbers = rest.split(' ').filter_map(|word| word.parse().ok());
        Some(Self {
            millis: numbers.next()?,
            entities: numbers.next()?,
            replayed: numbers.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status_of_a_process() {
        let status = "Name:\tflux\nVmRSS:\t  9 kB\nRssAnon:\t  12 kB\nRssFile:\t 34 kB\n";
        let memory = Memory::parse(status).unwrap();
        assert_eq!((memory.anonymous, memory.file), (12 * 1024, 34 * 1024));
        assert!(Memory::parse("RssAnon:\t 12 kB\n").is_none());
    }

    #[test]
    fn the_line_of_a_ready_shard_is_understood() {
        let line = "flux: shard 0: ready after 12 ms, 34 entities, 56 events replayed";
        let ready = Ready {
            millis: 12,
            entities: 34,
            replayed: 56,
        };
        assert_eq!(Ready::parse(line), Some(ready));
        assert_eq!(Ready::parse("flux: shard 0: 12 events replayed"), None);
    }
}
