"""What the relay answers besides events: the pure views of `anporia_wire`, fed by the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anporia_store import Committed, Store
from anporia_wire import Event, Filter
from anporia_wire.views import Capabilities, Counts, Health, Rooms, Roster

__all__ = ["Views"]

_CHUNK = 1_000  # rows a read while rebuilding: about 10 ms, so that signals are still heard


class Views:
    """The views of one relay; each stored event is applied exactly once, in whatever order."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.roster = Roster()
        self.rooms = Rooms()
        self.capabilities = Capabilities()
        self.health = Health()

    def apply(self, event: Event) -> None:
        """Take one stored event."""
        self.counts.apply(event)
        self.roster.apply(event)
        self.rooms.apply(event)
        self.capabilities.apply(event)

    def commit(self, committed: Sequence[Committed]) -> None:
        """Take what the store has just made durable."""
        for item in committed:
            self.apply(item.event)

    async def rebuild(self, store: Store, progress: Callable[[int], None] = lambda _seq: None) -> None:
        """Read the whole log once, as a relay does when it starts. Raises `StoreDamaged`."""
        seq = 0
        while seq < store.last_seq:
            part = await store.replay(seq, Filter(), _CHUNK)
            for _, serialised in part.rows:
                self.apply(Event.from_stored(serialised))
            seq = part.complete_to
            progress(seq)
