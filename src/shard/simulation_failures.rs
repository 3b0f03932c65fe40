//! What a shard still says when its disk has failed.

use super::simulation::ASKER;
use super::simulation::{origin, read, released, shard, small_event};
use super::{Envelope, Reply, Shard, ShardRequest};
use crate::engine::Engine;
use crate::log::{Log as _, MemoryLog};
use crate::model::{Durability, PackedEvent, Timestamp};
use crate::subscribe::{Filter, Interest};
use flux_storage::Sequence;

#[test]
fn after_a_failed_flush_nothing_undurable_is_shown_or_taken() {
    let mut shard = shard();
    let now = Timestamp::from_micros(1);
    shard.engine_subscribe_for_test();
    shard
        .publish(now, (PackedEvent::plain(&small_event()), ASKER), None)
        .unwrap();
    shard.request(
        Envelope {
            origin: origin(1),
            request: read("n/e"),
        },
        now,
    );
    let subscribe = |shard: &mut Shard<MemoryLog>| {
        let interest = Interest::plain(Filter::All);
        let envelope = Envelope {
            origin: origin(3),
            request: ShardRequest::Subscribe(Box::new(interest)),
        };
        shard.request(envelope, now);
    };
    subscribe(&mut shard);
    shard.flush_begins();
    shard.fail();
    // Who watches is told that it does, from what is durable on.
    let replies = released(&mut shard);
    assert!(matches!(
        replies[..],
        [Reply::Refused(_), Reply::Subscribed(Sequence::ZERO)]
    ));
    subscribe(&mut shard);
    assert!(matches!(
        released(&mut shard)[..],
        [Reply::Subscribed(Sequence::ZERO)]
    ));
    assert!(shard.take_changes(Timestamp::default()).is_none());
    shard.request(
        Envelope {
            origin: origin(2),
            request: read("n/e"),
        },
        now,
    );
    assert!(matches!(released(&mut shard)[..], [Reply::Refused(_)]));
}

#[test]
fn after_a_failed_write_what_the_kernel_does_not_have_is_not_shown_in_async_either() {
    let mut shard = Shard::new(Engine::default(), MemoryLog::new(), Durability::Async, 1);
    let now = Timestamp::from_micros(1);
    let ask = |shard: &mut Shard<MemoryLog>| {
        let envelope = Envelope {
            origin: origin(1),
            request: read("n/e"),
        };
        shard.request(envelope, now);
    };
    shard
        .publish(now, (PackedEvent::plain(&small_event()), ASKER), None)
        .unwrap();
    shard.log_mut().write_out().unwrap();
    ask(&mut shard);
    assert!(matches!(released(&mut shard)[..], [Reply::Entity(Some(_))]));
    shard
        .publish(now, (PackedEvent::plain(&small_event()), ASKER), None)
        .unwrap();
    ask(&mut shard);
    shard.fail();
    assert_eq!(shard.visible(), Sequence::new(1));
    assert!(matches!(released(&mut shard)[..], [Reply::Refused(_)]));
    ask(&mut shard);
    assert!(matches!(released(&mut shard)[..], [Reply::Refused(_)]));
}
