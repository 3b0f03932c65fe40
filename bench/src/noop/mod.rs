//! A server that does nothing but HTTP: the ceiling that a real one is measured against.
//!
//! Both engines do the same work for each read: find the ends of the requests it completed
//! (`framing`), and answer all of them with one write of a fixed body. They parse no header but
//! `Content-Length`, check nothing, and keep connections open until the peer closes. What is left
//! is the price of the kernel, of the runtime, and of moving bytes.
//!
//! | file | job |
//! | --- | --- |
//! | `glommio` | Flux's runtime: what Flux could reach if events cost nothing |
//! | `epoll` | the classic readiness loop: what the runtime itself costs |
//! | `framing` | where requests end |

mod epoll;
mod framing;
mod glommio;

use crate::output;
use anyhow::Result;
use clap::{Args, ValueEnum};

/// Body of every answer: as long as the answer to a published event.
const ANSWER_BODY: &str = r#"{"eventId":"01890a5d-ac96-774b-bcce-b302099a8057","stream":"load"}"#;

/// Bytes of one read. Large enough for a full pipeline of small requests; one batch takes several.
const READ_BYTES: usize = 64 * 1024;

/// Answers that one read may owe: the shortest request that `framing` accepts has 4 bytes.
const ANSWERS_PER_READ_MAX: usize = READ_BYTES / 4;

#[derive(Debug, Args)]
pub(crate) struct NoopOptions {
    /// Port on 127.0.0.1
    #[arg(long, default_value_t = 3999)]
    port: u16,
    /// Core to run on; without it the scheduler decides
    #[arg(long)]
    cpu: Option<usize>,
    /// How readiness is learned
    #[arg(long, value_enum, default_value_t = Engine::Glommio)]
    engine: Engine,
    /// Microseconds that the glommio executor spins before it sleeps
    #[arg(long, default_value_t = 0)]
    spin_before_park_us: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    Glommio,
    Epoll,
}

/// Serves until the process is killed.
///
/// # Errors
/// When the port cannot be had, the core cannot be used, or `io_uring` is not available.
pub(crate) fn run(options: &NoopOptions) -> Result<()> {
    output::note(&format!(
        "no-op server ({:?}) on http://127.0.0.1:{}",
        options.engine, options.port
    ));
    match options.engine {
        Engine::Glommio => glommio::serve(options),
        Engine::Epoll => epoll::serve(options),
    }
}

/// As many copies of the answer as one read can ask for, so that any number of answers is one slice
/// of it.
#[derive(Debug)]
struct Answers {
    bytes: Vec<u8>,
    answer_len: usize,
}

impl Answers {
    fn new() -> Self {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER_BODY}",
            ANSWER_BODY.len()
        );
        Self {
            bytes: answer.as_bytes().repeat(ANSWERS_PER_READ_MAX),
            answer_len: answer.len(),
        }
    }

    /// # Panics
    /// When more answers are asked for than one read can owe.
    fn of(&self, count: usize) -> &[u8] {
        assert!(count <= ANSWERS_PER_READ_MAX);
        &self.bytes[..count * self.answer_len]
    }
}
