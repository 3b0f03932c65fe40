//! The memory account of one core: what its clients hold, by part and by client, counted against
//! the [budget](super::memory_budget) of the process.
//!
//! [`MemoryAccount::admits`] is asked *before* memory is taken, by whatever can wait or be refused.
//! [`MemoryAccount::settle`] is told *afterwards* what is held, and never refuses: so the account
//! is true also if something turned out larger than was expected.
//!
//! Counting is plain arithmetic on numbers of this core. What is drawn and not used goes back when
//! it is more than two chunks, and each tick all but one.
//!
//! It does not count what the server needs whatever clients do: state, logs, caches, the
//! connections themselves (about 1 KiB each).

use super::memory_budget::{
    MEMORY_PARTS, MemoryBudget, MemoryClient, MemoryPart, MemoryParts, Size,
};
use crate::limits;
use std::collections::HashMap;
use std::sync::Arc;

/// A client that has connections on this core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIndex(u32);

/// Who is answerable for what a connection holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryHolders {
    /// Its address.
    pub address: Option<ClientIndex>,
    /// The namespace whose token came with its last body that had to be waited for.
    pub namespace: Option<ClientIndex>,
}

impl MemoryHolders {
    fn each(self) -> impl Iterator<Item = ClientIndex> {
        self.address.into_iter().chain(self.namespace)
    }
}

/// What one connection holds, by part, as it was last counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryHolding {
    /// Of [`MemoryPart::Bodies`].
    pub bodies: usize,
    /// Of [`MemoryPart::Answers`].
    pub answers: usize,
    /// Of [`MemoryPart::Outboxes`].
    pub outboxes: usize,
    /// Of [`MemoryPart::Queries`].
    pub queries: usize,
    /// Of [`MemoryPart::Streams`].
    pub streams: usize,
}

impl MemoryHolding {
    /// All of it.
    pub const fn total(&self) -> usize {
        self.bodies + self.answers + self.outboxes + self.queries + self.streams
    }
}

/// One client on this core.
#[derive(Debug)]
struct ClientAccount {
    client: MemoryClient,
    /// Connections that it is answerable for. 0: the place is free.
    connections: u32,
    used: usize,
    /// What `used` may come to without asking the budget.
    drawn: usize,
}

/// See the module.
#[derive(Debug)]
pub struct MemoryAccount {
    budget: Arc<MemoryBudget>,
    member: usize,
    parts: MemoryParts,
    used: usize,
    /// What `used` was when the budget was told of it.
    told: usize,
    drawn: usize,
    clients: Vec<ClientAccount>,
    free: Vec<u32>,
    indexes: HashMap<MemoryClient, u32>,
}

impl MemoryAccount {
    /// An empty account of a member of the budget.
    pub fn new(budget: Arc<MemoryBudget>, member: usize) -> Self {
        Self {
            budget,
            member,
            parts: [0; MEMORY_PARTS],
            used: 0,
            told: 0,
            drawn: 0,
            clients: Vec::new(),
            free: Vec::new(),
            indexes: HashMap::new(),
        }
    }

    /// The budget that it draws from.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// The longest body that a client may send: what it may have, less the request's head.
    pub fn body_bytes_max(&self) -> usize {
        let single = self.budget.single_bytes_max();
        single.saturating_sub(limits::MEMORY_SMALL_BYTES_MAX)
    }

    /// One more connection for which a client is answerable.
    pub fn join(&mut self, client: MemoryClient) -> Option<ClientIndex> {
        if let Some(&index) = self.indexes.get(&client) {
            self.clients.get_mut(index as usize)?.connections += 1;
            return Some(ClientIndex(index));
        }
        let account = ClientAccount {
            client,
            connections: 1,
            used: 0,
            drawn: self.budget.client_chunk(),
        };
        let index = if let Some(index) = self.free.pop() {
            *self.clients.get_mut(index as usize)? = account;
            index
        } else {
            self.clients.push(account);
            u32::try_from(self.clients.len() - 1).ok()?
        };
        self.indexes.insert(client, index);
        Some(ClientIndex(index))
    }

    /// One less. What it held is given back first, by [`MemoryAccount::settle`].
    pub fn leave(&mut self, index: ClientIndex) {
        let Some(account) = self.clients.get_mut(index.0 as usize) else {
            return;
        };
        account.connections = account.connections.saturating_sub(1);
        if account.connections == 0 {
            give_back_for(&self.budget, account, 0);
            self.indexes.remove(&account.client);
            self.free.push(index.0);
        }
    }

    /// True if a connection that holds `held` bytes may take `more`: for small holdings as long as
    /// there is any room, for large ones as long as there is room besides for small ones.
    pub fn admits(&mut self, holders: MemoryHolders, held: usize, more: usize) -> bool {
        let size = Size::of(held.saturating_add(more));
        self.covers(more, size)
            && holders
                .each()
                .all(|index| self.covers_of(index, more, size))
    }

    /// Counts what a connection holds now. `counted`: what was counted for it before.
    pub fn settle(
        &mut self,
        holders: MemoryHolders,
        counted: &mut MemoryHolding,
        holding: MemoryHolding,
    ) {
        if *counted == holding {
            return;
        }
        let (before, after) = (counted.total(), holding.total());
        self.change(MemoryPart::Bodies, counted.bodies, holding.bodies);
        self.change(MemoryPart::Answers, counted.answers, holding.answers);
        self.change(MemoryPart::Outboxes, counted.outboxes, holding.outboxes);
        self.change(MemoryPart::Queries, counted.queries, holding.queries);
        self.change(MemoryPart::Streams, counted.streams, holding.streams);
        *counted = holding;
        for index in holders.each() {
            if let Some(account) = self.clients.get_mut(index.0 as usize) {
                account.used = (account.used + after).saturating_sub(before);
                settle_client(&self.budget, account);
            }
        }
    }

    /// Counts what no single client holds: `part` has gone from `before` bytes to `after`.
    pub fn change(&mut self, part: MemoryPart, before: usize, after: usize) {
        if before == after {
            return;
        }
        let part = &mut self.parts[part as usize];
        *part = (*part + after).saturating_sub(before);
        self.used = (self.used + after).saturating_sub(before);
        if self.used.abs_diff(self.told) > self.budget.chunk() {
            // What one core gives back and another takes must not be shown twice.
            self.tell();
        }
        if self.used > self.drawn {
            self.budget.draw_at_once(self.used - self.drawn);
            self.drawn = self.used;
        } else if self.drawn - self.used > 2 * self.budget.chunk() {
            self.give_back(self.budget.chunk());
        }
    }

    /// Bytes that are counted.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    /// The most bytes that are counted for one of these.
    pub(crate) fn used_by(&self, holders: MemoryHolders) -> usize {
        let accounts = holders.each();
        let accounts = accounts.filter_map(|index| self.clients.get(index.0 as usize));
        accounts.map(|account| account.used).max().unwrap_or(0)
    }

    fn tell(&mut self) {
        self.budget.publish(self.member, &self.parts);
        self.told = self.used;
    }

    /// Says what is used, and gives back what is not: once a tick, and the former when it has
    /// changed much.
    pub fn tick(&mut self) {
        self.tell();
        let kept = self.budget.chunk();
        if self.drawn - self.used > kept {
            self.give_back(kept);
        }
    }

    /// Gives back what is drawn beyond `kept` unused bytes.
    fn give_back(&mut self, kept: usize) {
        let unused = self.drawn - self.used - kept;
        self.budget.give_back(unused);
        self.drawn -= unused;
    }

    fn covers(&mut self, more: usize, size: Size) -> bool {
        let missing = (self.used.saturating_add(more)).saturating_sub(self.drawn);
        if missing == 0 {
            return true;
        }
        // A chunk, or at the end of the budget just what is needed.
        let chunked = missing.next_multiple_of(self.budget.chunk());
        for bytes in [chunked, missing] {
            if self.budget.draw(bytes, size) {
                self.drawn += bytes;
                return true;
            }
        }
        false
    }

    fn covers_of(&mut self, index: ClientIndex, more: usize, size: Size) -> bool {
        let Some(account) = self.clients.get_mut(index.0 as usize) else {
            return true;
        };
        let missing = (account.used.saturating_add(more)).saturating_sub(account.drawn);
        if missing == 0 {
            return true;
        }
        let chunked = missing.next_multiple_of(self.budget.client_chunk());
        for bytes in [chunked, missing] {
            if self.budget.draw_for(account.client, bytes, size) {
                account.drawn += bytes;
                return true;
            }
        }
        false
    }
}

impl Drop for MemoryAccount {
    fn drop(&mut self) {
        self.budget.give_back(self.drawn);
        self.budget.publish(self.member, &[0; MEMORY_PARTS]);
        for account in &mut self.clients {
            if account.connections > 0 {
                give_back_for(&self.budget, account, 0);
            }
        }
    }
}

/// Draws what a client uses beyond what is drawn, or gives back what it has drawn and does not use.
fn settle_client(budget: &MemoryBudget, account: &mut ClientAccount) {
    let chunk = budget.client_chunk();
    if account.used > account.drawn {
        budget.draw_at_once_for(account.client, account.used - account.drawn);
        account.drawn = account.used;
    } else if account.drawn > chunk && account.drawn - account.used > 2 * chunk {
        give_back_for(budget, account, account.used + chunk);
    }
}

/// Gives back what a client has drawn beyond `kept` bytes and the chunk that it has without asking.
fn give_back_for(budget: &MemoryBudget, account: &mut ClientAccount, kept: usize) {
    let kept = kept.max(budget.client_chunk());
    if account.drawn > kept {
        budget.give_back_for(account.client, account.drawn - kept);
        account.drawn = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MEMORY_BYTES_MIN, MEMORY_SMALL_BYTES_MAX};

    const MIB: usize = 1024 * 1024;
    const LIMIT: usize = 64 * MIB;

    /// A budget, and the accounts of two cores.
    fn two_cores() -> (Arc<MemoryBudget>, [MemoryAccount; 2]) {
        let budget = Arc::new(MemoryBudget::new(LIMIT, 3));
        let account = |member| MemoryAccount::new(Arc::clone(&budget), member);
        let accounts = [account(0), account(1)];
        (budget, accounts)
    }

    fn client(number: u32) -> MemoryClient {
        MemoryClient::at(std::net::Ipv4Addr::from_bits(number).into())
    }

    fn holders(account: &mut MemoryAccount, number: u32) -> MemoryHolders {
        MemoryHolders {
            address: account.join(client(number)),
            namespace: None,
        }
    }

    fn answers(answers: usize) -> MemoryHolding {
        MemoryHolding {
            answers,
            ..MemoryHolding::default()
        }
    }

    /// Takes `bytes` more if they are admitted.
    fn take(
        account: &mut MemoryAccount,
        holders: MemoryHolders,
        counted: &mut MemoryHolding,
        bytes: usize,
    ) -> bool {
        let admitted = account.admits(holders, counted.total(), bytes);
        if admitted {
            let holding = answers(counted.answers + bytes);
            account.settle(holders, counted, holding);
        }
        admitted
    }

    #[test]
    fn one_address_has_a_quarter_whichever_cores_its_connections_came_to() {
        let (budget, mut accounts) = two_cores();
        let mut taken = 0;
        for account in &mut accounts {
            let holders = holders(account, 1);
            let mut counted = MemoryHolding::default();
            while take(account, holders, &mut counted, MIB) {
                taken += MIB;
            }
        }
        let most = budget.client_limit() + 2 * budget.client_chunk();
        assert!(taken <= most && taken > LIMIT / 5, "{taken}");
        let another = holders(&mut accounts[0], 2);
        assert!(accounts[0].admits(another, 0, MIB));
    }

    #[test]
    fn all_clients_together_stay_within_the_budget_and_leave_room_for_small_requests() {
        let (budget, mut accounts) = two_cores();
        let mut taken = 0;
        for number in 0..100 {
            let account = &mut accounts[number as usize % 2];
            let holders = holders(account, number);
            let mut counted = MemoryHolding::default();
            while take(account, holders, &mut counted, MIB) {
                taken += MIB;
            }
        }
        assert!(taken <= LIMIT - LIMIT / 8 && taken > LIMIT / 2, "{taken}");
        assert!(budget.is_pressed());
        let newcomer = holders(&mut accounts[0], 1000);
        assert!(accounts[0].admits(newcomer, 0, MEMORY_SMALL_BYTES_MAX));
        assert!(!accounts[0].admits(newcomer, 0, MIB));
    }

    #[test]
    fn small_holdings_fill_the_budget_to_its_end_and_no_further() {
        let (_, mut accounts) = two_cores();
        let (mut taken, piece) = (0, 10 * 1024);
        let mut is_full = false;
        for number in 0..100_000 {
            let account = &mut accounts[number as usize % 2];
            let holders = holders(account, number);
            let mut counted = MemoryHolding::default();
            if !take(account, holders, &mut counted, piece) {
                is_full = true;
                break;
            }
            taken += piece;
        }
        assert!(is_full && taken <= LIMIT && taken > LIMIT * 9 / 10);
    }

    #[test]
    fn everything_comes_back() {
        let (budget, mut accounts) = two_cores();
        for round in 0..3 {
            let mut all = Vec::new();
            for number in 0..40 {
                let core = number as usize % 2;
                let holders = holders(&mut accounts[core], number / 4);
                let mut counted = MemoryHolding::default();
                // Some turn out larger than was admitted.
                let holding = answers((number as usize + 1) * 100_000);
                accounts[core].settle(holders, &mut counted, holding);
                all.push((core, holders, counted));
            }
            for account in &mut accounts {
                account.tick();
            }
            let used = budget.usage().used();
            assert_eq!(used, (1..=40).sum::<usize>() * 100_000, "round {round}");
            for (core, holders, mut counted) in all {
                let account = &mut accounts[core];
                account.settle(holders, &mut counted, MemoryHolding::default());
                account.leave(holders.address.unwrap());
                account.tick();
            }
            assert_eq!(budget.usage().used(), 0);
            assert!(budget.drawn() <= 2 * budget.chunk(), "round {round}");
            assert!(budget.has_no_clients());
        }
    }

    #[test]
    fn an_account_that_ends_gives_back_what_it_has_drawn() {
        let (budget, mut accounts) = two_cores();
        let holders = holders(&mut accounts[0], 1);
        let mut counted = MemoryHolding::default();
        accounts[0].settle(holders, &mut counted, answers(20 * MIB));
        accounts[1].change(MemoryPart::Connectors, 0, 100);
        drop(accounts);
        assert_eq!((budget.drawn(), budget.usage().used()), (0, 0));
        assert!(budget.has_no_clients());
    }

    #[test]
    fn a_batch_fits_the_smallest_budget() {
        let budget = MemoryBudget::new(MEMORY_BYTES_MIN, 3);
        assert!(budget.single_bytes_max() >= 10 * MIB + MEMORY_SMALL_BYTES_MAX);
        assert!(MemoryBudget::new(LIMIT, 3).client_limit() == LIMIT / 4);
    }

    #[test]
    fn who_is_answerable_by_token_is_so_at_every_address() {
        let (_, mut accounts) = two_cores();
        let name = crate::auth::OwnedNamespace::new("house").unwrap();
        let mut taken = 0;
        for number in 0..20 {
            let account = &mut accounts[number as usize % 2];
            let holders = MemoryHolders {
                namespace: account.join(MemoryClient::Namespace(name)),
                ..holders(account, number)
            };
            let mut counted = MemoryHolding::default();
            while take(account, holders, &mut counted, MIB) {
                taken += MIB;
            }
        }
        assert!(taken <= LIMIT / 4 + MIB, "{taken}");
    }
}
