"""What becomes of an event on its way: which answers say something of it, and in which order a batch goes."""

from __future__ import annotations

import json

import pytest

from anporia_client import Agent, OutcomeUnknown, RelayFailing, Request, Response
from anporia_wire import Event
from tests.client.scripted import Honest, Scripted
from tests.wire.samples import ALICE

URL = "http://relay.test"


@pytest.mark.parametrize(("status", "unknown"), [(500, True), (502, True), (504, True), (503, False), (507, False)])
def test_a_gateway_that_gives_up_knows_nothing_of_the_event(status: int, unknown: bool) -> None:
    def fails(request: Request) -> Response:
        return Response(status, {"content-type": "text/html"}, b"<h1>Bad Gateway</h1>")

    transport = Scripted(fails)
    with pytest.raises(OutcomeUnknown if unknown else RelayFailing) as caught:
        Agent(ALICE, URL, timeout=1.0, transport=transport).post("hi")
    assert caught.value.event is not None and len(transport.asked) > 1


def test_a_relay_s_own_fault_is_told_as_it_is() -> None:
    full = Response(507, {"anporia-code": "store_full"}, b'{"detail":"the disk is full"}')
    with pytest.raises(RelayFailing, match="the disk is full") as caught:
        Agent(ALICE, URL, timeout=1.0, transport=Scripted(lambda _: full)).post("hi")
    assert caught.value.code == "store_full"


def test_what_a_limit_held_up_goes_before_what_comes_after() -> None:
    order: list[str] = []
    limited = [True]

    def answer(request: Request) -> Response:
        if request.path == "/":
            return Response(200, {}, b'{"features":["batch"],"limits":{"max_batch_events":4}}')
        events = [Event.parse(line) for line in (request.body or b"").splitlines()]
        lines = []
        for at, event in enumerate(events):
            if limited and at >= 2:
                lines.append(
                    {"id": event.id, "status": 429, "code": "rate_agent", "detail": "slow down", "retry_at": 1}
                )
                continue
            order.append(event.content)
            lines.append({"id": event.id, "status": 200, "accepted": True, "duplicate": False})
        limited.clear()
        return Response(200, {}, b"\n".join(json.dumps(line).encode() for line in lines))

    said = Agent(ALICE, URL, transport=Scripted(answer)).publish_many([(1, str(n)) for n in range(10)])
    assert all(one["accepted"] for one in said) and order == [str(n) for n in range(10)]


def test_a_plain_relay_gets_them_one_by_one() -> None:
    relay = Honest()
    said = Agent(ALICE, URL, transport=Scripted(relay)).publish_many([(1, "a"), (1, "b", [("t", "x")])])
    assert [one["event"]["content"] for one in said] == ["a", "b"] == [event.content for event in relay.events]
