//! Creates the entities that a reading workload reads.

use crate::client::Client;
use crate::net::Target;
use crate::options::EntityOptions;
use crate::report;
use crate::workload::batch::{Batch, member};
use anyhow::{Result, bail};

/// Events of one batch: well within 10 MiB with the values that `--value-bytes` is meant for.
const BATCH_EVENTS: u64 = 200;

/// Writes every entity once, unmeasured. The last batch may write some of the first entities again.
///
/// # Errors
/// When the server cannot be reached or refuses an event.
pub(crate) fn create_entities(target: &Target, options: &EntityOptions) -> Result<()> {
    report::note(&format!("creating {} entities", options.entities));
    let size = BATCH_EVENTS.min(options.entities);
    let mut client = Client::connect(target)?;
    let mut batch = Batch::new(options, size, target, (0, 0))?;
    let mut created = 0;
    let mut request = Vec::new();
    while created < options.entities {
        request.clear();
        batch.write(&mut request, |_| {
            created += 1;
            (created - 1) % options.entities
        });
        client.send(&request)?;
        let reply = client.receive()?;
        if reply.status != 200 || member(&reply.body, "successful") != Some(size) {
            let body =
                String::from_utf8_lossy(&reply.body[..reply.body.len().min(200)]).into_owned();
            bail!(
                "the server refused to create entities: {} {body}",
                reply.status
            );
        }
    }
    Ok(())
}
