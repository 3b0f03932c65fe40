//! Reads back what was written: the value of each entity must be the last one acknowledged, or a
//! later one that was sent and whose answer did not come.

use crate::client::{Client, Reply};
use crate::clock;
use crate::drive::Plan;
use crate::entities::Entities;
use crate::report::{self, Report};
use crate::workload::batch::member;
use crate::workload::get;
use anyhow::{Result, bail};
use std::time::Duration;

/// Reads in flight at a time.
const READS_IN_FLIGHT: usize = 64;

/// Pause between attempts to reach the server.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Differences that are described one by one.
const EXAMPLES_MAX: u64 = 10;

/// What a run did to one entity. Values grow with every event of the entity; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    /// An acknowledged value is gone.
    Lost,
    /// A value that was never sent.
    Invented,
}

/// How many entities got which verdict.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verification {
    kept: u64,
    lost: u64,
    invented: u64,
}

impl Verification {
    pub(crate) fn describe(&self, report: &mut Report) {
        report.count("verified_kept", self.kept);
        report.count("verified_lost", self.lost);
        report.count("verified_invented", self.invented);
    }

    /// # Errors
    /// When anything is not as it was acknowledged.
    pub(crate) fn judge(&self) -> Result<()> {
        if self.lost + self.invented > 0 {
            bail!(
                "{} acknowledged values lost, {} values invented",
                self.lost,
                self.invented
            );
        }
        Ok(())
    }

    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Kept => self.kept += 1,
            Verdict::Lost => self.lost += 1,
            Verdict::Invented => self.invented += 1,
        }
    }
}

/// Waits up to `patience` for the server to be ready, then reads every entity of `written`.
///
/// # Errors
/// When the server cannot be reached.
pub(crate) fn run(
    plan: &Plan<'_>,
    entities: &Entities,
    written: &[(u64, Written)],
    patience: Duration,
) -> Result<Verification> {
    report::note(&format!("verifying {} entities", written.len()));
    let mut client = connect_when_ready(plan, patience)?;
    let rest = get::request_rest(plan.target);
    let mut verification = Verification::default();
    let mut requests = Vec::new();
    for group in written.chunks(READS_IN_FLIGHT) {
        requests.clear();
        for &(number, _) in group {
            get::write_request(entities, number, &rest, &mut requests);
        }
        client.send(&requests)?;
        for &(number, written) in group {
            let reply = client.receive()?;
            let verdict = compare(written, &reply);
            verification.count(verdict);
            if verdict != Verdict::Kept && verification.lost + verification.invented <= EXAMPLES_MAX
            {
                describe(verdict, &entities.id(number), written, &reply);
            }
        }
    }
    Ok(verification)
}

fn connect_when_ready(plan: &Plan<'_>, patience: Duration) -> Result<Client> {
    let until = plan.clock.now() + patience;
    let request = plan.target.head("GET /ready", None);
    loop {
        let attempt = Client::connect(plan.target).and_then(|mut client| {
            client.send(&request)?;
            let reply = client.receive()?;
            Ok((client, reply.status))
        });
        match attempt {
            Ok((client, status)) if status != 503 => return Ok(client),
            Ok(_) if plan.clock.now() >= until => bail!("the server is not ready to be read"),
            Err(error) if plan.clock.now() >= until => return Err(error),
            Ok(_) | Err(_) => clock::wait(plan.clock, RETRY_PAUSE),
        }
    }
}

fn compare(written: Written, reply: &Reply) -> Verdict {
    let value = if reply.status == 200 {
        member(&reply.body, "p0")
    } else {
        None
    };
    match value {
        Some(value) if value > written.sent => Verdict::Invented,
        Some(value) if value >= written.acknowledged => Verdict::Kept,
        // No answer acknowledged a value of this entity, so it may have its former state, or none.
        _ if written.acknowledged == 0 => Verdict::Kept,
        _ => Verdict::Lost,
    }
}

fn describe(verdict: Verdict, id: &str, written: Written, reply: &Reply) {
    report::note(&format!(
        "{verdict:?}: {id}: acknowledged {}, sent up to {}, read {} {}",
        written.acknowledged,
        written.sent,
        reply.status,
        String::from_utf8_lossy(&reply.body[..reply.body.len().min(200)])
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_between_acknowledged_and_sent_is_kept() {
        let check = |acknowledged, status, body: &str, expected| {
            let reply = Reply {
                status,
                body: body.as_bytes().to_vec(),
            };
            let written = Written {
                sent: 20,
                acknowledged,
            };
            assert_eq!(
                compare(written, &reply),
                expected,
                "{acknowledged} {status} {body}"
            );
        };
        check(10, 200, r#"{"properties":{"p0":10}}"#, Verdict::Kept);
        check(10, 200, r#"{"properties":{"p0":20}}"#, Verdict::Kept);
        check(10, 200, r#"{"properties":{"p0":9}}"#, Verdict::Lost);
        check(10, 200, r#"{"properties":{"p0":21}}"#, Verdict::Invented);
        check(10, 200, r#"{"properties":{}}"#, Verdict::Lost);
        check(10, 404, r#"{"error":"p0"}"#, Verdict::Lost);
        check(0, 404, "{}", Verdict::Kept);
        check(0, 200, r#"{"properties":{"p0":5}}"#, Verdict::Kept);
    }
}
