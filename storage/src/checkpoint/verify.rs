//! Reading everything that a checkpoint consists of, to say what is wrong with it.

use super::dir::{CheckpointDir, name_of};
use super::index;
use super::layer::Layer;
use super::manifest::{CheckpointMeta, LayerName, Manifest};
use crate::CheckpointError;
use crate::disk::layout::{CheckpointFile, CheckpointFileKind};
use crate::error::{LayerError, LayerFault, LayerPart};

/// What was read, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointReport {
    /// Manifests that are whole.
    pub manifests: u64,
    /// Layers that are whole.
    pub layers: u64,
    /// Bytes of the layers that were read.
    pub bytes: u64,
    /// What is wrong, in the order of files and offsets.
    pub findings: Vec<LayerError>,
}

impl Layer {
    /// Checks every block and page.
    ///
    /// # Errors
    ///
    /// The first that is not as it should be.
    pub(super) fn check_all(&self) -> Result<(), LayerError> {
        for index in 0..self.block_count() {
            self.block(index)?;
        }
        for index in 0..self.page_count() {
            self.page(index)?;
        }
        Ok(())
    }

    /// Checks every block and page and what they add up to. `progress` is told the bytes as they
    /// are read.
    fn findings(&self, progress: &mut dyn FnMut(u64)) -> Vec<LayerError> {
        let mut findings = Vec::new();
        let mut told = 0;
        let mut tell = |offset: usize| {
            let offset = offset as u64;
            progress(offset.saturating_sub(told));
            told = told.max(offset);
        };
        let mut slots = Vec::with_capacity(self.block_count());
        let mut tombstones = 0;
        for index in 0..self.block_count() {
            tell(self.block_offset(index));
            match self.block(index) {
                Ok(block) => {
                    slots.push(block.entities().len());
                    let deleted = |entity: &&_| super::block::is_tombstone(entity);
                    tombstones += block.entities().iter().filter(deleted).count() as u64;
                }
                Err(error) => {
                    slots.push(usize::MAX);
                    findings.push(error);
                }
            }
        }
        let mut entries = 0;
        for index in 0..self.page_count() {
            tell(self.page_offset(index));
            match self.page(index) {
                Ok(page) => {
                    entries += index::places(page).count() as u64;
                    if !index::places(page).all(|place| place.is_inside(&slots)) {
                        let fault = LayerFault::Contents(LayerPart::IndexPage);
                        findings.push(self.error(self.page_offset(index), fault));
                    }
                }
                Err(error) => findings.push(error),
            }
        }
        let records: u64 = slots
            .iter()
            .map(|&count| count as u64)
            .fold(0, u64::saturating_add);
        let adds_up = records == self.records() && tombstones == self.tombstones();
        if findings.is_empty() && !(adds_up && entries <= records) {
            let offset = usize::try_from(self.trailer().footer_offset).unwrap_or(0);
            findings.push(self.error(offset, LayerFault::Contents(LayerPart::Footer)));
        }
        tell(usize::try_from(self.bytes()).unwrap_or(usize::MAX));
        findings
    }
}

impl CheckpointDir {
    /// What the newest manifest says that is whole itself, whatever its layers are like. It was
    /// published when the log was durable that far. Modifies nothing.
    ///
    /// # Errors
    ///
    /// If the directory can't be listed.
    pub(crate) fn newest_meta(&self) -> Result<Option<CheckpointMeta>, CheckpointError> {
        let files = self.list()?.into_iter().map(|(_, file)| file);
        let manifests = files.filter(|file| file.kind == CheckpointFileKind::Manifest);
        let mut numbers: Vec<u64> = manifests.map(|file| file.number).collect();
        numbers.sort_unstable();
        Ok(numbers.into_iter().rev().find_map(|number| {
            let manifest = Manifest::read(&self.manifest_path(number), number, self.owner);
            manifest.ok().map(|manifest| manifest.meta)
        }))
    }

    /// Reads every manifest and every layer and says what is wrong with them; modifies nothing, and
    /// may run beside a server. `progress` is told the bytes as they are read. Blocks.
    ///
    /// # Errors
    ///
    /// `Storage` if the directory can't be listed. A file that can't be read is a finding.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(u64),
    ) -> Result<CheckpointReport, CheckpointError> {
        let mut report = CheckpointReport::default();
        let mut whole = Vec::new();
        let mut manifests = Vec::new();
        for (_, file) in self.list()? {
            match file.kind {
                CheckpointFileKind::Layer => {
                    whole.extend(self.verify_layer(file, &mut report, progress));
                }
                CheckpointFileKind::Manifest => manifests.push(file.number),
                CheckpointFileKind::Unfinished | CheckpointFileKind::Damaged => {}
            }
        }
        for number in manifests {
            let path = self.manifest_path(number);
            let fault = match Manifest::read(&path, number, self.owner) {
                Ok(manifest) => wrong_layer(&manifest, &whole),
                Err(error) => Some(error.fault),
            };
            match fault {
                None => report.manifests += 1,
                // The server has published a newer one since the directory was listed, and removed
                // this.
                Some(_) if !path.exists() => {}
                Some(fault) => report.findings.push(LayerError {
                    path,
                    offset: 0,
                    fault,
                }),
            }
        }
        Ok(report)
    }

    fn verify_layer(
        &self,
        file: CheckpointFile,
        report: &mut CheckpointReport,
        progress: &mut dyn FnMut(u64),
    ) -> Option<LayerName> {
        let name = LayerName {
            number: file.number,
            identity: 0,
            len: 0,
            records: 0,
            footer_crc: 0,
        };
        let layer = match self.open_layer(&name) {
            Ok(layer) => layer,
            Err(error) => {
                // A missing one was removed since the directory was listed.
                let found = (error.fault != LayerFault::Missing).then_some(error);
                report.findings.extend(found);
                return None;
            }
        };
        let findings = layer.findings(progress);
        report.bytes += layer.bytes();
        if findings.is_empty() {
            report.layers += 1;
            Some(name_of(&layer))
        } else {
            report.findings.extend(findings);
            None
        }
    }
}

/// What is wrong with the layers that a manifest names.
fn wrong_layer(manifest: &Manifest, whole: &[LayerName]) -> Option<LayerFault> {
    manifest.layers.iter().find_map(|name| {
        let there = whole.iter().find(|layer| layer.number == name.number);
        match there {
            Some(layer) if layer == name => None,
            Some(_) => Some(LayerFault::OtherLayer(name.number)),
            None => Some(LayerFault::UnusableLayer(name.number)),
        }
    })
}
