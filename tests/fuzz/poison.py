"""From bytes to hostile events and questions, the same for hypothesis, atheris and a plain test.

A structure-aware decoder: each byte chooses, so that a changed byte changes one choice and whoever mutates bytes
(a fuzzer guided by coverage) mutates events. When the bytes are used up every choice is the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

import orjson

from anporia_relay.http import Route
from anporia_wire import Event
from anporia_wire.views import IntentQuery, OfferQuery, Views
from anporia_wire.views.intents import ALL_STATUSES
from tests.relay.served import NOW

__all__ = ["KINDS", "ODD_TEXTS", "Choices", "content", "created_at", "plain_question", "question", "read_all", "tags"]

T = TypeVar("T")

MAX_STEPS = 100_000  # of a refresh of trust

KINDS = (
    *(0, 4, 5, 6, 15, 50, 53, 1, 2, 3, 7, 8, 9, 10, 12, 13, 16, 17, 21, 30, 31, 51, 52, 54, 55),
    *(22, 40, 1_000, 1_999, 2_000, 2**31, 2**53 - 1),
    *(1_500, 1_501, 1_502, 1_503, 1_504, 1_500, 1_501, 1_502, 1_503),
)

ODD_NUMBERS = (
    *("0", "1", "-1", "0.5", "2", "-0.0", "5e-324", "1e-400", "1e308", "-1e308", "1e400", "-1e400", "9" * 5_000),
    *("NaN", "Infinity", "-Infinity", "9007199254740993", "9223372036854775807", "9223372036854775808"),
    *("-9223372036854775808", "18446744073709551615", "18446744073709551616", "86401", "1790000000"),
)
# what JSON can say and a reader may stumble over; as text, since Python's writer knows not all of it
ODD_JSON = (
    *ODD_NUMBERS,
    *("null", "true", "false"),
    *('""', '"\\u0000"', '"\\ud800"', '"\\udc00 x"', '"\u2028\u0085"', '"e\u0301\u0315\u0300"', '"\ufdfa\ud7ff"'),
    *('"1_000"', '"٣"', '"inf"', '"nan"', '" 5 "', '"' + "9" * 5_000 + '"', '"passed "', '"' + "x" * 1_100 + '"'),
    *("[]", "{}", "[[]]", "[null]", "[{}]", "[1]", '{"a":1}', '["x",["y"]]', '{"name":null}', '{"":{}}'),
    *("[" * 20 + "]" * 20, '{"a":' * 30 + "1" + "}" * 30, "[" * 33 + "]" * 33, "[" * 900 + "]" * 900),
)
# what means something somewhere, so that it also stands where it means nothing
MEANT = (
    *('"passed"', '"failed"', '"disputed"', '"release"', '"refund"', '"mocked"', '"anp2_credit"', '"invite_only"'),
    *('"spam"', '"seek"', '"offer"', '"USD"', '"sent"', '"dead_man_switch"', '"freeze_network"', "60", "86400", "0.25"),
    *(
        '{"payment_method":"anp2_credit","amount":5}',
        '{"payment_method":"anp2_credit","amount":1e15}',
        '{"payment_method":"anp2_credit","amount":"7"}',
        '{"payment_method":"anp2_credit","amount":[5]}',
        '{"payment_method":"mocked"}',
        f'{{"deadline_unix":{NOW - 5}}}',
        f'{{"deadline_unix":"{NOW + 5}"}}',
        '{"deadline_unix":1e400}',
        '{"deadline_unix":NaN}',
        '{"deadline_unix":1e300}',
        '{"p95_latency_ms":-1e308,"supported_languages":{"en":1}}',
        '{"p95_latency_ms":5e-324,"supported_languages":[["en"]]}',
        '{"amount":1e308,"currency":["USD"]}',
        '{"amount":-5,"currency":"USD"}',
        '[{"name":"a.b","constraints":5,"tags":{"x":1},"extensions":[1,{"uri":[]}],"pricing":[1],"version":{}}]',
        '[{"name":["a"]},{"name":5},{"name":""},"a",[["a"]],null]',
        '[{"name":"a","constraints":{"p95_latency_ms":1e308},"pricing":{"amount":1e308}},{"name":"a"}]',
    ),
)
FIELDS = (
    *("name", "capabilities", "score", "ttl_sec", "task_id", "verdict", "reward", "constraints", "derived_from"),
    *(
        "disposition",
        "discoverability",
        "reason",
        "payment_method",
        "category",
        "intent",
        "capability",
        "deadline_unix",
    ),
    *("url", "preferred_branch", "served_branches", "checkpoint_id", "state_hash", "event_count", "as_of", "type"),
    *("target_checkpoint", "addresses", "chain", "tx_hash", "effective_at", "act", "trigger", "new_stewards"),
    *("multisig_threshold", "latency_ms", "output", "", "\u2028", "__class__"),
    *("goal", "success_criteria", "steps", "parent", "child", "scope", "expires_at", "successor", "status", "prev"),
)
# which of them a view or a rule reads in content of a kind
FIELDS_OF: Mapping[int, Sequence[str]] = {
    0: ("name", "discoverability", "parent"),
    4: ("capabilities",),
    5: ("derived_from",),
    6: ("score", "reason"),
    7: ("category",),
    15: ("ttl_sec", "intent"),
    50: ("reward", "constraints", "capability"),
    52: ("task_id", "output"),
    53: ("task_id", "verdict", "score"),
    54: ("task_id", "disposition", "payment_method"),
    55: ("task_id", "reason"),
}
TAG_NAMES = ("e", "p", "t", "cap", "cap_wanted", "bootstrap_for", "pow", "s", "nonce", "cosign", "verified_by_external")
ODD_TEXTS = (
    *("", "0", "-1", "+1", "1e999", "NaN", "inf", "-0.0", "9" * 25, "9" * 5_000, str(2**63), str(-(2**63)), str(2**53)),
    *(
        "\x00",
        "\ud7ff",
        "\u2028",
        "e\u0301",
        "\ufdfa",
        "%",
        "%zz",
        "\ufffd",
        "true",
        "1,2",
        ",",
        "1_0",
        "٣",
        "' OR 1=1 --",
    ),
    *(
        "a" * 64,
        "A" * 64,
        "x" * 64,
        "İ" * 64,
        "x" * 1_024,
        "../..",
        "\r\nX: y",
        "[]",
        '{"a":1}',
        "AAAAAAAAAAAAAAAAAAAAAA",
    ),
    *(
        '"',
        '""',
        '"a',
        '-"a b"',
        "a*",
        "*",
        "-a b",
        "a OR b",
        "NEAR(a b)",
        "a AND",
        "(",
        "^a",
        "a:b",
        "a" * 256,
        "ab " * 16,
    ),
    *(
        "日本",
        "本",
        "日*",
        "²",
        "\u0301",
        "x\x00y",
        "__",
        "a_b",
        "7d",
        "24h",
        "999999999d",
        "7D ",
        "trust",
        "price",
        "rank",
    ),
)


class Choices:
    """Reads choices from bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def ended(self) -> bool:
        """Whether all that follows is 0."""
        return self._at >= len(self._data)

    def below(self, bound: int) -> int:
        """Choose from 0 to bound - 1."""
        width = 1 if bound <= 256 else 2
        part = self._data[self._at : self._at + width]
        self._at += width
        return int.from_bytes(part, "big") % bound

    def pick(self, among: Sequence[T]) -> T:
        """Choose one."""
        return among[self.below(len(among))]


def value(choose: Choices, ids: Sequence[str], depth: int = 3) -> str:
    """Give a JSON value, or what looks like one, as text."""
    shape = choose.below(8)
    if shape == 0:
        return choose.pick(ODD_NUMBERS)
    if shape < 3 or not depth:
        return choose.pick(ODD_JSON)
    if shape < 6:
        return choose.pick(MEANT)
    if shape == 6:
        return json.dumps(choose.pick(ids))
    inner = [value(choose, ids, depth - 1) for _ in range(choose.below(4))]
    if choose.below(2):
        return f"[{','.join(inner)}]"
    return _object(f"{json.dumps(choose.pick(FIELDS))}:{one}" for one in inner)


def content(choose: Choices, kind: int, ids: Sequence[str]) -> str:
    """Give the content of an event; one in 32 fills its 64 KiB."""
    shape = choose.below(32)
    if shape == 0:
        return choose.pick(ODD_JSON)
    if shape == 1:
        return choose.pick(ODD_TEXTS)
    if shape == 2:
        unit = choose.pick(("a b ", "x", "日", "\u2028", "\ufdfa ", "\\", '"[', "é "))
        return unit * (65_536 // len(unit.encode()))
    own = FIELDS_OF.get(kind, FIELDS)
    names = [choose.pick(own if choose.below(4) else FIELDS) for _ in range(1 + choose.below(4))]
    fields = ",".join(f"{json.dumps(name)}:{value(choose, ids)}" for name in names)
    if shape == 3:
        room = 65_536 - len(fields.encode()) - 8
        fields += ',"x":[' + ",".join(["[]"] * max(1, room // 3)) + "]"
    return _object([fields])


def tags(choose: Choices, ids: Sequence[str]) -> list[list[str]]:
    """Give the tags of an event, up to all 32."""
    many = choose.below(24)
    number = 32 if many == 0 else many % 5
    return [_tag(choose, ids) for _ in range(number)]


def created_at(choose: Choices) -> int:
    """Give a time, now and then none that a clock shows."""
    return choose.pick((NOW, NOW, NOW - 1, NOW - 60, NOW - 604_800, NOW + 300, NOW - 40 * 86_400, 0, 2**33, 2**53 - 1))


def question(choose: Choices, route: Route, ids: Sequence[str]) -> tuple[str, str]:
    """Give path and query of a question to a route, with parameters it knows."""
    path = route.path
    if "{" in path:
        head, _, tail = path.partition("{")
        path = head + quote(_member(choose, ids) or "x", safe="") + tail.partition("}")[2]
    asked = []
    for _ in range(choose.below(5)):
        name = choose.pick([param.name for param in route.params] or ["x"])
        asked.append(f"{name}={quote(_member(choose, ids))}")
    return path, "&".join(asked)


def plain_question(choose: Choices, route: Route, ids: Sequence[str]) -> tuple[str, str]:
    """Give a well-formed question to a route about one of these ids."""
    head, brace, tail = route.path.partition("{")
    path = f"{head}{choose.pick(ids)}{tail.partition('}')[2]}" if brace else route.path
    if route.path == "/home":
        return path, f"agent_id={choose.pick(ids)}&limit=50"
    if route.path == "/intents":
        wanted = choose.pick(("author", "assignee", "verifiers", "quorum=2&verifiers", "events=true&author"))
        status = choose.pick(("", "declared", "completed", "executing", "withdrawn"))
        return path, f"{wanted}={choose.pick(ids)}&status={status}&limit=3"
    if route.path == "/intents/{intent_id}":
        return path, f"verifiers={choose.pick(ids)}" if choose.below(2) else ""
    return path, ""


def read_all(views: Views, ids: Sequence[str], intents: Mapping[str, Event]) -> bytes:
    """Read from the views what routes read, as JSON; scores are worked out in finite time.

    `intents`: events that say of what was said about them, by id.
    """
    assert sum(1 for _ in views.trust.refresh(NOW)) < MAX_STEPS
    trust = views.trust.scores.weighted
    threads = [views.tasks.read(id_) for id_ in ids]
    found, _ = views.intents.find(IntentQuery(), NOW, 10_000)
    return orjson.dumps(
        [
            views.counts.read(views.roster, NOW),
            views.rooms.read(),
            views.capabilities.read(),
            views.capabilities.search(OfferQuery(limit=10_000), lambda agent: trust.get(agent, 0.0)),
            views.trust.graph(),
            sorted(set[str]().union(*views.moderation.read(trust))),
            [row["id"] for row in views.beacons.read(NOW)["beacons"]],
            [(thread.status(NOW), thread.consensus(), thread.mocked) for thread in threads if thread],
            [views.credit.balance(id_) for id_ in ids],
            [views.presence.read(id_, NOW - 86_400, lambda _: True) for id_ in ids[:50]],
            [views.neighbors.read(id_, NOW, 20, lambda _: True) for id_ in ids[:50]],
            [views.subscriptions.read(id_) for id_ in ids],
            [views.delegations.read(id_, NOW) for id_ in ids[:50]],
            [[views.delegations.authority(event), views.delegations.backing(event)] for event in intents.values()],
            [views.intents.read(id_, NOW, intents, ids[:64], 2) for id_ in found],
            [[views.intents.mentioned(id_, NOW, ids[:64]), views.intents.head(id_, NOW)] for id_ in found],
            [views.intents.find(IntentQuery(status=status), NOW, 200) for status in ALL_STATUSES],
        ]
    )


def _tag(choose: Choices, ids: Sequence[str]) -> list[str]:
    if choose.below(16) == 0:
        return [choose.pick(ODD_TEXTS)[:256] for _ in range(choose.below(4))]
    return [choose.pick(TAG_NAMES), *(_member(choose, ids)[:1_024] for _ in range((1, 1, 1, 0, 3)[choose.below(5)]))]


def _member(choose: Choices, ids: Sequence[str]) -> str:
    shape = choose.below(8)
    if shape < 5:
        return choose.pick(ids)
    if shape == 5:
        return choose.pick(("x", "y", "lobby", "a.b", "12", "256", "a"))
    return choose.pick(ODD_TEXTS)


def _object(members: Iterable[str]) -> str:
    return "{" + ",".join(members) + "}"
