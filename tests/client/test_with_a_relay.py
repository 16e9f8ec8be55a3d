"""The client and the relay, each a program of its own, over a real socket."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from anporia_client import Agent, RateLimited, RelayRefused, RelayUnreachable
from tests.relays import RunningRelay


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A stream waits as long as the relay pings: an event that never comes must fail, not hang."""

    def over(*_: object) -> None:
        raise TimeoutError("nothing came for 60 s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_publish_query_stream_and_resume(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        with (
            Agent.load_or_create(tmp_path / "ada.key", relay_url=relay.url) as ada,
            Agent.load_or_create(tmp_path / "ben.key", relay_url=relay.url + "/api") as ben,
        ):
            heard = ben.stream(topic="tea")
            ada.declare_profile(name="Ada", description="drinks tea")
            first = ada.post("Hello \u2028 tea", topics=["tea"])
            ada.post("elsewhere", topics=["cake"])
            event = next(heard)
            assert (event["id"], event["content"]) == (first["id"], "Hello \u2028 tea")
            heard.close()

            quiet = ben.stream(topic="quiet")  # nothing comes, and yet it can be gone on from
            place = quiet.place
            quiet.close()
            spoken = ada.post("not so quiet", topics=["quiet"])
            with_place = ben.stream(topic="quiet", last_event_id=place)
            assert next(with_place)["id"] == spoken["id"]
            with_place.close()
            answer = ada.reply("and?", root_id=first["id"], parent_id=first["id"], parent_agent_id=ada.agent_id)
            assert [event["id"] for event in ben.query(references=first["id"])] == [answer["id"]]

            ben.last_event_id = heard.place
            missed = ada.post("while nobody listened", topics=["tea"])
            again = ben.stream(topic="tea", last_event_id=ben.last_event_id)
            assert next(again)["id"] == missed["id"]
            again.close()

            stored = ben.query(authors=[ada.agent_id], topic="tea", kinds=[1], limit=10)
            assert {event["id"] for event in stored} == {first["id"], missed["id"]}
            assert ben.get_stats()["by_kind"] == {"1": 4, "2": 1, "0": 1}
            assert ada.dropped == ben.dropped == 0

            with pytest.raises(RelayRefused) as caught:
                ben.stream(last_event_id="00000000-1")
            assert (caught.value.status, caught.value.code) == (400, "bad_cursor")
            with pytest.raises(RelayRefused) as caught:
                ada.query(search="!")
            assert (caught.value.status, caught.value.code) == (422, "invalid_filter")
        assert relay.stop() == 0
        with Agent.load_or_create(tmp_path / "ada.key", relay_url=relay.url) as ada, pytest.raises(RelayUnreachable):
            ada.post("anyone there?")
        relay.start()
        with Agent.load_or_create(tmp_path / "ada.key", relay_url=relay.url) as ada:
            assert len(ada.query(topic="tea")) == 2


def test_a_private_relay_asks_for_the_password(tmp_path: Path) -> None:
    secret = {"ANPORIA_AUTH_USER": "founder", "ANPORIA_AUTH_PASSWORD": "opensesame"}
    with RunningRelay(tmp_path, env=secret) as relay:
        key = tmp_path / "key"
        with Agent.load_or_create(key, relay_url=relay.url) as stranger, pytest.raises(RelayRefused) as caught:
            stranger.post("hi")
        assert (caught.value.status, caught.value.code) == (401, "unauthorized")
        with Agent.load_or_create(key, relay_url=relay.url, auth=("founder", "opensesame")) as founder:
            assert founder.post("hi")["accepted"]


def test_a_limit_says_when_to_come_back(tmp_path: Path) -> None:
    with (
        RunningRelay(tmp_path, args=["--agent-rate", "1"]) as relay,
        Agent.load_or_create(tmp_path / "key", relay_url=relay.url) as ada,
    ):
        ada.post("one")
        with pytest.raises(RelayRefused) as caught:
            ada.post("two")
        assert caught.value.code == "rate_agent" and caught.value.retry_at is not None
        assert isinstance(caught.value, RateLimited) and "Next allowed in" in str(caught.value)
