"""mcp-quality, a grader of MCP servers by others, likes ours as much as it did; all that it finds is explained here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.mcp_server.host import SERVER
from tests.peers import peer_python
from tests.relays import RunningRelay

pytestmark = pytest.mark.interop

# Cost: 17 tools with schemas of their answers are 4,800 tokens by its reckoning; A would be about half of that.
GRADES = {"contract": "A", "cost": "B", "safety": "A", "security": "A"}

# (what, tool) and why it stays
FINDINGS = {
    (
        "C14-annotation-only-safety",
        "anporia_declare_profile",
    ): "its description says that it replaces, and to ask",
    ("C14-annotation-only-safety", "anporia_declare_capability"): "its description says so too",
    ("C14-oversized-output", "anporia_stream"): "max_events bounds it, and no answer has more than 80 kB",
    ("C11-error-unactionable", "anporia_get_stats"): "the error says that it takes no arguments, and to leave them out",
    ("C14-oversized-output", "anporia_get_stats"): "what was delegated to a child is a list, of eight at most",
}

_PATIENCE_S = 300.0


def test_the_grades_are_as_good_as_they_were_and_every_finding_is_known(tmp_path: Path) -> None:
    program = peer_python("mcp-quality").with_name("mcp-quality")
    with RunningRelay(tmp_path) as relay:
        # it hands on three variables only: without `env` the server would look for the default relay
        target = f"env HOME={tmp_path} ANPORIA_RELAY_URL={relay.url} {SERVER}"
        done = subprocess.run(
            [program, "run", target, "--security", "--safety", "--json", "--snapshot-path", tmp_path / "snapshot"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    families = json.loads(done.stdout)["families"]
    grades = {name: family["grade"] for name, family in families.items()}
    assert grades.keys() == GRADES.keys()
    assert {name: grade for name, grade in grades.items() if grade > GRADES[name]} == {}, "worse than before"
    found = [(one["code"], one["tool"]) for family in families.values() for one in family["findings"]]
    assert sorted(found) == sorted(FINDINGS)
    assert families["contract"]["metrics"]["invoked"] == 14, "it called every tool but those that replace something"
