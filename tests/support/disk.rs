//! A small disk for a test, which can be filled, made read-only, and made to fail.
//!
//! If the machine permits it, the disk is a file system in a mount namespace of its own: `ext4` in
//! a loop device, `tmpfs` in memory. A process holds the namespace and mounts in it; servers start
//! inside. If mounts are not permitted, a limit on the size of the server's files takes its place:
//! the kernel answers with `EFBIG`, which a log treats like a full disk. A test says which kinds it
//! could not have.

use super::server::Server;
use super::wait_for;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// The kinds of disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Tmpfs,
    /// No disk at all: a limit on the size of files.
    Limit,
}

/// Size of a file at which the limit plays the full disk: less than any segment of these tests,
/// more than the server's messages.
const LIMITED_FILE_BYTES: u64 = 32 * 1024;

/// See the module. Dropping it removes the disk and its files; drop the servers on it first.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) kind: Kind,
    holder: Option<Holder>,
    dir: TempDir,
}

/// The shell that holds the namespace and runs commands in it.
#[derive(Debug)]
struct Holder {
    shell: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    is_root: bool,
}

impl Disk {
    /// A disk of that many MiB, or the reason why this kind is not available.
    pub(crate) fn new(kind: Kind, mib: u32) -> Result<Self, String> {
        let dir = TempDir::new().map_err(|error| error.to_string())?;
        fs::create_dir(dir.path().join("disk")).map_err(|error| error.to_string())?;
        let mut disk = Self {
            kind,
            holder: None,
            dir,
        };
        if kind == Kind::Limit {
            return Ok(disk);
        }
        disk.holder = Some(Holder::start()?);
        disk.enter()?;
        match kind {
            Kind::Limit => {}
            Kind::Tmpfs => {
                let options = format!("size={mib}m");
                disk.run(&format!("mount -t tmpfs -o {options} tmpfs \"$DISK\""))?;
            }
            Kind::Ext4 => {
                disk.run(&format!(
                    "truncate -s {mib}M \"$IMAGE\" && mkfs.ext4 -q -m 0 \"$IMAGE\""
                ))?;
                disk.mount()?;
            }
        }
        Ok(disk)
    }

    /// Tries what servers are started with.
    fn enter(&self) -> Result<(), String> {
        let words = self.launcher();
        let (program, rest) = words.split_first().ok_or("no namespace")?;
        let entered = Command::new(program).args(rest).arg("true").output();
        let output = entered.map_err(|error| format!("{program}: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A disk of each kind that this machine permits, at least one. Says which kinds it does not
    /// permit.
    pub(crate) fn each(mib: u32, kinds: &[Kind], claim: impl Fn(&mut Self) + Sync) {
        let tell = |kind| match Self::new(kind, mib) {
            Ok(mut disk) => claim(&mut disk),
            Err(why) => say(&format!("{kind:?} could not be had here: {why}")),
        };
        // Side by side, because these tests mostly wait.
        std::thread::scope(|scope| {
            for kind in kinds {
                scope.spawn(|| tell(*kind));
            }
        });
    }

    /// Mounts the image: `ext4` only.
    pub(crate) fn mount(&mut self) -> Result<(), String> {
        self.run("mount -o loop,errors=remount-ro \"$IMAGE\" \"$DISK\"")
    }

    /// Unmounts it; no server may use it any more.
    pub(crate) fn unmount(&mut self) {
        wait_for("the disk to be idle", || self.run("umount \"$DISK\"").ok());
    }

    /// Its root, as servers see it.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Its root, as this process sees it.
    pub(crate) fn seen(&self) -> PathBuf {
        match &self.holder {
            None => self.path(),
            Some(holder) => {
                let root = format!("/proc/{}/root", holder.shell.id());
                let path = self.path();
                Path::new(&root).join(path.strip_prefix("/").expect("an absolute path"))
            }
        }
    }

    /// The beginning of a command line that runs a server in the namespace of the disk.
    pub(crate) fn launcher(&self) -> Vec<String> {
        let Some(holder) = &self.holder else {
            return Vec::new();
        };
        let pid = holder.shell.id().to_string();
        let mut words = vec!["nsenter", "-t", &pid, "-m"];
        if !holder.is_root {
            words.extend(["-U", "--preserve-credentials"]);
        }
        words.push("--");
        words.into_iter().map(str::to_owned).collect()
    }

    /// Runs a line of shell in the namespace, with the disk's root in `$DISK` and its image in
    /// `$IMAGE`.
    pub(crate) fn run(&mut self, line: &str) -> Result<(), String> {
        let dir = self.dir.path().to_owned();
        let holder = self.holder.as_mut().ok_or("no namespace")?;
        holder.run(&format!(
            "DISK='{0}/disk'; IMAGE='{0}/image'; {line}",
            dir.display()
        ))
    }

    /// Fills the disk. A server may free some space again, so this can be repeated.
    pub(crate) fn fill(&self, server: &Server) {
        if self.kind == Kind::Limit {
            limit(server, Some(LIMITED_FILE_BYTES));
        } else {
            self.fill_up();
        }
    }

    /// The same without a server; the limit on file sizes does nothing then.
    pub(crate) fn fill_up(&self) {
        let filler = File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .expect("an empty file takes no room");
        for bytes in [64 * 1024, 4096, 512] {
            let block = vec![0xff; bytes];
            while (&filler).write_all(&block).is_ok() {}
        }
        // Space that the file system has promised and not allocated yet counts as well.
        filler.sync_all().expect("written bytes have their place");
    }

    /// Frees the space again.
    pub(crate) fn free(&self, server: &Server) {
        if self.kind == Kind::Limit {
            limit(server, None);
        } else {
            self.free_up();
        }
    }

    /// The same without a server.
    pub(crate) fn free_up(&self) {
        fs::remove_file(self.filler()).expect("a file that was made");
    }

    fn filler(&self) -> PathBuf {
        self.seen().join("filler")
    }
}

/// Limits the size of the files of a running server. The kernel permits that for one's own
/// processes.
fn limit(server: &Server, bytes: Option<u64>) {
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    let limits = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limits).expect("the limit of a child can be changed");
}

impl Holder {
    fn start() -> Result<Self, String> {
        let is_root = fs::metadata("/proc/self")
            .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let mut command = Command::new("unshare");
        if !is_root {
            command.arg("-r");
        }
        command.args(["-m", "sh"]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let orders = shell.stdin.take().expect("a pipe");
        let answers = BufReader::new(shell.stdout.take().expect("a pipe"));
        let mut holder = Self {
            shell,
            orders,
            answers,
            is_root,
        };
        holder
            .run("true")
            .map_err(|why| format!("no mount namespace: {why}"))?;
        Ok(holder)
    }

    fn run(&mut self, line: &str) -> Result<(), String> {
        // The answer is one line: the exit code and the output.
        let order = format!("said=$( {{ {line}; }} 2>&1 </dev/null ); echo \"$?\" $said\n");
        let mut answer = String::new();
        self.orders
            .write_all(order.as_bytes())
            .and_then(|()| self.answers.read_line(&mut answer))
            .map_err(|error| error.to_string())?;
        match answer.trim_end().split_once(' ') {
            Some(("0", _)) => Ok(()),
            None if answer.trim_end() == "0" => Ok(()),
            Some((_, said)) => Err(said.to_owned()),
            None => Err(format!("ended with {:?}", answer.trim_end())),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Both fail only if it has ended already. The namespace and its mounts end with it.
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

/// Says something whether tests pass or not.
pub(crate) fn say(text: &str) {
    // Nothing can be done about a closed standard error.
    drop(std::io::stderr().write_all(format!("small disk: {text}\n").as_bytes()));
}
