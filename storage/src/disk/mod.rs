//! The disk as the rest of the crate sees it: files made durable, names, the lock, mapped memory.
//!
//! | file | |
//! | --- | --- |
//! | `files` | operations on files and directories, made durable, with errors that name them |
//! | `layout` | the names in a data directory, and which of them exist |
//! | `foreign` | whether a directory may become a data directory |
//! | `links` | that no symbolic link is in one |
//! | `lock` | the lock that keeps a second server out |
//! | `region` | mapped files, the only `unsafe` beside `checkpoint::archive` |
//! | `segment_file` | a segment file as it is found: path and checked header |
//! | `ballast` | a file that is removed when the disk is full |
//! | `random` | random numbers for new logs and segments |
//! | `faults` | failures that a test orders at any operation |
//!
//! It must not know what a log, a checkpoint or an index is: it sees names, headers and bytes.

pub(crate) mod ballast;
pub(crate) mod faults;
pub(crate) mod files;
pub(crate) mod foreign;
pub(crate) mod layout;
pub(crate) mod links;
pub(crate) mod lock;
pub(crate) mod random;
pub(crate) mod region;
pub(crate) mod segment_file;
