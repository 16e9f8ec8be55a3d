"""A global passive observer: sees every packet on every link, and works out who may have written what came out.

For each packet it keeps how likely it is that node u wrote it and that this is its h-th link. A mix's next packet is
either its own or one of those it holds; since delays have no memory, each held one is as likely as the other, so the
state of what leaves is the weighted mean of the states of what is held. That is how the simulators of Loopix and Nym
track a message; here what is held is itself worked out from the taps. The observer knows the path length, and may be
given everybody's guards, which it could learn by counting. It also knows that a message leaves in the first slot after
it was written, and that longer gaps between slots have more room for that: it keeps every state twice, once for any
packet and once weighted for packets that carry a message. What it takes to be independent, the packets held at one
mix, is not quite: `surprise` shows by how much it deceives itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..mix.profiles import Profile
from ..sphinx import MAX_HOPS
from .flights import Flight

__all__ = ["Guess", "Observer"]

_FORGOTTEN = 1e-3  # a packet this unlikely to be still held is no longer looked at
_LONGEST = -100.0  # mean delays of silence: longer would be zero by zero for a mix that is dead
_FIRST_ROOM = 64  # packets held at one mix that there is room for at first

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Guess:
    """What the observer makes of one delivered message.

    `author`: the true one; `likely`: by node; `bits`: entropy over the honest nodes; `surprise`: -log2 of what it gave
    the true author, in the mean equal to `bits` where its probabilities are right, and larger where it is too sure.
    """

    bits: float
    surprise: float
    author: int
    likely: Floats = field(repr=False, compare=False)


class _Held:
    """The packets one mix may hold: their states, and how likely each is there."""

    def __init__(self, width: int, now: float) -> None:
        self.states: Floats = np.zeros((_FIRST_ROOM, width))
        self.there: Floats = np.zeros(_FIRST_ROOM)
        self.count = 0
        self.at = now

    def add(self, state: Floats, there: float) -> None:
        if self.count == len(self.there):
            self._make_room()
        self.states[self.count] = state
        self.there[self.count] = there
        self.count += 1

    def _make_room(self) -> None:
        kept = np.flatnonzero(self.there[: self.count] > _FORGOTTEN)
        states, there = self.states[kept], self.there[kept]
        if len(kept) * 2 > len(self.there):
            self.states = np.zeros((2 * len(self.there), self.states.shape[1]))
            self.there = np.zeros(2 * len(self.there))
        self.states[: len(kept)] = states
        self.there[: len(kept)] = there
        self.count = len(kept)


class Observer:
    """The taps on all links, and inside the nodes `corrupt`, which show it how their packets belong together.

    `silent`: nodes that send nothing at all, which anybody sees; `told`: each mix also shows it which packets ended
    there, which no tap does: a harsher case, beside what can be seen.
    """

    def __init__(
        self,
        nodes: int,
        profile: Profile,
        *,
        corrupt: Collection[int] = (),
        silent: Collection[int] = (),
        told: bool = False,
        now: float = 0.0,
    ) -> None:
        self._told = told
        self._nodes = nodes
        self._rate = profile.rate
        self._departure = 1 / profile.mean_delay
        self._corrupt = frozenset(corrupt)
        self._honest = np.array([node not in self._corrupt and node not in silent for node in range(nodes)])
        self._held = [_Held(2 * nodes * MAX_HOPS, now) for _ in range(nodes)]
        self._last_own = np.full(nodes, now)
        self._elsewhere = 1 / (nodes - 1)
        self._first = np.full((nodes, nodes), self._elsewhere)

    def learn_guards(self, node: int, guards: Sequence[int]) -> None:
        """Take it that a node's own packets go to these nodes first, to each as often; none leaves all as likely."""
        if guards:
            self._first[node] = 0.0
            self._first[node, list(guards)] = 1 / len(guards)

    @property
    def max_bits(self) -> float:
        """The entropy of knowing nothing: of all honest nodes that send at all."""
        return math.log2(max(1, int(self._honest.sum())))

    def sent(self, now: float, flight: Flight) -> None:
        """Work out what a packet that leaves may be."""
        node = flight.sender
        if node in self._corrupt:
            flight.notes = self._own(now, node) if flight.cause is None else self._passed_on(node, flight.cause.notes)
            return
        held = self._held[node]
        self._age(held, now)
        there = held.there[: held.count]
        own = self._rate * float(self._first[node, flight.receiver])
        others = there * (self._departure * self._elsewhere)
        total = own + float(others.sum())
        if total <= 0.0:
            flight.notes = self._own(now, node)
            return
        state: Floats = (others / total) @ held.states[: held.count]
        self._add_own(state, now, node, own / total)
        # when its last own packet left is known as far as it is known that this is one
        self._last_own[node] += (now - self._last_own[node]) * own / total
        flight.notes = state
        there *= 1 - others / total

    def arrived(self, now: float, flight: Flight) -> None:
        """Add what a packet may be to what its receiver may hold; one on its last link is not held."""
        if not self._told:
            self._hold(now, flight, certain=False)

    def handled(self, now: float, flight: Flight, held: bool) -> None:
        """Do the same, being told whether the packet ended here."""
        if self._told and held:
            self._hold(now, flight, certain=True)

    def _hold(self, now: float, flight: Flight, certain: bool) -> None:
        node = flight.receiver
        if node in self._corrupt or flight.notes is None:
            return
        state, there = self._onward(node, flight.notes)
        if there > _FORGOTTEN:
            held = self._held[node]
            self._age(held, now)
            held.add(state / there, 1.0 if certain else there)

    def guess(self, flight: Flight, author: int) -> Guess:
        """Say what is known of who wrote the message that this packet carried, having come out at its receiver."""
        last = flight.notes.reshape(2, self._nodes, MAX_HOPS)[1, :, -1] * self._honest
        total = float(last.sum())
        if total <= 0.0:
            return Guess(0.0, math.inf, author, last)
        likely = last / total
        some = likely[likely > 0.0]
        true = float(likely[author])
        surprise = -math.log2(true) if true > 0.0 else math.inf
        return Guess(abs(float((some * np.log2(some)).sum())), surprise, author, likely)

    def _age(self, held: _Held, now: float) -> None:
        """Let time pass in which nothing left this mix: what it may hold becomes less likely to be there."""
        if now > held.at and held.count:
            there = held.there[: held.count]
            kept = there * math.exp(max(_LONGEST, (held.at - now) * self._departure))
            held.there[: held.count] = kept / (1 - there + kept)
        held.at = now

    def _own(self, now: float, node: int) -> Floats:
        state = np.zeros(2 * self._nodes * MAX_HOPS)
        self._add_own(state, now, node, 1.0)
        return state

    def _add_own(self, state: Floats, now: float, node: int, likely: float) -> None:
        """Add that a packet is its sender's own; among those a message is likelier the longer none had left before."""
        state[node * MAX_HOPS] += likely
        silence = (now - self._last_own[node]) * self._rate
        state[(self._nodes + node) * MAX_HOPS] += likely * silence

    def _onward(self, node: int, state: Floats) -> tuple[Floats, float]:
        """Give the state a link on, if `node` passes the packet on at all, and how likely that is."""
        onward = np.empty_like(state)
        onward[1:] = state[:-1]
        onward[0::MAX_HOPS] = 0.0  # where the last link of one author would become the first of the next
        onward[node * MAX_HOPS : (node + 1) * MAX_HOPS] = 0.0  # what comes back to its author stays there
        onward[(self._nodes + node) * MAX_HOPS : (self._nodes + node + 1) * MAX_HOPS] = 0.0
        there = float(onward[: self._nodes * MAX_HOPS].sum())
        return onward, there

    def _passed_on(self, node: int, notes: Any) -> Floats:
        state, there = self._onward(node, notes)
        return state / there if there > 0.0 else state
