//! Connections that do nothing: how many a server keeps, and how much memory each takes.

use crate::client::Client;
use crate::clock::{self, Clock};
use crate::net::Target;
use crate::options::{Greeting, IdleOptions};
use crate::process::resident_bytes;
use crate::report::{self, Report};
use crate::ws;
use anyhow::{Result, bail};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

/// Pause before the server's memory is read, because the server may still be accepting.
const SETTLE: Duration = Duration::from_secs(1);

/// Connections between two lines of progress.
const PROGRESS_CONNECTIONS: usize = 1_000;

/// # Errors
/// When the first connection cannot be opened, or the server's memory cannot be read.
pub(crate) fn run(options: &IdleOptions) -> Result<()> {
    let clock = Clock::start();
    let target = Target::new(&options.url)?;
    let greeting = if options.websocket {
        Greeting::Websocket
    } else {
        options.greeting
    };
    let memory_before = options.pid.map(resident_bytes).transpose()?;
    let (mut connections, failure) = open_all(&target, greeting, options.count)?;
    let opened = connections.len() as u64;
    let open_time = clock.now();
    clock::wait(clock, SETTLE.min(options.duration));
    let memory_after = options.pid.map(resident_bytes).transpose()?;
    clock::wait(
        clock,
        options
            .duration
            .saturating_sub(clock.now().since(open_time)),
    );
    connections.retain_mut(is_open);

    let mut report = Report::new("idle");
    report.text("greeting", &format!("{greeting:?}").to_lowercase());
    report.count("asked", u64::from(options.count));
    report.count("opened", opened);
    report.count("still_open", connections.len() as u64);
    if let (Some(before), Some(after)) = (memory_before, memory_after) {
        report.count("server_bytes_before", before);
        report.count("server_bytes_after", after);
        report.count(
            "server_bytes_per_connection",
            after.saturating_sub(before) / opened.max(1),
        );
    }
    if let Some(failure) = failure {
        report.text("first_failure", &format!("{failure:#}"));
    }
    report.print(options.json);
    Ok(())
}

/// Opens connections until one fails; the second value is that failure.
fn open_all(
    target: &Target,
    greeting: Greeting,
    count: u32,
) -> Result<(Vec<TcpStream>, Option<anyhow::Error>)> {
    let mut connections = Vec::new();
    for _ in 0..count {
        match open(target, greeting) {
            Ok(connection) => connections.push(connection),
            Err(failure) if connections.is_empty() => return Err(failure),
            Err(failure) => return Ok((connections, Some(failure))),
        }
        if connections.len().is_multiple_of(PROGRESS_CONNECTIONS) {
            report::note(&format!("{} connections", connections.len()));
        }
    }
    Ok((connections, None))
}

fn open(target: &Target, greeting: Greeting) -> Result<TcpStream> {
    let connection = match greeting {
        Greeting::None => target.connect()?,
        Greeting::Websocket => ws::open(target, "/api/ws?metrics=false")?,
        Greeting::Request => {
            let mut client = Client::connect(target)?;
            client.send(&target.head("GET /health", None))?;
            let reply = client.receive()?;
            if reply.status != 200 {
                bail!("the server answered /health with {}", reply.status);
            }
            client.into_stream()
        }
    };
    connection.set_nonblocking(true)?;
    Ok(connection)
}

fn is_open(connection: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
