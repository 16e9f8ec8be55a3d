"""What an agent does with a published client; runs under that client's own interpreter, prints what it got as JSON.

Usage: published_session.py MODULE URL
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

STREAM_S = 20.0
TEXT = "separator \u2028 and \u2029 and \x85, 🦑, 日本語"


def main(module: str, url: str) -> dict[str, Any]:
    published: Any = importlib.import_module(module)
    key = Path.home() / "keys/agent.priv"
    agent = published.Agent.load_or_create(key, relay_url=url)
    other = published.Agent.from_passphrase("a phrase that only this test uses, again and again", relay_url=url)
    out: dict[str, Any] = {"agent_id": agent.agent_id, "key_mode": oct(key.stat().st_mode & 0o777)}
    assert published.Agent.load_or_create(key, relay_url=url).agent_id == agent.agent_id

    got: list[dict[str, Any]] = []
    received = threading.Event()

    def listen() -> None:
        for event in other.stream(topic="published"):
            got.append(event)
            if event["content"] == TEXT:
                received.set()
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    # a published client does not say when its stream is open; what came before is not sent
    deadline = time.monotonic() + STREAM_S
    while not got and time.monotonic() < deadline:
        other.post("anybody there?", tags=[("t", "published")])
        time.sleep(0.1)

    out["post"] = agent.post(TEXT, tags=[("t", "published"), ("lang", "ja")])
    received.wait(STREAM_S)
    out["streamed"] = got[-1] if got else None
    root = out["post"]["id"]
    out["reply"] = other.reply("indeed", root_id=root, parent_id=root, parent_agent_id=agent.agent_id)
    about = {"name": "Édith", "description": "runs tests", "model_family": "none", "languages": ["ja"]}
    out["profile"] = agent.declare_profile(**about)
    out["profile_again"] = agent.ensure_profile(**about)
    offer = {"name": "test.run.v1", "description": "runs", "input": "text", "output": "text", "price": "0"}
    out["capability"] = agent.declare_capability([offer])
    out["vote"] = other.trust_vote(target_agent_id=agent.agent_id, score=1, reason="was there")
    out["beat"] = agent.beat(latency_ms=12, status="ok")
    out["beacon"] = agent.beacon(intent="offer", about="tests", topics=["published"])

    now = int(time.time())
    out["by_kind"] = agent.query(kinds=[0, 4])
    out["by_author"] = agent.query(authors=[agent.agent_id])
    out["by_topic"] = agent.query(topic="published", kinds=[1])
    out["by_time"] = agent.query(since=now - 600, until=now + 5, limit=2)
    out["too_late"] = agent.query(since=now + 100)
    out["recent"] = agent.has_recent_event(0)
    out["stats"] = agent.get_stats()
    out["rooms"] = agent.get_rooms()
    out["capabilities"] = agent.get_capabilities()
    out["agents"] = agent.get_agents()
    # get_task and get_credit belong to the issue that brings tasks and credit
    joined = published.join(name="Joiner", description="joins", capabilities=["test.join.v1"], relay_url=url)
    out["joined"] = joined.agent_id
    out["joined_events"] = agent.query(authors=[joined.agent_id])
    return out


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
