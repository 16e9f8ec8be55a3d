"""The public conformance suite of MCP holds our server against both revisions, over HTTP, check by check.

mcp-conformance.toml lists what passes and what cannot, with reasons: anything else fails here, better or worse.
"""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.interop.npm import CONFORMANCE, NODE, npm_program
from tests.mcp_server.host import http_server
from tests.relays import RunningRelay

pytestmark = pytest.mark.interop

EXPECTED = tomllib.loads(Path(__file__).with_name("mcp-conformance.toml").read_text())

_PATIENCE_S = 300.0
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}T[\d-]+Z$")


@pytest.mark.parametrize("revision", EXPECTED)
def test_the_conformance_suite_finds_what_is_listed(revision: str, tmp_path: Path) -> None:
    expected = EXPECTED[revision]
    with RunningRelay(tmp_path) as relay, http_server(relay.url, tmp_path) as url:
        found = outcomes(url, revision, tmp_path)
    unmet = {name: said for name, (status, said) in found.items() if status not in ("SUCCESS", "INFO")}
    listed = {name for group in expected["unmet"] for name in group["checks"]}
    assert {name: said for name, said in unmet.items() if name not in listed} == {}, "these fail and are not listed"
    assert listed - unmet.keys() == set(), "these are listed and do not fail any more"
    met = [name for name, (status, _) in found.items() if status == "SUCCESS"]
    assert len(met) == expected["passed"]
    scenarios = {name.partition(": ")[0] for name in found}
    assert scenarios - {name.partition(": ")[0] for name in unmet} == set(expected["whole"])


def outcomes(url: str, revision: str, home: Path) -> dict[str, tuple[str, str]]:
    """Run all that a revision requires; gives the status of each "scenario: check", and what was said of it."""
    environment = {"PATH": f"{npm_program(NODE).parent}:/usr/bin:/bin", "HOME": str(home)}
    out = home / "outcomes"
    # its own exit status tells of the fixtures that are missing, which is known
    subprocess.run(
        [npm_program(CONFORMANCE), "server", "--url", url, "--requirements", revision, "-o", out],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PATIENCE_S,
    )
    found: dict[str, tuple[str, str]] = {}
    for file in sorted(out.glob("*/checks.json")):
        scenario = _DATE.sub("", file.parent.name).removeprefix("server-")
        for check in json.loads(file.read_text()):
            name, status, said = f"{scenario}: {check['id']}", check["status"], str(check.get("errorMessage", ""))
            # a check may be made several times: the worst counts
            if name not in found or found[name][0] in ("SUCCESS", "INFO"):
                found[name] = (status, said)
    return found
