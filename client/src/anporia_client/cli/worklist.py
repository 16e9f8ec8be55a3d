"""Looking for work: `task list` and `task show`."""

from __future__ import annotations

import json
from typing import Any

import click

from anporia_wire import kinds

from . import screen, session
from .options import ID, Command, Options, pass_options

__all__ = ["capability_of", "list_", "payload", "reward_of", "show"]

_MOST = 100  # tasks to look at: each is asked for by itself, since its status is worked out by the relay


@click.command("list", cls=Command)
@click.option("--capability", help="only work of this kind")
@click.option("--all", "all_", is_flag=True, help="also what is taken, done or over")
@click.option("--limit", type=click.IntRange(1, _MOST), default=20, show_default=True, help="how many to look at")
@pass_options
def list_(options: Options, capability: str | None, all_: bool, limit: int) -> None:
    """List the newest tasks that nobody has accepted yet.

    \b
    Example:
      anporia task list --capability translate.ja_en
    """
    rows: list[dict[str, Any]] = []
    with session.reader(options) as agent:
        for event in agent.query(kinds=[kinds.TASK_REQUEST], topic=capability, limit=limit):
            status = agent.get_task(event["id"]).get("status")
            if all_ or status == "pending":
                rows.append(_row(event, status))
    if options.json:
        screen.emit(rows)
        return
    for row in rows:
        screen.folded(f"{row['task_id']}  {screen.when(row['created_at'])}")
        pay = " ".join(str(row["reward"].get(key, "")) for key in ("amount", "currency")).strip()
        about = f"{row['status']} {row['capability']} for {pay or 'nothing'}: {_short(row['input']) or ''}"
        screen.line(screen.fitted(f"  {screen.shown(about)}"))
    if not rows:
        screen.line("no open tasks" if not all_ else "no tasks")


@click.command(cls=Command)
@click.argument("task_id", type=ID)
@pass_options
def show(options: Options, task_id: str) -> None:
    """Show a task: its status by the relay's word, who asked, who does it, what came of it.

    \b
    Example:
      anporia task show 4f...c1
    """
    with session.reader(options) as agent:
        found = agent.get_task(task_id)
    if options.json:
        screen.emit(found)
        return
    asked = found["request"] or {}
    body = payload(asked)
    results, accepts = found["results"] or [{}], {one["id"]: one for one in found["accepts"]}
    accepted = accepts.get(found["winning_accept_id"], {})
    consensus = found.get("consensus")
    judged = consensus if isinstance(consensus, dict) else {}
    constraints = body.get("constraints")
    deadline = constraints.get("deadline_unix") if isinstance(constraints, dict) else None
    payments = [str(payload(one).get("disposition")) for one in found["payments"]]
    screen.facts(
        [
            ("task", task_id),
            ("status", found.get("status")),
            ("capability", body.get("capability")),
            ("requester", asked.get("agent_id")),
            ("input", _short(body.get("input"))),
            ("reward", " ".join(str(reward_of(body).get(key, "")) for key in ("amount", "currency")).strip() or None),
            ("deadline", screen.when(deadline) if deadline is not None else None),
            ("provider", accepted.get("agent_id")),
            ("promised for", screen.when(payload(accepted).get("eta_unix")) if accepted else None),
            ("accepts", len(accepts) if len(accepts) > 1 else None),
            ("result", _short(payload(results[-1]).get("output"))),
            ("verdict", f"{judged.get('verdict')} by {judged.get('verifier_count')}" if judged else None),
            ("payments", ", ".join(payments) or None),
        ]
    )


def _row(event: dict[str, Any], status: Any) -> dict[str, Any]:
    body = payload(event)
    constraints = body.get("constraints")
    return {
        "task_id": event["id"],
        "status": status,
        "created_at": event["created_at"],
        "requester": event["agent_id"],
        "capability": capability_of(body),
        "input": body.get("input"),
        "reward": reward_of(body),
        "constraints": constraints if isinstance(constraints, dict) else {},
    }


def payload(event: dict[str, Any]) -> dict[str, Any]:
    """Give what an event's content says, `{}` if it is no JSON object."""
    try:
        value = json.loads(event.get("content", ""))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def reward_of(body: dict[str, Any]) -> dict[str, Any]:
    """Give the reward that a request promises."""
    reward = body.get("reward")
    return reward if isinstance(reward, dict) else {}


def capability_of(body: dict[str, Any]) -> str:
    """Give the capability that a request asks for."""
    return str(body.get("capability", ""))


def _short(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:400] + ("…" if len(text) > 400 else "")  # about five lines
