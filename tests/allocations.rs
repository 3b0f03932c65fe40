//! The hot path allocates nothing per event: request bytes → request → stored event → log → state →
//! answer, with buffers that are reused from one event to the next.

use flux::api::encode;
use flux::api::event::{Decoded, EventDecoder, EventIds};
use flux::api::json::Scanner;
use flux::engine::Engine;
use flux::log::MemoryLog;
use flux::model::{Durability, PackedEvent, Timestamp};
use flux::shard::{RequestId, Shard};
use flux::wire::http1::{BodyLength, Next, RequestReader, ResponseHead, Version};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Who publishes.
const ASKER: RequestId = RequestId {
    connection: 0,
    generation: 0,
    serial: 0,
};

/// The buffers that one core keeps from one event to the next.
struct Path {
    reader: RequestReader,
    decoder: EventDecoder,
    ids: EventIds,
    shard: Shard<MemoryLog>,
    event: Vec<u8>,
    body: Vec<u8>,
    answers: Vec<u8>,
}

impl Path {
    fn publish(&mut self, request: &[u8], now: Timestamp) {
        self.reader.receive(request);
        let Next::Request(request) = self.reader.next(|_| 1 << 20).expect("a valid request") else {
            panic!("not whole")
        };
        let Self {
            decoder,
            ids,
            event,
            body,
            ..
        } = self;
        event.clear();
        body.clear();
        let mut scanner = Scanner::new(request.body).expect("UTF-8");
        decoder
            .decode(
                &mut scanner,
                ids,
                now.as_millis(),
                |decoded| match decoded {
                    Decoded::Event(draft, _) => {
                        draft.encode(event);
                        encode::published(body, draft.event_id, draft.stream);
                    }
                    Decoded::Refused { error, .. } => panic!("{error}"),
                },
            )
            .expect("valid JSON");
        scanner.finish().expect("nothing follows");
        self.shard
            .publish(now, (PackedEvent::plain(event), ASKER), None)
            .expect("there is room");
        let head = ResponseHead {
            status: 200,
            content_type: Some("application/json"),
            body: BodyLength::Known(body.len() as u64),
            version: Version::Http11,
            keep_alive: true,
            date: &[b' '; 29],
            headers: &[("Access-Control-Allow-Origin", "*")],
        };
        self.answers.clear();
        head.write(&mut self.answers);
        self.answers.extend_from_slice(body);
    }
}

fn request(entity: usize, value: usize) -> Vec<u8> {
    let body = format!(
        r#"{{"stream":"sensors","source":"a","payload":{{"entity_id":"house/{entity}","properties":{{"n":{value},"s":"on","t":22.50}}}}}}"#
    );
    let head = format!(
        "POST /api/events HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head, body].concat().into_bytes()
}

#[test]
fn publishing_to_known_entities_allocates_nothing() {
    let log = MemoryLog::with_capacity(2000, 1 << 20);
    let mut path = Path {
        reader: RequestReader::default(),
        decoder: EventDecoder::default(),
        ids: EventIds::new(1),
        shard: Shard::new(Engine::default(), log, Durability::Async, 1),
        event: Vec::new(),
        body: Vec::new(),
        answers: Vec::new(),
    };
    let requests: Vec<Vec<u8>> = (0..200)
        .map(|number| request(number % 50, 1000 + number))
        .collect();
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    for request in &requests {
        path.publish(request, now);
    }
    let profiler = dhat::Profiler::builder().testing().build();
    for _ in 0..5 {
        for request in &requests {
            path.publish(request, now);
        }
    }
    let stats = dhat::HeapStats::get();
    drop(profiler);
    assert_eq!(stats.total_blocks, 0, "blocks allocated for 1,000 events");
}
