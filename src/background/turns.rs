//! Whose turn it is among connections that wait: addresses take turns, and the connections of an
//! address take turns within it.
//!
//! ```text
//! addresses  203.0.113.7 ─▶ 198.51.100.2 ─▶ 203.0.113.7 ─▶ …
//!               │  │           │
//!           conn. 4  9       conn. 5
//! ```
//!
//! So a client gains nothing by more connections while a client of another address waits. Behind a
//! proxy all clients have one address, and their connections take turns.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// An address as [`crate::shard::network_of`] says it; `None` for all whose address is not known.
pub(crate) type Network = Option<IpAddr>;

/// See the module. A connection waits at most once. As large as the number of waiting connections.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Addresses with connections that wait, the next one first.
    order: VecDeque<Network>,
    /// Connections of each, by index, the next one first; never empty.
    waiting: HashMap<Network, VecDeque<u32>>,
}

impl Turns {
    /// A connection waits for its turn, behind those of its address.
    pub(crate) fn push(&mut self, network: Network, connection: u32) {
        let waiting = self.waiting.entry(network).or_default();
        if waiting.is_empty() {
            self.order.push_back(network);
        }
        waiting.push_back(connection);
    }

    /// The connection whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let network = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&network)?;
        let connection = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&network);
        } else {
            self.order.push_back(network);
        }
        connection
    }

    /// The connection whose turn is next.
    pub(crate) fn peek(&self) -> Option<u32> {
        let network = self.order.front()?;
        self.waiting.get(network)?.front().copied()
    }

    /// A connection does not wait any more.
    pub(crate) fn remove(&mut self, network: Network, connection: u32) {
        let Some(waiting) = self.waiting.get_mut(&network) else {
            return;
        };
        waiting.retain(|other| *other != connection);
        if waiting.is_empty() {
            self.waiting.remove(&network);
            self.order.retain(|other| *other != network);
        }
    }

    /// Nobody waits any more.
    pub(crate) fn clear(&mut self) {
        self.order.clear();
        self.waiting.clear();
    }

    /// True if nobody waits.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn drained(turns: &mut Turns) -> Vec<u32> {
        std::iter::from_fn(|| {
            let next = turns.peek();
            assert_eq!(turns.pop(), next);
            next
        })
        .collect()
    }

    #[test]
    fn addresses_take_turns_and_connections_within_them() {
        let mut turns = Turns::default();
        for connection in [10, 11, 12] {
            turns.push(Some(address(1)), connection);
        }
        turns.push(Some(address(2)), 20);
        turns.push(None, 30);
        turns.push(None, 31);
        assert_eq!(drained(&mut turns), [10, 20, 30, 11, 31, 12]);
        assert!(turns.is_empty());
    }

    #[test]
    fn a_connection_that_went_leaves_no_turn_behind() {
        let mut turns = Turns::default();
        for connection in [10, 11] {
            turns.push(Some(address(1)), connection);
            turns.push(Some(address(2)), connection + 10);
        }
        turns.remove(Some(address(1)), 10);
        turns.remove(Some(address(2)), 20);
        turns.remove(Some(address(2)), 21);
        turns.remove(Some(address(3)), 1);
        assert_eq!(drained(&mut turns), [11]);
        assert!(turns.is_empty());
    }

    #[test]
    fn whoever_waits_is_served_within_a_turn_of_every_address() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut turns = Turns::default();
        let mut served_before: HashMap<u32, usize> = HashMap::new();
        for connection in 0..4_000_u32 {
            let number = random.u32(..8);
            turns.push(Some(address(number)), connection);
            served_before.insert(connection, 0);
            if random.u32(..3) == 0
                && let Some(next) = turns.pop()
            {
                served_before.remove(&next);
            }
        }
        let waiting: usize = turns.waiting.values().map(VecDeque::len).sum();
        assert_eq!(waiting, served_before.len());
        let longest = turns.waiting.values().map(VecDeque::len).max();
        let addresses = turns.order.len();
        turns.push(Some(address(99)), u32::MAX);
        let order = drained(&mut turns);
        let newcomer = order.iter().position(|next| *next == u32::MAX);
        assert_eq!(newcomer, Some(addresses), "after one turn of each address");
        assert_eq!(order.len(), waiting + 1);
        assert!(longest > Some(addresses), "the addresses had more to do");
    }
}
