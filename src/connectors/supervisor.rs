//! The thread that runs all connectors: it learns of definitions and credentials as the cores do,
//! starts what is due, and answers what the cores ask.

use super::calls::Calls;
use super::exchange::{PollError, Source};
use super::fetch::{Fetcher, Reach};
use super::github::{self, GitHub};
use super::http_source::HttpSource;
use super::poll::{Outcome, Polling};
use super::publisher::Publisher;
use super::schedule::{Ended, Pace};
use super::timetable::Timetable;
use crate::api::ApiError;
use crate::api::connectors::definition::{Auth, parse_definition};
use crate::api::connectors::{ConnectorStatus, ShownConnector};
use crate::auth::{Access, EncryptionKey, OwnedNamespace};
use crate::clock::{self, Monotonic};
use crate::control::{Change, Registry, StoredConnector};
use crate::faults;
use crate::limits::{MAILBOX_MESSAGES_MAX, POLL_SECONDS_BUILT_IN};
use crate::model::{BUILT_IN_CONNECTORS, ConnectorId, RuntimeConfig, Timestamp};
use crate::report;
use crate::service::{ContextParts, Tenants};
use crate::shard::{
    ConnectorsAsked, ControlMessage, Counters, Inbox, MailboxSender, Message, Reply,
};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet, LocalSet};
use url::Url;

/// Milliseconds after which the supervisor looks again for what sends no message: that the shards
/// are recovered, or that a core has room.
const LOOK_AGAIN_MS: u64 = 50;
/// Threads that look up names, which blocks.
const RESOLVER_THREADS: usize = 8;

/// What the supervisor is made of.
pub(crate) struct SupervisorParts {
    /// Its place among the members of the mailboxes: behind the shards, so also their number.
    pub(crate) core: u16,
    /// What the cores send it.
    pub(crate) inbox: Inbox,
    /// The way to the cores.
    pub(crate) sender: MailboxSender,
    /// What the control plane knows so far.
    pub(crate) registry: Registry,
    /// What credentials are encrypted with.
    pub(crate) key: Option<EncryptionKey>,
    /// Tokens are in force: connectors belong to namespaces.
    pub(crate) auth: bool,
    /// Connectors may reach loopback and private addresses all the same.
    pub(crate) allow_private: bool,
    /// GitHub's API.
    pub(crate) github: Url,
    /// What all cores know of each other.
    pub(crate) counters: Arc<Counters>,
}

/// The connectors of the server, and the state of their polls.
pub(crate) struct Supervisor {
    calls: Rc<Calls>,
    key: Option<EncryptionKey>,
    auth: bool,
    allow_private: bool,
    github: Url,
    entries: BTreeMap<ConnectorId, Entry>,
    numbers: HashMap<u64, ConnectorId>,
    next_number: u64,
    timetable: Timetable,
    tasks: JoinSet<(u64, Box<Polling>, Outcome)>,
    /// Made when it is needed first: reading the system's certificates takes its time.
    fetcher: Option<Result<Fetcher, String>>,
    clock: Monotonic,
}

/// One connector that is defined, or has a credential.
struct Entry {
    number: u64,
    interval_seconds: u32,
    kind: &'static str,
    enabled: bool,
    /// `None` while a poll has it, and if the definition can't be read.
    polling: Option<Box<Polling>>,
    in_flight: Option<AbortHandle>,
    pace: Pace,
    history: History,
}

/// What polls came to.
#[derive(Debug, Clone, Default)]
struct History {
    last_poll: Option<Timestamp>,
    last_error: Option<Box<str>>,
    /// The last poll worked.
    works: bool,
    events: u64,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("connectors", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SupervisorParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SupervisorParts").finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Runs on the calling thread until the other end of `stop` is dropped.
    ///
    /// # Errors
    /// If the operating system gives no descriptors.
    pub(crate) fn run(parts: SupervisorParts, stop: oneshot::Receiver<()>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(RESOLVER_THREADS)
            .build()?;
        let local = LocalSet::new();
        let served = local.block_on(&runtime, async move {
            let wake = parts.inbox.wake_descriptor().try_clone_to_owned()?;
            // No pipe but an event descriptor, which is read and polled as one; what takes any
            // descriptor is unsafe.
            let wake = pipe::Receiver::from_owned_fd_unchecked(wake)?;
            serve(parts, &wake, stop).await
        });
        // A look-up of a name may hang; nobody waits for it.
        runtime.shutdown_background();
        served
    }

    fn new(parts: SupervisorParts) -> (Self, Inbox) {
        let calls = Calls::new(ContextParts {
            core: parts.core,
            shards: parts.core,
            sender: parts.sender,
            tenants: Tenants {
                auth: parts.auth,
                admin: None,
                registry: parts.registry,
                runtime: RuntimeConfig::default(),
            },
            counters: parts.counters,
            encryption_key: None,
            seed: fastrand::u64(..),
        });
        let mut supervisor = Self {
            calls: Rc::new(calls),
            key: parts.key,
            auth: parts.auth,
            allow_private: parts.allow_private,
            github: parts.github,
            entries: BTreeMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            timetable: Timetable::default(),
            tasks: JoinSet::new(),
            fetcher: None,
            clock: Monotonic::start(),
        };
        let known = supervisor.all_stored();
        for id in known {
            supervisor.refresh(&id, History::default());
        }
        (supervisor, parts.inbox)
    }

    fn all_stored(&self) -> Vec<ConnectorId> {
        let registry = self.calls.registry();
        let all = registry.connectors().iter();
        all.map(|(id, _)| id.clone()).collect()
    }

    /// Makes a connector what the control plane says of it.
    fn refresh(&mut self, id: &ConnectorId, history: History) {
        self.forget(id);
        // A namespace's connectors have no owner without tokens, and with them the one default
        // owner has no token.
        if self.auth == id.owner.is_empty() {
            return;
        }
        let Some(stored) = self.calls.registry().connectors().get(id).cloned() else {
            return;
        };
        self.next_number = self.next_number.saturating_add(1);
        let entry = self.entry(id, &stored, history);
        if entry.enabled && entry.polling.is_some() {
            self.timetable.set(entry.number, self.clock.millis());
        }
        self.numbers.insert(entry.number, id.clone());
        self.entries.insert(id.clone(), entry);
    }

    /// A connector is gone, or about to be made anew: its poll ends where it is.
    fn forget(&mut self, id: &ConnectorId) {
        if let Some(entry) = self.entries.remove(id) {
            self.timetable.remove(entry.number);
            self.numbers.remove(&entry.number);
            if let Some(task) = entry.in_flight {
                task.abort();
            }
        }
    }

    fn entry(&self, id: &ConnectorId, stored: &StoredConnector, mut history: History) -> Entry {
        let access = if self.auth {
            OwnedNamespace::new(&id.owner).map_or(Access::Admin, Access::Owner)
        } else {
            Access::Open
        };
        let is_guarded = self.auth && !self.allow_private;
        let (source, auth, stream, interval_seconds): (Box<dyn Source>, _, Box<str>, _) =
            match &stored.definition {
                None => {
                    let source = GitHub::new(self.github.clone(), &id.owner);
                    let stream = github::STREAM.into();
                    (
                        Box::new(source),
                        Auth::Bearer,
                        stream,
                        POLL_SECONDS_BUILT_IN,
                    )
                }
                Some(text) => match parse_definition(text.as_bytes(), &id.owner) {
                    Ok((definition, _)) => {
                        let (auth, stream) = (definition.auth.clone(), definition.stream.clone());
                        let seconds = definition.interval_seconds;
                        (Box::new(HttpSource::new(definition)), auth, stream, seconds)
                    }
                    Err(error) => {
                        history.works = false;
                        history.last_error =
                            Some(format!("the stored definition can't be used: {error}").into());
                        return Entry {
                            number: self.next_number,
                            interval_seconds: 0,
                            kind: "http",
                            enabled: true,
                            polling: None,
                            in_flight: None,
                            pace: Pace::new(0),
                            history,
                        };
                    }
                },
            };
        let enabled = auth == Auth::None || stored.credential.is_some();
        let polling = Polling {
            publisher: Publisher::new(Rc::clone(&self.calls), access, &stream, &id.name),
            id: id.clone(),
            source,
            auth,
            sealed: stored.credential.clone(),
            key: self.key.clone(),
            reach: match (&stored.definition, is_guarded) {
                (_, false) => Reach::Anywhere,
                (Some(_), true) => Reach::Public,
                (None, true) => Reach::Operators,
            },
        };
        Entry {
            number: self.next_number,
            interval_seconds,
            kind: if stored.definition.is_some() {
                "http"
            } else {
                "github"
            },
            enabled,
            polling: Some(Box::new(polling)),
            in_flight: None,
            pace: Pace::new(interval_seconds),
            history,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Control(ControlMessage::Apply(change)) => {
                self.apply(&change);
                let done = Message::Control(ControlMessage::Applied);
                self.calls.send(0, done);
            }
            Message::Reply {
                from,
                request_id,
                reply,
            } => self.calls.deliver(request_id, (from, reply)),
            Message::Connectors(asked) => self.answer(&asked),
            // No core sends requests to a thread without a shard.
            Message::Request(envelope) => {
                let reply = Message::Reply {
                    from: envelope.origin.core,
                    request_id: envelope.origin.request_id,
                    reply: Reply::Refused(ApiError::NotReady),
                };
                self.calls.send(envelope.origin.core, reply);
            }
            Message::Changes(_) | Message::Control(_) | Message::ShardStatistics { .. } => {}
        }
    }

    fn apply(&mut self, change: &Change) {
        self.calls.registry_mut().apply(change);
        match change {
            Change::ConnectorDefined { id, .. } | Change::ConnectorRemoved(id) => {
                self.refresh(id, History::default());
            }
            Change::CredentialStored { id, .. } | Change::CredentialRemoved(id) => {
                let events = self.entries.get(id).map_or(0, |entry| entry.history.events);
                let history = History {
                    events,
                    ..History::default()
                };
                self.refresh(id, history);
            }
            Change::Deleted { name } => {
                let gone = self.entries.keys().filter(|id| id.owner == *name);
                let gone: Vec<ConnectorId> = gone.cloned().collect();
                for id in &gone {
                    self.forget(id);
                }
            }
            Change::Registered(_) | Change::TokenReplaced { .. } | Change::Configured(_) => {}
        }
    }

    fn answer(&self, asked: &ConnectorsAsked) {
        let is_wanted = |name: &str| asked.name.as_deref().is_none_or(|wanted| wanted == name);
        let known = self.entries.iter().filter(|(id, _)| {
            is_wanted(&id.name) && asked.owner.as_ref().is_none_or(|owner| *owner == id.owner)
        });
        let mut shown: Vec<ShownConnector> = known.map(|(id, entry)| entry.shown(id)).collect();
        if let Some(owner) = &asked.owner {
            for &name in BUILT_IN_CONNECTORS.iter().filter(|name| is_wanted(name)) {
                if !shown.iter().any(|it| *it.name == *name) {
                    shown.push(unconfigured(owner, name));
                }
            }
            shown.sort_by(|a, b| a.name.cmp(&b.name));
        }
        let reply = Message::Reply {
            from: self.calls.core(),
            request_id: asked.origin.request_id,
            reply: Reply::Connectors(shown),
        };
        self.calls.send(asked.origin.core, reply);
    }

    /// Starts the polls that are due.
    fn start_due(&mut self) {
        while let Some(number) = self.timetable.start(self.clock.millis()) {
            let entry = self
                .numbers
                .get(&number)
                .and_then(|id| self.entries.get_mut(id));
            let Some((entry, mut polling)) =
                entry.and_then(|entry| entry.polling.take().map(|polling| (entry, polling)))
            else {
                self.timetable.end();
                continue;
            };
            let fetcher = self.fetcher.get_or_insert_with(Fetcher::new).clone();
            let task = self.tasks.spawn_local(async move {
                let outcome = match fetcher {
                    Ok(fetcher) => polling.run(&fetcher).await,
                    Err(error) => Outcome::failed(PollError::new(error)),
                };
                (number, polling, outcome)
            });
            entry.in_flight = Some(task);
        }
    }

    /// A poll has ended, by itself or because its connector is gone.
    fn end(&mut self, ended: Option<(u64, Box<Polling>, Outcome)>) {
        self.timetable.end();
        let Some((number, polling, outcome)) = ended else {
            self.make_anew_what_broke();
            return;
        };
        let Some(id) = self.numbers.get(&number) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.polling = Some(polling);
        entry.in_flight = None;
        entry.history.note(id, &outcome);
        let ended = match outcome.error {
            None => Ended::Well,
            Some(error) => Ended::Badly(error.retry_after),
        };
        let delay_ms = entry.pace.next_ms(ended, fastrand::u64(..));
        let due_ms = self.clock.millis().saturating_add(delay_ms);
        self.timetable.set(number, due_ms);
    }
}

impl Supervisor {
    /// A poll that panicked has taken its connector's parts along: they are made anew, for the next
    /// time.
    fn make_anew_what_broke(&mut self) {
        let is_lost = |entry: &Entry| {
            let task = entry.in_flight.as_ref();
            entry.polling.is_none() && task.is_some_and(AbortHandle::is_finished)
        };
        let lost = self.entries.iter().filter(|(_, entry)| is_lost(entry));
        let lost: Vec<(ConnectorId, u64)> = lost
            .map(|(id, entry)| (id.clone(), entry.history.events))
            .collect();
        for (id, events) in lost {
            let history = History {
                last_poll: Some(clock::now()),
                last_error: Some("the server failed at this poll; its own messages say why".into()),
                works: false,
                events,
            };
            self.refresh(&id, history);
            if let Some(entry) = self.entries.get_mut(&id) {
                let delay_ms = entry.pace.next_ms(Ended::Badly(None), fastrand::u64(..));
                let due_ms = self.clock.millis().saturating_add(delay_ms);
                self.timetable.set(entry.number, due_ms);
            }
        }
    }
}

impl History {
    /// Records how a poll ended, and reports it to the operator if that has changed.
    fn note(&mut self, id: &ConnectorId, outcome: &Outcome) {
        self.last_poll = Some(clock::now());
        self.events = self.events.saturating_add(outcome.events);
        let name = if id.owner.is_empty() {
            id.name.to_string()
        } else {
            format!("{}/{}", id.owner, id.name)
        };
        match outcome.message() {
            None => {
                if !self.works {
                    report::info(&format!("connector {name}: running"));
                }
                self.works = true;
                self.last_error = None;
            }
            Some(error) => {
                if self.works || self.last_error.is_none() {
                    report::warning(&format!("connector {name}: {error}"));
                }
                self.works = false;
                self.last_error = Some(error.into());
            }
        }
    }
}

impl Entry {
    fn shown(&self, id: &ConnectorId) -> ShownConnector {
        let history = &self.history;
        ShownConnector {
            owner: id.owner.clone(),
            name: id.name.clone(),
            kind: self.kind,
            enabled: self.enabled,
            status: if !self.enabled {
                ConnectorStatus::NotConfigured
            } else if history.last_error.is_some() {
                ConnectorStatus::Error
            } else if history.works {
                ConnectorStatus::Running
            } else {
                ConnectorStatus::Configured
            },
            interval_seconds: self.interval_seconds,
            last_poll: history.last_poll,
            last_error: history.last_error.clone(),
            events_published: history.events,
        }
    }
}

/// A built-in connector without a credential.
fn unconfigured(owner: &str, name: &'static str) -> ShownConnector {
    ShownConnector {
        owner: owner.into(),
        name: name.into(),
        kind: name,
        enabled: false,
        status: ConnectorStatus::NotConfigured,
        interval_seconds: POLL_SECONDS_BUILT_IN,
        last_poll: None,
        last_error: None,
        events_published: 0,
    }
}

async fn serve(
    parts: SupervisorParts,
    wake: &pipe::Receiver,
    mut stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let (mut supervisor, inbox) = Supervisor::new(parts);
    let calls = Rc::clone(&supervisor.calls);
    loop {
        faults::step();
        for _ in 0..MAILBOX_MESSAGES_MAX {
            let Some(message) = inbox.take() else { break };
            supervisor.take(message);
        }
        let is_ready = calls.is_ready();
        if is_ready {
            supervisor.start_due();
        }
        let next_ms = supervisor.timetable.next_ms().map(|due_ms| {
            let wait_ms = due_ms.saturating_sub(supervisor.clock.millis());
            if is_ready { wait_ms } else { LOOK_AGAIN_MS }
        });
        let next_ms = if supervisor.calls.deliver_kept() {
            Some(LOOK_AGAIN_MS)
        } else {
            next_ms
        };
        if !inbox.fall_asleep() {
            tokio::task::yield_now().await;
            continue;
        }
        let pause = tokio::time::sleep(Duration::from_millis(next_ms.unwrap_or(0)));
        tokio::select! {
            _ = &mut stop => return Ok(()),
            readable = wake.readable() => {
                readable?;
                // Until there is nothing: only then the runtime asks the kernel again.
                while wake.try_read(&mut [0; 8]).is_ok() {}
            }
            Some(ended) = supervisor.tasks.join_next(), if !supervisor.tasks.is_empty() => {
                supervisor.end(ended.ok());
            }
            () = calls.crowded() => {}
            () = pause, if next_ms.is_some() => {}
        }
        inbox.wake_up();
    }
}
