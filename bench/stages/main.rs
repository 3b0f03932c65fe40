//! What each stage of an event's path costs by itself, in the order of the path; `cargo bench
//! --bench stages`.
//!
//! Each stage is measured alone and warm. The sum is less than what a server spends, because it
//! has no sockets, no waiting, and no cache misses between the stages. The order of the entities is
//! one that the processor cannot predict.
#![expect(missing_docs, reason = "criterion's macros make functions")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use flux::api::event::{Decoded, EventDecoder, EventIds};
use flux::api::json::Scanner;
use flux::engine::{Engine, Write};
use flux::limits::BODY_SINGLE_BYTES_DEFAULT;
use flux::log::MemoryLog;
use flux::model::{PackedEvent, RECORD_KIND_EVENT, Timestamp};
use flux::subscribe::{ChangeBatch, ChangeBatchBuilder, Filter, Outbox, OutboxLimits, Registry};
use flux::wire::http1::{self, BodyLength, RequestReader, ResponseHead, Version, imf_fixdate};
use flux::wire::ws::MessageReader;
use flux_storage::{AppendError, DataDir, Log, LogOptions, Sequence};
use std::hint::black_box;
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
/// Entities that fit no cache of a processor, and such as do.
const ENTITIES: [u64; 2] = [1_000, 1_000_000];

fn id(number: u64) -> String {
    format!("load-{:04}/e-{number:08}", number % 16)
}

/// An event of three properties, as the load generator sends it.
fn body(number: u64) -> String {
    format!(
        "{{\"stream\":\"load\",\"source\":\"bench\",\"payload\":{{\"entity_id\":\"{}\",\"properties\":\
         {{\"p0\":{number},\"p1\":\"abcdefghijklmnop\",\"p2\":\"ponmlkjihgfedcba\"}}}}}}",
        id(number)
    )
}

/// The stored form of such an event.
fn stored(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    decode(
        &mut EventDecoder::default(),
        &mut EventIds::new(1),
        &body(number),
        &mut out,
    );
    out
}

/// An event without an id of its producer that asks for nothing besides.
fn plain(event: &[u8]) -> Write<'_> {
    Write {
        packed: PackedEvent::plain(event),
        sent: None,
    }
}

fn decode(decoder: &mut EventDecoder, ids: &mut EventIds, body: &str, out: &mut Vec<u8>) {
    let mut scanner = Scanner::new(body.as_bytes()).expect("JSON");
    let decoded = decoder.decode(
        &mut scanner,
        ids,
        NOW.as_millis(),
        |decoded| match decoded {
            Decoded::Event(draft, _) => draft.encode(out),
            Decoded::Refused { error, .. } => panic!("{error}"),
        },
    );
    decoded.expect("JSON");
}

/// Numbers below `bound` in an order without a pattern.
fn shuffled(bound: u64) -> impl FnMut() -> u64 {
    let mut seed = 1_u64;
    move || {
        seed = seed
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) % bound
    }
}

fn codecs(criterion: &mut Criterion) {
    let body = body(7);
    let request = format!(
        "POST /api/events HTTP/1.1\r\nHost: localhost:3000\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut group = criterion.benchmark_group("codec");
    let mut reader = RequestReader::default();
    group.bench_function("http request: head and body", |bencher| {
        bencher.iter(|| {
            reader.receive(black_box(request.as_bytes()));
            let limit = BODY_SINGLE_BYTES_DEFAULT as usize;
            matches!(reader.next(|_| limit), Ok(http1::Next::Request(_)))
        });
    });
    let message = format!("{{\"type\":\"publish\",\"messageId\":\"1\",\"event\":{body}}}");
    let mut frame = vec![0x81, 0xfe];
    frame.extend_from_slice(&u16::try_from(message.len()).expect("short").to_be_bytes());
    let mask = [1, 2, 3, 4];
    frame.extend_from_slice(&mask);
    frame.extend(
        message
            .bytes()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    let mut reader = MessageReader::default();
    group.bench_function("websocket frame: header, unmask, UTF-8", |bencher| {
        bencher.iter(|| {
            reader.receive(black_box(&frame));
            matches!(reader.next(), Ok(Some(_)))
        });
    });
    let (mut decoder, mut ids, mut out) = (EventDecoder::default(), EventIds::new(1), Vec::new());
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("event: JSON to its stored form", |bencher| {
        bencher.iter(|| {
            out.clear();
            decode(&mut decoder, &mut ids, black_box(&body), &mut out);
        });
    });
    let mut date = [0; 29];
    imf_fixdate(1_700_000_000, &mut date);
    let head = ResponseHead {
        status: 200,
        content_type: Some("application/json"),
        body: BodyLength::Known(66),
        version: Version::Http11,
        keep_alive: true,
        date: &date,
        headers: &[("Access-Control-Allow-Origin", "*")],
    };
    group.throughput(Throughput::Elements(1));
    group.bench_function("head of an answer", |bencher| {
        bencher.iter(|| {
            out.clear();
            black_box(&head).write(&mut out);
        });
    });
    group.finish();
}

fn engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    for count in ENTITIES {
        let (mut engine, mut log) = (Engine::default(), MemoryLog::discarding());
        let events: Vec<Vec<u8>> = (0..count).map(stored).collect();
        for event in &events {
            engine
                .publish(&mut log, NOW, plain(event))
                .expect("it refuses nothing");
        }
        let mut next = shuffled(count);
        group.bench_function(format!("decide and apply, {count} entities"), |bencher| {
            bencher.iter(|| {
                let event = &events[usize::try_from(next()).expect("64 bits")];
                engine.publish(&mut log, NOW, plain(black_box(event)))
            });
        });
        let mut out = Vec::new();
        let ids: Vec<String> = (0..count).map(id).collect();
        group.bench_function(format!("read and encode, {count} entities"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let id = &ids[usize::try_from(next()).expect("64 bits")];
                engine.read(black_box(id), (None, usize::MAX), &mut out)
            });
        });
        let mut sequence = count;
        group.bench_function(format!("replay, {count} entities"), |bencher| {
            bencher.iter(|| {
                sequence += 1;
                let event = &events[usize::try_from(next()).expect("64 bits")];
                engine.replay((Sequence::new(sequence), NOW, black_box(event)), 0, 1)
            });
        });
    }
    group.finish();
}

/// An empty log; the directory goes with it.
fn log() -> (Log, TempDir) {
    let dir = tempfile::Builder::new()
        .prefix("stages-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("a directory");
    let options = LogOptions::default();
    let mut data = DataDir::open(dir.path().join("data"), 1, options).expect("a data directory");
    let place = data.take_log(0);
    let opened = Log::open(place, |_| Ok::<(), std::convert::Infallible>(()));
    (opened.expect("an empty log").0, dir)
}

fn append(log: &mut Log, event: &[u8]) {
    while let Err(error) = log.append(RECORD_KIND_EVENT, NOW.as_micros(), event) {
        assert!(
            matches!(error, AppendError::SegmentNeeded { .. }),
            "{error}"
        );
        if let Some(job) = log.next_segment_job() {
            let spare = job.run().expect("room on the disk");
            log.install_next_segment(spare);
        }
    }
}

fn storage(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    let event = stored(7);
    group.throughput(Throughput::Bytes(event.len() as u64));
    let (mut appended, _dir) = log();
    group.bench_function("append, with its share of making segments", |bencher| {
        bencher.iter(|| append(&mut appended, black_box(&event)));
    });
    group.throughput(Throughput::Elements(1));
    for count in [1, 64, 1_000] {
        let (mut flushed, _dir) = log();
        group.bench_function(format!("flush of {count} events"), |bencher| {
            bencher.iter_batched(
                || (),
                |()| {
                    for _ in 0..count {
                        append(&mut flushed, &event);
                    }
                    flushed.flush_blocking().expect("a good disk");
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Queues each change for the subscribers that it matches, and empties their outboxes at once.
fn owe(
    batch: &ChangeBatch,
    registry: &Registry<u32>,
    hits: &mut Vec<u32>,
    outboxes: &mut [Outbox],
) {
    for change in batch.changes() {
        hits.clear();
        registry.matches(change.entity_id(), hits);
        for &key in &*hits {
            let outbox = &mut outboxes[key as usize];
            outbox.push_change(change).expect("it is emptied");
            let len = outbox.pending().len();
            outbox.advance(len);
        }
    }
}

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan-out");
    let mut builder = ChangeBatchBuilder::new();
    let mut build = || {
        builder.begin();
        builder.change("load-0007/e-00000007", Sequence::ZERO);
        for property in ["p0", "p1", "p2"] {
            builder.update(property, |out| out.extend_from_slice(&[b'x'; 180]));
        }
        builder.finish()
    };
    group.bench_function("collect a change of three properties", |bencher| {
        bencher.iter(&mut build);
    });
    let batch = build();
    for subscribers in [1_u32, 100] {
        let mut registry = Registry::new();
        let filter = Filter::parse("load-0007/*").expect("a filter");
        (0..subscribers).for_each(|key| registry.subscribe(key, &filter));
        let mut outboxes: Vec<Outbox> = (0..subscribers)
            .map(|_| Outbox::new(OutboxLimits::default()))
            .collect();
        let mut hits = Vec::new();
        group.throughput(Throughput::Elements(u64::from(subscribers)));
        group.bench_function(
            format!("match and owe a change to {subscribers}"),
            |bencher| {
                bencher.iter(|| owe(&batch, &registry, &mut hits, &mut outboxes));
            },
        );
    }
    group.finish();
}

criterion_group!(stages, codecs, engine, storage, fan_out);
criterion_main!(stages);
