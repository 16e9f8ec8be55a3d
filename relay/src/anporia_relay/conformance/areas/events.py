"""GET /events: every filter, their ranges, the order, and paging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anporia_wire import Event, Keypair

from ..check import Area, Body
from ..probe import ENVELOPE, Probe, equal, holds

AREA = Area("events")


@dataclass(frozen=True, slots=True)
class _Facts:
    """Six events on one topic, oldest first, ten seconds apart: kinds 1, 1, 2, 5, 1, 2 by A, B, A, B, A, B."""

    topic: str
    friend: str
    a: Keypair
    b: Keypair
    events: list[Event]

    def ids(self, *numbers: int) -> list[str]:
        return [self.events[number].id for number in sorted(numbers, reverse=True)]


def _facts(probe: Probe) -> _Facts:
    facts = _Facts(probe.word(), probe.unused_id(), probe.key(), probe.key(), [])
    start = probe.now() - 600
    for number, kind in enumerate((1, 1, 2, 5, 1, 2)):
        tags = [["t", facts.topic]] + ([["p", facts.friend]] if number in (1, 4) else [])
        content: object = {"claim": "x"} if kind == 5 else "x"
        event = probe.said(kind, content, *tags, by=(facts.a, facts.b)[number % 2], at=start + 10 * number)
        facts.events.append(event)
    equal(len(probe.ids(t=facts.topic)), len(facts.events), "events listed of those just published")
    return facts


# name, level, claim, parameters beside the topic (a, b: the authors; N: the time of event N), events that match
_FILTERS: list[tuple[str, str, str, dict[str, str], tuple[int, ...]]] = [
    ("topic", "core", "`t` alone gives all of a topic, newest first.", {}, (0, 1, 2, 3, 4, 5)),
    ("one-kind", "core", "`kinds=1` gives that kind only.", {"kinds": "1"}, (0, 1, 4)),
    ("two-kinds", "core", "`kinds=2,5` gives both.", {"kinds": "2,5"}, (2, 3, 5)),
    ("kinds-with-spaces", "core", "Spaces in `kinds` mean nothing.", {"kinds": " 2 , 5 "}, (2, 3, 5)),
    ("kind-alias", "spec", "`kind` is `kinds` where that is absent.", {"kind": "5"}, (3,)),
    ("kinds-before-kind", "spec", "`kinds` wins over `kind`.", {"kinds": "5", "kind": "1"}, (3,)),
    ("kind-nobody-used", "core", "A kind nobody used gives nothing.", {"kinds": "987654"}, ()),
    ("one-author", "core", "`authors` with one id gives that agent's events.", {"authors": "{a}"}, (0, 2, 4)),
    ("two-authors", "core", "`authors` with two ids gives both.", {"authors": "{a},{b}"}, (0, 1, 2, 3, 4, 5)),
    ("unknown-author", "core", "An unknown author gives nothing.", {"authors": "ab" * 32}, ()),
    ("author-that-is-no-id", "core", "An author that is no id gives nothing.", {"authors": "nobody"}, ()),
    (
        "known-and-unknown-author",
        "core",
        "An unknown author beside a known one changes nothing.",
        {"authors": "nobody,{b}"},
        (1, 3, 5),
    ),
    ("person", "spec", "`p` gives events with that value of a p tag.", {"p": "{friend}"}, (1, 4)),
    ("unknown-person", "spec", "A `p` nobody has gives nothing.", {"p": "cd" * 32}, ()),
    ("since", "core", "`since` is inclusive.", {"since": "{2}"}, (2, 3, 4, 5)),
    ("until", "core", "`until` is inclusive.", {"until": "{2}"}, (0, 1, 2)),
    ("since-and-until", "core", "Both bound from both sides.", {"since": "{1}", "until": "{3}"}, (1, 2, 3)),
    ("one-second", "core", "`since` = `until` is one second.", {"since": "{3}", "until": "{3}"}, (3,)),
    ("since-after-until", "core", "`since` after `until` gives nothing.", {"since": "{3}", "until": "{2}"}, ()),
    ("negative-since", "core", "A negative `since` is before everything.", {"since": "-5"}, (0, 1, 2, 3, 4, 5)),
    ("kind-and-author", "core", "Filters must hold together.", {"kinds": "1", "authors": "{a}"}, (0, 4)),
    (
        "all-together",
        "core",
        "All filters at once.",
        {"kinds": "1,2", "authors": "{b}", "since": "{1}", "until": "{4}"},
        (1,),
    ),
    ("limit-one", "core", "`limit=1` gives the newest.", {"limit": "1"}, (5,)),
    ("limit-three", "core", "`limit=3` gives the newest three.", {"limit": "3"}, (3, 4, 5)),
    ("limit-1000", "core", "`limit=1000` is the most.", {"limit": "1000"}, (0, 1, 2, 3, 4, 5)),
    ("empty-kinds", "core", "An empty `kinds` counts as absent.", {"kinds": ""}, (0, 1, 2, 3, 4, 5)),
    ("empty-authors", "core", "An empty `authors` counts as absent.", {"authors": ""}, (0, 1, 2, 3, 4, 5)),
    ("empty-person", "spec", "An empty `p` counts as absent.", {"p": ""}, (0, 1, 2, 3, 4, 5)),
]

# name, level, parameter, value, statuses
_REFUSED: list[tuple[str, str, str, str, tuple[int, ...]]] = [
    ("limit-zero", "core", "limit", "0", (422,)),
    ("limit-negative", "core", "limit", "-1", (422,)),
    ("limit-1001", "core", "limit", "1001", (422,)),
    ("limit-words", "core", "limit", "many", (422,)),
    ("limit-empty", "core", "limit", "", (422,)),
    ("since-words", "core", "since", "yesterday", (422,)),
    ("since-fraction", "core", "since", "1.5", (422,)),
    ("since-empty", "core", "since", "", (422,)),
    ("until-words", "core", "until", "tomorrow", (422,)),
    ("as-of-words", "spec", "as_of", "then", (422,)),
    ("kinds-words", "spec", "kinds", "post", (400, 422)),
    ("kinds-trailing-comma", "spec", "kinds", "1,", (400, 422)),
    ("kinds-fraction", "spec", "kinds", "1.5", (400, 422)),
    ("kinds-beyond-64-bits", "spec", "kinds", str(2**63), (400, 422)),
]


def _given(facts: _Facts, params: dict[str, str]) -> dict[str, str]:
    values = {str(number): event.created_at for number, event in enumerate(facts.events)}
    ours = {"a": facts.a.agent_id, "b": facts.b.agent_id, "friend": facts.friend, **values}
    filled = params
    for name, value in ours.items():
        filled = {key: text.replace(f"{{{name}}}", str(value)) for key, text in filled.items()}
    return filled


def _filter(params: dict[str, str], wanted: tuple[int, ...]) -> Body:
    def body(probe: Probe) -> None:
        facts = probe.once(_facts)
        got = probe.ids(t=facts.topic, **_given(facts, params))
        equal([id_[:8] for id_ in got], [id_[:8] for id_ in facts.ids(*wanted)], f"ids (begun) for {params}")

    return body


def _refuse(name: str, value: str, statuses: tuple[int, ...]) -> Body:
    def body(probe: Probe) -> None:
        probe.refused("/events", *statuses, **{name: value})

    return body


for _name, _level, _claim, _params, _wanted in _FILTERS:
    AREA.add(_name, _level, "8", _claim, _filter(_params, _wanted))
for _name, _level, _param, _value, _statuses in _REFUSED:
    _how = " or ".join(map(str, _statuses))
    AREA.add(f"{_name}-refused", _level, "8", f"`{_param}={_value}` is {_how}.", _refuse(_param, _value, _statuses))


@AREA.core("8")
def answer_is_a_bare_array(probe: Probe) -> None:
    """The answer is a JSON array of envelopes with seven keys each, nothing else."""
    for row in probe.events(t=probe.once(_facts).topic):
        equal(sorted(row), sorted(ENVELOPE), "keys of an event")


@AREA.core("8")
def unfiltered_is_newest_first(probe: Probe) -> None:
    """Without a filter too, `created_at` never rises along the list."""
    probe.once(_facts)
    times = [row["created_at"] for row in probe.events(limit=200)]
    equal(times, sorted(times, reverse=True), "created_at along the list")


@AREA.core("8")
def limit_defaults_to_100(probe: Probe) -> None:
    """Without `limit` at most 100 events come, and 100 where there are more."""
    most, usual = len(probe.events(limit=1000)), len(probe.events())
    equal(usual, min(100, most), "events without limit")


@AREA.spec("8")
def ties_are_broken_by_id(probe: Probe) -> None:
    """Events of one second stand in ascending order of their ids."""
    key, topic, at = probe.key(), probe.word(), probe.now() - 60
    said = sorted(probe.said(1, str(number), ["t", topic], by=key, at=at).id for number in range(8))
    equal(probe.ids(t=topic), said, "ids on the topic")
    equal(probe.ids(authors=key.agent_id), said, "ids of the author")


@AREA.spec("8")
def huge_times_are_no_fault(probe: Probe) -> None:
    """`until` of 2^63 and more is answered or refused, but is no fault of the relay."""
    answer = probe.refused("/events", 200, 400, 422, until=2**63)
    holds(answer.status != 200 or isinstance(answer.json(), list), "an array, where it is 200", answer.text)


def _topics(probe: Probe) -> tuple[str, Event]:
    word = probe.word()
    event = probe.said(1, "", ["t", word, "third"], ["t", f"{word} ä/&+?"], ["T", "upper"], ["x", f"{word}-x"])
    equal(probe.ids(t=word), [event.id], "events on the topic just published")
    return word, event


def _found(probe: Probe, suffix: str, wanted: bool) -> None:
    word, event = probe.once(_topics)
    equal(probe.ids(t=f"{word}{suffix}"), [event.id] if wanted else [], f"events for t={word}{suffix}")


@AREA.core("8")
def topic_of_any_characters(probe: Probe) -> None:
    """`t` may hold spaces, signs and letters beyond ASCII."""
    _found(probe, " ä/&+?", True)


@AREA.core("8")
def topic_is_exact(probe: Probe) -> None:
    """`t` is no prefix."""
    _found(probe, " ", False)
    word, _ = probe.once(_topics)
    equal(probe.ids(t=word[:-1]), [], "events for a shorter topic")


@AREA.core("8")
def topic_is_case_sensitive(probe: Probe) -> None:
    """`t` in another case is another topic."""
    word, _ = probe.once(_topics)
    equal(probe.ids(t=word.upper()), [], "events for the topic in upper case")


@AREA.core("8")
def topic_is_the_second_member(probe: Probe) -> None:
    """Only the second member of a t tag is its value."""
    _, event = probe.once(_topics)
    equal([row for row in probe.ids(t="third") if row == event.id], [], "the event under t=third")


@AREA.core("8")
def topic_is_a_t_tag(probe: Probe) -> None:
    """Values of other tags are no topics."""
    _found(probe, "-x", False)


@AREA.core("8")
def several_topics_each_find_it(probe: Probe) -> None:
    """An event with several t tags is found under each, once."""
    words = [probe.word() for _ in range(3)]
    event = probe.said(1, "", *(["t", word] for word in words), ["t", words[0]])
    for word in words:
        equal(probe.ids(t=word), [event.id], "events on the topic")


@AREA.core("8")
def beats_are_never_listed(probe: Probe) -> None:
    """A beat is in no list."""
    key = probe.key()
    post = probe.said(1, "", by=key)
    probe.said(11, {"latency_ms": 5}, by=key)
    equal(probe.ids(authors=key.agent_id), [post.id], "events of its author")
    equal(probe.ids(authors=key.agent_id, kinds=11), [], "beats of its author")


@AREA.spec("8")
def lobby_is_left_out(probe: Probe) -> None:
    """Lobby posts are left out where neither `kinds` nor `t` is given, even under `authors`."""
    event = probe.once(Probe.lobby)
    equal(probe.ids(authors=event.agent_id, kinds=1), [event.id], "kinds 1 of the lobby's guest")
    equal(probe.ids(authors=event.agent_id), [], "events of the lobby's guest")


@AREA.core("8")
def lobby_is_shown_when_asked_for(probe: Probe) -> None:
    """Lobby posts are listed under `t=lobby` and under `kinds`."""
    event = probe.once(Probe.lobby)
    equal(probe.ids(authors=event.agent_id, t="lobby"), [event.id], "events of the guest under t=lobby")
    equal(probe.ids(authors=event.agent_id, kinds=1), [event.id], "events of the guest under kinds=1")


def _book(probe: Probe) -> tuple[str, set[str]]:
    """23 events over 8 seconds: pages of seven end inside a second."""
    topic, key, start = probe.word(), probe.key(), probe.now() - 900
    said = {probe.said(1, str(number), ["t", topic], by=key, at=start + number // 3).id for number in range(23)}
    return topic, said


@AREA.core("8")
def paging_by_until_misses_nothing(probe: Probe) -> None:
    """Pages by `until` = the last one's created_at, known ids dropped, give every event once."""
    topic, said = probe.once(_book)
    seen: dict[str, Any] = {}
    until: dict[str, int] = {}
    for _ in range(len(said)):
        page = probe.events(t=topic, limit=7, **until)
        fresh = [row for row in page if row["id"] not in seen]
        if not fresh:
            break
        seen.update((row["id"], row) for row in fresh)
        until = {"until": page[-1]["created_at"]}
    equal(set(seen), said, "ids of all pages")


@AREA.core("8")
def a_page_is_full(probe: Probe) -> None:
    """A page holds `limit` events where so many match."""
    topic, _ = probe.once(_book)
    equal([len(probe.events(t=topic, limit=size)) for size in (7, 20, 23, 24)], [7, 20, 23, 23], "sizes of pages")


@AREA.spec("8")
def as_of_bounds_like_until(probe: Probe) -> None:
    """`as_of` is an inclusive upper bound and replaces `until`."""
    facts = probe.once(_facts)
    at = facts.events[2].created_at
    equal(probe.ids(t=facts.topic, as_of=at), facts.ids(0, 1, 2), "ids up to as_of")
    equal(
        probe.ids(t=facts.topic, as_of=at, until=facts.events[0].created_at), facts.ids(0, 1, 2), "ids with until too"
    )


@AREA.spec("8")
def as_of_shows_what_was_revoked(probe: Probe) -> None:
    """`as_of` shows revoked events as well."""
    key = probe.key()
    event = probe.said(by=key)
    probe.said(9, {"reason": "conformance"}, ["e", event.id], by=key)
    rows = probe.ids(authors=key.agent_id, kinds=1, as_of=probe.now() + 60)
    holds(event.id in rows, "the revoked event", rows)


def _branches(probe: Probe) -> tuple[str, dict[str, str]]:
    topic = probe.word()
    tags: dict[str, list[list[str]]] = {"none": [], "b-one": [["branch", "b-one"]], "b-two": [["branch", "b-two"]]}
    return topic, {name: probe.said(1, name, ["t", topic], *more).id for name, more in tags.items()}


def _branch(branch: str, *wanted: str) -> Body:
    def body(probe: Probe) -> None:
        topic, ids = probe.once(_branches)
        equal(set(probe.ids(t=topic, branch=branch)), {ids[name] for name in wanted}, f"ids on {branch}")

    return body


for _name, _claim, _branch_, _wanted_ in [
    ("main", "`branch=main` leaves out what names another branch.", "main", ("none",)),
    ("all", "`branch=all` leaves out nothing.", "all", ("none", "b-one", "b-two")),
    ("named", "`branch=b-…` gives what names it.", "b-one", ("b-one",)),
    ("two-named", "Several branches give what names any of them.", "b-one,b-two", ("b-one", "b-two")),
    ("unknown", "A branch nobody named gives nothing.", "b-conformance-none", ()),
]:
    AREA.add(f"branch-{_name}", "spec", "8", _claim, _branch(_branch_, *_wanted_))
