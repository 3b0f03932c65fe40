//! Pauses and failures to order: `strace` delays the return of a system call of a server, or lets
//! it fail.

use super::server::Server;
use super::{not_checked, wait_for};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A delay of `micros` for the calls of this name that `when` picks (strace's words).
pub(crate) fn injection(call: &str, when: &str, micros: u64) -> [String; 6] {
    [
        "-f".to_owned(),
        "-qq".to_owned(),
        "-e".to_owned(),
        format!("trace={call}"),
        "-e".to_owned(),
        format!("inject={call}:delay_exit={micros}:when={when}"),
    ]
}

/// Every call of this name on one of these files fails with `EIO`.
pub(crate) fn failing_on(call: &str, files: &[PathBuf]) -> Vec<String> {
    let mut words = injection(call, "1+", 0);
    words[5] = format!("inject={call}:error=EIO");
    let files = files.iter().map(|path| path.display().to_string());
    let named = files.flat_map(|path| ["-P".to_owned(), path]);
    words.into_iter().chain(named).collect()
}

/// The command line of a server with this injection from its first call on.
pub(crate) fn launcher(injection: Vec<String>) -> Vec<String> {
    // -D: the tracer is nobody's parent, and the process that the harness starts is the server.
    let words = ["strace", "-D"].map(str::to_owned).into_iter();
    let words = words.chain(injection);
    words
        .chain(["-o", "/dev/null", "--"].map(str::to_owned))
        .collect()
}

/// True if this machine lets `strace` pause a process.
pub(crate) fn can_trace() -> bool {
    let mut strace = Command::new("strace");
    strace.args(injection("close", "1", 1)).arg("true");
    let traced = strace
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !traced {
        not_checked("strace can't pause a process here");
    }
    traced
}

/// A tracer of a running server, which lets it go when it is dropped.
#[derive(Debug)]
pub(crate) struct Tracer {
    strace: Child,
    /// What ends it.
    signal: &'static str,
}

impl Tracer {
    pub(crate) fn attach(server: &Server, call: &str, when: &str, micros: u64) -> Self {
        Self::inject(server, &injection(call, when, micros))
    }

    /// Every call of this name fails with `EIO`.
    pub(crate) fn failing(server: &Server, call: &str) -> Self {
        Self::inject(server, &failing_on(call, &[]))
    }

    /// Every call of this name on one of these files fails with `EIO`.
    pub(crate) fn failing_on(server: &Server, call: &str, files: &[PathBuf]) -> Self {
        Self::inject(server, &failing_on(call, files))
    }

    fn inject(server: &Server, words: &[String]) -> Self {
        let mut strace = Command::new("strace");
        strace.args(words);
        strace.args(["-o", "/dev/null", "-p", &server.pid().to_string()]);
        let child = strace.stderr(Stdio::null()).spawn().expect("strace");
        wait_for("the tracer to be attached", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).ok()?;
            let tracer = status.lines().find(|line| line.starts_with("TracerPid:"))?;
            (!tracer.ends_with("\t0")).then_some(())
        });
        Self {
            strace: child,
            signal: "-INT",
        }
    }

    /// Lets go of a process that ends while a call of it is delayed: `strace` itself would wait for
    /// that call.
    pub(crate) fn let_go_of_the_dead(mut self) {
        self.signal = "-KILL";
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let pid = self.strace.id().to_string();
        let told = Command::new("kill").args([self.signal, &pid]).status();
        assert!(told.is_ok_and(|status| status.success()));
        self.strace.wait().expect("strace ends");
    }
}
