"""What is known of those whose words are read: their names, whose children they are, how far they are trusted."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from anporia_client import AnporiaError, payload

from .failures import ToolFailure
from .foreign import NAME, one_line

if TYPE_CHECKING:
    from .session import Session

__all__ = ["AT_ONCE", "Authors"]

_KNOWN_S = 60.0  # a new name, a new parent and a vote on somebody count within a minute
_PATIENCE_S = 15.0  # for the scores of one answer, as long as one question to the relay may take
_REMEMBERED = 2_000  # agents, some 300 bytes each
AT_ONCE = 100  # authors of one question: relays take 256 (protocol section 8)
_EACH = 10  # profiles of one author in such a list: replaced ones are listed too
_UNKNOWN = {"parent": None, "delegated": False, "reason": "unknown", "delegation_id": None}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Profile:
    """What of a profile is needed: the name, fit to be shown, and whether its agent says that it is a child.

    `has_parent`: None where the profile could not be asked for.
    """

    name: str | None = None
    has_parent: bool | None = None


class Authors:
    """What a session knows of other agents, for a while. Any thread may call."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turn = threading.Lock()
        self._profiles: OrderedDict[str, tuple[float, _Profile]] = OrderedDict()
        self._scores: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def names(self, agent_ids: Iterable[str]) -> dict[str, str | None]:
        """Give what agents call themselves, in a form fit to be shown; None for those without a profile.

        Never fails: a name is no reason to lose what was asked for.
        """
        return {id_: profile.name for id_, profile in self._known(agent_ids).items()}

    def authorities(self, events: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Say of the events that children wrote whether their parents delegated them; by event id.

        Never fails: where it cannot be found out the reason is "unknown", which is not the same as nothing to say.
        """
        profiles = self._known(event["agent_id"] for event in events)
        acts = [event for event in events if profiles[event["agent_id"]].has_parent]
        told = {event["id"]: _UNKNOWN for event in events if profiles[event["agent_id"]].has_parent is None}
        if acts:
            try:
                said = self._session.agent.check_authorities(acts)
            except (AnporiaError, ValueError):
                return told | dict.fromkeys((act["id"] for act in acts), _UNKNOWN)
            told |= {act["id"]: authority for act, authority in zip(acts, said, strict=True) if authority is not None}
        return told

    def has_parent(self, agent_id: str) -> bool:
        """Say whether an agent's profile says that it is somebody's child."""
        return bool(self._known([agent_id])[agent_id].has_parent)

    def trusted(self, agent_ids: Iterable[str]) -> set[str]:
        """Say whose words are shown; all, unless `--trusted-only`. Scores are the relay's. Raises `ToolFailure`."""
        settings, wanted = self._session.settings, set(agent_ids)
        if not settings.trusted_only:
            return wanted
        sure = wanted & (settings.allowed | {self._session.agent_id})
        until = time.monotonic() + _PATIENCE_S
        for id_ in sorted(wanted - sure):
            if time.monotonic() > until:
                text = f"The relay took more than {_PATIENCE_S:g} s to say whom it trusts. Ask for fewer events."
                raise ToolFailure(text, "timeout")
            if self._score(id_) >= settings.min_trust:
                sure.add(id_)
        return sure

    def _known(self, agent_ids: Iterable[str]) -> dict[str, _Profile]:
        wanted, now = list(dict.fromkeys(agent_ids)), self._session.wall()
        with self._turn:
            held = {i: known[1] for i in wanted if (known := self._profiles.get(i)) and now - known[0] < _KNOWN_S}
        missing = [id_ for id_ in wanted if id_ not in held]
        found: dict[str, _Profile] = {}
        for at in range(0, len(missing), AT_ONCE):
            try:
                found |= self._asked(missing[at : at + AT_ONCE])
            except (AnporiaError, ValueError):
                break
        self._remember(self._profiles, {id_: (now, profile) for id_, profile in found.items()})
        return dict.fromkeys(wanted, _Profile()) | held | found

    def _asked(self, agent_ids: list[str]) -> dict[str, _Profile]:
        agent, most = self._session.agent, _EACH * len(agent_ids) if len(agent_ids) > 1 else 1
        listed = agent.query(kinds=[0], authors=agent_ids, limit=most)
        newest = {event["agent_id"]: _read(event) for event in reversed(listed)}
        unseen = [id_ for id_ in agent_ids if id_ not in newest]
        if len(listed) < most or len(agent_ids) == 1:
            return dict.fromkeys(unseen, _Profile(has_parent=False)) | newest
        # somebody's many profiles filled the list, so the others are asked for apart from them
        for some in (unseen[: len(unseen) // 2], unseen[len(unseen) // 2 :]):
            newest |= self._asked(some) if some else {}
        return newest

    def _score(self, agent_id: str) -> float:
        now = self._session.wall()
        with self._turn:
            known = self._scores.get(agent_id)
        if known is not None and now - known[0] < _KNOWN_S:
            return known[1]
        with self._session.reading() as agent:
            said = agent.get_trust(agent_id).get("weighted_score")
        score = float(said) if isinstance(said, (int, float)) and math.isfinite(said) else 0.0
        self._remember(self._scores, {agent_id: (now, score)})
        return score

    def _remember(self, kept: OrderedDict[str, _T], found: dict[str, _T]) -> None:
        with self._turn:
            for id_, known in found.items():
                kept[id_] = known
                kept.move_to_end(id_)
            while len(kept) > _REMEMBERED:
                kept.popitem(last=False)


def _read(event: dict[str, Any]) -> _Profile:
    said = payload(event["content"])
    return _Profile(one_line(said.get("name"), NAME) or None, isinstance(said.get("parent"), str))
