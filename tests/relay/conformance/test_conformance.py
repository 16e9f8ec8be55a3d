"""The suite itself: it is whole, true relays pass it, broken ones do not, and its command says so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from anporia_relay.conformance import AREAS, CHECKS, Client, Unreachable, meet, probe, run, select
from anporia_relay.conformance.check import LEVELS
from anporia_relay.conformance.pace import Pace
from anporia_relay.conformance.run import Result
from tests.peers import ROOT, peer_python
from tests.relay.conformance.broken import Broken, Exchange, change
from tests.relays import RunningRelay

# checks that our relay is known to fail, each with the reason
DEPARTURES: dict[str, str] = {}


def failures(url: str, names: Sequence[str] = ()) -> dict[str, str]:
    """Run without pacing; give what failed, and how."""
    client = Client(url)
    try:
        results = run(meet(client, fast=True), select(LEVELS, names=names))
    finally:
        client.close()
    return {r.check.name: f"expected {r.expected}, got {r.got}" for r in results if r.outcome == "failed"}


# -- the registry


def test_the_registry_is_whole() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names)) >= 200
    assert {check.area for check in CHECKS} == set(AREAS)
    assert {check.level for check in CHECKS} == set(LEVELS)
    assert [name for name in names if not re.fullmatch(r"[a-z-]+\.[a-z0-9-]+", name)] == []


def test_every_check_claims_something_in_one_sentence() -> None:
    assert [check.name for check in CHECKS if not check.claim.endswith(".") or len(check.claim) > 120] == []


def test_checks_are_selected_by_level_area_and_name() -> None:
    assert {check.level for check in select(["core"])} == {"core"}
    assert {check.area for check in select(LEVELS, ["pow", "cors"])} == {"pow", "cors"}
    assert [check.name for check in select(LEVELS, names=["pow.unmet-claim-refused"])] == ["pow.unmet-claim-refused"]


# -- true relays


def test_our_relay_passes(ours: RunningRelay) -> None:
    failed = failures(ours.url)
    assert {name: how for name, how in failed.items() if name not in DEPARTURES} == {}
    assert set(failed) == set(DEPARTURES)


def test_it_passes_again_on_a_database_in_use(ours: RunningRelay) -> None:
    areas = ("events", "rosters", "search", "views")
    client = Client(ours.url)
    results = run(meet(client, fast=True), select(LEVELS, areas))
    client.close()
    assert {r.check.name: r.got for r in results if r.outcome == "failed" and r.check.name not in DEPARTURES} == {}


def test_the_published_relay_differs_where_the_docs_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SOON_S", 0.1)  # it works everything out when asked
    launcher = (
        "import runpy, anp2_relay.server as server\n"
        "server.RATE_LIMIT_MAX_PER_IP = server.RATE_LIMIT_MAX_EVENTS = 10**9\n"
        "runpy.run_module('anp2_relay', run_name='__main__')\n"
    )
    listed = set(
        re.findall(r"^\| `([a-z-]+\.[a-z0-9-]+)` \|", (ROOT / "docs/conformance.md").read_text(), re.MULTILINE)
    )
    environment = {**os.environ, "ANP2_DB": str(tmp_path / "relay.db"), "ANP2_HOST": "127.0.0.1", "ANP2_PORT": "0"}
    command = [str(peer_python("anp2-relay")), "-c", launcher]
    log = tmp_path / "log"  # not a pipe: it says a lot
    with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        try:
            deadline = time.monotonic() + 60
            while not (found := re.search(r"running on (http://[\d.:]+)", log.read_text())):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            assert set(failures(found[1])) == listed
        finally:
            process.terminate()


# -- broken relays


def _reversed(rows: Any) -> Any:
    return rows[::-1] if isinstance(rows, list) else rows


def _each(alter: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    return lambda got: [alter(row) for row in got] if isinstance(got, list) else alter(got)


def _without(*names: str) -> Callable[[Any], Any]:
    return _each(lambda row: {name: value for name, value in row.items() if name not in names})


def _status(was: int, now: int, body: object = None) -> Callable[[Exchange], None]:
    def fault(exchange: Exchange) -> None:
        if exchange.status == was:
            exchange.status = now
            if body is not None:
                exchange.json = body

    return fault


def _param(name: str, alter: Callable[[str], str | None]) -> Callable[[Exchange], None]:
    def fault(exchange: Exchange) -> None:
        if name in exchange.params and (altered := alter(exchange.params.pop(name))) is not None:
            exchange.params[name] = altered

    return fault


def _asks_for(name: str) -> Callable[[Exchange], None]:
    def fault(exchange: Exchange) -> None:
        if exchange.path == "/events":
            exchange.params[name] = "true"

    return fault


def _header(name: str, value: str | None) -> Callable[[Exchange], None]:
    def fault(exchange: Exchange) -> None:
        exchange.headers.pop(name, None)
        if value is not None:
            exchange.headers[name] = value

    return fault


def _escaped(exchange: Exchange) -> None:
    if exchange.body.startswith((b"{", b"[")):
        exchange.body = json.dumps(exchange.json, separators=(",", ":")).encode()


def _spaced(exchange: Exchange) -> None:
    if exchange.body.startswith((b"{", b"[")):
        exchange.body = json.dumps(exchange.json, ensure_ascii=False).encode()


def _composed(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "content": unicodedata.normalize("NFC", row["content"])} if "content" in row else row


def _takes_everything(exchange: Exchange) -> None:
    if exchange.method == "POST" and exchange.status == 400:
        exchange.status, exchange.json = 200, {"id": "0" * 64, "accepted": True}


def _in(key: str, alter: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda got: {**got, key: alter(got[key])}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "oldest first": ({"after": change(_reversed)}, "events.topic"),
    "no signature in lists": ({"after": change(_without("sig"))}, "events.answer-is-a-bare-array"),
    "an eighth key": ({"after": change(_each(lambda row: {**row, "seq": 1}))}, "events.answer-is-a-bare-array"),
    "a wrapped list": ({"after": change(lambda rows: {"events": rows})}, "events.topic"),
    "201 for a publish": ({"after": _status(200, 201)}, "publish.answer-has-two-keys"),
    "no `accepted`": ({"after": change(_without("accepted"), method="POST")}, "publish.answer-has-two-keys"),
    "422 told as 400": ({"after": _status(422, 400)}, "envelope.kind-words"),
    "404 told as 200": ({"after": _status(404, 200, {})}, "single.unknown-id-is-404"),
    "410 told as 404": ({"after": _status(410, 404)}, "single.revoked-is-410"),
    "revoked still served": ({"after": _status(410, 200, {})}, "revoke.works-at-once"),
    "revoked still listed": ({"before": _asks_for("include_revoked")}, "revoke.leaves-the-lists"),
    "hidden still listed": ({"before": _asks_for("include_hidden")}, "flags.three-agents-hide"),
    "limit ignored": ({"before": _param("limit", lambda _: None)}, "events.limit-one"),
    "limit one too many": ({"before": _param("limit", lambda n: str(int(n) + 1))}, "events.limit-three"),
    "since exclusive": ({"before": _param("since", lambda n: str(int(n) + 1))}, "events.since"),
    "until exclusive": ({"before": _param("until", lambda n: str(int(n) - 1))}, "events.until"),
    "kinds ignored": ({"before": _param("kinds", lambda _: None)}, "events.one-kind"),
    "authors ignored": ({"before": _param("authors", lambda _: None)}, "events.one-author"),
    "topics in lower case": ({"before": _param("t", str.lower)}, "events.topic-is-case-sensitive"),
    "as_of ignored": ({"before": _param("as_of", lambda _: None)}, "events.as-of-bounds-like-until"),
    "ids in upper case": (
        {"after": change(_each(lambda row: {**row, "id": row["id"].upper()}))},
        "transport.ids-are-lower-case",
    ),
    "ASCII only": ({"after": _escaped}, "transport.text-is-utf8"),
    "white space in JSON": ({"after": _spaced}, "transport.json-is-compact"),
    "served as text/html": ({"after": _header("content-type", "text/html")}, "transport.lists-are-json"),
    "text normalised": ({"after": change(_each(_composed))}, "envelope.round-trip-no-normalisation"),
    "forgeries taken": ({"after": _takes_everything}, "envelope.flipped-signature-is-refused"),
    "proof of work not wanted": ({"after": _takes_everything}, "pow.0-no-claim-refused"),
    "sizes not judged": ({"after": _takes_everything}, "sizes.content-of-65537-bytes"),
    "shapes not judged": ({"after": _takes_everything}, "kinds.6-score-above-one-refused"),
    "no detail": ({"after": _status(400, 400, {"error": "bad"})}, "errors.bad-request-says-why"),
    "agents counted wrong": (
        {"after": change(_in("agents", _each(lambda row: {**row, "event_count": 0})), "/agents")},
        "rosters.agents-count-their-events",
    ),
    "agents in another order": (
        {"after": change(_in("agents", _reversed), "/agents")},
        "rosters.agents-seen-last-come-first",
    ),
    "rooms in another order": (
        {"after": change(_in("rooms", _reversed), "/rooms")},
        "rosters.rooms-used-last-come-first",
    ),
    "totals that stand still": (
        {"after": change(lambda got: {**got, "total_events": 1}, "/stats")},
        "rosters.stats-count-what-is-published",
    ),
    "history newest first": (
        {"after": change(_in("history", _reversed), "/history")},
        "rosters.history-is-oldest-first",
    ),
    "nobody is healthy": (
        {"after": change(lambda got: {**got, "is_healthy": False}, "/agents/")},
        "beats.a-fresh-beat-is-healthy",
    ),
    "a dry run that flatters": (
        {"after": change(lambda got: {**got, "signature_valid": True}, "/events/dry-run", "POST")},
        "dry-run.wrong-signature-is-noticed",
    ),
    "closed to pages": ({"after": _header("access-control-allow-origin", None)}, "cors.answers-are-open"),
    "credentials allowed": (
        {"after": _header("access-control-allow-credentials", "true")},
        "cors.credentials-are-never-allowed",
    ),
    "trust without weights": (
        {"after": change(lambda got: {**got, "weighted_score": got["score_in"]}, "/trust/")},
        "trust.a-voter-of-one-target-weighs-a-third",
    ),
    "votes for oneself counted": (
        {"after": change(lambda got: {**got, "score_in": got["score_in"] + 1}, "/trust/")},
        "trust.a-vote-for-oneself-is-nothing",
    ),
    "least trusted first": (
        {"after": change(_in("agents", _reversed), "/trust_graph")},
        "trust.graph-is-most-trusted-first",
    ),
    "tasks that never end": (
        {"after": change(lambda got: {**got, "status": "pending"}, "/task/")},
        "tasks.release-makes-paid",
    ),
    "threads newest first": ({"after": change(_in("events", _reversed), "/task/")}, "tasks.events-stand-in-order"),
    "credit without a fee": (
        {"after": change(lambda got: {**got, "balance": got["balance"] * 105 // 95}, "/agents/")},
        "credit.passed-settles",
    ),
    "citations oldest first": (
        {"after": change(_in("citations", _reversed), "/citations/")},
        "views.citations-come-newest-first",
    ),
    "no beacons": ({"after": change(_in("beacons", lambda _: []), "/beacons")}, "views.beacons-live-for-their-ttl"),
    "mentions forgotten": (
        {"after": change(_in("unread_mentions", lambda _: []), "/home")},
        "home.mentions-are-shown",
    ),
    "welcome without steps": ({"after": change(_without("steps"), "/welcome")}, "home.welcome-has-its-shape"),
    "prices ignored": ({"before": _param("max_price_usd", lambda _: None)}, "search.by-greatest-price"),
    "verified for everybody": (
        {"after": change(lambda row: {**row, "verified": True}, "/intents/")},
        "intents.verified-is-for-those-who-name-verifiers",
    ),
    "no conflict": (
        {"after": change(lambda row: {**row, "conflict": False}, "/intents/")},
        "intents.two-stories-are-a-conflict",
    ),
    "no next page": ({"after": _header("link", None)}, "extensions.cursor-walks-every-page"),
    "every frame twice": (
        {"line": lambda line: line + b"\n" + line if line.startswith(b"data:") else line},
        "stream.duplicates-are-told-once",
    ),
    "frames without content": (
        {"line": lambda line: re.sub(rb'"content":"[^"]*"', b'"content":""', line)},
        "stream.tells-what-is-published",
    ),
    "no greeting": (
        {"line": lambda line: b": hello\n" if line.startswith(b": connected") else line},
        "stream.greets-at-once",
    ),
    "separators unescaped": (
        {"line": lambda line: line.replace(b"\\u2028", "\u2028".encode())},
        "stream.line-separators-are-escaped",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_relay_is_caught(fault: str, ours: RunningRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SOON_S", 1.5)  # what is right comes within a second, what is wrong never
    how, caught_by = FAULTS[fault]
    with Broken(ours.url, **how) as relay:
        assert set(failures(relay.url, [caught_by])) == {caught_by}


def test_what_catches_faults_passes_without_one(ours: RunningRelay) -> None:
    with Broken(ours.url) as relay:
        assert failures(relay.url, [name for _, name in FAULTS.values()]) == {}


@pytest.mark.parametrize(("status", "body"), [(200, {}), (200, []), (404, {"detail": "Not Found"}), (500, {})])
def test_a_relay_that_says_the_same_to_everything_passes_hardly_anything(
    status: int, body: object, ours: RunningRelay
) -> None:
    def same(exchange: Exchange) -> None:
        exchange.status, exchange.json = status, body

    with Broken(ours.url, after=same) as relay:
        assert len(failures(relay.url)) > 0.95 * len(select(["core", "spec"]))


def test_a_relay_that_goes_away_fails_and_does_not_crash(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        client = Client(relay.url)
        met = meet(client, fast=True)
        relay.stop()
        results: list[Result] = []
        with pytest.raises(Unreachable, match="does not answer any more, after"):
            run(met, select(["core"], ["single", "stream"]), into=results)
        client.close()
    assert {(r.outcome, r.expected) for r in results if not r.check.slow} == {("failed", "an answer")}


# -- pacing


def test_pace_stays_below_the_limits() -> None:
    now, sent = 0.0, list[tuple[float, str]]()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(clock=lambda: now, sleep=sleep)
    for number in range(2_000):
        key = f"key {number % 3}"
        pace.spend(key)
        sent.append((now, key))
        now += 0.01
    for at, key in sent:
        window = [k for t, k in sent if at - 60 <= t <= at]
        assert len(window) <= 300
        assert window.count(key) <= 60
