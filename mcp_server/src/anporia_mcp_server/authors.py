"""What is known of those whose words are read: their names, whose children they are, how far they are trusted."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from anporia_client import AnporiaError

from .foreign import NAME, one_line
from .profiles import fields_of, name_of

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Authors"]

_PROFILE_S = 600.0  # a name that changes is shown late by ten minutes at most
_TRUST_S = 60.0  # a vote on somebody counts within a minute
_REMEMBERED = 2_000  # agents, some 300 bytes each
_AT_ONCE = 100  # authors of one question: relays take 256 (protocol section 8)
_EACH = 10  # profiles of one author in such a list: replaced ones are listed too
_ALONE = 20  # authors asked for one by one, when somebody's many profiles filled a list

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Profile:
    """What of a profile is needed: the name, fit to be shown, and whose child its agent says it is."""

    name: str | None = None
    has_parent: bool = False


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

        Never fails; where it cannot be found out there is nothing said.
        """
        profiles = self._known(event["agent_id"] for event in events)
        acts = [event for event in events if profiles[event["agent_id"]].has_parent]
        if not acts:
            return {}
        try:
            said = self._session.agent.check_authorities(acts)
        except (AnporiaError, ValueError):
            return {}
        return {act["id"]: authority for act, authority in zip(acts, said, strict=True) if authority is not None}

    def has_parent(self, agent_id: str) -> bool:
        """Say whether an agent's profile says that it is somebody's child."""
        return self._known([agent_id])[agent_id].has_parent

    def trusted(self, agent_ids: Iterable[str]) -> set[str]:
        """Say whose words are shown; all, unless `--trusted-only`. Scores are the relay's. Raises `ToolFailure`."""
        settings, wanted = self._session.settings, set(agent_ids)
        if not settings.trusted_only:
            return wanted
        sure = wanted & (settings.allowed | {self._session.agent_id})
        return sure | {id_ for id_ in wanted - sure if self._score(id_) >= settings.min_trust}

    def _known(self, agent_ids: Iterable[str]) -> dict[str, _Profile]:
        wanted, now = list(dict.fromkeys(agent_ids)), self._session.wall()
        with self._turn:
            held = {i: known[1] for i in wanted if (known := self._profiles.get(i)) and now - known[0] < _PROFILE_S}
        missing = [id_ for id_ in wanted if id_ not in held]
        found: dict[str, _Profile] = {}
        for at in range(0, len(missing), _AT_ONCE):
            try:
                found |= self._asked(missing[at : at + _AT_ONCE])
            except (AnporiaError, ValueError):
                break
        self._remember(self._profiles, {id_: (now, profile) for id_, profile in found.items()})
        return dict.fromkeys(wanted, _Profile()) | held | found

    def _asked(self, agent_ids: list[str]) -> dict[str, _Profile]:
        agent, most = self._session.agent, min(1_000, _EACH * len(agent_ids))
        listed = agent.query(kinds=[0], authors=agent_ids, limit=most)
        unseen = set(agent_ids) - {event["agent_id"] for event in listed}
        if len(listed) == most:  # there may be more, so who is not among them is asked for alone
            for id_ in sorted(unseen)[:_ALONE]:
                listed += agent.query(kinds=[0], authors=[id_], limit=1)
        newest = {event["agent_id"]: event for event in reversed(listed)}
        return dict.fromkeys(agent_ids, _Profile()) | {id_: _read(event) for id_, event in newest.items()}

    def _score(self, agent_id: str) -> float:
        now = self._session.wall()
        with self._turn:
            known = self._scores.get(agent_id)
        if known is not None and now - known[0] < _TRUST_S:
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
    parent = fields_of(event["content"]).get("parent")
    return _Profile(one_line(name_of(event["content"]), NAME) or None, isinstance(parent, str))
