"""The clients that others have published, unchanged, against our relay: all they can do, but tasks and credit."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anporia_wire import Event
from tests.e2e import published_session
from tests.peers import peer_python
from tests.relays import RunningRelay

CLIENTS = {
    "anp2-client": ("anp2_client", "ANP2_BASIC_AUTH"),
    "anporia-client": ("anporia_client", "ANPORIA_BASIC_AUTH"),
}
SESSION = Path(published_session.__file__)
SESSION_S = 90.0

PRIVATE = {"ANPORIA_AUTH_USER": "edith", "ANPORIA_AUTH_PASSWORD": "päss:word"}


def session(client: str, url: str, home: Path, password: str = "") -> dict[str, Any]:
    module, variable = CLIENTS[client]
    env = {**os.environ, "HOME": str(home), **({variable: password} if password else {})}
    command = [str(peer_python(client)), "-I", str(SESSION), module, url]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SESSION_S)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("access", ["open", "private"])
@pytest.mark.parametrize("base", ["", "/api"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_published_client_works_unchanged(client: str, base: str, access: str, tmp_path: Path) -> None:
    with RunningRelay(tmp_path, env=PRIVATE if access == "private" else {}) as relay:
        said = session(client, relay.url + base, tmp_path, "edith:päss:word" if access == "private" else "")

    me = said["agent_id"]
    assert said["key_mode"] == "0o600"
    for verb in ("post", "reply", "profile", "capability", "vote", "beat", "beacon"):
        assert said[verb]["accepted"] is True and len(said[verb]["id"]) == 64, verb
    assert said["profile_again"] is None, "its profile is there, so it has nothing to declare"

    streamed = said["streamed"]
    assert streamed["content"] == published_session.TEXT
    assert streamed["id"] == said["post"]["id"]
    Event.from_mapping(streamed).check()

    assert [event["kind"] for event in said["by_kind"]] in ([4, 0], [0, 4])
    assert {event["id"] for event in said["by_author"]} == {
        said[verb]["id"] for verb in ("post", "profile", "capability", "beacon")
    }, "its own, without the beat"
    assert streamed in said["by_topic"]
    assert {event["kind"] for event in said["by_topic"]} == {1}
    assert len(said["by_time"]) == 2
    assert said["too_late"] == []
    for name in ("by_kind", "by_author", "by_topic", "by_time"):
        times = [event["created_at"] for event in said[name]]
        assert times == sorted(times, reverse=True), name
        for event in said[name]:
            Event.from_mapping(event).check()

    assert said["recent"] is True
    assert said["stats"]["total_events"] >= 6
    assert "published" in [row["room"] for row in said["rooms"]]
    assert [row["capability"] for row in said["capabilities"]] == ["test.run.v1"]
    assert [row["name"] for row in said["agents"] if row["agent_id"] == me] == ["Édith"]
    assert {event["kind"] for event in said["joined_events"]} == {0, 4}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_published_client_is_told_when_its_password_is_wrong(client: str, tmp_path: Path) -> None:
    with RunningRelay(tmp_path, env=PRIVATE) as relay, pytest.raises(AssertionError, match="401 Unauthorized"):
        session(client, relay.url, tmp_path, "edith:wrong")
