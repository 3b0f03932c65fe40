//! One run of one server under one load, on cores of their own, and what it came to.
//!
//! Every run has a fresh process on a fresh port and an empty directory, so that no run inherits
//! from the one before it.
//!
//! | file | job |
//! | --- | --- |
//! | `contender` | a server: its name, how it is started, what it speaks |
//! | `figures` | what the load generator measured in a run; median and spread of several |

mod contender;
mod figures;

pub(crate) use contender::{Contender, PEERS};
pub(crate) use figures::{Figures, Spread};

use crate::machine::Machine;
use crate::programs::beside_this_program;
use crate::server::{Server, free_port};
use crate::{affinity, output};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the runs of a comparison have in common.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) server_cpus: Vec<usize>,
    pub(crate) load_cpus: Vec<usize>,
    /// Directories of the servers' data are made in it.
    pub(crate) data_root: PathBuf,
    /// The load generator; without it, the one beside this program.
    pub(crate) loadgen: Option<PathBuf>,
    /// Arguments of the load generator, without --url, --cpu, --server-pid and --json.
    pub(crate) load: Vec<String>,
}

impl Trial {
    /// # Errors
    /// When the server does not start, or the load fails.
    pub(crate) fn run(&self, contender: &Contender) -> Result<Figures> {
        let machine = Machine::watch()?;
        // Dropped after the server, and with it the server's data.
        let directory = tempfile::Builder::new()
            .prefix("flux-compare-")
            .tempdir_in(&self.data_root)
            .with_context(|| format!("cannot make a directory in {}", self.data_root.display()))?;
        let server = self.start(contender, directory.path())?;
        affinity::pin_to_all(&self.load_cpus)?;
        let output = self
            .load(contender, &server)?
            .stdin(Stdio::null())
            .output()
            .context("cannot run the load generator")?;
        let words = server.words();
        server.stop()?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!(
                "the load generator failed: {}",
                errors.lines().last().unwrap_or_default()
            );
        }
        let mut figures = Figures::parse(&output.stdout)?;
        figures.others = machine.others()?;
        if figures.failures > 0.0 {
            output::note(&format!(
                "{} refused {:.0} requests; it said last: {}",
                contender.name,
                figures.failures,
                words.lines().last().unwrap_or("nothing")
            ));
        }
        Ok(figures)
    }

    /// Starts the server with its files in `directory`, and returns when it is ready.
    fn start(&self, contender: &Contender, directory: &Path) -> Result<Server> {
        // Children inherit the binding of the thread that starts them.
        affinity::pin_to_all(&self.server_cpus)?;
        let port = free_port()?;
        let data = directory.join("data");
        if contender.protocol().is_some() {
            // Flux makes its own.
            std::fs::create_dir(&data)?;
        }
        let mut command = contender.command(port, &data)?;
        let mut server = Server::spawn(&mut command, port, directory.join("stderr"))?;
        match contender.protocol() {
            None => server.wait_until_it_is_ready()?,
            Some(_) => server.wait_until_it_accepts()?,
        }
        Ok(server)
    }

    /// The program that loads the server in its own protocol.
    fn load(&self, contender: &Contender, server: &Server) -> Result<Command> {
        let address = format!("127.0.0.1:{}", server.port());
        let cpus: Vec<String> = self.load_cpus.iter().map(usize::to_string).collect();
        let mut command = match contender.protocol() {
            None => {
                let mut command = Command::new(match &self.loadgen {
                    Some(path) => path.clone(),
                    None => PathBuf::from(beside_this_program("flux-loadgen")?),
                });
                command
                    .args(&self.load)
                    .args(["--url", &format!("http://{address}"), "--json"])
                    .args(["--server-pid", &server.id().to_string()]);
                command
            }
            Some(protocol) => {
                let (workload, shape) = self.load.split_first().context("no load")?;
                if workload != "publish" {
                    bail!("{} takes `publish` loads only", contender.name);
                }
                let mut command = Command::new(beside_this_program("flux-bench")?);
                command
                    .args(["peer", protocol, "--address", &address])
                    .args(shape);
                command
            }
        };
        command.args(["--cpu", &cpus.join(",")]);
        Ok(command)
    }
}
