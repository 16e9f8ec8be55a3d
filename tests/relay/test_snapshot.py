"""The views' snapshot: equal to the log, passed over when it does not fit, made by another process."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import pytest

from anporia_relay import snapshot
from anporia_store import SqliteStore
from anporia_wire import Event, Filter
from anporia_wire.views import BadSnapshot, Views
from tests.relay.served import NOW, Served, sign, until
from tests.store.samples import event

PATHS = ("/stats", "/rooms", "/capabilities", "/events", "/agents", "/trust_graph", "/beacons")


def answers(relay: Served) -> dict[str, Any]:
    return {path: relay.get(path).json() for path in PATHS}


async def log_of(path: Path, count: int) -> SqliteStore:
    store = await SqliteStore.open(path)
    kinds = (0, 1, 1, 4, 5, 6, 7, 8, 15, 50, 51)
    tags = [[("t", f"{n % 7}"), ("p", "1" * 64)] for n in range(count)]
    texts = [json.dumps({"name": f"{n}", "score": 1}) for n in range(count)]
    await store.append([event(kinds[n % len(kinds)], texts[n], tags[n], at=NOW + n) for n in range(count)])
    return store


def test_a_relay_that_stopped_starts_from_its_snapshot(tmp_path: Path) -> None:
    with Served(tmp_path) as relay:
        relay.publish(sign("a", 1, ["t", "x"]), sign('{"score":1}', 6, ["p", "1" * 64]), sign("{}", 4, ["cap", "c"]))
        before = answers(relay)
    file = snapshot.path_of(relay.config.db)
    assert file.exists()
    with Served(tmp_path) as relay:
        assert relay.relay.views.seq == 3
        assert answers(relay) == before
        relay.publish(sign("b", 1, ["t", "x"]))
    with Served(tmp_path) as relay:
        assert relay.get("/stats").json()["total_events"] == 4
        assert relay.get("/rooms").json()["rooms"][0]["messages"] == 2


async def test_what_does_not_fit_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    db = tmp_path / "relay.db"
    store = await log_of(db, 30)
    file = snapshot.path_of(db)
    assert await snapshot.load(store, file) is None
    views = Views()
    for seq, raw in (await store.replay(0, Filter(), 100)).rows:
        views.apply(seq, Event.from_stored(raw))
    await snapshot.write(store, views, file)
    loaded = await snapshot.load(store, file)
    assert loaded and orjson.dumps(loaded.snapshot()) == orjson.dumps(views.snapshot())
    whole = file.read_bytes()

    async def refused(raw: bytes, why: str) -> None:
        file.write_bytes(raw)
        with pytest.raises(BadSnapshot, match=why):
            await snapshot.load(store, file)

    for at in range(0, len(whole), max(1, len(whole) // 50)):
        await refused(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "damaged")
    await refused(whole[:-1], "damaged")
    await refused(b"", "damaged")
    other = await log_of(tmp_path / "other.db", 30)
    file.write_bytes(whole)
    with pytest.raises(BadSnapshot, match="another database"):
        await snapshot.load(other, file)
    await other.close()
    await store._writer.execute("DELETE FROM events WHERE seq > 20")
    await store._writer.commit()
    store.last_seq = 20
    with pytest.raises(BadSnapshot, match="longer log"):
        await snapshot.load(store, file)
    await store.append([event(1, f"went on otherwise {n}") for n in range(15)])
    with pytest.raises(BadSnapshot, match="otherwise"):
        await snapshot.load(store, file)
    await store.close()
    with Served(tmp_path) as relay:  # and the relay reads its log
        assert relay.get("/stats").json()["total_events"] == 35
    assert "passed over" in caplog.text


async def test_another_process_makes_the_same(tmp_path: Path) -> None:
    db = tmp_path / "relay.db"
    store = await log_of(db, 50)
    made = [sys.executable, "-m", "anporia_relay", "--db", str(db), "snapshot"]
    for more in range(2):
        done = subprocess.run(made, capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr.endswith(" events\n")
        found = await snapshot.audit(store, db, lambda _seq: None)
        assert found == (store.last_seq, [])
        await store.append([event(1, f"more {more}")])
    await store.close()


def test_a_running_relay_has_one_made_when_the_log_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "EVERY", 5)
    with Served(tmp_path) as relay:
        file = snapshot.path_of(relay.config.db)
        relay.publish(*(sign(str(n)) for n in range(5)))
        assert until(file.exists)
        first = file.read_bytes()
        assert until(lambda: relay.call(relay.relay._snapshots._helper.done))  # type: ignore[union-attr]
        relay.publish(*(sign(str(n)) for n in range(5, 10)))
        assert until(lambda: file.read_bytes() != first)


def test_a_helper_that_fails_is_told_and_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(snapshot, "EVERY", 2)
    (tmp_path / "relay.db.views").mkdir()
    with Served(tmp_path) as relay:
        relay.publish(sign("a"), sign("b"))
        assert until(lambda: "no snapshot" in caplog.text)
        relay.publish(sign("c"))
    assert [file.name for file in tmp_path.glob("*.partial")] == []


def test_verify_views(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "anporia_relay", "--db", str(tmp_path / "relay.db"), "verify", "--views"]

    def run(*more: str) -> tuple[int, str]:
        done = subprocess.run([*command, *more], capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, done.stdout

    with Served(tmp_path) as relay:
        relay.publish(sign("a", 1, ["t", "x"]), sign("b"))
    file = snapshot.path_of(relay.config.db)
    assert run() == (0, "2 events folded, the snapshot equals them\n")
    assert json.loads(run("--json")[1]) == {"rows": 2, "findings": []}
    _, _, body = file.read_bytes().partition(b"\n")
    state = json.loads(body)
    state["rooms"] = [["x", 5, NOW]]
    _forge(file, state)
    assert run() == (1, "view rooms differs from the log\n2 events, 1 finding\n")
    file.write_bytes(b"x")
    assert run()[0] == 1 and "damaged" in run()[1]
    file.unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "no snapshot yet" in done.stderr


def _forge(file: Path, state: object) -> None:

    body = orjson.dumps(state)
    file.write_bytes(b"anporia-views " + blake2b(body, digest_size=16).hexdigest().encode() + b"\n" + body)


async def test_a_row_that_is_missing_holds_nothing_up(tmp_path: Path) -> None:
    store = await log_of(tmp_path / "relay.db", 5)
    await store._writer.execute("DELETE FROM events WHERE seq IN (1, 3)")
    await store._writer.commit()
    await store.close()
    with Served(tmp_path) as relay:
        assert relay.get("/stats").json()["total_events"] == 3
        relay.publish(sign("goes on"))
        assert relay.get("/stats").json()["total_events"] == 4
        assert relay.relay.views.seq == 6
    with Served(tmp_path) as relay:
        assert relay.get("/stats").json()["total_events"] == 4


async def test_a_commit_meanwhile_does_not_spoil_the_snapshot(tmp_path: Path) -> None:
    store = await log_of(tmp_path / "relay.db", 10)
    views = Views()
    for seq, raw in (await store.replay(0, Filter(), 100)).rows:
        views.apply(seq, Event.from_stored(raw))
    replay = store.replay

    async def slow(after: int, filter_: Filter, limit: int) -> Any:
        views.apply(views.seq + 1, event(1, "meanwhile"))
        return await replay(after, filter_, limit)

    store.replay = slow  # type: ignore[method-assign]
    await snapshot.write(store, views, snapshot.path_of(tmp_path / "relay.db"))
    store.replay = replay  # type: ignore[method-assign]
    loaded = await snapshot.load(store, snapshot.path_of(tmp_path / "relay.db"))
    assert loaded and loaded.seq == 10
    await store.close()


def test_a_helper_that_is_killed_has_written_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "EVERY", 2)
    with Served(tmp_path) as relay:
        relay.publish(sign("a"), sign("b"))
        assert until(lambda: relay.relay._snapshots._helper is not None)
    with Served(tmp_path) as relay:
        assert relay.relay._snapshots._written == 2
