//! A gate that lets in only so many at a time, by [`Shares`]. Who waits is let in by turns of the
//! owners, each owner's own in their order.

use super::shares::{Owner, Shares};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// See the module. For one thread.
#[derive(Debug, Clone)]
pub(super) struct Gate(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    shares: Shares,
    /// Those outside, in the order in which they came.
    waiting: VecDeque<(Owner, oneshot::Sender<Pass>)>,
    /// When the owners who wait were let in last, as a number of the turn.
    turns: HashMap<Owner, u64>,
    turn: u64,
}

/// One is inside, until this is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Gate,
    owner: Owner,
}

impl Gate {
    /// Lets in `total` at a time, of one owner at most `per_owner_max`.
    pub(super) fn new(total: usize, per_owner_max: usize) -> Self {
        Self(Rc::new(RefCell::new(State {
            shares: Shares::new(total, per_owner_max),
            waiting: VecDeque::new(),
            turns: HashMap::new(),
            turn: 0,
        })))
    }

    /// Waits to be let in.
    pub(super) async fn enter(&self, owner: &Owner) -> Pass {
        let receiver = {
            let mut state = self.0.borrow_mut();
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back((Arc::clone(owner), sender));
            receiver
        };
        self.let_in();
        match receiver.await {
            Ok(pass) => pass,
            // The gate keeps every sender until it lets its owner in.
            Err(_) => std::future::pending().await,
        }
    }

    /// Lets in whoever may enter.
    fn let_in(&self) {
        loop {
            let next = self.0.borrow_mut().next();
            let Some((owner, sender)) = next else { return };
            let pass = Pass {
                gate: self.clone(),
                owner,
            };
            // Who has stopped waiting gives the pass back, and the gate looks again.
            drop(sender.send(pass));
        }
    }
}

impl State {
    /// Takes the one out of the queue whose turn it is, with its share.
    fn next(&mut self) -> Option<(Owner, oneshot::Sender<Pass>)> {
        self.waiting.retain(|(_, sender)| !sender.is_closed());
        let entering = self.waiting.iter().enumerate();
        let entering = entering.filter(|(_, (owner, _))| self.shares.may_take(owner));
        let turn = |owner: &Owner| self.turns.get(owner).copied().unwrap_or(0);
        let (at, _) = entering.min_by_key(|(at, (owner, _))| (turn(owner), *at))?;
        let (owner, sender) = self.waiting.remove(at)?;
        self.shares.take(&owner);
        self.turn = self.turn.saturating_add(1);
        self.turns.insert(Arc::clone(&owner), self.turn);
        let waiting = &self.waiting;
        let is_waiting = |owner: &Owner| waiting.iter().any(|(other, _)| other == owner);
        self.turns.retain(|owner, _| is_waiting(owner));
        Some((owner, sender))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.0.borrow_mut().shares.give_back(&self.owner);
        self.gate.let_in();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// Somebody on the way in.
    type Entering<'g> = Pin<Box<dyn Future<Output = Pass> + 'g>>;

    fn poll(entering: &mut Entering<'_>) -> Option<Pass> {
        match entering
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(pass) => Some(pass),
            Poll::Pending => None,
        }
    }

    #[test]
    fn owners_take_turns_however_many_of_one_wait() {
        let gate = Gate::new(2, 1);
        let (greedy, modest): (Owner, Owner) = ("greedy".into(), "modest".into());
        let mut first: Entering<'_> = Box::pin(gate.enter(&greedy));
        let pass = poll(&mut first).expect("nobody is inside");
        let mut others: Vec<Entering<'_>> = Vec::new();
        for _ in 0..10 {
            others.push(Box::pin(gate.enter(&greedy)));
        }
        for other in &mut others {
            assert!(poll(other).is_none(), "one of an owner at a time");
        }
        let mut guest: Entering<'_> = Box::pin(gate.enter(&modest));
        let guest = poll(&mut guest).expect("there is room for another owner");
        let mut second: Entering<'_> = Box::pin(gate.enter(&modest));
        assert!(poll(&mut second).is_none());
        drop(pass);
        assert!(poll(&mut others[1]).is_none(), "in their order");
        let pass = poll(&mut others[0]).expect("it is the first");
        drop(guest);
        assert!(poll(&mut second).is_some());
        drop(pass);
        assert!(poll(&mut others[1]).is_some());
    }

    #[test]
    fn who_stops_waiting_takes_no_place() {
        let gate = Gate::new(2, 1);
        let owner: Owner = "a".into();
        let mut first: Entering<'_> = Box::pin(gate.enter(&owner));
        let pass = poll(&mut first).unwrap();
        let mut gone: Entering<'_> = Box::pin(gate.enter(&owner));
        let mut let_in: Entering<'_> = Box::pin(gate.enter(&owner));
        let mut last: Entering<'_> = Box::pin(gate.enter(&owner));
        for waiting in [&mut gone, &mut let_in, &mut last] {
            assert!(poll(waiting).is_none());
        }
        drop(gone);
        drop(pass);
        // It was let in, and goes before it notices.
        drop(let_in);
        assert!(poll(&mut last).is_some());
    }

    #[test]
    fn the_owner_that_was_let_in_longest_ago_is_next() {
        let gate = Gate::new(3, 2);
        let owners: [Owner; 3] = ["a".into(), "b".into(), "c".into()];
        let inside: Vec<Pass> = (0..2)
            .map(|at| poll(&mut (Box::pin(gate.enter(&owners[at])) as Entering<'_>)).unwrap())
            .collect();
        let mut waiting: Vec<Entering<'_>> = Vec::new();
        for owner in [0, 0, 0, 1, 1, 2] {
            let mut one: Entering<'_> = Box::pin(gate.enter(&owners[owner]));
            if poll(&mut one).is_none() {
                waiting.push(one);
            }
        }
        // `c` had its place at once; `a` and `b` have as many as are free.
        assert_eq!(waiting.len(), 5);
        drop(inside);
        let let_in: Vec<Option<Pass>> = waiting.iter_mut().map(poll).collect();
        let order: Vec<usize> = (0..5).filter(|at| let_in[*at].is_some()).collect();
        assert_eq!(order, [0, 3], "one of `a` and one of `b`");
    }
}
