"""How much one identity publishes from this machine: 30 events a minute, one vote on an agent in 24 hours."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from anporia_client import Agent, Keypair, Response
from anporia_client.errors import NoAnswer, RelayUnreachable
from anporia_mcp_server.failures import ToolFailure, iso
from anporia_mcp_server.ledger import COOLDOWN_S, Ledger, Vote
from tests.client.scripted import Scripted
from tests.mcp_server.host import over_stdio
from tests.mcp_server.sessions import Clock, Sessions, call
from tests.relays import RunningRelay

_NOW = 1_795_000_000.0
_TARGET = "ab" * 32


def used_up(ledger: Ledger, now: float) -> int:
    """Write until it is refused; gives how often that went."""
    for count in range(100):
        try:
            ledger.take_write(now)
        except ToolFailure:
            return count
    raise AssertionError("there is no limit")


def test_thirty_a_minute_among_all_who_share_the_file(tmp_path: Path) -> None:
    one, two = Ledger(tmp_path / "mcp/x.db"), Ledger(tmp_path / "mcp/x.db")
    for n in range(15):
        one.take_write(_NOW + n)
        two.take_write(_NOW + n)
    assert (one.writes_left(_NOW + 20), two.writes_left(_NOW + 20)) == (0, 0)
    for ledger in (one, two):
        with pytest.raises(ToolFailure) as refused:
            ledger.take_write(_NOW + 43)
        assert refused.value.code == "local_limit"
        assert str(refused.value) == (
            f"Local write limit reached (30 events per minute). Next allowed at {iso(_NOW + 60)} (in 17 s). "
            "Wait until then; do not retry sooner."
        )
    one.take_write(_NOW + 60)  # exactly then
    assert two.writes_left(_NOW + 60) == 1
    assert used_up(two, _NOW + 200) == 30
    one.close()
    two.close()


@pytest.mark.parametrize("back", [1, 30, 59, 61, 86_400 * 365])
def test_a_clock_that_was_set_back_blocks_for_a_minute_at_most(tmp_path: Path, back: int) -> None:
    ledger = Ledger(tmp_path / "x.db")
    assert used_up(ledger, _NOW) == 30
    now = _NOW - back
    allowed = next(at for at in range(200) if ledger.writes_left(now + at))
    assert allowed <= 60 + min(back, 60)
    assert used_up(ledger, now + allowed) == 30
    ledger.close()


def test_two_that_write_at_once_share_the_thirty(tmp_path: Path) -> None:
    ledgers = [Ledger(tmp_path / "x.db") for _ in range(4)]
    with ThreadPoolExecutor(4) as at_once:
        assert sum(at_once.map(lambda ledger: used_up(ledger, _NOW), ledgers)) == 30
    for ledger in ledgers:
        ledger.close()


def test_a_process_that_was_killed_amid_a_change_leaves_a_file_that_works(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from anporia_mcp_server.ledger import Ledger\n"
        f"ledger = Ledger(Path(sys.argv[1]))\nledger.take_write({_NOW})\n"
        "with ledger._changing() as db:\n"
        f"    db.execute('INSERT INTO writes VALUES (?)', ({_NOW},))\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    file = tmp_path / "mcp/x.db"
    assert subprocess.run([sys.executable, "-c", program, str(file)], timeout=30).returncode == -9
    ledger = Ledger(file)
    assert ledger.writes_left(_NOW) == 29
    ledger.close()


def test_what_fails_in_the_file_is_told_and_leaves_it_usable(tmp_path: Path) -> None:
    ledger, other = Ledger(tmp_path / "x.db"), sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    with pytest.raises(ToolFailure, match="The file of local limits cannot be used"), ledger._changing() as db:
        db.execute("INSERT INTO writes SELECT ? UNION ALL SELECT abs(-9223372036854775808)", (_NOW,))
    assert ledger.writes_left(_NOW) == 30
    ledger._db.execute("PRAGMA busy_timeout = 50")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ToolFailure) as refused:
        ledger.take_write(_NOW)
    assert refused.value.code == "ledger"
    other.execute("COMMIT")
    assert used_up(ledger, _NOW) == 30
    other.close()
    ledger.close()


def test_where_nothing_can_be_kept_the_limits_are_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in the way").write_text("")
    with caplog.at_level(logging.WARNING, "anporia.mcp"):
        ledger = Ledger(tmp_path / "in the way/mcp/x.db")
        assert used_up(ledger, _NOW) == 30
        ledger.close()
        kept = Ledger(tmp_path / "mcp/x.db")
        kept.close()
        monkeypatch.setattr(os, "access", lambda *_: False)  # as for who is not root
        ledger = Ledger(tmp_path / "mcp/x.db")
        assert used_up(ledger, _NOW) == 30
        ledger.close()
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
        "limits are kept in memory only, for this process"
    ] * 2
    with suppress(ToolFailure):
        Ledger(None).take_write(_NOW)


async def test_two_processes_of_one_identity_share_the_thirty(open_relay: RunningRelay, tmp_path: Path) -> None:
    env = {"ANPORIA_AUTO_PROFILE": "0"}
    async with (
        over_stdio(open_relay.url, tmp_path, env=env) as one,
        over_stdio(open_relay.url, tmp_path, env=env) as two,
    ):
        for n in range(15):
            await one.call("anporia_post", content=f"one {n}")
            await two.call("anporia_post", content=f"two {n}")
        assert (await two.call("anporia_get_stats"))["writes_left"] == 0
        text = await one.refusal("anporia_post", content="one too many")
        assert text.startswith("Local write limit reached (30 events per minute). Next allowed at 20")
        mine = (await one.call("anporia_get_stats"))["your_agent_id"]
        assert len((await one.call("anporia_query", authors=[mine], detail="concise"))["events"]) == 30


# ------------------------------------------------------------------------------------------------ votes


def test_one_vote_on_an_agent_in_a_day(sessions: Sessions) -> None:
    clock, keypair = Clock(float(int(time.time()) + 10)), Keypair.generate()
    session = sessions(keypair, wall=clock)
    first = call(session, "anporia_trust_vote", target_agent_id=_TARGET, score=1)
    at = call(session, "anporia_query", kinds=[6], authors=[session.agent_id])["events"][0]["created_at"]

    def refused(who: object = session) -> str:
        with pytest.raises(ToolFailure) as failure:
            call(who, "anporia_trust_vote", target_agent_id=_TARGET, score=-1)  # type: ignore[arg-type]
        assert failure.value.code == "vote_cooldown"
        return str(failure.value)

    said = refused()
    assert said.startswith(f"You voted +1 on {_TARGET[:8]} at {iso(max(clock.now, at))[:16]}")
    assert said.endswith("Score 0 (retract) is always allowed.") and "the next vote on this agent is allowed at" in said
    call(session, "anporia_trust_vote", target_agent_id="cd" * 32, score=1)  # others are not concerned
    back = call(session, "anporia_trust_vote", target_agent_id=_TARGET, score=0)
    assert back["replaces"] == first["id"]
    assert refused() == said, "a withdrawal does not end the pause"
    assert refused(sessions(keypair, wall=clock)) == said, "nor does a restart"
    # without the file, the relay knows; also of a vote that was withdrawn
    elsewhere = sessions(keypair, wall=clock, folder=sessions.folder / "lost")
    assert f"You voted +1 on {_TARGET[:8]} at {iso(at)}" in refused(elsewhere)
    clock.now = max(clock.now, at) + COOLDOWN_S
    for who in (session, elsewhere):
        left = who.ledger.writes_left(clock.now)
        with suppress(ToolFailure):  # the relay refuses what is dated now, or takes it
            call(who, "anporia_trust_vote", target_agent_id=_TARGET, score=-1)
        assert who.ledger.writes_left(clock.now) == left - 1, "it was let through"
        break


def test_a_vote_that_failed_is_given_back_and_one_of_unknown_outcome_kept(sessions: Sessions) -> None:
    fails = iter([400, 429, None])
    unknown = threading.Event()

    def answer(request: object) -> Response:
        if getattr(request, "method", "") == "GET":
            return Response(200, {"content-type": "application/json"}, b"[]")
        if unknown.is_set():
            raise NoAnswer("timed out", "http://relay")
        status = next(fails)
        if status is None:
            raise RelayUnreachable("refused", "http://relay")
        return Response(status, {"retry-after": "9"}, b'{"detail": "no"}')

    session = sessions(url="http://relay", transport=Scripted(answer), timeout=0.2)
    vote = {"target_agent_id": _TARGET, "score": 1}
    codes = []
    for _ in range(3):
        with pytest.raises(ToolFailure) as refused:
            call(session, "anporia_trust_vote", **vote)
        codes.append(refused.value.code)
    assert codes == ["http_400", "http_429", "unreachable"], codes
    unknown.set()
    with pytest.raises(ToolFailure, match="It is not known whether the vote was published"):
        call(session, "anporia_trust_vote", **vote)
    with pytest.raises(ToolFailure, match=r"You voted \+1 on abababab"):
        call(session, "anporia_trust_vote", **vote)


def test_votes_in_the_ledger_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x.db")
    with pytest.raises(ToolFailure, match="limit"), ledger.voting(_TARGET, 1, _NOW, None):
        raise ToolFailure("the local limit", "local_limit")
    with ledger.voting(_TARGET, 1, _NOW, None):
        pass
    # a later one of which only the relay knows, as from another machine, counts from then
    with (
        pytest.raises(ToolFailure, match=f"You voted -1 on abababab at {iso(_NOW + 50)}"),
        ledger.voting(_TARGET, 1, _NOW + COOLDOWN_S + 1, Vote(-1, _NOW + 50)),
    ):
        raise AssertionError("let through")
    with pytest.raises(ToolFailure, match="no"), ledger.voting(_TARGET, 0, _NOW + 60, None):
        raise ToolFailure("no", "http_400")
    with pytest.raises(ToolFailure, match=r"You voted \+1"), ledger.voting(_TARGET, 1, _NOW + 70, None):
        raise AssertionError("let through")
    with ledger.voting(_TARGET, -1, _NOW + COOLDOWN_S, Vote(0, _NOW + 60)):
        pass
    ledger.close()


# ------------------------------------------------------------------------------------------------ the relay's own


def test_the_relays_limit_is_told_with_its_time(tmp_path: Path) -> None:
    made = Sessions("", tmp_path / "anporia")
    with RunningRelay(tmp_path, args=["--agent-rate", "2"]) as relay:
        session = made(url=relay.url)
        for text in ("one", "two"):
            call(session, "anporia_post", content=text)
        with pytest.raises(ToolFailure) as refused:
            call(session, "anporia_post", content="three")
        said = str(refused.value)
        assert said.startswith("The relay's rate limit was hit (HTTP 429). Next allowed at 20")
        assert said.endswith("s). The post was not published.")
        with Agent(Keypair.generate(), relay.url) as agent:
            assert len(agent.query(authors=[session.agent_id])) == 2
    made.close()
