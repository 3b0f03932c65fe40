//! The closed loop: each connection sends its requests together, waits for all acknowledgements,
//! and begins anew. Latency is that of the last acknowledgement, which at a depth of one is that of
//! the request.

use super::{Dialect, Shape};
use crate::clock::Clock;
use crate::numbers::{SECOND, approximate};
use crate::random::Random;
use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Readiness reports taken in one turn.
const EVENTS_PER_TURN: usize = 1024;
/// Bytes of one read.
const READ_BYTES: usize = 256 * 1024;

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// What came in and is no whole acknowledgement yet.
    input: Vec<u8>,
    /// What the socket did not take yet.
    output: Vec<u8>,
    waiting: usize,
    sent_nanos: u64,
}

/// Runs warm-up and measurement. The figures are those of `flux-loadgen --json`, by the same names.
///
/// # Errors
/// When a connection fails or the server refuses a request.
pub(super) fn run(dialect: &impl Dialect, address: SocketAddr, shape: &Shape) -> Result<Value> {
    let mut load = Load::open(dialect, address, shape)?;
    load.run_until(shape.warmup * SECOND)?;
    load.latencies.reset();
    load.acknowledged = 0;
    let cpu_before = cpu_nanos();
    let started = load.clock.nanos();
    load.run_until(started + shape.duration * SECOND)?;
    let elapsed = load.clock.nanos() - started;
    let busy = approximate(cpu_nanos() - cpu_before) / approximate(elapsed);
    let micros = |quantile| approximate(load.latencies.value_at_quantile(quantile)) / 1000.0;
    Ok(json!({
        "workload": "publish",
        "requests_per_second": approximate(load.acknowledged) * 1e9 / approximate(elapsed),
        "p50_us": micros(0.5),
        "p99_us": micros(0.99),
        "p99.9_us": micros(0.999),
        "failures": 0,
        "generator_busiest_thread": busy,
    }))
}

struct Load<'d, D> {
    dialect: &'d D,
    shape: Shape,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    random: Random,
    clock: Clock,
    value: u64,
    latencies: Histogram<u64>,
    acknowledged: u64,
    buffer: Vec<u8>,
}

impl<'d, D: Dialect> Load<'d, D> {
    fn open(dialect: &'d D, address: SocketAddr, shape: &Shape) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..shape.connections {
            let mut stream = TcpStream::connect(address).context("cannot connect")?;
            stream.set_nodelay(true)?;
            dialect.greet(&mut stream, index)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(index as u64);
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, &stream, data, flags)?;
            connections.push(Connection {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                waiting: 0,
                sent_nanos: 0,
            });
        }
        let mut load = Self {
            dialect,
            shape: shape.clone(),
            epoll,
            connections,
            random: Random::new(1),
            clock: Clock::start(),
            value: 0,
            latencies: Histogram::new_with_bounds(1, 60 * SECOND, 3)?,
            acknowledged: 0,
            buffer: vec![0; READ_BYTES],
        };
        for index in 0..load.connections.len() {
            load.send_next(index)?;
        }
        Ok(load)
    }

    fn run_until(&mut self, nanos: u64) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        let second = Duration::from_secs(1).try_into()?;
        while self.clock.nanos() < nanos {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&second)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for readiness"),
            }
            for event in events.drain(..) {
                let index = usize::try_from(event.data.u64())?;
                self.connections[index].flush()?;
                self.receive(index)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        loop {
            let connection = &mut self.connections[index];
            let count =
                match net::recv(&connection.stream, &mut self.buffer[..], RecvFlags::empty()) {
                    Ok((0, _)) => bail!("the server closed a connection"),
                    Ok((count, _)) => count,
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(Errno::INTR) => continue,
                    Err(error) => return Err(error).context("cannot receive"),
                };
            connection.input.extend_from_slice(&self.buffer[..count]);
            let (consumed, acknowledged) = self.dialect.acknowledged(&connection.input)?;
            connection.input.drain(..consumed);
            connection.waiting = connection
                .waiting
                .checked_sub(acknowledged)
                .context("more acknowledgements than requests")?;
            self.acknowledged += acknowledged as u64;
            if connection.waiting == 0 {
                let taken = self.clock.nanos() - connection.sent_nanos;
                self.latencies.saturating_record(taken);
                self.send_next(index)?;
            }
        }
    }

    fn send_next(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        for _ in 0..self.shape.pipeline {
            self.value += 1;
            let entity = self.random.below(self.shape.entities);
            self.dialect
                .request(&mut connection.output, index, entity, self.value);
        }
        connection.waiting = self.shape.pipeline;
        connection.sent_nanos = self.clock.nanos();
        connection.flush()
    }
}

impl Connection {
    fn flush(&mut self) -> Result<()> {
        while !self.output.is_empty() {
            match net::send(&self.stream, &self.output, SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        Ok(())
    }
}

/// Processor time of this thread, which is all that makes the load.
fn cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * SECOND + u64::try_from(time.tv_nsec).unwrap_or(0)
}
