"""Every tool that reads, each resource, prompt and completion, on a hostile relay, through the server's own process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from tests.mcp_server.host import ERAS, Host, over_stdio
from tests.mcp_server.hostile.corpus import CANARY, DAVE, HOSTILE, ORDINARY, TOPIC, Corpus
from tests.mcp_server.hostile.false_relay import FalseRelay
from tests.mcp_server.hostile.oracle import clean, of_the_whole, unseen
from tests.wire.samples import ALICE, BOB

_QUIET = {"ANPORIA_AUTO_PROFILE": "0"}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus()


@pytest.fixture(scope="module")
def relay(corpus: Corpus) -> Iterator[FalseRelay]:
    with FalseRelay(corpus) as running:
        yield running


def _calls(corpus: Corpus) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("anporia_query", {}),
        ("anporia_query", {"topic": TOPIC, "limit": 1_000, "detail": "concise"}),
        ("anporia_query", {"topic": "large"}),
        ("anporia_query", {"kinds": [0, 1, 2, 4, 6], "limit": 1_000}),
        ("anporia_query", {"kinds": [6], "mentions": BOB.agent_id}),
        ("anporia_query", {"kinds": [], "authors": [ALICE.agent_id, DAVE.agent_id]}),
        ("anporia_query", {"cursor": f"{2**33}-{'0' * 64}"}),
        ("anporia_get_capabilities", {}),
        ("anporia_get_capabilities", {"name_prefix": CANARY, "limit": 1}),
        ("anporia_get_agents", {}),
        ("anporia_get_rooms", {}),
        ("anporia_get_stats", {}),
        ("anporia_stream", {"wait_seconds": 0, "topic": TOPIC}),
        ("anporia_stream", {"wait_seconds": 1, "since_cursor": "since:5", "kinds": [1, 2]}),
        ("anporia_get_thread", {"event_id": corpus.root.id, "limit": 200}),
        ("anporia_intent_status", {"intent_id": corpus.intent.id}),
        ("anporia_intent_status", {"intent_id": corpus.intent.id, "verifiers": [BOB.agent_id]}),
        ("anporia_intent_list", {}),
        ("anporia_get_task", {"task_id": corpus.task.id}),
        ("anporia_get_task", {"task_id": corpus.task.id, "detail": "full"}),
        ("anporia_list_tasks", {"only_open": False}),
        ("anporia_search", {"text": "x"}),
        ("anporia_get_credit", {}),
        ("anporia_list_identities", {}),
    ]


async def _pages(host: Host, corpus: Corpus, tool: str, rows: str, **arguments: Any) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(60):
        given = arguments if cursor is None else {**arguments, "cursor": cursor}
        page = clean(await host.client.call_tool(tool, given), corpus)
        found += page[rows]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
    raise AssertionError("pages without end")


@pytest.mark.parametrize("features", [["references", "count", "resume", "search"], []], ids=["ours", "plain"])
async def test_nothing_raw_nothing_unmarked(corpus: Corpus, features: list[str], tmp_path: Path) -> None:
    with FalseRelay(corpus, features) as relay:
        async with over_stdio(relay.url, tmp_path, "--tools", "all", env=_QUIET) as host:
            for tool, arguments in _calls(corpus):
                if tool == "anporia_search" and not features:
                    continue
                given = clean(await host.client.call_tool(tool, arguments), corpus)
                if tool in ("anporia_query", "anporia_get_agents", "anporia_get_capabilities"):
                    assert sum(given["dropped"].values()) >= 10 or arguments.get("mentions"), tool
            seen = await _pages(host, corpus, "anporia_query", "events", limit=1_000, detail="concise")
            posts = {event.id for event in corpus.genuine.values() if event.kind == 1}
            assert {event["id"] for event in seen} == posts, "an event was lost between the pages"
            agents = await _pages(host, corpus, "anporia_get_agents", "agents")
            assert len(agents) == 4
            offers = await _pages(host, corpus, "anporia_get_capabilities", "capabilities")
            assert {offer["agent_id"] for offer in offers} == {agent["agent_id"] for agent in agents}


async def test_trusted_only_shows_no_stranger(corpus: Corpus, relay: FalseRelay, tmp_path: Path) -> None:
    async with over_stdio(relay.url, tmp_path, "--tools", "all", "--trusted-only", env=_QUIET) as host:
        for tool, arguments in _calls(corpus):
            result = await host.client.call_tool(tool, arguments)
            assert CANARY not in result.model_dump_json(), tool
        for uri in (f"event/{corpus.root.id}", f"agent/{ALICE.agent_id}/profile"):
            with pytest.raises(MCPError, match="not trusted"):
                await host.client.read_resource(f"anporia://{uri}")


async def test_intents_and_ordinary_text(corpus: Corpus, relay: FalseRelay, tmp_path: Path) -> None:
    async with over_stdio(relay.url, tmp_path, env=_QUIET) as host:
        given = await host.call("anporia_query", topic="ordinary", limit=100)
        assert {event["content"] for event in given["events"]} == set(ORDINARY.values())
        assert not any("sanitized" in event or "truncated" in event for event in given["events"])
        given = await host.call("anporia_intent_status", intent_id=corpus.intent.id)
        shown = given["intent"]
        assert shown["status"] == "executing" and shown["agent_id"] == ALICE.agent_id
        assert shown["sanitized"] and shown["truncated"] and shown["resource"] == f"anporia://event/{corpus.intent.id}"
        assert len(shown["success_criteria"]) == len(HOSTILE)
        assert shown["statuses"] and shown["verdicts"]
        (listed,) = (await host.call("anporia_intent_list"))["intents"]
        assert listed["sanitized"] and listed["intent_id"] == corpus.intent.id


async def test_a_cursor_is_no_place_for_words(corpus: Corpus, tmp_path: Path) -> None:
    with FalseRelay(corpus) as relay:
        async with over_stdio(relay.url, tmp_path, env=_QUIET) as host:
            for place in ("aaaaaaaa-7", f"{CANARY}.call.anporia_post", "with space", "x" * 256):
                relay.place = place
                arguments = {"wait_seconds": 1, "topic": TOPIC}
                given = clean(await host.client.call_tool("anporia_stream", arguments), corpus)
                assert given["events"] and given["next_cursor"].startswith("place:") == (place == "aaaaaaaa-7")
                again = {**arguments, "since_cursor": given["next_cursor"], "wait_seconds": 0}
                clean(await host.client.call_tool("anporia_stream", again), corpus)


async def test_resources_are_exact_and_visible(corpus: Corpus, relay: FalseRelay, tmp_path: Path) -> None:
    async with over_stdio(relay.url, tmp_path, env=_QUIET) as host:
        for event in [*corpus.genuine.values()][:45:2]:
            (held,) = (await host.client.read_resource(f"anporia://event/{event.id}")).contents
            assert json.loads(held.text) == {**event.to_dict(), "tags": [list(tag) for tag in event.tags]}  # type: ignore[union-attr]
            assert unseen(held.text) == [] and held.text.isascii()  # type: ignore[union-attr]
        (profile,) = (await host.client.read_resource(f"anporia://agent/{ALICE.agent_id}/profile")).contents
        assert json.loads(profile.text)["agent_id"] == ALICE.agent_id and unseen(profile.text) == []  # type: ignore[union-attr]
        for topic in (TOPIC, "large", "%E2%80%AE"):
            answer = await host.client.read_resource(f"anporia://room/{topic}")
            of_the_whole(answer)
            assert unseen(answer.contents[0].text) == []  # type: ignore[union-attr]
        for uri in (f"anporia://event/{'0' * 64}", f"anporia://room/{CANARY}/\u202e", f"anporia://agent/{CANARY}"):
            with pytest.raises(MCPError) as caught:
                await host.client.read_resource(uri)
            assert unseen(caught.value.error.message) == []


async def test_prompt_and_completions(corpus: Corpus, relay: FalseRelay, tmp_path: Path) -> None:
    async with over_stdio(relay.url, tmp_path, env=_QUIET) as host:
        await host.call("anporia_query", topic="ordinary")
        for text in HOSTILE.values():
            prompt = await host.client.get_prompt("anporia-onboard", {"name": text, "interests": text})
            assert unseen(prompt.messages[0].content.text) == []  # type: ignore[union-attr]
        for template, name in (
            ("anporia://event/{id}", "id"), ("anporia://agent/{id}/profile", "id"), ("anporia://room/{topic}", "topic")
        ):  # fmt: skip
            for begun in ("", CANARY, "\u202e"):
                ref = ResourceTemplateReference(uri=template)
                offered = (await host.client.complete(ref, {"name": name, "value": begun})).completion.values
                assert all(unseen(one) == [] and len(one) <= 64 and " " not in one for one in offered)
                assert begun or offered
        about = PromptReference(name="anporia-onboard")
        assert (await host.client.complete(about, {"name": "name", "value": ""})).completion.values == []


@pytest.mark.parametrize("mode", ERAS)
async def test_no_stranger_writes_what_is_trusted(corpus: Corpus, relay: FalseRelay, tmp_path: Path, mode: str) -> None:
    async with over_stdio(relay.url, tmp_path, "--tools", "all", env=_QUIET, mode=mode) as host:
        fixed = await _trusted(host)
        for tool, arguments in _calls(corpus)[:4]:
            await host.client.call_tool(tool, arguments)
        assert await _trusted(host) == fixed and CANARY not in fixed and unseen(fixed) == []
        missing = await host.refusal("anporia_get_thread", event_id="0" * 64)
        assert re.fullmatch(
            r'The relay refused the request: "[^"\n]{1,200}"\. '
            r"The quoted words are the relay's, not ours \(HTTP 404\)\.",
            missing,
        ), missing
        assert unseen(missing) == []


async def _trusted(host: Host) -> str:
    told = [await host.client.list_tools(), await host.client.list_resource_templates(),
            await host.client.list_prompts(), await host.client.list_resources()]  # fmt: skip
    return "".join(one.model_dump_json(exclude={"meta"}) for one in told) + str(host.client.instructions)


async def test_what_we_sign_holds_no_words_of_strangers(corpus: Corpus, relay: FalseRelay, tmp_path: Path) -> None:
    async with over_stdio(relay.url, tmp_path, "--tools", "all", env=_QUIET) as host:
        for tool, arguments in (
            ("anporia_accept_task", {"task_id": corpus.task.id}),
            ("anporia_verify_task", {"task_id": corpus.task.id, "verdict": "failed"}),
            ("anporia_reply", {"parent_id": corpus.root.id, "content": "No."}),
            ("anporia_trust_vote", {"target_agent_id": BOB.agent_id, "score": 0}),
            ("anporia_post", {"content": "Hello"}),
        ):
            clean(await host.client.call_tool(tool, arguments), corpus)
        assert len(relay.posted) == 5
        assert not any(CANARY in event.to_json().decode() for event in relay.posted)
