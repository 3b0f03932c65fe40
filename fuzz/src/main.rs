//! The runner: mutates the corpora by a seed and runs the targets on what comes of it.
//!
//! ```text
//! flux-fuzz [--seconds 120] [--seed N] [--target NAME]
//! ```
//!
//! The time is shared by the targets in equal parts. A panic, or an input that takes longer than 10
//! s, is a crash: the input goes to `artifacts/`, the exit code is 1. The same seed gives the same
//! inputs in the same order; how many of them a run meets depends on the machine. A file of
//! `artifacts/` is run again by `--input FILE --target NAME`.
#![expect(clippy::print_stdout, reason = "a program that reports to a person")]

use flux_fuzz::{Mutator, TARGETS, Target, load_corpus};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Inputs that the worker gets at a time.
const BATCH_INPUTS: usize = 64;
/// An input that takes longer hangs.
const HANG: Duration = Duration::from_secs(10);
const USAGE: &str = "flux-fuzz [--seconds N] [--seed N] [--target NAME] [--input FILE]";

/// What the command line asks for.
struct Options {
    seconds: u64,
    seed: u64,
    target: Option<String>,
    input: Option<PathBuf>,
}

/// An input that a target fails on.
struct Crash {
    input: Vec<u8>,
    kind: &'static str,
}

fn main() -> ExitCode {
    let Some(options) = parse(std::env::args().skip(1)) else {
        println!("usage: {USAGE}");
        return ExitCode::from(2);
    };
    let is_wanted = |target: &&Target| options.target.as_ref().is_none_or(|it| it == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(is_wanted).collect();
    if targets.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        println!("no such target; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    if let Some(path) = &options.input {
        return replay(&targets, path);
    }
    println!("seed {}", options.seed);
    let each = Duration::from_secs(options.seconds) / u32::try_from(targets.len()).unwrap_or(1);
    let mut is_clean = true;
    for target in targets {
        is_clean &= run(target, options.seed, each);
    }
    if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options {
        seconds: 120,
        seed: 1,
        target: None,
        input: None,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--seconds" => options.seconds = value.parse().ok()?,
            "--seed" => options.seed = value.parse().ok()?,
            "--target" => options.target = Some(value),
            "--input" => options.input = Some(value.into()),
            _ => return None,
        }
    }
    Some(options)
}

fn replay(targets: &[&Target], path: &Path) -> ExitCode {
    match fs::read(path) {
        Ok(input) => {
            for target in targets {
                (target.run)(&input);
            }
            println!("{} passes", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// Runs a target for a while; false if it crashed.
fn run(target: &'static Target, seed: u64, duration: Duration) -> bool {
    let corpus: Vec<Vec<u8>> = match load_corpus(target.name) {
        Ok(corpus) => corpus.into_iter().map(|(_, input)| input).collect(),
        Err(error) => {
            println!("{}: the corpus can't be read: {error}", target.name);
            return false;
        }
    };
    let started = now();
    let (runs, crash) = fuzz(target, &corpus, seed, duration);
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    match crash {
        None => {
            println!("{:<11} {runs:>9} inputs in {seconds:.1} s", target.name);
            true
        }
        Some(crash) => {
            println!("{}: {} after {runs} inputs", target.name, crash.kind);
            keep(target, &crash);
            false
        }
    }
}

/// Runs inputs on a worker, so that one that hangs is noticed. First those of the corpus, then what
/// is made of them.
fn fuzz(
    target: &'static Target,
    corpus: &[Vec<u8>],
    seed: u64,
    duration: Duration,
) -> (usize, Option<Crash>) {
    let deadline = now() + duration;
    let mut mutator = Mutator::new(seed, corpus, target.dictionary);
    let worker = Worker::start(target);
    let mut runs = 0;
    let mut first = corpus.chunks(BATCH_INPUTS);
    loop {
        let inputs = match first.next() {
            Some(inputs) => inputs.to_vec(),
            None => (0..BATCH_INPUTS).map(|_| mutator.next_input()).collect(),
        };
        let inputs: Arc<[Vec<u8>]> = inputs.into();
        if let Some((index, kind)) = worker.run(&inputs) {
            let input = inputs[index].clone();
            return (runs + index, Some(Crash { input, kind }));
        }
        runs += inputs.len();
        if now() >= deadline {
            return (runs, None);
        }
    }
}

/// A thread that runs inputs.
struct Worker {
    batches: mpsc::Sender<Arc<[Vec<u8>]>>,
    /// The input that panicked, if one did.
    results: mpsc::Receiver<Option<usize>>,
    /// The input that is being run.
    index: Arc<AtomicUsize>,
}

impl Worker {
    #[expect(
        clippy::disallowed_methods,
        reason = "an input that hangs is only noticed from another thread"
    )]
    fn start(target: &'static Target) -> Self {
        let (batches, incoming) = mpsc::channel::<Arc<[Vec<u8>]>>();
        let (outgoing, results) = mpsc::channel();
        let index = Arc::new(AtomicUsize::new(0));
        let at = Arc::clone(&index);
        std::thread::spawn(move || {
            for inputs in incoming {
                let crashed = inputs.iter().enumerate().find(|(index, input)| {
                    at.store(*index, Ordering::Relaxed);
                    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err()
                });
                if outgoing.send(crashed.map(|(index, _)| index)).is_err() {
                    return;
                }
            }
        });
        Self {
            batches,
            results,
            index,
        }
    }

    /// Runs a batch; gives the input that crashed, and how.
    fn run(&self, inputs: &Arc<[Vec<u8>]>) -> Option<(usize, &'static str)> {
        self.index.store(0, Ordering::Relaxed);
        let sent = self.batches.send(Arc::clone(inputs));
        sent.expect("the worker lives as long as its channel");
        loop {
            let before = self.index.load(Ordering::Relaxed);
            match self.results.recv_timeout(HANG) {
                Ok(crashed) => return crashed.map(|index| (index, "a panic")),
                Err(RecvTimeoutError::Timeout) => {
                    if self.index.load(Ordering::Relaxed) == before {
                        return Some((before, "a hang"));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Some((before, "a dead worker")),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an artifact is no durable file")]
fn keep(target: &Target, crash: &Crash) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts");
    let sum = crash
        .input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
    let path = folder.join(format!("{}-{sum:016x}", target.name));
    let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, &crash.input));
    match kept {
        Ok(()) => println!(
            "the input is in {}; run it again with --target {} --input {}",
            path.display(),
            target.name,
            path.display()
        ),
        Err(error) => println!(
            "the input can't be kept ({error}): {}",
            crash.input.escape_ascii()
        ),
    }
}

#[expect(clippy::disallowed_methods, reason = "the runner's own deadline")]
fn now() -> Instant {
    Instant::now()
}
