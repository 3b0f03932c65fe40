//! The no-op server on glommio: one executor, one task per connection.
//!
//! glommio tries each `recv` and `send` directly and asks the ring only for readiness, so a request
//! costs one of each plus its share of `io_uring_enter`. The preemption timer is set far away, as
//! no task here runs long: the default re-arms it every 100 ms.

use super::{Answers, NoopOptions, READ_BYTES, framing::Framing, framing::HEAD_BYTES_MAX};
use anyhow::{Result, anyhow};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Registered memory for file I/O, bytes: this server has none, and the default of 10 MiB needs a
/// raised `RLIMIT_MEMLOCK`.
const IO_MEMORY_BYTES: usize = 64 * 1024;

pub(super) fn serve(options: &NoopOptions) -> Result<()> {
    let placement = options.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .io_memory(IO_MEMORY_BYTES)
        .spin_before_park(Duration::from_micros(options.spin_before_park_us))
        .make()
        .map_err(|error| anyhow!("cannot start an executor: {error}"))?;
    let port = options.port;
    executor.run(async move {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .map_err(|error| anyhow!("cannot listen on port {port}: {error}"))?;
        accept(&listener).await
    })
}

/// Ends only with an error.
async fn accept(listener: &TcpListener) -> Result<()> {
    let answers = Rc::new(Answers::new());
    loop {
        let stream = listener
            .accept()
            .await
            .map_err(|error| anyhow!("cannot accept: {error}"))?;
        let answers = Rc::clone(&answers);
        glommio::spawn_local(async move {
            // A connection that breaks concerns only its client.
            drop(converse(stream, &answers).await);
        })
        .detach();
    }
}

async fn converse(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut framing = Framing::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        let received = stream.read(&mut buffer[filled..]).await?;
        if received == 0 {
            return Ok(());
        }
        filled += received;
        let Ok(progress) = framing.advance(&buffer[..filled]) else {
            return Ok(());
        };
        buffer.copy_within(progress.consumed..filled, 0);
        filled -= progress.consumed;
        debug_assert!(filled <= HEAD_BYTES_MAX);
        if progress.requests > 0 {
            stream.write_all(answers.of(progress.requests)).await?;
        }
    }
}
