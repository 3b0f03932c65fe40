//! Clients that ask for much beside others that ask for little: what these lose.
//!
//! If a test compares rates, the time that a turn takes follows from the units of work that the
//! core did in it (`limits`). If it counts turns, each takes the same time.

use super::hostile::{event, get, quiet_world, request, text_frame};
use super::network::ClientSocket;
use super::watcher::HANDSHAKE;
use super::world::World;
use crate::limits::{TURN_UNITS_MAX, UNITS_PER_MICRO};
use crate::model::Slicing;
use std::collections::VecDeque;
use std::net::Ipv4Addr;

/// Clients who pipeline requests for a large entity, and take every answer at once.
struct Greedy {
    sockets: Vec<ClientSocket>,
    request: Vec<u8>,
}

impl Greedy {
    fn connect(world: &mut World, count: u8) -> Self {
        let addresses = (0..count).map(|number| Ipv4Addr::new(10, 3, 0, number));
        Self {
            sockets: addresses
                .map(|address| world.connect_from(address, usize::MAX))
                .collect(),
            request: get("/api/state/entities/d0%2Flarge").repeat(4),
        }
    }

    fn step(&mut self) {
        for socket in &mut self.sockets {
            socket.receive(usize::MAX);
            drop(socket.take_unchecked());
            if socket.unreceived() < self.request.len() {
                socket.send(&self.request);
            }
        }
    }
}

/// Clients that connect many at a time, ask for a large entity, take nothing, and go away.
#[derive(Default)]
struct Waves {
    sockets: VecDeque<ClientSocket>,
}

impl Waves {
    /// Connections that begin in each turn, and that there are at a time.
    const EACH_TURN: u8 = 48;
    const AT_A_TIME: usize = 400;

    fn step(&mut self, world: &mut World) {
        for number in 0..Self::EACH_TURN {
            let address = Ipv4Addr::new(10, 3, 0, number);
            let socket = world.connect_from(address, 0);
            socket.send(&get("/api/state/entities/d0%2Flarge").repeat(4));
            self.sockets.push_back(socket);
        }
        let gone = self.sockets.len().saturating_sub(Self::AT_A_TIME);
        self.sockets.drain(..gone);
    }
}

/// Small requests, one after the other, that are answered in 400 turns while others do their part
/// in each.
fn answered_beside(mut world: World, mut others: impl FnMut(&mut World)) -> u32 {
    let small = world.connect_from(Ipv4Addr::new(10, 3, 1, 1), usize::MAX);
    let mut answers = 0;
    small.send(&get("/api/state/entities/none"));
    for _ in 0..400 {
        world.round(3_000);
        others(&mut world);
        small.receive(usize::MAX);
        if !small.take_unchecked().is_empty() {
            answers += 1;
            small.send(&get("/api/state/entities/none"));
        }
    }
    answers
}

/// It keeps nine of ten answers.
fn keeps_its_rate(answers: u32) {
    let alone = answered_beside(quiet_world(Slicing::SMALL), |_| {});
    assert!(alone > 100, "{alone} answers alone");
    assert!(
        answers * 10 >= alone * 9,
        "{answers} answers beside them, {alone} without them"
    );
}

#[test]
fn a_small_request_does_not_wait_behind_the_large_ones_of_others() {
    let mut world = quiet_world(Slicing::SMALL);
    let mut greedy = Greedy::connect(&mut world, 64);
    keeps_its_rate(answered_beside(world, |_| greedy.step()));
}

#[test]
fn a_small_request_does_not_wait_behind_those_who_connect_ask_for_much_and_go() {
    let mut waves = Waves::default();
    keeps_its_rate(answered_beside(quiet_world(Slicing::SMALL), |world| {
        waves.step(world);
    }));
}

/// Units of work that a core has done.
fn spent(world: &World) -> u64 {
    let cores = world.cores();
    cores.map(|core| core.context.router.spent()).sum()
}

/// A client that sends one small request after the other: publishes a value, then reads it.
struct Modest {
    socket: ClientSocket,
    id: String,
    answers: u32,
}

impl Modest {
    fn connect(world: &mut World, number: u8) -> Self {
        let modest = Self {
            socket: world.connect_from(Ipv4Addr::new(10, 4, 0, number), usize::MAX),
            id: format!("d1/modest{number}"),
            answers: 0,
        };
        modest.ask();
        modest
    }

    fn ask(&self) {
        let number = self.answers;
        let request = if number.is_multiple_of(2) {
            let event = event(&self.id, "number", &number.to_string(), "");
            request("POST /api/events", &event)
        } else {
            let id = self.id.replace('/', "%2F");
            get(&format!("/api/state/entities/{id}"))
        };
        self.socket.send(&request);
    }

    fn step(&mut self) {
        self.socket.receive(usize::MAX);
        let answer = self.socket.take_unchecked();
        if !answer.is_empty() {
            let text = String::from_utf8_lossy(&answer);
            assert!(text.starts_with(ANSWER), "{text}");
            self.answers += 1;
            self.ask();
        }
    }
}

/// What a good answer begins with.
const ANSWER: &str = "HTTP/1.1 200 ";

/// A client that never waits: so many requests of it are always on their way.
struct Pipeline {
    socket: ClientSocket,
    request: Vec<u8>,
    /// The last bytes of what it received: a head may come in two parts.
    tail: Vec<u8>,
    answers: usize,
}

impl Pipeline {
    fn connect(world: &mut World, number: u8, request: Vec<u8>, in_flight: usize) -> Self {
        let socket = world.connect_from(Ipv4Addr::new(10, 4, 1, number), usize::MAX);
        socket.send(&request.repeat(in_flight));
        Self {
            socket,
            request,
            tail: Vec::new(),
            answers: 0,
        }
    }

    fn step(&mut self) {
        self.socket.receive(usize::MAX);
        self.tail.extend(self.socket.take_unchecked());
        let answers = self.tail.windows(ANSWER.len());
        let answers = answers.filter(|it| *it == ANSWER.as_bytes()).count();
        let seen = self.tail.len().saturating_sub(ANSWER.len() - 1);
        self.tail.drain(..seen);
        self.answers += answers;
        self.socket.send(&self.request.repeat(answers));
    }
}

/// Requests of a hundred modest clients that are answered while the core does so much work, and
/// those of greedy clients beside them, if there are any.
fn answers_of_a_hundred(has_greedy: bool) -> (u32, Vec<usize>) {
    const UNITS: u64 = 200_000_000;
    const TURNS_MAX: u32 = 20_000;
    /// What a turn takes in which there is nothing to do.
    const IDLE_MICROS: u64 = 20;
    let mut world = quiet_world(Slicing::SERVER);
    let mut modest: Vec<Modest> = (0..100)
        .map(|number| Modest::connect(&mut world, number))
        .collect();
    let mut greedy = Vec::new();
    if has_greedy {
        let one = request("POST /api/events", &event("d2/one", "a", "b", ""));
        let event = event("d2/batch", "a", "b", "");
        let events = vec![event; 1000].join(",");
        let batch = request(
            "POST /api/events/batch",
            &format!(r#"{{"events":[{events}]}}"#),
        );
        greedy.push(Pipeline::connect(&mut world, 0, one, 256));
        greedy.push(Pipeline::connect(&mut world, 1, batch, 2));
    }
    // All are accepted, and ticks pass.
    for _ in 0..100 {
        world.round(3_000);
    }
    let begin = spent(&world);
    let mut micros = IDLE_MICROS;
    for _ in 0..TURNS_MAX {
        let before = spent(&world);
        if before - begin >= UNITS {
            let answers = modest.iter().map(|client| client.answers).sum();
            return (answers, greedy.iter().map(|it| it.answers).collect());
        }
        world.round(micros);
        modest.iter_mut().for_each(Modest::step);
        greedy.iter_mut().for_each(Pipeline::step);
        micros = (spent(&world) - before).div_ceil(UNITS_PER_MICRO);
        micros = micros.max(IDLE_MICROS);
    }
    panic!("so much work is not done in {TURNS_MAX} turns");
}

#[test]
fn greedy_clients_beside_a_hundred_modest_ones_cost_these_a_fifth_of_their_rate_at_most() {
    let (alone, _) = answers_of_a_hundred(false);
    let (beside, of_greedy) = answers_of_a_hundred(true);
    assert!(alone > 10_000, "{alone} answers alone");
    assert!(
        of_greedy.iter().all(|answers| *answers > 1),
        "they are served too: {of_greedy:?}"
    );
    assert!(
        beside * 5 >= alone * 4,
        "{beside} answers beside greedy clients ({of_greedy:?}), {alone} without them"
    );
}

/// The most turns in which one of 32 clients that read a large list is sent nothing. As many small
/// answers and pushed changes as fill each turn's writes go out beside theirs.
fn longest_wait_of_large_answers() -> u32 {
    const SMALL: u16 = 400;
    const SUBSCRIBERS: u16 = 450;
    const LARGE: u16 = 32;
    const TURNS: u32 = 120;
    let address = |kind: u8, number: u16| {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(10, kind, high, low)
    };
    let mut world = quiet_world(Slicing::SERVER);
    let mut connect = |kind: u8, count: u16| -> Vec<ClientSocket> {
        let numbers = 0..count;
        numbers
            .map(|number| world.connect_from(address(kind, number), usize::MAX))
            .collect()
    };
    let (small, subscribers) = (connect(5, SMALL), connect(6, SUBSCRIBERS));
    let (large, publisher) = (connect(7, LARGE), connect(8, 1));
    let subscribe = text_frame(r#"{"type":"subscribe","entity_id":"d3/pushed"}"#);
    for subscriber in &subscribers {
        subscriber.send(&[HANDSHAKE.as_bytes(), &subscribe].concat());
    }
    let (small_get, list) = (
        get("/api/state/entities/d0%2F1"),
        get("/api/state/entities?prefix=d0/").repeat(4),
    );
    let mut waits = vec![0_u32; large.len()];
    let (mut most, mut begin) = (0, 0);
    let drain = |socket: &ClientSocket| {
        socket.receive(usize::MAX);
        socket.take_unchecked().len()
    };
    for turn in 0..2 * TURNS {
        let number = format!("{turn}{}", "z".repeat(10_000));
        let event = event("d3/pushed", "number", &number, "");
        publisher[0].send(&request("POST /api/events", &event));
        for socket in &small {
            socket.send(&small_get);
        }
        for socket in large.iter().filter(|it| it.unreceived() == 0) {
            socket.send(&list);
        }
        world.round(3_000);
        for socket in small.iter().chain(&subscribers) {
            drain(socket);
        }
        drain(&publisher[0]);
        if turn == TURNS {
            // All are there by now.
            begin = spent(&world);
            waits.fill(0);
        }
        for (wait, socket) in waits.iter_mut().zip(&large) {
            *wait = if drain(socket) > 0 { 0 } else { *wait + 1 };
            most = most.max(if turn > TURNS { *wait } else { 0 });
        }
    }
    let units = (spent(&world) - begin) / u64::from(TURNS);
    assert!(units > 2 * TURN_UNITS_MAX, "the turns are full: {units}");
    most
}

#[test]
fn a_large_answer_keeps_its_share_beside_small_ones_and_pushed_changes() {
    let most = longest_wait_of_large_answers();
    assert!(most <= 16, "a client was sent nothing in {most} turns");
}
