"""The SQL against `Filter.matches`, its plans, and the order of pages."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anporia_cython_ext as compiled
from anporia_store import LOBBY, Cursor, Query, SqliteStore
from anporia_store import query as q
from anporia_wire import MAX_INTEGER, Event, Filter, InvalidFilter
from anporia_wire import _kernels_py as pure
from tests.store.samples import AGENTS, empty, event, newest_first, some
from tests.wire.samples import NOW, nasty

# Two agents share the 64 bits of their keys, and no pool is large, so that filters match often.
WRITERS = [*AGENTS, "a" * 63 + "b"]
VALUES = [
    "x", "X", "xx", "", "x\\", "\\", '"', 'x"', 'x","y', '["t","x"', '"],["t","x"],["', "\0", "x\0", "é", "e\u0301",
    "\u2028", "\U0010ffff", "%", "'", "lobby",
]  # fmt: skip
values = st.sampled_from(VALUES)
times = st.sampled_from([0, 1, 2, NOW, MAX_INTEGER])
bounds = st.none() | st.sampled_from([-(2**63), -1, 0, 1, 2, NOW, MAX_INTEGER, 2**63 - 1])
kinds = st.sampled_from([0, 1, 7, 9, 2**31, MAX_INTEGER])

filters = st.builds(
    Filter,
    kinds=st.none() | st.frozensets(kinds, max_size=3),
    authors=st.none() | st.frozensets(st.sampled_from([*WRITERS, "A" * 64, "short", ""]), max_size=4),
    t=st.none() | values | nasty,
    p=st.none() | st.sampled_from(WRITERS) | values,
    since=bounds,
    until=bounds,
)
tags = st.one_of(
    st.tuples(st.sampled_from(["t", "p"]), values | st.sampled_from(WRITERS)),
    st.tuples(st.sampled_from(["t", "p"]), values, values),
    st.tuples(st.sampled_from(["t", "p", "T", "", "x"]), nasty | values),
    st.tuples(st.sampled_from(["t", "p"])),
    st.tuples(nasty, st.just("t"), values),
    st.just(()),
)
events = st.builds(
    event,
    kind=kinds,
    content=values | nasty,
    tags=st.lists(tags, max_size=4),
    agent=st.sampled_from(WRITERS),
    at=times,
)
logs = st.lists(events, max_size=12, unique_by=lambda e: e.id)


@pytest.mark.parametrize("keys", ["real keys", "one key for all"])
def test_all_matchers_agree(path: Path, monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    real = keys == "real keys"
    if not real:  # whoever grinds 64 bits finds candidates, but nothing is taken for another
        for name in ("id_key", "author_key", "tag_key"):
            monkeypatch.setattr(q, name, lambda *_: 5)
    with asyncio.Runner() as runner:
        store = runner.run(SqliteStore.open(path))

        @given(logs, st.lists(filters, max_size=8))
        def check(log: list[Event], asked: list[Filter]) -> None:
            runner.run(agree(store, log, [Filter(), *asked], real))

        try:
            check()
        finally:
            runner.run(store.close())


async def agree(store: SqliteStore, log: list[Event], asked: list[Filter], real: bool) -> None:
    await empty(store)
    for at in range(0, len(log), 5):
        await store.append(log[at : at + 5])
    looped, indexed = pure.FilterSet(), compiled.FilterSet()
    for number, filter_ in enumerate(asked):
        looped.add(number, filter_)
        indexed.add(number, filter_)
    found = [(e, set(looped.match(e)), set(indexed.match(e))) for e in log]
    for number, filter_ in enumerate(asked):
        expected = [e for e in log if filter_.matches(e)]
        assert [e for e, keys, _ in found if number in keys] == expected
        assert [e for e, _, keys in found if number in keys] == expected
        for path in q.paths(Query(filter_)):
            store._choose_path = always(path)  # type: ignore[method-assign, assignment]
            page = await store.query(Query(filter_, 1_000, hide=0))
            assert page.next is None
            if real:
                assert page.rows == newest_first(expected)
                assert await by_pages(store, Query(filter_, 2, hide=0)) == page.rows
            else:
                assert sorted(page.rows) == sorted(newest_first(expected))
        del store._choose_path
        assert sorted((await store.query(Query(filter_, 1_000, hide=0))).rows) == sorted(newest_first(expected))
        part = await store.replay(0, filter_, 1_000)
        assert [raw for _, raw in part.rows] == [e.to_json() for e in expected]
        assert part.complete_to == len(log)
        for each in log[:3]:
            stored = await store.get(each.id)
            assert stored and stored.serialised == each.to_json()


def always(path: str) -> Callable[[Filter], Coroutine[Any, Any, str]]:
    async def choose(_filter: Filter) -> str:
        return path

    return choose


async def by_pages(store: SqliteStore, query: Query) -> list[bytes]:
    rows: list[bytes] = []
    while True:
        page = await store.query(query)
        assert len(page.rows) <= query.limit
        rows += page.rows
        if page.next is None:
            return rows
        query = Query(query.filter, query.limit, Cursor.decode(page.next.encode()), query.hide)


# -- plans


ONE, TWO = frozenset(AGENTS[:1]), frozenset(AGENTS[:2])
SHAPES = [
    (Filter(), "time", "USING COVERING INDEX events_time"),
    (Filter(authors=ONE), "authors", "USING INDEX events_author (author=?"),
    (Filter(authors=TWO, kinds=frozenset({1, 2})), "authors", "USING INDEX events_author (author=?"),
    (Filter(authors=TWO, kinds=frozenset({1, 2})), "kinds", "USING INDEX events_kind (kind=?"),
    (Filter(kinds=frozenset({1})), "kinds", "USING COVERING INDEX events_kind (kind=?"),
    (Filter(t="x"), "t", "USING PRIMARY KEY (tag=?"),
    (Filter(p="x"), "p", "USING PRIMARY KEY (tag=?"),
    (Filter(t="x", p="y", authors=TWO, kinds=frozenset({1, 2})), "p", "USING PRIMARY KEY (tag=?"),
    (Filter(t="x", authors=ONE), "authors", "USING INDEX events_author (author=?"),
]


@pytest.fixture
def plain(store: SqliteStore) -> sqlite3.Connection:
    return sqlite3.connect(store.path)


def plan(connection: sqlite3.Connection, statement: q.Statement) -> dict[int, tuple[int, str]]:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", statement.args)
    return {number: (parent, detail) for number, parent, _, detail in rows}


@pytest.mark.parametrize("after", [None, Cursor(NOW, 0)], ids=["first page", "later page"])
@pytest.mark.parametrize("window", [{}, {"since": 1}, {"until": NOW}, {"since": 1, "until": NOW}], ids=str)
@pytest.mark.parametrize(("filter_", "way", "index"), SHAPES)
def test_each_arm_walks_one_index_in_order(
    plain: sqlite3.Connection, filter_: Filter, way: str, index: str, window: dict[str, int], after: Cursor | None
) -> None:
    filter_ = Filter(filter_.kinds, filter_.authors, filter_.t, filter_.p, **window)
    statement = q.list_statement(Query(filter_, 100, after), way, b"secret")
    assert statement
    steps = plan(plain, statement)
    driving = [(parent, detail) for parent, detail in steps.values() if detail.startswith(("SEARCH k", "SCAN k"))]
    values = {"authors": filter_.authors, "kinds": filter_.kinds}.get(way) or {"one"}
    assert len(driving) == len(values)
    for arm, detail in driving:
        assert index in detail
        if after:
            assert "(created_at,idkey)<(?,?)" in detail  # enters the index where the page before ended
        elif "until" in window:
            assert "created_at<?" in detail
        if "since" in window:
            assert "created_at>?" in detail
        within = [text for parent, text in steps.values() if parent == arm]
        assert not [text for text in within if "TEMP B-TREE" in text], "an arm that sorts reads all of its rows"
        if way != "time" or window or after:
            assert "SCAN" not in detail
    for _, detail in steps.values():
        assert not detail.startswith(("SCAN e", "SCAN r", "SCAN events", "SCAN tags"))
    plain.close()


def test_a_replay_walks_the_log(plain: sqlite3.Connection) -> None:
    for filter_, _, _ in SHAPES:
        steps = [detail for _, detail in plan(plain, q.replay_statement(5, 10, filter_, 100)).values()]
        assert "SEARCH k USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in steps
        assert not [detail for detail in steps if "TEMP B-TREE" in detail]
    plain.close()


def test_a_probe_touches_indexes_only(plain: sqlite3.Connection) -> None:
    probe = q.probe_statement(Query(SHAPES[7][0]), b"secret")
    steps = [detail for _, detail in plan(plain, probe).values() if detail.startswith(("SEARCH", "SCAN k"))]
    assert len(steps) == 1 + 1 + 2 + 2
    assert not [d for d in steps if "COVERING INDEX" not in d and "PRIMARY KEY (tag=?" not in d]
    plain.close()


def machine_steps(connection: sqlite3.Connection, statement: q.Statement | None) -> tuple[int, list[sqlite3.Row]]:
    assert statement
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(step, 10)
    rows = connection.execute(statement.sql, statement.args).fetchall()
    connection.set_progress_handler(None, 0)
    return count, rows


@pytest.mark.parametrize(
    "filter_",
    [
        Filter(),
        Filter(until=NOW + 10**6),
        Filter(since=0, until=NOW + 10**6),
        Filter(t="all"),
        Filter(t="all", until=NOW + 10**6),
        Filter(authors=frozenset(AGENTS)),
        Filter(authors=frozenset(AGENTS), until=NOW + 10**6),
        Filter(kinds=frozenset(range(4)), until=NOW + 10**6),
    ],
    ids=["all", "until", "between", "topic", "topic-until", "authors", "authors-until", "kinds-until"],
)
async def test_page_1000_costs_what_page_1_costs(store: SqliteStore, filter_: Filter) -> None:
    log = some(4_040, seconds=100)
    await store.append(log)
    ordered = sorted(log, key=lambda e: (-e.created_at, e.id))
    path = q.paths(Query(filter_))[0]
    with sqlite3.connect(store.path) as plain:
        first, _ = machine_steps(plain, q.list_statement(Query(filter_, 4), path, store._secret))
        before = ordered[999 * 4 - 1]
        deep = Query(filter_, 4, Cursor(before.created_at, q.id_key(before.id)))
        last, rows = machine_steps(plain, q.list_statement(deep, path, store._secret))
    plain.close()
    assert [row[1] for row in rows] == [e.to_json() for e in ordered[999 * 4 : 1_000 * 4 + 1]]
    assert last < first * 1.3


async def test_as_many_values_as_a_filter_may_have(store: SqliteStore) -> None:
    draw = random.Random(1)
    authors = [draw.randbytes(32).hex() for _ in range(256)]
    log = [event(n, f"{n}", [("t", "x")], agent=a, at=NOW + n % 7) for n, a in enumerate(authors)]
    await store.append(log)
    every = Filter(frozenset(range(256)), frozenset(authors), "x")
    for path in q.paths(Query(every)):
        store._choose_path = always(path)  # type: ignore[method-assign, assignment]
        assert (await store.query(Query(every, 1_000))).rows == newest_first(log)
        assert await by_pages(store, Query(every, 100)) == newest_first(log)
    del store._choose_path
    assert (await store.query(Query(every, 1_000))).rows == newest_first(log)
    assert len((await store.replay(0, every, 1_000)).rows) == 256


async def test_the_rarest_field_drives(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(q, "PROBE_ROWS", 50)
    common, rare = AGENTS[0], AGENTS[1]
    log = [event(1, f"{n}", [("t", "common"), ("p", "common")], agent=common, at=NOW + n) for n in range(100)]
    await store.append([*log, event(2, "", [("t", "rare"), ("p", "rare")], agent=rare)])
    for filter_, expected in [
        (Filter(authors=frozenset({common}), kinds=frozenset({2})), "kinds"),
        (Filter(authors=frozenset({rare}), kinds=frozenset({1})), "authors"),
        (Filter(authors=frozenset({common}), t="rare"), "t"),
        (Filter(p="rare", t="common"), "p"),
        (Filter(p="common", t="rare"), "t"),
        (Filter(authors=frozenset({common}), p="common", t="common", kinds=frozenset({2})), "kinds"),
        (Filter(authors=frozenset({common}), p="common", t="nowhere", kinds=frozenset({2})), "t"),
        (Filter(authors=frozenset({common}), kinds=frozenset({1})), "authors"),  # as many: the first
        (Filter(authors=frozenset({common}), kinds=frozenset()), "kinds"),
        (Filter(t="common", kinds=frozenset({1, 2, 3}), since=NOW + 99), "t"),
        (Filter(t="rare"), "t"),
        (Filter(since=5), "time"),
    ]:
        assert await store._choose_path(Query(filter_)) == expected, filter_


# -- order


async def test_pages_give_each_event_once_while_others_come(store: SqliteStore, counts: Callable[..., int]) -> None:
    old = some(300, seconds=3)
    await store.append(old)
    coming = iter(some(counts(300, soak=3_000), seconds=3, seed=1))
    seen: list[bytes] = []
    query = Query(Filter(), 7)
    while True:
        page = await store.query(query)
        seen += page.rows
        if page.next is None:
            break
        query = Query(Filter(), 7, page.next)
        await store.append([e for e, _ in zip(coming, range(5), strict=False)])
    assert len(seen) == len(set(seen))
    expected = newest_first(old)
    wanted = set(expected)
    assert [raw for raw in seen if raw in wanted] == expected  # new ones stand between them, never instead
    everything = [Event.from_stored(raw) for raw in seen]
    assert seen == newest_first(everything)


async def test_limits_at_the_end_of_the_list(store: SqliteStore) -> None:
    log = some(10)
    await store.append(log)
    for limit, has_next in ((9, True), (10, False), (11, False)):
        page = await store.query(Query(Filter(), limit))
        assert page.rows == newest_first(log)[:limit]
        assert (page.next is not None) is has_next


async def test_hidden_rows_take_no_place_in_a_page(store: SqliteStore) -> None:
    log = [event(1, f"{n}", [("t", "lobby" if n % 2 else "x")], at=NOW + n) for n in range(20)]
    await store.append(log)
    page = await store.query(Query(Filter(), 10, hide=LOBBY))
    assert page.rows == newest_first(log[::2])
    assert page.next is None


@pytest.mark.parametrize(
    "text",
    ["", "x", "=", "AAAA", "A" * 23, "é" * 22, "\0", "%00", "A" * 21 + "!", "A" * 10_000, "null", "1-2", "\ud800" * 22],
)
def test_no_cursor(text: str) -> None:
    with pytest.raises(InvalidFilter):
        Cursor.decode(text)


edges = st.integers(-(2**63), 2**63 - 1)


@given(edges, edges)
def test_cursors_read_back(created_at: int, idkey: int) -> None:
    cursor = Cursor(created_at, idkey)
    text = cursor.encode()
    assert Cursor.decode(text) == cursor
    assert text.isascii() and not set(text) & set("+/=&?# ")


@given(st.text(max_size=40) | st.text(alphabet="ABCdef019-_=+/", min_size=20, max_size=24))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = Cursor.decode(text)
    except InvalidFilter:
        return
    assert all(-(2**63) <= number < 2**63 for number in cursor)


@settings(max_examples=20)
@given(edges, edges)
def test_foreign_cursors_do_no_harm(created_at: int, idkey: int) -> None:
    statement = q.list_statement(Query(Filter(until=NOW), 10, Cursor(created_at, idkey)), "time", b"")
    assert statement
    name = "after_time" if created_at <= NOW else "until"
    assert f":{name}" in statement.sql


hex_ids = st.text("0123456789abcdef", min_size=64, max_size=64) | st.sampled_from(["0" * 64, "f" * 64, "7" + "f" * 63])


@given(hex_ids, hex_ids)
def test_keys_keep_the_order_of_ids(one: str, other: str) -> None:
    for key in (q.id_key(one), q.author_key(one)):
        assert -(2**63) <= key < 2**63
    if one[:16] < other[:16]:
        assert q.id_key(one) > q.id_key(other)
        assert q.author_key(one) < q.author_key(other)


def test_a_tag_key_needs_the_secret() -> None:
    keys = {
        q.tag_key(secret, name, value) for secret in (b"1", b"2") for name in ("t", "p") for value in ("x", "y", "")
    }
    assert len(keys) == 12
    assert all(-(2**63) <= key < 2**63 for key in keys)
