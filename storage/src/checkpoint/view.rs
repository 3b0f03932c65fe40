//! Reading a directory of checkpoints that another writes to: no file is touched.
//!
//! A writer removes the older checkpoint after it has published the newer, so a file that is gone
//! when it is opened means that there is a newer one to look for. What was opened stays readable,
//! whatever is removed.

use std::sync::Arc;

use super::dir::CheckpointDir;
use super::load::Checkpoint;
use crate::CheckpointError;
use crate::disk::layout::CheckpointFileKind;

/// A directory of checkpoints, for reading. `Send` and cheap to clone.
#[derive(Debug, Clone)]
pub struct CheckpointView {
    dir: Arc<CheckpointDir>,
}

impl CheckpointDir {
    /// The same directory, for reading beside its writer.
    pub fn view(&self) -> CheckpointView {
        let dir = Self::new(&self.path, self.owner, self.kind, self.body_check);
        CheckpointView { dir: Arc::new(dir) }
    }
}

impl CheckpointView {
    /// The newest checkpoint; `None` if there is none. Each of its blocks is checked when it is
    /// first used. Blocks while its files are opened.
    ///
    /// # Errors
    ///
    /// `Storage` or `Layer` if it can't be read, or is damaged.
    pub fn newest(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let mut newest = self.newest_number()?;
        loop {
            let Some(number) = newest else {
                return Ok(None);
            };
            let error = match self.dir.open_unchecked(number) {
                Ok((_, checkpoint)) => return Ok(Some(checkpoint)),
                Err(unusable) => unusable.into_error(),
            };
            newest = self.newest_number()?;
            if newest <= Some(number) {
                return Err(error.into());
            }
        }
    }

    /// Every checkpoint that can be opened, newest first. Each of its blocks is checked when it is
    /// first used. Blocks while files are opened.
    ///
    /// # Errors
    ///
    /// `Storage` if the directory can't be read. A checkpoint that can't be opened is passed over:
    /// it may have been removed a moment ago.
    pub fn all(&self) -> Result<Vec<Checkpoint>, CheckpointError> {
        let mut numbers = self.numbers()?;
        numbers.sort_unstable_by(|left, right| right.cmp(left));
        let open = |number| self.dir.open_unchecked(number).ok();
        let opened = numbers.into_iter().filter_map(open);
        Ok(opened.map(|(_, checkpoint)| checkpoint).collect())
    }

    fn newest_number(&self) -> Result<Option<u64>, CheckpointError> {
        Ok(self.numbers()?.into_iter().max())
    }

    fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
        let list = self.dir.list()?;
        let manifests = list
            .iter()
            .filter(|(_, file)| file.kind == CheckpointFileKind::Manifest);
        Ok(manifests.map(|(_, file)| file.number).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{CheckpointKind, LayerStack};

    #[test]
    fn a_view_shows_the_newest_checkpoint_and_touches_nothing() {
        let place = tempfile::tempdir().unwrap();
        let mut dir = super::CheckpointDir::new(
            place.path(),
            loaded(place.path()).owner,
            CheckpointKind::Base,
            |body| body != "bad",
        );
        dir.load().unwrap();
        let view = dir.view();
        assert!(view.newest().unwrap().is_none());
        let mut stack = LayerStack::default();
        let mut opened = Vec::new();
        for round in 1..=4 {
            let changed = numbered(10 * round, round);
            stack = checkpoint(&mut dir, &changed, &stack, round).unwrap();
            let mut before = files(place.path());
            before.insert("00000099.layer.tmp".into(), b"unfinished".to_vec());
            put_files(place.path(), &before);
            let newest = view.newest().unwrap().expect("one was published");
            assert_eq!(newest.meta, meta(round));
            assert!(files(place.path()) == before);
            opened.push((changed, newest));
        }
        for (changed, checkpoint) in &opened {
            assert_eq!(
                &contents(&checkpoint.stack).unwrap(),
                changed,
                "what was opened stays readable"
            );
        }
    }

    #[test]
    fn all_checkpoints_that_are_whole_are_shown_newest_first() {
        let place = tempfile::tempdir().unwrap();
        let mut dir = loaded(place.path());
        let view = dir.view();
        assert!(view.all().unwrap().is_empty());
        let mut stack = LayerStack::default();
        let shown = || -> Vec<u64> {
            let all = view.all().unwrap();
            all.iter()
                .map(|checkpoint| checkpoint.meta.through.get())
                .collect()
        };
        for (round, expected) in [(1, vec![1]), (2, vec![2, 1]), (3, vec![3, 2])] {
            stack = checkpoint(&mut dir, &numbered(5, round), &stack, round).unwrap();
            assert_eq!(shown(), expected);
        }
        let mut files = files(place.path());
        let newest = files
            .keys()
            .rfind(|name| name.contains("manifest"))
            .unwrap()
            .clone();
        files.insert(newest, b"damaged".to_vec());
        put_files(place.path(), &files);
        assert_eq!(shown(), [2]);
    }

    #[test]
    fn damage_is_an_error_and_stays_where_it_is() {
        let place = tempfile::tempdir().unwrap();
        let mut dir = loaded(place.path());
        checkpoint(&mut dir, &numbered(10, 1), &LayerStack::default(), 1).unwrap();
        let whole = files(place.path());
        for name in whole.keys() {
            let mut damaged = whole.clone();
            damaged
                .entry(name.clone())
                .and_modify(|bytes| bytes.truncate(bytes.len() / 2));
            put_files(place.path(), &damaged);
            assert!(dir.view().newest().is_err(), "{name} cut short");
            assert!(files(place.path()) == damaged);
        }
        let is_layer = |name: &str| name.contains("layer");
        let without = whole
            .clone()
            .into_iter()
            .filter(|(name, _)| !is_layer(name));
        put_files(place.path(), &without.collect());
        assert!(dir.view().newest().is_err(), "the layer is gone");
        put_files(place.path(), &whole);
        assert!(dir.view().newest().unwrap().is_some());
    }
}
