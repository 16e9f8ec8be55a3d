"""Which events a reader wants. `Filter.matches` is the reference; FilterSet and SQL must agree with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .canonical import MAX_INTEGER
from .errors import InvalidFilter, Problem, query_problem
from .events import Event

__all__ = ["MAX_FILTER_VALUES", "Filter"]

MAX_FILTER_VALUES = 256  # a request's 16 KiB of headers hold about 250 authors: no honest query needs more

_INTEGER = re.compile(r" *[+-]?[0-9]{1,19} *", re.ASCII)
_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class Filter:
    """All given conditions must hold; None means any.

    `kinds`: any of; `authors`: any of, lower-case ids; `t`, `p`: exact, case-sensitive value of a tag
    of that name; `since`, `until`: Unix seconds, both inclusive, negative allowed (WIRE section 8).
    """

    kinds: frozenset[int] | None = None
    authors: frozenset[str] | None = None
    t: str | None = None
    p: str | None = None
    since: int | None = None
    until: int | None = None

    @classmethod
    def parse(cls, params: Mapping[str, str]) -> Filter:
        """Read `kinds` (or `kind`), `authors`, `t`, `p`, `since`, `until` from query parameters.

        Empty text parameters count as absent; other names are ignored. Raises `InvalidFilter`.
        """
        problems: list[Problem] = []
        kinds_name = "kinds" if params.get("kinds") else "kind"
        parsed = cls(
            kinds=_kinds(kinds_name, params.get(kinds_name, ""), problems),
            authors=_authors(params.get("authors", ""), problems),
            t=params.get("t") or None,
            p=params.get("p") or None,
            since=_time("since", params.get("since"), problems),
            until=_time("until", params.get("until"), problems),
        )
        if problems:
            raise InvalidFilter(problems)
        return parsed

    def matches(self, event: Event) -> bool:
        """Say whether every condition holds for the event."""
        return (
            (self.kinds is None or event.kind in self.kinds)
            and (self.authors is None or event.agent_id in self.authors)
            and (self.since is None or event.created_at >= self.since)
            and (self.until is None or event.created_at <= self.until)
            and (self.t is None or self.t in event.tag_values("t"))
            and (self.p is None or self.p in event.tag_values("p"))
        )


def _kinds(name: str, text: str, out: list[Problem]) -> frozenset[int] | None:
    if not text:
        return None
    parts = text.split(",")
    if len(parts) > MAX_FILTER_VALUES:
        out.append(query_problem("too_long", name, f"at most {MAX_FILTER_VALUES} values", text))
        return None
    if not all(_INTEGER.fullmatch(part) for part in parts):
        out.append(query_problem("int_parsing", name, "must be integers separated by commas", text))
        return None
    kinds = frozenset(int(part) for part in parts)
    if any(not 0 <= kind <= MAX_INTEGER for kind in kinds):
        out.append(query_problem("less_than_equal", name, f"each must be 0 to {MAX_INTEGER}", text))
        return None
    return kinds


def _authors(text: str, out: list[Problem]) -> frozenset[str] | None:
    if not text:
        return None
    parts = text.split(",")
    if len(parts) > MAX_FILTER_VALUES:
        out.append(query_problem("too_long", "authors", f"at most {MAX_FILTER_VALUES} values", text))
        return None
    return frozenset(part.strip().lower() for part in parts)


def _time(name: str, text: str | None, out: list[Problem]) -> int | None:
    if text is None:
        return None
    if not _INTEGER.fullmatch(text) or not -_INT64 <= int(text) < _INT64:
        out.append(query_problem("int_parsing", name, "must be an integer of Unix seconds", text))
        return None
    return int(text)
