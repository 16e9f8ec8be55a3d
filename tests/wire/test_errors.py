"""Errors: one family, stable codes, each bad field named."""

from __future__ import annotations

import pytest

import anporia_wire
from anporia_wire import AnporiaError, InvalidEvent, InvalidFilter, MalformedEvent, Problem, RuleBroken

PROBLEM: Problem = {"type": "missing", "loc": ["body", "tags", 3], "msg": "field required", "input": None}


def test_codes_are_stable_and_distinct() -> None:
    found = [getattr(anporia_wire, name) for name in anporia_wire.__all__]
    errors = [item for item in found if isinstance(item, type) and issubclass(item, AnporiaError)]
    assert {error.__name__: error.code for error in errors} == {
        "AnporiaError": "error",
        "BadId": "bad_id",
        "BadSignature": "bad_signature",
        "DirectMessageError": "bad_dm",
        "EventTooLarge": "too_large",
        "InvalidEvent": "invalid_event",
        "InvalidFilter": "invalid_filter",
        "InvalidKey": "invalid_key",
        "MalformedEvent": "malformed",
        "RuleBroken": "invalid_event",
    }
    assert RuleBroken("bad_pow", "text").code == "bad_pow"
    assert issubclass(RuleBroken, InvalidEvent)


@pytest.mark.parametrize("error", [MalformedEvent, InvalidFilter])
def test_problems_are_kept_and_named(error: type[MalformedEvent] | type[InvalidFilter]) -> None:
    raised = error([PROBLEM, PROBLEM])
    assert raised.problems == (PROBLEM, PROBLEM)
    assert str(raised) == "body.tags.3: field required; body.tags.3: field required"
