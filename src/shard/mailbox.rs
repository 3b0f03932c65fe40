//! How cores talk: one bounded inbox for each core, filled by all others, and an event descriptor that wakes its
//! owner.
//!
//! The queue is a bounded multi-producer one (`crossbeam_queue::ArrayQueue`), since glommio's own channel is
//! unsound when an end is shared between threads. A sender that finds the inbox full keeps the message and tries
//! again on its next turn; what it may keep is bounded too, and a request beyond that is refused as overloaded.
//! Messages of one sender arrive in the order they were sent.
//!
//! The descriptor is written only when its owner said that it is about to sleep: under load a message costs no
//! system call.

use super::message::Message;
use crate::limits::{MAILBOX_MESSAGES_MAX, MAILBOX_OVERFLOW_MESSAGES_MAX};
use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

#[derive(Debug)]
struct Mailbox {
    messages: ArrayQueue<Message>,
    wake: OwnedFd,
    /// The owner looks at `wake`, not at `messages`. Set and cleared by the owner, cleared by who wakes it.
    asleep: AtomicBool,
}

/// The receiving end; owned by one core.
#[derive(Debug)]
pub struct Inbox {
    mailbox: Arc<Mailbox>,
}

/// All sending ends of one core, and what the other cores had no room for.
#[derive(Debug)]
pub struct Postbox {
    outbound: Vec<Outbound>,
}

/// The way to one core.
#[derive(Debug)]
pub struct Outbound {
    mailbox: Arc<Mailbox>,
    overflow: VecDeque<Message>,
}

/// One inbox and one postbox for each of `cores` cores.
///
/// # Errors
/// Where an event descriptor can't be made.
pub fn mailboxes(cores: usize) -> io::Result<Vec<(Inbox, Postbox)>> {
    let mut all = Vec::with_capacity(cores);
    for _ in 0..cores {
        all.push(Arc::new(Mailbox {
            messages: ArrayQueue::new(MAILBOX_MESSAGES_MAX),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            asleep: AtomicBool::new(false),
        }));
    }
    let postbox = || Postbox {
        outbound: all
            .iter()
            .map(|mailbox| Outbound {
                mailbox: Arc::clone(mailbox),
                overflow: VecDeque::new(),
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
                postbox(),
            )
        })
        .collect())
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

    /// Announces that the owner will wait for [`Inbox::wake_descriptor`]. False where a message is there already
    /// and it must not wait.
    pub fn fall_asleep(&self) -> bool {
        self.mailbox.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `post`: either the sender sees `asleep`, or this sees the message.
        fence(Ordering::SeqCst);
        if self.mailbox.messages.is_empty() {
            return true;
        }
        self.mailbox.asleep.store(false, Ordering::Relaxed);
        false
    }

    /// After waking, for whatever reason.
    pub fn wake_up(&self) {
        self.mailbox.asleep.store(false, Ordering::Relaxed);
        let mut count = [0; 8];
        // Would block where another descriptor was the reason: nothing to take back then.
        match rustix::io::read(&self.mailbox.wake, &mut count) {
            Ok(_) | Err(_) => {}
        }
    }
}

impl Outbound {
    #[expect(clippy::result_large_err, reason = "the message comes back to be kept")]
    fn post(&self, message: Message) -> Result<(), Message> {
        self.mailbox.messages.push(message)?;
        fence(Ordering::SeqCst);
        if self.mailbox.asleep.load(Ordering::Relaxed)
            && self.mailbox.asleep.swap(false, Ordering::Relaxed)
        {
            match rustix::io::write(&self.mailbox.wake, &1_u64.to_le_bytes()) {
                // The counter can only be full where nobody has read it: then it is readable anyway.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, message: Message) {
        if !self.overflow.is_empty() {
            self.overflow.push_back(message);
        } else if let Err(message) = self.post(message) {
            self.overflow.push_back(message);
        }
    }

    fn retry(&mut self) {
        while let Some(message) = self.overflow.pop_front() {
            if let Err(message) = self.post(message) {
                self.overflow.push_front(message);
                break;
            }
        }
    }
}

impl Postbox {
    /// Number of cores, this one included.
    pub fn cores(&self) -> usize {
        self.outbound.len()
    }

    /// Sends to `core`; never fails. Replies and changes are owed and always kept; see [`Postbox::has_room`].
    ///
    /// # Panics
    /// Where there is no such core.
    pub fn send(&mut self, core: u16, message: Message) {
        self.outbound[usize::from(core)].send(message);
    }

    /// False where `core` is so far behind that a new request must be refused as overloaded.
    ///
    /// # Panics
    /// Where there is no such core.
    pub fn has_room(&self, core: u16) -> bool {
        self.outbound[usize::from(core)].overflow.len() < MAILBOX_OVERFLOW_MESSAGES_MAX
    }

    /// Sends again what had no room. True where some of it still has none.
    pub fn retry(&mut self) -> bool {
        let mut waiting = false;
        for outbound in &mut self.outbound {
            outbound.retry();
            waiting |= !outbound.overflow.is_empty();
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Reply, Ticket};
    use super::*;

    fn reply(slot: u32) -> Message {
        let ticket = Ticket {
            connection: 0,
            generation: 0,
            slot,
        };
        Message::Reply {
            from: 0,
            ticket,
            reply: Reply::Subscribed,
        }
    }

    fn slot(message: &Message) -> u32 {
        let Message::Reply { ticket, .. } = message else {
            panic!("{message:?}")
        };
        ticket.slot
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
        assert!(sender.retry(), "the inbox holds only its bound");
        let mut expected = 0;
        while expected < total {
            while let Some(message) = receiver.take() {
                assert_eq!(slot(&message), expected);
                expected += 1;
            }
            sender.retry();
        }
        assert!(!sender.retry());
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
        assert_eq!(rustix::io::read(inbox.wake_descriptor(), &mut count), Ok(8));
        assert!(!inbox.fall_asleep());
        assert!(inbox.take().is_some());
        inbox.wake_up();
        sender.send(0, reply(2));
        assert!(
            rustix::io::read(inbox.wake_descriptor(), &mut count).is_err(),
            "awake: no system call"
        );
    }
}
