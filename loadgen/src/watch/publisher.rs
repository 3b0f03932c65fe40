//! The events of one publisher connection: entity after entity in turn, each marked, and numbered
//! from where it starts.

use super::mark::{MARK_LEN, Mark, RunId};
use crate::clock::Moment;
use crate::entities::Entities;
use crate::http::Answer;
use crate::net::Target;
use crate::options::EntityOptions;
use crate::workload::event::EventText;
use crate::workload::{Achieved, Ticket, Workload};

#[derive(Debug)]
pub(super) struct Publisher {
    head: Vec<u8>,
    text: EventText,
    run: RunId,
    connection: usize,
    entity_count: u64,
    next: u64,
}

impl Publisher {
    pub(super) fn new(
        target: &Target,
        entities: &Entities,
        options: &EntityOptions,
        ((run, seed, connection), start): ((RunId, u64, usize), u64),
    ) -> Self {
        let mut random = crate::random::stream(seed, connection);
        let text = EventText::new(entities.clone(), options, &mut random);
        let head = target.head("POST /api/events", Some(text.len(MARK_LEN)));
        let entity_count = entities.count;
        Self {
            head,
            text,
            run,
            connection,
            entity_count,
            next: start,
        }
    }

    /// The number behind the last event sent, acknowledged or not.
    pub(super) fn end(&self) -> u64 {
        self.next
    }
}

impl Workload for Publisher {
    const BODY_BYTES_READ: usize = 0;

    fn write_request(&mut self, due: Moment, out: &mut Vec<u8>) -> Ticket {
        let mark = Mark {
            publisher: self.connection,
            number: self.next,
            due,
        };
        self.next += 1;
        out.extend_from_slice(&self.head);
        let entity = mark.number % self.entity_count;
        self.text
            .write(entity, out, |out| mark.write(self.run, out));
        Ticket::default()
    }

    fn read_answer(&mut self, _ticket: Ticket, _answer: &Answer<'_>) -> Achieved {
        Achieved::ONE
    }
}
