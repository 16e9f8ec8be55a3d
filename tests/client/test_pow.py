"""Proof of work under its published names: the same nonce for the same event, and the same verdicts."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from anporia_client.pow import mint_pow, verify_pow
from tests.peers import peer_python
from tests.wire.samples import ALICE, NOW

THEIRS = """
import json, sys
from anp2_client.pow import mint_pow, verify_pow
payload, events = json.load(sys.stdin)
nonce = mint_pow(payload, 10)
print(json.dumps([nonce, payload, [verify_pow(event, 10) for event in events]]))
"""


def payload(**changed: Any) -> dict[str, Any]:
    made = {
        "agent_id": ALICE.agent_id,
        "created_at": NOW,
        "kind": 0,
        "content": "ä",
        "tags": [["pow", "3"], ["t", "x"]],
    }
    return made | changed


def test_the_published_client_finds_the_same_nonce_and_agrees_on_what_is_proven() -> None:
    mined = payload()
    nonce = mint_pow(mined, 10)
    assert mined["tags"] == [["t", "x"], ["pow", "10"], ["nonce", str(nonce)]]
    events: list[dict[str, Any]] = [
        mined,
        payload(tags=[*mined["tags"][:2], ["nonce", str(nonce + 1)]]),
        payload(tags=[["pow", "9"], *mined["tags"][2:]]),
        mined | {"id": "0" * 64},
        payload(tags=[["pow", "much"]]),
        payload(tags=[["pow"]]),
        payload(tags=[]),
        {},
    ]
    done = subprocess.run(
        [str(peer_python("anp2-client")), "-c", THEIRS],
        input=json.dumps([payload(), events]),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [nonce, mined, [verify_pow(event, 10) for event in events]]
    assert verify_pow(mined, 10) and not any(verify_pow(event, 10) for event in events[1:])


def test_mining_has_bounds() -> None:
    with pytest.raises(RuntimeError, match="among 3"):
        mint_pow(payload(), 200, max_iters=3)
    for bits in (-1, 257):
        with pytest.raises(ValueError, match="difficulty"):
            mint_pow(payload(), bits)
