"""A mix, and the sender beside it: bytes and time in, effects out. The story of the package.

    handle   a packet came: admit, open, look for a replay, unwrap, then hold it or take what it carries
    tick     time passed: let go what was held long enough; use the slot, if it is time for one; look after the rest

Nobody but its owner can tell by what a mix sends whether it says anything itself: its slots come when they come, and
in each leaves either what waits or cover.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import BadPacket, P2pError, QueueFull
from ..sphinx import Arrived, Forward
from .admission import Admission
from .cover import Cover
from .directory import Directory
from .effects import Deliver, Effect, Failed, NewMixKey, Reply, Send, Service
from .epochs import EPOCH, GRACE, Epochs
from .guards import GUARDS, Guard, Guards
from .health import Health
from .hold import Hold
from .messages import MAX_QUEUED, MAX_TRIES, Message, Messages
from .packets import Packets, SphinxPackets
from .paths import Paths
from .profiles import Profile
from .sealing import Sealer
from .slots import Slots

__all__ = ["MAX_QUEUED", "MAX_REPLIES", "Mix"]

MAX_REPLIES = 1_024  # reply blocks given out and not yet used, 1 kB of keys each


_SERVICES = {bytes((service,)): service for service in Service}


@dataclass(frozen=True, slots=True)
class _Queued:
    first_hop: bytes
    packet: bytes
    message_id: bytes | None
    since: float


class Mix:
    """One node's mixing. `me`: its id, 32 bytes; times are Unix seconds, and one before the last counts as the last.

    `rng` draws paths, delays and nonces, `slot_rng` the times of slots; outside of simulations both are
    `random.SystemRandom()`. `guards`: those kept from before a restart. `drops` counts by reason what ended here
    without having arrived.
    """

    def __init__(
        self,
        now: float,
        me: bytes,
        profile: Profile,
        directory: Directory,
        *,
        packets: Packets | None = None,
        rng: random.Random | None = None,
        slot_rng: random.Random | None = None,
        guards: Iterable[Guard] = (),
        guard_count: int = GUARDS,
    ) -> None:
        rng = random.SystemRandom() if rng is None else rng
        self.me = me
        self._now = now
        self.profile = profile
        self.directory = directory
        self.drops: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        """Packets sent, by what they were: `real`, `loop`, `drop`, `forward`."""
        self.health = Health()
        self.guards = Guards(rng, guards, guard_count)
        self._rng = rng
        self._packets = SphinxPackets() if packets is None else packets
        self._epochs = Epochs(now, self._packets, rng.randbytes)
        self._admission = Admission(profile)
        self._hold = Hold()
        self._slots = Slots(now, profile.rate, rng if slot_rng is None else slot_rng)
        paths = Paths(me, directory, self.guards, self.health, rng)
        self._sealer = Sealer(me, profile, self._packets, paths, rng)
        self._cover = Cover(now, profile, self._sealer, self._epochs, self.health, rng)
        self._queue: deque[_Queued] = deque()
        self._messages = Messages(profile)
        self._replies: OrderedDict[bytes, tuple[float, Any]] = OrderedDict()

    @property
    def built(self) -> int:
        """Packets and reply blocks this node made so far: what a simulation charges its processor for."""
        return self._sealer.built

    @property
    def held(self) -> int:
        """Packets of others that wait out their delay here."""
        return len(self._hold)

    # what a network brings

    def handle(self, now: float, peer: bytes, packet: bytes) -> list[Effect]:
        """Take a packet that the node `peer` sent; it is checked in the order of what a check costs."""
        now = self._clock(now)
        if not self._admission.admit(now, peer):
            return self._dropped("peer_rate")
        if self._hold.full:
            return self._dropped("hold_full")
        try:
            unwrapped = self._epochs.take(packet).unwrap()
            if isinstance(unwrapped, Forward):
                return self._forward(now, unwrapped)
            return self._arrived(unwrapped)
        except BadPacket as exc:
            return self._dropped(exc.code)

    def tick(self, now: float) -> list[Effect]:
        """Do all that is due. Call it when `deadline()` has come; earlier or later does no harm."""
        now = self._clock(now)
        effects: list[Effect] = []
        self._cover.prepare(now)
        # in the order in which they were due: else a packet of one's own would always leave a late tick last
        while (due := min(self._hold.deadline(), self._slots.deadline())) <= now:
            for next_id, packet in self._hold.release(due):
                self.sent["forward"] += 1
                effects.append(Send(next_id, packet))
            if self._slots.take(now, due):
                effects += self._use_slot(now)
        for message in self._messages.silent(now):
            if message.tries >= MAX_TRIES:
                effects.append(Failed(message.id))
            else:
                self._try(now, message)
        self.health.expire(now)
        if new_key := self._epochs.turn(now):
            self.health.forget(self.directory.usable(now))
            effects.append(new_key)
        self._forget_replies(now)
        return effects

    def deadline(self) -> float:
        """Say when `tick` has something to do next."""
        return min(
            self._hold.deadline(),
            self._slots.deadline(),
            self._cover.deadline(),
            self._messages.deadline(),
            self.health.deadline(),
            self._epochs.deadline(),
        )

    # what its owner asks for

    def announced(self) -> NewMixKey:
        """Give the mix key that this node's descriptor is to name now."""
        return self._epochs.announced()

    def publish(self, now: float, message_id: bytes, body: bytes) -> None:
        """Publish a body through five mixes, again until `heard` is called for it, and at last give `Failed`.

        Raises `QueueFull`, `BodyTooLarge`. Published once more while it is under way changes nothing.
        """
        now = self._clock(now)
        message = self._messages.submit(message_id, body)
        if message is not None:
            try:
                self._try(now, message)
            except Exception:  # whatever it is, it is the caller's; what was begun is taken back
                self._messages.heard(message_id)
                raise

    def heard(self, message_id: bytes) -> int | None:
        """Note that the network has a message; gives the try it was (1 to 5), or None if it was not awaited.

        Copies that still wait for a slot are let go of: each would show an observer its author once more.
        """
        if any(queued.message_id == message_id for queued in self._queue):
            self._queue = deque(queued for queued in self._queue if queued.message_id != message_id)
        return self._messages.heard(message_id)

    def send(self, now: float, service: Service, body: bytes) -> None:
        """Send a body once, to the service of a random mix. Raises `QueueFull`, `NoPath`, `BodyTooLarge`."""
        now = self._clock(now)
        self._room()
        sealed = self._sealer.seal(now, self._epochs.public, service, body)
        self._queue.append(_Queued(sealed.first_hop, sealed.packet, None, now))

    def make_reply_block(self, now: float) -> bytes:
        """Make a reply block (5,944 bytes) that whoever gets it can answer with once. Raises `NoPath`."""
        now = self._clock(now)
        block, reply_id, keys = self._sealer.reply_block(now, self._epochs.public)
        if len(self._replies) >= MAX_REPLIES:
            self._replies.popitem(last=False)  # the oldest is the likeliest to be dead
        self._replies[reply_id] = (now + EPOCH, keys)
        return block

    def answer(self, block: bytes, body: bytes) -> None:
        """Answer a reply block, in a slot as everything. Raises `QueueFull`, `BodyTooLarge`, `BadPacket`.

        `BadPacket` is for a block of another size, and for one that begins at a node that nobody knows.

        For the services of mixes, whose place is no secret: who made the block chose its first mix, and that one sees
        who answers.
        """
        self._room()
        first_hop, packet = self._packets.answer(block, body)
        if first_hop == self.me:
            unwrapped = self._epochs.take(packet).unwrap()
            if not isinstance(unwrapped, Forward):
                raise BadPacket("unknown_next")
            first_hop, packet = unwrapped.next_id, unwrapped.packet
        if first_hop == self.me or first_hop not in self.directory:
            # a slot in which nothing leaves would be seen
            raise BadPacket("unknown_next")
        self._queue.append(_Queued(first_hop, packet, None, self._now))

    # how it does that

    def _clock(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now

    def _forward(self, now: float, forward: Forward) -> list[Effect]:
        delay = forward.delay_us / 1e6
        if delay > self.profile.max_delay:
            return self._dropped("bad_delay")
        if forward.next_id == self.me or forward.next_id not in self.directory:
            return self._dropped("unknown_next")
        self._hold.put(now + delay, forward.next_id, forward.packet)
        return []

    def _arrived(self, arrived: Arrived) -> list[Effect]:
        if arrived.reply_id is not None:
            awaited = self._replies.pop(arrived.reply_id, None)
            if awaited is None:
                return self._dropped("unknown_reply")
            return [Reply(arrived.reply_id, self._packets.read_reply(awaited[1], arrived.payload))]
        body = self._packets.read(arrived.payload)
        service = _SERVICES.get(body[:1])
        if service is None:
            return self._dropped("unknown_service")
        if service is Service.LOOP and not self.health.came_home(body[1:]):
            return self._dropped("unknown_loop")
        return [] if service in (Service.DROP, Service.LOOP) else [Deliver(service, body[1:])]

    def _use_slot(self, now: float) -> list[Effect]:
        # loops leave whatever waits: were they displaced by real packets, fewer would come home to those who speak
        while self._queue and self._queue[0].since + GRACE / 2 < now:
            # after a time without cover: the keys it was sealed to may be gone
            self._queue.popleft()
            self.drops["stale"] += 1
        loop = self._rng.random() < self.profile.loop_share
        cover = self._cover.loop(now) if loop else self._cover.drop(now)
        if cover is None:
            # nothing real either: where no cover leaves, each packet would be known to be real
            return self._dropped("no_path")
        if loop or not self._queue:
            self.sent["loop" if loop else "drop"] += 1
            return [Send(cover.first_hop, cover.packet)]
        # in place of a drop, which is used up: so there is as much to build as after cover
        queued = self._queue.popleft()
        if queued.message_id is not None:
            self._messages.sent(now, queued.message_id)
        self.sent["real"] += 1
        return [Send(queued.first_hop, queued.packet)]

    def _try(self, now: float, message: Message) -> None:
        copies = 0
        try:
            for _ in range(message.copies):
                self._room()
                sealed = self._sealer.seal(
                    now, self._epochs.public, Service.PUBLISH, message.body, message.passed, message.entered
                )
                message.use(sealed.mixes)
                self._queue.append(_Queued(sealed.first_hop, sealed.packet, message.id, now))
                copies += 1
        except P2pError:
            # at the first try the caller is told; later it is one more silent try
            if message.tries == 0:
                raise
        self._messages.trying(now, message, copies)

    def _room(self) -> None:
        if len(self._queue) >= MAX_QUEUED:
            rate = self.profile.payload_rate
            raise QueueFull(f"{MAX_QUEUED} packets wait for a slot, and {rate:g} of them leave in a second")

    def _forget_replies(self, now: float) -> None:
        while self._replies:
            reply_id, (ends, _) = next(iter(self._replies.items()))
            if ends > now:
                return
            del self._replies[reply_id]

    def _dropped(self, reason: str) -> list[Effect]:
        self.drops[reason] += 1
        return []
