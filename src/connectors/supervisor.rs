//! The thread that keeps all connectors: it learns of definitions and credentials as the cores do,
//! says what is due, carries out the calls of polls, and answers what the cores ask.
//!
//! Control calls wait for this thread, so it does nothing that takes long: polls run on a thread of
//! their own (`poller`).
//!
//! A poll publishes through this thread alone. So a connector that is gone publishes nothing more:
//! its calls are refused from the moment on that the change is applied here, and the change counts
//! as applied only once the call that was on its way has been answered.

use super::address::Reach;
use super::calls::{Call, CallResult, CallSender, Calls};
use super::exchange::Source;
use super::github::{self, GitHub};
use super::http_source::HttpSource;
use super::poll::{Outcome, Polling};
use super::poller::{Order, PollerLink, Report};
use super::publisher::Publisher;
use super::schedule::{Ended, Pace};
use super::shares::Owner;
use super::timetable::Timetable;
use crate::api::ApiError;
use crate::api::connectors::definition::{Auth, parse_definition};
use crate::api::connectors::{ConnectorStatus, ShownConnector};
use crate::auth::{Access, BrowserPolicy, EncryptionKey, OwnedNamespace};
use crate::clock::{self, Monotonic};
use crate::control::{Change, Registry, StoredConnector};
use crate::faults;
use crate::limits::{
    MAILBOX_MESSAGES_MAX, POLL_SECONDS_BUILT_IN, REMEMBERED_ENTITIES_PER_OWNER_MAX,
};
use crate::model::{BUILT_IN_CONNECTORS, ConnectorId, RuntimeConfig, Timestamp};
use crate::report::{self, LogEvent, Value};
use crate::service::{ContextParts, Tenants};
use crate::shard::{
    ConnectorsAsked, ControlMessage, Counters, Inbox, MailboxSender, Message, Reply,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use url::Url;

/// Milliseconds after which the supervisor looks again for what sends no message: that the shards
/// are recovered, or that a core has room.
const LOOK_AGAIN_MS: u64 = 50;

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
    /// The way to the thread that polls.
    pub(crate) poller: PollerLink,
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
    poller: PollerLink,
    /// Calls of polls that are on their way.
    tasks: JoinSet<()>,
    /// The connectors whose calls those are.
    calling: Calling,
    /// For each change that does not count as applied yet, the connectors that went with it and
    /// have a call on its way.
    applying: Vec<HashSet<u64>>,
    /// The entities that the connectors of each owner remember.
    remembered: HashMap<Owner, usize>,
    clock: Monotonic,
}

/// Numbers of connectors that have a call on its way.
type Calling = Rc<RefCell<HashSet<u64>>>;

/// A connector has a call on its way, until this is dropped.
struct OnItsWay(Calling, u64);

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.borrow_mut().remove(&self.1);
    }
}

/// One connector that is defined, or has a credential.
struct Entry {
    number: u64,
    owner: Owner,
    /// What it may write.
    access: Access,
    /// Entities that it remembers.
    remembered: usize,
    interval_seconds: u32,
    kind: &'static str,
    enabled: bool,
    /// `None` while a poll has it, and if the definition can't be read.
    polling: Option<Box<Polling>>,
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
            .build()?;
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            let wake = parts.inbox.wake_descriptor().try_clone_to_owned()?;
            // No pipe but an event descriptor, which is read and polled as one; what takes any
            // descriptor is unsafe.
            let wake = pipe::Receiver::from_owned_fd_unchecked(wake)?;
            serve(parts, &wake, stop).await
        })
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
                new_namespaces: crate::model::Visibility::Public,
                runtime: RuntimeConfig::default(),
                browsers: BrowserPolicy::OPEN,
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
            poller: parts.poller,
            tasks: JoinSet::new(),
            calling: Calling::default(),
            applying: Vec::new(),
            remembered: HashMap::new(),
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
            let now_ms = self.clock.millis();
            self.timetable.set(entry.number, &entry.owner, now_ms);
        }
        self.numbers.insert(entry.number, id.clone());
        self.entries.insert(id.clone(), entry);
    }

    /// A connector is gone, or about to be made anew: its poll ends where it is.
    fn forget(&mut self, id: &ConnectorId) {
        if let Some(entry) = self.entries.remove(id) {
            self.timetable.remove(entry.number);
            self.numbers.remove(&entry.number);
            self.note_remembered(&entry.owner, entry.remembered, 0);
            self.order(Order::Cancel(entry.number));
        }
    }

    fn order(&self, order: Order) {
        match self.poller.orders.send(order) {
            // The thread that polls has ended, and the server is about to.
            Ok(()) | Err(_) => {}
        }
    }

    /// What a connector remembers has changed. Gives what its owner's remember in all.
    fn note_remembered(&mut self, owner: &Owner, before: usize, after: usize) -> usize {
        let total = self.remembered.entry(Arc::clone(owner)).or_default();
        *total = total.saturating_sub(before).saturating_add(after);
        let total = *total;
        if total == 0 {
            self.remembered.remove(owner);
        }
        total
    }

    fn entry(&self, id: &ConnectorId, stored: &StoredConnector, mut history: History) -> Entry {
        let access = if self.auth {
            OwnedNamespace::new(&id.owner).map_or(Access::Admin, Access::of_namespace)
        } else {
            Access::Open
        };
        let owner: Owner = (&*id.owner).into();
        let polling = match self.polling(id, &owner, stored) {
            Ok(polling) => Some(Box::new(polling)),
            Err(error) => {
                history.works = false;
                let error = format!("the stored definition can't be used: {error}");
                history.last_error = Some(error.into());
                None
            }
        };
        let auth = polling.as_ref().map(|polling| &polling.auth);
        let needs_credential = auth.is_some_and(|auth| *auth != Auth::None);
        let interval_seconds = polling
            .as_ref()
            .map_or(0, |polling| polling.interval_seconds);
        Entry {
            number: self.next_number,
            owner,
            access,
            remembered: 0,
            interval_seconds,
            kind: if stored.definition.is_some() {
                "http"
            } else {
                "github"
            },
            enabled: !needs_credential || stored.credential.is_some(),
            polling,
            pace: Pace::new(interval_seconds),
            history,
        }
    }

    /// All that the polls of a connector need.
    fn polling(
        &self,
        id: &ConnectorId,
        owner: &Owner,
        stored: &StoredConnector,
    ) -> Result<Polling, ApiError> {
        let source: Box<dyn Source>;
        let (auth, stream, interval_seconds): (_, Box<str>, _);
        match &stored.definition {
            None => {
                source = Box::new(GitHub::new(self.github.clone(), &id.owner));
                (auth, stream) = (Auth::Bearer, github::STREAM.into());
                interval_seconds = POLL_SECONDS_BUILT_IN;
            }
            Some(text) => {
                let (definition, _) = parse_definition(text.as_bytes(), &id.owner)?;
                (auth, stream) = (definition.auth.clone(), definition.stream.clone());
                interval_seconds = definition.interval_seconds;
                source = Box::new(HttpSource::new(definition));
            }
        }
        let calls = CallSender {
            number: self.next_number,
            reports: self.poller.report.clone(),
        };
        let is_guarded = self.auth && !self.allow_private;
        Ok(Polling {
            publisher: Publisher::new(calls, &stream, &id.name),
            id: id.clone(),
            owner: Arc::clone(owner),
            source,
            interval_seconds,
            auth,
            sealed: stored.credential.clone(),
            key: self.key.clone(),
            reach: match (&stored.definition, is_guarded) {
                (_, false) => Reach::Anywhere,
                (Some(_), true) => Reach::Public,
                (None, true) => Reach::Operators,
            },
        })
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Control(ControlMessage::Apply(change)) => {
                self.apply(&change);
                let calling = self.calling.borrow();
                let is_gone = |number: &&u64| !self.numbers.contains_key(number);
                let waits_for = calling.iter().filter(is_gone).copied().collect();
                drop(calling);
                self.applying.push(waits_for);
                self.tell_applied();
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
            Message::Changes { .. } | Message::Control(_) | Message::ShardStatistics { .. } => {}
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
            Change::Registered(_)
            | Change::TokenReplaced { .. }
            | Change::TokenMade { .. }
            | Change::TokenRevoked { .. }
            | Change::VisibilitySet { .. }
            | Change::TokensUsed(_)
            | Change::Configured(_) => {}
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

    /// Tells core 0 of the changes that count as applied by now.
    fn tell_applied(&mut self) {
        let calling = Rc::clone(&self.calling);
        let calling = calling.borrow();
        let calls = &self.calls;
        self.applying.retain_mut(|waits_for| {
            waits_for.retain(|number| calling.contains(number));
            if waits_for.is_empty() {
                calls.send(0, Message::Control(ControlMessage::Applied));
            }
            !waits_for.is_empty()
        });
    }

    /// Starts the polls that are due.
    fn start_due(&mut self) {
        while let Some(number) = self.timetable.start(self.clock.millis()) {
            let id = self.numbers.get(&number);
            let entry = id.and_then(|id| self.entries.get_mut(id));
            match entry.and_then(|entry| entry.polling.take()) {
                Some(polling) => self.order(Order::Poll(number, polling)),
                None => self.timetable.end(number),
            }
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Asked {
                number,
                call,
                answer,
            } => self.carry_out(number, call, answer),
            Report::Ended(number, parts) => self.end(number, parts),
        }
    }

    /// Begins a call of a poll, if its connector is still there.
    fn carry_out(&mut self, number: u64, call: Call, answer: oneshot::Sender<CallResult>) {
        let id = self.numbers.get(&number);
        let Some(entry) = id.and_then(|id| self.entries.get(id)) else {
            return;
        };
        self.calling.borrow_mut().insert(number);
        let on_its_way = OnItsWay(Rc::clone(&self.calling), number);
        let (calls, access) = (Rc::clone(&self.calls), entry.access.clone());
        self.tasks.spawn_local(async move {
            let result = calls.carry_out(access, call).await;
            drop(on_its_way);
            match answer.send(result) {
                // The poll was ended meanwhile.
                Ok(()) | Err(_) => {}
            }
        });
    }

    /// A poll has ended, by itself or because its connector is gone.
    fn end(&mut self, number: u64, parts: Option<(Box<Polling>, Outcome)>) {
        self.timetable.end(number);
        if let Some((_, outcome)) = &parts {
            self.calls.note_poll(outcome.result());
        }
        let Some(id) = self.numbers.get(&number).cloned() else {
            return;
        };
        let (Some((mut polling, outcome)), Some(entry)) = (parts, self.entries.get(&id)) else {
            return;
        };
        let (owner, before) = (Arc::clone(&entry.owner), entry.remembered);
        let mut remembered = polling.publisher.remembered();
        let total = self.note_remembered(&owner, before, remembered);
        if total > REMEMBERED_ENTITIES_PER_OWNER_MAX {
            polling.publisher.forget();
            self.note_remembered(&owner, remembered, 0);
            remembered = 0;
        }
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.polling = Some(polling);
        entry.remembered = remembered;
        entry.history.note(&id, &outcome);
        let ended = match outcome.error {
            None => Ended::Well,
            Some(error) => Ended::Badly(error.retry_after),
        };
        self.put_off(&id, ended);
    }

    /// Sets the time of a connector's next poll.
    fn put_off(&mut self, id: &ConnectorId, ended: Ended) {
        if let Some(entry) = self.entries.get_mut(id) {
            let delay_ms = entry.pace.next_ms(ended, fastrand::u64(..));
            let due_ms = self.clock.millis().saturating_add(delay_ms);
            self.timetable.set(entry.number, &entry.owner, due_ms);
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
                    report::say_with(
                        LogEvent::ConnectorRunning,
                        &[("connector", Value::Text(&name))],
                        &format!("connector {name}: running"),
                    );
                }
                self.works = true;
                self.last_error = None;
            }
            Some(error) => {
                if self.works || self.last_error.is_none() {
                    report::say_with(
                        LogEvent::ConnectorFailing,
                        &[("connector", Value::Text(&name))],
                        &format!("connector {name}: {error}"),
                    );
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
            Some(report) = supervisor.poller.reports.recv() => supervisor.take_report(report),
            Some(_) = supervisor.tasks.join_next(), if !supervisor.tasks.is_empty() => {
                supervisor.tell_applied();
            }
            () = calls.crowded() => {}
            () = supervisor.poller.orders.closed() => {
                return Err(io::Error::other("the thread that polls has ended"));
            }
            () = pause, if next_ms.is_some() => {}
        }
        inbox.wake_up();
    }
}
