"""A relay that serves the hostile corpus on every route that the tools use, on real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from anporia_wire import Event, Filter
from tests.client.faults.liar import Asked, Liar, answer, frame, stream_head
from tests.mcp_server.hostile.corpus import CANARY, HOSTILE, Corpus

__all__ = ["FalseRelay"]

_TEXTS = list(HOSTILE.values())
_FEATURES = ["references", "count", "resume"]


class FalseRelay(Liar):
    """The relay. `features`: what it says it can; `place`: the place its streams give for each event."""

    def __init__(self, corpus: Corpus, features: list[str] | None = None, place: str = f"{CANARY}.says.so") -> None:
        super().__init__(self._serve_route)
        self.corpus = corpus
        self.features = _FEATURES if features is None else features
        self.place = place
        self.posted: list[Event] = []

    def _serve_route(self, asked: Asked) -> Iterator[bytes]:
        where = urlsplit(asked.path)
        parts, given = where.path.strip("/").split("/"), {k: v[0] for k, v in parse_qs(where.query).items()}
        if asked.method == "POST":
            self.posted.append(asked.event)
            return answer({"id": asked.event.id, "accepted": True, "detail": CANARY, CANARY: CANARY})
        if parts == [""]:
            about = {"name": _TEXTS[0], "version": CANARY, "features": [*self.features, CANARY, 7]}
            return answer(about if self.features else {"detail": CANARY}, "200 OK" if self.features else "404 No")
        if parts[0] == "stream":
            return self._streamed(given)
        if parts == ["events"]:
            return answer([*self.corpus.forged, *map(Event.to_dict, self._matching(given)), 7, None, CANARY])
        if parts[0] == "events" and len(parts) == 2 and parts[1] in self.corpus.genuine:
            return answer(self.corpus.genuine[parts[1]].to_dict())
        view = self._view(unquote(where.path))
        if view is not None:
            return answer(view)
        return answer({"detail": "\n".join(_TEXTS)}, "404 Not Found", {"anporia-code": f"{CANARY}\x1b[31m"})

    def _matching(self, given: dict[str, str]) -> list[Event]:
        filter_ = Filter(
            kinds=frozenset(map(int, given["kinds"].split(","))) if "kinds" in given else None,
            authors=frozenset(given["authors"].split(",")) if "authors" in given else None,
            t=given.get("t"),
            p=given.get("p"),
            since=int(given["since"]) if "since" in given else None,
            until=int(given["until"]) if "until" in given else None,
        )
        refers = given.get("e")
        found = [
            event for event in self.corpus.genuine.values()
            if filter_.matches(event) and (refers is None or refers in event.tag_values("e"))
        ]  # fmt: skip
        ordered = sorted(found, key=lambda event: (-event.created_at, event.id))
        return ordered[: int(given.get("limit", 100))]

    def _streamed(self, given: dict[str, str]) -> Iterator[bytes]:
        yield stream_head()
        yield f"event: {CANARY}\nretry: 1\n: {CANARY}\n\n".encode()
        for forged in self.corpus.forged:
            yield frame(forged, self.place)
        yield f"data: {CANARY}\n\ndata: {'[' * 5_000}\n\n".encode()
        for event in self._matching(given)[:20]:
            yield frame(event, self.place)

    def _view(self, path: str) -> Any:
        if path == "/rooms":
            rows = [{"room": text, "messages": 3, "last_at": 4, CANARY: CANARY} for text in [*_TEXTS, CANARY * 900]]
            odd = [{"room": 7}, {"room": "a", "messages": True, "last_at": CANARY}, None, {"room": "\u3164" * 30,
                   "messages": 2**64 - 1, "last_at": -5}, {"room": "plain", "messages": 1, "last_at": 5}]  # fmt: skip
            return {"rooms": rows + odd, "detail": CANARY}
        if path == "/stats":
            return {"total_events": CANARY, "unique_agents": [CANARY], "by_kind": {CANARY: CANARY}, CANARY: CANARY}
        if path == "/events/count":
            return {"count": CANARY, "exact": CANARY}
        if path.endswith("/credit"):
            return {"agent_id": CANARY, "balance": CANARY, "locked": 1, "available": [CANARY], CANARY: CANARY}
        if path.startswith("/trust/"):
            return {"weighted_score": CANARY, "score_in": [CANARY], "voter_count": 2, "votes": [{"reason": CANARY}]}
        if path == f"/task/{self.corpus.task.id}":
            return self._task()
        return None

    def _task(self) -> Any:
        names = {51: "accepts", 52: "results", 53: "verifies", 54: "payments", 55: "cancels"}
        events = self.corpus.genuine.values()
        thread: dict[str, Any] = {
            name: [e.to_dict() for e in events if e.kind == kind] + self.corpus.forged for kind, name in names.items()
        }
        told = {"status": CANARY, "winning_accept_id": CANARY, "deadline": CANARY, CANARY: json.dumps(CANARY)}
        return {"request": self.corpus.task.to_dict(), **thread, **told}
