//! `flux log verify`: reads everything and says what is damaged.

use super::{Outcome, ToolError, finding_line, place_text, summary_text};
use crate::cli::progress::Progress;
use crate::state::is_packed_body;
use clap::Command;
use flux_storage::{Inspection, LogReport, ScrubFinding, Severity};
use std::io::{self, Write};
use std::path::Path;

pub(super) fn command() -> Command {
    Command::new("verify")
        .about("Read all of the log and say what is damaged; a server may be running")
}

pub(super) fn run(data_dir: &Path) -> Result<Outcome, ToolError> {
    let inspection = Inspection::open(data_dir, is_packed_body)?;
    let mut out = io::stdout().lock();
    if inspection.is_in_use() {
        writeln!(
            out,
            "{} is in use: what a server is writing just now shows as a torn tail",
            data_dir.display()
        )?;
    }
    let mut damaged = 0;
    let mut tell = |out: &mut dyn Write, finding: &ScrubFinding| {
        damaged += u64::from(finding.fault.severity() == Severity::Damage);
        writeln!(out, "{}", finding_line(finding))
    };
    for finding in inspection.findings() {
        tell(&mut out, finding)?;
    }
    let mut progress = Progress::new("verifying", inspection.bytes());
    // Of the generation that is being read, and of the one before it.
    let (mut generation, mut current, mut before) = (0, Vec::new(), Vec::new());
    let (mut logs, mut records) = (0_u64, 0_u64);
    for log in inspection.logs() {
        if log.generation() != generation {
            generation = log.generation();
            before = std::mem::take(&mut current);
        }
        let report: LogReport = log.verify(&mut |bytes| progress.add(bytes))?;
        let summary = summary_text(&report.summary);
        writeln!(out, "{}: {summary}", place_text(log))?;
        let start = log.check_start(&before);
        for finding in report.findings.iter().chain(&start) {
            tell(&mut out, finding)?;
        }
        // What is added up is events; the control log has none, and its damage counts like all
        // other.
        if !log.is_control() {
            logs += 1;
            records += report.summary.records;
        }
        current.push(report);
    }
    let verdict = match damaged {
        0 => "no damage".to_owned(),
        1 => "1 finding of damage".to_owned(),
        count => format!("{count} findings of damage"),
    };
    writeln!(out, "{logs} logs, {records} records: {verdict}")?;
    Ok(if damaged == 0 {
        Outcome::Whole
    } else {
        Outcome::Damaged
    })
}
