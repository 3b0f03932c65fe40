//! The loads whose figures are kept, each with the name by which scripts and pages call it.
//!
//! All of them publish or read entities of three properties. Server and load have a core each; two
//! shards and their load share two cores, so that the machine is the same.

use crate::programs::beside_this_program;
use crate::trial::{Contender, PEERS};
use anyhow::{Context, Result};

/// A load, and the shards of the server under it.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) title: &'static str,
    pub(crate) shards: usize,
    /// Arguments of `flux-loadgen` but for time and cores.
    pub(crate) load: &'static str,
    pub(crate) kind: Kind,
}

/// What a load does decides what else can do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Single events: the no-op server and Redis take part.
    Publish,
    /// Events in batches: Flux alone, in both durabilities.
    Batch,
    /// Single entities: durability does not matter; the no-op server takes part.
    Get,
    /// Listings of so many entities: Flux alone.
    List,
    /// Listings so long that bytes count.
    LongList,
}

/// In the order of the table.
pub(crate) const WORKS: &[Work] = &[
    publish(
        "publish-1",
        "publish, 1 connection",
        "publish --connections 1",
    ),
    publish(
        "publish-16",
        "publish, 16 connections",
        "publish --connections 16",
    ),
    publish(
        "publish-64",
        "publish, 64 connections",
        "publish --connections 64",
    ),
    publish(
        "publish-256",
        "publish, 256 connections",
        "publish --connections 256",
    ),
    publish(
        "pipelined",
        "publish, 64 connections with 16 requests in flight each",
        "publish --connections 64 --pipeline 16",
    ),
    Work {
        name: "websocket",
        title: "publish over 64 WebSockets with 16 requests in flight each",
        shards: 1,
        load: "publish --websocket --connections 64 --pipeline 16",
        kind: Kind::Batch,
    },
    Work {
        name: "batch-100",
        title: "events in batches of 100, 32 connections",
        shards: 1,
        load: "batch --size 100 --connections 32",
        kind: Kind::Batch,
    },
    Work {
        name: "batch-1000",
        title: "events in batches of 1,000, 4 connections",
        shards: 1,
        load: "batch --size 1000 --connections 4",
        kind: Kind::Batch,
    },
    Work {
        name: "get-64",
        title: "GET of an entity, 64 connections",
        shards: 1,
        load: "get --connections 64",
        kind: Kind::Get,
    },
    Work {
        name: "list-100",
        title: "list of 100 entities, 16 connections",
        shards: 1,
        load: "list --limit 100 --connections 16",
        kind: Kind::List,
    },
    Work {
        name: "list-10000",
        title: "list of 10,000 entities, 4 connections",
        shards: 1,
        load: "list --limit 0 --namespaces 1 --entities 10000 --connections 4",
        kind: Kind::LongList,
    },
    Work {
        name: "two-shards",
        title: "publish, 64 connections, two shards; server and load share both cores",
        shards: 2,
        load: "publish --connections 64 --namespaces 2 --threads 2",
        kind: Kind::Batch,
    },
];

/// What a pair of builds is compared by: the row's name, the work, the durability.
pub(crate) const PAIRED: &[(&str, &str, &str)] = &[
    ("sync-64", "publish-64", "sync"),
    ("async-64", "publish-64", "async"),
    ("pipelined-sync", "pipelined", "sync"),
    ("batch-100-sync", "batch-100", "sync"),
    ("batch-1000-sync", "batch-1000", "sync"),
    ("get-64", "get-64", "sync"),
    ("list-100", "list-100", "sync"),
    ("two-shards-sync", "two-shards", "sync"),
];

const fn publish(name: &'static str, title: &'static str, load: &'static str) -> Work {
    Work {
        name,
        title,
        shards: 1,
        load,
        kind: Kind::Publish,
    }
}

impl Work {
    /// # Errors
    /// When there is none of that name; says which there are.
    pub(crate) fn named(name: &str) -> Result<&'static Self> {
        let found = WORKS.iter().find(|work| work.name == name);
        found.with_context(|| {
            let names: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
            format!("no work is named {name}; there are {}", names.join(", "))
        })
    }

    /// Arguments of the load generator for so many seconds, all of the same units.
    pub(crate) fn load(&self, seconds: u32, warmup: u32) -> Vec<String> {
        let times = format!("--properties 3 --duration {seconds} --warmup {warmup}");
        let words = self.load.split(' ').chain(times.split(' '));
        words.map(str::to_owned).collect()
    }

    /// A build of Flux, set up for this load.
    ///
    /// # Errors
    /// When the name or the path of the program is empty.
    pub(crate) fn flux(&self, name: &str, program: &str, durability: &str) -> Result<Contender> {
        Contender::parse(&format!(
            "{name}={program} --port {{port}} --data-dir {{data}} --shards {} \
             --durability {durability}",
            self.shards
        ))
    }

    /// Cores of the server and of the load.
    pub(crate) fn cpus(&self) -> (Vec<usize>, Vec<usize>) {
        match self.shards {
            1 => (vec![0], vec![1]),
            shards => ((0..shards).collect(), (0..shards).collect()),
        }
    }
}

/// The no-op server on one of its engines, built beside this program.
///
/// # Errors
/// When this program cannot be found.
pub(crate) fn noop(engine: &str) -> Result<Contender> {
    let bench = beside_this_program("flux-bench")?;
    Contender::parse(&format!(
        "noop-{engine}={bench} noop --port {{port}} --engine {engine}"
    ))
}

/// Redis as it is for one setting of `appendfsync`.
///
/// # Errors
/// When there is none of that setting.
pub(crate) fn redis(appendfsync: &str) -> Result<Contender> {
    let name = format!("redis-{appendfsync}=");
    let peer = PEERS.iter().find(|peer| peer.starts_with(&name));
    Contender::parse(peer.with_context(|| format!("no peer {name}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_are_found_by_their_names() {
        for (_, name, _) in PAIRED {
            assert_eq!(Work::named(name).unwrap().name, *name);
        }
        let error = Work::named("publish").unwrap_err().to_string();
        assert!(error.contains("publish-1, publish-16"), "{error}");
    }

    #[test]
    fn two_shards_share_their_cores_with_the_load() {
        let cpus = |name| Work::named(name).unwrap().cpus();
        assert_eq!(cpus("publish-64"), (vec![0], vec![1]));
        assert_eq!(cpus("two-shards"), (vec![0, 1], vec![0, 1]));
    }

    #[test]
    fn redis_takes_part_in_two_settings() {
        for setting in ["always", "everysec"] {
            assert_eq!(redis(setting).unwrap().protocol(), Some("redis"));
        }
        assert!(redis("never").is_err());
    }
}
