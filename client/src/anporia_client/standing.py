"""How intents and delegations stand, worked out from verified events by the views that relays use too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from anporia_wire import Event, kinds

from .answers import as_dict

__all__ = ["Standing"]


class Standing:
    """Events that are genuine, and what follows from them. Events of other kinds are passed over."""

    def __init__(self, genuine: Iterable[Mapping[str, Any]]) -> None:
        # imported here, since most agents have no intents and all pay for what is imported at the start
        from anporia_wire.views import Delegations, Intents, Revocations, Successors

        self.events: dict[str, Event] = {}
        self._revokes: list[Event] = []
        revocations, successors = Revocations(), Successors()
        self.delegations = Delegations(revocations, successors)
        self.intents = Intents(revocations, self.delegations)
        self._views = (revocations, successors, self.delegations, self.intents)
        for event in map(Event.from_mapping, genuine):
            self.take(event)

    def take(self, event: Event) -> None:
        """Take one more genuine event."""
        if event.id in self.events:
            return
        self.events[event.id] = event
        if event.kind == kinds.REVOKE:
            self._revokes.append(event)
        for view in self._views:
            view.apply(event)

    def listed(
        self, wanted: Mapping[str, str], now: int, limit: int, verifiers: Collection[str], quorum: int
    ) -> list[dict[str, Any]]:
        """Give rows of the newest intents that are wanted, without their statuses."""
        from anporia_wire.views import IntentQuery

        found: list[dict[str, Any]] = []
        after: tuple[int, str] | None = None
        while len(found) < limit:
            ids, after = self.intents.find(IntentQuery(**wanted), now, limit - len(found), after)
            rows = (self.intents.read(id_, now, self.events, verifiers, quorum, whole=False) for id_ in ids)
            found += [row for row in rows if row]
            if after is None:
                break
        return found

    def behind(self, intent: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Give the events from which a row of `get_intent` follows, oldest first."""
        ids = [intent, *(one["id"] for one in row["statuses"]), *(one["id"] for one in row["verdicts"])]
        backing = [id_ for one in ids for id_ in self.delegations.backing(self.events[one]) if id_ in self.events]
        of = {id_: self.events[id_] for id_ in (*ids, *backing)}
        targets = {
            (of[intent].agent_id, intent),
            *((event.agent_id, id_) for id_, event in of.items() if event.kind == kinds.DELEGATION),
        }
        for event in self._revokes:
            if any((event.agent_id, target) in targets for target in event.tag_values("e")):
                of[event.id] = event
        return [as_dict(event) for event in sorted(of.values(), key=lambda event: (event.created_at, event.id))]
