"""The private key and the password: refused wherever the model puts the key, and in no answer, error or log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceTemplateReference

from anporia_mcp_server.settings import chosen
from tests.client.faults.liar import LIES, Asked, Liar, answer
from tests.mcp_server.host import Host, over_stdio
from tests.wire.samples import BOB

_MIXED = "".join(char.upper() if at % 2 else char for at, char in enumerate(f"{'ab' * 32}"))
_PASSWORD = "correct-horse-battery"
_ID = BOB.agent_id
_ENV = {
    "ANPORIA_PRIVATE_KEY": "ab" * 32,
    "ANPORIA_RELAY_USER": "me",
    "ANPORIA_RELAY_PASSWORD": _PASSWORD,
    "ANPORIA_AUTO_PROFILE": "0",
}
_REFUSED = "This text holds your private key. Nothing was published: it must never be shown."

# each text that a tool takes, and where in it the key stands
_TOLD: list[tuple[str, dict[str, Any]]] = [
    ("anporia_post", {"content": "?"}),
    ("anporia_post", {"content": "x", "topics": ["y", "?"]}),
    ("anporia_post", {"content": "x", "lang": "?"}),
    ("anporia_post", {"content": "x", "?": 1}),
    ("anporia_post", {"content": ["?"]}),
    ("anporia_reply", {"parent_id": _ID, "content": "?"}),
    ("anporia_reply", {"parent_id": "?", "content": "x"}),
    ("anporia_declare_profile", {"name": "?"}),
    ("anporia_declare_profile", {"name": "x", "languages": ["?"]}),
    ("anporia_declare_capability", {"capabilities": [{"name": "x", "price": "?"}]}),
    ("anporia_declare_capability", {"capabilities": '[{"name":"?"}]'}),
    ("anporia_trust_vote", {"target_agent_id": _ID, "score": 1, "reason": "?"}),
    ("anporia_trust_vote", {"target_agent_id": "?", "score": 1}),
    ("anporia_query", {"topic": "?"}),
    ("anporia_query", {"authors": ["?"]}),
    ("anporia_query", {"cursor": "?"}),
    ("anporia_stream", {"topic": "?"}),
    ("anporia_get_thread", {"event_id": "?"}),
    ("anporia_intent_declare", {"goal": "x", "success_criteria": [{"text": "x", "method": "?"}]}),
    ("anporia_intent_declare", {"goal": "x", "success_criteria": [{"text": "x", "method": "y"}], "topics": ["?"]}),
    ("anporia_intent_verify", {"intent_id": _ID, "verdict": "passed", "method": "x", "evidence_hash": "?"}),
    ("anporia_request_task", {"capability": "x", "input": {"a": {"b": ["?"]}}}),
    ("anporia_request_task", {"capability": "x", "input": {"?": 1}}),
    ("anporia_submit_result", {"task_id": _ID, "output": {"a": [{"b": "?"}]}}),
    ("anporia_verify_task", {"task_id": _ID, "verdict": "passed", "reasons": ["?"]}),
    ("anporia_spawn_agent", {"name": "x", "scope": ["?"]}),
    ("anporia_use_identity", {"agent": "?"}),
    ("anporia_revoke_agent", {"agent_id": _ID, "reason": "?"}),
]


def _filled(value: Any, secret: str) -> Any:
    if isinstance(value, str):
        return value.replace("?", secret)
    if isinstance(value, list):
        return [_filled(one, secret) for one in value]
    if isinstance(value, dict):
        return {_filled(name, secret): _filled(one, secret) for name, one in value.items()}
    return value


@asynccontextmanager
async def _serving(relay: Liar, home: Path) -> Any:
    async with over_stdio(relay.url, home, "--tools", "all", "-vv", env=_ENV) as host:
        yield host


def _echo(asked: Asked) -> Iterator[bytes]:
    """Say in a refusal all that was asked, the login too, as a relay might that wants it shown."""
    return answer({"detail": f"{asked.headers.get('authorization')} {asked.path}"}, "400 Bad Request")


async def test_the_key_is_refused_wherever_it_stands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert {tool for tool, _ in _TOLD} <= set(chosen("all"))
    with Liar(_echo) as relay:
        async with _serving(relay, tmp_path) as host:
            for secret in ("ab" * 32, _MIXED, f"my key: {'AB' * 32}."):
                for tool, arguments in _TOLD:
                    assert await host.refusal(tool, **_filled(arguments, secret)) == _REFUSED, (tool, arguments)
            await _no_answer_holds_it(host)
        assert not any(("ab" * 32).encode() in (a.path.encode() + a.body).lower() for a in relay.asked)
    assert "ab" * 32 not in capfd.readouterr().err.lower()


async def _no_answer_holds_it(host: Host) -> None:
    key = "AB" * 32
    assert await host.refusal(key) == _REFUSED
    for asking in (
        host.client.read_resource(f"anporia://event/{key.lower()}"),
        host.client.read_resource(f"anporia://room/{key}"),
        host.client.get_prompt("anporia-onboard", {"name": key}),
        host.client.get_prompt(key),
        host.client.complete(ResourceTemplateReference(uri="anporia://room/{topic}"), {"name": "topic", "value": key}),
    ):
        with pytest.raises(MCPError) as caught:
            await asking
        assert key.lower() not in str(caught.value.error).lower()


async def test_the_secrets_are_in_no_answer_and_no_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    with Liar(_echo) as relay:
        async with _serving(relay, tmp_path) as host:
            for lie in (LIES["401"], LIES["403 page"], LIES["500"], LIES["empty object"], LIES["not HTTP"]):
                relay.lie = lie
                for tool in ("anporia_query", "anporia_get_stats", "anporia_list_identities", "anporia_get_credit"):
                    told.append((await host.client.call_tool(tool, {})).model_dump_json())
            relay.lie = LIES["401"]
            told.append(await host.refusal("anporia_post", content="Hello"))
        assert any(a.headers.get("authorization", "").startswith("Basic ") for a in relay.asked)
    told.append(capfd.readouterr().err)
    for text in told:
        assert "ab" * 32 not in text.lower() and _PASSWORD not in text
