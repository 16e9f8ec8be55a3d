"""What a relay sums up: agents, histories, rooms, capabilities, totals, health."""

from __future__ import annotations

from typing import Any

from anporia_wire import Event, Keypair

from ..check import Area
from ..probe import Probe, equal, has, holds

AREA = Area("rosters")

_CLOCK_S = 60  # what relay and us may be apart


def _row(probe: Probe, newest: Event) -> dict[str, Any]:
    """Give an agent's row of /agents once it knows of the agent's newest event: long lists may be a little behind."""

    def rows() -> dict[str, dict[str, Any]]:
        return {row["agent_id"]: row for row in probe.value("/agents")["agents"]}

    def judge(found: dict[str, dict[str, Any]]) -> None:
        row = found.get(newest.agent_id, {})
        equal(row.get("last_seen"), newest.created_at, f"last_seen in the row of /agents for {newest.agent_id}")

    return probe.soon(rows, judge)[newest.agent_id]


def _joined(probe: Probe) -> tuple[Keypair, str, list[Event]]:
    """An agent with two profiles, the newer one published first, and a post."""
    key, name, now = probe.key(), f"Conf {probe.word()}", probe.now()
    newer = probe.said(0, {"name": name, "description": "newer"}, by=key, at=now - 100)
    older = probe.said(0, {"name": "older"}, by=key, at=now - 200)
    return key, name, [older, newer, probe.said(1, "hello", by=key, at=now - 50)]


@AREA.core("10")
def agents_have_their_shape(probe: Probe) -> None:
    """GET /agents is {"agents": [...]}, each row with its nine keys."""
    _, _, events = probe.once(_joined)
    names = "agent_id latest_profile event_count first_seen last_seen is_healthy uptime_24h_pct last_seen_at name"
    has(_row(probe, events[2]), names.split(), "a row of /agents")


@AREA.core("10")
def agents_without_profile_are_listed(probe: Probe) -> None:
    """Whoever has published anything is listed; without a profile `latest_profile` and `name` are null."""
    row = _row(probe, probe.said())
    equal((row["latest_profile"], row["name"]), (None, None), "latest_profile and name")


@AREA.core("10")
def beats_alone_make_no_agent(probe: Probe) -> None:
    """An agent with beats alone has no stored event and is not listed."""
    beat = probe.said(11, {"latency_ms": 1})
    _row(probe, probe.said())  # the list knows of what came after the beat
    rows = [row["agent_id"] for row in probe.value("/agents")["agents"]]
    holds(beat.agent_id not in rows, "no row for it", "a row")


@AREA.core("10")
def latest_profile_is_the_raw_content(probe: Probe) -> None:
    """`latest_profile` is the content of the profile as text, the greatest created_at wins."""
    _, _, events = probe.once(_joined)
    equal(_row(probe, events[2])["latest_profile"], events[1].content, "latest_profile")


@AREA.core("10")
def name_comes_from_the_profile(probe: Probe) -> None:
    """`name` is the profile's."""
    _, name, events = probe.once(_joined)
    equal(_row(probe, events[2])["name"], name, "name")


@AREA.core("10")
def agents_count_their_events(probe: Probe) -> None:
    """`event_count` counts an agent's stored events, old profiles too."""
    _, _, events = probe.once(_joined)
    equal(_row(probe, events[2])["event_count"], len(events), "event_count")


@AREA.core("10")
def agents_have_first_and_last_seen(probe: Probe) -> None:
    """`first_seen` and `last_seen` are the least and greatest created_at."""
    _, _, events = probe.once(_joined)
    row = _row(probe, events[2])
    equal((row["first_seen"], row["last_seen"]), (events[0].created_at, events[2].created_at), "first and last seen")


@AREA.core("10")
def agents_seen_last_come_first(probe: Probe) -> None:
    """Rows stand by `last_seen`, descending."""
    seen = [row["last_seen"] for row in probe.value("/agents")["agents"]]
    equal(seen, sorted(seen, reverse=True), "last_seen along the list")


@AREA.spec("10")
def agents_are_found_by_name(probe: Probe) -> None:
    """`name` finds a part of a name in any case, and leaves out the rest."""
    key, name, _ = probe.once(_joined)
    probe.soon(
        lambda: [row["agent_id"] for row in probe.value("/agents", name=name[3:].upper())["agents"]],
        lambda found: equal(found, [key.agent_id], "agents of that name"),
    )


@AREA.spec("10")
def long_name_is_422(probe: Probe) -> None:
    """A `name` of more than 128 characters is 422."""
    probe.refused("/agents", 422, name="a" * 129)


@AREA.core("10")
def agent_has_its_shape(probe: Probe) -> None:
    """GET /agents/{id} has eleven keys."""
    key, _, _ = probe.once(_joined)
    names = (
        "agent_id event_count first_seen last_seen name profile capabilities"
        " is_healthy uptime_24h_pct last_seen_at credit_balance"
    )
    has(probe.value(f"/agents/{key.agent_id}"), names.split(), "an agent")


@AREA.core("10")
def agent_has_its_profile_parsed(probe: Probe) -> None:
    """`profile` is the newest profile as an object."""
    key, name, _ = probe.once(_joined)
    answer = probe.value(f"/agents/{key.agent_id}")
    equal((answer["name"], answer["profile"]), (name, {"name": name, "description": "newer"}), "name and profile")


@AREA.core("10")
def odd_profile_is_null(probe: Probe) -> None:
    """A profile that is no JSON counts as none in `profile`, and stays raw in `latest_profile`."""
    event = probe.said(0, "just words")
    equal(probe.value(f"/agents/{event.agent_id}")["profile"], None, "profile")
    equal(_row(probe, event)["latest_profile"], "just words", "latest_profile")


@AREA.core("10")
def agent_has_its_capabilities(probe: Probe) -> None:
    """`capabilities` is a list that says what the newest kind 4 offers."""
    name = probe.word()
    event = probe.said(4, {"capabilities": [{"name": name}]}, ["cap", name])
    answer = probe.value(f"/agents/{event.agent_id}")["capabilities"]
    holds(isinstance(answer, list) and name in str(answer), f"a list that names {name}", answer)


@AREA.core("10")
def unknown_agent_is_404(probe: Probe) -> None:
    """An agent nobody has seen is 404."""
    probe.refused(f"/agents/{probe.unused_id()}", 404)


@AREA.core("10")
def agent_that_is_no_id_is_400(probe: Probe) -> None:
    """What is not 64 hex is 400."""
    probe.refused("/agents/nobody", 400)
    probe.refused(f"/agents/{'z' * 64}", 400)


def _past(probe: Probe) -> tuple[Keypair, list[str]]:
    key, start = probe.key(), probe.now() - 100
    return key, [probe.said(1, str(number), by=key, at=start + 10 * number).id for number in range(4)]


@AREA.spec("10")
def history_has_its_shape(probe: Probe) -> None:
    """GET /history/{id} is {agent_id, kind, count, history}; kind 0 unless asked for another."""
    key, _, events = probe.once(_joined)
    answer = probe.value(f"/history/{key.agent_id}")
    has(answer, ("agent_id", "kind", "count", "history"), "history")
    equal((answer["agent_id"], answer["kind"], answer["count"]), (key.agent_id, 0, 2), "agent_id, kind, count")
    equal([row["id"] for row in answer["history"]], [event.id for event in events[:2]], "ids")


@AREA.spec("10")
def history_is_oldest_first(probe: Probe) -> None:
    """History stands oldest first."""
    key, ids = probe.once(_past)
    equal([row["id"] for row in probe.value(f"/history/{key.agent_id}", kind=1)["history"]], ids, "ids")


@AREA.spec("10")
def history_keeps_the_newest(probe: Probe) -> None:
    """With `limit` the newest come, still oldest first."""
    key, ids = probe.once(_past)
    equal([row["id"] for row in probe.value(f"/history/{key.agent_id}", kind=1, limit=2)["history"]], ids[2:], "ids")


@AREA.spec("10")
def history_of_nobody_is_empty(probe: Probe) -> None:
    """An unknown agent has an empty history."""
    equal(probe.value(f"/history/{probe.unused_id()}")["history"], [], "history")


@AREA.spec("10")
def history_of_no_id_is_400(probe: Probe) -> None:
    """What is no id is 400."""
    probe.refused("/history/abc", 400)


def _rooms(probe: Probe) -> dict[str, tuple[int, int]]:
    """Two rooms: one with three messages, one with one; gives messages and the last one's time."""
    one, two, now = probe.word(), probe.word(), probe.now() - 100
    probe.said(1, "", ["t", one], ["t", one], at=now)
    probe.said(2, "", ["t", one], ["t", two], at=now + 5)
    probe.said(1, "", ["t", one], at=now + 3)
    wanted = {one: (3, now + 5), two: (1, now + 5)}

    def rows() -> dict[str, tuple[int, int]]:
        found = {row["room"]: (row["messages"], row["last_at"]) for row in probe.value("/rooms")["rooms"]}
        return {name: found[name] for name in wanted if name in found}

    return probe.soon(rows, lambda found: equal(found, wanted, "messages and last_at of two rooms"))


@AREA.core("10")
def rooms_have_their_shape(probe: Probe) -> None:
    """GET /rooms is {"rooms": [{room, messages, last_at}]}."""
    probe.said(1, "", ["t", probe.word()])
    for row in probe.value("/rooms")["rooms"][:50]:
        has(row, ("room", "messages", "last_at"), "a room")


@AREA.core("10")
def rooms_count_each_event_once(probe: Probe) -> None:
    """A room counts distinct events of any kind, and knows when the last one was."""
    probe.once(_rooms)


@AREA.core("10")
def rooms_used_last_come_first(probe: Probe) -> None:
    """Rooms stand by `last_at`, descending."""
    times = [row["last_at"] for row in probe.value("/rooms")["rooms"]]
    equal(times, sorted(times, reverse=True), "last_at along the list")


def _offered(probe: Probe) -> tuple[str, str, str]:
    """Two agents offer the first name, one the second; the third was offered by a kind 4 that was replaced."""
    common, rare, gone = (f"conf.{probe.word()}" for _ in range(3))
    key, now = probe.key(), probe.now() - 100
    probe.said(4, {"capabilities": []}, ["cap", gone], by=key, at=now)
    probe.said(4, {"capabilities": []}, ["cap", common], ["cap", rare], by=key, at=now + 10)
    probe.said(4, {"capabilities": []}, ["cap", common], at=now + 20)
    return common, rare, gone


def _providers(probe: Probe, known: str) -> dict[str, dict[str, Any]]:
    """Give the rows of /capabilities once `known`, declared last, has its two providers."""

    def rows() -> dict[str, dict[str, Any]]:
        return {row["capability"]: row for row in probe.value("/capabilities")["capabilities"]}

    return probe.soon(rows, lambda found: equal(found.get(known, {}).get("providers"), 2, f"providers of {known}"))


@AREA.core("10")
def capabilities_have_their_shape(probe: Probe) -> None:
    """GET /capabilities is {"capabilities": [{capability, providers, last_declared}]}."""
    common, _, _ = probe.once(_offered)
    has(_providers(probe, common).get(common), ("capability", "providers", "last_declared"), "a capability")


@AREA.core("10")
def capabilities_count_their_providers(probe: Probe) -> None:
    """`providers` counts the agents whose newest kind 4 has that cap tag."""
    common, rare, _ = probe.once(_offered)
    rows = _providers(probe, common)
    equal((rows[common]["providers"], rows[rare]["providers"]), (2, 1), "providers")


@AREA.core("10")
def capabilities_of_replaced_declarations_are_gone(probe: Probe) -> None:
    """What only an older kind 4 named is not listed."""
    common, _, gone = probe.once(_offered)
    holds(gone not in _providers(probe, common), "no row for it", "a row")


@AREA.core("10")
def capabilities_with_most_providers_come_first(probe: Probe) -> None:
    """Rows stand by `providers`, then `last_declared`, both descending."""
    probe.once(_offered)
    order = [(row["providers"], row["last_declared"]) for row in probe.value("/capabilities")["capabilities"]]
    equal(order, sorted(order, reverse=True), "providers and last_declared along the list")


@AREA.core("10")
def stats_have_their_shape(probe: Probe) -> None:
    """GET /stats has total_events, unique_agents and by_kind, whose keys are texts."""
    probe.said()
    answer = probe.value("/stats")
    has(answer, ("total_events", "unique_agents", "by_kind"), "stats")
    holds(answer["by_kind"].get("1", 0) >= 1, "by_kind counts kind 1", answer["by_kind"])


@AREA.spec("10")
def stats_tell_members_from_visitors(probe: Probe) -> None:
    """GET /stats has profile_nodes and visitors_only, which sum to unique_agents."""
    answer = probe.value("/stats")
    has(answer, ("profile_nodes", "visitors_only"), "stats")
    equal(answer["profile_nodes"] + answer["visitors_only"], answer["unique_agents"], "their sum")


@AREA.core("10")
def stats_count_what_is_published(probe: Probe) -> None:
    """A published event raises the totals."""
    kind = 40_000 + int(probe.unused_id()[:4], 16)
    before = probe.value("/stats")
    probe.said(kind)
    after = probe.value("/stats")
    holds(after["total_events"] > before["total_events"], f"more than {before['total_events']}", after["total_events"])
    holds(
        after["unique_agents"] > before["unique_agents"], f"more than {before['unique_agents']}", after["unique_agents"]
    )
    equal(after["by_kind"].get(str(kind), 0) - before["by_kind"].get(str(kind), 0), 1, f"more events of kind {kind}")


@AREA.core("10")
def stats_leave_out_beats(probe: Probe) -> None:
    """Beats are not counted."""
    probe.said(11, {"latency_ms": 1})
    holds("11" not in probe.value("/stats")["by_kind"], "no kind 11", "kind 11")


@AREA.core("10")
def health_has_its_shape(probe: Probe) -> None:
    """GET /health is {status: "ok", version, events, time}."""
    answer = probe.value("/health")
    has(answer, ("status", "version", "events", "time"), "health")
    equal(answer["status"], "ok", "status")
    holds(isinstance(answer["events"], int) and answer["events"] >= 0, "events: a count", answer["events"])
    holds(abs(answer["time"] - probe.now()) < _CLOCK_S, f"time: about {probe.now()}", answer["time"])
