//! A Flux server in a process of its own.

use super::disk::Disk;
use super::http::{Connection, Response, request};
use super::{event, wait_for};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use tempfile::TempDir;

/// The program under test.
pub(crate) const FLUX: &str = env!("CARGO_BIN_EXE_flux");

/// Attempts to start, each with another port, if another process takes the port first.
const ATTEMPTS: usize = 5;

/// The settings of a server.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    data_dir: PathBuf,
    /// What the command line begins with, before the program.
    launcher: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// A server on `data_dir` with `shards` shards; every other setting is the default.
    pub(crate) fn new(data_dir: &Path, shards: u32) -> Self {
        let setup = Self {
            data_dir: data_dir.into(),
            launcher: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        // Tests name the server as they like. What is refused by default has tests of its own.
        let setup = setup
            .env("FLUX_OPEN", "true")
            .env("FLUX_ALLOWED_ORIGINS", "*");
        setup.env("FLUX_SHARDS", &shards.to_string())
    }

    /// A server whose data directory is on a disk of its own.
    pub(crate) fn on(disk: &Disk, shards: u32) -> Self {
        Self {
            launcher: disk.launcher(),
            ..Self::new(&disk.path().join("data"), shards)
        }
    }

    pub(crate) fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// A server that these words start: `words… flux …`. They must not leave a process in between.
    pub(crate) fn launched_by(self, words: Vec<String>) -> Self {
        Self {
            launcher: words,
            ..self
        }
    }

    pub(crate) fn durability(self, durability: &str) -> Self {
        self.env("FLUX_DURABILITY", durability)
    }

    /// The command, without the settings in this process's environment.
    pub(crate) fn command(&self, port: u16) -> Command {
        let mut words = self.launcher.iter().map(String::as_str).chain([FLUX]);
        let mut command = Command::new(words.next().unwrap_or(FLUX));
        command.args(words);
        for (name, _) in std::env::vars_os() {
            if name == "PORT" || name.to_string_lossy().starts_with("FLUX_") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .args(["--port", &port.to_string(), "--data-dir"])
            .arg(&self.data_dir);
        command.args(&self.arguments).stdin(Stdio::null());
        command
    }

    /// Starts the server and waits until it is ready.
    pub(crate) fn start(&self) -> Server {
        for _ in 0..ATTEMPTS {
            if let Some(server) = self.attempt(free_port()) {
                return server;
            }
        }
        panic!("no server after {ATTEMPTS} attempts, each on another port");
    }

    /// Starts the server on a port that another server has just left.
    pub(crate) fn start_on(&self, port: u16) -> Server {
        wait_for("the port to be free", || self.attempt(port))
    }

    /// Runs a command line that is expected to end by itself.
    pub(crate) fn run(&self, port: u16) -> Output {
        let mut child = self
            .command(port)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("flux starts");
        wait_for("flux to end by itself", || {
            let ended = child.try_wait().expect("a child can be waited for");
            ended.map(|_| ())
        });
        child
            .wait_with_output()
            .expect("the output of flux is readable")
    }

    fn attempt(&self, port: u16) -> Option<Server> {
        let logs = TempDir::new().expect("a temporary directory");
        let stderr = logs.path().join("stderr");
        let file = File::create(&stderr).expect("a file in a fresh directory");
        let child = self
            .command(port)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("flux starts");
        let mut server = Server {
            child,
            port,
            stderr,
            data_dir: None,
            _logs: logs,
        };
        let is_sealed = |name: &str| name == "FLUX_TLS_CERT_FILE";
        let is_sealed = self.environment.iter().any(|(name, _)| is_sealed(name));
        let ready = wait_for("the server to be ready", || {
            if let Some(status) = server.child.try_wait().expect("a child can be waited for") {
                return Some(Err(status));
            }
            if is_sealed {
                // It answers nothing in plain text but that it does not.
                let shards = self
                    .environment
                    .iter()
                    .find(|(name, _)| name == "FLUX_SHARDS");
                let shards: usize = shards.map_or(1, |(_, number)| number.parse().unwrap_or(1));
                let said = server.said();
                let is_ready = said.matches(": ready after").count() == shards;
                return (is_ready && said.contains("listening on https")).then_some(Ok(()));
            }
            let answer = Connection::try_open(port)
                .ok()?
                .try_request("GET", "/ready", "")
                .ok()?;
            (answer.status == 200).then_some(Ok(()))
        });
        match ready {
            Ok(()) => Some(server),
            Err(status) if status.code() == Some(1) && server.said().contains("port") => None,
            Err(status) => panic!("the server ended at start with {status}: {}", server.said()),
        }
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    stderr: PathBuf,
    data_dir: Option<TempDir>,
    _logs: TempDir,
}

impl Server {
    /// A server on a data directory of its own, with the default settings.
    pub(crate) fn start(shards: u32) -> Self {
        let data_dir = TempDir::new().expect("a temporary directory");
        let mut server = Setup::new(data_dir.path(), shards).start();
        server.data_dir = Some(data_dir);
        server
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Connection {
        Connection::try_open(self.port).expect("the server accepts connections")
    }

    /// One request on a connection of its own.
    pub(crate) fn request(&self, method: &str, target: &str, body: &str) -> Response {
        self.connect().request(method, target, body)
    }

    /// One request with a token (none if it is empty) on a connection of its own.
    pub(crate) fn with_token(
        &self,
        (method, target): (&str, &str),
        token: &str,
        body: &str,
    ) -> Response {
        let field = format!("Authorization: Bearer {token}");
        let fields = [field.as_str()];
        let fields = if token.is_empty() { &[][..] } else { &fields };
        let mut connection = self.connect();
        connection.send(request(method, target, fields, body));
        if method == "HEAD" {
            connection.response_to_head()
        } else {
            connection.response()
        }
    }

    pub(crate) fn get(&self, target: &str) -> Response {
        self.request("GET", target, "")
    }

    pub(crate) fn post(&self, target: &str, body: &str) -> Response {
        self.request("POST", target, body)
    }

    /// Publishes and expects success; `properties` is JSON text.
    pub(crate) fn publish(&self, entity_id: &str, properties: &str) -> Response {
        let answer = self.post("/api/events", &event(entity_id, properties));
        assert_eq!(
            answer.status,
            200,
            "publishing {entity_id}: {}",
            answer.text()
        );
        answer
    }

    /// The state of an entity whose id needs no encoding.
    pub(crate) fn entity(&self, entity_id: &str) -> Response {
        self.get(&format!("/api/state/entities/{entity_id}"))
    }

    /// The properties of every entity whose id begins so, by id.
    pub(crate) fn held(&self, prefix: &str) -> BTreeMap<String, Map<String, Value>> {
        let answer = self.get(&format!("/api/state/entities?prefix={prefix}"));
        let entities = answer.json();
        let entities = entities.as_array().expect("an array").iter();
        entities
            .map(|entity| {
                let id = entity["id"].as_str().expect("an id").to_owned();
                (id, entity["properties"].as_object().expect("some").clone())
            })
            .collect()
    }

    /// Every entity that clients made, without the server's own.
    pub(crate) fn entities(&self) -> Vec<Value> {
        let answer = self.get("/api/state/entities");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let all = answer.json().as_array().expect("an array").clone();
        let is_own = |entity: &Value| {
            entity["id"]
                .as_str()
                .is_some_and(|id| id.starts_with("flux-core/"))
        };
        all.into_iter().filter(|entity| !is_own(entity)).collect()
    }

    /// Its standard error so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Prints its standard error, for a failed test.
    pub(crate) fn tell(&self) {
        let said = self.said();
        let story = format!("the server on port {} said:\n{said}\n", self.port);
        // Nothing can be done about a closed standard error while a test is failing.
        drop(std::io::stderr().write_all(story.as_bytes()));
    }

    /// Anonymous memory, bytes. The kernel can reclaim the pages of mapped files, so they do not
    /// count.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("the server runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("RssAnon:"))
            .expect("a running process has memory");
        let kib = line.split_whitespace().nth(1).expect("a figure in KiB");
        kib.parse::<u64>().expect("a number") * 1024
    }

    /// SIGKILL, and waits for the process to be gone.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Sends a signal and does not wait for its effect.
    pub(crate) fn signal(&self, signal: &str) {
        let line = format!("kill -s {signal} {}", self.pid());
        let status = Command::new("sh")
            .args(["-c", &line])
            .status()
            .expect("a shell");
        assert!(status.success(), "{line}");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the server to end", || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }

    /// SIGTERM; waits and expects exit code 0.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(
            status.code(),
            Some(0),
            "SIGTERM ends with 0: {}",
            self.said()
        );
    }

    fn end(&mut self) {
        // Both fail only if the process has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            self.tell();
        }
    }
}

/// The server with `shards` shards that the running tests share. It ends with the last of them.
#[expect(
    clippy::disallowed_types,
    reason = "tests are threads and share a process; no core of a server is involved"
)]
pub(crate) fn shared(shards: u32) -> Arc<Server> {
    type Slots = [std::sync::Mutex<Weak<Server>>; 2];
    static SLOTS: OnceLock<Slots> = OnceLock::new();
    let slots = SLOTS.get_or_init(Slots::default);
    let mut slot = slots[shards as usize - 1]
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(server) = slot.upgrade() {
        return server;
    }
    let server = Arc::new(Server::start(shards));
    *slot = Arc::downgrade(&server);
    server
}

/// A port that nobody listens on, below the range from which the kernel takes the ports of outgoing
/// connections.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static START: OnceLock<u16> = OnceLock::new();
    // By chance: other test programs that run at the same time look for ports too.
    let start = *START.get_or_init(|| {
        let random = RandomState::new().hash_one(std::process::id());
        u16::try_from(random % u64::from(COUNT)).expect("below COUNT")
    });
    for _ in 0..COUNT {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
    panic!("no free port");
}
