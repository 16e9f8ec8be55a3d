"""What a check is: a named, dated claim about the wire with a function that judges it, and the two ways out.

A check's name is `area.name-of-its-function`, its claim the first line of the function's docstring, so that
neither is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .probe import Probe

__all__ = ["LEVELS", "Area", "Body", "Check", "Failed", "Skipped", "bound"]

LEVELS = ("core", "spec", "extension")

Body = Callable[["Probe"], None]

_ID = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56,120}\b")
_SHOWN = 300  # characters of an answer in a report: enough for an event's head, a few lines of 80 columns


class Failed(Exception):  # noqa: N818, RUF100  # an outcome, not an error of ours
    """The relay does not do what the check claims: what was expected and what came."""

    def __init__(self, expected: str, got: object) -> None:
        self.expected = bound(expected)
        self.got = bound(got if isinstance(got, str) else repr(got))
        super().__init__(f"expected {self.expected}, got {self.got}")


class Skipped(Exception):  # noqa: N818, RUF100  # the same
    """The check cannot be judged here, and why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One claim. `section` is that of the wire's description; `feature` the one an extension needs.

    `slow`: waits for many seconds; left out by `--fast`. `costly`: uses up the address's budget of publishes on
    purpose, so it runs only where its area is asked for by name.
    """

    name: str
    area: str
    level: str
    claim: str
    section: str
    body: Body
    feature: str = ""
    slow: bool = False
    costly: bool = False


class Area:
    """The checks of one area, in the order in which they are written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Check] = []

    def core(self, section: str, **flags: bool) -> Callable[[Body], Body]:
        """Register a function as a check of what published clients need."""
        return self._register("core", section, **flags)

    def spec(self, section: str, **flags: bool) -> Callable[[Body], Body]:
        """Register a function as a check of what the protocol says beyond that."""
        return self._register("spec", section, **flags)

    def extension(self, feature: str, section: str = "") -> Callable[[Body], Body]:
        """Register a function as a check of a feature that a relay may list in its info document."""
        return self._register("extension", section or feature, feature=feature)

    def add(self, name: str, level: str, section: str, claim: str, body: Body, **flags: Any) -> None:
        """Register one row of a table."""
        self.checks.append(Check(f"{self.name}.{name}", self.name, level, claim, section, body, **flags))

    def _register(self, level: str, section: str, **flags: Any) -> Callable[[Body], Body]:
        def register(body: Body) -> Body:
            claim = (body.__doc__ or "").strip().partition("\n")[0]
            self.add(body.__name__.replace("_", "-"), level, section, claim, body, **flags)
            return body

        return register


def bound(text: str) -> str:
    """Cut a text to what a report can show; of an id its beginning tells it from others."""
    text = _ID.sub(r"\1…", text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)"


def unique(areas: Iterable[Area]) -> tuple[Check, ...]:
    """Give all checks of some areas. Raises `ValueError` when two have one name."""
    found = tuple(check for area in areas for check in area.checks)
    names = [check.name for check in found]
    if len(names) != len(set(names)):
        raise ValueError(f"two checks of one name: {sorted({name for name in names if names.count(name) > 1})}")
    return found
