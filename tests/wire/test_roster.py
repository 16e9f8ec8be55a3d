"""Agents: `GET /agents` and `GET /agents/{id}`."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from anporia_wire import Event
from anporia_wire.views import Health, Roster
from tests.wire.samples import NOW, unsigned

A, B, C = (name.rjust(64, "0") for name in "abc")


def listed(*events: Event) -> Roster:
    roster = Roster()
    for event in events:
        roster.apply(event)
    return roster


def detail(*events: Event) -> dict[str, Any]:
    found = listed(*events).detail(A, Health(), NOW)
    assert found is not None
    return found


def test_rows() -> None:
    health = Health()
    health.apply(unsigned(11, agent="b", at=NOW - 60))
    roster = listed(
        unsigned(1, agent="c", at=NOW - 100),
        unsigned(0, '{"name":"old"}', agent="b", at=NOW - 100),
        unsigned(0, '{"name":"Ada"}', agent="b", at=NOW - 50),
        unsigned(4, "{}", agent="b", at=NOW - 200),
        unsigned(1, agent="a", at=NOW - 100),
        unsigned(11, agent="d"),
    )
    assert len(roster) == 3
    rows = roster.read(health, NOW)[0]
    assert [row["agent_id"] for row in rows] == [B, A, C]
    assert rows[0] == {
        "agent_id": B,
        "latest_profile": '{"name":"Ada"}',
        "event_count": 3,
        "first_seen": NOW - 200,
        "last_seen": NOW - 50,
        "is_healthy": True,
        "uptime_24h_pct": 1.04,
        "last_seen_at": NOW - 60,
        "name": "Ada",
    }
    assert rows[1] == {
        "agent_id": A,
        "latest_profile": None,
        "event_count": 1,
        "first_seen": NOW - 100,
        "last_seen": NOW - 100,
        "is_healthy": False,
        "uptime_24h_pct": 0.0,
        "last_seen_at": None,
        "name": None,
    }


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('{"name":"Ada"}', "Ada"),
        ('{"name":5}', 5),
        ('{"name":[1,{"x":null}]}', [1, {"x": None}]),
        ('{"name":null}', None),
        ("{}", None),
        ("null", None),
        ("[1]", None),
        ("5", None),
        ("", None),
        ("not JSON", None),
        ('{"name":NaN}', None),
        ('{"name":"\\ud800"}', None),
        ('{"name":' + "[" * 400 + "]" * 400 + "}", None),
        ('{"name":1' + "0" * 400 + "}", None),
    ],
    ids=lambda part: str(part)[:30],
)
def test_profiles_of_any_content(content: str, name: object) -> None:
    roster = listed(unsigned(0, content, agent="a"))
    row = roster.read(Health(), NOW)[0][0]
    assert (row["latest_profile"], row["name"]) == (content, name)
    found = roster.detail(A, Health(), NOW)
    assert found is not None and found["name"] == name
    assert found["profile"] is None or isinstance(found["profile"], dict)
    orjson.dumps([row, found])


def test_detail() -> None:
    found = detail(
        unsigned(0, '{"name":"Ada","languages":["en"]}', agent="a", at=NOW - 5),
        unsigned(4, '{"capabilities":[{"name":"x"}]}', [["cap", "y"]], agent="a", at=NOW - 7),
        unsigned(4, '{"capabilities":[{"name":"old"}]}', agent="a", at=NOW - 9),
    )
    assert found == {
        "agent_id": A,
        "event_count": 3,
        "first_seen": NOW - 9,
        "last_seen": NOW - 5,
        "name": "Ada",
        "profile": {"name": "Ada", "languages": ["en"]},
        "capabilities": [{"name": "x"}],
        "is_healthy": False,
        "uptime_24h_pct": 0.0,
        "last_seen_at": None,
    }


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"capabilities":5}', '{"capabilities":{"name":"x"}}', "null"])
def test_declarations_of_any_content(content: str) -> None:
    assert detail(unsigned(4, content, agent="a"))["capabilities"] == []


def test_unknown_agents_have_no_detail() -> None:
    assert listed(unsigned(1, agent="a")).detail(B, Health(), NOW) is None


def test_of_one_second_the_greatest_id_is_the_latest() -> None:
    first, second = unsigned(0, '{"name":"first"}', agent="a"), unsigned(0, '{"name":"second"}', agent="a")
    assert first.id < second.id
    assert detail(first, second)["name"] == detail(second, first)["name"] == "second"
    older, newer = (unsigned(4, f'{{"capabilities":[{number}]}}', agent="a") for number in (1, 2))
    assert detail(older, newer)["capabilities"] == detail(newer, older)["capabilities"] == [2]


def test_by_name() -> None:
    names: dict[str, object] = {"a": "Ada Lovelace", "b": "ÉVA", "c": 5, "d": ["ada"], "e": None}
    roster = listed(*(unsigned(0, json.dumps({"name": name}), agent=agent) for agent, name in names.items()))

    def found(name: str) -> list[object]:
        return [row["name"] for row in roster.read(Health(), NOW, name)[0]]

    assert found("aDA") == ["Ada Lovelace"]
    assert found("éva") == ["ÉVA"]
    assert found("5") == found("none") == []
    assert len(found("")) == 5
