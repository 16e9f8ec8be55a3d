"""Intents, statuses, verdicts, delegations, handovers, and profiles and revokes about them: nearly right.

Views take only what breaks no rule, and dice seldom throw that; so each event here is right but for a part or none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from anporia_wire import Event
from anporia_wire.intents import SCHEMAS, STATUSES, VERDICTS, broken_rule, is_ours
from anporia_wire.kinds import DELEGATION, INTENT_DECLARE, INTENT_STATUS, INTENT_VERIFY, KEY_ROTATION, PROFILE, REVOKE
from tests.fuzz import poison
from tests.relay.served import NOW

__all__ = ["KINDS", "Stage", "act"]

KINDS = (*SCHEMAS, PROFILE, REVOKE)

_KEPT = 30
_X = json.dumps("x" * 2_000)
_TEXTS = ('"x"', '"x"', _X, '"\\u0000\\u2028"', '"e\u0301"', '"\U0001f600"', '"a.b"', '"' + "\u65e5" * 200 + '"')
_TOO_MUCH = (
    '""',
    '"' + "x" * 2_001 + '"',
    '"' + "\U0001f600" * 2_001 + '"',
    '"\\ud800"',
    "true",
    "[]",
    "{}",
    "null",
    "0",
)
_DATES = (str(NOW + 5), str(NOW - 5), str(NOW), "0", str(2**53 - 1), str(NOW + 10**6), str(NOW - 10**6))
_ODD_DATES = (*("-1", "true", "1.0", "1e3", "-0", '"5"', "null", "[]"), str(2**53), str(2**64))
_CRITERION = '{"text":"x","method":"a.b"}'
_CRITERIA = (
    *(f"[{_CRITERION}]", f"[{_CRITERION}]", f'[{{"text":{_X},"method":"m","expected":{_X}}}]'),
    *(f"[{','.join([_CRITERION] * 32)}]", '[{"text":"x","method":"m","expected":"","more":[[[[]]]]}]'),
)
_ODD_ROWS = (
    *("[]", "{}", "null", '"x"', "[[]]", "[null]", '["x"]', "[{}]", f"[{','.join([_CRITERION] * 33)}]"),
    *('[{"text":"x"}]', '[{"text":1,"method":"x"}]', '[{"text":"x","method":"m","expected":5}]'),
    *('[{"text":"x","method":"' + "m" * 201 + '"}]', "[" * 31 + "]" * 31, f"[{','.join(['{}'] * 1_999)}]"),
)
_STEP = '{"name":"x","action":"y"}'
_STEPS = ("[]", f"[{_STEP}]", f"[{','.join([_STEP] * 64)}]", f"[{','.join([_STEP] * 64)}]", f"[{_STEP},{_STEP}]")
_SCOPES = (
    *("[1500]", "[1500,1501,1502]", '["a.b"]', '["x","y",1501]', "[0,9,1503,9007199254740991]", "[1500,1500,1500]"),
    *(json.dumps(list(range(1_480, 1_544))), json.dumps([f"{n}" + "\u65e5" * 190 for n in range(64)]), '["a"]'),
)
_ODD_SCOPES = (
    *("[]", "null", "1500", '"a.b"', "[1500.0]", "[true]", "[-1]", '[""]', "[[1500]]", "[{}]", "[null]"),
    *(json.dumps(list(range(65))), json.dumps(["x" * 201]), "[9007199254740992]", "[1e400]", '["\\ud800"]'),
)
_TOPICS = ("x", "a.b", "a", "\u65e5\u672c", "x" * 200)
_ODD_TOPICS = ("", "x" * 201, "\x00", "\u2028")


class Stage:
    """What was said so far, so that more can be said about it."""

    def __init__(self, agents: Sequence[str]) -> None:
        self.agents = agents
        self.said: dict[int, list[tuple[str, str]]] = {kind: [] for kind in KINDS}  # (id, author) by kind

    def take(self, event: Event) -> None:
        """Remember an event that views take."""
        if event.kind == PROFILE or (is_ours(event) and broken_rule(event) is None):
            said = self.said[event.kind]
            said.append((event.id, event.agent_id))
            del said[:-_KEPT]

    def pick(self, choose: poison.Choices, *kinds: int) -> tuple[str, str]:
        """Choose an event of one of these kinds: id and author; something unheard of when there is none."""
        among = self.said[choose.pick(kinds)]
        return (
            choose.pick(among)
            if among and choose.below(12)
            else (choose.pick(("e" * 64, "d" * 64)), self.agent(choose))
        )

    def last(self, choose: poison.Choices, kind: int) -> tuple[str, str]:
        """Choose one of the last of a kind, so that much is said about few."""
        among = self.said[kind][-4:]
        return choose.pick(among) if among and choose.below(6) else self.pick(choose, kind)

    def agent(self, choose: poison.Choices) -> str:
        """Choose an agent."""
        return choose.pick(self.agents)


Draft = tuple[str, dict[str, str], list[list[str]]]
"""Author, fields as JSON texts, and tags."""


def act(choose: poison.Choices, kind: int, stage: Stage, ids: Sequence[str]) -> tuple[str, str, list[list[str]]]:
    """Give author, content and tags of an event of one of `KINDS`; one in four is spoiled."""
    by, fields, tags = _WRITERS[kind](choose, stage)
    if kind in SCHEMAS:
        tags.insert(choose.below(len(tags) + 1), ["s", SCHEMAS[kind]])
    if choose.below(4) == 0:
        _spoil(choose, fields, tags, ids)
    return by, "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields.items()) + "}", tags[:32]


def _spoil(choose: poison.Choices, fields: dict[str, str], tags: list[list[str]], ids: Sequence[str]) -> None:
    how = choose.below(8)
    if how == 0 and fields:
        del fields[choose.pick(list(fields))]
    elif how == 1 and tags:
        del tags[choose.below(len(tags))]
    elif how == 2 and tags:
        tags.append(choose.pick(tags))
    elif how == 3 and tags:
        tag = list(choose.pick(tags))
        tag[1:2] = [choose.pick(("", tag[1].upper(), tag[1][:-1], f"{tag[1]} ", *SCHEMAS.values(), choose.pick(ids)))]
        tags[choose.below(len(tags))] = tag
    elif how == 4:
        fields["x"] = choose.pick(("[" * 31 + "]" * 31, "[" * 32 + "]" * 32, f"[{','.join(['[]'] * 2_000)}]", _X))
    elif how == 5 and fields:  # a word said twice: readers must agree on which counts
        name = choose.pick(list(fields))
        fields[name] += f",{json.dumps(name)}:{poison.value(choose, ids)}"
    elif fields:
        wrong = (*_TOO_MUCH, *_ODD_DATES, *_ODD_ROWS, *_ODD_SCOPES)
        fields[choose.pick(list(fields))] = choose.pick(wrong) if choose.below(2) else poison.value(choose, ids)


def _topics(choose: poison.Choices) -> list[list[str]]:
    many = choose.pick((0, 0, 0, 0, 1, 1, 1, 2, 16, 17))
    return [["t", choose.pick(_TOPICS if choose.below(20) else _ODD_TOPICS)] for _ in range(many)]


def _declare(choose: poison.Choices, stage: Stage) -> Draft:
    fields = {"goal": choose.pick(_TEXTS), "success_criteria": choose.pick(_CRITERIA)}
    tags = _topics(choose)
    if choose.below(2):
        fields["steps"] = choose.pick(_STEPS)
    if choose.below(2):
        fields["deadline_unix"] = choose.pick(_DATES)
    if choose.below(2):  # of an intent, or of what is none
        parent, _ = stage.pick(choose, INTENT_DECLARE, INTENT_DECLARE, INTENT_STATUS)
        fields["parent"] = json.dumps(parent)
        tags.append(["e", parent, "parent"])
    if choose.below(2):
        assignee = stage.agent(choose)
        fields["assignee"] = json.dumps(assignee)
        tags.append(["p", assignee])
    return stage.agent(choose), fields, tags


def _status(choose: poison.Choices, stage: Stage) -> Draft:
    intent, author = stage.last(choose, INTENT_DECLARE)
    fields = {"status": json.dumps(choose.pick(STATUSES))}
    if choose.below(2):
        fields |= {"step": '"x"', "evidence": choose.pick((*_TEXTS, '""'))}
    prev = intent if choose.below(3) == 0 else stage.last(choose, INTENT_STATUS)[0]
    return (author if choose.below(5) else stage.agent(choose)), fields, [["e", intent, "root"], ["prev", prev]]


def _verify(choose: poison.Choices, stage: Stage) -> Draft:
    intent, author = stage.last(choose, INTENT_DECLARE)
    fields = {"verdict": json.dumps(choose.pick(VERDICTS)), "method": '"a.b"', "reason": choose.pick((*_TEXTS, '""'))}
    if choose.below(3) == 0:
        fields["evidence_hash"] = json.dumps(stage.pick(choose, INTENT_STATUS)[0])
    about = author if choose.below(6) else stage.agent(choose)
    return stage.agent(choose), fields, [["e", intent, "root"], ["p", about], *_topics(choose)[:1]]


def _family(choose: poison.Choices, stage: Stage) -> tuple[str, str]:
    """Give a parent and a child: mostly the agent behind in the circle, now and then itself or any."""
    at = choose.below(len(stage.agents))
    step = choose.pick((1, 1, 1, 1, 1, 0, 2, 3))
    return stage.agents[(at + step) % len(stage.agents)], stage.agents[at]


def _delegate(choose: poison.Choices, stage: Stage) -> Draft:
    parent, child = _family(choose, stage)
    fields = {"child": json.dumps(child), "scope": choose.pick(_SCOPES), "expires_at": choose.pick(_DATES)}
    return parent, fields, [["p", child]]


def _rotate(choose: poison.Choices, stage: Stage) -> Draft:
    named = stage.agent(choose)
    role = choose.pick(("successor", "predecessor"))
    return stage.agent(choose), {role: json.dumps(named)}, [["p", named]]


def _profile(choose: poison.Choices, stage: Stage) -> Draft:
    odd = (
        "null",
        "5",
        "[]",
        '""',
        f'["{"a" * 64}"]',
        f'"{"A" * 64}"',
        f'"{"a" * 63}"',
        '"' + "\u0663" * 64 + '"',
        '"\\ud800"',
    )
    named, child = _family(choose, stage)
    parent = json.dumps(named) if choose.below(4) else choose.pick(odd)
    return child, {"name": '"x"', "description": '"y"', "parent": parent}, []


def _revoke(choose: poison.Choices, stage: Stage) -> Draft:
    kinds = (INTENT_DECLARE, INTENT_STATUS, INTENT_VERIFY, DELEGATION, DELEGATION, DELEGATION, KEY_ROTATION, PROFILE)
    targets = [stage.pick(choose, *kinds) for _ in range(choose.pick((1, 1, 1, 2, 31)))]
    by = targets[0][1] if choose.below(5) else stage.agent(choose)
    return by, {}, [["e", id_] for id_, _ in targets]


_WRITERS: Mapping[int, Callable[[poison.Choices, Stage], Draft]] = {
    INTENT_DECLARE: _declare,
    INTENT_STATUS: _status,
    INTENT_VERIFY: _verify,
    DELEGATION: _delegate,
    KEY_ROTATION: _rotate,
    PROFILE: _profile,
    REVOKE: _revoke,
}
