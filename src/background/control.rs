//! The control plane as the server runs it. Core 0 carries out all calls, one at a time:
//!
//! ```text
//! decide ──▶ store and flush (helper thread) ──▶ apply here ──▶ tell every core ──all have applied it──▶ answer
//!                                                               and the supervisor of connectors
//! ```
//!
//! So whoever has an answer finds it in force on every core, and after any crash.

use super::flush::refusal;
use crate::api::ApiError;
use crate::control::{Change, Command, CommandRejection, ControlStore};
use crate::limits::CONTROL_CALLS_MAX;
use crate::reactor::runtime::spawn_blocking;
use crate::report;
use crate::service::context::Hub;
use crate::shard::{ControlMessage, Message, Origin, Reply, RequestId};
use flux_storage::StorageError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

type Stored = (ControlStore, Result<(), StorageError>);

/// Core 0's part. On other cores it has nothing to do.
pub(crate) struct Controller {
    phase: Phase,
    /// Answers that are due.
    pub(crate) answers: Vec<(Origin, Reply)>,
}

enum Phase {
    /// Another core's, or closed.
    None,
    Idle(ControlStore),
    /// A change is on its way to the disk.
    Storing {
        task: Pin<Box<dyn Future<Output = Stored>>>,
        change: Arc<Change>,
        origin: Origin,
    },
    /// It is durable; so many cores have not applied it.
    Telling {
        store: ControlStore,
        waiting: u16,
        origin: Origin,
    },
}

impl Controller {
    /// `store`: core 0's.
    pub(crate) fn new(store: Option<ControlStore>) -> Self {
        Self {
            phase: store.map_or(Phase::None, Phase::Idle),
            answers: Vec::new(),
        }
    }

    /// True while a helper thread has something to do.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Storing { .. })
    }

    /// Begins the next call.
    pub(crate) fn start_due(&mut self, hub: &mut Hub) {
        if !matches!(self.phase, Phase::Idle(_)) {
            return;
        }
        while let Some((origin, command)) = hub.control_calls.pop_front() {
            match hub.registry.decide(command) {
                Err(refusal) => self
                    .answers
                    .push((origin, Reply::Refused(refused(refusal)))),
                Ok(change) => {
                    let phase = std::mem::replace(&mut self.phase, Phase::None);
                    let Phase::Idle(mut store) = phase else {
                        return;
                    };
                    let change = Arc::new(change);
                    let (now, stored) = (hub.now, Arc::clone(&change));
                    let task = spawn_blocking(move || {
                        let result = store.append(now, &stored);
                        (store, result)
                    });
                    self.phase = Phase::Storing {
                        task,
                        change,
                        origin,
                    };
                    return;
                }
            }
        }
    }

    /// Takes a change that is durable. True where there was one.
    pub(crate) fn poll(&mut self, hub: &mut Hub, context: &mut Context<'_>) -> bool {
        let Phase::Storing { task, .. } = &mut self.phase else {
            return false;
        };
        let Poll::Ready((store, result)) = task.as_mut().poll(context) else {
            return false;
        };
        let phase = std::mem::replace(&mut self.phase, Phase::None);
        let Phase::Storing { change, origin, .. } = phase else {
            return false;
        };
        if let Err(error) = result {
            report::warning(&format!("a control call was not stored: {error}"));
            let refused = if store.has_failed() {
                ApiError::StorageFault
            } else {
                refusal(&error)
            };
            self.answers.push((origin, Reply::Refused(refused)));
            self.phase = Phase::Idle(store);
            return true;
        }
        hub.apply(&change);
        // The supervisor of connectors, behind the cores, learns of everything as they do.
        for core in (0..=hub.shards).filter(|core| *core != hub.core) {
            let message = ControlMessage::Apply(Arc::clone(&change));
            hub.sender.send(core, Message::Control(message));
        }
        self.phase = Phase::Telling {
            store,
            waiting: hub.shards,
            origin,
        };
        self.finish_telling();
        true
    }

    /// Another core has applied the change.
    pub(crate) fn applied(&mut self) {
        if let Phase::Telling { waiting, .. } = &mut self.phase {
            *waiting = waiting.saturating_sub(1);
        }
        self.finish_telling();
    }

    fn finish_telling(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::None) {
            Phase::Telling {
                store,
                waiting: 0,
                origin,
            } => {
                self.answers.push((origin, Reply::Controlled));
                self.phase = Phase::Idle(store);
            }
            phase => self.phase = phase,
        }
    }

    /// Finishes what is on its way to the disk, and closes the log.
    pub(crate) async fn finish(&mut self, hub: &mut Hub) {
        while self.is_waiting() {
            std::future::poll_fn(|context| {
                if self.poll(hub, context) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
        match std::mem::replace(&mut self.phase, Phase::None) {
            Phase::Idle(store) | Phase::Telling { store, .. } => {
                if let Err(error) = store.close() {
                    report::warning(&format!("the control log was not closed in order: {error}"));
                }
            }
            Phase::None | Phase::Storing { .. } => {}
        }
    }
}

impl Hub {
    /// Asks for a change of the control plane. The reply comes to `ticket`: [`Reply::Controlled`] when it is in force
    /// on every core.
    ///
    /// # Errors
    /// Where too many wait.
    pub(crate) fn ask_control(
        &mut self,
        request_id: RequestId,
        command: Command,
    ) -> Result<(), ApiError> {
        let origin = Origin {
            core: self.core,
            request_id,
        };
        if self.core == 0 {
            return self.take_control_call(origin, command);
        }
        if !self.sender.has_room(0) {
            return Err(ApiError::Overloaded);
        }
        let message = ControlMessage::Ask { origin, command };
        self.sender.send(0, Message::Control(message));
        Ok(())
    }

    /// Takes a call to be carried out on this core.
    ///
    /// # Errors
    /// Where too many wait.
    pub(crate) fn take_control_call(
        &mut self,
        origin: Origin,
        command: Command,
    ) -> Result<(), ApiError> {
        if self.control_calls.len() >= CONTROL_CALLS_MAX {
            return Err(ApiError::Overloaded);
        }
        self.control_calls.push_back((origin, command));
        Ok(())
    }

    /// Puts a change into force on this core.
    pub(crate) fn apply(&mut self, change: &Change) {
        self.registry.apply(change);
        match change {
            Change::Registered(namespace) => self.note_registered(&namespace.name, true),
            Change::TokenReplaced { name, .. } => {
                if let Some(shard) = &mut self.shard {
                    shard.revoke(name);
                }
            }
            Change::Deleted { name } => {
                self.note_registered(name, false);
                if let Some(shard) = &mut self.shard {
                    shard.revoke(name);
                    shard.limiter_mut().forget(name);
                }
            }
            Change::Configured(patch) => {
                self.runtime = self.runtime.with(patch);
                self.configure_shard();
            }
            // The business of their supervisor.
            Change::ConnectorDefined { .. }
            | Change::ConnectorRemoved(_)
            | Change::CredentialStored { .. }
            | Change::CredentialRemoved(_) => {}
        }
    }

    /// Tells a shard that was just opened what the control plane knows.
    pub(crate) fn acquaint_shard(&mut self) {
        self.configure_shard();
        let (core, shards) = (self.core, self.shards);
        if let Some(shard) = &mut self.shard {
            for namespace in self.registry.list(None) {
                if crate::model::place_key(&namespace.name, shards) == core {
                    let names = shard.engine_mut().namespaces_mut();
                    names.set_registered(&namespace.name, true);
                }
            }
        }
    }

    fn configure_shard(&mut self) {
        let enabled = self.config.auth && self.runtime.rate_limit_enabled;
        let per_minute = self.runtime.rate_limit_per_namespace_per_minute;
        if let Some(shard) = &mut self.shard {
            shard.limiter_mut().configure(enabled, per_minute);
        }
    }

    fn note_registered(&mut self, name: &str, registered: bool) {
        if crate::model::place_key(name, self.shards) == self.core
            && let Some(shard) = &mut self.shard
        {
            let names = shard.engine_mut().namespaces_mut();
            names.set_registered(name, registered);
        }
    }
}

fn refused(refusal: CommandRejection) -> ApiError {
    match refusal {
        CommandRejection::Taken => ApiError::NamespaceTaken,
        CommandRejection::Unknown => ApiError::NoNamespace,
        CommandRejection::TokenDead => ApiError::TokenUnknown,
        CommandRejection::ConnectorTaken => ApiError::ConnectorTaken,
        CommandRejection::NoConnector => ApiError::NoConnector,
        CommandRejection::BuiltIn => ApiError::ConnectorBuiltIn,
        CommandRejection::NoCredential => ApiError::NoCredential,
        CommandRejection::TooManyConnectors => ApiError::TooManyConnectors,
    }
}
