//! Whether this core's HTTP clients send again as soon as they are answered, or at times of their own.
//!
//! What a client sends soon after an answer on its connection follows from that answer, most of the time; who sends at
//! times of his own hits such a moment by chance. It is a guess from this core's connections at those of the others.
//! Pure: times are arguments, monotonic microseconds.

/// A request that comes so soon after an answer follows from it: about what answering and reading a hundred clients takes.
const AT_ONCE_MICROS: u64 = 600;

/// What happened since [`ClosedLoopDetector::take`] was last asked.
#[derive(Debug, Default)]
pub(crate) struct ClosedLoopDetector {
    answered: u32,
    returned: u32,
}

impl ClosedLoopDetector {
    /// A client is answered, which was last answered then or has come back since.
    pub(crate) fn answered(&mut self, last_micros: &mut Option<u64>, now_micros: u64) {
        if last_micros.replace(now_micros).is_none() {
            self.answered += 1;
        }
    }

    /// Something came in from a client.
    pub(crate) fn received(&mut self, last_micros: &mut Option<u64>, now_micros: u64) {
        let since_micros = last_micros
            .take()
            .map(|last| now_micros.saturating_sub(last));
        if since_micros.is_some_and(|micros| micros <= AT_ONCE_MICROS) {
            self.returned += 1;
        }
    }

    /// Whether most of those who were answered since this was last asked came back at once.
    pub(crate) fn take(&mut self) -> bool {
        let Self { answered, returned } = std::mem::take(self);
        answered > 0 && u64::from(returned) * 4 >= u64::from(answered) * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many are answered, twice, and so many of them send again, twice, after so long.
    fn most_return(answered: usize, returned: usize, micros: u64) -> bool {
        let mut returns = ClosedLoopDetector::default();
        let mut clients = vec![None; answered];
        for client in &mut clients {
            returns.answered(client, 1);
            returns.answered(client, 1000);
        }
        for client in &mut clients[..returned] {
            returns.received(client, 1000 + micros);
            returns.received(client, 1000 + micros);
        }
        returns.take()
    }

    #[test]
    fn those_who_come_back_at_once_are_told_from_those_who_do_not() {
        assert!(most_return(8, 8, 5));
        assert!(most_return(8, 6, AT_ONCE_MICROS));
        assert!(!most_return(8, 5, 5), "a few by chance");
        assert!(!most_return(8, 8, AT_ONCE_MICROS + 1));
        assert!(!most_return(0, 0, 0), "nobody was answered");
    }

    #[test]
    fn each_time_it_is_about_what_happened_since() {
        let mut returns = ClosedLoopDetector::default();
        let mut client = None;
        returns.received(&mut client, 1);
        returns.answered(&mut client, 1);
        returns.received(&mut client, 2);
        assert!(returns.take());
        returns.answered(&mut client, 3);
        assert!(!returns.take());
    }
}
