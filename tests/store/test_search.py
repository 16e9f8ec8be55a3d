"""Search: words of any script, by time or rank, in pages; an index that is only ever behind, never wrong."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_store import Counted, Query, RankCursor, SqliteStore, StoreDamaged, index, match_expression, search, words
from anporia_wire import Event, Filter, InvalidFilter
from tests.store.samples import AGENTS, event
from tests.wire.samples import NOW


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "log.db", search=True)
    yield opened
    await opened.close()


async def indexed(store: SqliteStore, *events: Event) -> None:
    await store.append(events)
    assert store.index
    while store.index.seq < store.last_seq:
        await store.index.step(store)


async def found(store: SqliteStore, question: str, filter_: Filter | None = None, *, hide: int = 0) -> list[str]:
    page = await store.query(Query(filter_ or Filter(), 1_000, hide=hide, match=match_expression(question)))
    assert page.next is None
    return [str(json.loads(raw)["content"]) for raw in page.rows]


TEXTS = [
    "The quick brown fox jumps over the lazy dog",
    "Agents publish signed events; an agent verifies them",
    "東京都に住んでいます。猫が好きです。",
    "京都の天気は晴れ",
    "ＡＮＰ２ リレー サーバー",
    "Café naïve résumé",
    "한국어 문장입니다",
    "state-of-the-art, version 0.3.0!",
    "子猫",
]
QUESTIONS: dict[str, list[int]] = {
    "fox": [0],
    "FOX quick": [0],
    "fox cat": [],
    "jumping": [0],  # the stem
    "agent": [1],
    "agents event": [1],
    '"brown fox"': [0],
    '"fox brown"': [],
    "quick -lazy": [],
    "quick -cat": [0],
    "qui*": [0],
    "qui": [],
    "東京": [2],
    "京都": [2, 3],  # as characters: 東京都 holds both
    "東京都": [2],
    "猫": [2, 8],
    "猫が好き": [2],
    "天気": [3],
    "天気 晴れ": [3],
    "京都 -東京": [3],
    "サーバー": [4],
    "リレー": [4],
    "ANP2": [4],
    "anp2 リレー": [4],
    "cafe": [5],
    "NAIVE": [5],
    "문장": [6],
    "0.3.0": [7],
    "art": [7],
    "nothing": [],
    "AND": [],
    'fox OR "': [],
}


async def test_words_of_any_script(store: SqliteStore) -> None:
    await indexed(store, *(event(1, text, at=NOW + n) for n, text in enumerate(TEXTS)))
    for question, places in QUESTIONS.items():
        assert await found(store, question) == [TEXTS[n] for n in reversed(places)], question


@pytest.mark.parametrize("question", ["", " ", "!", '""', "-fox", "- -", "*", '"', "a" * 257, "a " * 17, "a b -c " * 6])
def test_questions_that_ask_nothing_or_too_much(question: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        match_expression(question)
    assert refused.value.problems[0]["loc"] == ["query", "q"]


async def test_no_question_breaks_the_index(store: SqliteStore) -> None:
    await indexed(store, event(1, "fox"))
    draw = random.Random(1)
    signs = [
        '"',
        "*",
        "-",
        "NOT",
        "NEAR(",
        ")",
        "^",
        ":",
        "{",
        "}",
        "+",
        "猫",
        "fox",
        "'",
        ";",
        "\\",
        "\0",
        "body",
        " ",
    ]
    for _ in range(300):
        question = "".join(draw.choices(signs, k=draw.randint(1, 8)))
        try:
            match_expression(question)
        except InvalidFilter:
            continue
        await found(store, question)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_every_text_has_words_and_every_question_an_answer_or_a_refusal(text: str) -> None:
    words.indexed(event(1, text))
    try:
        assert match_expression(text)
    except InvalidFilter:
        pass


async def test_texts_in_json_are_found_but_not_their_keys(store: SqliteStore) -> None:
    profile = json.dumps({"name": "Weather", "skills": [{"about": ["forecast", {"x": "rain"}]}], "n": 5})
    await indexed(store, event(0, profile), event(1, '{"broken', at=NOW + 1))
    for question in ("weather", "forecast rain"):
        assert await found(store, question) == [profile]
    assert await found(store, "skills") == await found(store, "about") == []
    assert await found(store, "broken") == ['{"broken']


async def test_only_what_everybody_may_read_is_indexed(store: SqliteStore) -> None:
    await indexed(store, *(event(kind, f"secret {kind}") for kind in range(60)))
    kinds = sorted(int(text.split()[1]) for text in await found(store, "secret"))
    assert kinds == sorted(words.SEARCHED)
    assert 3 not in kinds


async def test_filters_and_marks_apply(store: SqliteStore) -> None:
    a, b = AGENTS[:2]
    log = [
        event(1, "fox one", [("t", "x")], agent=a, at=NOW),
        event(2, "fox two", [("t", "y"), ("p", "q")], agent=b, at=NOW + 1),
        event(1, "fox lobby", [("t", "lobby")], agent=b, at=NOW + 2),
    ]
    gone = event(1, "fox gone", agent=a, at=NOW + 3)
    await indexed(store, *log, gone, event(9, "", [("e", gone.id)], agent=a))
    assert await found(store, "fox") == ["fox gone", "fox lobby", "fox two", "fox one"]
    assert await found(store, "fox", hide=1 | 4) == ["fox two", "fox one"]
    for filter_, expected in [
        (Filter(kinds=frozenset({2})), ["fox two"]),
        (Filter(authors=frozenset({a})), ["fox gone", "fox one"]),
        (Filter(t="x"), ["fox one"]),
        (Filter(p="q"), ["fox two"]),
        (Filter(since=NOW + 1, until=NOW + 2), ["fox lobby", "fox two"]),
        (Filter(until=-5), []),
        (Filter(until=2**60), ["fox gone", "fox lobby", "fox two", "fox one"]),
    ]:
        assert await found(store, "fox", filter_) == expected
        count = await store.count(Query(filter_, hide=0, match=match_expression("fox")))
        assert count == Counted(len(expected), exact=True)


async def test_pages_by_time_give_each_event_once_in_the_order_of_all_lists(store: SqliteStore) -> None:
    draw = random.Random(3)
    log = [event(1, f"fox {n}", at=draw.choice([NOW, NOW + 1, NOW + 2, 2**40, 2**41, 5])) for n in range(300)]
    draw.shuffle(log)
    await indexed(store, *log)
    expected = [e.to_json() for e in sorted(log, key=lambda e: (-e.created_at, e.id))]
    for limit in (1, 7, 1_000):
        rows, after = [], None
        while True:
            page = await store.query(Query(Filter(), limit, after, hide=0, match=match_expression("fox")))
            rows += page.rows
            if page.next is None:
                break
            after = page.next
        assert rows == expected


async def test_pages_by_rank_put_the_best_first_and_do_not_move(store: SqliteStore) -> None:
    log = [event(1, "fox " + "filler " * (n % 40), at=NOW + n) for n in range(100)]
    best = event(1, "fox fox fox", at=NOW - 5)
    await indexed(store, *log, best)
    query = Query(Filter(), 10, RankCursor(0, store.last_seq), hide=0, match=match_expression("fox"))
    first = await store.query(query)
    assert first.rows[0] == best.to_json() and len(first.rows) == 10
    await indexed(store, *(event(1, "fox fox fox fox", at=NOW + 500 + n) for n in range(5)))
    rows, after = list(first.rows), first.next
    while after is not None:
        page = await store.query(Query(Filter(), 10, after, hide=0, match=match_expression("fox")))
        rows, after = rows + page.rows, page.next
    assert sorted(rows) == sorted(e.to_json() for e in [*log, best])


async def test_the_index_follows_by_itself(store: SqliteStore) -> None:
    assert store.index
    task = asyncio.create_task(store.index.follow(store))
    for n in range(3):
        await store.append([event(1, f"fox {n}")])
        store.index.notify()
        for _ in range(500):
            if len(await found(store, "fox")) == n + 1:
                break
            await asyncio.sleep(0.01)
    assert len(await found(store, "fox")) == 3
    task.cancel()


async def test_the_index_survives_and_is_made_anew_when_it_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    index = path.with_name("log.db.search")

    async def reopened() -> int:
        store = await SqliteStore.open(path, search=True)
        assert store.index
        seq = store.index.seq
        while store.index.seq < store.last_seq:
            await store.index.step(store)
        assert len(await found(store, "fox")) == store.last_seq
        await store.close()
        return seq

    store = await SqliteStore.open(path, search=True)
    await store.append([event(1, f"fox {n}") for n in range(5)])
    await store.close()
    assert await reopened() == 0
    assert await reopened() == 5
    index.unlink()
    assert await reopened() == 0
    index.write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    assert await reopened() == 0
    with sqlite3.connect(index) as plain:
        plain.execute("UPDATE state SET event = ?", ("0" * 64,))  # the log is a backup that went on otherwise
    plain.close()
    assert await reopened() == 0
    with sqlite3.connect(index) as plain:
        plain.execute("UPDATE state SET seq = 50")
    plain.close()
    assert await reopened() == 0
    for column in ("format", "database"):
        with sqlite3.connect(index) as plain:
            plain.execute(f"UPDATE state SET {column} = 'other'")
        plain.close()
        assert await reopened() == 0
    assert await reopened() == 5


async def test_a_log_opened_without_search_leaves_the_index_alone(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "log.db")
    assert store.index is None
    await store.close()
    assert not list(tmp_path.glob("*.search*"))


async def test_ranking_looks_at_the_newest_matches_only(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_RANKED", 3)
    await indexed(store, *(event(1, f"fox {n}", at=NOW + n) for n in range(10)))
    page = await store.query(Query(Filter(), 10, RankCursor(0, 10), hide=0, match=match_expression("fox")))
    assert sorted(json.loads(raw)["created_at"] for raw in page.rows) == [NOW + 7, NOW + 8, NOW + 9]


async def test_a_damaged_index_is_given_up_and_made_anew_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = await SqliteStore.open(path, search=True)
    await indexed(store, *(event(1, f"fox {n} " + "filler " * 200) for n in range(300)))
    await store.close()
    file = path.with_name("log.db.search")
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 4 : -len(whole) // 4] = bytes(len(whole[len(whole) // 4 : -len(whole) // 4]))
    file.write_bytes(whole)
    store = await SqliteStore.open(path, search=True)
    assert store.index
    with pytest.raises(StoreDamaged):
        await found(store, "fox")
    await store.index.give_up()
    assert store.index.broken
    assert len((await store.query(Query(Filter()))).rows) == 100  # the log is as it was
    await store.close()
    store = await SqliteStore.open(path, search=True)
    await indexed(store)
    assert len(await found(store, "fox")) == 300
    await store.close()


async def test_an_index_that_cannot_be_opened_keeps_nobody_from_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    store = await SqliteStore.open(path, search=True)
    await indexed(store, event(1, "fox"))
    await store.close()

    async def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(index, "_fitting", fail)
        store = await SqliteStore.open(path, search=True)
        assert store.index is None
        assert len((await store.query(Query(Filter()))).rows) == 1
        await store.close()
    store = await SqliteStore.open(path, search=True)
    assert store.index and store.index.seq == 1  # nothing was thrown away
    await store.close()


async def test_ranked_pages_hold_what_was_indexed_when_they_began(store: SqliteStore) -> None:
    await store.append([event(1, f"fox {n}", at=NOW + n) for n in range(400)])
    assert store.index
    await store.index.step(store)
    began = store.index.seq
    assert 0 < began < 400
    rows, after = [], RankCursor(0, began)
    while True:
        page = await store.query(Query(Filter(), 50, after, hide=0, match=match_expression("fox")))
        rows += page.rows
        if store.index.seq < store.last_seq:
            await store.index.step(store)
        if page.next is None:
            break
        assert isinstance(page.next, RankCursor)
        after = page.next
    assert len(rows) == len(set(rows)) == began
