//! The control plane as the server runs it. Core 0 carries out all calls, one at a time:
//!
//! ```text
//! decide ──▶ store and flush (helper thread) ──▶ apply here ──▶ tell every core
//!      and the supervisor of connectors ──all cores have applied it──▶ answer
//! ```
//!
//! So whoever has an answer finds it in force on every core, and after any crash.

use super::flush;
use super::job::{Jobs, Lane, WorkerResult};
use crate::api::ApiError;
use crate::control::{Change, Command, CommandRejection, ControlRates, ControlStore, Registry};
use crate::log::Log;
use crate::model::Timestamp;
use crate::report::{self, LogEvent};
use crate::shard::{Origin, Reply};
use flux_storage::StorageError;
use std::collections::VecDeque;
use std::sync::Arc;

/// The store, as it comes back from the helper thread, and whether the change is durable.
pub(crate) type Stored = (ControlStore, Result<(), StorageError>);

/// Core 0's part. On other cores it has nothing to do.
pub(crate) struct Controller {
    phase: Phase,
    rates: ControlRates,
    /// Answers that are due.
    pub(crate) answers: Vec<(Origin, Reply)>,
}

enum Phase {
    /// Another core's, or closed.
    None,
    Idle(ControlStore),
    /// A helper thread has the store: a change is on its way to the disk.
    Storing {
        change: Arc<Change>,
        origin: Origin,
    },
    /// It is durable; `waiting` of its receivers have not applied it yet.
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
            rates: ControlRates::default(),
            answers: Vec::new(),
        }
    }

    /// True while a helper thread has something to do.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Storing { .. })
    }

    /// Begins the next call that changes anything; the others are answered.
    pub(crate) fn start_due<L: Log>(
        &mut self,
        calls: &mut VecDeque<(Origin, Command)>,
        (registry, now): (&Registry, Timestamp),
        jobs: &mut Jobs<L>,
    ) {
        while matches!(self.phase, Phase::Idle(_))
            && let Some((origin, command)) = calls.pop_front()
        {
            let payer = command.payer();
            let decided = registry.decide(command);
            let paid = decided.and_then(|change| self.charge(payer, change, now));
            match paid {
                Err(rejection) => {
                    let reply = Reply::Refused(rejected(rejection));
                    self.answers.push((origin, reply));
                }
                Ok(change) => self.store(Arc::new(change), (origin, now), jobs),
            }
        }
    }

    /// Takes what a change costs from whoever pays for it.
    fn charge(
        &mut self,
        payer: Option<Box<str>>,
        change: Change,
        now: Timestamp,
    ) -> Result<Change, CommandRejection> {
        if let Some(payer) = payer {
            self.rates.take((&payer, &change), now)?;
        }
        Ok(change)
    }

    fn store<L: Log>(
        &mut self,
        change: Arc<Change>,
        (origin, now): (Origin, Timestamp),
        jobs: &mut Jobs<L>,
    ) {
        let stored = Arc::clone(&change);
        let storing = Phase::Storing { change, origin };
        let Phase::Idle(mut store) = std::mem::replace(&mut self.phase, storing) else {
            return;
        };
        jobs.push(Lane::Control, move || {
            let result = store.append(now, &stored);
            WorkerResult::ControlStored(Box::new((store, result)))
        });
    }

    /// A change was stored, or not. If it was, `cores` cores have to apply it, and the supervisor
    /// of connectors too.
    pub(crate) fn on_stored(&mut self, (store, result): Stored, cores: u16) -> Option<Arc<Change>> {
        let phase = std::mem::replace(&mut self.phase, Phase::None);
        let Phase::Storing { change, origin } = phase else {
            return None;
        };
        if let Err(error) = result {
            report::say(
                LogEvent::ControlNotStored,
                &format!("a control call was not stored: {error}"),
            );
            let rejection = if store.has_failed() {
                ApiError::StorageFault
            } else {
                flush::rejection(&error)
            };
            self.answers.push((origin, Reply::Refused(rejection)));
            self.phase = Phase::Idle(store);
            return None;
        }
        self.phase = Phase::Telling {
            store,
            // The supervisor of connectors is one more.
            waiting: cores.saturating_add(1),
            origin,
        };
        Some(change)
    }

    /// A core, perhaps this one, or the supervisor of connectors has applied the change.
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

    /// Notes in the log when tokens were last used, and closes it. Nothing may be on its way to
    /// the disk.
    pub(crate) fn close(&mut self, (registry, now): (&Registry, Timestamp)) {
        match std::mem::replace(&mut self.phase, Phase::None) {
            Phase::Idle(mut store) | Phase::Telling { mut store, .. } => {
                let mut uses = registry.tokens().unstored_uses().into_iter();
                if let Some(error) = uses.find_map(|change| store.append(now, &change).err()) {
                    report::say(
                        LogEvent::TokenUsesLost,
                        &format!("the last uses of tokens are lost: {error}"),
                    );
                }
                if let Err(error) = store.close() {
                    report::say(
                        LogEvent::ControlNotClosed,
                        &format!("the control log was not closed in order: {error}"),
                    );
                }
            }
            Phase::None | Phase::Storing { .. } => {}
        }
    }
}

fn rejected(rejection: CommandRejection) -> ApiError {
    match rejection {
        CommandRejection::Taken => ApiError::NamespaceTaken,
        CommandRejection::Unknown => ApiError::NoNamespace,
        CommandRejection::TokenDead => ApiError::TokenUnknown,
        CommandRejection::NoToken => ApiError::NoToken,
        CommandRejection::TooManyTokens => ApiError::TooManyTokens,
        CommandRejection::ConnectorTaken => ApiError::ConnectorTaken,
        CommandRejection::NoConnector => ApiError::NoConnector,
        CommandRejection::BuiltIn => ApiError::ConnectorBuiltIn,
        CommandRejection::NoCredential => ApiError::NoCredential,
        CommandRejection::TooManyConnectors => ApiError::TooManyConnectors,
        CommandRejection::TooManyChanges { seconds } => ApiError::TooManyChanges { seconds },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LocalLog;
    use crate::model::ConfigPatch;
    use crate::shard::RequestId;
    use flux_storage::{DataDir, LogOptions};

    #[test]
    fn a_call_is_answered_when_every_core_and_the_supervisor_have_applied_it() {
        const CORES: u16 = 3;
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), u32::from(CORES), LogOptions::default()).unwrap();
        let (store, registry) = ControlStore::open(&data).unwrap();
        let mut controller = Controller::new(Some(store));
        let origin = Origin {
            core: 1,
            request_id: RequestId {
                connection: 0,
                generation: 0,
                serial: 0,
            },
        };
        let command = Command::Configure(ConfigPatch::default());
        let mut calls = VecDeque::from([(origin, command)]);
        let mut jobs = Jobs::<LocalLog>::default();
        controller.start_due(&mut calls, (&registry, Timestamp::default()), &mut jobs);
        let job = jobs.drain().next().expect("a job");
        let WorkerResult::ControlStored(stored) = (job.run)() else {
            panic!("another result");
        };
        assert!(controller.on_stored(*stored, CORES).is_some());
        for applied in 1..=CORES {
            controller.applied();
            assert!(controller.answers.is_empty(), "after {applied} of them");
        }
        controller.applied();
        assert_eq!(controller.answers.len(), 1);
        controller.close((&registry, Timestamp::default()));
    }
}
