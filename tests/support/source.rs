//! An HTTP server to be polled. It records each request, and a function of the test answers it.

use super::wait_for;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Polled {
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Polled {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(key, _)| key == name).map(|(_, it)| it.as_str())
    }
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Status, header lines and body.
    Http(u16, Vec<String>, String),
    /// These bytes, and the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, and nothing more for as long as the client waits.
    Stall(Vec<u8>),
}

/// 200 with a body.
pub(crate) fn json(body: &str) -> Answer {
    Answer::Http(200, Vec::new(), body.to_owned())
}

/// A running source; its threads end with the process.
pub(crate) struct Source {
    pub(crate) port: u16,
    arrivals: Receiver<Polled>,
    seen: RefCell<Vec<Polled>>,
}

impl Source {
    /// Over plain TCP.
    pub(crate) fn start(answer: impl Fn(&Polled) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(answer, |stream| stream)
    }

    /// Over TLS, by the name `localhost`; also returns its self-signed certificate as PEM.
    pub(crate) fn start_tls(
        answer: impl Fn(&Polled) -> Answer + Send + Sync + 'static,
    ) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("its key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key);
        let config = Arc::new(config.expect("a configuration"));
        let source = Self::start_with(answer, move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a connection");
            StreamOwned::new(connection, stream)
        });
        (source, made.cert.pem())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a server of a test, one thread for each connection"
    )]
    fn start_with<S: Read + Write + Send + 'static>(
        answer: impl Fn(&Polled) -> Answer + Send + Sync + 'static,
        accept: impl Fn(TcpStream) -> S + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, arrivals) = channel();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let stream = accept(stream);
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                std::thread::spawn(move || serve(stream, &*answer, &sender));
            }
        });
        Self {
            port,
            arrivals,
            seen: RefCell::default(),
        }
    }

    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://127.0.0.1:{}{target}", self.port)
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Polled> {
        let mut seen = self.seen.borrow_mut();
        seen.extend(self.arrivals.try_iter());
        seen.clone()
    }

    /// Requests for this target so far.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.asked().iter().filter(|it| it.target == target).count()
    }

    /// Waits until there were this many requests for a target in all.
    pub(crate) fn wait_for(&self, target: &str, times: usize) {
        wait_for(&format!("{times} polls of {target}"), || {
            (self.count(target) >= times).then_some(())
        });
    }
}

fn serve(stream: impl Read + Write, answer: &dyn Fn(&Polled) -> Answer, sender: &Sender<Polled>) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        let answer = answer(&asked);
        if sender.send(asked).is_err() {
            return;
        }
        let out = reader.get_mut();
        let sent = match answer {
            Answer::Http(status, lines, body) => {
                let lines = lines
                    .iter()
                    .fold(String::new(), |all, line| all + line + "\r\n");
                let length = if status == 304 {
                    String::new()
                } else {
                    format!("Content-Length: {}\r\n", body.len())
                };
                out.write_all(
                    format!("HTTP/1.1 {status} X\r\n{lines}{length}\r\n{body}").as_bytes(),
                )
            }
            Answer::Raw(bytes) => {
                // The client may close before it has read everything.
                drop(out.write_all(&bytes));
                return;
            }
            Answer::Stall(bytes) => out.write_all(&bytes),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<impl Read>) -> Option<Polled> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let target = lines.first()?.split(' ').nth(1)?.to_owned();
    let pairs = lines.iter().filter_map(|line| line.split_once(": "));
    Some(Polled {
        target,
        headers: pairs
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
    })
}
