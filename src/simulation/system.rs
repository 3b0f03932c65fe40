//! What a core of the simulation sees of the world: sockets in memory, a clock that the schedule
//! moves, and jobs that run when the schedule says so.

use super::network::{ServerSocket, Watched};
use crate::background::job::{Job, Lane, WorkerResult};
use crate::log::Log;
use crate::model::Timestamp;
use crate::reactor::idle::Sleep;
use crate::reactor::poller::{Ready, Token};
use crate::reactor::system::{Socket, System};
use crate::reactor::taking::Unacknowledged;
use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;

/// Readiness that is reported late, of a hundred.
const LATE_PERCENT: u32 = 20;

/// A core's side of the world, shared by the core and the schedule.
#[derive(Debug)]
pub(super) struct SimulatedSystem<L: Log>(Rc<RefCell<Outside<L>>>);

impl<L: Log> Clone for SimulatedSystem<L> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

pub(super) struct Outside<L: Log> {
    random: fastrand::Rng,
    pub(super) now_micros: u64,
    /// What the wall clock is ahead of the monotonic one.
    pub(super) wall_offset_micros: i64,
    /// A tick was not reported yet.
    pub(super) is_tick_due: bool,
    /// Connections that wait to be accepted.
    pub(super) waiting: VecDeque<ServerSocket>,
    is_accepting: bool,
    watched: Vec<((u32, u32), Watched)>,
    jobs: Vec<Job<L>>,
    results: VecDeque<WorkerResult<L>>,
}

impl<L: Log> std::fmt::Debug for Outside<L> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outside").finish_non_exhaustive()
    }
}

impl<L: Log> SimulatedSystem<L> {
    pub(super) fn new(seed: u64, now_micros: u64) -> Self {
        Self(Rc::new(RefCell::new(Outside {
            random: fastrand::Rng::with_seed(seed),
            now_micros,
            wall_offset_micros: 1_700_000_000_000_000,
            is_tick_due: false,
            waiting: VecDeque::new(),
            is_accepting: true,
            watched: Vec::new(),
            jobs: Vec::new(),
            results: VecDeque::new(),
        })))
    }

    pub(super) fn outside(&self) -> RefMut<'_, Outside<L>> {
        self.0.borrow_mut()
    }

    /// Runs one of the jobs that wait, and leaves its result. False if there was none. Jobs of one
    /// lane keep their order.
    pub(super) fn run_job(&self, choice: usize) -> bool {
        let mut outside = self.outside();
        if outside.jobs.is_empty() {
            return false;
        }
        let lane = outside.jobs[choice % outside.jobs.len()].lane;
        let first = outside
            .jobs
            .iter()
            .position(|job| job.lane == lane)
            .unwrap();
        let job = outside.jobs.remove(first);
        drop(outside);
        let result = (job.run)();
        self.outside().results.push_back(result);
        true
    }

    /// Looks at the result that a job has left last.
    pub(super) fn with_last_result<R>(
        &self,
        look: impl FnOnce(&WorkerResult<L>) -> R,
    ) -> Option<R> {
        self.outside().results.back().map(look)
    }

    /// True if nothing waits for the core or its threads.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_quiet_but_for(|_| false)
    }

    /// The same, apart from results of a kind.
    pub(super) fn is_quiet_but_for(&self, is_of_it: impl Fn(&WorkerResult<L>) -> bool) -> bool {
        let outside = self.outside();
        let is_quiet = outside.jobs.is_empty() && outside.waiting.is_empty();
        is_quiet && outside.results.iter().all(is_of_it)
    }
}

impl<L: Log> System for SimulatedSystem<L> {
    type Log = L;
    type Socket = ServerSocket;

    fn wall_clock(&self) -> Timestamp {
        let outside = self.outside();
        let micros = i64::try_from(outside.now_micros).unwrap();
        Timestamp::from_micros(micros + outside.wall_offset_micros)
    }

    fn monotonic_micros(&self) -> u64 {
        self.outside().now_micros
    }

    fn wait(&mut self, ready: &mut Vec<Ready>, _sleep: Sleep) -> io::Result<()> {
        ready.clear();
        let event = |token| Ready {
            token,
            readable: true,
            hung_up: false,
            broken: false,
            writable: false,
        };
        let mut outside = self.outside();
        let outside = &mut *outside;
        if outside.is_accepting && !outside.waiting.is_empty() {
            ready.push(event(Token::Listener));
        }
        if outside.is_tick_due {
            ready.push(event(Token::Timer));
        }
        ready.push(event(Token::Wake));
        outside.watched.retain(|(_, socket)| !socket.is_closed());
        for &((index, generation), ref socket) in &outside.watched {
            if outside.random.u32(..100) < LATE_PERCENT {
                continue;
            }
            let edges = socket.take_edges();
            if edges.is_any() {
                ready.push(Ready {
                    token: Token::Connection { index, generation },
                    readable: edges.readable,
                    hung_up: edges.hung_up,
                    broken: edges.broken,
                    writable: edges.writable,
                });
            }
        }
        outside.random.shuffle(ready);
        Ok(())
    }

    fn acknowledge_tick(&mut self) {
        self.outside().is_tick_due = false;
    }

    fn accept(&mut self) -> io::Result<Option<ServerSocket>> {
        let mut outside = self.outside();
        if !outside.waiting.is_empty() && outside.random.u32(..50) == 0 {
            return Err(io::Error::other("out of descriptors"));
        }
        Ok(outside.waiting.pop_front())
    }

    fn pause_accepting(&mut self) {
        self.outside().is_accepting = false;
    }

    fn resume_accepting(&mut self) {
        self.outside().is_accepting = true;
    }

    fn stop_accepting(&mut self) {
        self.outside().waiting.clear();
    }

    fn watch(&mut self, socket: &ServerSocket, place: (u32, u32)) -> io::Result<()> {
        let watched = socket.watched();
        self.outside().watched.push((place, watched));
        Ok(())
    }

    fn forget(&mut self, _socket: &ServerSocket) {
        // The core closes it next.
    }

    fn unacknowledged(&mut self, socket: &ServerSocket) -> Option<Unacknowledged> {
        Some(Unacknowledged {
            bytes: socket.unread_bytes(),
            is_lost: false,
        })
    }

    fn run(&mut self, job: Job<L>) -> io::Result<()> {
        self.outside().jobs.push(job);
        Ok(())
    }

    fn take_result(&mut self) -> Option<WorkerResult<L>> {
        self.outside().results.pop_front()
    }

    fn has_results(&self) -> bool {
        !self.outside().results.is_empty()
    }

    fn abandon(&mut self, _lane: Lane) {}

    fn join(&mut self) {
        while self.run_job(0) {}
    }
}

impl Socket for ServerSocket {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive_bytes(buffer)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send_bytes(bytes)
    }

    fn shut_down(&self) -> io::Result<()> {
        self.end();
        Ok(())
    }

    fn address(&self) -> Option<IpAddr> {
        Some(self.client_address().ip())
    }
}
