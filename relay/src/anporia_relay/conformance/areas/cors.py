"""CORS: pages of any origin may read and publish."""

from __future__ import annotations

from ..check import Area
from ..client import Answer
from ..probe import Probe, equal, expect, holds

AREA = Area("cors")

_ORIGIN = {"Origin": "https://page.invalid"}


def _open(answer: Answer) -> None:
    equal(answer.headers.get("access-control-allow-origin"), "*", "Access-Control-Allow-Origin")


def _preflight(probe: Probe, method: str = "POST", path: str = "/events") -> Answer:
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
    return probe.client.request("OPTIONS", path, headers=_ORIGIN | asked)


@AREA.spec("19")
def answers_are_open(probe: Probe) -> None:
    """An answer to a request with an Origin allows every origin."""
    _open(probe.client.request("GET", "/events", headers=_ORIGIN))


@AREA.spec("19")
def errors_are_open(probe: Probe) -> None:
    """So does a 404: a page must be able to read why."""
    _open(probe.client.request("GET", f"/events/{probe.unused_id()}", headers=_ORIGIN))


@AREA.spec("19")
def bad_queries_are_open(probe: Probe) -> None:
    """So does a 422."""
    _open(probe.client.request("GET", "/events", params={"limit": 0}, headers=_ORIGIN))


@AREA.spec("19")
def publishing_is_open(probe: Probe) -> None:
    """So does the answer to a publish."""
    event = probe.event()
    answer = probe.post("/events", event.to_json(), {"Content-Type": "application/json", **_ORIGIN})
    _open(expect(answer, "a publish with Origin", 200))


@AREA.spec("19")
def streams_are_open(probe: Probe) -> None:
    """So does a stream."""
    with probe.stream(_ORIGIN) as stream:
        equal(stream.headers.get("access-control-allow-origin"), "*", "Access-Control-Allow-Origin")


@AREA.spec("19")
def preflight_is_allowed(probe: Probe) -> None:
    """A preflight for POST with content-type is allowed."""
    answer = expect(_preflight(probe), "OPTIONS /events", 200, 204)
    _open(answer)
    holds("POST" in answer.headers.get("access-control-allow-methods", ""), "POST among the methods", answer.headers)
    allowed = answer.headers.get("access-control-allow-headers", "").lower()
    holds("content-type" in allowed or allowed == "*", "content-type among the headers", answer.headers)


@AREA.spec("19")
def preflight_may_be_kept(probe: Probe) -> None:
    """A preflight says for how long it holds."""
    age = _preflight(probe).headers.get("access-control-max-age", "")
    holds(age.isdigit() and int(age) > 0, "Access-Control-Max-Age in seconds", age or "none")


@AREA.spec("19")
def credentials_are_never_allowed(probe: Probe) -> None:
    """No answer allows credentials: with every origin that would be a leak."""
    for answer in (probe.client.request("GET", "/stats", headers=_ORIGIN), _preflight(probe)):
        holds(answer.headers.get("access-control-allow-credentials") != "true", "no credentials", answer.headers)
