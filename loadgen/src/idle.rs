//! Connections that do nothing: how many a server keeps, and how much memory each takes.

use crate::client::Client;
use crate::clock::{self, Clock};
use crate::net::{Stream, Target};
use crate::options::{Greeting, IdleOptions};
use crate::process::resident_bytes;
use crate::report::{self, Report};
use crate::ws;
use anyhow::{Result, bail};
use memchr::memmem;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// Pause before the server's memory is read, because the server may still be accepting.
const SETTLE: Duration = Duration::from_secs(1);

/// Connections between two lines of progress.
const PROGRESS_CONNECTIONS: usize = 1_000;

const WEBSOCKET: &str = "/api/ws?metrics=false";

/// Longest answer to a subscription, bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

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
) -> Result<(Vec<Stream>, Option<anyhow::Error>)> {
    let mut connections = Vec::new();
    for number in 0..count {
        match open(target, greeting, number) {
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

fn open(target: &Target, greeting: Greeting, number: u32) -> Result<Stream> {
    let mut connection = match greeting {
        Greeting::None => target.connect()?,
        Greeting::Websocket => ws::open(target, WEBSOCKET)?,
        Greeting::Property => subscribed(target, number, r#""mode":"property""#)?,
        Greeting::Entity => subscribed(target, number, r#""mode":"entity""#)?,
        Greeting::Event => subscribed(target, number, r#""mode":"event""#)?,
        Greeting::Stream => {
            let mut stream = target.connect()?;
            let request = format!("GET /api/stream?entity_id=idle/{number}");
            stream.write_all(&target.head(&request, None))?;
            await_ack(stream)?
        }
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

/// A WebSocket with a subscription to an entity of its own.
fn subscribed(target: &Target, number: u32, options: &str) -> Result<Stream> {
    let mut stream = ws::open(target, WEBSOCKET)?;
    let mut message = Vec::new();
    let text = format!(r#"{{"type":"subscribe","id":1,"entity_id":"idle/{number}",{options}}}"#);
    ws::write_text(&text, &mut message);
    stream.write_all(&message)?;
    await_ack(stream)
}

/// Reads until the subscription is acknowledged.
fn await_ack(mut stream: Stream) -> Result<Stream> {
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while memmem::find(&answer, br#""type":"ack""#).is_none() {
        let received = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..received]);
        if received == 0 || answer.len() > ANSWER_BYTES_MAX {
            let text = String::from_utf8_lossy(&answer);
            bail!("the subscription was not acknowledged: {text}");
        }
    }
    Ok(stream)
}

fn is_open(connection: &mut Stream) -> bool {
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
