//! The access log of a core: what is over on a connection → lines.

use super::connection::Connection;
use super::event_loop::Core;
use super::system::System;
use crate::front::http::Answered;
use crate::report::Access;

impl<S: System> Core<S> {
    /// Logs what is over on a connection.
    pub(super) fn log_access(&mut self, connection: &mut Connection<S::Socket>) {
        if !connection.answers.has_answered() {
            return;
        }
        // The clock of the turn stood still while the answer was made.
        let now_micros = self.system.monotonic_micros();
        let (client, answered) = connection.answers.take_answered();
        for answered in answered {
            let Answered { asked, status, .. } = &answered;
            let asked = asked.as_ref();
            self.access.push(&Access {
                time: self.context.router.now,
                client,
                method: asked.map_or("-", |asked| asked.method),
                target: asked.map_or("-", |asked| &asked.target),
                status: *status,
                bytes: answered.bytes,
                micros: asked.map_or(0, |asked| now_micros.saturating_sub(asked.began_micros)),
                body_bytes: asked.map_or(0, |asked| asked.body_bytes),
                user_agent: asked.map_or(&[], |asked| &asked.user_agent),
                is_whole: answered.is_whole,
            });
        }
    }

    /// Logs what was not answered on a connection that ends.
    pub(super) fn log_last_access(&mut self, connection: &mut Connection<S::Socket>) {
        connection.answers.close_ledger();
        self.log_access(connection);
    }

    /// Hands the lines to the writer if there are many, or if the core has nothing else to do.
    pub(super) fn hand_over_access(&mut self, is_busy: bool) {
        if !is_busy || self.access.is_large() {
            self.access.hand_over();
        }
    }
}
