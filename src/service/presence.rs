//! Presence: entities that are bound to a connection, and its end.

use super::Context;
use super::subscribe::Subscriber;
use crate::log::Log;

/// A connection that bound entities ends: tells every shard, each of which knows what it is about.
/// Never refused: an entity that stays bound to nobody would stay for ever.
pub(crate) fn leave<L: Log>(context: &mut Context<L>, subscriber: Subscriber) {
    let request_id = subscriber.request_id(0);
    for shard in 0..context.router.shards {
        context.router.unbind(shard, request_id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::super::publish::{self, Besides};
    use super::super::testing::TestCores;
    use super::super::{delete, read};
    use super::*;
    use crate::api::query::ReadQuery;
    use fastrand::Rng;
    use std::collections::BTreeMap;

    /// Ids of both of two shards.
    const IDS: [&str; 4] = ["n1/a", "n0/a", "n1/b", "n0/b"];

    /// A connection: its core, index and generation.
    type Client = (usize, u32, u32);

    /// Ten lines that say what a binding means: who holds an entity, or until when it lingers.
    #[derive(Debug, Clone, Copy)]
    struct Bound {
        holder: Option<Client>,
        until_ms: u64,
        linger_ms: u32,
    }

    /// Cores, and what they should hold: an entity, and how it is bound if it is.
    struct World {
        cores: TestCores,
        model: BTreeMap<&'static str, Option<Bound>>,
        now_ms: u64,
    }

    impl World {
        fn new() -> Self {
            let mut world = Self {
                cores: TestCores::new(2),
                model: BTreeMap::new(),
                now_ms: 1_000_000,
            };
            world.pass(0);
            world
        }

        fn pass(&mut self, millis: u64) {
            self.now_ms += millis;
            self.cores.set_clocks(self.now_ms * 1000);
            let now_ms = self.now_ms;
            self.model.retain(|_, bound| {
                let lingers = bound.filter(|bound| bound.holder.is_none());
                lingers.is_none_or(|bound| bound.until_ms > now_ms)
            });
        }

        fn publish(&mut self, client: Client, id: &'static str, linger_ms: Option<u32>) {
            let body = format!(
                r#"{{"stream":"s","source":"t","payload":{{"entity_id":"{id}","properties":{{}}}}}}"#
            );
            self.cores.call_from((client.1, client.2));
            let (outcome, json) = self.cores.run((client.0, None), |context, caller| {
                let besides = Besides {
                    linger_ms,
                    ..Besides::default()
                };
                publish::begin_as(context, caller, (body.as_bytes(), besides))
            });
            assert_eq!(outcome, Outcome::Done);
            assert_eq!(
                json.contains(r#""bound":true"#),
                linger_ms.is_some(),
                "{json}"
            );
            let bound = self.model.entry(id).or_default();
            if let Some(linger_ms) = linger_ms {
                *bound = Some(Bound {
                    holder: Some(client),
                    until_ms: 0,
                    linger_ms,
                });
            }
        }

        fn delete(&mut self, client: Client, id: &'static str) {
            self.cores.call_from((client.1, client.2));
            self.cores.run((client.0, None), |context, caller| {
                delete::begin(context, caller, (id, delete::Conditions::Expect(None)))
            });
            self.model.remove(id);
        }

        fn end(&mut self, client: Client) {
            let (core, index, generation) = client;
            let subscriber = Subscriber { index, generation };
            leave(self.cores.context(core), subscriber);
            for bound in self.model.values_mut().flatten() {
                if bound.holder == Some(client) {
                    bound.holder = None;
                    bound.until_ms = self.now_ms + u64::from(bound.linger_ms);
                }
            }
        }

        fn is_there(&mut self, core: usize, id: &str) -> bool {
            let (outcome, _) = self.cores.run((core, None), |context, caller| {
                read::begin(context, caller, (id, ReadQuery::default()))
            });
            matches!(outcome, Outcome::Entity { .. })
        }

        fn check(&mut self, story: &str) {
            // What was told to shards arrives, and they have a turn.
            for (core, id) in (0..2).flat_map(|core| IDS.map(|id| (core, id))) {
                self.is_there(core, id);
            }
            self.pass(0);
            for (core, id) in (0..2).flat_map(|core| IDS.map(|id| (core, id))) {
                let expected = self.model.contains_key(id);
                let found = self.is_there(core, id);
                assert_eq!(found, expected, "{id} at {} after {story}", self.now_ms);
            }
        }
    }

    #[test]
    fn entities_are_there_as_the_last_bind_and_its_connection_say() {
        for seed in 0..20 {
            let mut random = Rng::with_seed(seed);
            let mut world = World::new();
            let mut generations = [0; 4];
            for step in 0..150 {
                let index = random.usize(..generations.len());
                let number = u32::try_from(index).unwrap();
                let client = (index % 2, number, generations[index]);
                let id = IDS[random.usize(..IDS.len())];
                let linger_ms = [0, 10, 300_000][random.usize(..3)];
                let action = random.u32(..10);
                match action {
                    0..4 => world.publish(client, id, Some(linger_ms)),
                    4 => world.publish(client, id, None),
                    5 => world.delete(client, id),
                    6 | 7 => {
                        world.end(client);
                        generations[index] += 1;
                    }
                    _ => world.pass([1, 9, 10, 300_000][random.usize(..4)]),
                }
                world.check(&format!(
                    "step {step} of seed {seed}: {action} {client:?} {id}"
                ));
            }
        }
    }
}
