"""Threads, counts, several events at once, and what trust hides."""

from __future__ import annotations

from pathlib import Path

import pytest

from anporia_store import DISTRUSTED, HIDDEN, Counted, Query, SqliteStore, StoreError, audit, reader
from anporia_wire import Filter
from tests.store.samples import AGENTS, event, some
from tests.wire.samples import NOW


async def test_a_thread_is_the_event_and_all_that_refers_to_it_oldest_first(store: SqliteStore) -> None:
    root = event(50, "root", at=NOW + 2)
    replies = [event(2, f"{n}", [("e", root.id, "root"), ("e", root.id)], at=NOW + n // 2) for n in range(9)]
    await store.append([*replies[:4], root, *replies[4:], event(2, "other", [("e", "1" * 64)]), event(1, root.id)])
    expected = [e.to_json() for e in sorted([root, *replies], key=lambda e: (e.created_at, e.id))]
    assert await store.thread(root.id, 100) == (expected, True)
    others, _ = await store.thread("1" * 64, 100)
    assert len(others) == 1
    some_of, complete = await store.thread(root.id, 3)
    assert (len(some_of), complete) == (4, False)  # the event itself and the three oldest
    assert await store.thread("2" * 64, 100) == ([], True)
    itself = event(2, "me", [("e", replies[0].id)])
    await store.append([itself])
    assert await store.thread(itself.id, 5) == ([itself.to_json()], True)


async def test_events_that_refer_to_another_are_listed_by_it(store: SqliteStore) -> None:
    target = "a" * 64
    log = [event(n % 3, f"{n}", [("e", target), ("t", "x")], at=NOW + n) for n in range(10)]
    await store.append([*log, event(1, f'["e","{target}"')])
    page = await store.query(Query(Filter(kinds=frozenset({1})), 2, e=target))
    assert page.rows == [log[7].to_json(), log[4].to_json()]
    assert (await store.query(Query(Filter(kinds=frozenset({1})), 2, page.next, e=target))).rows == [log[1].to_json()]
    assert (await store.query(Query(Filter(t="y"), 2, e=target))).rows == []


async def test_many_events_at_once(store: SqliteStore) -> None:
    log = some(5)
    await store.append(log)
    found = await store.get_many([log[1].id, log[3].id, "0" * 64, "x"])
    assert {id_: stored.serialised for id_, stored in found.items()} == {e.id: e.to_json() for e in (log[1], log[3])}
    assert await store.get_many([]) == {}


async def test_counts(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = AGENTS[:2]
    await store.append([event(n % 3, f"{n}", [("t", "x")], agent=a if n % 2 else b, at=NOW + n) for n in range(60)])
    for filter_, expected in [
        (Filter(), 60),
        (Filter(kinds=frozenset({0, 1})), 40),
        (Filter(authors=frozenset({a, b, "x"})), 60),
        (Filter(authors=frozenset({a}), kinds=frozenset({0})), 10),
        (Filter(t="x", since=NOW + 50), 10),
        (Filter(t="y"), 0),
        (Filter(authors=frozenset({"no id"})), 0),
    ]:
        assert await store.count(Query(filter_)) == Counted(expected, exact=True)
    monkeypatch.setattr(reader, "MAX_COUNT", 20)
    assert await store.count(Query(Filter())) == Counted(20, exact=False)
    assert await store.count(Query(Filter(kinds=frozenset({0, 1, 2})))) == Counted(20, exact=False)
    assert await store.count(Query(Filter(kinds=frozenset({0})))) == Counted(20, exact=True)


async def test_distrust_hides_and_shows_again(path: Path) -> None:
    store = await SqliteStore.open(path)
    log = some(6)
    flag = event(7, "{}", [("e", log[0].id)])
    await store.append([*log[:5], flag])
    assert await store.distrust({log[0].id, log[5].id, flag.id}) == 3
    shown = [e.to_json() for e in log[1:5]]
    assert sorted((await store.query(Query(Filter(kinds=frozenset({e.kind for e in log}))))).rows) == sorted(shown)
    await store.append([log[5]])  # hidden before it came
    stored = await store.get(log[5].id)
    assert stored and stored.mark & DISTRUSTED
    assert await store.distrust({log[0].id, log[5].id, flag.id}) == 0
    seen = (await store.query(Query(Filter(), 100))).rows
    assert sorted(seen) == sorted([*shown, flag.to_json()])  # kind 7 is never hidden
    assert [f for f in [f.problem async for f in audit(store)] if "bad signature" not in f] == []
    await store.close()
    store = await SqliteStore.open(path)  # and it lasts
    assert sorted((await store.query(Query(Filter(), 100))).rows) == sorted(seen)
    assert await store.distrust(set()) == 3
    assert len((await store.query(Query(Filter(), 100, hide=HIDDEN))).rows) == 7
    await store.close()
    other = await SqliteStore.open(path, write=False)
    with pytest.raises(StoreError):
        await other.distrust(set())
    await other.close()
