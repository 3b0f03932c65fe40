//! Handshakes of TLS, on a helper thread: whose is next.
//!
//! The signature of a handshake takes a millisecond with an RSA key, which is as long as a core's
//! clients should ever wait for another's request. So each step of a handshake is a job. A core's
//! thread is at one at a time; the kernel gives it whichever processor is free, and a tenth of one
//! if the cores keep all busy: a hundred handshakes a second with an RSA key, a thousand with a
//! curve.
//!
//! Connections take turns ([`Turns`]), by address and within it: who opens connections without end
//! delays the handshakes of his own address. What the helper thread works on is taken from the
//! connection when its turn comes, so one that has ended leaves only its place.

use super::job::{Jobs, Lane, WorkerResult};
use super::turns::{Network, Turns};
use crate::log::Log;
use crate::wire::tls::HandshakeStep;
use std::collections::HashMap;

/// A connection, by index and generation.
pub(crate) type Place = (u32, u32);

/// See the module. As long as the core has connections.
#[derive(Debug, Default)]
pub(crate) struct HandshakeQueue {
    turns: Turns,
    /// By the index of the connection.
    waiting: HashMap<u32, (u32, Network)>,
    /// The connection whose step the helper thread is at.
    running: Option<Place>,
}

impl HandshakeQueue {
    /// A connection from an address has a step to be done. It may be here already.
    pub(crate) fn push(&mut self, (index, generation): Place, network: Network) {
        if self.waiting.insert(index, (generation, network)).is_none() {
            self.turns.push(network, index);
        }
    }

    /// The connection whose turn it is, if the helper thread is free.
    pub(crate) fn next(&mut self) -> Option<Place> {
        if self.running.is_some() {
            return None;
        }
        let index = self.turns.pop()?;
        let (generation, _) = self.waiting.remove(&index)?;
        Some((index, generation))
    }

    /// Hands a step to the helper thread, which is free.
    pub(crate) fn start<L: Log>(&mut self, place: Place, step: HandshakeStep, jobs: &mut Jobs<L>) {
        self.running = Some(place);
        jobs.push(Lane::Handshake, move || {
            WorkerResult::Handshaken(Box::new(step.run()))
        });
    }

    /// The helper thread is done. The connection that it worked for, which may have ended.
    pub(crate) fn on_result(&mut self) -> Option<Place> {
        self.running.take()
    }

    /// A connection has ended.
    pub(crate) fn forget(&mut self, index: u32) {
        if let Some((_, network)) = self.waiting.remove(&index) {
            self.turns.remove(network, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn push(queue: &mut HandshakeQueue, address: u32, index: u32) {
        queue.push((index, 7), Some(IpAddr::V4(address.into())));
    }

    #[test]
    fn addresses_take_turns_and_a_connection_waits_once() {
        let mut queue = HandshakeQueue::default();
        for index in [1, 2, 2, 3] {
            push(&mut queue, 1, index);
        }
        push(&mut queue, 2, 9);
        queue.forget(3);
        queue.forget(8);
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(order, [(1, 7), (9, 7), (2, 7)]);
    }

    #[test]
    fn the_thread_is_at_one_step_at_a_time() {
        let mut queue = HandshakeQueue::default();
        push(&mut queue, 1, 1);
        push(&mut queue, 1, 2);
        queue.running = queue.next();
        assert_eq!(queue.next(), None);
        assert_eq!(queue.on_result(), Some((1, 7)));
        assert_eq!(queue.next(), Some((2, 7)));
        assert_eq!(queue.on_result(), None);
    }
}
