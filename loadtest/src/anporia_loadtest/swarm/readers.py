"""Readers: who asks for what others said, page by page, and for the views that follow from it."""

from __future__ import annotations

from typing import Any

import orjson
from locust import between, task

from ..target import next_page
from .recording import RECORDER, Said
from .visitor import Visitor

__all__ = ["Readers"]

PAGES = 4

_VIEWS = (
    "/agents?limit=200",
    "/rooms",
    "/stats",
    "/capabilities",
    "/trust_graph",
    "/welcome",
    "/health",
    "/events/count",
)
_OF_ONE = ("/agents/{}", "/trust/{}", "/agents/{}/credit", "/history/{}", "/neighbors/{}", "/home?agent_id={}")


class Readers(Visitor):
    """Ask for events by author, kind, topic and id, follow the pages, and look at the views."""

    weight = 4
    wait_time = between(0.05, 0.25)

    @task(4)
    def by_id(self) -> None:
        """What was acknowledged is there, unchanged."""
        if said := self._lately():
            name = "GET /events/{id}"
            answer = self.ask("GET", f"/events/{said.id}", name, "read")
            if answer is not None:
                if answer.body != said.raw and self.parsed(answer, name) != orjson.loads(said.raw):
                    self.wrong(name, "another event than was published")
                self.finished()

    @task(3)
    def by_author(self) -> None:
        """An author's pages, all of them, hold what was acknowledged."""
        if said := self._lately():
            name = "GET /events?authors="
            events, whole = self._pages(f"authors={said.agent_id}&limit=20", name)
            if any(event["agent_id"] != said.agent_id for event in events):
                self.wrong(name, "an event of another author")
            if whole and said.id not in {event["id"] for event in events}:
                self.wrong(name, "an acknowledged event is on no page")
            self.finished()

    @task(3)
    def by_topic(self) -> None:
        """The newest of a topic."""
        said = self._lately()
        if said and said.topic:
            name = "GET /events?t="
            events, _ = self._pages(f"t={said.topic}&limit=50", name)
            if any(["t", said.topic] not in event["tags"] for event in events):
                self.wrong(name, "an event of another topic")
            self.finished()

    @task(2)
    def by_kind(self) -> None:
        """The newest of a kind, and of several."""
        kinds = self.choose.choice(((1,), (2,), (1, 2), (0, 4), (50, 51, 52), (6,)))
        name = "GET /events?kinds="
        events, _ = self._pages(f"kinds={','.join(map(str, kinds))}&limit=50", name)
        if any(event["kind"] not in kinds for event in events):
            self.wrong(name, "an event of another kind")
        self.finished()

    @task(1)
    def newest(self) -> None:
        """The newest of all."""
        self._pages("limit=100", "GET /events")
        self.finished()

    @task(1)
    def search(self) -> None:
        """Words, where the relay has an index."""
        if "search" in RECORDER.features:
            self._pages("q=kettle+harbour&limit=20", "GET /events?q=")
        self.finished()

    @task(3)
    def view(self) -> None:
        """What the relay works out."""
        path = self.choose.choice(_VIEWS)
        if answer := self.ask("GET", path, f"GET {path.partition('?')[0]}", "read"):
            self.parsed(answer, path)
        self.finished()

    @task(3)
    def view_of_one(self) -> None:
        """What it works out about an agent."""
        if said := self._lately():
            path = self.choose.choice(_OF_ONE)
            if answer := self.ask("GET", path.format(said.agent_id), f"GET {path.replace('{}', '{id}')}", "read"):
                self.parsed(answer, path)
            self.finished()

    def _lately(self) -> Said | None:
        return self.choose.choice(RECORDER.recent) if RECORDER.recent else None

    def _pages(self, query: str, name: str) -> tuple[list[dict[str, Any]], bool]:
        """Read up to `PAGES` pages; says also whether that was all. Order and repetition are judged here."""
        events: list[dict[str, Any]] = []
        ranked = query.startswith("q=")
        for _ in range(PAGES):
            answer = self.ask("GET", f"/events?{query}", name, "read")
            page = None if answer is None else self.parsed(answer, name)
            if answer is None or not isinstance(page, list):
                return events, False
            events += page
            query = next_page(answer.headers.get("link", ""))
            if not query:
                break
        places = [(-event["created_at"], event["id"]) for event in events]
        if not ranked and places != sorted(places):
            self.wrong(name, "not in the order of lists")
        if len(set(places)) != len(places):
            self.wrong(name, "an event on two pages")
        return events, not query
