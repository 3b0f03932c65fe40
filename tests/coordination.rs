//! What agents that share a world do together, each over HTTP or WebSocket, while the server is
//! killed and started again: claim tasks, count, hold a lease (`docs/COORDINATION.md`).
//!
//! Each claim is judged by history, the server's own order of events. The sizes are those of a run
//! that takes seconds; `FLUX_TEST_TASKS`, `FLUX_TEST_LEASED_TASKS` and `FLUX_TEST_ADDITIONS` set
//! others.

mod support;

use fastrand::Rng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::agent::{Agent, Answer, Call, Protocol, history, size};
use support::server::{Server, Setup};
use support::wait_within;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(600);

/// An event about an entity, with these members beside and in its payload.
fn event(id: &str, event_id: &str, members: &Value, payload: &Value) -> Value {
    let mut event = json!({"stream": "test", "source": "tests", "eventId": event_id});
    event["payload"] = payload.clone();
    event["payload"]["entity_id"] = json!(id);
    for (name, value) in members.as_object().expect("members") {
        event[name] = value.clone();
    }
    event
}

/// A server that is killed and started again each time so much more work is done.
struct Mortal {
    data: TempDir,
    server: Server,
    kills: usize,
}

impl Mortal {
    fn start() -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let server = Setup::new(data.path(), 2).start();
        Self {
            data,
            server,
            kills: 0,
        }
    }

    /// Kills the server `kills` times, spread over the work, and waits for the end of the work.
    /// `is_over` says too if a client has failed.
    fn die(
        mut self,
        kills: usize,
        (done, all): (&AtomicUsize, usize),
        is_over: impl Fn() -> bool,
    ) -> Self {
        for kill in 1..=kills {
            let until = all * kill / (kills + 1);
            wait_within(PATIENCE, "work to be done", || {
                (is_over() || done.load(Ordering::Relaxed) >= until).then_some(())
            });
            let port = self.server.port;
            self.server.kill();
            self.server = Setup::new(self.data.path(), 2).start_on(port);
            self.kills += 1;
        }
        self
    }
}

/// Runs `count` agents, each over one of the protocols, and kills the server amid their work.
/// `done` is what they count, up to `all`. Returns the server and what the agents return.
fn over_kills<T: Send>(
    kills: usize,
    (count, all): (usize, usize),
    work: impl Fn(usize, &mut Agent, &AtomicUsize) -> T + Sync,
) -> (Mortal, Vec<T>) {
    let mortal = Mortal::start();
    let port = mortal.server.port;
    let done = AtomicUsize::new(0);
    let (work, done) = (&work, &done);
    std::thread::scope(|scope| {
        let start = |number| {
            scope.spawn(move || {
                let mut agent = Agent::new(port, Protocol::of(number));
                work(number, &mut agent, done)
            })
        };
        let agents: Vec<_> = (0..count).map(start).collect();
        let is_over = || {
            agents
                .iter()
                .any(std::thread::ScopedJoinHandle::is_finished)
        };
        let mortal = mortal.die(kills, (done, all), is_over);
        let joined = agents.into_iter().map(std::thread::ScopedJoinHandle::join);
        let results = joined.map(|it| it.expect("an agent that succeeds"));
        (mortal, results.collect())
    })
}

const COUNTERS: usize = 100;
/// Additions that a client sends at once.
const ADDED_AT_ONCE: usize = 20;

#[test]
fn a_counter_is_exact_however_many_clients_add_to_it() {
    let each = size("FLUX_TEST_ADDITIONS", 200);
    let all = COUNTERS * each;
    let (mortal, seen) = over_kills(4, (COUNTERS, all), |number, agent, done| {
        let additions: Vec<Call> = (0..each)
            .map(|n| {
                let id = format!("{number}-{n}");
                let add = json!({"increment": {"n": 1}});
                Call::Publish(event("team/counter", &id, &json!({}), &add))
            })
            .collect();
        let mut seen = Vec::new();
        for calls in additions.chunks(ADDED_AT_ONCE) {
            let answers = agent.ask_all(calls);
            done.fetch_add(answers.len(), Ordering::Relaxed);
            seen.extend(answers.into_iter().map(|answer| {
                let answer = answer.expect("an addition always succeeds");
                answer["properties"]["n"].as_u64().expect("what it came to")
            }));
        }
        seen
    });
    assert_eq!(mortal.kills, 4);
    let counter = mortal.server.entity("team/counter").json();
    assert_eq!(counter["properties"]["n"], all);
    // Each addition was answered with a sum of its own.
    let sums: BTreeSet<u64> = seen.into_iter().flatten().collect();
    assert_eq!(sums, (1..=all as u64).collect());
}

const WORKERS: usize = 10;
/// Claims that a worker sends at once.
const CLAIMED_AT_ONCE: usize = 20;

/// The tasks of the board with these numbers are put on it. Run again, it changes nothing.
fn put(agent: &mut Agent, numbers: &[usize]) {
    let create = |number: &usize| {
        let id = format!("board/task-{number}");
        let open = json!({"properties": {"status": "open"}});
        event(
            &id,
            &format!("put-{number}"),
            &json!({"expect": {"absent": true}}),
            &open,
        )
    };
    let events = numbers.iter().map(create).collect();
    let atomic = true;
    let answer = agent.ask(Call::Batch { events, atomic });
    assert!(answer.is_ok(), "{answer:?}");
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Mine,
    Taken,
    /// The task is not on the board yet.
    Early,
}

fn claim_of(answer: &Answer) -> Claim {
    let Err(error) = answer else {
        return Claim::Mine;
    };
    assert_eq!(error["code"], "precondition_failed", "{error}");
    if error["entity"].is_null() {
        Claim::Early
    } else {
        Claim::Taken
    }
}

/// Claims these tasks, as many as are open, and does them. Returns what became of each.
fn claim_and_do(agent: &mut Agent, worker: usize, numbers: &[usize]) -> Vec<Claim> {
    let claim = |number: &usize| {
        let id = format!("board/task-{number}");
        let open = json!({"expect": {"properties": {"status": "open"}}});
        let claimed = json!({"properties": {"status": "claimed", "owner": worker}});
        Call::Publish(event(
            &id,
            &format!("claim-{number}-{worker}"),
            &open,
            &claimed,
        ))
    };
    let claims: Vec<Call> = numbers.iter().map(claim).collect();
    let claims: Vec<Claim> = agent.ask_all(&claims).iter().map(claim_of).collect();
    let finish = |(number, claim): (&usize, &Claim)| {
        let id = format!("board/task-{number}");
        let mine = json!({"expect": {"properties": {"status": "claimed", "owner": worker}}});
        let done = json!({"properties": {"status": "done"}, "increment": {"done": 1}});
        let call = Call::Publish(event(&id, &format!("do-{number}-{worker}"), &mine, &done));
        (*claim == Claim::Mine).then_some(call)
    };
    let ends: Vec<Call> = numbers.iter().zip(&claims).filter_map(finish).collect();
    for answer in agent.ask_all(&ends) {
        assert!(answer.is_ok(), "{answer:?}");
    }
    claims
}

#[test]
fn each_task_of_a_board_is_done_once_and_none_is_lost() {
    let tasks = size("FLUX_TEST_TASKS", 10_000);
    let (mortal, did) = over_kills(4, (WORKERS, tasks), |worker, agent, done| {
        // Two put the whole board up: what the first sent counts.
        let all: Vec<usize> = (0..tasks).collect();
        if worker < 2 {
            all.chunks(500).for_each(|numbers| put(agent, numbers));
        }
        let mut random = Rng::with_seed(worker as u64);
        let mut left: BTreeSet<usize> = all.into_iter().collect();
        let mut did = Vec::new();
        while !left.is_empty() && done.load(Ordering::Relaxed) < tasks {
            // Begin at another place than the others, who want the same.
            let start = random.usize(..tasks);
            let from_start = left.range(start..).chain(left.range(..start));
            let some: Vec<usize> = from_start.take(CLAIMED_AT_ONCE).copied().collect();
            let claims = claim_and_do(agent, worker, &some);
            for (number, claim) in some.into_iter().zip(claims) {
                if claim == Claim::Mine {
                    did.push(number);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                if claim != Claim::Early {
                    left.remove(&number);
                }
            }
        }
        did
    });
    assert_eq!(mortal.kills, 4);
    let did: Vec<usize> = did.into_iter().flatten().collect();
    assert_eq!(did.len(), tasks, "as many as there are");
    assert_eq!(
        did.iter().collect::<BTreeSet<_>>().len(),
        tasks,
        "each once"
    );
    let mut story: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in history(&mortal.server, "namespace=board") {
        let id = row["payload"]["entity_id"].as_str().expect("an id");
        let status = &row["payload"]["properties"]["status"];
        let owner = &row["payload"]["properties"]["owner"];
        let line = format!("{} {owner}", status.as_str().expect("a status"));
        story.entry(id.to_owned()).or_default().push(line);
    }
    assert_eq!(story.len(), tasks);
    for (id, lines) in story {
        let told: Vec<&str> = lines.iter().filter_map(|it| it.split(' ').next()).collect();
        assert_eq!(told, ["open", "claimed", "done"], "{id}: {lines:?}");
    }
}

/// Seconds for which a claim or a lease is held unless it is renewed.
const TTL: f64 = 1.0;

/// An atomic batch of these events.
fn atomic(events: Vec<Value>) -> Call {
    let atomic = true;
    Call::Batch { events, atomic }
}

/// Claims these open tasks for [`TTL`]. Returns the tasks that it got.
fn lease_tasks(
    agent: &mut Agent,
    worker: usize,
    (round, numbers): (usize, &[usize]),
) -> Vec<usize> {
    let claim = |number: &usize| {
        let payload = json!({"properties": {"owner": worker}, "ttl": TTL});
        let absent = json!({"expect": {"absent": true}});
        let event_id = format!("lease-{number}-{worker}-{round}");
        Call::Publish(event(
            &format!("board/claim-{number}"),
            &event_id,
            &absent,
            &payload,
        ))
    };
    let claims: Vec<Call> = numbers.iter().map(claim).collect();
    let answers = agent.ask_all(&claims);
    let claimed = numbers.iter().zip(&answers);
    let claimed = claimed.filter(|(_, answer)| claim_of(answer) == Claim::Mine);
    claimed.map(|(number, _)| *number).collect()
}

/// Ends these tasks, each with its claim, if it is still the worker's. Returns the tasks that are
/// so ended.
fn end_tasks(agent: &mut Agent, worker: usize, (round, numbers): (usize, &[usize])) -> Vec<usize> {
    let end = |number: &usize| {
        let event_id = |what: &str| format!("{what}-{number}-{worker}-{round}");
        let mine = json!({"expect": {"properties": {"owner": worker}}});
        let open = json!({"expect": {"properties": {"status": "open"}}});
        let gone = json!({"properties": {"__deleted__": true}});
        let done = json!({"properties": {"status": "done"}, "increment": {"done": 1}});
        atomic(vec![
            event(
                &format!("board/claim-{number}"),
                &event_id("free"),
                &mine,
                &gone,
            ),
            event(
                &format!("board/task-{number}"),
                &event_id("end"),
                &open,
                &done,
            ),
        ])
    };
    let ends: Vec<Call> = numbers.iter().map(end).collect();
    let answers = agent.ask_all(&ends);
    let ended = numbers.iter().zip(&answers);
    // Refused: the task was done by another, or the claim has ended before the task.
    let ended = ended.filter(|(_, answer)| claim_of(answer) == Claim::Mine);
    ended.map(|(number, _)| *number).collect()
}

#[test]
fn the_claims_of_a_dead_worker_return_and_its_tasks_are_done_once() {
    let tasks = size("FLUX_TEST_LEASED_TASKS", 1_000);
    let (mortal, did) = over_kills(2, (WORKERS, tasks), |worker, agent, done| {
        let all: Vec<usize> = (0..tasks).collect();
        all.chunks(500).for_each(|numbers| put(agent, numbers));
        let mut random = Rng::with_seed(worker as u64);
        if worker == 0 {
            // It claims some, and is never heard of again.
            return lease_tasks(agent, worker, (0, &all[..tasks / 20]));
        }
        let (mut did, mut round) = (Vec::new(), 0);
        while done.load(Ordering::Relaxed) < tasks {
            round += 1;
            let start = random.usize(..tasks);
            let some: Vec<usize> = all
                .iter()
                .copied()
                .cycle()
                .skip(start)
                .take(CLAIMED_AT_ONCE)
                .collect();
            let claimed = lease_tasks(agent, worker, (round, &some));
            let ended = end_tasks(agent, worker, (round, &claimed));
            done.fetch_add(ended.len(), Ordering::Relaxed);
            did.extend(ended);
        }
        did
    });
    let of_the_dead: BTreeSet<usize> = did[0].iter().copied().collect();
    let did: BTreeSet<usize> = did[1..].iter().flatten().copied().collect();
    assert!(!of_the_dead.is_empty(), "it had some");
    assert_eq!(
        did.len(),
        tasks,
        "the workers that live have done every task"
    );
    let mut done: BTreeMap<String, usize> = BTreeMap::new();
    let mut expired = 0;
    for row in history(&mortal.server, "namespace=board") {
        if row["payload"]["properties"]["status"] == "done" {
            let id = row["payload"]["entity_id"].as_str().expect("an id");
            *done.entry(id.to_owned()).or_default() += 1;
        }
        if row["stream"] == "flux.expire" {
            expired += 1;
        }
    }
    assert_eq!(done.len(), tasks);
    assert!(done.values().all(|times| *times == 1), "{done:?}");
    assert!(expired >= of_the_dead.len(), "{expired} claims expired");
}

const CANDIDATES: usize = 6;

/// One life of a candidate: it waits for the lease, works under it a few times, renews it, and
/// gives it back or dies with it. Returns how often it worked.
fn lead(agent: &mut Agent, name: &str, dies: bool) -> usize {
    let holder = json!({"properties": {"holder": name}, "ttl": TTL});
    let absent = json!({"expect": {"absent": true}});
    let mine = json!({"expect": {"properties": {"holder": name}}});
    let mut attempt = 0;
    wait_within(PATIENCE, "the lease", || {
        attempt += 1;
        let id = format!("take-{name}-{attempt}");
        let take = Call::Publish(event("team/lease", &id, &absent, &holder));
        (claim_of(&agent.ask(take)) == Claim::Mine).then_some(())
    });
    let mut worked = 0;
    for number in 0..10 {
        let renew = json!({"ttl": TTL});
        let work = json!({"properties": {"by": name}, "increment": {"n": 1}});
        let work = atomic(vec![
            event(
                "team/lease",
                &format!("renew-{name}-{number}"),
                &mine,
                &renew,
            ),
            event(
                "team/work",
                &format!("work-{name}-{number}"),
                &json!({}),
                &work,
            ),
        ]);
        if claim_of(&agent.ask(work)) != Claim::Mine {
            return worked;
        }
        worked += 1;
    }
    if !dies {
        let gone = json!({"properties": {"__deleted__": true}});
        let free = event("team/lease", &format!("free-{name}"), &mine, &gone);
        claim_of(&agent.ask(Call::Publish(free)));
    }
    worked
}

#[test]
fn there_are_never_two_leaders_by_the_servers_own_order_of_events() {
    const LIVES: usize = 4;
    let (mortal, worked) = over_kills(
        3,
        (CANDIDATES, CANDIDATES * LIVES),
        |number, agent, done| {
            let mut worked = 0;
            for life in 0..LIVES {
                worked += lead(agent, &format!("{number}/{life}"), life == 1);
                done.fetch_add(1, Ordering::Relaxed);
            }
            worked
        },
    );
    let worked: usize = worked.into_iter().sum();
    let (mut leader, mut leaders, mut works) = (None, BTreeSet::new(), 0);
    for row in history(&mortal.server, "namespace=team") {
        let properties = &row["payload"]["properties"];
        if row["payload"]["entity_id"] == "team/work" {
            assert_eq!(properties["by"].as_str(), leader.as_deref(), "{row}");
            works += 1;
        } else if properties["__deleted__"] == true {
            assert!(leader.is_some(), "{row}");
            leader = None;
        } else if let Some(name) = properties["holder"].as_str() {
            assert_eq!(leader, None, "{row}");
            leader = Some(name.to_owned());
            leaders.insert(name.to_owned());
        }
    }
    assert_eq!(works, worked, "all that was answered, and no more");
    assert_eq!(leaders.len(), CANDIDATES * LIVES, "each had its turn");
    let entity = mortal.server.entity("team/work").json();
    assert_eq!(entity["properties"]["n"], works);
}
