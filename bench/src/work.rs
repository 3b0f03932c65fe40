//! The loads whose figures are kept, each with the name by which scripts and pages call it.
//!
//! All of them publish or read entities of three properties. Server and load have a core each; with
//! two shards both run on both cores, as there are two.

use crate::trial::Contender;
use anyhow::{Context, Result};

/// A load and how the server is set up for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) durability: &'static str,
    pub(crate) shards: usize,
    /// Arguments of `flux-loadgen` but for time and cores.
    pub(crate) load: &'static str,
}

/// What a pair of builds is compared by.
pub(crate) const PAIRED: &[Work] = &[
    one_shard("sync-64", "sync", "publish --connections 64"),
    one_shard("async-64", "async", "publish --connections 64"),
    one_shard(
        "pipelined-sync",
        "sync",
        "publish --connections 64 --pipeline 16",
    ),
    one_shard(
        "batch-100-sync",
        "sync",
        "batch --size 100 --connections 32",
    ),
    one_shard(
        "batch-1000-sync",
        "sync",
        "batch --size 1000 --connections 4",
    ),
    one_shard("get-64", "sync", "get --connections 64"),
    one_shard("list-100", "sync", "list --limit 100 --connections 16"),
    Work {
        name: "two-shards-sync-64",
        durability: "sync",
        shards: 2,
        load: "publish --connections 64 --namespaces 2 --threads 2",
    },
];

const fn one_shard(name: &'static str, durability: &'static str, load: &'static str) -> Work {
    Work {
        name,
        durability,
        shards: 1,
        load,
    }
}

impl Work {
    /// # Errors
    /// When there is none of that name; says which there are.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let found = PAIRED.iter().find(|work| work.name == name).copied();
        found.with_context(|| {
            let names: Vec<&str> = PAIRED.iter().map(|work| work.name).collect();
            format!("no row is named {name}; there are {}", names.join(", "))
        })
    }

    /// Arguments of the load generator for so many seconds.
    pub(crate) fn load(&self, seconds: f64, warmup: f64) -> Vec<String> {
        let times = format!("--properties 3 --duration {seconds} --warmup {warmup}");
        let words = self.load.split(' ').chain(times.split(' '));
        words.map(str::to_owned).collect()
    }

    /// A build of Flux, set up for this load.
    ///
    /// # Errors
    /// When the name or the path of the program is empty.
    pub(crate) fn flux(&self, name: &str, program: &str) -> Result<Contender> {
        Contender::parse(&format!(
            "{name}={program} --port {{port}} --data-dir {{data}} --shards {} --durability {}",
            self.shards, self.durability
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_are_found_by_their_names() {
        for work in PAIRED {
            assert_eq!(Work::named(work.name).unwrap().load, work.load);
        }
        let error = Work::named("sync").unwrap_err().to_string();
        assert!(error.contains("sync-64, async-64"), "{error}");
    }

    #[test]
    fn two_shards_share_their_cores_with_the_load() {
        let cpus = |name| Work::named(name).unwrap().cpus();
        assert_eq!(cpus("sync-64"), (vec![0], vec![1]));
        assert_eq!(cpus("two-shards-sync-64"), (vec![0, 1], vec![0, 1]));
    }
}
