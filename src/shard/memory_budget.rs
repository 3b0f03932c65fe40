//! The bound on the memory that clients cause, for the whole process (API contract §1): what of it
//! the cores have drawn, what each client has, and what each core says that it is used for.
//!
//! ```text
//!            budget (FLUX_MEMORY_BYTES)
//!   ┌────────────┬────────────┬─────────────────────┐
//!   │ drawn by 0 │ drawn by 1 │ free                │      one atomic number
//!   └────────────┴────────────┴─────────────────────┘
//!     used by 0     used by 1                               plain numbers of each core
//! ```
//!
//! A core draws in chunks and counts within them by itself ([`MemoryAccount`]), so an event of a
//! usual size touches nothing that cores share. The same holds for what one client has: a core
//! keeps a small part of it to itself, and draws the rest here.
//!
//! [`MemoryAccount`]: super::MemoryAccount

use super::address_limiter::network_of;
use crate::auth::OwnedNamespace;
use crate::limits;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
#[expect(
    clippy::disallowed_types,
    reason = "taken for large holdings only, and held for one look-up"
)]
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{OnceLock, PoisonError};
use std::thread::Thread;

/// What memory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryPart {
    /// What has arrived of requests and messages, and writes that are not answered.
    Bodies,
    /// Answers that the client has not taken.
    Answers,
    /// What subscribers are owed.
    Outboxes,
    /// Queries of the past: running, or about to be answered.
    Queries,
    /// Subscriptions: their patterns and filters.
    Streams,
    /// What connectors have fetched.
    Connectors,
}

/// Number of [`MemoryPart`]s.
pub(super) const MEMORY_PARTS: usize = 6;

impl MemoryPart {
    /// All of them, by index.
    pub const ALL: [Self; MEMORY_PARTS] = [
        Self::Bodies,
        Self::Answers,
        Self::Outboxes,
        Self::Queries,
        Self::Streams,
        Self::Connectors,
    ];

    /// Its name in `GET /health?detail`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Answers => "answers",
            Self::Outboxes => "outboxes",
            Self::Queries => "queries",
            Self::Streams => "streams",
            Self::Connectors => "connectors",
        }
    }
}

/// Bytes by [`MemoryPart`].
pub type MemoryParts = [usize; MEMORY_PARTS];

/// Who is answerable for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryClient {
    /// An address; of IPv6, its network.
    Address(IpAddr),
    /// The namespace whose token was presented.
    Namespace(OwnedNamespace),
}

impl MemoryClient {
    /// Whom an address stands for.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(network_of(address))
    }
}

/// What is in use, as each member last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUsage {
    /// The bound.
    pub limit: usize,
    /// By part.
    pub parts: MemoryParts,
}

impl MemoryUsage {
    /// The parts by name.
    pub fn named(&self) -> [(&'static str, usize); MEMORY_PARTS] {
        MemoryPart::ALL.map(|part| (part.name(), self.parts[part as usize]))
    }

    /// The sum of the parts.
    pub fn used(&self) -> usize {
        self.parts.iter().sum()
    }
}

/// Parts of the table of clients: more than cores that draw in the same instant.
const TABLES: usize = 16;

/// What clients have drawn. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Table {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    drawn: Mutex<HashMap<MemoryClient, usize>>,
}

/// See the module.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    /// What members draw at a time.
    chunk: usize,
    /// What a client has on one core before it is looked up here.
    client_chunk: usize,
    drawn: AtomicUsize,
    /// What queries of the past work in; a part of `drawn`.
    lent: AtomicUsize,
    /// The thread that is woken when clients come to hold much.
    watcher: OnceLock<Thread>,
    clients: Box<[Table]>,
    /// Chooses the table. Keyed, so that nobody outside can choose clients of one table.
    hash: RandomState,
    members: Box<[MemberUsage]>,
}

/// What one member uses. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct MemberUsage([AtomicUsize; MEMORY_PARTS]);

impl MemoryBudget {
    /// A budget of `limit` bytes for so many members: the cores, and the thread of connectors.
    pub fn new(limit: usize, members: usize) -> Self {
        let of_member = limit / (64 * members.max(1));
        Self {
            limit,
            chunk: of_member.clamp(16 * 1024, 1024 * 1024),
            client_chunk: (of_member / 4).clamp(16 * 1024, 1024 * 1024),
            drawn: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
            watcher: OnceLock::new(),
            clients: (0..TABLES).map(|_| Table::default()).collect(),
            hash: RandomState::new(),
            members: (0..members).map(|_| MemberUsage::default()).collect(),
        }
    }

    /// The bound.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The most that one client may have: a quarter, but room for one batch.
    pub fn client_limit(&self) -> usize {
        if self.limit < limits::MEMORY_BYTES_MIN {
            // Only tests have so little, and no batch of the default size.
            return self.limit / 4;
        }
        (self.limit / 4).max((self.limit / 4 * 3).min(limits::MEMORY_CLIENT_BYTES_MIN))
    }

    /// The largest single thing that a client may have in memory.
    pub fn single_bytes_max(&self) -> usize {
        ceiling(self.client_limit(), Size::Large)
    }

    /// True if little is left: who keeps the server waiting is waited for less long.
    pub fn is_pressed(&self) -> bool {
        self.drawn.load(Relaxed) >= self.limit - self.limit / 4
    }

    /// True if clients hold an eighth, or still half of that if they did. What members draw ahead
    /// is less.
    pub fn holds_much(&self, before: bool) -> bool {
        self.drawn.load(Relaxed) >= if before { self.much() / 2 } else { self.much() }
    }

    const fn much(&self) -> usize {
        self.limit / 8
    }

    /// Wakes this thread from now on each time that clients come to hold an eighth.
    pub fn wake_when_much(&self, watcher: Thread) {
        // There is one in the life of a budget.
        drop(self.watcher.set(watcher));
    }

    /// `bytes` are drawn where `before` were.
    fn note_drawn(&self, before: usize, bytes: usize) {
        let much = self.much();
        if before < much
            && before.saturating_add(bytes) >= much
            && let Some(watcher) = self.watcher.get()
        {
            watcher.unpark();
        }
    }

    /// What is in use: by members as they last said, and by queries as it is.
    pub fn usage(&self) -> MemoryUsage {
        let mut parts = [0; MEMORY_PARTS];
        for member in &self.members {
            for (sum, used) in parts.iter_mut().zip(&member.0) {
                *sum += used.load(Relaxed);
            }
        }
        parts[MemoryPart::Queries as usize] += self.lent.load(Relaxed);
        MemoryUsage {
            limit: self.limit,
            parts,
        }
    }

    /// A query of the past works in `bytes` more, which are drawn.
    pub(super) fn lend(&self, bytes: usize) {
        self.lent.fetch_add(bytes, Relaxed);
    }

    /// It does no longer.
    pub(super) fn take_back(&self, bytes: usize) {
        self.lent.fetch_sub(bytes, Relaxed);
    }

    /// What a member draws at a time.
    pub(super) const fn chunk(&self) -> usize {
        self.chunk
    }

    /// What a client has on one core before it is looked up here.
    pub(super) const fn client_chunk(&self) -> usize {
        self.client_chunk
    }

    /// Draws `bytes` if what is drawn then stays within the ceiling for a holding of this size.
    pub(super) fn draw(&self, bytes: usize, size: Size) -> bool {
        let most = ceiling(self.limit, size);
        let grown = |drawn: usize| Some(drawn.checked_add(bytes)?).filter(|sum| *sum <= most);
        let drawn = self.drawn.fetch_update(Relaxed, Relaxed, grown);
        if let Ok(before) = drawn {
            self.note_drawn(before, bytes);
        }
        drawn.is_ok()
    }

    /// Draws `bytes` that are in use already.
    pub(super) fn draw_at_once(&self, bytes: usize) {
        let before = self.drawn.fetch_add(bytes, Relaxed);
        self.note_drawn(before, bytes);
    }

    /// Takes `bytes` back.
    pub(super) fn give_back(&self, bytes: usize) {
        self.drawn.fetch_sub(bytes, Relaxed);
    }

    /// Draws `bytes` for a client if what it has then stays within its ceiling.
    pub(super) fn draw_for(&self, client: MemoryClient, bytes: usize, size: Size) -> bool {
        let most = ceiling(self.client_limit(), size);
        self.with_client(client, |drawn| {
            let fits = drawn.saturating_add(bytes) <= most;
            if fits {
                *drawn += bytes;
            }
            fits
        })
    }

    /// Draws `bytes` for a client that has them already.
    pub(super) fn draw_at_once_for(&self, client: MemoryClient, bytes: usize) {
        self.with_client(client, |drawn| *drawn += bytes);
    }

    /// Takes `bytes` of a client back.
    pub(super) fn give_back_for(&self, client: MemoryClient, bytes: usize) {
        self.with_client(client, |drawn| *drawn = drawn.saturating_sub(bytes));
    }

    /// Says what a member uses.
    pub(super) fn publish(&self, member: usize, parts: &MemoryParts) {
        if let Some(member) = self.members.get(member) {
            for (shown, used) in member.0.iter().zip(parts) {
                shown.store(*used, Relaxed);
            }
        }
    }

    /// An entry lives while something is drawn for its client.
    fn with_client<R>(&self, client: MemoryClient, change: impl FnOnce(&mut usize) -> R) -> R {
        let index = self.hash.hash_one(client) % TABLES as u64;
        let table = &self.clients[usize::try_from(index).unwrap_or(0)];
        // Each change is one step: a thread that panicked leaves whole numbers.
        let mut table = table.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        match table.entry(client) {
            Entry::Occupied(mut entry) => {
                let result = change(entry.get_mut());
                if *entry.get() == 0 {
                    entry.remove();
                }
                result
            }
            Entry::Vacant(entry) => {
                let mut drawn = 0;
                let result = change(&mut drawn);
                if drawn > 0 {
                    entry.insert(drawn);
                }
                result
            }
        }
    }
}

/// Whether a holding is one of many small ones, or one that could wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// At most [`limits::MEMORY_SMALL_BYTES_MAX`].
    Small,
    /// More.
    Large,
}

impl Size {
    /// The size of a holding of so many bytes.
    pub(super) const fn of(bytes: usize) -> Self {
        if bytes > limits::MEMORY_SMALL_BYTES_MAX {
            Self::Large
        } else {
            Self::Small
        }
    }
}

/// Large holdings leave an eighth, at most 64 MiB, to small ones: requests of a usual size are
/// answered though large ones wait.
fn ceiling(limit: usize, size: Size) -> usize {
    match size {
        Size::Small => limit,
        Size::Large => limit - (limit / 8).min(limits::MEMORY_SMALL_RESERVE_BYTES_MAX),
    }
}

#[cfg(test)]
impl MemoryBudget {
    /// What members have drawn.
    pub(super) fn drawn(&self) -> usize {
        self.drawn.load(Relaxed)
    }

    /// True if nothing is drawn for any client.
    pub(super) fn has_no_clients(&self) -> bool {
        let mut tables = self.clients.iter();
        tables.all(|table| table.drawn.lock().unwrap().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread that is woken is tested"
    )]
    fn the_watcher_is_woken_each_time_that_clients_come_to_hold_much() {
        let budget = Arc::new(MemoryBudget::new(800, 1));
        let (says, woken) = channel();
        let watcher = thread::spawn(move || {
            for _ in 0..2 {
                thread::park();
                says.send(()).unwrap();
            }
        });
        budget.wake_when_much(watcher.thread().clone());
        assert!(budget.draw(99, Size::Large));
        for _ in 0..2 {
            assert!(budget.draw(1, Size::Large));
            assert!(budget.holds_much(false));
            let patience = Duration::from_secs(30);
            woken.recv_timeout(patience).unwrap();
            budget.give_back(1);
        }
        watcher.join().unwrap();
    }
}
