//! Each family of `GET /metrics`: its name, its type, its meaning, and the samples that it has.
//! `docs/OPERATIONS.md` has the same table for people; a test compares the two.

use super::codes::CODES;
use super::labels::{
    CloseCause, Front, PollResult, RefusalReason, SessionKind, StatusClass, SubscriberKind,
};
use super::patterns::RoutePattern;
use super::snapshot::{HistogramSample, ShardLabel, ShardSample, Snapshot};
use super::text::{Format, Kind, Lines, Value};

/// The first bound of the histograms of durations, microseconds.
const DURATION_BOUND_MICROS: u64 = 100;

/// Writes all families.
pub fn write(out: &mut Vec<u8>, snapshot: &Snapshot<'_>, format: Format) {
    let mut lines = Lines::new(out, format);
    let names = names(snapshot.shards);
    let shards = named(&names, snapshot.shards);
    let histogram_names = self::names(snapshot.histograms);
    let histograms = named(&histogram_names, snapshot.histograms);
    server(&mut lines, snapshot);
    events(&mut lines, snapshot);
    durations(&mut lines, snapshot, &histograms);
    requests(&mut lines, snapshot);
    connections(&mut lines, snapshot);
    storage(&mut lines, snapshot, &shards);
    recovery(&mut lines, &shards);
    process(&mut lines, snapshot);
    lines.end();
}

/// A shard by its name.
type Named<'s> = (&'s str, &'s ShardSample);

fn names(shards: &[ShardSample]) -> Vec<String> {
    let name = |shard: &ShardSample| match shard.shard {
        ShardLabel::Number(number) => number.to_string(),
        ShardLabel::All => "all".to_owned(),
    };
    shards.iter().map(name).collect()
}

fn named<'s>(names: &'s [String], shards: &'s [ShardSample]) -> Vec<Named<'s>> {
    names.iter().map(String::as_str).zip(shards).collect()
}

fn server(lines: &mut Lines<'_>, snapshot: &Snapshot<'_>) {
    lines.family(
        Kind::Gauge,
        "flux_build_info",
        "Always 1; the version as a label.",
    );
    let version = env!("CARGO_PKG_VERSION");
    lines.sample(&[("version", version)], Value::Number(1));
    lines.family(
        Kind::Gauge,
        "flux_ready",
        "1 if GET /ready answers 200, else 0.",
    );
    lines.sample(&[], Value::Number(u64::from(snapshot.is_ready)));
}

fn events(lines: &mut Lines<'_>, snapshot: &Snapshot<'_>) {
    lines.family(
        Kind::Counter,
        "flux_events_accepted",
        "Events stored, deletions included and repetitions not, by what they came in by.",
    );
    for front in Front::ALL {
        let of_shard = |shard: &ShardSample| shard.accepted.get(front.index()).copied();
        let sum = snapshot.shards.iter().filter_map(of_shard).sum();
        lines.sample(&[("front", front.text())], Value::Number(sum));
    }
    lines.family(
        Kind::Counter,
        "flux_events_refused",
        "Events and deletions refused, by the code of the error; a batch that is refused whole is one.",
    );
    for (code, count) in CODES.iter().zip(snapshot.totals.refused) {
        lines.sample(&[("code", code)], Value::Number(count));
    }
    lines.family(
        Kind::Counter,
        "flux_connector_polls",
        "Polls of connectors, by result.",
    );
    for (result, count) in PollResult::ALL.iter().zip(snapshot.totals.connector_polls) {
        lines.sample(&[("result", result.text())], Value::Number(count));
    }
}

fn durations(lines: &mut Lines<'_>, snapshot: &Snapshot<'_>, shards: &[Named<'_>]) {
    let of_duration = |index| Value::Micros(DURATION_BOUND_MICROS.wrapping_shl(index));
    let seconds = |of: &HistogramSample| Value::Micros(of.sum);
    lines.family(
        Kind::Histogram,
        "flux_publish_duration_seconds",
        "Time from the turn of the shard that stores an event to its answer, which waits for the disk in sync durability; events of clients and connectors.",
    );
    for (name, shard) in shards {
        let labels = [("durability", snapshot.durability), ("shard", *name)];
        let of = &shard.publish;
        lines.histogram(&labels, (&of.counts, seconds(of)), of_duration);
    }
    lines.family(
        Kind::Histogram,
        "flux_flush_duration_seconds",
        "Time that a flush of the log to the disk takes.",
    );
    for (name, shard) in shards {
        let of = &shard.flush;
        lines.histogram(&[("shard", name)], (&of.counts, seconds(of)), of_duration);
    }
    lines.family(
        Kind::Histogram,
        "flux_flush_events",
        "Events that a flush of the log makes durable.",
    );
    for (name, shard) in shards {
        let of = &shard.flush_events;
        let sum = Value::Number(of.sum);
        lines.histogram(&[("shard", name)], (&of.counts, sum), |index| {
            Value::Number(1_u64.wrapping_shl(index))
        });
    }
}

fn requests(lines: &mut Lines<'_>, snapshot: &Snapshot<'_>) {
    lines.family(
        Kind::Counter,
        "flux_http_requests",
        "Requests answered over HTTP, by method, pattern of the path and class of the status.",
    );
    for (pattern, counts) in RoutePattern::ALL.iter().zip(snapshot.totals.requests) {
        for (class, count) in StatusClass::ALL.iter().zip(counts) {
            let is_usual = !matches!(class, StatusClass::Informational | StatusClass::Redirection);
            if is_usual || count > 0 {
                let labels = [
                    ("method", pattern.method()),
                    ("route", pattern.path()),
                    ("status", class.text()),
                ];
                lines.sample(&labels, Value::Number(count));
            }
        }
    }
}

fn connections(lines: &mut Lines<'_>, snapshot: &Snapshot<'_>) {
    let totals = snapshot.totals;
    lines.family(
        Kind::Gauge,
        "flux_connections",
        "Open connections, by what they speak.",
    );
    for (kind, count) in SessionKind::ALL.iter().zip(snapshot.connections) {
        lines.sample(&[("kind", kind.text())], Value::Number(count));
    }
    lines.family(
        Kind::Counter,
        "flux_connections_opened",
        "Connections accepted (http, which each is at first), and those that went on as another kind.",
    );
    for (kind, count) in SessionKind::ALL.iter().zip(totals.opened) {
        lines.sample(&[("kind", kind.text())], Value::Number(count));
    }
    lines.family(
        Kind::Counter,
        "flux_connections_closed",
        "Connections that ended, by cause.",
    );
    for (cause, count) in CloseCause::ALL.iter().zip(totals.closed) {
        lines.sample(&[("cause", cause.text())], Value::Number(count));
    }
    lines.family(
        Kind::Counter,
        "flux_accept_failures",
        "Connections that the kernel could not hand over: no descriptor or no memory was left.",
    );
    lines.sample(&[], Value::Number(snapshot.accept_failures));
    lines.family(
        Kind::Gauge,
        "flux_subscriptions",
        "Subscriptions in force, by what asked for them; of polls, those that wait for a change.",
    );
    for (kind, count) in SubscriberKind::ALL.iter().zip(snapshot.subscriptions) {
        lines.sample(&[("kind", kind.text())], Value::Number(count));
    }
    lines.family(
        Kind::Counter,
        "flux_subscriptions_opened",
        "Subscriptions that began, by what asked for them.",
    );
    for (kind, count) in SubscriberKind::ALL.iter().zip(totals.subscribed) {
        lines.sample(&[("kind", kind.text())], Value::Number(count));
    }
    lines.family(
        Kind::Counter,
        "flux_conflated_messages",
        "Messages that slow readers were never sent because newer ones took their place.",
    );
    lines.sample(&[], Value::Number(totals.conflated));
    lines.family(
        Kind::Gauge,
        "flux_memory_bytes",
        "Memory that clients take of flux_memory_limit_bytes, by use; outboxes and streams are what subscribers are owed.",
    );
    for (use_, bytes) in snapshot.memory {
        lines.sample(&[("use", use_)], Value::Number(*bytes));
    }
    lines.family(
        Kind::Gauge,
        "flux_memory_limit_bytes",
        "The bound on the memory of all clients (FLUX_MEMORY_BYTES).",
    );
    lines.sample(&[], Value::Number(snapshot.memory_limit_bytes));
}

fn storage(lines: &mut Lines<'_>, snapshot: &Snapshot<'_>, shards: &[Named<'_>]) {
    let mut by_shard = |name, help, value: fn(&ShardSample) -> Value| {
        lines.family(Kind::Gauge, name, help);
        for (name, shard) in shards {
            lines.sample(&[("shard", name)], value(shard));
        }
    };
    by_shard("flux_entities", "Entities that exist.", |shard| {
        Value::Number(shard.entities)
    });
    by_shard(
        "flux_log_events",
        "Events that the log has stored since it began, removed ones included.",
        |shard| Value::Number(shard.log_events),
    );
    by_shard("flux_log_bytes", "Bytes of the log on the disk.", |shard| {
        Value::Number(shard.log_bytes)
    });
    by_shard(
        "flux_checkpoint_age_seconds",
        "Time since the newest checkpoint was taken or the server started; 0 if nothing came since.",
        |shard| Value::Millis(shard.checkpoint_age_ms),
    );
    by_shard(
        "flux_history_start_time_seconds",
        "Unix time before which retention has removed history; 0 if it has removed none.",
        |shard| Value::Micros(shard.history_start_micros),
    );
    lines.family(
        Kind::Gauge,
        "flux_shard_refusing",
        "Shards that refuse events for this reason.",
    );
    for (name, shard) in shards {
        for (reason, count) in RefusalReason::ALL.iter().zip(shard.refusing) {
            let labels = [("shard", *name), ("reason", reason.text())];
            lines.sample(&labels, Value::Number(count));
        }
    }
    let sizes = [
        (
            "flux_disk_free_bytes",
            "Bytes that the server may still write to the file system of its data directory.",
            snapshot.process.disk_free_bytes,
        ),
        (
            "flux_disk_bytes",
            "Size of the file system of the data directory.",
            snapshot.process.disk_bytes,
        ),
    ];
    for (name, help, bytes) in sizes {
        lines.family(Kind::Gauge, name, help);
        lines.sample(&[], Value::Number(bytes));
    }
}

fn recovery(lines: &mut Lines<'_>, shards: &[Named<'_>]) {
    let mut by_shard = |name, help, value: fn(&ShardSample) -> u64| {
        lines.family(Kind::Gauge, name, help);
        for (name, shard) in shards {
            lines.sample(&[("shard", name)], Value::Number(value(shard)));
        }
    };
    by_shard(
        "flux_recovery_events",
        "Events replayed from the log by the start, so far.",
        |shard| shard.replayed_events,
    );
    by_shard(
        "flux_recovery_bytes",
        "About the bytes of the log that these take.",
        |shard| shard.replayed_bytes,
    );
    by_shard(
        "flux_recovery_expected_bytes",
        "Bytes of the log that the start has to replay.",
        |shard| shard.replay_bytes,
    );
}

fn process(lines: &mut Lines<'_>, snapshot: &Snapshot<'_>) {
    let of = snapshot.process;
    lines.family(
        Kind::Counter,
        "process_cpu_seconds",
        "Processor time of all threads, user and system.",
    );
    lines.sample(&[], Value::Micros(of.cpu_micros));
    let gauges = [
        (
            "process_open_fds",
            "Open file descriptors.",
            Value::Number(of.open_fds),
        ),
        (
            "process_max_fds",
            "File descriptors that may be open.",
            Value::Number(of.max_fds),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory.",
            Value::Number(of.virtual_bytes),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory, mapped files included.",
            Value::Number(of.resident_bytes),
        ),
        (
            "process_start_time_seconds",
            "Unix time at which the process started.",
            Value::Millis(of.start_ms),
        ),
    ];
    for (name, help, value) in gauges {
        lines.family(Kind::Gauge, name, help);
        lines.sample(&[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{BUCKETS, ProcessSample, Totals};
    use super::*;
    use crate::limits::{METRICS_BYTES_MAX, METRICS_HISTOGRAM_SHARDS_MAX, METRICS_SHARDS_MAX};

    /// No counter comes to that in a million years of a thousand events a second.
    const HUGE: u64 = 9_999_999_999_999_999;

    fn full_shard(shard: ShardLabel) -> ShardSample {
        let histogram = HistogramSample {
            counts: [HUGE / 17; BUCKETS + 1],
            sum: HUGE,
        };
        ShardSample {
            accepted: [HUGE; Front::COUNT],
            publish: histogram.clone(),
            flush: histogram.clone(),
            flush_events: histogram,
            entities: HUGE,
            log_events: HUGE,
            log_bytes: HUGE,
            checkpoint_age_ms: HUGE,
            history_start_micros: HUGE,
            replayed_events: HUGE,
            replayed_bytes: HUGE,
            replay_bytes: HUGE,
            refusing: [1; RefusalReason::COUNT],
            ..ShardSample::new(shard)
        }
    }

    #[test]
    fn the_largest_answer_is_within_its_bound() {
        let shards: Vec<ShardSample> = (0..METRICS_SHARDS_MAX)
            .map(|number| full_shard(ShardLabel::Number(number)))
            .collect();
        let totals = Totals {
            requests: [[HUGE; StatusClass::COUNT]; RoutePattern::COUNT],
            refused: [HUGE; CODES.len()],
            opened: [HUGE; SessionKind::COUNT],
            closed: [HUGE; CloseCause::COUNT],
            subscribed: [HUGE; SubscriberKind::COUNT],
            conflated: HUGE,
            connector_polls: [HUGE; PollResult::COUNT],
        };
        let process = ProcessSample {
            cpu_micros: HUGE,
            open_fds: HUGE,
            max_fds: HUGE,
            virtual_bytes: HUGE,
            resident_bytes: HUGE,
            start_ms: HUGE,
            disk_free_bytes: HUGE,
            disk_bytes: HUGE,
        };
        let snapshot = Snapshot {
            is_ready: true,
            durability: "async",
            process,
            connections: [HUGE; SessionKind::COUNT],
            accept_failures: HUGE,
            subscriptions: [HUGE; SubscriberKind::COUNT],
            totals: &totals,
            shards: &shards,
            histograms: &shards[..usize::from(METRICS_HISTOGRAM_SHARDS_MAX)],
            memory_limit_bytes: HUGE,
            memory: &[("connectors", HUGE); 6],
        };
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let mut out = Vec::new();
            write(&mut out, &snapshot, format);
            assert!(out.len() <= METRICS_BYTES_MAX, "{format:?}: {}", out.len());
        }
    }
}
