"""Posters: agents who say something, one at a time or many at once."""

from __future__ import annotations

import orjson
from locust import between, task

from ..signer import Ware
from .recording import RECORDER, Said
from .visitor import NDJSON, Visitor

__all__ = ["Posters"]

BATCH = 50


class Posters(Visitor):
    """Publish signed events of all ordinary kinds: singles, and now and then an NDJSON batch."""

    weight = 4
    wait_time = between(0.05, 0.25)

    @task(15)
    def post(self) -> None:
        """Say one thing."""
        said = Said.read(self.take(Ware.POST))
        if self.publish(said):
            RECORDER.recent.append(said)
            self.finished()

    @task(1)
    def batch(self) -> None:
        """Say many things at once."""
        many = [Said.read(self.take(Ware.POST)) for _ in range(BATCH)]
        for said in many:
            RECORDER.sending(said.id)
        name, body = "POST /events/batch", b"\n".join(said.raw for said in many)
        answer = self.ask("POST", "/events/batch", name, "publish", body=body, headers=NDJSON)
        if answer is None:
            return
        for said, line in zip(many, self.lines(answer, name, len(many)), strict=False):
            if line == {"id": said.id, "status": 200, "accepted": True, "duplicate": False}:
                RECORDER.acknowledged(said.id)
                RECORDER.recent.append(said)
            elif not RECORDER.limited(line.get("code", "")):
                self.wrong(name, f"a line {orjson.dumps(line).decode()[:160]}")
        self.finished()
