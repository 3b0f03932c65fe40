//! A server that this program starts, waits for, and stops; it ends no process but its own child.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Between looks at whether a server accepts, or has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks before giving up: 20 s, twice what a server may take to stop.
const LOOKS_MAX: u32 = 1_000;

/// A server that takes part.
#[derive(Debug)]
pub(super) struct Contender {
    pub(super) name: String,
    /// Program and arguments, with `{port}` and `{data}`.
    words: Vec<String>,
}

impl Contender {
    /// From `name=command line`; words are separated by spaces, there is no quoting.
    ///
    /// # Errors
    /// When either part is missing, or the command has no `{port}`.
    pub(super) fn parse(text: &str) -> Result<Self> {
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

    fn command(&self, port: u16, data: &Path) -> Result<Command> {
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

/// A running server; killed when dropped before [`Self::stop`].
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    port: u16,
    /// Its data and what it wrote to stderr; removed with this value.
    directory: TempDir,
}

impl Server {
    /// Returns when the server accepts connections.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or does not accept for twenty seconds.
    pub(super) fn start(contender: &Contender, data_root: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("flux-compare-")
            .tempdir_in(data_root)
            .with_context(|| format!("cannot make a directory in {}", data_root.display()))?;
        let port = free_port()?;
        let log = File::create(directory.path().join("stderr"))?;
        let mut command = contender.command(port, &directory.path().join("data"))?;
        let child = command
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", contender.words[0]))?;
        let mut server = Self {
            child,
            port,
            directory,
        };
        for _ in 0..LOOKS_MAX {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended with {status}: {}", server.last_words());
            }
            std::thread::park_timeout(PAUSE);
        }
        bail!(
            "the server does not accept connections: {}",
            server.last_words()
        )
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Asks the server to stop, and kills it when it does not.
    pub(super) fn stop(mut self) -> Result<ExitStatus> {
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
        let log = fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both do nothing for a child that has been waited for; a failure leaves nothing to be done.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port that was free a moment ago; a new one for every server, as the sockets of a killed `io_uring` process
/// outlive it for a while.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
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
    fn what_names_no_server_is_refused() {
        for text in ["prog {port}", "=prog {port}", "a=", "a=prog", "a={port}"] {
            assert!(Contender::parse(text).is_err(), "{text}");
        }
    }
}
