//! TLS of one connection, as bytes: what the socket gave → plain bytes, and back.
//!
//! ```text
//! New ──a step──▶ Away ─▶ Shaking ──a step──▶ Away ─▶ … ─▶ Open
//!                  │ an error                  │            │ an error
//!                  └─▶ Failed ◀────────────────┴────────────┘
//! ```
//!
//! A handshake takes a millisecond of processor time, for the signature. So it is done in steps
//! that can be carried out elsewhere: [`TlsLink::take_step`] gives away the connection's state with
//! the records that have come, [`HandshakeStep::run`] does the work, and
//! [`TlsLink::finish_step`] takes the state back. Records that come meanwhile wait. Once the
//! handshake is over, what is left costs as little as any other work on bytes, and is done in
//! place.

use super::record;
use crate::limits::{TLS_HANDSHAKE_BYTES_MAX, TLS_SILENT_BYTES_MAX};
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, BufRead as _, Read, Write as _};
use std::sync::Arc;

/// Bytes that rustls keeps for what it reads next, whatever the connection does.
const READ_BYTES_KEPT: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct TlsLink {
    state: State,
    /// Received and not decrypted: while a step is away, all that came; else the beginning of a
    /// record.
    incoming: Vec<u8>,
    /// Records for the socket.
    unsent: Vec<u8>,
    /// Bytes at the front of `unsent` that the socket has taken.
    sent: usize,
    /// Bytes received before the handshake was over.
    handshake_bytes: usize,
    /// The most bytes that rustls was given at once since [`TlsLink::trim`]: it keeps its buffer.
    read_bytes: usize,
    /// Bytes of records since the last plain byte: at least what rustls holds of an unfinished
    /// handshake message.
    silent_bytes: usize,
    /// The client has said that it sends nothing more.
    is_ended: bool,
    /// The client was told that nothing more comes.
    is_closed: bool,
}

#[derive(Debug)]
enum State {
    New(Arc<ServerConfig>),
    Shaking(Box<ServerConnection>),
    /// A step has it.
    Away,
    Open(Box<ServerConnection>),
    Failed,
}

/// What a step of a handshake works on.
#[derive(Debug)]
pub struct HandshakeStep {
    state: State,
    records: Vec<u8>,
}

/// What a step of a handshake came to.
#[derive(Debug)]
pub struct Handshaken {
    state: State,
    /// For the client.
    output: Vec<u8>,
    /// What the client has sent behind its handshake.
    plain: Vec<u8>,
    silent_bytes: usize,
    is_ended: bool,
}

impl TlsLink {
    /// A connection of which nothing has arrived.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            state: State::New(config),
            incoming: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            handshake_bytes: 0,
            read_bytes: READ_BYTES_KEPT,
            silent_bytes: 0,
            is_ended: false,
            is_closed: false,
        }
    }

    /// True if the first bytes of a connection are of plain HTTP: a method. A record begins with
    /// its type, which is no letter.
    pub fn is_plain_http(&self, bytes: &[u8]) -> bool {
        let is_first = matches!(self.state, State::New(_)) && self.handshake_bytes == 0;
        is_first && bytes.first().is_some_and(u8::is_ascii_alphabetic)
    }

    /// True until the handshake is over.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.state, State::New(_) | State::Shaking(_) | State::Away)
    }

    /// True while a step of the handshake is due or away: nothing is to be received meanwhile.
    pub fn is_busy(&self) -> bool {
        match self.state {
            State::New(_) | State::Shaking(_) => record::whole_records(&self.incoming) > 0,
            State::Away => true,
            State::Open(_) | State::Failed => false,
        }
    }

    /// True once plain bytes can be sent.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_)) && !self.is_closed
    }

    /// The client sends nothing more, and has said so.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Takes bytes of the handshake in. False if they are more than any handshake has.
    pub fn receive_handshake(&mut self, bytes: &[u8]) -> bool {
        let is_long = self.handshake_bytes > TLS_HANDSHAKE_BYTES_MAX;
        self.handshake_bytes = self.handshake_bytes.saturating_add(bytes.len());
        if !is_long {
            self.incoming.extend_from_slice(bytes);
        }
        !is_long
    }

    /// The next step of the handshake, if a record for it has arrived.
    pub fn take_step(&mut self) -> Option<HandshakeStep> {
        if !self.is_busy() || matches!(self.state, State::Away) {
            return None;
        }
        let whole = record::whole_records(&self.incoming);
        let rest = self.incoming.split_off(whole);
        let records = std::mem::replace(&mut self.incoming, rest);
        let state = std::mem::replace(&mut self.state, State::Away);
        Some(HandshakeStep { state, records })
    }

    /// Takes back what a step came to. Returns the plain bytes that the client has sent behind its
    /// handshake.
    pub fn finish_step(&mut self, done: Handshaken) -> Vec<u8> {
        self.state = done.state;
        self.unsent.extend_from_slice(&done.output);
        self.is_ended |= done.is_ended;
        if self.is_open() {
            // rustls may have been given all of it.
            self.read_bytes = self.read_bytes.max(self.handshake_bytes);
            self.silent_bytes = done.silent_bytes;
            self.handshake_bytes = 0;
        }
        done.plain
    }

    /// True if the connection can't go on. What is to be told the client about it is unsent.
    pub fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// Decrypts what has arrived, and delivers what is whole. Whatever breaks the rules makes the
    /// connection fail, behind what came before it.
    pub fn open(&mut self, bytes: &[u8], mut deliver: impl FnMut(&[u8])) {
        let mut rest = bytes;
        loop {
            let whole = record::whole_records(&self.incoming);
            if whole > 0 {
                let mut records = std::mem::take(&mut self.incoming);
                self.process(records.get(..whole).unwrap_or_default(), &mut deliver);
                records.drain(..whole);
                self.incoming = records;
            } else if self.incoming.is_empty() || rest.is_empty() {
                break;
            } else {
                let missing = record::missing(&self.incoming).clamp(1, rest.len());
                let (next, behind) = rest.split_at_checked(missing).unwrap_or((rest, b""));
                self.incoming.extend_from_slice(next);
                rest = behind;
            }
        }
        let whole = record::whole_records(rest);
        let (records, begun) = rest.split_at_checked(whole).unwrap_or((rest, b""));
        self.process(records, &mut deliver);
        self.incoming.extend_from_slice(begun);
    }

    fn process(&mut self, records: &[u8], deliver: &mut impl FnMut(&[u8])) {
        let State::Open(connection) = &mut self.state else {
            return;
        };
        self.read_bytes = self.read_bytes.max(records.len());
        let processed = process(connection, records, &mut self.silent_bytes, deliver);
        let drained = drain(connection, &mut self.unsent);
        match processed.and_then(|is_ended| drained.map(|()| is_ended)) {
            Ok(is_ended) if self.silent_bytes <= TLS_SILENT_BYTES_MAX => self.is_ended |= is_ended,
            Ok(_) | Err(Broken) => self.state = State::Failed,
        }
        if self.is_ended || self.has_failed() {
            self.incoming = Vec::new();
        }
    }

    /// Encrypts plain bytes into records, behind what is unsent. `buffer`: an empty one that is
    /// used if nothing is; [`TlsLink::take_buffer`] gives it back.
    pub fn seal(&mut self, plain: &[u8], buffer: &mut Vec<u8>) {
        let State::Open(connection) = &mut self.state else {
            return;
        };
        if self.unsent.is_empty() {
            std::mem::swap(&mut self.unsent, buffer);
        }
        let written = connection.writer().write_all(plain);
        let drained = drain(connection, &mut self.unsent);
        if written.is_err() || drained.is_err() {
            self.state = State::Failed;
        }
    }

    /// Tells the client that nothing more comes (RFC 8446 §6.1), once. True if that is to be sent.
    pub fn close(&mut self) -> bool {
        let State::Open(connection) = &mut self.state else {
            return false;
        };
        if std::mem::replace(&mut self.is_closed, true) {
            return false;
        }
        connection.send_close_notify();
        drain(connection, &mut self.unsent).is_ok()
    }

    /// Records for the socket.
    pub fn unsent(&self) -> &[u8] {
        self.unsent.get(self.sent..).unwrap_or_default()
    }

    /// The socket took so many bytes of them.
    pub fn advance(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count);
        if self.sent >= self.unsent.len() {
            self.sent = 0;
            self.unsent.clear();
        }
    }

    /// Gives the buffer back that nothing is in.
    pub fn take_buffer(&mut self, buffer: &mut Vec<u8>) {
        if self.unsent.is_empty() && self.unsent.capacity() > buffer.capacity() {
            std::mem::swap(&mut self.unsent, buffer);
        }
    }

    /// Heap of what was received and is not delivered, beyond what every connection has.
    pub fn received_heap_bytes(&self) -> usize {
        let kept = self.read_bytes.saturating_sub(READ_BYTES_KEPT);
        let incoming = self.incoming.capacity();
        incoming
            .saturating_add(kept)
            .saturating_add(self.silent_bytes)
            .saturating_add(self.handshake_bytes)
    }

    /// Heap of what is not sent.
    pub fn unsent_heap_bytes(&self) -> usize {
        self.unsent.capacity()
    }

    /// Gives back heap that an idle connection does not need.
    pub fn trim(&mut self) {
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        if self.read_bytes > READ_BYTES_KEPT
            && let State::Open(connection) = &mut self.state
        {
            // It gives back what a longer read has left before it reads; this reads nothing.
            match connection.read_tls(&mut Nothing) {
                Ok(_) | Err(_) => self.read_bytes = READ_BYTES_KEPT,
            }
        }
    }
}

impl HandshakeStep {
    /// Does the work: a millisecond for the signature of an RSA key, a tenth for an elliptic curve.
    pub fn run(self) -> Handshaken {
        let mut done = Handshaken {
            state: State::Failed,
            output: Vec::new(),
            plain: Vec::new(),
            silent_bytes: 0,
            is_ended: false,
        };
        let connection = match self.state {
            State::New(config) => ServerConnection::new(config).map(Box::new).ok(),
            State::Shaking(connection) | State::Open(connection) => Some(connection),
            State::Away | State::Failed => None,
        };
        let Some(mut connection) = connection else {
            return done;
        };
        // What is written is taken at once.
        connection.set_buffer_limit(None);
        let plain = &mut done.plain;
        let mut deliver = |bytes: &[u8]| plain.extend_from_slice(bytes);
        let silent = &mut done.silent_bytes;
        let processed = process(&mut connection, &self.records, silent, &mut deliver);
        let drained = drain(&mut connection, &mut done.output);
        if let Ok(is_ended) = processed
            && drained.is_ok()
        {
            done.is_ended = is_ended;
            done.state = if connection.is_handshaking() {
                State::Shaking(connection)
            } else {
                State::Open(connection)
            };
        }
        done
    }
}

/// The rules of TLS were broken.
struct Broken;

/// Gives rustls whole records. True if the client has said that it sends nothing more; what came
/// behind that is dropped. `silent` counts bytes until a plain one comes.
fn process(
    connection: &mut ServerConnection,
    mut records: &[u8],
    silent: &mut usize,
    deliver: &mut impl FnMut(&[u8]),
) -> Result<bool, Broken> {
    while !records.is_empty() {
        match connection.read_tls(&mut records) {
            Ok(0) => return Ok(true),
            Ok(count) => *silent = silent.saturating_add(count),
            // More of a message than it takes.
            Err(_) => return Err(Broken),
        }
        let processed = connection.process_new_packets();
        let mut reader = connection.reader();
        while let Ok(plain) = reader.fill_buf()
            && !plain.is_empty()
        {
            deliver(plain);
            *silent = 0;
            let len = plain.len();
            reader.consume(len);
        }
        match processed {
            Ok(state) if state.peer_has_closed() => return Ok(true),
            Ok(_) => {}
            Err(_) => return Err(Broken),
        }
    }
    Ok(false)
}

/// Takes what rustls has for the socket.
fn drain(connection: &mut ServerConnection, out: &mut Vec<u8>) -> Result<(), Broken> {
    while connection.wants_write() {
        if connection.write_tls(out).is_err() {
            return Err(Broken);
        }
    }
    Ok(())
}

/// A source that has nothing at the moment.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Certified, TlsIdentity};
    use super::*;
    use crate::model::Timestamp;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets};
    use rustls::{ContentType, ProtocolVersion, RootCertStore, SupportedCipherSuite};

    /// Certificates that `rcgen` makes are valid from 1975 on.
    const NOW: Timestamp = Timestamp::from_micros(0);

    /// A client, and the server's side of its connection.
    struct Pair {
        client: ClientConnection,
        link: TlsLink,
    }

    impl Pair {
        fn new() -> Self {
            let names = vec!["localhost".to_owned()];
            let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
            let (chain, key) = (cert.pem(), signing_key.serialize_pem());
            let certified = Certified::from_pem(chain.as_bytes(), key.as_bytes(), NOW);
            let identity = TlsIdentity::new(&certified.unwrap());
            let mut roots = RootCertStore::empty();
            roots.add(cert.der().clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.enable_secret_extraction = true;
            let name = ServerName::try_from("localhost").unwrap();
            Self {
                client: ClientConnection::new(Arc::new(config), name).unwrap(),
                link: TlsLink::new(identity.current()),
            }
        }

        /// A handshake that is over. The client's records come in pieces of so many bytes.
        fn open(piece: usize) -> Self {
            let mut pair = Self::new();
            while pair.link.is_handshaking() {
                for bytes in pair.records().chunks(piece) {
                    assert!(pair.link.receive_handshake(bytes));
                    pair.shake();
                }
                pair.answer();
            }
            assert!(pair.link.is_open() && !pair.link.is_busy());
            pair
        }

        /// Does the steps that are due.
        fn shake(&mut self) {
            while let Some(step) = self.link.take_step() {
                assert!(self.link.is_busy() && self.link.take_step().is_none());
                assert_eq!(self.link.finish_step(step.run()), b"");
            }
        }

        /// What the client sends.
        fn records(&mut self) -> Vec<u8> {
            let mut records = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut records).unwrap();
            }
            records
        }

        fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
            self.client.writer().write_all(plain).unwrap();
            self.records()
        }

        /// Brings the client what the server sends. Returns what it can read.
        fn answer(&mut self) -> Vec<u8> {
            let records = self.link.unsent().to_vec();
            self.link.advance(records.len());
            let (mut rest, mut plain) = (&records[..], Vec::new());
            while !rest.is_empty() {
                self.client.read_tls(&mut rest).unwrap();
                self.client.process_new_packets().unwrap();
                // Nothing to read is an error.
                drop(self.client.reader().read_to_end(&mut plain));
            }
            plain
        }

        fn received(&mut self, bytes: &[u8]) -> Vec<u8> {
            let mut plain = Vec::new();
            self.link.open(bytes, |more| plain.extend_from_slice(more));
            plain
        }
    }

    #[test]
    fn every_split_of_a_handshake_and_of_records_opens_the_same() {
        for piece in [1, 2, 5, 7, 100, 100_000] {
            let mut pair = Pair::open(piece);
            let plain: Vec<u8> = (0..50_000_u32).map(|it| it.to_le_bytes()[0]).collect();
            let records = [pair.sealed(b"first"), pair.sealed(b""), pair.sealed(&plain)].concat();
            let mut found = Vec::new();
            for bytes in records.chunks(piece) {
                found.extend(pair.received(bytes));
            }
            assert_eq!(found, [b"first", &plain[..]].concat(), "{piece}");
            let (mut buffer, mut taken) = (Vec::new(), Vec::new());
            pair.link.seal(&plain, &mut buffer);
            taken.extend(pair.answer());
            pair.link.take_buffer(&mut buffer);
            assert_eq!(taken, plain);
            assert!(buffer.capacity() >= plain.len());
            assert!(pair.link.unsent_heap_bytes() < plain.len() / 8);
        }
    }

    #[test]
    fn requests_behind_the_handshake_come_out_with_its_last_step() {
        let mut pair = Pair::new();
        let hello = pair.records();
        assert!(pair.link.receive_handshake(&hello));
        let step = pair.link.take_step().unwrap();
        pair.link.finish_step(step.run());
        pair.answer();
        let last = [pair.records(), pair.sealed(b"request"), pair.sealed(b"cut")].concat();
        let (now, later) = last.split_at(last.len() - 1);
        assert!(pair.link.receive_handshake(now));
        let step = pair.link.take_step().unwrap();
        assert_eq!(pair.link.finish_step(step.run()), b"request");
        assert!(pair.link.is_open());
        assert_eq!(pair.received(later), b"cut");
    }

    #[test]
    fn what_breaks_the_rules_fails_behind_what_came_before_it() {
        let mut pair = Pair::open(1000);
        let mut records = [pair.sealed(b"good"), pair.sealed(b"bad")].concat();
        *records.last_mut().unwrap() ^= 1;
        let behind = pair.sealed(b"behind");
        assert_eq!(pair.received(&records), b"good");
        assert!(pair.link.has_failed() && !pair.link.unsent().is_empty());
        assert_eq!(pair.received(&behind), b"");
        pair.link.seal(b"answer", &mut Vec::new());
        assert!(!pair.link.close());
    }

    #[test]
    fn the_end_of_each_side_is_told_once() {
        let mut pair = Pair::open(1000);
        pair.client.send_close_notify();
        let records = [pair.records(), b"whatever".to_vec()].concat();
        assert_eq!(pair.received(&records), b"");
        assert!(pair.link.is_ended() && pair.link.is_open());
        pair.link.seal(b"answer", &mut Vec::new());
        assert!(pair.link.close() && !pair.link.close());
        assert_eq!(pair.answer(), b"answer");
    }

    #[test]
    fn an_idle_connection_holds_nothing_that_counts() {
        let mut pair = Pair::open(1000);
        let records = pair.sealed(&vec![b'x'; 60_000]);
        let (now, later) = records.split_at(records.len() - 10);
        pair.received(now);
        assert!(pair.link.received_heap_bytes() > 8 * 1024);
        pair.received(later);
        pair.link.trim();
        assert_eq!(pair.link.received_heap_bytes(), 0);
        let more = pair.sealed(b"more");
        assert_eq!(pair.received(&more), b"more");
    }

    #[test]
    fn a_handshake_without_end_is_refused() {
        let mut pair = Pair::new();
        let piece = [22; 4096];
        let taken = (0..100).take_while(|_| pair.link.receive_handshake(&piece));
        assert_eq!(taken.count(), TLS_HANDSHAKE_BYTES_MAX / piece.len() + 1);
    }
    /// The records of a client that breaks the rules, by the keys of one that did not.
    struct Forger {
        encrypter: Box<dyn MessageEncrypter>,
        sequence: u64,
    }

    impl Forger {
        fn new(client: ClientConnection) -> Self {
            let Some(SupportedCipherSuite::Tls13(suite)) = client.negotiated_cipher_suite() else {
                panic!("TLS 1.3 is what both prefer");
            };
            let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
            let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
            else {
                panic!("no other suite is offered");
            };
            let encrypter = suite.aead_alg.encrypter(key, iv);
            Self {
                encrypter,
                sequence,
            }
        }

        fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
            let plain = OutboundPlainMessage {
                typ,
                version: ProtocolVersion::TLSv1_3,
                payload: OutboundChunks::from(payload),
            };
            let record = self.encrypter.encrypt(plain, self.sequence).unwrap();
            self.sequence = self.sequence.checked_add(1).unwrap();
            record.encode()
        }
    }

    #[test]
    fn what_a_handshake_message_without_end_holds_counts_and_is_bounded() {
        const PIECE: usize = 1000;
        // The update of a key, with as many bytes as rustls takes of a message.
        let begun = [&[24, 0, 0xff, 0xf0][..], &[0; PIECE]].concat();
        for first in [&b""[..], b"request"] {
            let Pair { client, mut link } = Pair::open(1000);
            let mut forger = Forger::new(client);
            let mut held = 0;
            let mut records = forger.record(ContentType::ApplicationData, first);
            records.extend(forger.record(ContentType::Handshake, &begun));
            while !link.has_failed() {
                link.open(&records, |_| {});
                held += PIECE;
                let counted = link.received_heap_bytes();
                assert!(counted >= held.saturating_sub(READ_BYTES_KEPT), "{held}");
                link.trim();
                assert!(link.received_heap_bytes() >= held.saturating_sub(READ_BYTES_KEPT));
                assert!(held <= TLS_SILENT_BYTES_MAX + READ_BYTES_KEPT);
                records = forger.record(ContentType::Handshake, &[0; PIECE]);
            }
        }
    }
}
