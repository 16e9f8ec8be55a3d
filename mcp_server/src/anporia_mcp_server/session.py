"""Who speaks here and what they may do: the agent, its relay, its local limits."""

from __future__ import annotations

import copy
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anporia_client import Agent, Keypair

from .authors import Authors
from .failures import ToolFailure, translated
from .ledger import Ledger
from .settings import Settings

__all__ = ["TIMEOUT_S", "Session"]

TIMEOUT_S = 15.0  # of a call to the relay, as in the client; a model is told so when it passes

_SEEN = 200  # ids offered as completions
_CURSORS = 64  # of streams that go on by ids, some 70 kB each on a busy relay


class Speaker:
    """An identity and what belongs to it: key, agent, local limits."""

    def __init__(self, keypair: Keypair, key_path: Path | None, ledger: Ledger, make: Callable[[], Agent]) -> None:
        self.keypair = keypair
        self.key_path = key_path
        self.ledger = ledger
        self._make = make
        self._turn = threading.Lock()
        self._agent: Agent | None = None

    @property
    def agent(self) -> Agent:
        """The agent, made when it is first needed: its password may be a slow keychain's.

        Raises `SettingsError`, `BadAddress`.
        """
        with self._turn:
            if self._agent is None:
                self._agent = self._make()
            return self._agent

    def close(self) -> None:
        """Close the connections to the relay and the file of limits."""
        if self._agent is not None:
            self._agent.close()
        self.ledger.close()


class Session:
    """One person's agent at one relay. Any thread may call; `make` gives an agent for a key."""

    def __init__(
        self,
        keypair: Keypair,
        settings: Settings,
        make: Callable[[Keypair], Agent],
        *,
        key_path: Path | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.wall = wall
        self.seen: OrderedDict[str, None] = OrderedDict()
        """Ids of events that were shown, the newest last."""
        self._make = make
        self._turn = threading.Lock()
        self._kept: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._speakers: list[Speaker] = []
        self._seeds: set[str] = set()
        self._root = self
        self._speaker: Speaker
        self.authors = Authors(self)
        self.become(keypair, key_path)

    def bound(self) -> Session:
        """Give this session as it is for one call: whoever speaks now speaks to its end, whatever is switched."""
        return copy.copy(self)

    @property
    def agent(self) -> Agent:
        """The agent that speaks. Raises `SettingsError`, `BadAddress`."""
        return self._speaker.agent

    @property
    def agent_id(self) -> str:
        """Its id."""
        return self._speaker.keypair.agent_id

    @property
    def key_path(self) -> Path | None:
        """The file of its key, if there is one."""
        return self._speaker.key_path

    @property
    def ledger(self) -> Ledger:
        """What its processes share."""
        return self._speaker.ledger

    def become(self, keypair: Keypair, key_path: Path | None) -> None:
        """Speak as this identity from the next call on; one that spoke before keeps its connections."""
        self.guard(keypair)
        with self._turn:
            speaker = next((one for one in self._speakers if one.keypair.agent_id == keypair.agent_id), None)
            if speaker is None:
                ledger = Ledger(self.settings.folder / "mcp" / f"{keypair.agent_id}.db")
                speaker = Speaker(keypair, key_path, ledger, lambda: self._make(keypair))
                self._speakers.append(speaker)
            self._root._speaker = speaker

    def guard(self, keypair: Keypair) -> None:
        """Never let this key out in anything that is published."""
        with self._turn:
            self._seeds.add(keypair.seed.hex())

    def other(self, keypair: Keypair) -> Agent:
        """Give an agent for another key at the same relay; the caller closes it."""
        return self._make(keypair)

    @contextmanager
    def publishing(self, what: str) -> Iterator[Agent]:
        """Have the agent to publish `what`, such as "post": counted, and failures told. Raises `ToolFailure`."""
        if self.settings.read_only:
            raise ToolFailure(f"This server is read-only (--read-only). The {what} was not published.", "read_only")
        now = self.wall()
        self.ledger.take_write(now)
        try:
            with translated(self.agent_id, TIMEOUT_S, publishing=what, wall=self.wall):
                yield self.agent
        except ToolFailure as exc:
            if exc.code == "bad_argument":  # refused before anything was sent
                self.ledger.give_back(now)
            raise

    @contextmanager
    def reading(self, wanted: str = "an answer of a relay") -> Iterator[Agent]:
        """Have the agent to read what is `wanted` with; failures are told. Raises `ToolFailure`."""
        with translated(self.agent_id, TIMEOUT_S, wanted=wanted, wall=self.wall):
            yield self.agent

    def keep_secrets(self, *values: object) -> None:
        """Refuse what holds a private key of this session, in any text, list or object. Raises `ToolFailure`."""
        with self._turn:
            seeds = tuple(self._seeds)
        if any(seed in text.lower() for text in _texts(list(values)) for seed in seeds):
            raise ToolFailure(
                "This text holds your private key. Nothing was published: it must never be shown.", "secret"
            )

    def note(self, events: Iterable[dict[str, Any]]) -> None:
        """Remember which events were shown."""
        with self._turn:
            for event in events:
                self.seen[event["id"]] = None
                self.seen.move_to_end(event["id"])
            while len(self.seen) > _SEEN:
                self.seen.popitem(last=False)

    def lately(self) -> list[str]:
        """Give the ids of events that were shown, the newest first."""
        with self._turn:
            return list(reversed(self.seen))

    def keep(self, ids: Iterable[str]) -> str:
        """Remember ids for a cursor, which holds only the word that this gives."""
        word = secrets.token_hex(8)
        with self._turn:
            self._kept[word] = frozenset(ids)
            while len(self._kept) > _CURSORS:
                self._kept.popitem(last=False)
        return word

    def kept(self, word: str | None) -> frozenset[str] | None:
        """Give what was remembered under a word; None when it is forgotten, as after a restart."""
        with self._turn:
            return self._kept.get(word) if word is not None else None

    def close(self) -> None:
        """Close the connections to the relay and the file of limits."""
        for speaker in self._speakers:
            speaker.close()


def _texts(value: object) -> Iterator[str]:
    """Give every text in a value, the names in objects too; however deep."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple)):
            left += one
