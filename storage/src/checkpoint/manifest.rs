//! A manifest: which layers make up a checkpoint, of which log, and up to where.
//!
//! ```text
//! 0       8         12            16            24    28     32
//! | magic | version | archive len | fingerprint | crc | zero | archive ... |
//! ```
//!
//! `crc` covers everything but itself. A manifest is read whole, checked, and copied out of its
//! archive: it is small and read once. The log's identity and each layer's are in it, so that a
//! file from elsewhere, or from another time, is noticed.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use super::block::{PART_ALIGN, archived};
use crate::disk::files;
use crate::error::{LayerError, LayerFault, LayerPart};
use crate::format::Identity;
use crate::format::layer::fingerprint;
use crate::format::slot::Owner;
use crate::{CheckpointError, Sequence};

/// The version that this program writes, and the newest that it reads.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"\x8fFLUXMF\n";
const HEAD_BYTES: usize = 32;
const FINGERPRINT: u64 = fingerprint(
    b"rkyv 0.8, little-endian, aligned, 32-bit relative pointers; number u64, \
    owner (identity u64, generation u32, shard u32, shard count u32), \
    meta (through u64, time i64, events u64, entities u64, last delete u64), \
    layers vec (number u64, identity u64, len u64, records u64, footer crc u32)",
);
/// Bound on a manifest's file, far above the few layers that one names. A larger file is not one.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What a checkpoint is a checkpoint of. The caller's words; nothing here depends on them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointMeta {
    /// The last record that the state contains.
    pub through: Sequence,
    /// The latest time of a record that the state contains, Unix microseconds.
    pub time_micros: i64,
    /// Events that the state has seen.
    pub events: u64,
    /// Entities that exist, those deleted not counted.
    pub entities: u64,
    /// The last record that deleted something.
    pub last_delete: Sequence,
}

/// A checkpoint as its manifest tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// As in its name.
    pub(super) number: u64,
    pub(super) owner: Owner,
    pub(super) meta: CheckpointMeta,
    /// Newest first.
    pub(super) layers: Vec<LayerName>,
}

/// A layer as a manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct LayerName {
    pub(super) number: u64,
    pub(super) identity: u64,
    pub(super) len: u64,
    pub(super) records: u64,
    pub(super) footer_crc: u32,
}

#[derive(Archive, Serialize, Deserialize)]
struct StoredManifest {
    number: u64,
    identity: u64,
    through: u64,
    time_micros: i64,
    events: u64,
    entities: u64,
    last_delete: u64,
    generation: u32,
    shard: u32,
    shard_count: u32,
    layers: Vec<LayerName>,
}

impl Manifest {
    /// The bytes of the file.
    pub(super) fn encode(&self) -> Result<Vec<u8>, CheckpointError> {
        let stored = StoredManifest {
            number: self.number,
            identity: self.owner.identity.0,
            through: self.meta.through.get(),
            time_micros: self.meta.time_micros,
            events: self.meta.events,
            entities: self.meta.entities,
            last_delete: self.meta.last_delete.get(),
            generation: self.owner.log.generation,
            shard: self.owner.log.shard,
            shard_count: self.owner.log.shard_count,
            layers: self.layers.clone(),
        };
        let archive = archived(&stored, AlignedVec::new(), 0)?;
        let bytes = archive.len();
        let len = u32::try_from(bytes).or(Err(CheckpointError::TooLarge { bytes }))?;
        let mut file = Vec::with_capacity(HEAD_BYTES + archive.len());
        file.extend_from_slice(&MAGIC);
        file.extend_from_slice(&VERSION.to_le_bytes());
        file.extend_from_slice(&len.to_le_bytes());
        file.extend_from_slice(&FINGERPRINT.to_le_bytes());
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(&archive);
        let crc = checksum(&file).expect("the head was written just now");
        file[24..28].copy_from_slice(&crc.to_le_bytes());
        Ok(file)
    }

    /// Reads the manifest of this number. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, `WrongPlace` if it is of another number or log.
    pub(super) fn read(path: &Arc<Path>, number: u64, owner: Owner) -> Result<Self, LayerError> {
        let manifest = read_file(path).and_then(|bytes| decode(&bytes));
        let fault = match manifest {
            Ok(manifest) if manifest.number == number && manifest.owner == owner => {
                return Ok(manifest);
            }
            Ok(_) => LayerFault::WrongPlace,
            Err(fault) => fault,
        };
        Err(LayerError {
            path: Arc::clone(path),
            offset: 0,
            fault,
        })
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, LayerFault> {
    let mut bytes = Vec::new();
    let read = files::open_file(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => Err(LayerFault::WrongSize),
        Ok(_) => Ok(bytes),
        Err(error) => Err(LayerFault::io(&error)),
    }
}

/// The manifest with these bytes. Total: any bytes are a manifest or a fault.
pub(super) fn decode(bytes: &[u8]) -> Result<Manifest, LayerFault> {
    let damaged = LayerFault::Checksum(LayerPart::Manifest);
    if bytes.iter().all(|&byte| byte == 0) {
        return Err(damaged);
    }
    if bytes.first_chunk() != Some(&MAGIC) {
        return Err(LayerFault::Foreign);
    }
    let version = u32_at(bytes, 8).ok_or(LayerFault::WrongSize)?;
    if version > VERSION {
        return Err(LayerFault::NewerVersion(version));
    }
    let len = u32_at(bytes, 12).ok_or(LayerFault::WrongSize)?;
    let archive = bytes.get(HEAD_BYTES..).ok_or(LayerFault::WrongSize)?;
    if archive.len() as u64 != u64::from(len) {
        return Err(LayerFault::WrongSize);
    }
    if u32_at(bytes, 24).is_none() || u32_at(bytes, 24) != checksum(bytes) {
        return Err(damaged);
    }
    if bytes.get(16..24) != Some(FINGERPRINT.to_le_bytes().as_slice()) {
        return Err(LayerFault::OtherLayout);
    }
    let contents = LayerFault::Contents(LayerPart::Manifest);
    if version != VERSION || u32_at(bytes, 28) != Some(0) {
        return Err(contents);
    }
    let mut aligned = AlignedVec::<PART_ALIGN>::new();
    aligned.extend_from_slice(archive);
    let stored = rkyv::from_bytes::<StoredManifest, Failure>(&aligned).or(Err(contents))?;
    Ok(Manifest {
        number: stored.number,
        owner: Owner {
            log: crate::format::header::LogId {
                generation: stored.generation,
                shard: stored.shard,
                shard_count: stored.shard_count,
            },
            identity: Identity(stored.identity),
        },
        meta: CheckpointMeta {
            through: Sequence::new(stored.through),
            time_micros: stored.time_micros,
            events: stored.events,
            entities: stored.entities,
            last_delete: Sequence::new(stored.last_delete),
        },
        layers: stored.layers,
    })
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_le_bytes(*field))
}

/// Of a whole file, but for the checksum's own bytes.
fn checksum(file: &[u8]) -> Option<u32> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(file.get(..24)?);
    hasher.update(file.get(28..)?);
    Some(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::header::LogId;

    fn sample() -> Manifest {
        Manifest {
            number: 7,
            owner: Owner {
                log: LogId {
                    generation: 1,
                    shard: 2,
                    shard_count: 3,
                },
                identity: Identity(0x1122_3344_5566_7788),
            },
            meta: CheckpointMeta {
                through: Sequence::new(300),
                time_micros: -1,
                events: 299,
                entities: 5,
                last_delete: Sequence::new(17),
            },
            layers: vec![LayerName {
                number: 6,
                identity: 9,
                len: 8304,
                records: 5,
                footer_crc: 0xA1B2_C3D4,
            }],
        }
    }

    #[test]
    fn a_manifest_has_these_bytes() {
        let mut expected = b"\x8fFLUXMF\n\x01\0\0\0\x78\0\0\0".to_vec();
        expected.extend(GOLDEN_FINGERPRINT);
        expected.extend(GOLDEN_CRC);
        expected.extend([0; 4]);
        expected.extend(b"\x06\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x70\x20\0\0\0\0\0\0");
        expected.extend(b"\x05\0\0\0\0\0\0\0\xd4\xc3\xb2\xa1\0\0\0\0");
        expected.extend(b"\x07\0\0\0\0\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11");
        expected.extend(b"\x2c\x01\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
        expected.extend(b"\x2b\x01\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x11\0\0\0\0\0\0\0");
        expected.extend(b"\x01\0\0\0\x02\0\0\0\x03\0\0\0\x94\xff\xff\xff\x01\0\0\0\0\0\0\0");
        assert_eq!(sample().encode().unwrap(), expected);
    }

    const GOLDEN_FINGERPRINT: [u8; 8] = [0xf3, 0x46, 0x67, 0x52, 0x4d, 0x65, 0x0d, 0x51];
    const GOLDEN_CRC: [u8; 4] = [0xa2, 0x97, 0x41, 0x83];

    #[test]
    fn every_changed_bit_and_every_cut_of_a_manifest_is_noticed() {
        let bytes = sample().encode().unwrap();
        assert_eq!(decode(&bytes), Ok(sample()));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            decode(&changed).expect_err(&format!("bit {bit}"));
        }
        for len in 0..bytes.len() {
            decode(&bytes[..len]).expect_err(&format!("cut to {len}"));
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(decode(&longer), Err(LayerFault::WrongSize));
    }

    #[test]
    fn a_manifest_of_another_log_or_number_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path: Arc<Path> = dir.path().join("00000007.manifest").into();
        std::io::Write::write_all(
            &mut std::fs::File::create(&path).unwrap(),
            &sample().encode().unwrap(),
        )
        .unwrap();
        let owner = sample().owner;
        assert_eq!(Manifest::read(&path, 7, owner), Ok(sample()));
        let other = Owner {
            identity: Identity(9),
            ..owner
        };
        for (number, owner) in [(8, owner), (7, other)] {
            let error = Manifest::read(&path, number, owner).unwrap_err();
            assert_eq!(error.fault, LayerFault::WrongPlace);
        }
    }
}
