"""All views of one log, folded together: each event counts once, in whatever order and however often it comes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any, Self

from .. import kinds
from ..events import Event
from .beacons import Beacons
from .capabilities import Capabilities
from .counts import Counts
from .credit import Credit
from .delegations import Delegations
from .intents import Intents
from .moderation import Moderation
from .neighbors import Neighbors
from .presence import Presence
from .revocations import Revocations
from .rooms import Rooms
from .roster import Roster
from .subscriptions import Subscriptions
from .successors import Successors
from .tasks import Tasks
from .trust import Trust

__all__ = ["BadSnapshot", "Views"]

_TASK_KINDS = range(kinds.TASK_REQUEST, kinds.TASK_CANCEL + 1)
_INTENT_KINDS = range(kinds.INTENT_DECLARE, kinds.INTENT_VERIFY + 1)


class BadSnapshot(ValueError):
    """The state was written by other code than this, or is no snapshot at all; fold the log again."""


class Views:
    """Every view over stored events. What depends on several events or the clock is in `read` of each."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.roster = Roster()
        self.rooms = Rooms()
        self.presence = Presence()
        self.neighbors = Neighbors()
        self.capabilities = Capabilities()
        self.revocations = Revocations()
        self.trust = Trust(self.revocations)
        self.moderation = Moderation()
        self.beacons = Beacons(self.revocations)
        self.subscriptions = Subscriptions(self.revocations)
        self.tasks = Tasks()
        self.credit = Credit()
        self.successors = Successors()
        self.delegations = Delegations(self.revocations, self.successors)
        self.intents = Intents(self.revocations, self.delegations)
        self.seq = 0
        """All events of the log up to this one are in."""
        self._ahead: set[int] = set()  # of later ones, those that are in already
        self._connect()

    def apply(self, seq: int, event: Event) -> None:
        """Take the event that stands at `seq` (from 1) of the log; one that is in already changes nothing."""
        if seq == self.seq + 1:
            self.seq = seq
            if self._ahead:
                self._catch_up()
        elif seq <= self.seq or seq in self._ahead:
            return
        else:
            self._ahead.add(seq)
        fault: Exception | None = None
        for apply in (*self._always, *self._of_kind.get(event.kind, ())):
            try:
                apply(event)
            except Exception as exc:  # none should; but then the others still have the event
                fault = exc
        if fault is not None:
            raise fault

    def complete(self, upto: int) -> None:
        """Take it that the log has nothing up to a place but what is in: a row may be missing."""
        if upto > self.seq:
            self.seq = upto
            self._ahead = {seq for seq in self._ahead if seq > upto}
            self._catch_up()

    def _catch_up(self) -> None:
        while self.seq + 1 in self._ahead:
            self.seq += 1
            self._ahead.remove(self.seq)

    def snapshot(self) -> dict[str, Any]:
        """Give the whole state as JSON: equal for equal sets of events. Needs every event up to `seq`."""
        if self._ahead:
            raise ValueError("events are missing in between")
        return {"code": _code(), "seq": self.seq, **{name: getattr(self, name).snapshot() for name in _NAMES}}

    @classmethod
    def restore(cls, state: Any) -> Self:
        """Make the views from `snapshot`. Raises `BadSnapshot`."""
        if not isinstance(state, dict) or state.get("code") != _code():
            raise BadSnapshot("written by another version")
        views = cls()
        try:
            views.seq = state["seq"]
            views.revocations = revocations = Revocations.restore(state["revocations"])
            views.trust = Trust.restore(state["trust"], revocations)
            views.beacons = Beacons.restore(state["beacons"], revocations)
            views.subscriptions = Subscriptions.restore(state["subscriptions"], revocations)
            views.successors = successors = Successors.restore(state["successors"])
            views.delegations = delegations = Delegations.restore(state["delegations"], revocations, successors)
            views.intents = Intents.restore(state["intents"], revocations, delegations)
            for name in ("counts", "roster", "rooms", "presence", "neighbors"):
                setattr(views, name, type(getattr(views, name)).restore(state[name]))
            for name in ("capabilities", "moderation", "tasks", "credit"):
                setattr(views, name, type(getattr(views, name)).restore(state[name]))
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise BadSnapshot(f"{type(exc).__name__}: {exc}") from exc
        views._connect()
        return views

    def _connect(self) -> None:
        """List who wants which events; most are posts, which most views need not see."""
        self._always: tuple[Callable[[Event], None], ...] = (
            self.counts.apply,
            self.roster.apply,
            self.rooms.apply,
            self.presence.apply,
        )
        task_views = (self.tasks.apply, self.credit.apply)
        self._of_kind: dict[int, tuple[Callable[[Event], None], ...]] = {
            kinds.PROFILE: (self.delegations.apply,),
            kinds.POST: (self.neighbors.apply,),
            kinds.CLAIM: (self.neighbors.apply,),
            kinds.CAPABILITY: (self.capabilities.apply,),
            kinds.TRUST_VOTE: (self.trust.apply,),
            kinds.FLAG: (self.moderation.apply,),
            kinds.SUBSCRIBE: (self.subscriptions.apply,),
            kinds.REVOKE: (self.revocations.apply, self.trust.apply),  # in this order
            kinds.BEACON: (self.beacons.apply,),
            **dict.fromkeys(_TASK_KINDS, task_views),
            **dict.fromkeys(_INTENT_KINDS, (self.intents.apply,)),
            kinds.DELEGATION: (self.delegations.apply,),
            kinds.KEY_ROTATION: (self.successors.apply,),
        }


_NAMES = (
    "revocations",
    "counts",
    "roster",
    "rooms",
    "presence",
    "neighbors",
    "capabilities",
    "trust",
    "moderation",
    "beacons",
    "subscriptions",
    "tasks",
    "credit",
    "successors",
    "delegations",
    "intents",
)


@cache
def _code() -> str:
    """Name the code that made a state: two versions may read one event differently, so neither trusts the other."""
    digest = blake2b(digest_size=8)
    package = files("anporia_wire")
    for folder in (package, package.joinpath("views")):
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(file.read_bytes())
    return digest.hexdigest()
