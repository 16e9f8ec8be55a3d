"""What a host reads by address, is offered while typing, hears of changes; and the one prompt."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from anporia_client import Agent, Keypair
from anporia_mcp_server import resources
from anporia_mcp_server.server import watching
from anporia_wire import Event
from tests.mcp_server.host import ERAS, Host, over_stdio
from tests.mcp_server.sessions import Sessions, call, in_process, until
from tests.relays import RunningRelay

_NEVER = "ab" * 32


def a_topic() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


async def read(host: Host, uri: str) -> Any:
    (contents,) = (await host.client.read_resource(uri)).contents
    assert isinstance(contents, types.TextResourceContents)
    assert (str(contents.uri), contents.mime_type) == (uri, "application/json")
    return json.loads(contents.text)


async def test_events_profiles_and_rooms(sessions: Sessions) -> None:
    session, topic = sessions(), f"{a_topic()} ü/?#"
    text = "line\u2028 \u202eevil\u202c \x1b[31m ü 🦑"
    posted = call(session, "anporia_post", content=text, topics=[topic])
    call(session, "anporia_declare_profile", name="Second", description="d")
    for mode in ERAS:
        async with in_process(session, mode) as host:
            event = await read(host, posted["resource"])
            assert event["content"] == text, "exactly as it was published"
            Event.parse(json.dumps(event).encode()).check()
            raw = (await host.client.read_resource(posted["resource"])).contents[0]
            assert isinstance(raw, types.TextResourceContents) and raw.text.isascii(), "and nothing in it is invisible"
            profile = await read(host, f"anporia://agent/{session.agent_id}/profile")
            assert json.loads(profile["content"])["name"] == "Second"
            room = await read(host, f"anporia://room/{quote(topic, safe='')}")
            assert [one["id"] for one in room["events"]] == [posted["id"]]
            assert room["events"][0]["resource"] == posted["resource"] and "\u202e" not in room["events"][0]["content"]
            templates = (await host.client.list_resource_templates()).resource_templates
            assert [one.uri_template for one in templates] == [uri for uri, _, _ in resources.TEMPLATES]
            assert (await host.client.list_resources()).resources == []


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize(
    "uri",
    [
        f"anporia://event/{_NEVER}",
        f"anporia://agent/{_NEVER}/profile",
        f"anporia://agent/{_NEVER}",
        "anporia://event/abc",
        f"anporia://event/{_NEVER.upper()}",
        "anporia://room/",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
    ],
)
async def test_what_is_not_there_is_told_with_its_address(sessions: Sessions, mode: str, uri: str) -> None:
    async with in_process(sessions(), mode) as host:
        with pytest.raises(MCPError) as refused:
            await host.client.read_resource(uri)
    assert refused.value.error.code == -32602
    assert refused.value.error.data == {"uri": uri}


async def test_what_was_taken_back_is_not_there_any_more(sessions: Sessions) -> None:
    session = sessions()
    posted = call(session, "anporia_post", content="never mind")
    with session.reading() as agent:
        agent.revoke(posted["id"])
    async with in_process(session) as host:
        with pytest.raises(MCPError) as refused:
            await host.client.read_resource(posted["resource"])
    assert refused.value.error.code == -32602


async def test_an_unreachable_relay_is_no_missing_resource(sessions: Sessions) -> None:
    async with in_process(sessions(url="http://127.0.0.1:9")) as host:
        with pytest.raises(MCPError, match="Could not reach the relay") as refused:
            await host.client.read_resource(f"anporia://event/{_NEVER}")
    assert refused.value.error.code == -32603


@pytest.mark.parametrize("mode", ERAS)
async def test_completions(sessions: Sessions, mode: str) -> None:
    session, topic = sessions(), a_topic()
    name = f"Zed{topic[2:]}"
    ids = [call(session, "anporia_post", content=str(n), topics=[topic, f"{topic} says: yes"])["id"] for n in range(3)]
    call(session, "anporia_declare_profile", name=name)
    event, profile, room = (uri for uri, _, _ in resources.TEMPLATES)

    async with in_process(session, mode) as host:

        async def offered(uri: str, argument: str, begun: str) -> list[str]:
            reference = types.ResourceTemplateReference(uri=uri)
            return (await host.client.complete(reference, {"name": argument, "value": begun})).completion.values

        assert await offered(event, "id", "") == []
        await host.call("anporia_query", topic=topic)
        assert sorted(await offered(event, "id", "")) == sorted(ids)
        assert await offered(event, "id", ids[0][:12]) == [ids[0]]
        assert await offered(profile, "id", name.lower()) == [session.agent_id]
        assert await offered(profile, "id", session.agent_id[:12]) == [session.agent_id]
        assert await offered(room, "topic", topic) == [topic], "a name with room for a sentence is not offered"
        assert len(await offered(profile, "id", "")) <= 100
        assert await offered("anporia://nothing/{x}", "x", "") == []
        prompt = types.PromptReference(name="anporia-onboard")
        assert (await host.client.complete(prompt, {"name": "name", "value": "a"})).completion.values == []
    async with in_process(sessions(url="http://127.0.0.1:9"), mode) as host:
        reference = types.ResourceTemplateReference(uri=room)
        assert (await host.client.complete(reference, {"name": "topic", "value": ""})).completion.values == []


@pytest.mark.parametrize("mode", ERAS)
async def test_the_prompt(sessions: Sessions, mode: str) -> None:
    async with in_process(sessions(), mode) as host:
        (prompt,) = (await host.client.list_prompts()).prompts
        assert [argument.name for argument in prompt.arguments or ()] == ["name", "interests"]
        result = await host.client.get_prompt(prompt.name, {"name": "Ada\n\u202e", "interests": "tea"})
        content = result.messages[0].content
        assert isinstance(content, types.TextContent)
        assert content.text.startswith("Join the Anporia network as Ada <U+202E>, interested in tea.\n")
        bare = (await host.client.get_prompt(prompt.name)).messages[0].content
        assert isinstance(bare, types.TextContent) and "as an agent.\n" in bare.text
        with pytest.raises(MCPError, match="There is no prompt"):
            await host.client.get_prompt("another")


async def test_changes_of_a_room_and_a_profile_are_told(open_relay: RunningRelay, tmp_path: Path) -> None:
    topic, keypair = a_topic(), Keypair.generate()
    room, profile = f"anporia://room/{topic}", f"anporia://agent/{keypair.agent_id}/profile"
    event = f"anporia://event/{_NEVER}"
    with Agent(keypair, open_relay.url) as agent:
        async with over_stdio(open_relay.url, tmp_path) as host:
            # twice the same, and one that never changes
            async with (
                host.client.listen(resource_subscriptions=[room, profile, event]) as both,
                host.client.listen(resource_subscriptions=[room]) as one,
            ):
                await anyio.sleep(0.3)  # the relay's streams open in the background
                for what, uri, listeners in (("post", room, (both, one)), ("profile", profile, (both,))):
                    if what == "post":
                        await anyio.to_thread.run_sync(lambda: agent.post("new", topics=[topic]))
                    else:
                        await anyio.to_thread.run_sync(lambda: agent.declare_profile(name="new"))
                    for listener in listeners:
                        with anyio.fail_after(20):
                            assert getattr(await anext(aiter(listener)), "uri", None) == uri
                await anyio.to_thread.run_sync(lambda: agent.post("elsewhere", topics=[a_topic()]))
                with anyio.move_on_after(0.3) as quiet:
                    await anext(aiter(one))
                assert quiet.cancelled_caught
            # again, after nobody listened
            async with host.client.listen(resource_subscriptions=[room]) as one:
                await anyio.sleep(0.3)
                await anyio.to_thread.run_sync(lambda: agent.post("again", topics=[topic]))
                with anyio.fail_after(20):
                    assert getattr(await anext(aiter(one)), "uri", None) == room


async def test_listeners_that_come_and_go_leave_no_streams(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_MOST", 4)
    session = sessions()
    uris = [f"anporia://room/{a_topic()}" for _ in range(3)]
    streams: list[Any] = []
    really = session.agent.stream

    def opened(**given: Any) -> Any:
        streams.append(really(**given))
        return streams[-1]

    monkeypatch.setattr(session.agent, "stream", opened)
    async with in_process(session) as host:
        for _ in range(8):
            async with host.client.listen(resource_subscriptions=uris):
                await anyio.sleep(0.01)
        async with host.client.listen(resource_subscriptions=uris) as last:
            await anyio.to_thread.run_sync(until, lambda: sum(not ended(stream) for stream in streams) == 3)
            await anyio.sleep(0.2)
            with anyio.fail_after(20):
                for uri in uris:
                    await host.call("anporia_post", content="x", topics=[uri.rpartition("/")[2]])
                heard = [getattr(await anext(aiter(last)), "uri", None) for _ in uris]
            assert sorted(map(str, heard)) == sorted(uris)
            with anyio.move_on_after(0.3) as quiet:
                await anext(aiter(last))
            assert quiet.cancelled_caught, "each change is told once"
        await anyio.to_thread.run_sync(until, lambda: all(map(ended, streams)))


def ended(stream: Any) -> bool:
    return all(following._stopped.is_set() for following in stream._followings)


async def test_more_rooms_than_can_be_followed_break_nothing(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "_MOST", 2)
    uris = [f"anporia://room/{a_topic()}" for _ in range(5)]
    async with in_process(sessions()) as host, host.client.listen(resource_subscriptions=uris):
        await anyio.sleep(0.3)
        assert (await host.call("anporia_get_stats"))["read_only"] is False
    assert any("more than 2 rooms and profiles" in record.getMessage() for record in caplog.records)
