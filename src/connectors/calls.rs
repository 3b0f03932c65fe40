//! Calls of polls to the service: each is begun as any front's call, and its poll waits for the
//! outcome.
//!
//! ```text
//! poll ─CallSender─▶ supervisor ─Calls─▶ service ─mailbox─▶ shards
//!   ▲                                                         │
//!   └───────────────────────── answer ◀───────────────────────┘
//! ```
//!
//! The supervisor's thread is a member of the mailboxes without a shard, so every call goes to a
//! core and comes back as replies. The supervisor takes them out of the mailbox and hands them to
//! [`Calls::deliver`].

use super::poller::Report;
use crate::api::ApiError;
use crate::api::metrics::PollResult;
use crate::api::query::ReadQuery;
use crate::auth::Access;
use crate::clock;
use crate::control::Registry;
use crate::log::LocalLog;
use crate::service::{self, Begun, Caller, Context, ContextParts, Credentials, Outcome};
use crate::service::{batch, read};
use crate::shard::{Message, Reply, RequestId};
use std::cell::{Ref, RefCell, RefMut};
use std::collections::HashMap;
use tokio::sync::{Notify, mpsc, oneshot};

/// A call of a poll.
#[derive(Debug)]
pub(super) enum Call {
    /// Read an entity.
    Read(Box<str>),
    /// Publish the batch that is this JSON.
    Publish(Vec<u8>),
}

/// The JSON that a call is answered with.
pub(super) type CallResult = Result<Vec<u8>, ApiError>;

/// A poll's way to the supervisor, which carries its calls out.
#[derive(Debug, Clone)]
pub(super) struct CallSender {
    /// The connector.
    pub(super) number: u64,
    /// To the supervisor.
    pub(super) reports: mpsc::UnboundedSender<Report>,
}

impl CallSender {
    /// Reads an entity; `None` if there is none.
    ///
    /// # Errors
    /// If it can't be read now.
    pub(super) async fn read(&self, id: &str) -> Result<Option<Vec<u8>>, ApiError> {
        match self.ask(Call::Read(id.into())).await {
            Ok(json) => Ok(Some(json)),
            Err(ApiError::NoEntity) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Publishes a batch; gives its answer.
    ///
    /// # Errors
    /// If the batch fails as a whole.
    pub(super) async fn publish(&self, body: Vec<u8>) -> CallResult {
        self.ask(Call::Publish(body)).await
    }

    async fn ask(&self, call: Call) -> CallResult {
        let (answer, answered) = oneshot::channel();
        let number = self.number;
        let report = Report::Asked {
            number,
            call,
            answer,
        };
        // Unanswered if the server stops, or the connector is gone: its poll is about to be ended.
        self.reports.send(report).or(Err(ApiError::ShuttingDown))?;
        answered.await.unwrap_or(Err(ApiError::ShuttingDown))
    }
}

/// A reply, and the shard that it is from.
type Answer = (u16, Reply);

/// The way to the service, for all polls together.
#[derive(Debug)]
pub(super) struct Calls {
    context: RefCell<Context<LocalLog>>,
    /// The polls that wait, by the serial of their call.
    waiting: RefCell<HashMap<u32, mpsc::UnboundedSender<Answer>>>,
    next_serial: RefCell<u32>,
    /// Notified when a poll leaves a message for which a mailbox had no room.
    crowded: Notify,
}

impl Calls {
    /// Calls through a context whose core has no shard.
    pub(super) fn new(parts: ContextParts) -> Self {
        Self {
            context: RefCell::new(Context::new(parts)),
            waiting: RefCell::default(),
            next_serial: RefCell::new(0),
            crowded: Notify::new(),
        }
    }

    /// This thread's place among the members of the mailboxes.
    pub(super) fn core(&self) -> u16 {
        self.context.borrow().router.core
    }

    /// What the control plane says.
    pub(super) fn registry(&self) -> Ref<'_, Registry> {
        Ref::map(self.context.borrow(), |context| &context.tenants.registry)
    }

    /// What the control plane says, to be changed by it.
    pub(super) fn registry_mut(&self) -> RefMut<'_, Registry> {
        let context = self.context.borrow_mut();
        RefMut::map(context, |context| &mut context.tenants.registry)
    }

    /// True while polls may publish: all shards are recovered, and the server is not on its way
    /// out.
    pub(super) fn is_ready(&self) -> bool {
        let context = self.context.borrow();
        context.counters.is_ready() && !context.counters.is_stopping()
    }

    /// Counts a poll.
    pub(super) fn note_poll(&self, result: PollResult) {
        self.context.borrow().tally().note_poll(result);
    }

    /// Sends a message to a core.
    pub(super) fn send(&self, core: u16, message: Message) {
        let sender = &mut self.context.borrow_mut().router.sender;
        sender.send(core, message);
    }

    /// Sends the messages for which a mailbox had no room. True if some of them still have none.
    pub(super) fn deliver_kept(&self) -> bool {
        self.context.borrow_mut().router.sender.deliver()
    }

    /// Waits until a poll leaves a message for [`Calls::deliver_kept`].
    pub(super) async fn crowded(&self) {
        self.crowded.notified().await;
    }

    /// Takes a shard's reply.
    pub(super) fn deliver(&self, request_id: RequestId, answer: Answer) {
        let mut waiting = self.waiting.borrow_mut();
        let poll = waiting.get(&request_id.serial);
        // The poll that asked may have been ended meanwhile.
        if poll.is_some_and(|poll| poll.send(answer).is_err()) {
            waiting.remove(&request_id.serial);
        }
    }

    /// Carries out the call of a poll.
    ///
    /// # Errors
    /// If it comes to nothing.
    pub(super) async fn carry_out(&self, access: Access, call: Call) -> CallResult {
        let (outcome, json) = match call {
            Call::Read(id) => {
                let call = self.call(&access, |context, caller| {
                    read::begin(context, caller, (&id, ReadQuery::default()))
                });
                call.await
            }
            Call::Publish(body) => {
                let call = self.call(&access, |context, caller| {
                    batch::begin(context, caller, &body)
                });
                let done = call.await;
                if let Outcome::Failed(error) = &done.0 {
                    self.context.borrow().tally().note_refused(error);
                }
                done
            }
        };
        match outcome {
            Outcome::Failed(error) => Err(error),
            _ => Ok(json),
        }
    }

    /// Makes a call and waits for its outcome and its JSON.
    async fn call(
        &self,
        access: &Access,
        begin: impl FnOnce(&mut Context<LocalLog>, &Caller<'_>) -> Result<Begun, ApiError>,
    ) -> (Outcome, Vec<u8>) {
        let serial = {
            let mut next = self.next_serial.borrow_mut();
            *next = next.wrapping_add(1);
            *next
        };
        let request_id = RequestId {
            connection: RequestId::CONNECTOR,
            generation: 0,
            serial,
        };
        let caller = Caller {
            request_id,
            address: None,
            credentials: Credentials::Own(access),
            traceparent: None,
            takes_parts: false,
            behind_asked: false,
        };
        let (sender, mut replies) = mpsc::unbounded_channel();
        self.waiting.borrow_mut().insert(serial, sender);
        let begun = self.act(|context| begin(context, &caller).unwrap_or_else(Begun::from));
        let outcome = match begun {
            // On a core without a shard nothing waits for a commit point.
            Begun::Done(outcome, _) => outcome,
            Begun::Waiting(mut pending) => loop {
                if pending.is_unfinished() {
                    let slice = |context: &mut _| service::go_on(context, request_id, &mut pending);
                    if let Some(outcome) = self.act(slice) {
                        break outcome;
                    }
                    // Control calls wait for this thread.
                    tokio::task::yield_now().await;
                    continue;
                }
                let Some(answer) = replies.recv().await else {
                    break Outcome::Failed(ApiError::ShuttingDown);
                };
                let context = &mut self.context.borrow_mut();
                if let Some(outcome) = service::resume(context, request_id, &mut pending, answer) {
                    break outcome;
                }
            },
        };
        self.waiting.borrow_mut().remove(&serial);
        let json = std::mem::take(&mut self.context.borrow_mut().answer);
        (outcome, json)
    }

    /// Does something at this moment, and sends what it has for the cores.
    fn act<R>(&self, act: impl FnOnce(&mut Context<LocalLog>) -> R) -> R {
        let mut context = self.context.borrow_mut();
        context.router.now = clock::now();
        let done = act(&mut context);
        if context.router.sender.deliver() {
            self.crowded.notify_one();
        }
        done
    }
}
