"""Capabilities: `GET /capabilities`."""

from __future__ import annotations

from anporia_wire import Event
from anporia_wire.views import Capabilities
from tests.wire.samples import NOW, unsigned


def declared(agent: str, *names: str, at: int = NOW) -> Event:
    return unsigned(
        4, '{"capabilities":[{"name":"in content only"}]}', [["cap", name] for name in names], agent=agent, at=at
    )


def test_capabilities() -> None:
    view = Capabilities()
    assert view.read() == []
    for event in (
        declared("a", "x", "y", at=NOW - 9),
        declared("b", "y", "y", "z", at=NOW - 5),
        declared("c", "w", at=NOW - 5),
        unsigned(1, tags=[["cap", "not kind 4"]]),
        unsigned(4, tags=[["cap"], [], ["Cap", "x"]], agent="d"),
    ):
        view.apply(event)
    assert view.read() == [
        {"capability": "y", "providers": 2, "last_declared": NOW - 5},
        {"capability": "w", "providers": 1, "last_declared": NOW - 5},
        {"capability": "z", "providers": 1, "last_declared": NOW - 5},
        {"capability": "x", "providers": 1, "last_declared": NOW - 9},
    ]


def test_the_latest_declaration_replaces_the_older_whole() -> None:
    view = Capabilities()
    view.apply(declared("a", "old", "both", at=NOW))
    view.apply(declared("a", "both", "new", at=NOW + 1))
    view.apply(declared("a", "late", at=NOW - 1))
    assert [row["capability"] for row in view.read()] == ["both", "new"]
    view.apply(declared("a", at=NOW + 2))
    assert view.read() == []


def test_of_one_second_the_greatest_id_is_the_latest() -> None:
    first, second = declared("a", "first"), declared("a", "second")
    assert first.id < second.id
    for order in ([first, second], [second, first]):
        view = Capabilities()
        for event in order:
            view.apply(event)
        assert [row["capability"] for row in view.read()] == ["second"]
