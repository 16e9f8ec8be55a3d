"""Both FilterSets answer as `Filter.matches` does, whatever was added, replaced and discarded before."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anporia_cython_ext as compiled
from anporia_wire import _kernels_py as pure
from anporia_wire.events import Event
from anporia_wire.filters import Filter

both = pytest.mark.parametrize("kernel", [pytest.param(pure, id="python"), pytest.param(compiled, id="cython")])

# Few values of each kind, so that matches, replaced keys and shared buckets are common.
AGENTS = ["a" * 64, "b" * 64, "c" * 64]
TOPICS = ["x", "X", ""]
agents, topics, kinds, times = st.sampled_from(AGENTS), st.sampled_from(TOPICS), st.integers(0, 3), st.integers(-1, 3)
keys = st.integers(0, 5)

filters = st.builds(
    Filter,
    kinds=st.none() | st.frozensets(kinds, max_size=3),
    authors=st.none() | st.frozensets(agents, max_size=3),
    t=st.none() | topics,
    p=st.none() | agents,
    since=st.none() | times,
    until=st.none() | times,
)
# `tags` values that count, and ones that do not: no value, another name, further members
tags = st.one_of(
    st.tuples(st.just("t"), topics),
    st.tuples(st.just("p"), agents),
    st.tuples(st.sampled_from(["t", "p", "T", ""]), topics | agents, topics),
    st.tuples(st.sampled_from(["t", "p", "x"])),
    st.just(()),
)
events = st.builds(
    Event,
    id=st.just("0" * 64),
    agent_id=agents,
    created_at=times,
    kind=kinds,
    tags=st.lists(tags, max_size=5).map(tuple),
    content=st.just(""),
    sig=st.just("0" * 128),
)
steps = st.one_of(
    st.tuples(st.just("add"), keys, filters), st.tuples(st.just("discard"), keys), st.tuples(st.just("match"), events)
)


def an_event(
    agent_id: str = AGENTS[0], kind: int = 1, created_at: int = 1, tags: tuple[tuple[str, ...], ...] = ()
) -> Event:
    return Event("0" * 64, agent_id, created_at, kind, tags, "", "0" * 128)


@given(st.lists(steps, max_size=40), events)
def test_all_three_agree(history: list[tuple[str, int, Filter]], last: Event) -> None:
    model: dict[int, Filter] = {}
    looped, indexed = pure.FilterSet(), compiled.FilterSet()
    for step in [*history, ("match", last)]:
        match step:
            case ("add", int(key), Filter() as filter_):
                model[key] = filter_
                looped.add(key, filter_)
                indexed.add(key, filter_)
            case ("discard", int(key)):
                model.pop(key, None)
                looped.discard(key)
                indexed.discard(key)
            case ("match", Event() as event):
                expected = [key for key in sorted(model) if model[key].matches(event)]
                assert sorted(looped.match(event)) == expected  # type: ignore[type-var]
                assert sorted(indexed.match(event)) == expected  # type: ignore[type-var]
            case other:
                raise AssertionError(other)
        assert len(looped) == len(indexed) == len(model)


@given(st.lists(filters, min_size=1, max_size=20), events)
def test_each_key_once_and_none_after_discard(given_: list[Filter], event: Event) -> None:
    for kernel in (pure, compiled):
        set_ = kernel.FilterSet()
        for key, filter_ in enumerate(given_):
            set_.add(key, filter_)
        found = set_.match(event)
        assert len(found) == len(set(found))
        for key in found:
            set_.discard(key)
        assert set_.match(event) == []
        assert len(set_) == len(given_) - len(found)


@both
def test_empty(kernel: ModuleType) -> None:
    set_ = kernel.FilterSet()
    assert len(set_) == 0
    assert set_.match(an_event()) == []
    set_.discard("unknown")


@both
@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        (Filter(), True),
        (Filter(kinds=frozenset()), False),
        (Filter(authors=frozenset()), False),
        (Filter(authors=frozenset(AGENTS)), True),
        (Filter(authors=frozenset(AGENTS), kinds=frozenset({0, 1})), True),
        (Filter(authors=frozenset(AGENTS[1:])), False),
        (Filter(t="x", p=AGENTS[2]), True),
        (Filter(t="X"), False),
        (Filter(t="alone"), False),
        (Filter(since=1, until=1), True),
        (Filter(since=2), False),
        (Filter(until=0), False),
        (Filter(since=-(2**63), until=2**63 - 1), True),  # the bounds Filter.parse takes
        (Filter(kinds=frozenset({2**53 - 1})), False),  # the largest kind
    ],
)
def test_conditions(kernel: ModuleType, filter_: Filter, expected: bool) -> None:
    event = an_event(tags=(("t",), ("t", "x"), ("t", "x"), ("p", AGENTS[2], "alone"), ("e", "alone")))
    set_ = kernel.FilterSet()
    set_.add("key", filter_)
    assert set_.match(event) == (["key"] if expected else [])
    assert filter_.matches(event) is expected


@both
def test_add_replaces(kernel: ModuleType) -> None:
    set_ = kernel.FilterSet()
    set_.add("key", Filter(authors=frozenset(AGENTS)))
    set_.add("key", Filter(kinds=frozenset({7})))
    assert len(set_) == 1
    assert set_.match(an_event(kind=1)) == []
    assert set_.match(an_event(kind=7)) == ["key"]


@both
def test_a_failed_add_changes_nothing(kernel: ModuleType) -> None:
    set_ = kernel.FilterSet()
    set_.add("key", Filter())
    with pytest.raises(TypeError):
        set_.add([], Filter())
    assert len(set_) == 1
    assert set_.match(an_event()) == ["key"]


@both
def test_keys_are_let_go(kernel: ModuleType) -> None:
    class Subscription:
        filters: object = None

    set_ = kernel.FilterSet()
    discarded, replaced, cyclic = Subscription(), Subscription(), Subscription()
    seen = [weakref.ref(each) for each in (discarded, replaced, cyclic)]
    set_.add(discarded, Filter(t="x"))
    set_.discard(discarded)
    set_.add(replaced, Filter(t="x"))
    set_.add(replaced, Filter(p="x"))
    set_.add(cyclic, Filter())
    cyclic.filters = set_
    del discarded, replaced, cyclic, set_
    gc.collect()
    assert [ref() for ref in seen] == [None, None, None]


@both
def test_no_bucket_outlives_its_filters(kernel: ModuleType) -> None:
    set_ = kernel.FilterSet()

    def one_round(number: int) -> None:
        for key in range(1_000):
            value = f"{number} {key}"
            set_.add(4 * key, Filter(authors=frozenset({value, value + "'"})))
            set_.add(4 * key + 1, Filter(t=value))
            set_.add(4 * key + 2, Filter(p=value))
            set_.add(4 * key + 3, Filter(kinds=frozenset({number * 1_000 + key})))
        for key in range(4_000):
            set_.discard(key)

    one_round(0)  # the indexes themselves keep the size of their fullest time
    tracemalloc.start()
    try:
        for number in range(1, 6):
            one_round(number)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Five rounds have 25,000 buckets; at 56 bytes, the least list there is, left-overs would be 1.4 MB. The
    # tables of the indexes may be laid out anew meanwhile: at most 0.1 MB each, by CPython's growth rule.
    assert kept < 700_000
    assert len(set_) == 0
