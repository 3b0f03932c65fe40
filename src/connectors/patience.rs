//! How long a request may wait for its source. Waiting for a turn of the server's own does not
//! count.

use super::exchange::PollError;
use crate::limits::POLL_REQUEST_SECONDS;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// What is left of the time of one request, its redirects included.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
}

impl Patience {
    /// Of a request that was not made yet.
    pub(super) fn new() -> Self {
        Self {
            left: Duration::from_secs(POLL_REQUEST_SECONDS),
        }
    }

    /// Waits for the source.
    ///
    /// # Errors
    /// If the time is over.
    pub(super) async fn wait<T>(
        &mut self,
        source: impl Future<Output = T>,
    ) -> Result<T, PollError> {
        let start = Instant::now();
        let answer = timeout(self.left, source).await;
        self.left = self.left.saturating_sub(start.elapsed());
        answer.map_err(|_elapsed| {
            PollError::new(format!(
                "the source did not answer within {POLL_REQUEST_SECONDS} seconds"
            ))
        })
    }
}
