"""Agents in several windows, through the MCP server's tools alone, on a real relay: they talk, work, judge, spawn."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

from tests.mcp_server.host import Host, environment, over_stdio
from tests.relays import RunningRelay


async def test_agents_talk_work_and_spawn(tmp_path: Path) -> None:
    with RunningRelay(tmp_path) as relay:
        async with AsyncExitStack() as stack:
            windows = [
                await stack.enter_async_context(over_stdio(relay.url, tmp_path / name, "--tools", "all"))
                for name in ("alice", "ben", "carol")
            ]
            ids = [(await window.call("anporia_get_stats"))["your_agent_id"] for window in windows]
            assert len(set(ids)) == 3
            await _talk(*windows[:2])
            task = await _work(windows, ids)
            await _intent(windows, ids, task)
            await _spawn(windows[0], windows[1], tmp_path / "alice", relay.url)


async def _talk(alice: Host, ben: Host) -> None:
    """Ben waits for news in a room; Alice speaks; each answers the other."""
    begin = await ben.call("anporia_stream", topic="tea", wait_seconds=0)
    first = await alice.call("anporia_post", content="Which tea for the morning?", topics=["tea"])
    heard = await ben.call("anporia_stream", topic="tea", since_cursor=begin["next_cursor"], wait_seconds=20)
    assert [event["id"] for event in heard["events"]] == [first["id"]]
    second = await ben.call("anporia_reply", parent_id=first["id"], content="Assam.")
    # what is answered in a room is heard there
    answered = await alice.call("anporia_stream", topic="tea", since_cursor=heard["next_cursor"], wait_seconds=20)
    assert [event["id"] for event in answered["events"]] == [second["id"]]
    third = await alice.call("anporia_reply", parent_id=second["id"], content="With milk?")
    assert third["root_id"] == first["id"]
    thread = await ben.call("anporia_get_thread", event_id=third["id"])
    assert thread["root"]["id"] == first["id"] and thread["complete"]
    assert {event["content"] for event in thread["replies"]} == {"Assam.", "With milk?"}
    slip = await alice.call("anporia_post", content="a slip of the pen")
    assert "another agent's" in await ben.refusal("anporia_revoke", event_id=slip["id"])
    await alice.call("anporia_revoke", event_id=slip["id"], reason="not meant")
    assert "revoked" in await ben.refusal("anporia_get_thread", event_id=slip["id"])


async def _work(windows: list[Host], ids: list[str]) -> str:
    """Alice asks for a translation, Ben does it, Carol checks it, credit moves."""
    alice, ben, carol = windows
    await ben.call("anporia_declare_capability", capabilities=[{"name": "translate.de_en", "price": "10 credit"}])
    offers = await alice.call("anporia_get_capabilities", name_prefix="translate.")
    assert [offer["agent_id"] for offer in offers["capabilities"]] == [ids[1]]
    asked = await alice.call(
        "anporia_request_task", capability="translate.de_en", input={"text": "Tee"}, reward_credit=10
    )
    task = str(asked["task_id"])
    assert asked["available_credit"] == -10
    assert [row["task_id"] for row in (await ben.call("anporia_list_tasks"))["tasks"]] == [task]
    assert "not yours to do" in await ben.refusal("anporia_submit_result", task_id=task, output="early")
    assert "your own" in await alice.refusal("anporia_accept_task", task_id=task)
    assert (await ben.call("anporia_accept_task", task_id=task))["won"] is True
    assert "accepted already" in await carol.refusal("anporia_accept_task", task_id=task)
    assert "accepted already" in await alice.refusal("anporia_cancel_task", task_id=task)
    assert (await ben.call("anporia_list_tasks"))["tasks"] == []
    await ben.call("anporia_submit_result", task_id=task, output={"text": "tea"})
    assert "a party" in await alice.refusal("anporia_verify_task", task_id=task, verdict="passed")
    assert (await alice.call("anporia_get_task", task_id=task))["status"] == "completed"
    judged = await carol.call("anporia_verify_task", task_id=task, verdict="passed", reasons=["It is."])
    assert judged["provider"] == ids[1]
    shown = await alice.call("anporia_get_task", task_id=task)
    assert shown["status"] == "verified" and len(shown["events"]) == 3
    # a tenth is the treasury's (protocol section 20)
    assert (await alice.call("anporia_get_credit"))["balance"] == -10
    assert (await alice.call("anporia_get_credit", agent_id=ids[1]))["balance"] == 9
    other = (await alice.call("anporia_request_task", capability="paint", input={}, reward_credit=5))["task_id"]
    await alice.call("anporia_cancel_task", task_id=other, reason="no wall")
    assert (await alice.call("anporia_get_task", task_id=other))["status"] == "cancelled"
    assert (await alice.call("anporia_get_credit"))["available"] == -10
    return task


async def _intent(windows: list[Host], ids: list[str], task: str) -> None:
    """Alice says what she is up to; Carol judges it; it is verified for whoever relies on Carol."""
    alice, ben, carol = windows
    declared = await alice.call(
        "anporia_intent_declare",
        goal="Have the menu in English",
        success_criteria=[{"text": "The word for Tee is tea", "method": "manual"}],
        assignee=ids[1],
        topics=["tea"],
    )
    intent = declared["intent_id"]
    await alice.call("anporia_intent_update", intent_id=intent, status="executing", step="translate")
    assert "another agent's" in await ben.refusal("anporia_intent_update", intent_id=intent, status="completed")
    await alice.call("anporia_intent_update", intent_id=intent, status="completed", evidence=task)
    await carol.call("anporia_intent_verify", intent_id=intent, verdict="passed", method="manual")
    plain = (await ben.call("anporia_intent_status", intent_id=intent))["intent"]
    assert (plain["status"], plain["verified"]) == ("completed", None)
    for verifiers, verified in (([ids[2]], True), ([ids[1]], False)):
        found = await ben.call("anporia_intent_status", intent_id=intent, verifiers=verifiers)
        assert found["intent"]["verified"] is verified
    listed = await ben.call("anporia_intent_list", assignee=ids[1])
    assert [row["intent_id"] for row in listed["intents"]] == [intent]


async def _spawn(alice: Host, ben: Host, home: Path, relay_url: str) -> None:
    """Alice spawns a child for posts; a second server runs as the child; she takes her name back."""
    spawned = await alice.call("anporia_spawn_agent", name="scout", scope=[1], description="looks around")
    entry = spawned["configuration"]["mcpServers"]["anporia-scout"]
    assert "the kind 2" in await alice.refusal("anporia_spawn_agent", name="echo", scope=["reply"])
    assert os.stat(spawned["key_path"]).st_mode & 0o777 == 0o600
    parameters = StdioServerParameters(
        command=entry["command"], args=entry["args"], env=environment(relay_url, home, entry["env"])
    )
    async with Client(parameters) as client:
        child = Host(client)
        stats = await child.call("anporia_get_stats")
        assert stats["your_agent_id"] == spawned["agent_id"]
        (given,) = stats["acts_for"]
        assert (given["parent"], given["scope"], given["active"]) == (spawned["parent"], [1], True)
        covered = await child.call("anporia_post", content="I look around.", topics=["scouting"])
        await child.call("anporia_reply", parent_id=covered["id"], content="Beyond my scope.")
        await asyncio.sleep(1.1)  # acts are judged by their dates, in seconds
        assert (await alice.call("anporia_revoke_agent", agent_id=spawned["agent_id"]))["revoked"]
        await asyncio.sleep(1.1)
        await child.call("anporia_post", content="Still here.", topics=["scouting"])
    found = await ben.call("anporia_query", kinds=[1, 2], authors=[spawned["agent_id"]])
    said: dict[str, Any] = {event["content"]: event["authority"] for event in found["events"]}
    assert {authority["parent"] for authority in said.values()} == {spawned["parent"]}
    reasons = {content: authority["reason"] for content, authority in said.items()}
    assert reasons == {"I look around.": None, "Beyond my scope.": "out_of_scope", "Still here.": "revoked"}
