//! `flux log repair`: says what it would do, and does it if it is told to.

use super::{Outcome, ToolError, finding_line};
use crate::cli::progress::Progress;
use crate::clock;
use crate::state::is_packed_body;
use clap::{Arg, ArgAction, ArgMatches, Command};
use flux_storage::{CONTROL_NAME, Gap, Inspection, Repair, RepairAction, RepairStep, Severity};
use std::io::{self, Write};
use std::path::Path;

pub(super) fn command() -> Command {
    Command::new("repair")
        .about(
            "Say what it takes to make a damaged log whole, and do it; the server must be stopped",
        )
        .arg(
            Arg::new("yes")
                .long("yes")
                .action(ArgAction::SetTrue)
                .help("do it; the originals are kept in the data directory"),
        )
}

pub(super) fn run(data_dir: &Path, matches: &ArgMatches) -> Result<Outcome, ToolError> {
    let mut progress = Progress::new(
        "reading",
        Inspection::open(data_dir, is_packed_body)?.bytes(),
    );
    let repair = Repair::plan(data_dir, is_packed_body, &mut |bytes| progress.add(bytes))?;
    let mut out = io::stdout().lock();
    for finding in repair.findings() {
        writeln!(out, "{}", finding_line(finding))?;
    }
    if !repair.is_needed() {
        writeln!(out, "nothing needs repair")?;
        return Ok(Outcome::Whole);
    }
    if !repair.is_possible() {
        return Err(ToolError::BeyondRepair);
    }
    let does = matches.get_flag("yes");
    let steps = repair.steps();
    for step in &steps {
        writeln!(
            out,
            "{}: {}",
            if does { "repair" } else { "would" },
            step_text(step)
        )?;
    }
    if !does {
        writeln!(
            out,
            "nothing was changed: run it again with --yes to do this"
        )?;
        return Ok(Outcome::Damaged);
    }
    let time = clock::now().rfc3339().to_string().replace(':', "-");
    let aside = data_dir.join(format!("repair-{time}"));
    repair.run(&aside)?;
    check(data_dir, &aside)?;
    writeln!(out, "repaired; the originals are in {}", aside.display())?;
    if gives_up_changes(&steps, data_dir) {
        writeln!(
            out,
            "changes of the control log were given up, perhaps a deletion or a replaced token: list the namespaces, and \
             replace the tokens of those in doubt"
        )?;
    }
    Ok(Outcome::Whole)
}

/// Whether records of the control log are lost, or may be: a segment of which nothing is left may
/// have held some.
fn gives_up_changes(steps: &[RepairStep], data_dir: &Path) -> bool {
    let control = data_dir.join(CONTROL_NAME);
    steps.iter().any(|step| {
        let gives_up = matches!(
            &step.action,
            RepairAction::Remake { from, gaps, .. } if from.is_none() || !gaps.is_empty()
        );
        gives_up && step.path.starts_with(&control)
    })
}

/// What was repaired is looked at once more.
fn check(data_dir: &Path, aside: &Path) -> Result<(), ToolError> {
    let inspection = Inspection::open(data_dir, is_packed_body)?;
    let mut progress = Progress::new("checking", inspection.bytes());
    for log in inspection.logs() {
        if log.verify(&mut |bytes| progress.add(bytes))?.is_damaged() {
            return Err(ToolError::StillDamaged(aside.display().to_string()));
        }
    }
    let is_damage =
        |finding: &flux_storage::ScrubFinding| finding.fault.severity() == Severity::Damage;
    if inspection.findings().iter().any(is_damage) {
        Err(ToolError::StillDamaged(aside.display().to_string()))
    } else {
        Ok(())
    }
}

fn step_text(step: &RepairStep) -> String {
    let path = step.path.display();
    match &step.action {
        RepairAction::Quarantine => format!("set aside {path}"),
        RepairAction::WriteLogStart { log_start } => format!(
            "write {path}, which says that the log begins with record {}",
            log_start.first_sequence
        ),
        RepairAction::Remake {
            from,
            records,
            gaps,
        } => {
            let kept = match from {
                Some(from) if *from == step.path => format!(", keeping {records} records"),
                Some(from) => format!(", with the {records} records of {}", from.display()),
                None => String::new(),
            };
            let lost: u64 = gaps.iter().map(|gap| gap.lost()).sum();
            let ranges: Vec<String> = gaps.iter().map(range_text).collect();
            let given_up = match lost {
                0 => String::new(),
                1 => format!(", giving up record {}", ranges.concat()),
                _ => format!(", giving up {lost} records: {}", ranges.join(", ")),
            };
            format!("make {path} anew{kept}{given_up}")
        }
    }
}

fn range_text(gap: &Gap) -> String {
    if gap.first == gap.last {
        gap.first.to_string()
    } else {
        format!("{} to {}", gap.first, gap.last)
    }
}
