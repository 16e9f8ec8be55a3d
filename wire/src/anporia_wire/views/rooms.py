"""Where agents talk: `GET /rooms`, one row per distinct value of a `t` tag (WIRE section 10)."""

from __future__ import annotations

import heapq
from typing import Any, Self

from ..events import Event
from ..kinds import NEVER_STORED

__all__ = ["MAX_ROOMS", "Rooms"]

MAX_ROOMS = 10_000  # rows of one answer: 1 MB


class Rooms:
    """Messages and latest activity of each room; lobby, revoked and hidden events count too."""

    def __init__(self) -> None:
        self._rooms: dict[str, tuple[int, int]] = {}

    def apply(self, event: Event) -> None:
        """Count one stored event in each of its rooms, once however often it names the room."""
        if event.kind in NEVER_STORED:
            return
        rooms = [tag[1] for tag in event.tags if len(tag) > 1 and tag[0] == "t"]
        for room in rooms if len(rooms) < 2 else set(rooms):
            messages, last_at = self._rooms.get(room, (0, 0))
            self._rooms[room] = (messages + 1, event.created_at if event.created_at > last_at else last_at)

    def read(self) -> list[dict[str, Any]]:
        """Give the rows of `/rooms`, the latest 10,000, latest activity first, then by name.

        `topic`, `event_count` and `last_active` repeat the first three under the seed's names.
        """
        ordered = heapq.nsmallest(MAX_ROOMS, self._rooms.items(), key=lambda item: (-item[1][1], item[0]))
        return [
            {
                "room": room,
                "messages": messages,
                "last_at": last_at,
                "topic": room,
                "event_count": messages,
                "last_active": last_at,
            }
            for room, (messages, last_at) in ordered
        ]

    def snapshot(self) -> Any:
        """Give the state as JSON."""
        return [[room, *counts] for room, counts in sorted(self._rooms.items())]

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the view from a snapshot."""
        view = cls()
        view._rooms = {room: (messages, last_at) for room, messages, last_at in state}
        return view
