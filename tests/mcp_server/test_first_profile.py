"""A first profile, so that others see a name: declared once for an identity at a relay, and never in the way."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from anporia_client import Agent, Keypair, Response
from anporia_mcp_server import cli
from anporia_mcp_server.profiles import declare_first
from tests.client.scripted import Scripted
from tests.mcp_server.pipe import Pipe
from tests.mcp_server.sessions import Sessions, call, hanging_relay, in_process, until
from tests.relays import RunningRelay


def profiles(url: str, agent_id: str) -> list[dict[str, Any]]:
    with Agent(Keypair.generate(), url) as agent:
        return agent.query(kinds=[0], authors=[agent_id])


def test_four_servers_at_once_declare_one_and_a_restart_none(open_relay: RunningRelay, tmp_path: Path) -> None:
    keypair = Keypair.generate()
    env = {"ANPORIA_PRIVATE_KEY": keypair.seed.hex()}
    with ExitStack() as running:
        pipes = [running.enter_context(Pipe(open_relay.url, tmp_path, "-v", env=env)) for _ in range(4)]
        for pipe in pipes:
            pipe.initialize()
        until(lambda: profiles(open_relay.url, keypair.agent_id))
        until(lambda: sum("declared a first profile" in pipe.stderr for pipe in pipes))
        stats = [pipe.call("anporia_get_stats") for pipe in pipes]
    assert [one["writes_left"] for one in stats] == [29] * 4, "it counts against the limit of all"
    (profile,) = profiles(open_relay.url, keypair.agent_id)
    assert f'"claude-mcp-{keypair.agent_id[:8]}"' in profile["content"]


def test_many_sessions_at_once_declare_one(sessions: Sessions) -> None:
    keypair = Keypair.generate()
    made = [sessions(keypair, auto_profile=True) for _ in range(8)]
    with ThreadPoolExecutor(8) as at_once:
        assert sum(at_once.map(declare_first, made)) == 1
    assert declare_first(sessions(keypair, auto_profile=True)) is False
    # without the file of limits the relay tells
    assert declare_first(sessions(keypair, auto_profile=True, folder=sessions.folder / "lost")) is False
    assert len(profiles(sessions.url, keypair.agent_id)) == 1


def test_one_that_was_withdrawn_is_not_declared_again(sessions: Sessions) -> None:
    session = sessions(auto_profile=True)
    assert declare_first(session) is True
    with session.reading() as agent:
        agent.revoke(agent.query(kinds=[0], authors=[agent.agent_id])[0]["id"])
    assert profiles(sessions.url, session.agent_id) == []
    assert declare_first(session) is False


def test_none_where_there_is_one_or_nobody_wants_one(sessions: Sessions) -> None:
    with_one = sessions(auto_profile=True)
    call(with_one, "anporia_declare_profile", name="Chosen")
    others = [sessions(auto_profile=True, read_only=True), sessions(auto_profile=False)]
    for session in [with_one, *others]:
        assert declare_first(session) is False
    assert [profiles(sessions.url, session.agent_id) for session in others] == [[], []]
    assert with_one.ledger.writes_left(time.time()) == 29


def test_the_owner_can_do_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given = cli.command.make_context("x", []).params
    for value, wanted in (("", True), ("1", True), ("0", False)):
        monkeypatch.setenv("ANPORIA_AUTO_PROFILE", value)
        assert cli._settings(given).auto_profile is wanted


def test_a_relay_without_a_usable_address_does_not_end_the_server(tmp_path: Path) -> None:
    with Pipe("nonsense", tmp_path, "-v") as pipe:
        pipe.initialize()
        until(lambda: "no first profile was declared" in pipe.stderr)
        assert "address of a relay" in pipe.call("anporia_get_rooms")
        assert "Traceback" not in pipe.stderr


async def test_a_relay_that_hangs_keeps_nobody_waiting(sessions: Sessions) -> None:
    with hanging_relay() as url:
        session = sessions(url=url, auto_profile=True, timeout=3.0)
        began = time.monotonic()
        async with in_process(session, "legacy") as host:
            assert (await host.client.list_tools()).tools
        assert time.monotonic() - began < 2


def test_the_claim_is_given_back_when_it_could_not_be_declared(sessions: Sessions) -> None:
    works = threading.Event()
    posted: list[bytes | None] = []

    def answer(request: Any) -> Response:
        if request.method == "GET":
            return Response(200, {"content-type": "application/json"}, b"[]")
        posted.append(request.body)
        return Response(200 if works.is_set() else 400, {}, b'{"detail": "not now"}')

    session = sessions(url="http://relay", transport=Scripted(answer), auto_profile=True)
    assert declare_first(session) is False
    assert session.ledger.claim_profile("http://relay", 0.0) is True
    assert session.ledger.claim_profile("http://relay", 0.0) is False
    session.ledger.release_profile("http://relay")
    session.ledger.take_write(time.time())
    while session.ledger.writes_left(time.time()):
        session.ledger.take_write(time.time())
    before = len(posted)
    assert declare_first(session) is False
    assert len(posted) == before, "the local limit holds for it too"
    assert session.ledger.claim_profile("http://relay", 0.0) is True
