//! `flux-loadgen`: load against a running Flux server, and what it measured.
//!
//! ```text
//! options   what to do, read from the command line
//! workload  the requests of each connection and what their answers must say
//! drive     threads that keep requests in flight, closed loop or open loop, and time them
//! watch     WebSocket subscribers, and one publisher whose events they time and count
//! catch_up  subscribers that begin with a snapshot, or with what they missed
//! idle      connections that do nothing
//! handshakes  connections that are opened and closed
//! verify    reads back what was acknowledged
//! process   memory and processor time of the server, from /proc
//! report    the only module that prints
//! net, http, ws   sockets and the few bytes of protocol that a client needs
//! ```
//!
//! Two disciplines, and what their figures mean. **Closed loop**: each connection sends its next
//! request when it has the answer to an earlier one; the throughput is the most that this many
//! clients can get, and the latency is that of a server as busy as they can make it. **Open loop**
//! (`--rate`): requests are due at fixed times whatever the server does, and latency counts from
//! when a request was due, not from when it could be sent; a server that stalls therefore shows the
//! wait of everyone who would have come meanwhile (no coordinated omission).
//!
//! A figure is about the server only while the generator has time to spare: the report says how
//! busy each of its threads was, and warns above 90 %.

mod affinity;
mod catch_up;
mod client;
mod clock;
mod drive;
mod entities;
mod handshakes;
mod http;
mod idle;
mod keys;
mod net;
mod numbers;
mod options;
mod process;
mod random;
mod report;
mod setup;
mod stats;
mod verify;
mod watch;
mod workload;
mod ws;

use clap::Parser;
use options::{Command, CommandLine};
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    if let Err(error) = net::raise_descriptor_limit() {
        report::note(&format!("flux-loadgen: {error:#}"));
    }
    let result = match &command {
        Command::Publish(options) => workload::publish::run(options),
        Command::Batch(options) => workload::batch::run(options),
        Command::Fill(options) => workload::fill::run(options),
        Command::Get(options) => workload::get::run(options),
        Command::List(options) => workload::list::run(options),
        Command::Mix(options) => workload::mix::run(options),
        Command::Ramp(options) => workload::ramp::run(options),
        Command::Watch(options) => watch::run(options),
        Command::CatchUp(options) => catch_up::run(options),
        Command::Idle(options) => idle::run(options),
        Command::Handshakes(options) => handshakes::run(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::note(&format!("flux-loadgen: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
