"""What all users have in common: one way to ask, which counts and judges every answer."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

import orjson
from locust import FastHttpUser
from locust.exception import StopTest
from locust.user.task import LOCUST_STATE_STOPPING

from ..observations import Tally
from ..signer import Ware
from ..target import NOT_YOURS, Answer, Target
from ..verdict import LIMITS_OF_AN_ADDRESS
from .recording import RECORDER, Said

__all__ = ["JSON", "NDJSON", "Visitor", "aimed_at"]

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}

_READ = ("anporia-code", "link", "retry-after", "content-type")


def aimed_at(host: str) -> Target:
    """Read where a test is aimed. Ends the test when that is neither this machine nor said to be one's own."""
    target = Target.parse(host)
    if RECORDER.only_loopback and not target.loopback:
        raise StopTest(f"{target.url} {NOT_YOURS}")
    return target


class Visitor(FastHttpUser):
    """A user that asks by `ask` and publishes by `publish`."""

    abstract = True
    network_timeout = 30.0
    connection_timeout = 10.0
    target: Target
    choose: random.Random

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.target = aimed_at(str(self.host))

    def on_start(self) -> None:
        """Join."""
        number = RECORDER.joined(type(self).__name__)
        self.choose = random.Random(f"{RECORDER.seed} {number}")

    def on_stop(self) -> None:
        """Leave."""
        RECORDER.left(type(self).__name__)

    @property
    def leaving(self) -> bool:
        """Whether this user, or all of the run, is to stop."""
        return RECORDER.stopping or self._state == LOCUST_STATE_STOPPING

    def finished(self) -> None:
        """Count a task."""
        RECORDER.finished(type(self).__name__)

    def take(self, ware: Ware) -> bytes:
        """Take something signed from the stock."""
        assert RECORDER.stock is not None
        return RECORDER.stock.take(ware)

    def ask(
        self,
        method: str,
        path: str,
        name: str,
        group: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
        status: int = 200,
        code: str = "",
        tally: Tally | None = None,
    ) -> Answer | None:
        """Ask, and give the answer when it has the right status and code; else count it where it belongs, and None."""
        started = time.perf_counter()
        with self.client.request(
            method,
            path,
            name=name,
            data=body or None,  # type: ignore[arg-type]  # bytes go through as they are
            headers=dict(headers),
            catch_response=True,
            allow_redirects=False,
        ) as response:
            took = (time.perf_counter() - started) * 1_000
            given = response.headers or {}
            found = {name: str(given[name]) for name in _READ if name in given}
            answer = Answer(response.status_code, found, bytes(response.content or b""))
            wrong = self._judged(answer, status, code, getattr(response, "error", None))
            if wrong is None:
                response.success()
                RECORDER.took(group, took)
                return answer
            response.failure(wrong)
        if RECORDER.limited(answer.code):
            time.sleep(self.choose.uniform(0.5, 1.5))  # it said when to come back; a test comes somewhat earlier
        elif answer.status < 500:
            (tally or RECORDER.seen.answers).fault(f"{name}: {wrong}")
        return None

    def publish(self, said: Said, name: str = "POST /events", group: str = "publish") -> bool:
        """Publish one event; says whether it was acknowledged, as it must be."""
        RECORDER.sending(said.id)
        answer = self.ask("POST", "/events", name, group, body=said.raw, headers=JSON)
        if answer is None:
            return False
        if self.parsed(answer, name) != {"id": said.id, "accepted": True}:
            self.wrong(name, f"acknowledged as {answer.body[:120]!r}")
            return False
        RECORDER.acknowledged(said.id)
        return True

    def parsed(self, answer: Answer, name: str) -> Any:
        """Read an answer; one that is no JSON is wrong, and gives None."""
        try:
            return answer.json()
        except ValueError:
            self.wrong(name, f"no JSON: {answer.body[:60]!r}")
            return None

    def lines(self, answer: Answer, name: str, count: int) -> list[dict[str, Any]]:
        """Read the lines of a batch's answer; other than `count` objects are wrong, and give nothing."""
        try:
            lines = [orjson.loads(line) for line in answer.body.splitlines()]
        except ValueError:
            lines = []
        if len(lines) != count or not all(isinstance(line, dict) for line in lines):
            self.wrong(name, f"{len(lines)} lines for {count} events")
            return []
        return lines

    def wrong(self, name: str, text: str) -> None:
        """Count an answer that says something it must not."""
        RECORDER.seen.answers.fault(f"{name}: {text}")

    @staticmethod
    def _judged(answer: Answer, status: int, code: str, error: Exception | None) -> str | None:
        RECORDER.answered(answer.status)
        if answer.status == 0:
            return f"no answer: {type(error).__name__} {error}"[:160]
        if (answer.status, answer.code) == (status, code):
            return None
        text = f"{answer.status} {answer.code}".strip()
        if answer.status >= 500 and answer.code not in LIMITS_OF_AN_ADDRESS:
            RECORDER.seen.server_errors.fault(text)
        return f"{text} instead of {status} {code}".strip()
