"""Mischief: clients that misbehave, each in a way for which the protocol has an answer."""

from __future__ import annotations

import time
from collections.abc import Callable

import orjson
from locust import between, task

from ..deeds import FORGERIES, Deed, Flood
from ..floods import Shot, judge_flood
from ..frames import BadStream, StreamReader
from ..signer import Ware
from ..target import Answer
from .recording import RECORDER, Said
from .visitor import JSON, NDJSON, Visitor

__all__ = ["Mischief"]

MOST_RATE = 600  # a greater limit per agent is not flooded: it would be a load test of its own
_SLOW_S = 20.0  # the relay gives a header ten


class Mischief(Visitor):
    """Forge, repeat, flood, send nonsense and half requests, and expect the refusal that each has coming."""

    weight = 1
    wait_time = between(0.05, 0.3)

    def on_start(self) -> None:
        """Begin with one of each, so that even a short run shows all."""
        super().on_start()
        quick = [self.deed, self.flood_at_once, self.twice, self.half, self.deed]
        self._next: list[Callable[[], None]] = [*quick, self.flood]

    @task
    def misbehave(self) -> None:
        """One misdeed."""
        if not self._next:
            deeds = (self.deed, self.twice, self.half, self.flood_at_once, self.flood, self.slow)
            self._next = self.choose.choices(deeds, (70, 12, 10, 2, 2, 4))
        self._next.pop(0)()

    def deed(self) -> None:
        """Something wrong in one way."""
        deed = Deed.from_json(orjson.loads(self.take(Ware.DEED)))
        tally = RECORDER.seen.forgeries if deed.name in FORGERIES else RECORDER.seen.misdeeds
        before = tally.faults
        answer = self.ask(
            deed.method,
            deed.path,
            f"misdeed: {deed.name}",
            "refuse",
            body=b" " * deed.pad + deed.body,
            headers={"Content-Type": deed.type},
            status=deed.status,
            code=deed.code,
            tally=tally,
        )
        if answer is not None or tally.faults > before:
            tally.done += 1
        self.finished()

    def twice(self) -> None:
        """The same event three times: acknowledged each time, kept once."""
        said = Said.read(self.take(Ware.ONCE))
        name, tally = "duplicate", RECORDER.seen.misdeeds
        if not (
            self.publish(said, "POST /events (again)", "refuse")
            and self.publish(said, "POST /events (again)", "refuse")
        ):
            return
        batch = self.ask("POST", "/events/batch", "batch of a duplicate", "refuse", body=said.raw, headers=NDJSON)
        kept = self.ask("GET", f"/events?authors={said.agent_id}", "GET /events?authors=", "refuse")
        if batch is None or kept is None:
            return
        tally.done += 1
        for line in self.lines(batch, name, 1):
            known = {"id": said.id, "status": 200, "accepted": True, "duplicate": True}
            if line != known and not RECORDER.limited(line.get("code", "")):
                tally.fault(f"{name}: in a batch {line}")
        events = self.parsed(kept, name)
        if not isinstance(events, list) or [event.get("id") for event in events] != [said.id]:
            tally.fault(f"{name}: stored other than once")
        self.finished()

    def flood(self) -> None:
        """One agent, one event after the other, more than its minute allows."""
        flood = self._flood()
        if flood is None:
            return
        shots = []
        for id_, event in zip(flood.ids, flood.events, strict=True):
            sent = time.monotonic()
            answer = self._fling(event)
            if answer.status == 0 or RECORDER.limited(answer.code):
                return
            if answer.status == 200:
                RECORDER.acknowledged(id_)
            waits = answer.headers.get("retry-after", "")
            wait = float(waits) if waits.isdigit() else None
            shots.append(Shot(sent, time.monotonic(), answer.status, answer.code, wait))
        self._judge(shots)

    def flood_at_once(self) -> None:
        """The same in one batch."""
        flood = self._flood()
        if flood is None:
            return
        sent, body = time.monotonic(), b"\n".join(flood.events)
        answer = self.ask("POST", "/events/batch", "flood in a batch", "refuse", body=body, headers=NDJSON)
        if answer is None:
            return
        shots = []
        lines = self.lines(answer, "flood in a batch", len(flood.ids))
        for id_, line in zip(flood.ids, lines, strict=False):
            if RECORDER.limited(line.get("code", "")):
                return
            if line.get("status") == 200:
                RECORDER.acknowledged(id_)
            wait = line["retry_at"] - time.time() + 1 if "retry_at" in line else None  # in whole seconds, rounded up
            shots.append(Shot(sent, time.monotonic(), line.get("status", 0), line.get("code", ""), wait))
        if lines:
            self._judge(shots)

    def half(self) -> None:
        """Half a request, and gone; the relay must not mind."""
        name, tally = "half a request", RECORDER.seen.misdeeds
        head = self.target.head("POST", "/events", {**JSON, "Content-Length": "500"})
        part = self.choose.choice((head[: len(head) // 2], head, head + b'{"id":"'))
        try:
            with self.target.dial(5.0) as connection:
                connection.sendall(part)
                time.sleep(self.choose.uniform(0, 0.3))
        except OSError as exc:
            tally.fault(f"{name}: {type(exc).__name__} {exc}")
        if self.ask("GET", "/health", "GET /health", "refuse") is not None:
            tally.done += 1
        self.finished()

    def slow(self) -> None:
        """Half a header, and then nothing: 408."""
        tally, started = RECORDER.seen.misdeeds, time.perf_counter()
        reader = StreamReader()
        try:
            with self.target.dial(0.5) as connection:
                connection.sendall(b"POST /events HTTP/1.1\r\nHost: half")
                while not reader.status and not self.leaving and time.perf_counter() - started < _SLOW_S:
                    try:
                        data = connection.recv(65_536)
                    except TimeoutError:
                        continue
                    if not data:
                        break
                    reader.feed(data)
        except (OSError, BadStream) as exc:
            tally.fault(f"slow: {type(exc).__name__} {exc}")
        if self.leaving and not reader.status:
            return
        tally.done += 1
        RECORDER.answered(reader.status)
        found = (reader.status, reader.headers.get("anporia-code", ""))
        if found != (408, "timeout"):
            tally.fault(f"a slow header: {found[0]} {found[1]} instead of 408 timeout")
        self.finished()

    def _flood(self) -> Flood | None:
        if not 0 < RECORDER.agent_rate <= MOST_RATE:
            return None
        return Flood.from_json(orjson.loads(self.take(Ware.FLOOD)))

    def _fling(self, event: bytes) -> Answer:
        """Send one event of a flood: 200 and 429 are both right, and what is right when is judged over all."""
        with self.client.request(
            "POST",
            "/events",
            name="flood",
            data=event.decode(),
            headers=JSON,
            catch_response=True,
            allow_redirects=False,
        ) as response:
            given = response.headers or {}
            found = {name: str(given[name]) for name in ("anporia-code", "retry-after") if name in given}
            answer = Answer(response.status_code, found, b"")
            RECORDER.answered(answer.status)
            if answer.status in (200, 429):
                response.success()
                return answer
            text = f"{answer.status} {answer.code}".strip() if answer.status else "no answer"
            response.failure(text)
        (RECORDER.seen.server_errors if answer.status >= 500 else RECORDER.seen.answers).fault(f"flood: {text}")
        return answer

    def _judge(self, shots: list[Shot]) -> None:
        seen = RECORDER.seen
        seen.floods.done += 1
        seen.flooded += sum(shot.status == 429 for shot in shots)
        for fault in judge_flood(shots, RECORDER.agent_rate)[:1]:
            seen.floods.fault(fault)
        self.finished()
