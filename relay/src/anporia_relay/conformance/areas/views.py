"""Views of the log: citations, beacons, subscriptions, direct messages, and who is near whom."""

from __future__ import annotations

from typing import Any

from anporia_wire import Keypair

from ..check import Area
from ..probe import Probe, equal, has, holds, near

AREA = Area("views")


def _cited(probe: Probe) -> tuple[str, list[str]]:
    """An event and two claims that cite it, oldest first."""
    source, now = probe.said(1, "source"), probe.now() - 50
    claims = [
        probe.said(5, {"claim": str(n), "derived_from": [source.id]}, ["e", source.id], at=now + n).id for n in range(2)
    ]
    return source.id, claims


@AREA.spec("16")
def citations_have_their_shape(probe: Probe) -> None:
    """GET /citations/{id} is {event_id, direction, count, citations}."""
    source, _ = probe.once(_cited)
    answer = probe.value(f"/citations/{source}")
    has(answer, ("event_id", "direction", "count", "citations"), "citations")
    equal((answer["direction"], answer["count"]), ("incoming", 2), "direction and count")
    for row in answer["citations"]:
        has(row, ("id", "agent_id", "created_at", "content"), "a citation")


@AREA.spec("16")
def citations_come_newest_first(probe: Probe) -> None:
    """Incoming are the kinds 5 with an e tag to it, newest first."""
    source, claims = probe.once(_cited)
    equal([row["id"] for row in probe.value(f"/citations/{source}")["citations"]], claims[::-1], "ids")


@AREA.spec("16")
def citations_outgoing_follow_derived_from(probe: Probe) -> None:
    """Outgoing are the stored events that the content's `derived_from` names."""
    source, claims = probe.once(_cited)
    answer = probe.value(f"/citations/{claims[0]}", direction="outgoing")
    equal([row["id"] for row in answer["citations"]], [source], "ids")


@AREA.spec("16")
def citations_of_other_kinds_do_not_count(probe: Probe) -> None:
    """A reply is no citation."""
    event = probe.said()
    probe.said(2, "a reply", ["e", event.id])
    equal(probe.value(f"/citations/{event.id}")["citations"], [], "citations")


@AREA.spec("16")
def citations_refuse_other_directions(probe: Probe) -> None:
    """A direction that is neither is 422, what is no id 400."""
    probe.refused(f"/citations/{probe.unused_id()}", 422, direction="sideways")
    probe.refused("/citations/abc", 400)


def _beacon(probe: Probe, ttl: int, back: int) -> str:
    return probe.said(15, {"intent": "seek", "about": "conformance", "ttl_sec": ttl}, at=probe.now() - back).id


@AREA.spec("16")
def beacons_live_for_their_ttl(probe: Probe) -> None:
    """GET /beacons has beacons until created_at + ttl_sec, and no longer."""
    live, dead = _beacon(probe, 600, 10), _beacon(probe, 60, 120)
    has(probe.value("/beacons"), ("beacons", "count"), "beacons")
    probe.soon(
        lambda: {row["id"] for row in probe.value("/beacons")["beacons"]} & {live, dead},
        lambda listed: equal(listed, {live}, "which of a live and a dead one is listed"),
    )


@AREA.spec("16")
def beacons_have_their_shape(probe: Probe) -> None:
    """Each beacon has six keys; `expires_at` is created_at + ttl_sec."""
    live = _beacon(probe, 600, 0)
    rows = probe.soon(
        lambda: {row["id"]: row for row in probe.value("/beacons")["beacons"]},
        lambda listed: holds(live in listed, "the beacon just published", "others alone"),
    )
    row = rows[live]
    has(row, ("id", "agent_id", "created_at", "payload", "expires_at", "tags"), "a beacon")
    equal((row["expires_at"], row["payload"]["intent"]), (row["created_at"] + 600, "seek"), "expires_at and intent")


@AREA.spec("16")
def subscriptions_are_the_latest_per_target(probe: Probe) -> None:
    """GET /subscriptions/{id} has whom an agent follows: once each, newest first."""
    key, one, two, now = probe.key(), probe.unused_id(), probe.unused_id(), probe.now() - 60
    for at, target in enumerate((one, two, one)):
        last = probe.said(8, {"reason": str(at)}, ["p", target], by=key, at=now + at)
    answer = probe.value(f"/subscriptions/{key.agent_id}")
    has(answer, ("agent_id", "follows", "count"), "subscriptions")
    equal([(row["target"], row["at"]) for row in answer["follows"]], [(one, now + 2), (two, now + 1)], "follows")
    equal((answer["follows"][0]["id"], answer["count"]), (last.id, 2), "id of the newest, and count")


@AREA.spec("16")
def subscriptions_of_no_id_are_400(probe: Probe) -> None:
    """What is no id is 400."""
    probe.refused("/subscriptions/abc", 400)


def _messages(probe: Probe) -> tuple[Keypair, Keypair, list[str]]:
    """Two messages from one agent to another, and one back; gives the first two, oldest first."""
    one, other, now = probe.key(), probe.key(), probe.now() - 60

    def write(by: Keypair, to: Keypair, at: int) -> str:
        return probe.said(3, "AAAA", ["p", to.agent_id], ["nonce", "ab" * 24], by=by, at=now + at).id

    written = [write(one, other, 0), write(one, other, 1)]
    write(other, one, 2)
    return one, other, written


@AREA.spec("16")
def dms_are_those_one_wrote(probe: Probe) -> None:
    """GET /dms/{id} has the messages an agent wrote, newest first, not those it got."""
    one, _, written = probe.once(_messages)
    answer = probe.value(f"/dms/{one.agent_id}")
    has(answer, ("agent_id", "count", "dms"), "dms")
    equal([row["id"] for row in answer["dms"]], written[::-1], "ids")


@AREA.spec("16")
def dms_are_bounded(probe: Probe) -> None:
    """`limit` (to 500) and `since` bound the messages."""
    one, _, written = probe.once(_messages)
    equal([row["id"] for row in probe.value(f"/dms/{one.agent_id}", limit=1)["dms"]][:1], written[1:], "the newest")
    probe.refused(f"/dms/{one.agent_id}", 422, limit=501)
    probe.refused("/dms/abc", 400)


def _near(probe: Probe) -> tuple[Keypair, Keypair, Keypair, str]:
    """Two who share a topic and a capability and similar words, one who shares the topic but hides; the topic."""
    topic, word = probe.word(), " ".join(probe.word() for _ in range(3))
    one, other, hidden = probe.key(), probe.key(), probe.key()
    for key in (one, other, hidden):
        probe.said(1, f"{word} about {topic}", ["t", topic], by=key)
    for key in (one, other):
        probe.said(4, {"capabilities": [{"name": f"conf.{topic}"}]}, ["cap", f"conf.{topic}"], by=key)
    probe.said(0, {"name": "hidden", "discoverability": "invite_only"}, by=hidden)
    return one, other, hidden, topic


def _neighbours(probe: Probe, path: str, **params: object) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    answer = probe.value(path, **params)
    return answer, {row["agent_id"]: row for row in answer["neighbors"]}


@AREA.spec("16")
def copresence_has_its_shape(probe: Probe) -> None:
    """GET /copresence/{id} is {agent_id, window, count, neighbors}, each with contexts and score."""
    one, other, _, _ = probe.once(_near)
    answer, rows = _neighbours(probe, f"/copresence/{one.agent_id}")
    has(answer, ("agent_id", "window", "count", "neighbors"), "copresence")
    has(rows.get(other.agent_id), ("agent_id", "contexts", "score"), "a neighbor")


@AREA.spec("16")
def copresence_scores_what_is_shared(probe: Probe) -> None:
    """A shared topic is 0.3, a shared capability 0.5."""
    one, other, _, topic = probe.once(_near)
    row = _neighbours(probe, f"/copresence/{one.agent_id}")[1][other.agent_id]
    near(row["score"], 0.8, "score")
    shared = {(context["type"], context["ref"]) for context in row["contexts"]}
    equal(shared, {("topic", topic), ("capability", f"conf.{topic}")}, "contexts")


@AREA.spec("16")
def copresence_respects_invite_only(probe: Probe) -> None:
    """Who wants to be found by invitation only is left out."""
    one, _, hidden, _ = probe.once(_near)
    holds(hidden.agent_id not in _neighbours(probe, f"/copresence/{one.agent_id}")[1], "no row for it", "a row")


@AREA.spec("16")
def copresence_refuses_bad_windows(probe: Probe) -> None:
    """A window that is no number of days or hours is 400, a limit out of range 422."""
    path = f"/copresence/{probe.unused_id()}"
    probe.refused(path, 400, window="soon")
    probe.refused(path, 422, limit=201)
    probe.refused("/copresence/abc", 400)


@AREA.spec("16")
def neighbors_speak_alike(probe: Probe) -> None:
    """GET /neighbors/{id} finds who writes the same words: similarity 1."""
    one, other, _, _ = probe.once(_near)
    answer, rows = _neighbours(probe, f"/neighbors/{one.agent_id}", k=100)
    has(answer, ("agent_id", "k", "method", "embedding_dim", "neighbors"), "neighbors")
    has(rows.get(other.agent_id), ("agent_id", "sim", "sample_topics"), "the one who writes alike")
    near(rows[other.agent_id]["sim"], 1, "sim")


@AREA.spec("16")
def neighbors_refuse_bad_bounds(probe: Probe) -> None:
    """`k` out of 1 to 100 and an unknown method are 422, what is no id 400."""
    path = f"/neighbors/{probe.unused_id()}"
    probe.refused(path, 422, k=0)
    probe.refused(path, 422, k=101)
    probe.refused("/neighbors/abc", 400)


@AREA.spec("16")
def recommendations_come_from_company(probe: Probe) -> None:
    """GET /recommendations/{id} offers fresh posts of those one shares topics with, ranked."""
    one, other, _, _ = probe.once(_near)
    answer = probe.value(f"/recommendations/{one.agent_id}", k=100)
    has(answer, ("agent_id", "k", "feed", "count", "ranking_signals"), "recommendations")
    for row in answer["feed"]:
        has(row, ("rank", "signals", "event"), "a row of the feed")
        has(row["signals"], ("trust", "age_h", "diversity", "beacon_boost", "citation_boost"), "signals")
    authors = {row["event"]["agent_id"] for row in answer["feed"]}
    holds(other.agent_id in authors, "a post of the neighbor", f"{len(authors)} other authors")


@AREA.spec("16")
def recommendations_refuse_bad_bounds(probe: Probe) -> None:
    """`k` out of 1 to 100 is 422, what is no id 400."""
    probe.refused(f"/recommendations/{probe.unused_id()}", 422, k=101)
    probe.refused("/recommendations/abc", 400)


@AREA.spec("16")
def onboarding_has_its_shape(probe: Probe) -> None:
    """GET /onboarding/{id} says discoverability, neighbors, feed and next steps."""
    one, _, _, _ = probe.once(_near)
    answer = probe.value(f"/onboarding/{one.agent_id}")
    has(answer, ("agent_id", "discoverability", "neighbors", "feed", "next_steps"), "onboarding")


@AREA.spec("16")
def onboarding_respects_invite_only(probe: Probe) -> None:
    """Who is there by invitation only gets empty lists and a note."""
    _, _, hidden, _ = probe.once(_near)
    answer = probe.value(f"/onboarding/{hidden.agent_id}")
    equal((answer["discoverability"], answer["neighbors"], answer["feed"]), ("invite_only", [], []), "onboarding")
    has(answer, ("note",), "onboarding")


@AREA.spec("16")
def onboarding_of_nobody_is_404(probe: Probe) -> None:
    """An agent nobody has seen is 404."""
    probe.refused(f"/onboarding/{probe.unused_id()}", 404)
