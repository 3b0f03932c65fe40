//! A server that this program starts, waits for, and stops; it ends no process but its own child.

use crate::http::Client;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// Between looks at whether a server accepts, or has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks before giving up: 20 s, twice what a server may take to stop.
const LOOKS_MAX: u32 = 1_000;

/// A running server; killed when dropped before [`Self::stop`].
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
    /// What it writes to stderr.
    log: PathBuf,
}

impl Server {
    /// Starts `command`, which is told `port`, with its stderr in the new file `log`. Does not wait
    /// for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(command: &mut Command, port: u16, log: PathBuf) -> Result<Self> {
        let stderr =
            File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let child = command
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        Ok(Self { child, port, log })
    }

    /// Returns when the server accepts connections.
    ///
    /// # Errors
    /// When it has ended, or does not accept for twenty seconds.
    pub(crate) fn wait_until_it_accepts(&mut self) -> Result<()> {
        for _ in 0..LOOKS_MAX {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(());
            }
            self.check_it_runs()?;
            std::thread::park_timeout(PAUSE);
        }
        bail!(
            "the server does not accept connections: {}",
            self.last_words()
        )
    }

    /// Returns when an HTTP server no longer answers 503: one that accepts connections may still be
    /// opening its data, and refuses what is published meanwhile.
    ///
    /// # Errors
    /// When it has ended, or is not ready for twenty seconds.
    pub(crate) fn wait_until_it_is_ready(&mut self) -> Result<()> {
        self.wait_until_it_accepts()?;
        for _ in 0..LOOKS_MAX {
            let answered = Client::connect(self.port).and_then(|mut client| client.get("/ready"));
            if answered.is_ok_and(|reply| reply.status != 503) {
                return Ok(());
            }
            self.check_it_runs()?;
            std::thread::park_timeout(PAUSE);
        }
        bail!("the server is not ready: {}", self.last_words())
    }

    /// # Errors
    /// When it has ended, with what it said last.
    pub(crate) fn check_it_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the server ended with {status}: {}", self.last_words()),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written to stderr.
    pub(crate) fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks the server to stop, and kills it when it does not.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // The child has not been waited for, so its id is still its own.
        kill_process(pid.context("the server has no id")?, Signal::TERM)?;
        for _ in 0..LOOKS_MAX {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::park_timeout(PAUSE);
        }
        bail!("the server did not stop when asked")
    }

    fn last_words(&self) -> String {
        let words = self.words();
        words.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both do nothing for a child that has been waited for; a failure leaves nothing to be
        // done.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that was free a moment ago; a new one for every server, as the sockets of a killed
/// `io_uring` process outlive it for a while.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}
