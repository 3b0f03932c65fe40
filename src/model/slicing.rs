//! How much of a turn's work is done in one go.

/// How much is done in one go before others have their turn. Tests have smaller slices, so that
/// they see what comes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slicing {
    /// Units of a slice of work: what is done for one connection before the next one's turn comes,
    /// if few are active. A slice may pass it by one item of a batch. More is left for the next
    /// turn.
    pub units: u64,
    /// Bytes of a body that one slice looks at. If a value does not end within them, a helper
    /// thread decodes what is left of the body.
    pub body_bytes: usize,
    /// Bytes of an answer to a batch that is written in one go. A longer one is written in parts,
    /// as the client takes them.
    pub answer_bytes: usize,
    /// Units that a connection may spend in one turn, however many others are active.
    pub connection_units_min: u64,
}

impl Slicing {
    /// The server's.
    pub const SERVER: Self = Self {
        units: 1024 * 1024,
        body_bytes: 256 * 1024,
        answer_bytes: 256 * 1024,
        connection_units_min: 16 * 1024,
    };

    /// For tests.
    #[cfg(test)]
    pub const SMALL: Self = Self {
        units: 32 * 1024,
        body_bytes: 4 * 1024,
        answer_bytes: 4 * 1024,
        connection_units_min: 4 * 1024,
    };

    /// Units of a slice of one write at its shard. A part of a batch is half of it, so that a part
    /// is stored in one go if its entities are small. More goes on in later turns.
    pub const fn shard_units(self) -> u64 {
        2 * self.units
    }
}

impl Default for Slicing {
    fn default() -> Self {
        Self::SERVER
    }
}
