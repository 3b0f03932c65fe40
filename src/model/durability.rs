//! What a success promises.

/// What a success promises (API contract §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The event is on the disk.
    Sync,
    /// The event is in the kernel's page cache.
    Async,
}

impl Durability {
    /// Its name in settings and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}
