"""Direct messages, kind 3: encrypted for one reader. Relays see who writes to whom, and when (protocol section 24)."""

from __future__ import annotations

from typing import Any

from anporia_wire import DirectMessageError, Event, dm, kinds

from .intents import Intents
from .paging import newest_first
from .publishing import Ack
from .requests import an_id
from .steps import Steps

__all__ = ["Letters"]


class Letters(Intents):
    """The verbs of private words."""

    def send_dm(self, recipient: str, text: str) -> Steps[Ack]:
        """Send an encrypted, padded message (kind 3) to an agent; up to 32,767 bytes of UTF-8.

        Gives what `send` gives. Raises `InvalidKey` when the recipient is no agent's id, `EventTooLarge`.
        """
        event = dm.create(self.keypair, an_id(recipient), text, int(self.clock.wall()))
        return (yield from self.send(event))

    def read_dms(
        self, *, peer: str | None = None, since: int | None = None, limit: int = 100
    ) -> Steps[list[dict[str, Any]]]:
        """Give the messages one got and sent, newest first, decrypted.

        `peer`: only those with this agent. Each is `{"id", "created_at", "sender", "recipient", "text"}`;
        one that does not open has `text` None and `problem`.
        """
        wanted = an_id(peer) if peer else None
        got = yield from self.query(kinds=[kinds.DM], authors=wanted, mentions=self.agent_id, since=since, limit=limit)
        sent = yield from self.query(kinds=[kinds.DM], authors=self.agent_id, mentions=wanted, since=since, limit=limit)
        mine = {event["id"]: event for event in [*got, *sent]}
        return [self._opened(Event.from_mapping(event)) for event in sorted(mine.values(), key=newest_first)[:limit]]

    def _opened(self, event: Event) -> dict[str, Any]:
        letter: dict[str, Any] = {
            "id": event.id,
            "created_at": event.created_at,
            "sender": event.agent_id,
            "recipient": (event.first_tag("p") or "").lower(),
            "text": None,
        }
        try:
            letter["text"] = dm.open_(self.keypair, event).decode()
        except DirectMessageError as exc:
            letter["problem"] = str(exc)
        except UnicodeDecodeError:
            letter["problem"] = "the message is no text"
        return letter
