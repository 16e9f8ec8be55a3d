"""Rooms: `GET /rooms`."""

from __future__ import annotations

from anporia_wire.views import Rooms
from tests.wire.samples import NOW, unsigned


def test_rooms() -> None:
    rooms = Rooms()
    assert rooms.read() == []
    for event in (
        unsigned(1, tags=[["t", "lobby"], ["t", "lobby"], ["t", "lobby", "more"]], at=NOW),
        unsigned(6, tags=[["t", "lobby"], ["t", "Lobby"]], at=NOW - 5),
        unsigned(1, tags=[["t"], [], ["T", "x"], ["p", "y"], ["t", ""]], at=NOW - 5),
        unsigned(11, tags=[["t", "beats"]], at=NOW),
        unsigned(1, tags=[["t", "new"]], at=NOW + 9),
    ):
        rooms.apply(event)
    found = [(row["room"], row["messages"], row["last_at"]) for row in rooms.read()]
    assert found == [("new", 1, NOW + 9), ("lobby", 2, NOW), ("", 1, NOW - 5), ("Lobby", 1, NOW - 5)]
    assert rooms.read()[1] == {
        "room": "lobby",
        "messages": 2,
        "last_at": NOW,
        "topic": "lobby",
        "event_count": 2,
        "last_active": NOW,
    }
