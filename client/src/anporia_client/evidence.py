"""Getting the events from which intents and delegations follow: from a relay's answer, or from its lists.

A relay that has the feature `intents` gives them in one answer. Any other is asked for lists of events, which have
no filter for `e`: statuses are found by their author, verdicts by the `p` tag that names the intent's author.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from anporia_wire import Filter, intents, is_id, kinds

from . import answers, requests
from .errors import RelayRefused
from .paging import MOST, Pages
from .standing import Standing
from .steps import Steps
from .tasks import Tasks

__all__ = ["Evidence"]

_AUTHORS = 50  # of one question: 3.3 kB of a request's address, of which some servers take 8 kB at most
_MOST_PAGES = 100  # as of other lists
_MOST_AGENTS = 1_000  # strangers about whom more is asked, 20 questions: a crowd must not keep a reader busy

Events = list[dict[str, Any]]


class Evidence(Tasks):
    """What is asked of relays for intents; each gives the events of all relays together."""

    def intent_events(self, intent: str, verifiers: Collection[str] = ()) -> Steps[Standing]:
        """Get what one intent follows from. Raises `RelayRefused` when no relay has it."""

        def one(at: int) -> Steps[Events]:
            if (yield from self.informed(at)).has("intents"):
                try:
                    told, _ = yield from self.told(at, requests.view(f"/intents/{intent}", _asked({}, verifiers)))
                    return _events_of(told)
                except RelayRefused as exc:
                    if exc.status != 404:  # what was declared by a clock ahead of the relay's is not due there yet
                        raise
            response = yield from self.ask(at, requests.view(f"/events/{intent}"))
            event = answers.one_event(response, intent, self.relays[at].url)
            found = [answers.as_dict(event)]
            return (yield from self._around(at, found, verifiers)) if event.kind == kinds.INTENT_DECLARE else found

        return (yield from self._together(one))

    def intents_events(self, wanted: Mapping[str, str], limit: int, verifiers: Collection[str]) -> Steps[Standing]:
        """Get what the newest wanted intents follow from; by `author`, `assignee`, `parent`, `topic`, `status`."""

        def one(at: int) -> Steps[Events]:
            if (yield from self.informed(at)).has("intents"):
                return (yield from self._rows(at, _asked(wanted, verifiers), limit))
            declared = yield from self._declarations(at, wanted, limit)
            return (yield from self._around(at, declared, verifiers))

        return (yield from self._together(one))

    def delegation_events(self, agent: str) -> Steps[Standing]:
        """Get what `get_delegations` follows from."""
        own = frozenset({kinds.DELEGATION, kinds.KEY_ROTATION, kinds.REVOKE})

        def one(at: int) -> Steps[Events]:
            said = yield from self._by(at, own, [agent])
            said += yield from self._profiles(at, [agent])
            named = frozenset({kinds.DELEGATION, kinds.KEY_ROTATION})
            of_others = yield from self._all(at, Filter(kinds=named, p=agent))
            mentioned = {tag[1] for event in said for tag in _tags(event, "p")}  # children and successors
            of_others, givers = _of_the_first(of_others, {*mentioned, Standing(said).delegations.parent(agent)})
            revokes = yield from self._by(at, {kinds.REVOKE}, givers)
            profiles = yield from self._profiles(at, set(filter(is_id, mentioned)))
            return said + of_others + revokes + profiles

        return (yield from self._together(one))

    def authority_events(self, agents: Collection[str]) -> Steps[Standing]:
        """Get what the authority of agents' acts follows from."""
        return (yield from self._together(lambda at: self._authority(at, agents, [])))

    def _together(self, one: Any) -> Steps[Standing]:
        lists: list[Events] = yield from self.gathered(one)
        return Standing(event for events in lists for event in events)

    def _rows(self, at: int, params: dict[str, str], limit: int) -> Steps[Events]:
        """Ask a relay that knows intents for rows with their events, page by page."""
        found: Events = []
        count = 0
        more: dict[str, str | int | None] = {**params, "events": "true"}
        for _ in range(_MOST_PAGES):
            told, cursor = yield from self.told(at, requests.view("/intents", {**more, "limit": limit - count}))
            rows = told.get("intents")
            kept = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            found += [event for row in kept for event in _events_of(row)]
            count += len(kept)
            if count >= limit or cursor is None:
                break
            more["cursor"] = cursor
        return found

    def _declarations(self, at: int, wanted: Mapping[str, str], limit: int) -> Steps[Events]:
        """Give declarations of a plain list; all that may fit, where only their statuses can tell."""
        author = wanted.get("author")
        filter_ = Filter(
            kinds=frozenset({kinds.INTENT_DECLARE}),
            authors=frozenset({author}) if author else None,
            t=wanted.get("topic"),
            p=wanted.get("assignee"),
        )
        enough = limit if wanted.keys() <= {"author", "topic", "assignee"} else None
        return (yield from self._all(at, filter_, enough))

    def _around(self, at: int, declared: Events, trusted: Collection[str]) -> Steps[Events]:
        """Give declarations with what others and their authors say of them."""
        authors = {event["agent_id"] for event in declared}
        if not authors:
            return []
        said = yield from self._by(at, {kinds.INTENT_STATUS, kinds.REVOKE}, authors)
        # one question for all where there are many: each would be a walk of its own
        about = next(iter(authors)) if len(authors) == 1 else None
        ids = {event["id"] for event in declared}
        judged = yield from self._all(at, Filter(kinds=frozenset({kinds.INTENT_VERIFY}), p=about))
        verdicts = [event for event in judged if any(tag[1] in ids for tag in _tags(event, "e"))]
        verdicts, verifiers = _of_the_first(verdicts, trusted)
        revokes = yield from self._by(at, {kinds.REVOKE}, verifiers)
        return (yield from self._authority(at, authors | verifiers, declared + said + verdicts + revokes))

    def _authority(self, at: int, agents: Collection[str], found: Events) -> Steps[Events]:
        """Add profiles, and what the parents that they name delegated and took back."""
        profiles = yield from self._profiles(at, agents)
        named = Standing(profiles).delegations
        parents = {parent for agent in agents if (parent := named.parent(agent))}
        given = yield from self._by(at, {kinds.DELEGATION, kinds.REVOKE}, parents)
        return found + profiles + given

    def _profiles(self, at: int, agents: Collection[str]) -> Steps[Events]:
        """Give each agent's newest profile, perhaps with some older ones.

        Who is found is asked about no more, so that an agent with many profiles hides nobody's.
        """
        more = yield from self._more(at)
        found: Events = []
        ordered = sorted(agents)
        for start in range(0, len(ordered), _AUTHORS):
            missing = set(ordered[start : start + _AUTHORS])
            size = 0
            while missing:
                size = min(MOST, 4 * (size or len(missing)))
                filter_ = Filter(kinds=frozenset({kinds.PROFILE}), authors=frozenset(missing))
                pages = Pages(filter_, more, len(self.relays), size=size)
                yield from self._fetch(at, pages)
                place = pages.places[at]
                found += place.ahead
                if place.ended or not place.ahead:
                    break
                # of the page's last second there may be more, and the newest profile is the one with the greatest id
                last = min(event["created_at"] for event in place.ahead)
                settled = {event["agent_id"] for event in place.ahead if event["created_at"] > last}
                if not settled and size == MOST:
                    found += yield from self._by(at, {kinds.PROFILE}, missing)
                    break
                missing -= settled
                size = 0 if settled else size
        return found

    def _by(self, at: int, of_kinds: Iterable[int], authors: Collection[str]) -> Steps[Events]:
        """Give all events of these kinds by these authors."""
        found: Events = []
        ordered = sorted(authors)
        for start in range(0, len(ordered), _AUTHORS):
            some = frozenset(ordered[start : start + _AUTHORS])
            found += yield from self._all(at, Filter(kinds=frozenset(of_kinds), authors=some))
        return found

    def _all(self, at: int, filter_: Filter, enough: int | None = None) -> Steps[Events]:
        """Give all that match, or so many intents of ours; revoked and hidden ones too where a relay shows them."""
        pages = Pages(filter_, (yield from self._more(at)), len(self.relays))
        if enough is None:
            return (yield from self._walk(at, pages, None))
        found: Events = []
        for _ in range(_MOST_PAGES):
            yield from self._fetch(at, pages)
            place = pages.places[at]
            found += reversed(place.ahead)
            place.ahead = []
            good = sum(["s", intents.SCHEMAS[kinds.INTENT_DECLARE]] in event["tags"] for event in found)
            if place.ended or good >= enough:
                break
        return found

    def _more(self, at: int) -> Steps[dict[str, str]]:
        can = (yield from self.informed(at)).has("include-hidden")
        return {"include_revoked": "true", "include_hidden": "true"} if can else {}


def _of_the_first(events: Events, preferred: Collection[str | None]) -> tuple[Events, set[str]]:
    """Keep the events of so many agents as may be asked about: the preferred, then those who spoke last."""
    ordered = sorted(events, key=lambda event: (event["agent_id"] not in preferred, -event["created_at"]))
    kept = set(list(dict.fromkeys(event["agent_id"] for event in ordered))[:_MOST_AGENTS])
    return [event for event in events if event["agent_id"] in kept], kept


def _asked(wanted: Mapping[str, str], verifiers: Collection[str]) -> dict[str, Any]:
    return {**wanted, "verifiers": ",".join(verifiers) or None}


def _events_of(answer: Mapping[str, Any]) -> Events:
    """Give the events of an answer, which were verified with the whole of it."""
    listed = answer.get("events")
    return [event for event in listed if answers.is_envelope(event)] if isinstance(listed, list) else []


def _tags(event: Mapping[str, Any], name: str) -> list[list[str]]:
    return [tag for tag in event["tags"] if len(tag) > 1 and tag[0] == name]
