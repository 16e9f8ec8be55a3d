"""Intents and delegations, kinds 1500 to 1504: their schemas, what each must hold, and how each is written.

An event of these kinds is ours only if its one tag `s` names the schema of its kind; others of these kinds are
somebody else's. The rules here are those of the door, and of the views: what breaks one counts nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .canonical import MAX_INTEGER, is_id
from .events import Event
from .jsontext import shown

__all__ = [
    "CAPABILITY_KINDS",
    "DELEGATION",
    "FINAL",
    "INTENT_DECLARE",
    "INTENT_STATUS",
    "INTENT_VERIFY",
    "KEY_ROTATION",
    "MAX_CRITERIA",
    "MAX_NAME_CHARS",
    "MAX_SCOPE",
    "MAX_STEPS",
    "MAX_TEXT_CHARS",
    "MAX_TOPICS",
    "SCHEMAS",
    "STATUSES",
    "VERDICTS",
    "Draft",
    "broken_rule",
    "declare_draft",
    "delegation_draft",
    "is_ours",
    "status_draft",
    "verify_draft",
]

INTENT_DECLARE, INTENT_STATUS, INTENT_VERIFY, DELEGATION, KEY_ROTATION = range(1500, 1505)
SCHEMAS: Mapping[int, str] = {
    INTENT_DECLARE: "anporia.intent.declare.v1",
    INTENT_STATUS: "anporia.intent.status.v1",
    INTENT_VERIFY: "anporia.intent.verify.v1",
    DELEGATION: "anporia.delegation.v1",
    KEY_ROTATION: "anporia.key.rotate.v1",
}

STATUSES = ("executing", "completed", "failed")
FINAL = frozenset({"completed", "failed", "withdrawn"})  # nothing follows
VERDICTS = ("passed", "failed")
# A tag is its author's own word: a capability in a scope covers work (tasks, intents) that is tagged with it, and
# not any vote or claim that a child chose to tag so.
CAPABILITY_KINDS = frozenset({*range(50, 56), INTENT_DECLARE, INTENT_STATUS, INTENT_VERIFY})

MAX_TEXT_CHARS = 2_000  # a page of text; longer reasons belong into a post that is linked
MAX_NAME_CHARS = 200  # of a step, a method, a capability, a topic: the longest known capability name has 60
MAX_CRITERIA = 32  # with full texts these and the steps nearly fill an event's 65,536 bytes
MAX_STEPS = 64
MAX_SCOPE = 64  # entries; views keep them in memory, some 13 kB at most
MAX_TOPICS = 16  # tags `t`; statuses and verdicts repeat them, and an event has 32 tags

Draft = tuple[int, str, list[tuple[str, ...]]]
"""Kind, content and tags of an event to be signed."""

_Fields = Mapping[str, Any]


def is_ours(event: Event) -> bool:
    """Say whether an event's one tag `s` names our schema of its kind."""
    return event.kind in SCHEMAS and event.tag_values("s") == [SCHEMAS[event.kind]]


def broken_rule(event: Event) -> str | None:
    """Give what is wrong with an event of one of our schemas, naming the field; None when it is good."""
    fields = shown(event.content)
    if fields is None:
        return "content must be a JSON object"
    return _RULES[event.kind](event, fields)


def declare_draft(
    *,
    goal: str,
    success_criteria: Iterable[Mapping[str, Any]],
    steps: Iterable[Mapping[str, Any]] | None = None,
    deadline_unix: int | None = None,
    parent: str | None = None,
    assignee: str | None = None,
    topics: Iterable[str] = (),
) -> Draft:
    """Write an intent (kind 1500). Raises `ValueError` naming the field that breaks the rule."""
    optional = {
        "steps": [dict(step) for step in steps] if steps is not None else None,
        "deadline_unix": deadline_unix,
        "parent": parent,
        "assignee": assignee,
    }
    tags: list[tuple[str, ...]] = [("e", parent, "parent")] if parent else []
    tags += [("p", assignee)] if assignee else []
    tags += [("t", topic) for topic in topics]
    content = {"goal": goal, "success_criteria": [dict(one) for one in success_criteria], **_given(optional)}
    return _checked(INTENT_DECLARE, content, tags)


def status_draft(
    intent_id: str,
    *,
    status: str,
    prev: str,
    step: str | None = None,
    evidence: str | None = None,
    topics: Iterable[str] = (),
) -> Draft:
    """Write how one's own intent stands (kind 1501); `prev`: the status before, or the intent. Raises `ValueError`."""
    tags = [("e", intent_id, "root"), ("prev", prev), *(("t", topic) for topic in topics)]
    return _checked(INTENT_STATUS, {"status": status, **_given({"step": step, "evidence": evidence})}, tags)


def verify_draft(
    intent_id: str,
    author: str,
    *,
    verdict: str,
    method: str,
    reason: str = "",
    evidence_hash: str | None = None,
    topics: Iterable[str] = (),
) -> Draft:
    """Write a verdict on another agent's intent (kind 1502); `author` is the intent's. Raises `ValueError`."""
    tags = [("e", intent_id, "root"), ("p", author), *(("t", topic) for topic in topics)]
    content = {"verdict": verdict, "method": method, **_given({"evidence_hash": evidence_hash}), "reason": reason}
    return _checked(INTENT_VERIFY, content, tags)


def delegation_draft(child: str, *, scope: Iterable[int | str], expires_at: int) -> Draft:
    """Write what a child may do in one's name (kind 1503), until `expires_at` in Unix seconds. Raises `ValueError`."""
    content = {"child": child, "scope": list(scope), "expires_at": expires_at}
    return _checked(DELEGATION, content, [("p", child)])


def _given(optional: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in optional.items() if value is not None}


def _checked(kind: int, content: Mapping[str, Any], tags: Sequence[tuple[str, ...]]) -> Draft:
    written = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    with_schema = [("s", SCHEMAS[kind]), *tags]
    wrong = broken_rule(Event("", "", 0, kind, tuple(with_schema), written, ""))
    if wrong is not None:
        raise ValueError(wrong)
    return kind, written, with_schema


def _declare(event: Event, fields: _Fields) -> str | None:
    wrong = (
        _text(fields, "goal", MAX_TEXT_CHARS)
        or _rows(fields, "success_criteria", 1, MAX_CRITERIA, _CRITERION)
        or _criteria(fields)
        or (_rows(fields, "steps", 0, MAX_STEPS, _STEP) if "steps" in fields else None)
        or (_integer(fields, "deadline_unix") if "deadline_unix" in fields else None)
    )
    for name, tag in (("parent", "e"), ("assignee", "p")):
        if name in fields:
            wrong = wrong or _id(fields, name) or _named(event, tag, fields[name], name)
    topics = event.tag_values("t")
    if len(topics) > MAX_TOPICS or not all(0 < len(topic) <= MAX_NAME_CHARS for topic in topics):
        wrong = wrong or f"may have {MAX_TOPICS} tags `t`, each of 1 to {MAX_NAME_CHARS} characters"
    return wrong


def _criteria(fields: _Fields) -> str | None:
    bad = (_optional_text(one, "expected", MAX_TEXT_CHARS) for one in fields["success_criteria"])
    return next((f"each of `success_criteria`: {wrong}" for wrong in bad if wrong), None)


def _status(event: Event, fields: _Fields) -> str | None:
    return (
        _one_of(fields, "status", STATUSES)
        or _optional_text(fields, "step", MAX_NAME_CHARS)
        or _optional_text(fields, "evidence", MAX_TEXT_CHARS)
        or _one_id(event, "e", "the intent")
        or _one_id(event, "prev", "the status before, or the intent")
    )


def _verify(event: Event, fields: _Fields) -> str | None:
    return (
        _one_of(fields, "verdict", VERDICTS)
        or _text(fields, "method", MAX_NAME_CHARS)
        or _text(fields, "reason", MAX_TEXT_CHARS, least=0)
        or (_id(fields, "evidence_hash") if "evidence_hash" in fields else None)
        or _one_id(event, "e", "the intent")
        or _one_id(event, "p", "the intent's author")
    )


def _delegation(event: Event, fields: _Fields) -> str | None:
    scope = fields.get("scope")
    if not isinstance(scope, list) or not 1 <= len(scope) <= MAX_SCOPE:
        return f"`scope` must be a list of 1 to {MAX_SCOPE}"
    if not all(_in_range(one) or (isinstance(one, str) and 0 < len(one) <= MAX_NAME_CHARS) for one in scope):
        return f"each of `scope` must be a kind's number, or a capability's name of 1 to {MAX_NAME_CHARS} characters"
    return (
        _id(fields, "child")
        or _one_id(event, "p", "the child")
        or _named(event, "p", fields["child"], "child")
        or _integer(fields, "expires_at")
    )


def _rotation(event: Event, fields: _Fields) -> str | None:
    roles = [role for role in ("successor", "predecessor") if role in fields]
    if len(roles) != 1:
        return "content must hold either `successor` or `predecessor`"
    role = roles[0]
    return _id(fields, role) or _one_id(event, "p", f"the {role}") or _named(event, "p", fields[role], role)


_RULES: Mapping[int, Callable[[Event, _Fields], str | None]] = {
    INTENT_DECLARE: _declare,
    INTENT_STATUS: _status,
    INTENT_VERIFY: _verify,
    DELEGATION: _delegation,
    KEY_ROTATION: _rotation,
}
_CRITERION = {"text": MAX_TEXT_CHARS, "method": MAX_NAME_CHARS}
_STEP = {"name": MAX_NAME_CHARS, "action": MAX_TEXT_CHARS}


def _text(fields: _Fields, name: str, most: int, least: int = 1) -> str | None:
    value = fields.get(name)
    good = isinstance(value, str) and least <= len(value) <= most
    return None if good else f"`{name}` must be a text of {least} to {most:,} characters"


def _optional_text(fields: _Fields, name: str, most: int) -> str | None:
    return _text(fields, name, most, 0) if name in fields else None


def _rows(fields: _Fields, name: str, least: int, most: int, texts: Mapping[str, int]) -> str | None:
    rows = fields.get(name)
    if not isinstance(rows, list) or not least <= len(rows) <= most:
        return f"`{name}` must be a list of {least} to {most}"
    if not all(isinstance(row, dict) for row in rows):
        return f"each of `{name}` must be an object"
    wrong = (_text(row, text, longest) for row in rows for text, longest in texts.items())
    return next((f"each of `{name}`: {one}" for one in wrong if one), None)


def _in_range(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INTEGER


def _integer(fields: _Fields, name: str) -> str | None:
    return None if _in_range(fields.get(name)) else f"`{name}` must be an integer from 0 to 2^53-1"


def _id(fields: _Fields, name: str) -> str | None:
    value = fields.get(name)
    return None if isinstance(value, str) and is_id(value) else f"`{name}` must be 64 lower-case hex characters"


def _one_id(event: Event, name: str, what: str) -> str | None:
    values = event.tag_values(name)
    good = len(values) == 1 and is_id(values[0])
    return None if good else f"needs exactly one `{name}` tag, {what}, of 64 lower-case hex characters"


def _named(event: Event, tag: str, value: object, field: str) -> str | None:
    return None if value in event.tag_values(tag) else f"needs a `{tag}` tag that names `{field}`"


def _one_of(fields: _Fields, name: str, allowed: tuple[str, ...]) -> str | None:
    return None if fields.get(name) in allowed else f"`{name}` must be one of {', '.join(allowed)}"
