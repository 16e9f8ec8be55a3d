"""How much a network mixes: packets a second and delay a hop. All nodes of a network use one profile.

Two profiles in one network would split those who hide among each other. What each gives in bits and costs in bytes is
measured, not computed: docs/p2p.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..sphinx import MAX_HOPS

__all__ = ["PROFILES", "Profile"]

_LINK_SECONDS = 0.05  # one way between two homes on one continent; what to expect, not a limit
_GOSSIP_SECONDS = 0.25  # to all of 200 nodes: what gossip is to reach, and is not built yet


@dataclass(frozen=True, slots=True)
class Profile:
    """The parameters of mixing.

    `rate`: send slots a second; `loop_share`: of these, the share that carries loops whatever waits; the rest carries
    real packets, or drop cover when none waits. `mean_delay`: seconds a packet is held at a mix, on average.
    """

    name: str
    rate: float
    loop_share: float
    mean_delay: float

    @property
    def payload_rate(self) -> float:
        """Slots a second that a real packet may use."""
        return self.rate * (1 - self.loop_share)

    @property
    def max_delay(self) -> float:
        """The longest delay a sender asks for and a mix grants, in seconds: exceeded by one in 22,026 draws."""
        return 10 * self.mean_delay

    @property
    def expected_latency(self) -> float:
        """Seconds from the author's queue until the author hears its own event back, on average and idle."""
        mixing = (MAX_HOPS - 1) * self.mean_delay
        return 1 / self.payload_rate + mixing + MAX_HOPS * _LINK_SECONDS + _GOSSIP_SECONDS

    @property
    def packets_per_second(self) -> float:
        """Packets a node sends a second, and receives: its own, and four times as many for others."""
        return MAX_HOPS * self.rate


PROFILES = {
    profile.name: profile
    for profile in (
        # 200 ms one way was asked for; each share of loops lengthens the wait for a slot (decision 34)
        Profile("fast", rate=22.0, loop_share=0.1, mean_delay=0.032),
        Profile("balanced", rate=2.0, loop_share=0.2, mean_delay=0.500),
        Profile("slow", rate=0.2, loop_share=0.2, mean_delay=5.0),
    )
}
