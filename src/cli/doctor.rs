//! `flux doctor`: whether a server could start here with these settings, as lines or as JSON.

use super::{EXIT_FAILURE, check_settings, unknown_settings, usage};
use crate::boot::{Finding, Verdict, examine};
use crate::report::{self, LogEvent};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::io::{self, Write as _};
use std::process::ExitCode;

/// `settings`: those of a server.
pub(super) fn command(settings: impl Iterator<Item = Arg>) -> Command {
    let about = "Say whether a server could start here with these settings, and what to change";
    Command::new("doctor").about(about).args(settings).arg(
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help("print a JSON object instead of lines"),
    )
}

/// 0 if a server could start, 1 if not.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let settings = match check_settings(matches) {
        Ok(settings) => settings,
        Err(error) => return usage(&error),
    };
    let mut findings = examine(&settings);
    findings.extend(variables());
    let text = if matches.get_flag("json") {
        json(&findings)
    } else {
        lines(&findings)
    };
    if let Err(error) = io::stdout().write_all(text.as_bytes()) {
        report::say(
            LogEvent::CommandFailed,
            &format!("can't write to standard output: {error}"),
        );
        return ExitCode::from(EXIT_FAILURE);
    }
    match worst(&findings) {
        Verdict::Ok | Verdict::Warn => ExitCode::SUCCESS,
        Verdict::Fail => ExitCode::from(EXIT_FAILURE),
    }
}

/// What looks like a setting and is none.
fn variables() -> Vec<Finding> {
    let finding = |verdict, found, remedy: Option<&str>| Finding {
        name: "variables",
        verdict,
        found,
        remedy: remedy.map(str::to_owned),
    };
    let remedy = "correct its name, or unset it";
    let unknown = unknown_settings().into_iter();
    let findings = unknown.map(|it| finding(Verdict::Warn, it.to_string(), Some(remedy)));
    let mut findings: Vec<_> = findings.collect();
    if findings.is_empty() {
        let found = "each that begins with FLUX_ is a setting".to_owned();
        findings.push(finding(Verdict::Ok, found, None));
    }
    findings
}

fn worst(findings: &[Finding]) -> Verdict {
    let verdicts = findings.iter().map(|finding| finding.verdict);
    verdicts.max().unwrap_or(Verdict::Ok)
}

fn lines(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let verdict = finding.verdict.as_str();
        let line = format!("{verdict:<5} {:<15} {}\n", finding.name, finding.found);
        match &finding.remedy {
            Some(remedy) => format!("{line}{:<21} remedy: {remedy}\n", ""),
            None => line,
        }
    };
    let mut text: String = findings.iter().map(line).collect();
    text.push_str(match worst(findings) {
        Verdict::Ok => "A server can start.\n",
        Verdict::Warn => "A server can start; look at what is marked `warn`.\n",
        Verdict::Fail => "A server can't start until what is marked `fail` is changed.\n",
    });
    text
}

fn json(findings: &[Finding]) -> String {
    let check = |finding: &Finding| {
        serde_json::json!({
            "name": finding.name,
            "verdict": finding.verdict.as_str(),
            "found": finding.found,
            "remedy": finding.remedy,
        })
    };
    let checks: Vec<_> = findings.iter().map(check).collect();
    let whole = serde_json::json!({"verdict": worst(findings).as_str(), "checks": checks});
    format!("{whole}\n")
}
