//! Reads of the past of a core's connections, from the request to the answer.
//!
//! ```text
//! request ─▶ waits for the connection's earlier one
//!         ─▶ turn among the short ones ─▶ readers are gathered ─▶ job ─▶ answer
//!                                           ▲                     │ takes too many steps
//!         turn among the long ones ─────────┴─────────────────────┘
//! ```
//!
//! - Connections take turns ([`Turns`]), by address and within it. A connection has one read on its
//!   way; further ones wait behind it, and hold nothing but what they ask for.
//! - Every read begins among the short ones, which have a helper thread to themselves. A read that
//!   has looked at [`HISTORY_SHORT_STEPS_MAX`] events makes way, and begins anew among the long
//!   ones. So no short read waits for a long one, and what is long is measured, not guessed.
//! - Readers are gathered only for those whose turn is near, so nobody uses all of them up.
//! - A connection that ends takes its reads along; the one that runs is told to stop.
//!
//! Nothing here is rejected. The queue is as long as [`PIPELINE_READS_MAX`] for each connection.
//!
//! Pure: which thread runs a job, and how a shard is asked, is not known here. `R` is what a shard
//! hands out of its log.
//!
//! [`PIPELINE_READS_MAX`]: crate::limits::PIPELINE_READS_MAX

use super::turns::{Network, Turns};
use crate::history::{Budget, HistoryRead, LiveLog};
use crate::limits::{
    HISTORY_LONG_STARTED_MAX, HISTORY_READERS_MAX, HISTORY_SHORT_STARTED_MAX,
    HISTORY_SHORT_STEPS_MAX,
};
use crate::shard::RequestId;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// How often a read begins anew because retention removed a file that it was about to read.
const ATTEMPTS_MAX: u8 = 4;

/// How long a read takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// At most [`HISTORY_SHORT_STEPS_MAX`] steps, as far as is known.
    Short,
    /// More.
    Long,
}

impl Cost {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Short, Self::Long];

    const fn started_max(self) -> usize {
        match self {
            Self::Short => HISTORY_SHORT_STARTED_MAX,
            Self::Long => HISTORY_LONG_STARTED_MAX,
        }
    }

    const fn steps_max(self) -> u64 {
        match self {
            Self::Short => HISTORY_SHORT_STEPS_MAX,
            Self::Long => u64::MAX,
        }
    }
}

/// A read whose shards are to be asked for their logs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Started {
    /// Whom the logs go to.
    pub(crate) request_id: RequestId,
    /// The shards.
    pub(crate) shards: Range<u16>,
}

/// A read for a helper thread.
#[derive(Debug)]
pub(crate) struct Job<R> {
    /// What is asked.
    pub(crate) asked: Arc<HistoryRead>,
    /// By shard, the logs that it concerns.
    pub(crate) logs: Vec<Option<R>>,
    /// Where it was asked from.
    pub(crate) network: Network,
    /// How far it may go.
    pub(crate) budget: Budget,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// There is an answer.
    Answered,
    /// It takes more steps than a short read.
    OverBudget,
    /// Retention removed a file that it was about to read.
    Moved,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct HistoryQueue<R = LiveLog> {
    /// Connections with reads, by index.
    connections: HashMap<u32, ConnectionReads<R>>,
    short: LaneQueue,
    long: LaneQueue,
    /// Readers that are held or asked for.
    readers: usize,
}

/// The reads of one connection.
#[derive(Debug)]
struct ConnectionReads<R> {
    network: Network,
    /// The one that is on its way.
    current: Read<R>,
    /// Those behind it, in order.
    waiting: VecDeque<(RequestId, Arc<HistoryRead>)>,
}

/// A read on its way.
#[derive(Debug)]
struct Read<R> {
    request_id: RequestId,
    asked: Arc<HistoryRead>,
    cost: Cost,
    attempts: u8,
    stage: Stage<R>,
}

#[derive(Debug)]
enum Stage<R> {
    /// It waits for its turn.
    Queued,
    /// It has logs, or waits for them.
    Gathering {
        /// By shard.
        logs: Vec<Option<R>>,
        /// Shards that have not answered.
        missing: usize,
        /// Shards that were asked.
        readers: usize,
    },
    /// A helper thread is at it.
    Running {
        /// Readers that it holds.
        readers: usize,
    },
}

impl<R> Stage<R> {
    const fn readers(&self) -> usize {
        match self {
            Self::Queued => 0,
            Self::Gathering { readers, .. } | Self::Running { readers } => *readers,
        }
    }
}

/// Reads of one cost.
#[derive(Debug, Default)]
struct LaneQueue {
    turns: Turns,
    /// Connections whose readers are gathered, in the order of their turns.
    gathering: VecDeque<u32>,
    /// The read that a helper thread is at, and how it is told to stop.
    running: Option<(RequestId, Arc<AtomicBool>)>,
}

impl<R> Default for HistoryQueue<R> {
    fn default() -> Self {
        Self {
            connections: HashMap::new(),
            short: LaneQueue::default(),
            long: LaneQueue::default(),
            readers: 0,
        }
    }
}

impl<R> HistoryQueue<R> {
    /// Takes a read in, of a connection from an address.
    pub(crate) fn push(
        &mut self,
        (request_id, network): (RequestId, Network),
        asked: Arc<HistoryRead>,
    ) {
        let connection = request_id.connection;
        if let Some(reads) = self.connections.get_mut(&connection) {
            reads.waiting.push_back((request_id, asked));
            return;
        }
        let reads = ConnectionReads {
            network,
            current: Read::new(request_id, asked),
            waiting: VecDeque::new(),
        };
        self.connections.insert(connection, reads);
        self.short.turns.push(network, connection);
    }

    /// The next read whose shards are to be asked, as long as there is room for its readers.
    /// `shards`: how many there are. `shards_of`: which of them a read concerns.
    pub(crate) fn start_next(
        &mut self,
        shards: u16,
        shards_of: impl Fn(&HistoryRead) -> Range<u16>,
    ) -> Option<Started> {
        Cost::ALL
            .into_iter()
            .find_map(|cost| self.start_one(cost, shards, &shards_of))
    }

    fn start_one(
        &mut self,
        cost: Cost,
        count: u16,
        shards_of: impl Fn(&HistoryRead) -> Range<u16>,
    ) -> Option<Started> {
        let readers_held = self.readers;
        let lane = match cost {
            Cost::Short => &mut self.short,
            Cost::Long => &mut self.long,
        };
        if lane.gathering.len() + usize::from(lane.running.is_some()) >= cost.started_max() {
            return None;
        }
        let connection = lane.turns.peek()?;
        let read = &mut self.connections.get_mut(&connection)?.current;
        let shards = shards_of(&read.asked);
        if readers_held > 0 && readers_held + shards.len() > HISTORY_READERS_MAX {
            return None;
        }
        lane.turns.pop();
        lane.gathering.push_back(connection);
        read.attempts += 1;
        read.stage = Stage::Gathering {
            logs: std::iter::repeat_with(|| None)
                .take(usize::from(count))
                .collect(),
            missing: shards.len(),
            readers: shards.len(),
        };
        self.readers += shards.len();
        Some(Started {
            request_id: read.request_id,
            shards,
        })
    }

    /// Takes the log of a shard for the read that asked for it.
    pub(crate) fn take_log(&mut self, request_id: RequestId, shard: u16, log: R) {
        if let Some(read) = self.read(request_id)
            && let Stage::Gathering { logs, missing, .. } = &mut read.stage
            && let Some(place) = logs.get_mut(usize::from(shard))
            && place.is_none()
        {
            *place = Some(log);
            *missing = missing.saturating_sub(1);
        }
    }

    /// The next job of a helper thread, which runs none.
    pub(crate) fn next_job(&mut self, cost: Cost) -> Option<Job<R>> {
        let connections = &mut self.connections;
        let lane = match cost {
            Cost::Short => &mut self.short,
            Cost::Long => &mut self.long,
        };
        if lane.running.is_some() {
            return None;
        }
        let is_ready = |connection: &u32| {
            let reads = connections.get(connection);
            reads.is_some_and(|reads| reads.current.is_ready())
        };
        let at = lane.gathering.iter().position(is_ready)?;
        let connection = lane.gathering.remove(at)?;
        let reads = connections.get_mut(&connection)?;
        let (network, read) = (reads.network, &mut reads.current);
        let running = Stage::Running {
            readers: read.stage.readers(),
        };
        let Stage::Gathering { logs, .. } = std::mem::replace(&mut read.stage, running) else {
            return None;
        };
        let cancelled = Arc::new(AtomicBool::new(false));
        lane.running = Some((read.request_id, Arc::clone(&cancelled)));
        Some(Job {
            asked: Arc::clone(&read.asked),
            logs,
            network,
            budget: Budget::new(cancelled, cost.steps_max()),
        })
    }

    /// The job of a helper thread has ended. The read to be answered, if somebody waits for it.
    pub(crate) fn on_job_end(&mut self, cost: Cost, end: JobEnd) -> Option<RequestId> {
        let (request_id, _) = self.lane(cost).running.take()?;
        let reads = self.connections.get_mut(&request_id.connection)?;
        let network = reads.network;
        let read = &mut reads.current;
        if read.request_id != request_id {
            return None;
        }
        let again = match end {
            JobEnd::OverBudget => {
                read.attempts = 0;
                Some(Cost::Long)
            }
            JobEnd::Moved if read.attempts < ATTEMPTS_MAX => Some(cost),
            JobEnd::Moved | JobEnd::Answered => None,
        };
        let Some(again) = again else {
            self.finish(request_id);
            return Some(request_id);
        };
        let held = read.stage.readers();
        read.stage = Stage::Queued;
        read.cost = again;
        self.readers -= held;
        let lane = self.lane(again);
        lane.turns.push(network, request_id.connection);
        None
    }

    /// A read is over, however it ended; the connection's next one may begin.
    pub(crate) fn finish(&mut self, request_id: RequestId) {
        if self.read(request_id).is_none() {
            return;
        }
        let connection = request_id.connection;
        let Some(mut reads) = self.leave(connection) else {
            return;
        };
        if let Some((request_id, asked)) = reads.waiting.pop_front() {
            self.short.turns.push(reads.network, connection);
            reads.current = Read::new(request_id, asked);
            self.connections.insert(connection, reads);
        }
    }

    /// A connection has ended: nobody waits for its reads any more.
    pub(crate) fn forget(&mut self, connection: u32) {
        if self.connections.is_empty() {
            return;
        }
        if let Some(reads) = self.leave(connection) {
            let request_id = reads.current.request_id;
            match &self.lane(reads.current.cost).running {
                Some((running, cancelled)) if *running == request_id => {
                    cancelled.store(true, Relaxed);
                }
                Some(_) | None => {}
            }
        }
    }

    /// Nobody waits for anything any more.
    pub(crate) fn stop(&mut self) {
        self.connections.clear();
        self.readers = 0;
        for lane in [&mut self.short, &mut self.long] {
            lane.turns.clear();
            lane.gathering.clear();
            if let Some((_, cancelled)) = &lane.running {
                cancelled.store(true, Relaxed);
            }
        }
    }

    /// Takes a connection out, with what its read holds.
    fn leave(&mut self, connection: u32) -> Option<ConnectionReads<R>> {
        let reads = self.connections.remove(&connection)?;
        self.readers -= reads.current.stage.readers();
        let network = reads.network;
        let lane = self.lane(reads.current.cost);
        match reads.current.stage {
            Stage::Queued => lane.turns.remove(network, connection),
            Stage::Gathering { .. } => lane.gathering.retain(|other| *other != connection),
            Stage::Running { .. } => {}
        }
        Some(reads)
    }

    fn read(&mut self, request_id: RequestId) -> Option<&mut Read<R>> {
        let reads = self.connections.get_mut(&request_id.connection)?;
        (reads.current.request_id == request_id).then_some(&mut reads.current)
    }

    const fn lane(&mut self, cost: Cost) -> &mut LaneQueue {
        match cost {
            Cost::Short => &mut self.short,
            Cost::Long => &mut self.long,
        }
    }
}

impl<R> Read<R> {
    const fn new(request_id: RequestId, asked: Arc<HistoryRead>) -> Self {
        Self {
            request_id,
            asked,
            cost: Cost::Short,
            attempts: 0,
            stage: Stage::Queued,
        }
    }

    const fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Gathering { missing: 0, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{HistoryError, HistoryQuery, Sight};
    use crate::model::Timestamp;
    use std::net::IpAddr;

    /// The log that a shard hands out is its number.
    type Queue = HistoryQueue<u16>;

    fn id(connection: u32, serial: u32) -> RequestId {
        RequestId {
            connection,
            generation: 0,
            serial,
        }
    }

    fn query() -> Arc<HistoryRead> {
        let query = HistoryQuery::Entity {
            id: "a/1".into(),
            at: Timestamp::default(),
            fields: None,
        };
        let sight = Sight::all();
        Arc::new(HistoryRead { query, sight })
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn push(queue: &mut Queue, network: u32, connection: u32, serial: u32) {
        let network = Some(address(network));
        queue.push((id(connection, serial), network), query());
    }

    /// Starts all that can be, each on one shard, which answers at once.
    fn gather(queue: &mut Queue) -> Vec<RequestId> {
        let started = std::iter::from_fn(|| queue.start_next(1, |_| 0..1));
        let started: Vec<RequestId> = started.map(|started| started.request_id).collect();
        for request_id in &started {
            queue.take_log(*request_id, 0, 0);
        }
        started
    }

    /// Runs one job of a kind. Whom it was for.
    fn run(queue: &mut Queue, cost: Cost, end: JobEnd) -> Option<RequestId> {
        gather(queue);
        queue.next_job(cost)?;
        let running = queue.lane(cost).running.as_ref().map(|(id, _)| *id);
        queue.on_job_end(cost, end);
        running
    }

    /// Runs short jobs until none is left. The connections, in order.
    fn drain(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| run(queue, Cost::Short, JobEnd::Answered))
            .map(|request_id| request_id.connection)
            .collect()
    }

    #[test]
    fn a_connection_has_one_read_on_its_way_and_the_next_begins_when_it_is_over() {
        let mut queue = Queue::default();
        for serial in 1..=3 {
            push(&mut queue, 1, 7, serial);
        }
        for serial in 1..=3 {
            assert_eq!(gather(&mut queue), [id(7, serial)]);
            assert_eq!(queue.readers, 1, "those behind it hold none");
            assert!(queue.next_job(Cost::Short).is_some());
            assert!(queue.next_job(Cost::Short).is_none(), "one at a time");
            let answered = queue.on_job_end(Cost::Short, JobEnd::Answered);
            assert_eq!(answered, Some(id(7, serial)));
        }
        assert!(queue.connections.is_empty());
        assert_eq!(queue.readers, 0);
    }

    #[test]
    fn a_client_with_one_read_waits_for_one_of_each_other_however_many_they_asked_for() {
        let mut queue = Queue::default();
        for connection in [1, 2] {
            for serial in 1..=16 {
                push(&mut queue, connection, connection, serial);
            }
        }
        push(&mut queue, 3, 3, 1);
        let order = drain(&mut queue);
        assert_eq!(order[..6], [1, 2, 3, 1, 2, 1]);
        assert_eq!(order.len(), 33);
    }

    #[test]
    fn a_hundred_connections_of_an_address_have_the_turns_of_one() {
        let mut queue = Queue::default();
        for connection in 0..100 {
            push(&mut queue, 1, connection, 1);
        }
        gather(&mut queue);
        push(&mut queue, 2, 1000, 1);
        let order = drain(&mut queue);
        let served = order.iter().position(|connection| *connection == 1000);
        let started = HISTORY_SHORT_STARTED_MAX;
        assert!(served <= Some(started + 1), "{served:?}");
    }

    #[test]
    fn short_reads_overtake_those_that_turned_out_to_be_long() {
        let mut queue = Queue::default();
        for connection in 0..20 {
            push(&mut queue, 1, connection, 1);
            assert_eq!(
                run(&mut queue, Cost::Short, JobEnd::OverBudget),
                Some(id(connection, 1))
            );
        }
        gather(&mut queue);
        assert_eq!(queue.readers, HISTORY_LONG_STARTED_MAX, "the others wait");
        let long = queue.next_job(Cost::Long).unwrap();
        assert!(long.budget.spend(HISTORY_SHORT_STEPS_MAX * 1000).is_ok());
        for serial in 1..=50 {
            push(&mut queue, 1, 99, serial);
            let answered = run(&mut queue, Cost::Short, JobEnd::Answered);
            assert_eq!(answered, Some(id(99, serial)), "the long one still runs");
        }
        let answered = queue.on_job_end(Cost::Long, JobEnd::Answered);
        assert_eq!(answered, Some(id(0, 1)));
        for connection in 1..20 {
            let answered = run(&mut queue, Cost::Long, JobEnd::Answered);
            assert_eq!(answered, Some(id(connection, 1)), "in the order they came");
        }
        assert!(queue.connections.is_empty());
    }

    #[test]
    fn a_short_read_has_a_budget_and_a_cancelled_one_ends() {
        let mut queue = Queue::default();
        push(&mut queue, 1, 7, 1);
        gather(&mut queue);
        let job = queue.next_job(Cost::Short).unwrap();
        assert!(job.budget.spend(HISTORY_SHORT_STEPS_MAX).is_ok());
        let over = job.budget.spend(1);
        assert!(matches!(over, Err(HistoryError::OverBudget)), "{over:?}");
        queue.forget(7);
        let cancelled = job.budget.spend(0);
        assert!(
            matches!(cancelled, Err(HistoryError::Cancelled)),
            "{cancelled:?}"
        );
        assert_eq!(queue.on_job_end(Cost::Short, JobEnd::Answered), None);
    }

    #[test]
    fn the_reads_of_a_connection_that_ended_are_dropped_wherever_they_are() {
        for stage in 0..5 {
            let mut queue = Queue::default();
            for serial in 1..=16 {
                push(&mut queue, 1, 7, serial);
            }
            let mut job = None;
            if stage >= 1 {
                queue.start_next(2, |_| 0..2);
                queue.take_log(id(7, 1), 0, 0);
            }
            if stage >= 2 {
                queue.take_log(id(7, 1), 1, 1);
            }
            if stage >= 3 {
                job = queue.next_job(Cost::Short);
                assert!(job.is_some());
            }
            if stage >= 4 {
                queue.on_job_end(Cost::Short, JobEnd::OverBudget);
                gather(&mut queue);
                job = queue.next_job(Cost::Long);
                assert!(job.is_some());
            }
            queue.forget(7);
            assert_eq!(queue.readers, 0, "stage {stage}");
            assert!(queue.connections.is_empty(), "stage {stage}");
            let lanes = [&queue.short, &queue.long];
            assert!(lanes.iter().all(|lane| lane.turns.is_empty()));
            assert!(lanes.iter().all(|lane| lane.gathering.is_empty()));
            if let Some(job) = &job {
                assert!(job.budget.spend(1).is_err(), "stage {stage}");
            }
            // The index is another connection's while the old job still runs.
            let other = RequestId {
                generation: 1,
                ..id(7, 1)
            };
            queue.push((other, Some(address(2))), query());
            for cost in Cost::ALL {
                let answered = queue.on_job_end(cost, JobEnd::Answered);
                assert_eq!(answered, None, "stage {stage}");
            }
            gather(&mut queue);
            assert!(queue.next_job(Cost::Short).is_some(), "stage {stage}");
        }
    }

    #[test]
    fn readers_are_bounded_and_what_finds_none_waits() {
        let mut queue = Queue::default();
        for connection in 0..4 {
            push(&mut queue, 1, connection, 1);
        }
        let shards = u16::try_from(HISTORY_READERS_MAX).unwrap() - 1;
        let start = |queue: &mut Queue| queue.start_next(shards, |_| 0..shards);
        assert_eq!(start(&mut queue).map(|it| it.request_id), Some(id(0, 1)));
        assert_eq!(start(&mut queue), None);
        queue.finish(id(0, 1));
        assert_eq!(start(&mut queue).map(|it| it.request_id), Some(id(1, 1)));
        queue.forget(1);
        assert!(queue.start_next(shards, |_| 0..shards).is_some());
        // More than there may be at all: alone it goes.
        queue.forget(2);
        let most = shards + 2;
        assert!(queue.start_next(most, |_| 0..most).is_some());
        assert_eq!(queue.start_next(1, |_| 0..1), None);
    }

    #[test]
    fn a_job_has_a_place_for_every_shard_and_the_logs_of_those_it_concerns() {
        let mut queue = Queue::default();
        push(&mut queue, 1, 7, 1);
        let started = queue.start_next(3, |_| 1..2).unwrap();
        assert_eq!(started.shards, 1..2);
        queue.take_log(id(7, 1), 1, 1);
        let job = queue.next_job(Cost::Short).unwrap();
        assert_eq!(job.logs, [None, Some(1), None]);
    }

    #[test]
    fn a_read_whose_file_is_gone_begins_anew_a_few_times() {
        let mut queue = Queue::default();
        push(&mut queue, 1, 7, 1);
        for _ in 1..ATTEMPTS_MAX {
            gather(&mut queue);
            queue.next_job(Cost::Short).unwrap();
            assert_eq!(queue.on_job_end(Cost::Short, JobEnd::Moved), None);
        }
        gather(&mut queue);
        queue.next_job(Cost::Short).unwrap();
        let answered = queue.on_job_end(Cost::Short, JobEnd::Moved);
        assert_eq!(answered, Some(id(7, 1)));
    }

    /// A queue under random calls, and what it should come to.
    struct RandomCalls {
        seed: u64,
        random: fastrand::Rng,
        queue: Queue,
        /// By connection: the last serial that was asked, and that was answered or given up.
        serials: [(u32, u32); 12],
    }

    impl RandomCalls {
        fn step(&mut self) {
            let connection = self.random.u32(..12);
            let (asked, over) = &mut self.serials[connection as usize];
            match self.random.u32(..10) {
                0..4 => {
                    *asked += 1;
                    let request_id = id(connection, *asked);
                    let network = Some(address(connection % 5));
                    self.queue.push((request_id, network), query());
                }
                4..6 => {
                    gather(&mut self.queue);
                }
                6..9 => {
                    let ends = [JobEnd::Answered, JobEnd::OverBudget, JobEnd::Moved];
                    let (cost, end) = (self.random.usize(..2), self.random.usize(..3));
                    self.run(Cost::ALL[cost], ends[end]);
                }
                _ => {
                    self.queue.forget(connection);
                    *over = *asked;
                }
            }
            let reads = self.queue.connections.values();
            let held: usize = reads.map(|reads| reads.current.stage.readers()).sum();
            assert_eq!(self.queue.readers, held, "seed {}", self.seed);
        }

        fn run(&mut self, cost: Cost, end: JobEnd) {
            self.queue.next_job(cost);
            if let Some(request_id) = self.queue.on_job_end(cost, end) {
                let (_, over) = &mut self.serials[request_id.connection as usize];
                *over += 1;
                assert_eq!(request_id.serial, *over, "seed {}", self.seed);
            }
        }
    }

    #[test]
    fn any_history_of_reads_answers_each_once_and_in_order() {
        for seed in 0..40 {
            let mut calls = RandomCalls {
                seed,
                random: fastrand::Rng::with_seed(seed),
                queue: Queue::default(),
                serials: [(0, 0); 12],
            };
            for _ in 0..3_000 {
                calls.step();
            }
            while !calls.queue.connections.is_empty() {
                gather(&mut calls.queue);
                calls.run(Cost::Short, JobEnd::Answered);
                calls.run(Cost::Long, JobEnd::Answered);
            }
            assert_eq!(calls.queue.readers, 0, "seed {seed}");
            let all_over = calls.serials.iter().all(|(asked, over)| asked == over);
            assert!(all_over, "seed {seed}");
        }
    }
}
