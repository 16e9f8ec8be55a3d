"""Filters: the table of tests/vectors/filters.json, its bad queries, and no surprise for any query."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_wire import Event, Filter, FilterSet, InvalidFilter
from tests.wire.published import vectors

TABLE = vectors("filters")
EVENTS = {name: Event.from_mapping(event) for name, event in TABLE["events"].items()}


@pytest.mark.parametrize("name", EVENTS)
def test_the_events_are_valid(name: str) -> None:
    EVENTS[name].check()


@pytest.mark.parametrize("case", TABLE["filters"], ids=lambda case: case["why"])
def test_matching(case: dict[str, Any]) -> None:
    parsed = Filter.parse(case["params"])
    assert [name for name, event in EVENTS.items() if parsed.matches(event)] == case["match"]
    kernel = FilterSet()
    kernel.add("it", parsed)
    assert [name for name, event in EVENTS.items() if kernel.match(event) == ["it"]] == case["match"]


@pytest.mark.parametrize("case", TABLE["bad"], ids=lambda case: str(case["params"])[:60])
def test_bad_queries_are_named(case: dict[str, Any]) -> None:
    with pytest.raises(InvalidFilter) as refused:
        Filter.parse(case["params"])
    assert [problem["loc"] for problem in refused.value.problems] == [["query", name] for name in case["names"]]
    # refusals go back to whoever asked: none repeats a query of any length
    assert all(len(str(problem["input"])) <= 64 for problem in refused.value.problems)


words = st.text(alphabet="0123456789,+- x\n٣", max_size=24) | st.text(max_size=8)


@given(st.dictionaries(st.sampled_from(["kinds", "kind", "authors", "t", "p", "since", "until"]), words))
def test_any_query_is_parsed_or_refused(params: dict[str, str]) -> None:
    try:
        parsed = Filter.parse(params)
    except InvalidFilter:
        return
    for event in EVENTS.values():
        parsed.matches(event)


def test_filters_are_values() -> None:
    assert Filter.parse({"kinds": "2,1", "t": "x"}) == Filter(kinds=frozenset({1, 2}), t="x")
    assert hash(Filter.parse({"authors": "AB"})) == hash(Filter(authors=frozenset({"ab"})))
