"""Judges what the official conformance suite of the Model Context Protocol found about a Flux server.

The suite has scenarios for servers that offer certain tools, prompts and resources made for the
suite. A product offers none of them. So each scenario of the suite is named here: it applies, or it
does not and why. A scenario that this file does not know fails, so that a new suite is looked at.

    suite.py NAME_OF_VERSION RESULTS_DIRECTORY

prints what was run and what does not apply, and ends with 1 if one that applies failed.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

EARLIER = ("2025-06-18", "2025-11-25")
MODERN = ("2026-07-28",)

# Scenario -> the versions in which it must have passed checks.
APPLIES: dict[str, tuple[str, ...]] = {
    "server-initialize": EARLIER,
    "ping": EARLIER,
    "server-stateless": MODERN,
    "tools-list": EARLIER + MODERN,
    "resources-list": EARLIER + MODERN,
    "prompts-list": EARLIER + MODERN,
    "sep-2164-resource-not-found": MODERN,
    "dns-rebinding-protection": ("2025-11-25", *MODERN),
    "caching": MODERN,
    "http-header-validation": MODERN,
    "server-sse-multiple-streams": MODERN,
    "input-required-result-unsupported-methods": MODERN,
}

FIXTURE_TOOL = "calls a tool that servers have for this suite alone"
FIXTURE_RESOURCE = "reads a resource that servers have for this suite alone"
FIXTURE_PROMPT = "gets a prompt that servers have for this suite alone"
NO_SESSION = "needs a session, and Flux makes none"
NOT_OFFERED = "is about an optional capability that Flux does not offer or announce"
NEVER_ASKS = "is about tools that ask the client for input, and no tool of Flux does"

# The beginning of a scenario's name -> why it does not apply.
DOES_NOT_APPLY: dict[str, str] = {
    "server-session-lifecycle": NO_SESSION,
    "server-sse-polling": NO_SESSION,
    "resources-subscribe": NO_SESSION,
    "resources-unsubscribe": NO_SESSION,
    "server-sse-multiple-streams": NO_SESSION,
    "logging-set-level": NOT_OFFERED,
    "completion-complete": NOT_OFFERED,
    "tools-call-": FIXTURE_TOOL,
    "json-schema-2020-12": FIXTURE_TOOL,
    "elicitation-": FIXTURE_TOOL,
    "resources-read-": FIXTURE_RESOURCE,
    "resources-templates-read": FIXTURE_RESOURCE,
    "prompts-get-": FIXTURE_PROMPT,
    "http-custom-header-server-validation": "needs a tool with x-mcp-header, and no tool of Flux has one",
    "input-required-result-": NEVER_ASKS,
}

# Checks within a scenario that applies, which only a tool for this suite could pass.
FIXTURE_CHECKS = {
    "sep-2575-server-rejects-undeclared-capability": "test_missing_capability",
    "sep-2575-missing-capability-http-400": "test_missing_capability",
    "sep-2575-http-server-no-independent-requests-on-stream": "test_streaming_elicitation",
    "sep-2575-server-no-log-without-loglevel": "test_logging_tool",
}


def reason(scenario: str) -> str | None:
    """Why a scenario does not apply."""
    return next((why for name, why in DOES_NOT_APPLY.items() if scenario.startswith(name)), None)


def is_fixture(check: dict[str, str]) -> bool:
    """Whether the suite could not look, since its tool is missing."""
    tool = FIXTURE_CHECKS.get(check["id"])
    said = check.get("errorMessage", "")
    return tool is not None and said.startswith("Not testable") and tool in said


def judge(version: str, results: Path) -> bool:
    seen: set[str] = set()
    is_right = True
    passed_over: dict[str, list[str]] = {}
    for file in sorted(results.glob("server-*/checks.json")):
        # The folder: `server-`, the scenario, the time.
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT.*$", "", file.parent.name.removeprefix("server-"))
        seen.add(scenario)
        checks = json.loads(file.read_text())
        bad = [check for check in checks if check["status"] in ("FAILURE", "WARNING") and not is_fixture(check)]
        passed = sum(check["status"] == "SUCCESS" for check in checks)
        if version in APPLIES.get(scenario, ()):
            print(f"  {scenario}: {passed} passed, {len(bad)} failed")
            is_right &= passed > 0 and not bad
        elif why := reason(scenario):
            passed_over.setdefault(why, []).append(scenario)
            # Whatever is asked, each message of the server keeps to the schema of its version.
            bad = [check for check in bad if check["id"] == "wire-schema-valid"]
            is_right &= not bad
        else:
            print(f"  {scenario}: tests/mcp_programs/suite.py doesn't know it")
            is_right = False
        for check in bad:
            print(f"    {check['status']} {check['id']}: {check.get('errorMessage', check.get('description'))}")
    for why, scenarios in passed_over.items():
        print(f"  does not apply, it {why}: {', '.join(scenarios)}")
    if missing := {name for name, versions in APPLIES.items() if version in versions} - seen:
        print(f"  not run: {', '.join(sorted(missing))}")
        is_right = False
    return is_right


if __name__ == "__main__":
    sys.exit(not judge(sys.argv[1], Path(sys.argv[2])))
