"""Calls that a relay keeps waiting: so many at once, and none without an end."""

from __future__ import annotations

import threading
import time

import anyio
import anyio.to_thread
import pytest

from anporia_mcp_server.failures import ToolFailure
from anporia_mcp_server.server.threads import Threads
from anporia_mcp_server.tools import reading
from tests.mcp_server.sessions import Sessions, call, until


async def test_more_than_so_many_are_refused_and_given_up_ones_count() -> None:
    in_thread, go, running = Threads(2), threading.Event(), []

    def wait() -> str:
        running.append(1)
        go.wait(20)
        return "done"

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as given_up:
            async with anyio.create_task_group() as inner:
                inner.start_soon(in_thread, wait, None)
                inner.start_soon(in_thread, wait, None)
                await anyio.to_thread.run_sync(until, lambda: len(running) == 2)
                given_up.cancel()
        with pytest.raises(ToolFailure, match="under way already") as refused:
            await in_thread(wait, None)
        assert refused.value.code == "busy"
        go.set()
        await anyio.sleep(0.2)
        tasks.cancel_scope.cancel()
    assert await in_thread(lambda: "free again", None) == "free again"


async def test_what_takes_too_long_ends_for_whoever_waits() -> None:
    in_thread, go = Threads(2), threading.Event()
    began = time.monotonic()
    with pytest.raises(ToolFailure, match=r"no answer within 0\.1 s"):
        await in_thread(lambda: go.wait(20), 0.1)
    assert time.monotonic() - began < 10
    go.set()


def test_a_list_that_comes_slowly_is_cut_and_goes_on(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions()
    topic = f"slow-{session.agent_id[:8]}"
    posts = [call(session, "anporia_post", content=f"{n}", topics=[topic])["id"] for n in range(4)]
    monkeypatch.setattr(reading, "_PATIENCE_S", -1.0)  # over before the first event
    found, cursor = [], None
    for _ in range(10):
        page = call(session, "anporia_query", topic=topic, cursor=cursor)
        found += [event["id"] for event in page["events"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert set(found) <= set(posts) and len(found) == len(set(found)) and found


def test_ids_are_offered_while_others_are_shown(sessions: Sessions) -> None:
    session, over = sessions(), threading.Event()

    def show() -> None:
        while not over.is_set():
            session.note([{"id": f"{time.monotonic_ns():064x}"}])

    workers = [threading.Thread(target=show) for _ in range(2)]
    for worker in workers:
        worker.start()
    until(session.lately)
    assert all(len(session.lately()) <= 200 for _ in range(500))
    over.set()
    for worker in workers:
        worker.join()
