//! TLS for the tests: an authority with its certificates, and a tunnel that lets the plain clients
//! of the harness reach a server that speaks TLS.

use super::http::{Connection, Response};
use super::server::{Server, Setup};
use super::{PATIENCE, event, wait_for};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// An authority, and files of certificates that it has issued for `localhost` and 127.0.0.1.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = rcgen::DnType::CommonName;
        params.distinguished_name.push(name, "authority of tests");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let dir = TempDir::new().expect("a temporary directory");
        let authority = Self { issuer, dir };
        authority.write("ca.pem", &authority.issuer.pem());
        authority
    }

    /// A file of its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a file of a test, which no crash has to outlive"
    )]
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file in a fresh directory");
    }

    /// The file of the authority's own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Issues a certificate with another common name: `<file>.pem` and `<file>.key`.
    pub(crate) fn issue(&self, file: &str, common_name: &str) {
        self.issue_until(file, common_name, 2040);
    }

    /// The same that is valid to the end of a year.
    pub(crate) fn issue_until(&self, file: &str, common_name: &str, year: i32) {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let name = rcgen::DnType::CommonName;
        params.distinguished_name.push(name, common_name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(&format!("{file}.pem"), &certificate.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    /// A client that trusts the authority.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let der = CertificateDer::from_pem_slice(self.issuer.pem().as_bytes()).expect("PEM");
        roots.add(der).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// A connection by TLS, as a program has it.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Connects, and shakes hands with the first read or write.
pub(crate) fn connect(config: &Arc<ClientConfig>, port: u16) -> Secure {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    StreamOwned::new(client(config), stream)
}

/// A client's side of TLS without a socket.
pub(crate) fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    ClientConnection::new(Arc::clone(config), name).expect("a client")
}

/// Listens for plain connections and carries each to the server by TLS. Returns its port, when the
/// server is ready.
pub(crate) fn tunnel(config: Arc<ClientConfig>, to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a port").port();
    spawn(move || {
        while let Ok((plain, _)) = listener.accept() {
            let client = client(&config);
            let Ok(sealed) = TcpStream::connect(("127.0.0.1", to)) else {
                continue;
            };
            spawn(move || match carry(&plain, &sealed, client) {
                // One of them is gone: so is the other.
                Ok(()) | Err(_) => {}
            });
        }
    });
    wait_for("the server to be ready by TLS", || {
        let answer = Connection::try_open(port)
            .ok()?
            .try_request("GET", "/ready", "")
            .ok()?;
        (answer.status == 200).then_some(())
    });
    port
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test has no cores; the thread ends with its process"
)]
fn spawn(work: impl FnOnce() + Send + 'static) {
    std::thread::spawn(work);
}

/// What there is to read now: `None` if nothing, 0 at the end.
fn available(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Carries bytes both ways until both sides have ended.
fn carry(
    mut plain: &TcpStream,
    mut sealed: &TcpStream,
    mut client: ClientConnection,
) -> io::Result<()> {
    for stream in [plain, sealed] {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
    }
    let (mut buffer, mut waiting) = (vec![0; 16 * 1024], Vec::new());
    let (mut plain_ended, mut sealed_ended, mut told) = (false, false, false);
    while !(plain_ended && sealed_ended && waiting.is_empty()) {
        let mut busy = false;
        while client.wants_write() && available(client.write_tls(&mut sealed))?.is_some() {
            busy = true;
        }
        if !plain_ended && !client.wants_write() && !client.is_handshaking() {
            match available(plain.read(&mut buffer))? {
                Some(0) => {
                    plain_ended = true;
                    client.send_close_notify();
                }
                Some(count) => client.writer().write_all(&buffer[..count])?,
                None => {}
            }
            busy |= client.wants_write();
        }
        if !sealed_ended && waiting.len() < buffer.len() {
            match available(client.read_tls(&mut sealed))? {
                Some(0) => sealed_ended = true,
                Some(_) => {
                    let state = client.process_new_packets().map_err(io::Error::other)?;
                    let mut piece = vec![0; state.plaintext_bytes_to_read()];
                    client.reader().read_exact(&mut piece)?;
                    waiting.extend(piece);
                    sealed_ended |= state.peer_has_closed();
                    busy = true;
                }
                None => {}
            }
        }
        if !waiting.is_empty()
            && let Some(count) = available(plain.write(&waiting))?
        {
            waiting.drain(..count);
            busy = true;
        }
        if sealed_ended && waiting.is_empty() && !std::mem::replace(&mut told, true) {
            plain.shutdown(Shutdown::Write)?;
        }
        if !busy {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// The files of a certificate, as variables of a server.
pub(crate) fn variables(dir: &Path, file: &str) -> [(String, String); 2] {
    let path = |ending: &str| {
        let path = dir.join(format!("{file}.{ending}"));
        path.to_str().expect("a path of text").to_owned()
    };
    [
        ("FLUX_TLS_CERT_FILE".to_owned(), path("pem")),
        ("FLUX_TLS_KEY_FILE".to_owned(), path("key")),
    ]
}

/// A server that speaks TLS, who has issued its certificate, and a tunnel to it.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) server: Server,
    pub(crate) authority: Authority,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) tunnel: u16,
    _data: TempDir,
}

/// What a server with a certificate of an authority is started with.
pub(crate) fn setup(authority: &Authority, data: &Path, shards: u32) -> Setup {
    let setup = Setup::new(data, shards);
    let variables = variables(authority.ca().parent().expect("a directory"), "server");
    let set = |setup: Setup, (name, value): (String, String)| setup.env(&name, &value);
    variables.into_iter().fold(setup, set)
}

impl Sealed {
    pub(crate) fn start(shards: u32) -> Self {
        Self::with(shards, |setup| setup)
    }

    pub(crate) fn with(shards: u32, more: impl FnOnce(Setup) -> Setup) -> Self {
        let authority = Authority::new();
        authority.issue("server", "first");
        let data = TempDir::new().expect("a temporary directory");
        let server = more(setup(&authority, data.path(), shards)).start();
        let client = authority.client();
        Self {
            tunnel: tunnel(Arc::clone(&client), server.port),
            server,
            authority,
            client,
            _data: data,
        }
    }

    /// A plain connection that goes through the tunnel.
    pub(crate) fn connect(&self) -> Connection {
        Connection::try_open(self.tunnel).expect("the tunnel listens")
    }

    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> Response {
        self.connect().request(method, target, body)
    }

    pub(crate) fn publish(&self, id: &str, properties: &str) {
        let answer = self.ask("POST", "/api/events", &event(id, properties));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// A client's own connection by TLS.
    pub(crate) fn open(&self) -> Secure {
        connect(&self.client, self.server.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.server.port)
    }

    /// A command of `openssl s_client` that trusts the authority.
    pub(crate) fn s_client(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new("openssl");
        let port = format!("localhost:{}", self.server.port);
        command.args(["s_client", "-connect", &port, "-CAfile"]);
        command.arg(self.authority.ca()).args(arguments);
        with_input(command, input)
    }
}

/// Runs a command with this input.
pub(crate) fn with_input(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program is there");
    let mut stdin = child.stdin.take().expect("a pipe");
    // The program may have ended before it read all.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    child.wait_with_output().expect("its output")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
