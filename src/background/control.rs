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
use crate::control::{Change, Command, CommandRejection, ControlStore, Registry};
use crate::model::Timestamp;
use crate::reactor::runtime::spawn_blocking;
use crate::report;
use crate::shard::{Origin, Reply};
use flux_storage::StorageError;
use std::collections::VecDeque;
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

/// What a look at the helper thread found.
#[derive(Debug)]
pub(crate) enum Polled {
    /// Nothing new.
    Nothing,
    /// A change could not be stored; its answer is due.
    Failed,
    /// A change is durable. The controller waits to hear that every core has applied it.
    Durable(Arc<Change>),
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
    pub(crate) fn start_due(
        &mut self,
        calls: &mut VecDeque<(Origin, Command)>,
        registry: &Registry,
        now: Timestamp,
    ) {
        if !matches!(self.phase, Phase::Idle(_)) {
            return;
        }
        while let Some((origin, command)) = calls.pop_front() {
            match registry.decide(command) {
                Err(refusal) => self
                    .answers
                    .push((origin, Reply::Refused(refused(refusal)))),
                Ok(change) => {
                    let phase = std::mem::replace(&mut self.phase, Phase::None);
                    let Phase::Idle(mut store) = phase else {
                        return;
                    };
                    let change = Arc::new(change);
                    let stored = Arc::clone(&change);
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

    /// Takes what is finished: a change that is durable is to be put into force on every core, and the supervisor of
    /// connectors learns of it as they do.
    pub(crate) fn poll(&mut self, cores: u16, context: &mut Context<'_>) -> Polled {
        let Phase::Storing { task, .. } = &mut self.phase else {
            return Polled::Nothing;
        };
        let Poll::Ready((store, result)) = task.as_mut().poll(context) else {
            return Polled::Nothing;
        };
        let phase = std::mem::replace(&mut self.phase, Phase::None);
        let Phase::Storing { change, origin, .. } = phase else {
            return Polled::Nothing;
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
            return Polled::Failed;
        }
        self.phase = Phase::Telling {
            store,
            waiting: cores,
            origin,
        };
        Polled::Durable(change)
    }

    /// A core, perhaps this one, has applied the change.
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
    pub(crate) async fn finish(&mut self) {
        while self.is_waiting() {
            std::future::poll_fn(|context| match self.poll(0, context) {
                Polled::Nothing => Poll::Pending,
                Polled::Failed | Polled::Durable(_) => Poll::Ready(()),
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
