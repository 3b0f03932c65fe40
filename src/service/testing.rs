//! Cores without sockets, for tests of the service: contexts over logs in memory, and messages that
//! travel when a test says so.

use super::list::ListStep;
use super::{Begun, Caller, Context, ContextParts, Credentials, Outcome, Pending, Tenants};
use super::{control, history, on_decoded, resume};
use crate::api::ApiError;
use crate::auth::{BrowserPolicy, TokenHash};
use crate::control::{Change, Registry};
use crate::engine::{Engine, RecentIds};
use crate::log::{Log as _, MemoryLog};
use crate::model::Slicing;
use crate::model::{CommitPoint, DedupWindow, Durability, RuntimeConfig, Timestamp};
use crate::shard::{
    ControlMessage, Counters, Inbox, Message, Origin, Reply, RequestId, Shard, mailboxes,
};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Memory for clients.
const MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// The operator's token in auth mode.
pub(crate) const OPERATOR: &str = "operator-token";

/// See the module.
pub(crate) struct TestCores {
    cores: Vec<TestCore>,
    /// The connectors' supervisor, whose messages nobody takes.
    supervisor: Inbox,
    last_serial: u32,
    /// The index and generation of the connection that calls.
    connection: (u32, u32),
    /// Replies of shards that were taken.
    replies: usize,
}

struct TestCore {
    context: Context<MemoryLog>,
    inbox: Inbox,
}

/// A call that was begun.
pub(crate) struct TestCall {
    core: usize,
    request_id: RequestId,
    /// The parts of a listing so far.
    listed: String,
    state: State,
}

enum State {
    Waiting(Pending),
    /// What it came to, its JSON, and what must be durable before anybody may see it.
    Over(Outcome, String, CommitPoint),
}

/// For how long ids are known.
const DEDUP_WINDOW: DedupWindow = DedupWindow {
    seconds: 600,
    events: 1000,
};

impl TestCores {
    /// So many cores without auth, each with an empty shard, in `sync` durability.
    pub(crate) fn new(shards: u16) -> Self {
        Self::with(shards, |_| {})
    }

    /// The same in auth mode.
    pub(crate) fn with_auth(shards: u16) -> Self {
        Self::with(shards, |tenants| {
            tenants.auth = true;
            tenants.admin = Some(TokenHash::of(OPERATOR.as_bytes()));
        })
    }

    /// In auth mode, without an operator.
    pub(crate) fn with_open_registration(shards: u16) -> Self {
        Self::with(shards, |tenants| tenants.auth = true)
    }

    fn with(shards: u16, change: impl Fn(&mut Tenants)) -> Self {
        let counters = Arc::new(Counters::new(usize::from(shards), MEMORY_BYTES));
        let mut members = mailboxes(usize::from(shards) + 1).unwrap();
        let (supervisor, _) = members.pop().unwrap();
        let cores = (0..shards).zip(members).map(|(core, (inbox, sender))| {
            let mut tenants = Tenants {
                auth: false,
                admin: None,
                registry: Registry::default(),
                new_namespaces: crate::model::Visibility::Public,
                runtime: RuntimeConfig::default(),
                browsers: BrowserPolicy::OPEN,
            };
            change(&mut tenants);
            let mut context = Context::new(ContextParts {
                core,
                shards,
                sender,
                tenants,
                counters: Arc::clone(&counters),
                encryption_key: None,
                seed: u64::from(core),
            });
            context.slicing = Slicing::SMALL;
            context.router.now = Timestamp::from_micros(1_000_000);
            TestCore { context, inbox }
        });
        let mut cores = Self {
            cores: cores.collect(),
            supervisor,
            last_serial: 0,
            connection: (0, 0),
            replies: 0,
        };
        for core in 0..usize::from(shards) {
            cores.open_shard(core);
        }
        cores
    }

    /// The log of a core is replayed.
    pub(crate) fn open_shard(&mut self, core: usize) {
        let context = &mut self.cores[core].context;
        let (mut engine, mut log) = (Engine::default(), MemoryLog::new());
        let ids = RecentIds::new(DEDUP_WINDOW);
        engine
            .remember_ids(&mut log, ids, Timestamp::default(), &mut || ())
            .unwrap();
        let shard = Shard::new(engine, log, Durability::Sync, 1);
        context.router.shard = Some(shard.with_slicing(Slicing::SMALL));
        let own = context.counters.of(context.router.core);
        own.ready.store(1, Relaxed);
        control::acquaint_shard(context);
    }

    /// The log of a core is not replayed yet.
    pub(crate) fn close_shard(&mut self, core: usize) {
        let context = &mut self.cores[core].context;
        context.router.shard = None;
        let own = context.counters.of(context.router.core);
        own.ready.store(0, Relaxed);
    }

    /// What begins from now on comes from this connection: its index and generation.
    pub(crate) fn call_from(&mut self, connection: (u32, u32)) {
        self.connection = connection;
    }

    /// The clocks of all cores say so many microseconds from now on.
    pub(crate) fn set_clocks(&mut self, micros: u64) {
        let now = Timestamp::from_micros(i64::try_from(micros).unwrap());
        for core in &mut self.cores {
            core.context.router.now = now;
            if let Some(shard) = &mut core.context.router.shard {
                shard.advance(now, micros);
            }
        }
    }

    /// Replies of shards that calls were given so far.
    pub(crate) fn replies(&self) -> usize {
        self.replies
    }

    /// What a core offers.
    pub(crate) fn context(&mut self, core: usize) -> &mut Context<MemoryLog> {
        &mut self.cores[core].context
    }

    /// Messages that wait for the supervisor of connectors.
    pub(crate) fn asked_supervisor(&self) -> usize {
        std::iter::from_fn(|| self.supervisor.take()).count()
    }

    /// Begins a call on a core, with a token or none.
    pub(crate) fn begin(
        &mut self,
        (core, token): (usize, Option<&str>),
        call: impl FnOnce(&mut Context<MemoryLog>, &Caller<'_>) -> Result<Begun, ApiError>,
    ) -> TestCall {
        self.last_serial += 1;
        let request_id = RequestId {
            connection: self.connection.0,
            generation: self.connection.1,
            serial: self.last_serial,
        };
        let authorization = token.map(|token| format!("Bearer {token}"));
        let caller = Caller {
            request_id,
            address: None,
            credentials: match &authorization {
                None => Credentials::None,
                Some(value) => Credentials::Authorization(value.as_bytes()),
            },
            traceparent: None,
            takes_parts: true,
            behind_asked: false,
        };
        let context = &mut self.cores[core].context;
        let state = match call(context, &caller).unwrap_or_else(Begun::from) {
            Begun::Done(outcome, point) => State::Over(outcome, json(context), point),
            Begun::Waiting(pending) => State::Waiting(pending),
        };
        TestCall {
            core,
            request_id,
            listed: String::new(),
            state,
        }
    }

    /// Runs a call to its end, flushes included. Returns what it came to, and its JSON.
    pub(crate) fn run(
        &mut self,
        by: (usize, Option<&str>),
        call: impl FnOnce(&mut Context<MemoryLog>, &Caller<'_>) -> Result<Begun, ApiError>,
    ) -> (Outcome, String) {
        let mut call = self.begin(by, call);
        self.finish(&mut call);
        call.over()
    }

    /// Lets a call go on to its end, flushes included.
    pub(crate) fn finish(&mut self, call: &mut TestCall) {
        for _ in 0..100 {
            if let State::Over(..) = call.state {
                return;
            }
            self.flush();
            self.deliver(call);
        }
    }

    /// Flushes every log.
    pub(crate) fn flush(&mut self) {
        for core in &mut self.cores {
            if let Some(shard) = &mut core.context.router.shard {
                shard.flush_begins();
                shard.log_mut().flush_blocking().unwrap();
            }
        }
    }

    /// Gives a call the replies to it that may be seen. No shard does a slice of what is left.
    pub(crate) fn deliver_replies(&mut self, call: &mut TestCall) {
        let core = &mut self.cores[call.core];
        let (own, mut released) = (core.context.router.core, Vec::new());
        if let Some(shard) = &mut core.context.router.shard {
            shard.release(|origin, reply| released.push((origin.request_id, reply)));
        }
        for (request_id, reply) in released {
            let message = Message::Reply {
                from: own,
                request_id,
                reply,
            };
            self.take(call.core, message, call);
        }
    }

    /// Lets messages travel until none is left, and gives a call the replies to it.
    pub(crate) fn deliver(&mut self, call: &mut TestCall) {
        loop {
            let mut moved = false;
            for index in 0..self.cores.len() {
                let core = &mut self.cores[index];
                assert_eq!(history::start_due(&mut core.context), [], "it can be asked");
                let own = core.context.router.core;
                let mut released = Vec::new();
                if let Some(shard) = &mut core.context.router.shard {
                    finish(shard, core.context.router.now);
                    shard.release(|origin, reply| released.push((origin, reply)));
                }
                let sender = &mut core.context.router.sender;
                moved |= !released.is_empty();
                for (origin, reply) in released {
                    let message = Message::Reply {
                        from: own,
                        request_id: origin.request_id,
                        reply,
                    };
                    sender.send(origin.core, message);
                }
                sender.deliver();
                let messages: Vec<Message> = std::iter::from_fn(|| core.inbox.take()).collect();
                for message in messages {
                    moved = true;
                    self.take(index, message, call);
                }
                moved |= self.decide(index);
                moved |= self.go_on(call);
                moved |= self.decode(call);
                moved |= self.advance(call);
            }
            if !moved {
                return;
            }
        }
    }

    fn take(&mut self, index: usize, message: Message, call: &mut TestCall) {
        self.replies += usize::from(matches!(message, Message::Reply { .. }));
        let context = &mut self.cores[index].context;
        match message {
            Message::Request(envelope) => match &mut context.router.shard {
                Some(shard) => shard.request(envelope, context.router.now),
                None => self.reply(index, envelope.origin, Reply::Refused(ApiError::NotReady)),
            },
            Message::Reply {
                from,
                request_id,
                reply,
            } => {
                assert_eq!((index, request_id), (call.core, call.request_id));
                let State::Waiting(pending) = &mut call.state else {
                    return;
                };
                if let Some(outcome) = resume(context, request_id, pending, (from, reply)) {
                    call.state = State::Over(outcome, json(context), CommitPoint::NONE);
                }
            }
            Message::Control(ControlMessage::Ask { origin, command }) => {
                control::enqueue(context, origin, command).unwrap();
            }
            message => panic!("not expected: {message:?}"),
        }
    }

    /// Carries out the control calls of a core, as the control plane does.
    fn decide(&mut self, index: usize) -> bool {
        let mut moved = false;
        while let Some((origin, command)) = self.cores[index].context.control_calls.pop_front() {
            moved = true;
            let registry = &self.cores[index].context.tenants.registry;
            let reply = match registry.decide(command) {
                Err(rejection) => panic!("rejected: {rejection:?}"),
                Ok(change) => {
                    self.apply(&change);
                    Reply::Controlled
                }
            };
            self.reply(index, origin, reply);
        }
        moved
    }

    /// Puts a change into force on every core.
    pub(crate) fn apply(&mut self, change: &Change) {
        for core in &mut self.cores {
            control::apply(&mut core.context, change);
        }
    }

    fn reply(&mut self, from: usize, origin: Origin, reply: Reply) {
        let router = &mut self.cores[from].context.router;
        let message = Message::Reply {
            from: router.core,
            request_id: origin.request_id,
            reply,
        };
        router.sender.send(origin.core, message);
    }

    /// Does a slice of a call, as its front does in a turn. False if there is nothing to do.
    pub(crate) fn go_on(&mut self, call: &mut TestCall) -> bool {
        let context = &mut self.cores[call.core].context;
        let State::Waiting(pending) = &mut call.state else {
            return false;
        };
        if let Pending::Batch(batch) = pending
            && let Some(len) = batch.answer_len()
        {
            let is_last = batch.answer_part(context);
            call.listed.push_str(&json(context));
            if is_last {
                let text = std::mem::take(&mut call.listed);
                assert_eq!(text.len() as u64, len, "as long as it was said to be");
                call.state = State::Over(Outcome::Done, text, CommitPoint::NONE);
            }
            return true;
        }
        if !pending.is_unfinished() {
            return false;
        }
        if let Some(outcome) = super::go_on(context, call.request_id, pending) {
            call.state = State::Over(outcome, json(context), CommitPoint::NONE);
        }
        true
    }

    /// Decodes the body of a call, as its core's helper thread does. False if there is none.
    pub(crate) fn decode(&mut self, call: &mut TestCall) -> bool {
        let context = &mut self.cores[call.core].context;
        let Some(job) = context.decodes.next_job() else {
            return false;
        };
        let result = job(&mut context.ids);
        assert_eq!(context.decodes.on_job_end(), Some(call.request_id));
        if let State::Waiting(pending) = &mut call.state
            && let Some(outcome) = on_decoded(pending, result)
        {
            call.state = State::Over(outcome, json(context), CommitPoint::NONE);
        }
        true
    }

    /// Lets a listing go on, as its front does; its parts are joined. Begins what is deferred.
    fn advance(&mut self, call: &mut TestCall) -> bool {
        if let State::Waiting(Pending::Deferred(_)) = &call.state {
            let taken = std::mem::replace(&mut call.state, State::Waiting(Pending::Read(None)));
            let State::Waiting(Pending::Deferred(read)) = taken else {
                return false;
            };
            let context = &mut self.cores[call.core].context;
            let caller = Caller {
                request_id: call.request_id,
                address: None,
                credentials: Credentials::None,
                behind_asked: false,
                traceparent: None,
                takes_parts: true,
            };
            let begun = read.begin(context, &caller);
            call.state = match begun.unwrap_or_else(Begun::from) {
                Begun::Done(outcome, point) => State::Over(outcome, json(context), point),
                Begun::Waiting(pending) => State::Waiting(pending),
            };
            return true;
        }
        let State::Waiting(Pending::List(listing)) = &mut call.state else {
            return false;
        };
        let context = &mut self.cores[call.core].context;
        loop {
            let step = listing.advance(context, call.request_id);
            call.listed.push_str(&json(context));
            match step.expect("shards can be asked") {
                ListStep::Part => {}
                ListStep::Waiting => return false,
                ListStep::Last => {
                    let point = CommitPoint::NONE;
                    let text = std::mem::take(&mut call.listed);
                    call.state = State::Over(Outcome::Done, text, point);
                    return true;
                }
                ListStep::Page(outcome) => {
                    let text = std::mem::take(&mut call.listed);
                    call.state = State::Over(outcome, text, CommitPoint::NONE);
                    return true;
                }
            }
        }
    }
}

impl TestCall {
    /// Where replies to it go.
    pub(crate) fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// What it came to, and its JSON.
    pub(crate) fn over(self) -> (Outcome, String) {
        match self.state {
            State::Over(outcome, json, _) => (outcome, json),
            State::Waiting(pending) => panic!("still waits: {pending:?}"),
        }
    }

    /// What it came to; `None` if it still waits.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Waiting(_) => None,
            State::Over(outcome, ..) => Some(outcome),
        }
    }

    /// True if its connection is not read before it is answered.
    pub(crate) fn is_sliced(&self) -> bool {
        matches!(&self.state, State::Waiting(pending) if pending.is_sliced())
    }

    /// What must be durable before anybody may see what it came to; `None` if it still waits.
    pub(crate) fn commit_point(&self) -> Option<CommitPoint> {
        match &self.state {
            State::Waiting(_) => None,
            State::Over(_, _, point) => Some(*point),
        }
    }
}

fn json(context: &Context<MemoryLog>) -> String {
    String::from_utf8(context.answer.clone()).unwrap()
}

/// Does all slices of what was left for later turns.
fn finish(shard: &mut Shard<MemoryLog>, now: Timestamp) {
    while shard.has_work() {
        shard.go_on(now);
    }
}
