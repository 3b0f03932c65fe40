//! The thread that polls: it fetches, reads and compares, and asks the supervisor for all that
//! concerns the rest of the server.
//!
//! It may be busy for as long as it likes: the supervisor, which control calls wait for, has a
//! thread of its own. All polls are tasks of this one thread and give way to each other between
//! slices of their answers.

use super::address::Allowed;
use super::calls::{Call, CallResult};
use super::exchange::PollError;
use super::fetch::Fetcher;
use super::memory::Memory;
use super::poll::{Outcome, Polling};
use crate::faults;
use crate::limits::LOOKUPS_MAX;
use crate::shard::Counters;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinSet, LocalSet};

/// From the supervisor.
pub(super) enum Order {
    /// Poll this connector.
    Poll(u64, Box<Polling>),
    /// This connector is gone: its poll ends where it is.
    Cancel(u64),
}

/// To the supervisor. Bounded by the polls in flight: each makes one call at a time.
pub(crate) enum Report {
    /// A poll makes a call.
    Asked {
        /// The connector.
        number: u64,
        /// What it asks for.
        call: Call,
        /// What becomes of it.
        answer: oneshot::Sender<CallResult>,
    },
    /// A poll has ended; without its parts if it was cancelled.
    Ended(u64, Option<(Box<Polling>, Outcome)>),
}

/// The supervisor's end of the channels.
pub(crate) struct PollerLink {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    /// For what polls send.
    pub(super) report: mpsc::UnboundedSender<Report>,
}

/// What the thread is made of.
pub(crate) struct Poller {
    orders: mpsc::UnboundedReceiver<Order>,
    reports: mpsc::UnboundedSender<Report>,
    allowed: Allowed,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PollerLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollerLink").finish_non_exhaustive()
    }
}

/// A poller, and what its supervisor needs of it. `allowed`: addresses that connectors reach
/// although they are of a kind that they do not.
pub(crate) fn poller(allowed: Arc<[IpAddr]>, counters: Arc<Counters>) -> (Poller, PollerLink) {
    let (to_poller, orders) = mpsc::unbounded_channel();
    let (reports, to_supervisor) = mpsc::unbounded_channel();
    let link = PollerLink {
        orders: to_poller,
        reports: to_supervisor,
        report: reports.clone(),
    };
    let poller = Poller {
        orders,
        reports,
        allowed: Allowed(allowed),
        counters,
    };
    (poller, link)
}

/// The polls in flight.
struct Polls {
    reports: mpsc::UnboundedSender<Report>,
    allowed: Allowed,
    memory: Memory,
    /// Made when it is needed first: reading the system's certificates takes its time.
    fetcher: Option<Result<Fetcher, String>>,
    tasks: JoinSet<(Box<Polling>, Outcome)>,
    numbers: HashMap<Id, u64>,
    handles: HashMap<u64, AbortHandle>,
}

impl Poller {
    /// Runs on the calling thread until the supervisor is gone.
    ///
    /// # Errors
    /// If the operating system gives no descriptors.
    pub(crate) fn run(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(LOOKUPS_MAX)
            .build()?;
        LocalSet::new().block_on(&runtime, self.serve());
        // A look-up of a name may hang; nobody waits for it.
        runtime.shutdown_background();
        Ok(())
    }

    async fn serve(mut self) {
        let mut polls = Polls {
            reports: self.reports,
            allowed: self.allowed,
            memory: Memory::new(self.counters),
            fetcher: None,
            tasks: JoinSet::new(),
            numbers: HashMap::new(),
            handles: HashMap::new(),
        };
        loop {
            faults::step();
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::Poll(number, polling)) => polls.start(number, polling),
                    Some(Order::Cancel(number)) => polls.cancel(number),
                    None => return,
                },
                Some(ended) = polls.tasks.join_next_with_id(), if !polls.tasks.is_empty() => {
                    let (id, parts) = match ended {
                        Ok((id, parts)) => (id, Some(parts)),
                        Err(error) => (error.id(), None),
                    };
                    polls.end(id, parts);
                }
            }
        }
    }
}

impl Polls {
    fn start(&mut self, number: u64, mut polling: Box<Polling>) {
        let allowed = &self.allowed;
        let fetcher = self
            .fetcher
            .get_or_insert_with(|| Fetcher::new(allowed.clone()));
        let (fetcher, held) = (fetcher.clone(), self.memory.hold(&polling.owner));
        let task = self.tasks.spawn_local(async move {
            let outcome = match fetcher {
                Ok(fetcher) => polling.run(&fetcher, held).await,
                Err(error) => Outcome::failed(PollError::new(error)),
            };
            (polling, outcome)
        });
        self.numbers.insert(task.id(), number);
        self.handles.insert(number, task);
    }

    fn cancel(&mut self, number: u64) {
        if let Some(task) = self.handles.get(&number) {
            task.abort();
        }
    }

    fn end(&mut self, id: Id, parts: Option<(Box<Polling>, Outcome)>) {
        let Some(number) = self.numbers.remove(&id) else {
            return;
        };
        self.handles.remove(&number);
        match self.reports.send(Report::Ended(number, parts)) {
            // Nobody is left to be told.
            Ok(()) | Err(_) => {}
        }
    }
}
