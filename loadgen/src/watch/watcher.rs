//! One thread of watchers: subscribes them all, then reads updates until nothing more is to come.

use super::Stage;
use super::ledger::{Interest, Ledger, Tally};
use super::mark::MarkFinder;
use crate::affinity;
use crate::clock::{Moment, thread_cpu_time};
use crate::drive::{Plan, busy_share};
use crate::entities::Entities;
use crate::net::{Input, Link, Poller, Received};
use crate::options::{Mode, WatchOptions};
use crate::stats::new_histogram;
use crate::ws::{self, Frame, next_frame, write_pong, write_text};
use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use memchr::memmem;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a thread without messages looks at whether the publishers are done.
const IDLE_PAUSE: Duration = Duration::from_millis(20);

/// How long subscriptions may take to be acknowledged.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Updates only: the messages about the server itself are not part of the measurement.
const PATH: &str = "/api/ws?metrics=false";

/// What all threads of a watch run work with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) entities: &'a Entities,
    pub(super) options: &'a WatchOptions,
    pub(super) stage: &'a Stage,
}

/// What the watchers of one thread saw, or of all.
#[derive(Debug)]
pub(super) struct Watched {
    /// From when an event was due to its receipt.
    pub(super) latency: Histogram<u64>,
    pub(super) tally: Tally,
    pub(super) worst_lost: u64,
    pub(super) with_losses: u64,
    /// Watchers whose connection ended, by reason.
    pub(super) ended: BTreeMap<String, u64>,
    pub(super) busy: Vec<f64>,
}

impl Watched {
    pub(super) fn new() -> Self {
        Self {
            latency: new_histogram(),
            tally: Tally::default(),
            worst_lost: 0,
            with_losses: 0,
            ended: BTreeMap::new(),
            busy: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.latency
            .add(&other.latency)
            .expect("all histograms have the same bounds");
        self.tally.add(&other.tally);
        self.worst_lost = self.worst_lost.max(other.worst_lost);
        self.with_losses += other.with_losses;
        for (reason, &count) in &other.ended {
            *self.ended.entry(reason.clone()).or_default() += count;
        }
        self.busy.extend(&other.busy);
    }

    fn close(&mut self, ledger: &Ledger, ends: &[u64]) {
        let tally = ledger.close(ends);
        self.tally.add(&tally);
        self.worst_lost = self.worst_lost.max(tally.lost);
        self.with_losses += u64::from(tally.lost > 0);
    }
}

#[derive(Debug)]
struct Watcher {
    /// `None` once it has ended.
    link: Option<Link>,
    subscribed: bool,
    ledger: Ledger,
}

struct Crowd<'a> {
    session: Session<'a>,
    poller: Poller,
    input: Input,
    watchers: Vec<Watcher>,
    finder: MarkFinder,
    /// Watchers that wait for the acknowledgement of their subscription.
    unsubscribed: usize,
    last_message: Moment,
    /// Events that were due before this are warm-up.
    measure_from: Moment,
    watched: Watched,
}

/// Runs the watchers that fall to thread `(index, count)`.
///
/// # Errors
/// When a connection cannot be opened or a subscription is refused.
pub(super) fn run(session: Session<'_>, part: (usize, usize)) -> Result<Watched> {
    let subscribed = Crowd::open(session, part).and_then(|mut crowd| {
        crowd.subscribe()?;
        Ok(crowd)
    });
    session
        .stage
        .failed
        .fetch_or(subscribed.is_err(), Ordering::Release);
    session.stage.ready.fetch_add(1, Ordering::Release);

    let mut crowd = subscribed?;
    crowd.watch()?;
    Ok(crowd.watched)
}

impl<'a> Crowd<'a> {
    fn open(session: Session<'a>, (index, count): (usize, usize)) -> Result<Self> {
        let Session {
            plan,
            entities,
            options,
            stage,
        } = session;
        affinity::settle(&plan.load.cpu, index)?;
        let poller = Poller::new()?;
        let mut watchers = Vec::new();
        for number in (index as u64..u64::from(options.watchers)).step_by(count) {
            let interest = Interest::new(
                options.filter,
                entities,
                (number, u64::from(options.watchers)),
            );
            let stream = ws::open(plan.target, PATH)
                .with_context(|| format!("cannot open watcher {number}"))?;
            let mut link = Link::adopt(stream, &poller, watchers.len())?;
            let mode = match options.mode {
                // As clients do it that know of no modes.
                Mode::Property => "",
                Mode::Entity => r#","mode":"entity""#,
                Mode::Event => r#","mode":"event""#,
            };
            let subscription = format!(
                r#"{{"type":"subscribe","entity_id":"{}","id":1{mode}}}"#,
                interest.pattern
            );
            write_text(&subscription, link.output());
            link.flush(&poller)?;
            let ledger = Ledger::new(interest, super::starts(entities, plan.load.connections));
            watchers.push(Watcher {
                link: Some(link),
                subscribed: false,
                ledger,
            });
        }
        Ok(Self {
            session,
            poller,
            input: Input::new(),
            unsubscribed: watchers.len(),
            watchers,
            finder: MarkFinder::new(stage.run),
            last_message: plan.clock.now(),
            measure_from: plan.clock.now(),
            watched: Watched::new(),
        })
    }

    /// Waits until every subscription is acknowledged.
    fn subscribe(&mut self) -> Result<()> {
        let give_up = self.session.plan.clock.now() + SUBSCRIBE_TIMEOUT;
        while self.unsubscribed > 0 {
            if self.session.plan.clock.now() >= give_up {
                bail!("{} subscriptions were not acknowledged", self.unsubscribed);
            }
            self.turn()?;
            if let Some((reason, _)) = self.watched.ended.first_key_value() {
                bail!("a watcher ended before its subscription: {reason}");
            }
        }
        Ok(())
    }

    /// Reads until the publishers are done and nothing is missing, or nothing has come for long
    /// enough.
    fn watch(&mut self) -> Result<()> {
        let clock = self.session.plan.clock;
        let begin = clock.now();
        let cpu = thread_cpu_time();
        self.measure_from = begin + self.session.plan.load.warmup;
        self.last_message = begin;
        let mut done_at = None;
        loop {
            self.turn()?;
            let Some(ends) = self.session.stage.ends.get() else {
                continue;
            };
            let now = clock.now();
            if done_at.is_none() {
                self.watched.busy.push(busy_share(cpu, now.since(begin)));
            }
            let done_at = *done_at.get_or_insert(now);
            let quiet_since = self.last_message.max(done_at);
            if self.is_complete(ends) || now.since(quiet_since) >= self.session.options.drain {
                for watcher in &self.watchers {
                    self.watched.close(&watcher.ledger, ends);
                }
                return Ok(());
            }
        }
    }

    fn is_complete(&self, ends: &[u64]) -> bool {
        self.watchers
            .iter()
            .all(|watcher| watcher.link.is_none() || watcher.ledger.is_complete(ends))
    }

    fn turn(&mut self) -> Result<()> {
        self.poller.wait(IDLE_PAUSE)?;
        for number in 0.. {
            let Some(ready) = self.poller.ready(number) else {
                break;
            };
            if let Err(reason) = self.serve(ready.index) {
                *self.watched.ended.entry(format!("{reason:#}")).or_default() += 1;
                self.watchers[ready.index].link = None;
            }
        }
        Ok(())
    }

    /// # Errors
    /// When the connection has come to its end, with the reason.
    fn serve(&mut self, index: usize) -> Result<()> {
        let Self {
            watchers,
            poller,
            input,
            ..
        } = self;
        let watcher = &mut watchers[index];
        let Some(link) = &mut watcher.link else {
            return Ok(());
        };
        link.flush(poller)?;
        let mut rest = match link.receive(input)? {
            Received::Nothing => return Ok(()),
            Received::Closed => bail!("closed by the server"),
            Received::Bytes(bytes) => bytes,
        };
        let now = self.session.plan.clock.now();
        self.last_message = now;
        while let Some(frame) = next_frame(&mut rest)? {
            match frame {
                Frame::Text(text) => match self.finder.find(text) {
                    Some(mark) => {
                        watcher.ledger.see(mark.publisher, mark.number);
                        if mark.due >= self.measure_from {
                            self.watched
                                .latency
                                .saturating_record(now.nanos_since(mark.due));
                        }
                    }
                    None if watcher.subscribed => {}
                    None => {
                        check_acknowledgement(text)?;
                        watcher.subscribed = true;
                        self.unsubscribed -= 1;
                    }
                },
                Frame::Ping(payload) => write_pong(payload, link.output()),
                Frame::Pong => {}
                Frame::Close(code) => bail!("closed by the server with code {code}"),
            }
        }
        link.flush(poller)?;
        if !link.keep(rest) {
            bail!("the server sent a frame that is too long");
        }
        Ok(())
    }
}

fn check_acknowledgement(text: &[u8]) -> Result<()> {
    if memmem::find(text, br#""ack""#).is_none() {
        bail!(
            "subscription refused: {}",
            String::from_utf8_lossy(&text[..text.len().min(200)])
        );
    }
    Ok(())
}
