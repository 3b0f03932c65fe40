//! Calls of polls to the service: each is begun as any front's call, and its poll waits for the
//! outcome.
//!
//! The thread of connectors is a member of the mailboxes without a shard, so every call goes to a
//! core and comes back as replies. The supervisor takes them out of the mailbox and hands them to
//! [`Calls::deliver`].

use crate::api::ApiError;
use crate::api::query::ReadQuery;
use crate::auth::Access;
use crate::clock;
use crate::control::Registry;
use crate::log::LocalLog;
use crate::service::{self, Begun, Caller, Context, ContextParts, Credentials, Outcome};
use crate::service::{publish, read};
use crate::shard::{Message, Reply, RequestId};
use std::cell::{Ref, RefCell, RefMut};
use std::collections::HashMap;
use tokio::sync::{Notify, mpsc};

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

    /// Reads an entity.
    ///
    /// # Errors
    /// If it can't be read now.
    pub(super) async fn read(&self, access: Access, id: &str) -> Result<Option<Vec<u8>>, ApiError> {
        let call = self.call(access, |context, caller| {
            read::begin(context, caller, (id, ReadQuery::default()))
        });
        match call.await {
            (Outcome::Failed(ApiError::NoEntity), _) => Ok(None),
            (Outcome::Failed(error), _) => Err(error),
            (_, json) => Ok(Some(json)),
        }
    }

    /// Publishes a batch; gives its answer.
    ///
    /// # Errors
    /// If the batch fails as a whole.
    pub(super) async fn publish(&self, access: Access, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let call = self.call(access, |context, caller| {
            publish::begin_batch(context, caller, body)
        });
        match call.await {
            (Outcome::Failed(error), _) => Err(error),
            (_, json) => Ok(json),
        }
    }

    /// Makes a call and waits for its outcome and its JSON.
    async fn call(
        &self,
        access: Access,
        begin: impl FnOnce(&mut Context<LocalLog>, &Caller<'_>) -> Result<Begun, ApiError>,
    ) -> (Outcome, Vec<u8>) {
        let serial = {
            let mut next = self.next_serial.borrow_mut();
            *next = next.wrapping_add(1);
            *next
        };
        let request_id = RequestId {
            connection: 0,
            generation: 0,
            serial,
        };
        let caller = Caller {
            request_id,
            address: None,
            credentials: Credentials::Own(access),
            behind_asked: false,
        };
        let (sender, mut replies) = mpsc::unbounded_channel();
        self.waiting.borrow_mut().insert(serial, sender);
        let begun = self.begin(|context| begin(context, &caller));
        let outcome = match begun {
            // On a core without a shard nothing waits for a commit point.
            Begun::Done(outcome, _) => outcome,
            Begun::Waiting(mut pending) => loop {
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

    fn begin(
        &self,
        begin: impl FnOnce(&mut Context<LocalLog>) -> Result<Begun, ApiError>,
    ) -> Begun {
        let mut context = self.context.borrow_mut();
        context.router.now = clock::now();
        let begun = begin(&mut context).unwrap_or_else(Begun::from);
        if context.router.sender.deliver() {
            self.crowded.notify_one();
        }
        begun
    }
}
