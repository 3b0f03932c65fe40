//! How cores talk: one bounded inbox for each core, filled by all others, and an event descriptor
//! that wakes its owner.
//!
//! The queue is a bounded multi-producer one (`crossbeam_queue::ArrayQueue`), since glommio's own
//! channel is unsound when an end is shared between threads. A sender that finds the inbox full
//! keeps the message and tries again on its next turn; what it may keep is bounded too, and a
//! request beyond that is refused as overloaded. Messages of one sender arrive in the order they
//! were sent.
//!
//! The descriptor is written only when its owner said that it is about to sleep: under load a
//! message costs no system call. A sender keeps what it sends until [`MailboxSender::deliver`] or
//! until [`DELIVERY_MESSAGES`] are there, so that who sleeps is woken once for all of them, and
//! finds them all.
//!
//! Other threads that work for a core wake it in the same way, by [`Inbox::waker`].

use super::message::Message;
use crate::limits::{MAILBOX_MESSAGES_MAX, MAILBOX_OVERFLOW_MESSAGES_MAX};
use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Wake, Waker};

/// Messages for one core that are sent at once, without waiting for more.
const DELIVERY_MESSAGES: usize = 32;

#[derive(Debug)]
struct Mailbox {
    messages: ArrayQueue<Message>,
    wake: OwnedFd,
    /// The owner looks at `wake`, not at `messages`. Set and cleared by the owner, cleared by who
    /// wakes it.
    asleep: AtomicBool,
}

/// The receiving end; owned by one core.
#[derive(Debug)]
pub struct Inbox {
    mailbox: Arc<Mailbox>,
}

/// All sending ends of one core, and what is not sent yet or had no room.
#[derive(Debug)]
pub struct MailboxSender {
    outbound: Vec<Outbound>,
}

/// The way to one core.
#[derive(Debug)]
pub struct Outbound {
    mailbox: Arc<Mailbox>,
    /// What is to be sent, oldest first.
    kept: VecDeque<Message>,
}

/// One inbox and one postbox for each of `cores` cores.
///
/// # Errors
/// If an event descriptor can't be made.
pub fn mailboxes(cores: usize) -> io::Result<Vec<(Inbox, MailboxSender)>> {
    let mut all = Vec::with_capacity(cores);
    for _ in 0..cores {
        all.push(Arc::new(Mailbox {
            messages: ArrayQueue::new(MAILBOX_MESSAGES_MAX),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            asleep: AtomicBool::new(false),
        }));
    }
    let sender = || MailboxSender {
        outbound: all
            .iter()
            .map(|mailbox| Outbound {
                mailbox: Arc::clone(mailbox),
                kept: VecDeque::new(),
            })
            .collect(),
    };
    Ok(all
        .iter()
        .map(|mailbox| {
            (
                Inbox {
                    mailbox: Arc::clone(mailbox),
                },
                sender(),
            )
        })
        .collect())
}

impl Mailbox {
    /// Wakes the owner if it sleeps; what it is to find was written before.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            match rustix::io::write(&self.wake, &1_u64.to_le_bytes()) {
                // The counter can only be full if it was not read: then it is readable anyway.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl Wake for Mailbox {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

impl Inbox {
    /// The oldest message.
    pub fn take(&self) -> Option<Message> {
        self.mailbox.messages.pop()
    }

    /// The descriptor that becomes readable when a message comes while the owner is asleep.
    pub fn wake_descriptor(&self) -> BorrowedFd<'_> {
        self.mailbox.wake.as_fd()
    }

    /// What wakes the owner when something else than a message is there for it. It has to look for
    /// that between [`Inbox::fall_asleep`] and sleeping.
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.mailbox))
    }

    /// Announces that the owner will wait for [`Inbox::wake_descriptor`]. False if a message is
    /// there already and it must not wait.
    pub fn fall_asleep(&self) -> bool {
        self.mailbox.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`: either that sees `asleep`, or this sees the message.
        fence(Ordering::SeqCst);
        if self.mailbox.messages.is_empty() {
            return true;
        }
        self.wake_up();
        false
    }

    /// After waking, for whatever reason. If it was [`Inbox::wake_descriptor`], that stays readable
    /// until [`Inbox::take_wakes`].
    pub fn wake_up(&self) {
        self.mailbox.asleep.store(false, Ordering::Relaxed);
    }

    /// Makes [`Inbox::wake_descriptor`] wait for the next wake.
    pub fn take_wakes(&self) {
        let mut count = [0; 8];
        // Would block if there was no wake-up: nothing to take back then.
        match rustix::io::read(&self.mailbox.wake, &mut count) {
            Ok(_) | Err(_) => {}
        }
    }
}

impl Outbound {
    fn send(&mut self, message: Message) {
        self.kept.push_back(message);
        if self.kept.len() >= DELIVERY_MESSAGES {
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        while let Some(message) = self.kept.pop_front() {
            if let Err(message) = self.mailbox.messages.push(message) {
                self.kept.push_front(message);
                break;
            }
        }
        self.mailbox.ring();
    }
}

impl MailboxSender {
    /// Number of cores, this one included.
    pub fn cores(&self) -> usize {
        self.outbound.len()
    }

    /// Sends to `core`, with the next [`MailboxSender::deliver`] at the latest; never fails.
    /// Replies and changes are always kept; see [`MailboxSender::has_room`].
    ///
    /// # Panics
    /// If there is no such core.
    pub fn send(&mut self, core: u16, message: Message) {
        self.outbound[usize::from(core)].send(message);
    }

    /// False if `core` is so far behind that a new request must be refused as overloaded.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn has_room(&self, core: u16) -> bool {
        self.outbound[usize::from(core)].kept.len() < MAILBOX_OVERFLOW_MESSAGES_MAX
    }

    /// Sends what was kept. True if some of it has no room yet.
    pub fn deliver(&mut self) -> bool {
        let mut waiting = false;
        for outbound in &mut self.outbound {
            outbound.deliver();
            waiting |= !outbound.kept.is_empty();
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Reply, RequestId};
    use super::*;

    fn reply(slot: u32) -> Message {
        let request_id = RequestId {
            connection: 0,
            generation: 0,
            serial: slot,
        };
        Message::Reply {
            from: 0,
            request_id,
            reply: Reply::Subscribed(flux_storage::Sequence::ZERO),
        }
    }

    fn slot(message: &Message) -> u32 {
        let Message::Reply { request_id, .. } = message else {
            panic!("{message:?}")
        };
        request_id.serial
    }

    #[test]
    fn messages_arrive_in_order_also_through_a_full_inbox() {
        let mut ends = mailboxes(2).unwrap();
        let (_, mut sender) = ends.remove(0);
        let (receiver, _) = ends.remove(0);
        let total = u32::try_from(MAILBOX_MESSAGES_MAX).unwrap() + 100;
        for number in 0..total {
            sender.send(1, reply(number));
        }
        assert!(sender.deliver(), "the inbox holds only its bound");
        let mut expected = 0;
        while expected < total {
            while let Some(message) = receiver.take() {
                assert_eq!(slot(&message), expected);
                expected += 1;
            }
            sender.deliver();
        }
        assert!(!sender.deliver());
    }

    #[test]
    fn room_ends_at_the_bound() {
        let mut ends = mailboxes(1).unwrap();
        let (_, mut sender) = ends.remove(0);
        let bound = u32::try_from(MAILBOX_MESSAGES_MAX + MAILBOX_OVERFLOW_MESSAGES_MAX).unwrap();
        for number in 0..bound {
            assert!(sender.has_room(0), "at {number}");
            sender.send(0, reply(number));
        }
        assert!(!sender.has_room(0));
    }

    #[test]
    fn a_sleeper_is_woken_and_one_with_mail_does_not_sleep() {
        let mut ends = mailboxes(1).unwrap();
        let (inbox, mut sender) = ends.remove(0);
        assert!(inbox.fall_asleep());
        sender.send(0, reply(1));
        let mut count = [0; 8];
        assert!(
            rustix::io::read(inbox.wake_descriptor(), &mut count).is_err(),
            "not sent yet"
        );
        assert!(!sender.deliver());
        assert_eq!(rustix::io::read(inbox.wake_descriptor(), &mut count), Ok(8));
        assert!(!inbox.fall_asleep());
        assert!(inbox.take().is_some());
        inbox.wake_up();
        sender.send(0, reply(2));
        assert!(!sender.deliver());
        assert!(
            rustix::io::read(inbox.wake_descriptor(), &mut count).is_err(),
            "awake: no system call"
        );
    }
    #[test]
    fn many_messages_are_on_their_way_without_being_told() {
        let mut ends = mailboxes(1).unwrap();
        let (inbox, mut sender) = ends.remove(0);
        for number in 0..u32::try_from(DELIVERY_MESSAGES).unwrap() {
            assert!(inbox.take().is_none(), "at {number}");
            sender.send(0, reply(number));
        }
        assert!(inbox.take().is_some());
    }

    #[test]
    fn another_thread_wakes_a_sleeper_and_nobody_else() {
        let mut ends = mailboxes(1).unwrap();
        let (inbox, _) = ends.remove(0);
        let waker = inbox.waker();
        let mut count = [0; 8];
        waker.wake_by_ref();
        assert!(rustix::io::read(inbox.wake_descriptor(), &mut count).is_err());
        assert!(inbox.fall_asleep());
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake());
        });
        assert_eq!(rustix::io::read(inbox.wake_descriptor(), &mut count), Ok(8));
    }
}
