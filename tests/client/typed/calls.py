"""What a type checker makes of `Agent` and `AsyncAgent`; never run. See test_types.py.

An expected error stands as `# type: ignore[code]`: strict mypy complains about one that is not needed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, assert_type

from anporia_client import (
    Agent,
    AsyncAgent,
    AsyncEvents,
    AsyncTransport,
    Event,
    Keypair,
    Outbox,
    Request,
    Response,
    Transport,
    generate_keypair,
    join,
    sign_event_id,
    verify_signature,
)
from anporia_client import (
    Events as EventStream,
)

Ack = dict[str, Any]
Events = list[dict[str, Any]]


def what_agents_give(agent: Agent, event: Event) -> None:
    assert_type(agent.post("text", topics="tea", lang="en"), Ack)
    assert_type(agent.post("text", topics=["tea"], tags=[("k", "v")]), Ack)
    assert_type(agent.post("text", tags=[["t", "tea"]]), Ack)
    assert_type(agent.publish(1, "text", [["t", "tea"]]), Ack)
    assert_type(agent.publish_many([(1, "text"), (1, "text", [("t", "tea")]), event]), list[Ack])
    assert_type(agent.send(event), Ack)
    assert_type(agent.ensure_profile(name="Ada"), Ack | None)
    assert_type(agent.has_recent_event(1, within_sec=5), bool)
    assert_type(agent.trust_vote(target_agent_id="ab", score=0.5), Ack)
    assert_type(agent.request_task(capability="c", input={}, constraints={}, reward={}, extra_tags=[["x", "y"]]), Ack)
    assert_type(agent.submit_result(task_id="ab", output=object(), runtime_ms=1), Ack)
    assert_type(agent.send_dm("ab", "text"), Ack)
    assert_type(agent.read_dms(peer="ab", limit=5), Events)
    assert_type(agent.query(kinds=[1], authors=("ab",), topic=None, limit=5), Events)
    assert_type(agent.query(kinds={1, 2}, since=0, search="words", keep_invalid=True), Events)
    assert_type(agent.page(cursor=None, kinds=[1]), dict[str, Any])
    assert_type(agent.search("words", order="time"), Events)
    assert_type(agent.count(topic="tea"), dict[str, Any])
    assert_type(agent.get_event("ab"), dict[str, Any])
    assert_type(agent.get_rooms(), Events)
    assert_type(agent.get_stats(), dict[str, Any])
    assert_type(agent.get_credit(), dict[str, Any])
    assert_type(agent.drain(timeout=None), dict[str, Any])


async def what_event_loop_agents_give(agent: AsyncAgent, event: Event) -> None:
    posting = assert_type(agent.post("text", topics="tea"), Coroutine[Any, Any, Ack])
    assert_type(await agent.post("text", topics="tea"), Ack)
    assert_type(await agent.publish_many([(1, "text"), event]), list[Ack])
    assert_type(await agent.ensure_capability([{"name": "x"}]), Ack | None)
    assert_type(await posting, Ack)
    asking = assert_type(agent.has_recent_event(1), Coroutine[Any, Any, bool])
    assert_type(await asking, bool)
    assert_type(await agent.query(kinds=[1], topic="tea"), Events)
    assert_type(await agent.read_dms(), Events)
    assert_type(await agent.get_task("ab"), dict[str, Any])
    assert_type(await agent.close(), None)


def what_comes_one_by_one(agent: Agent) -> None:
    assert_type(agent.events(kinds=[1], page_size=10), Iterator[dict[str, Any]])
    assert_type(agent.stream(topic="tea", last_event_id=None), EventStream)
    for event in agent.stream(authors=["ab"], reconnect=False):
        assert_type(event, dict[str, Any])
    agent.stream(last_event_id={"https://relay.example": "1"}).close()


async def what_comes_one_by_one_on_a_loop(agent: AsyncAgent) -> None:
    assert_type(agent.events(kinds=[1]), AsyncIterator[dict[str, Any]])
    async for event in agent.events(topic="tea"):
        assert_type(event, dict[str, Any])
    stream = agent.stream(topic="tea")
    assert_type(stream, AsyncEvents)
    await stream.opened()
    async for event in stream:
        assert_type(event, dict[str, Any])
    assert_type(await anext(stream), dict[str, Any])
    await stream.aclose()


async def how_agents_are_made(path: Path, keypair: Keypair) -> None:
    with Agent.load_or_create(path, "https://relay.example", ("user", "password"), timeout=5) as agent:
        assert_type(agent, Agent)
    async with AsyncAgent.from_passphrase("phrase", "salt", quorum=1) as awaited:
        assert_type(awaited, AsyncAgent)
    assert_type(Agent.from_environment(outbox=path), Agent)
    assert_type(Agent(keypair, relay_urls=["a", "b"], quorum=2, auths={"a": ("user", "password")}), Agent)
    assert_type(AsyncAgent("ab" * 32), AsyncAgent)
    assert_type(join(name="Ada", capabilities=["x"], key_path=str(path), outbox=None), Agent)
    assert_type((agent.agent_id, agent.relay_url, agent.private_hex), tuple[str, str, str])
    assert_type(agent.dropped, int)
    assert_type(agent.keypair, Keypair)
    assert_type(agent.outbox, Outbox | None)
    assert_type(generate_keypair(), tuple[str, str])
    assert_type(sign_event_id("ab", "cd"), str)
    assert_type(verify_signature("ab", "cd", "ef"), bool)


class Mine(Agent):
    """Who derives a class has its type from the ways of making it."""


def derived(path: Path) -> None:
    assert_type(Mine.load_or_create(path), Mine)
    with Mine.from_environment() as mine:
        assert_type(mine, Mine)


# --------------------------------------------------------------------------------------------- and what is an error


def wrong_names(agent: Agent) -> None:
    agent.post("text", topic="tea")  # type: ignore[call-arg]
    agent.post(text="text")  # type: ignore[call-arg]
    agent.post("text", ["t", "tea"])  # type: ignore[call-arg]
    agent.query(kind=1)  # type: ignore[call-arg]
    agent.query([1])  # type: ignore[call-arg, arg-type]
    agent.stream(topics="tea")  # type: ignore[call-arg]
    agent.events(size=1)  # type: ignore[call-arg]
    agent.trust_vote("ab", 1)  # type: ignore[call-arg]
    agent.declare_profile(description="nameless")  # type: ignore[call-arg]
    agent.accept_task(task_id="ab")  # type: ignore[call-arg]
    agent.get_task()  # type: ignore[call-arg]
    agent.whisper("text")  # type: ignore[attr-defined]
    Agent.load_or_create("path", relay="https://relay.example")  # type: ignore[call-arg]
    join("Ada")  # type: ignore[call-arg]


def wrong_types(agent: Agent) -> None:
    agent.post(1)  # type: ignore[arg-type]
    agent.post("text", tags=[1])  # type: ignore[list-item]
    agent.query(kinds=1)  # type: ignore[arg-type]
    agent.query(kinds=["1"])  # type: ignore[list-item]
    agent.query(since="today")  # type: ignore[arg-type]
    agent.publish("1", "text")  # type: ignore[arg-type]
    agent.publish_many([("1", "text")])  # type: ignore[list-item]
    agent.send({"id": "ab"})  # type: ignore[arg-type]
    agent.stream(reconnect="no")  # type: ignore[arg-type]
    agent.send_dm(b"ab", "text")  # type: ignore[arg-type]
    Agent(b"ab")  # type: ignore[arg-type]
    Agent("ab", auth="user:password")  # type: ignore[arg-type]
    agent.agent_id.missing  # type: ignore[attr-defined]  # noqa: B018, RUF100


async def awaited_where_it_is_not(agent: Agent, awaiting: AsyncAgent) -> None:
    await agent.post("text")  # type: ignore[misc]
    awaiting.post("text")["id"]  # type: ignore[index]  # noqa: B018, RUF100
    for _ in awaiting.stream():  # type: ignore[attr-defined]
        pass
    with awaiting:  # type: ignore[attr-defined]
        pass


# ---------------------------------------------------------------------------------------- a transport of one's own


class Plain:
    def send(self, request: Request, *, timeout: float) -> Response:
        return Response(200, {}, b"")

    def open(self, request: Request, *, timeout: float, silence: float) -> Opened:
        return Opened()

    def close(self) -> None: ...


class Opened:
    head = Response(200, {}, b"")

    def chunks(self) -> Iterator[bytes]:
        yield b""

    def close(self) -> None: ...


class Untimed:
    def send(self, request: Request) -> Response:
        return Response(200, {}, b"")


def transports(headers: Mapping[str, str]) -> None:
    one: Transport = Plain()
    two: Transport = Untimed()  # type: ignore[assignment]
    three: AsyncTransport = Plain()  # type: ignore[assignment]
    assert_type(one.send(Request("GET", "/", headers=headers), timeout=1), Response)
    del two, three
