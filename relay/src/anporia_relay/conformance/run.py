"""A run: meet the relay, ask each selected check, collect what came."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from .areas import CHECKS
from .check import Check, Failed, Skipped, bound
from .client import NO_ANSWER, Answer, Client
from .pace import Pace
from .probe import Probe

__all__ = ["Result", "Unreachable", "meet", "run", "select"]

_AN_ANSWER = "an answer"
_GONE_AFTER = 5  # checks in a row that got no answer at all
_SKEW_S = 2  # a Date header has whole seconds and takes a moment to arrive: less is no difference


class Unreachable(Exception):  # noqa: N818, RUF100  # what it says
    """No relay answers there, or it wants a password."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check: `outcome` is passed, failed or skipped; `got` is the reason of a skip."""

    check: Check
    outcome: str
    expected: str = ""
    got: str = ""
    seconds: float = 0.0


def select(levels: Iterable[str], areas: Sequence[str] = (), names: Sequence[str] = ()) -> list[Check]:
    """Give the checks of these levels, and of these areas and names where any are given."""
    wanted = set(levels)
    return [
        check
        for check in CHECKS
        if check.level in wanted and (not areas or check.area in areas) and (not names or check.name in names)
    ]


def meet(client: Client, *, fast: bool = False) -> Probe:
    """Ask the relay who it is. Raises `Unreachable`; a relay without an info document is a plain one."""
    try:
        hello = client.request("GET", "/stats")
        about = client.request("GET", "/")
    except NO_ANSWER as exc:
        raise Unreachable(f"{client.url} does not answer: {str(exc) or type(exc).__name__}") from None
    if hello.status == 401:
        client.close()
        wrong = "refuses this user and password" if client.private else "asks for a password; use --auth USER"
        raise Unreachable(f"{client.url} {wrong}")
    if not _is_a_relay(client, hello):
        client.close()
        what = hello.headers.get("content-type", "something else")
        raise Unreachable(f"{client.url} answers, but not as a relay: GET /stats gives {hello.status} {what}")
    try:
        skew = int(parsedate_to_datetime(hello.headers["date"]).timestamp() - time.time())
    except (KeyError, ValueError, TypeError):
        skew = 0
    try:
        info = about.json() if about.status == 200 else None
    except Failed:
        info = None  # a page for people
    return Probe(client, pace=None if fast else Pace(), skew_s=skew if abs(skew) > _SKEW_S else 0, info=info)


def run(
    probe: Probe,
    checks: Sequence[Check],
    *,
    asked_for: Sequence[str] = (),
    progress: Callable[[Check], None] | None = None,
    into: list[Result] | None = None,
) -> list[Result]:
    """Run checks one after the other; `asked_for` names the areas whose costly checks may run.

    Results are added to `into` as they come. Raises `Unreachable` when the relay has gone meanwhile.
    """
    results = [] if into is None else into
    unanswered = 0
    for check in checks:
        if progress:
            progress(check)
        started = time.monotonic()
        outcome, expected, got = _skip(probe, check, asked_for) or _judge(probe, check)
        results.append(Result(check, outcome, expected, got, time.monotonic() - started))
        unanswered = unanswered + 1 if expected == _AN_ANSWER else 0
        if unanswered == _GONE_AFTER:
            raise Unreachable(
                f"{probe.client.url} does not answer any more, after {len(results)} of {len(checks)} checks"
            )
    return results


def _is_a_relay(client: Client, stats: Answer) -> bool:
    """Say whether it speaks JSON at all: a page for people is no broken relay but something else."""
    for answer in (stats, client.request("GET", "/events?limit=1")):
        try:
            answer.json()
        except Failed:
            continue
        return True
    return False


def _skip(probe: Probe, check: Check, asked_for: Sequence[str]) -> tuple[str, str, str] | None:
    if check.feature and check.feature not in probe.features:
        return "skipped", "", f"the relay does not list the feature {check.feature!r}"
    if check.costly and check.area not in asked_for:
        return "skipped", "", f"spends a minute's budget of publishes; ask for it with --area {check.area}"
    if (check.slow or check.costly) and probe.pace is None:
        return "skipped", "", "not with --fast"
    return None


def _judge(probe: Probe, check: Check) -> tuple[str, str, str]:
    try:
        check.body(probe)
    except Failed as exc:
        return "failed", exc.expected, exc.got
    except Skipped as exc:
        return "skipped", "", str(exc)
    except NO_ANSWER as exc:
        return "failed", _AN_ANSWER, bound(f"none: {str(exc) or type(exc).__name__}")
    except (LookupError, TypeError, ValueError, AttributeError) as exc:
        # a check may take a documented shape for granted: what it stumbles over is an answer of another shape
        return "failed", "an answer of the documented shape", bound(f"{type(exc).__name__}: {exc}")
    return "passed", "", ""
