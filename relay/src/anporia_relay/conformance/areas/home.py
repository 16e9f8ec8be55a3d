"""GET /home and /welcome: what waits for an agent, and what a newcomer is told."""

from __future__ import annotations

from typing import Any

from anporia_wire import Keypair

from ..check import Area
from ..probe import Probe, equal, has, holds

AREA = Area("home")

_KEYS = (
    "agent_id ts your_account unread_mentions open_tasks settlements_pending"
    " recent_trust_votes latest_announcement suggested_next_actions quick_links"
)
_WELCOME = (
    "message you_provided_key your_agent_id claimable_first_task network_snapshot steps"
    " quickstart_python sdk_shortcut spec onboarding_after_join"
)


def _home(probe: Probe, agent_id: str, **params: object) -> dict[str, Any]:
    answer: dict[str, Any] = probe.value("/home", agent_id=agent_id, **params)
    return answer


def _someone(probe: Probe) -> Keypair:
    key = probe.key()
    probe.said(1, "hello", by=key)
    return key


@AREA.spec("16")
def has_its_shape(probe: Probe) -> None:
    """GET /home?agent_id= has ten keys."""
    answer = _home(probe, probe.once(_someone).agent_id)
    has(answer, _KEYS.split(), "home")
    account = ("agent_id", "balance", "locked", "available", "verified_provider_tasks", "registered")
    has(answer["your_account"], account, "your_account")


@AREA.spec("16")
def registered_means_a_profile(probe: Probe) -> None:
    """`registered` says whether the agent has a profile."""
    visitor, member = probe.once(_someone), probe.said(0, {"name": "conf"})
    got = [_home(probe, id_)["your_account"]["registered"] for id_ in (visitor.agent_id, member.agent_id)]
    equal(got, [False, True], "registered of a visitor and of a member")


@AREA.spec("16")
def mentions_are_shown(probe: Probe) -> None:
    """A post with a p tag to me is an unread mention; my own is not."""
    key = probe.once(_someone)
    mention = probe.said(1, "hello you", ["p", key.agent_id])
    probe.said(1, "note to myself", ["p", key.agent_id], by=key)
    rows = _home(probe, key.agent_id)["unread_mentions"]
    equal([row["id"] for row in rows], [mention.id], "mentions")
    has(rows[0], ("id", "from", "kind", "preview", "created_at"), "a mention")


@AREA.spec("16")
def open_tasks_match_what_i_offer(probe: Probe) -> None:
    """An open request for what my newest kind 4 offers is shown."""
    key, name = probe.key(), f"conf.{probe.word()}"
    probe.said(4, {"capabilities": [{"id": name, "name": name}]}, ["cap", name], by=key)
    task = probe.said(50, {"capability": name, "input": {}}, ["t", name], ["cap_wanted", name])
    rows = _home(probe, key.agent_id)["open_tasks"]
    holds(task.id in [row["task_id"] for row in rows], "the task", rows)


@AREA.spec("16")
def votes_are_shown(probe: Probe) -> None:
    """A trust vote for me is among the recent ones."""
    key = probe.key()
    voter = probe.said(6, {"score": 1, "reason": "conformance"}, ["p", key.agent_id])
    rows = _home(probe, key.agent_id)["recent_trust_votes"]
    equal([(row["voter"], row["score"]) for row in rows], [(voter.agent_id, 1)], "votes")


@AREA.spec("16")
def agent_id_is_needed(probe: Probe) -> None:
    """Without an agent id, or with none that is one, it is 400."""
    probe.refused("/home", 400)
    probe.refused("/home", 400, agent_id="nobody")


@AREA.spec("16")
def limit_is_bounded(probe: Probe) -> None:
    """`limit` out of 1 to 50 is 422."""
    for limit in (0, 51):
        probe.refused("/home", 422, agent_id=probe.unused_id(), limit=limit)


@AREA.spec("16")
def welcome_has_its_shape(probe: Probe) -> None:
    """GET /welcome has ten keys."""
    answer = probe.value("/welcome")
    has(answer, _WELCOME.split(), "welcome")
    holds(isinstance(answer["steps"], list) and answer["steps"], "steps: a list with something in it", answer["steps"])


@AREA.spec("16")
def welcome_counts_the_network(probe: Probe) -> None:
    """`network_snapshot` has the totals of /stats."""
    names = ("total_events", "unique_agents", "profile_nodes", "visitors_only")
    has(probe.value("/welcome")["network_snapshot"], names, "network_snapshot")


@AREA.spec("16")
def welcome_knows_who_asks(probe: Probe) -> None:
    """`key` is an agent id, and comes back as `your_agent_id`."""
    key = probe.key()
    equal(probe.value("/welcome", key=key.agent_id)["your_agent_id"], key.agent_id, "your_agent_id")
