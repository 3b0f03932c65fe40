//! A data directory's logs, listed without changing anything and without its lock.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::finding::{Fault, ScrubFinding};
use super::listing::{ScrubPlace, Source, identity, segments};
use crate::disk::{files, layout, links};
use crate::format::Identity;
use crate::format::header::LogId;
use crate::format::slot::Owner;
use crate::format::world::World;
use crate::log::place::LogPlace;
use crate::log::world_file;
use crate::{BodyCheck, Sequence, StorageError};

/// The logs of a data directory, missing ones included.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Generation by generation, by shard; the control log last.
    pub(crate) places: Vec<ScrubPlace>,
    pub(crate) findings: Vec<ScrubFinding>,
    /// The world that the directory belongs to, if anything names it.
    pub(crate) world: Option<World>,
    /// A generation is missing, or a log is another directory's.
    pub(crate) is_obscure: bool,
}

impl Directory {
    /// Lists the directory. Blocks.
    ///
    /// # Errors
    ///
    /// `Missing` if `root` holds no logs at all; `SymbolicLink`; `Io`.
    pub(crate) fn read(root: &Path, body_check: BodyCheck) -> Result<Self, StorageError> {
        links::check(root)?;
        let log_dir = root.join(layout::LOG_NAME);
        if !log_dir.is_dir() {
            layout::check_not_gone(root, 0)?;
            let path = log_dir.into();
            return Err(StorageError::Missing { path });
        }
        let stated = world_file::read(root)?.map(|file| file.world);
        let mut directory = Self {
            world: stated,
            places: Vec::new(),
            findings: Vec::new(),
            is_obscure: false,
        };
        let mut generations = Vec::new();
        for name in files::names(&log_dir)? {
            let whole = name.strip_suffix(layout::UNFINISHED);
            if whole.and_then(layout::parse_generation).is_some() {
                directory.find(&log_dir.join(&name), Fault::Unfinished);
            }
            generations.extend(layout::parse_generation(&name).filter(|number| *number > 0));
        }
        let newest = generations.iter().copied().max().unwrap_or(0);
        generations.sort_unstable();
        let mut expected = 1;
        for generation in generations {
            if generation != expected {
                let path = log_dir.join(layout::generation_name(expected));
                directory.find(&path, Fault::Missing);
                directory.is_obscure = true;
            }
            expected = generation + 1;
            let dir = log_dir.join(layout::generation_name(generation));
            let is_sealed = generation < newest;
            directory.add_generation((root, body_check), (&dir, generation, is_sealed))?;
        }
        match layout::check_not_gone(root, newest) {
            Err(StorageError::LogGone { path, .. }) => {
                directory.find(&path, Fault::Missing);
                directory.is_obscure = true;
            }
            checked => checked?,
        }
        directory.carry_ends();
        directory.add_control(root, body_check);
        directory.compare_worlds();
        directory.find_misfiled()?;
        Ok(directory)
    }

    /// The control log, if there is one: after all others, since nothing follows from it for them.
    fn add_control(&mut self, root: &Path, body_check: BodyCheck) {
        let dir = root.join(layout::CONTROL_NAME);
        let unfinished = layout::unfinished(&dir);
        if unfinished.exists() {
            self.find(&unfinished, Fault::Unfinished);
        }
        if dir.is_dir() {
            let id = LogId::CONTROL;
            self.places.push(ScrubPlace {
                log: LogPlace {
                    root: root.into(),
                    dir: dir.into(),
                    id,
                },
                sealed: false,
                first_sequence: Some(Sequence::new(1)),
                known_durable: Sequence::ZERO,
                body_check,
            });
        }
    }

    /// Finds the logs that name another world than the `WORLD` file, or than the first log if there
    /// is no such file.
    fn compare_worlds(&mut self) {
        let mut foreign = Vec::new();
        for place in &self.places {
            // A log that can't be read is reported when it is scrubbed.
            let named = world_file::of_log(&place.log.dir).ok().flatten();
            let Some(named) = named else { continue };
            if *self.world.get_or_insert(named) != named {
                foreign.push(Arc::clone(&place.log.dir));
            }
        }
        for dir in foreign {
            self.find(&dir, Fault::ForeignLog);
            self.is_obscure = true;
        }
    }

    /// Finds whole segments that lie in another log's directory than their own, if their own log
    /// lacks them. A repair that looks at each log by itself would replace their records by gaps.
    fn find_misfiled(&mut self) -> Result<(), StorageError> {
        let mut homes = Vec::new();
        let mut misplaced = Vec::new();
        for place in &self.places {
            let mut home = Home {
                log: place.log.id,
                identity: None,
                dir: Arc::clone(&place.log.dir),
            };
            if place.log.dir.is_dir() {
                let sources = segments(&place.log.dir)?;
                let headers = sources.values().filter_map(|source| source.header);
                if headers.into_iter().any(|header| header.log == home.log) {
                    home.identity = identity(place, &sources);
                }
                misplaced.extend(home.misplaced(sources));
            }
            homes.push(home);
        }
        let mut found = Vec::new();
        for (path, owner, ordinal) in &misplaced {
            let Some(home) = homes.iter().find(|home| home.may_own(*owner)) else {
                continue;
            };
            let belongs = home.dir.join(layout::segment_name(*ordinal));
            let is_free = !belongs.exists() || misplaced.iter().any(|(it, ..)| **it == *belongs);
            // Within its own log a segment is found whatever its name is.
            if is_free && path.parent() != Some(&*home.dir) {
                found.push((path.clone(), belongs));
            }
        }
        for (path, belongs) in found {
            let belongs = belongs.into();
            self.find(&path, Fault::Misfiled { belongs });
            self.is_obscure = true;
        }
        Ok(())
    }

    fn find(&mut self, path: &Path, fault: Fault) {
        self.findings.push(ScrubFinding {
            path: path.into(),
            offset: None,
            fault,
        });
    }

    fn add_generation(
        &mut self,
        (root, body_check): (&Path, BodyCheck),
        (dir, generation, sealed): (&Path, u32, bool),
    ) -> Result<(), StorageError> {
        let names = files::names(dir)?;
        let shards = names.iter().filter_map(|name| layout::parse_shard(name));
        // The most that any of them says: one directory more is found missing sooner than one is
        // overlooked.
        let Some(shard_count) = shards.map(|(_, count)| count).max() else {
            self.find(&dir.join("000-of-*"), Fault::Missing);
            self.is_obscure = true;
            return Ok(());
        };
        for name in &names {
            let found = layout::parse_shard(name);
            if found.is_some_and(|(shard, count)| count != shard_count || shard >= count) {
                let field = "shard count";
                self.find(&dir.join(name), Fault::WrongPlace { field });
                self.is_obscure = true;
            }
        }
        let ids = (0..shard_count).map(|shard| LogId {
            generation,
            shard,
            shard_count,
        });
        let dirs = ids.map(|id| (id, dir.join(layout::shard_name(id))));
        let dirs: Vec<(LogId, PathBuf)> = dirs.collect();
        let first_sequence = stated_start(&dirs)?;
        self.places
            .extend(dirs.into_iter().map(|(id, dir)| ScrubPlace {
                log: LogPlace {
                    root: root.into(),
                    dir: dir.into(),
                    id,
                },
                sealed,
                first_sequence,
                known_durable: Sequence::ZERO,
                body_check,
            }));
        Ok(())
    }

    /// The generation after one says where that ended. If it has one log only, that log ended
    /// there.
    fn carry_ends(&mut self) {
        let starts: Vec<(u32, Option<Sequence>)> = self
            .places
            .iter()
            .map(|place| (place.log.id.generation, place.first_sequence))
            .collect();
        for place in &mut self.places {
            let next = place.log.id.generation + 1;
            let start = starts.iter().find(|(generation, _)| *generation == next);
            if let Some((_, Some(first))) = start
                && place.log.id.shard_count == 1
            {
                place.known_durable = first.previous();
            }
        }
    }
}

/// Where a log's segments belong.
struct Home {
    log: LogId,
    /// By the segments of this log that are where they belong; `None` if none of them is.
    identity: Option<Identity>,
    dir: Arc<Path>,
}

impl Home {
    /// The segments in its directory that are another log's, or of another ordinal than their names
    /// say: each with the log and the ordinal that its header states.
    fn misplaced(
        &self,
        sources: BTreeMap<u64, Source>,
    ) -> impl Iterator<Item = (Box<Path>, Owner, u64)> {
        sources.into_iter().filter_map(|(ordinal, source)| {
            let header = source.header?;
            let stated = Owner {
                log: header.log,
                identity: header.identity,
            };
            (!self.is_of(stated) || ordinal != header.ordinal).then_some((
                source.path,
                stated,
                header.ordinal,
            ))
        })
    }

    fn is_of(&self, owner: Owner) -> bool {
        self.log == owner.log && self.identity == Some(owner.identity)
    }

    /// Whether a segment of this owner can belong here. If the log has no segment of its own here,
    /// as when its directory was moved, the place in the header is all there is to go by.
    fn may_own(&self, owner: Owner) -> bool {
        self.log == owner.log && self.identity.is_none_or(|it| it == owner.identity)
    }
}

/// The sequence that all logs of a generation begin with, by the first header that says it.
fn stated_start(dirs: &[(LogId, PathBuf)]) -> Result<Option<Sequence>, StorageError> {
    for (id, dir) in dirs {
        if !dir.is_dir() {
            continue;
        }
        for ordinal in files::names(dir)?
            .iter()
            .filter_map(|name| layout::parse_segment(name))
        {
            let source = Source::read(&dir.join(layout::segment_name(ordinal)))?;
            let header = source.header.filter(|header| header.log == *id);
            if let Some(header) = header {
                return Ok(Some(header.first_sequence));
            }
        }
    }
    Ok(None)
}

/// Whether a server has the directory open. The look takes and returns the lock, so a server that
/// starts in that very instant is refused.
pub(crate) fn is_in_use(root: &Path) -> bool {
    let Ok(file) = File::open(root.join(layout::LOCK_NAME)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
