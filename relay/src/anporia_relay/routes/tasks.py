"""Tasks and the credit they move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anporia_wire import Event, kinds
from anporia_wire.views import TaskThread

from ..errors import Rejected
from ..http import Request, Response, Route, json, serialise
from .ids import agent_id, event_id

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["routes"]

MAX_THREAD = 1_000  # events of one thread in an answer, the oldest; the status counts them all


def routes(relay: Relay) -> list[Route]:
    """Give the routes about tasks and credit."""
    views = relay.views

    async def task(request: Request) -> Response:
        task_id = event_id(request.arg, "task_id")
        rows, complete = await relay.store.thread(task_id, MAX_THREAD)
        if not rows:
            raise Rejected("task_not_found", "task not found")
        return Response(200, _thread(task_id, rows, views.tasks.read(task_id), complete, int(relay.wall())))

    async def credit(request: Request) -> Response:
        return json(views.credit.read(agent_id(request.arg), int(relay.wall())))

    return [
        Route("GET", "/task/{task_id}", task, "A task, what came of it, and its whole thread",
              codes=("bad_event_id", "task_not_found")),
        Route("GET", "/agents/{agent_id}/credit", credit, "An agent's credit, derived from its tasks",
              codes=("bad_agent_id",)),
    ]  # fmt: skip


def _thread(task_id: str, rows: list[bytes], thread: TaskThread | None, complete: bool, now: int) -> bytes:
    """Write the answer of `/task/{id}`, joining the stored bytes of its events."""
    events = list(zip(map(Event.from_stored, rows), rows, strict=True))
    if thread is None:  # no request of this id is stored, so no view keeps it
        thread = TaskThread()
        for event, _ in events:
            thread.apply(event, task_id)

    def of_kind(kind: int) -> bytes:
        return b"[%b]" % b",".join(raw for event, raw in events if event.kind == kind)

    request = next((raw for event, raw in events if event.id == task_id and event.kind == kinds.TASK_REQUEST), b"null")
    results = [raw for event, raw in events if event.kind == kinds.TASK_RESULT and event.agent_id == thread.provider]
    facts: dict[str, Any] = {
        "task_id": task_id,
        "status": thread.status(now),
        "winning_accept_id": thread.accept[1] if thread.accept else None,
        "consensus": thread.consensus(),
    }
    if thread.mocked:
        facts["phase"] = "demo"
    if not complete:
        facts["truncated"] = True
    lists = {
        b"request": request,
        b"accepts": of_kind(kinds.TASK_ACCEPT),
        b"results": b"[%b]" % b",".join(results),
        b"verifies": of_kind(kinds.TASK_VERIFY),
        b"payments": of_kind(kinds.TASK_PAYMENT),
        b"cancels": of_kind(kinds.TASK_CANCEL),
        b"events": b"[%b]" % b",".join(rows),
    }
    return serialise(facts)[:-1] + b"".join(b',"%b":%b' % item for item in lists.items()) + b"}"
