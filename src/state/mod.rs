//! The state of one shard, in ordered maps.
use crate::model::{EventView, Timestamp};
use flux_storage::Sequence;
use std::collections::BTreeMap;
#[derive(Debug, Default)]
pub struct State {
    map: BTreeMap<String, E>,
}
#[derive(Debug)]
struct E {
    version: u64,
    time: Timestamp,
    seq: Sequence,
    props: BTreeMap<String, String>,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    Created,
    Updated,
    Deleted,
    Absent,
}
#[derive(Debug)]
pub struct Query<'q> {
    pub namespace: Option<&'q str>,
    pub prefix: Option<&'q str>,
    pub after: Option<&'q str>,
}
#[derive(Debug)]
pub struct Entity<'s> {
    id: &'s str,
    e: &'s E,
}
impl State {
    pub fn apply(&mut self, sequence: Sequence, time: Timestamp, event: &EventView<'_>) -> Applied {
        if event.tombstone {
            return if self.map.remove(event.entity_id).is_some() {
                Applied::Deleted
            } else {
                Applied::Absent
            };
        }
        let mut created = false;
        let e = self
            .map
            .entry(event.entity_id.to_owned())
            .or_insert_with(|| {
                created = true;
                E {
                    version: 0,
                    time,
                    seq: sequence,
                    props: BTreeMap::new(),
                }
            });
        e.version += 1;
        e.time = time;
        e.seq = sequence;
        for p in event.properties() {
            e.props.insert(p.name.to_owned(), p.value.to_owned());
        }
        if created {
            Applied::Created
        } else {
            Applied::Updated
        }
    }
    pub fn get(&self, id: &str) -> Option<Entity<'_>> {
        self.map.get_key_value(id).map(|(id, e)| Entity { id, e })
    }
    pub fn len(&self) -> usize {
        self.map.len()
    }
    pub fn list<'s>(&'s self, q: &Query<'_>) -> impl Iterator<Item = Entity<'s>> {
        let ns = q.namespace.map(|n| format!("{n}/"));
        let p = q.prefix.map(ToOwned::to_owned);
        let a = q.after.map(ToOwned::to_owned);
        self.map
            .iter()
            .filter(move |(id, _)| {
                ns.as_ref().is_none_or(|n| id.starts_with(n.as_str()))
                    && p.as_ref().is_none_or(|n| id.starts_with(n.as_str()))
                    && a.as_ref().is_none_or(|n| id.as_str() > n.as_str())
            })
            .map(|(id, e)| Entity { id, e })
    }
}
impl<'s> Entity<'s> {
    pub fn id(&self) -> &'s str {
        self.id
    }
    pub fn version(&self) -> u64 {
        self.e.version
    }
    pub fn last_updated(&self) -> Timestamp {
        self.e.time
    }
    pub fn sequence(&self) -> Sequence {
        self.e.seq
    }
    pub fn properties(&self) -> impl Iterator<Item = (&'s str, &'s str)> + use<'s> {
        self.e.props.iter().map(|(a, b)| (a.as_str(), b.as_str()))
    }
}
