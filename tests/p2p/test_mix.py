"""The mix by its contract, with real packets: bytes and time in, effects out, and every packet that ends is counted."""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anporia_p2p.errors import BadPacket, BodyTooLarge, NoPath, QueueFull
from anporia_p2p.mix.core import MAX_QUEUED, MAX_REPLIES, Mix
from anporia_p2p.mix.descriptor import Descriptor, MixKey
from anporia_p2p.mix.directory import Directory
from anporia_p2p.mix.effects import Deliver, Effect, Failed, NewMixKey, Reply, Send, Service
from anporia_p2p.mix.epochs import EPOCH, GRACE
from anporia_p2p.mix.hold import MAX_HELD
from anporia_p2p.mix.messages import MAX_MESSAGES, MAX_TRIES
from anporia_p2p.mix.packets import Leg, Packets, SphinxPackets
from anporia_p2p.mix.profiles import Profile
from anporia_p2p.mix.replay import ReplayCache
from anporia_p2p.mix.slots import Slots
from anporia_p2p.sim.keyless import KeylessPackets
from anporia_p2p.sphinx import BODY_BYTES, HEADER_BYTES, PACKET_BYTES, REPLY_BLOCK_BYTES, header
from anporia_p2p.sphinx.geometry import Command, Routing

QUICK = Profile("quick", rate=20.0, loop_share=0.1, mean_delay=0.03)  # what `fast` is may change
START = 1_800_000_000.0
STRANGER = hashlib.sha256(b"a node that nobody knows").digest()


def name(number: int) -> bytes:
    return hashlib.sha256(b"node %d" % number).digest()


class Town:
    """A few nodes driven by hand over links that take no time."""

    def __init__(self, count: int = 8, *, packets: Packets | None = None, seed: object = 1) -> None:
        self.now = START
        self.seed = seed
        self.packets: Packets = SphinxPackets() if packets is None else packets
        self.directory = Directory()
        self._networks: dict[bytes, int] = {}
        self.effects: list[tuple[float, bytes, Effect]] = []
        """All but `Send`: (time, node, effect)."""
        self.own: list[tuple[float, bytes]] = []
        """When which node sent a packet of its own."""
        self.silent: set[bytes] = set()
        """Nodes that take no packets."""
        self.mixes = [self.mix(number) for number in range(count)]
        self._by_id = {mix.me: mix for mix in self.mixes}
        for mix in self.mixes:
            self.announce(mix)

    def mix(self, number: int) -> Mix:
        return Mix(
            self.now,
            name(number),
            QUICK,
            self.directory,
            packets=self.packets,
            rng=random.Random(f"{self.seed}/{number}"),
            slot_rng=random.Random(f"{self.seed}/slots/{number}"),
        )

    def announce(self, mix: Mix) -> None:
        said = mix.announced()
        key = MixKey(int(said.since), int(said.until), said.public)
        network = self._networks.setdefault(mix.me, len(self._networks))
        self.directory.apply(
            Descriptor(mix.me, b"", (key,), (f"10.{network}.0.1:1",), frozenset(), "fast", int(self.now), "", ""),
            self.now,
        )

    def run(self, seconds: float) -> None:
        """Tick each node at its deadline."""
        until = self.now + seconds
        while True:
            mix = min(self.mixes, key=Mix.deadline)
            due = max(self.now, mix.deadline())
            if due > until:
                break
            self.now = due
            self.tick(mix)
        self.now = until

    def tick(self, mix: Mix) -> None:
        before = mix.sent["forward"]
        effects = mix.tick(self.now)
        sends = [effect for effect in effects if isinstance(effect, Send)]
        # what is not of others is its own
        self.own += [(self.now, mix.me)] * (len(sends) - (mix.sent["forward"] - before))
        self.carry(mix.me, effects)

    def carry(self, sender: bytes, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if not isinstance(effect, Send):
                self.effects.append((self.now, sender, effect))
            elif effect.peer in self._by_id and effect.peer not in self.silent:
                self.carry(effect.peer, self._by_id[effect.peer].handle(self.now, sender, effect.packet))

    def leave(self, mix: Mix) -> list[Send]:
        """Tick a node alone until all of its queue has left; gives those packets."""
        left: list[Send] = []
        queued = {one.packet for one in mix._queue}  # cover alone is endless, and no effect says what it is
        while mix._queue:
            self.now = max(self.now, mix.deadline())
            sends = [effect for effect in mix.tick(self.now) if isinstance(effect, Send)]
            left += [send for send in sends if send.packet in queued]
        return left

    def delivered(self) -> list[Effect]:
        return [effect for _, _, effect in self.effects if isinstance(effect, Deliver)]

    @property
    def drops(self) -> Counter[str]:
        return sum((mix.drops for mix in self.mixes), Counter[str]())

    def packet(self, *path: int, body: bytes = b"\x02body", delay: float = 0.0) -> bytes:
        return self.packets.build(self.legs(*path, delay=delay), body)

    def legs(self, *path: int, delay: float = 0.0) -> list[Leg]:
        keys = [self.mixes[number].announced().public for number in path]
        return [Leg(name(number), key, round(delay * 1e6)) for number, key in zip(path, keys, strict=True)]


def keyless(seed: object = 1) -> KeylessPackets:
    return KeylessPackets(random.Random(f"{seed}"))


def flipped(packet: bytes, at: int) -> bytes:
    return packet[:at] + bytes((packet[at] ^ 1,)) + packet[at + 1 :]


# What it is for.


def test_what_is_published_comes_out_once_anywhere() -> None:
    town = Town()
    bodies = {b"message %d" % number: number % 8 for number in range(24)}
    for body, number in bodies.items():
        town.mixes[number].publish(town.now, body, body)
    town.run(1.9)  # nobody's patience is at its end yet
    out = [(node, effect) for _, node, effect in town.effects]
    assert Counter(effect for _, effect in out) == Counter(Deliver(Service.PUBLISH, body) for body in bodies)
    own = sum(isinstance(effect, Deliver) and node == name(bodies[effect.body]) for node, effect in out)
    assert own < 12  # at its author as seldom as at any other of the eight
    assert sum(mix.sent["real"] for mix in town.mixes) == 24
    assert {town.mixes[number].heard(body) for body, number in bodies.items()} == {1}
    assert town.drops == {}


def test_loops_come_home_and_nothing_ends_on_the_way() -> None:
    town = Town()
    town.run(3.0)
    assert town.drops == {} and town.effects == []
    for mix in town.mixes:
        assert mix.sent["real"] == 0 and mix.sent["drop"] > 3 * mix.sent["loop"] > 0
        assert mix.health.lost == 0
    sent = sum((mix.sent for mix in town.mixes), Counter[str]())
    # of each packet's five links one is its sender's; some are still held
    assert 0 <= 4 * (sent["loop"] + sent["drop"]) - sent["forward"] <= 8 * 40
    slots = sent["loop"] + sent["drop"]
    assert abs(slots - 8 * 20 * 3) < 5 * math.sqrt(8 * 20 * 3)


def test_what_is_sent_to_a_service_comes_to_it() -> None:
    town = Town()
    for service in (Service.PUBLISH, Service.PUT, Service.GET, Service.DIRECTORY):
        town.mixes[0].send(town.now, service, b"body")
    town.mixes[0].send(town.now, Service.DROP, b"body")
    town.mixes[0].send(town.now, Service.PUT, b"")
    town.mixes[0].send(town.now, Service.PUT, b"x" * (BODY_BYTES - 1))
    with pytest.raises(BodyTooLarge):
        town.mixes[0].send(town.now, Service.PUT, b"x" * BODY_BYTES)
    town.run(2.0)
    out = cast(list[Deliver], town.delivered())
    assert Counter(one.service for one in out) == {
        Service.PUBLISH: 1,
        Service.PUT: 3,
        Service.GET: 1,
        Service.DIRECTORY: 1,
    }
    assert sorted(len(one.body) for one in out) == [0, 4, 4, 4, 4, BODY_BYTES - 1]
    assert town.drops == {}


# Messages.


def test_a_message_is_tried_again_until_it_is_heard() -> None:
    town = Town(packets=keyless())
    author = town.mixes[0]
    author.publish(town.now, b"id", b"body")
    author.publish(town.now, b"id", b"body")  # under way: nothing changes
    town.run(1.8)
    assert town.delivered() == [Deliver(Service.PUBLISH, b"body")]
    town.run(2.0)
    assert len(town.delivered()) == 3  # one copy, then two
    assert (author.heard(b"id"), author.heard(b"id"), author.heard(b"other")) == (2, None, None)
    town.run(20.0)
    assert len(town.delivered()) == 3 and not any(isinstance(effect, Failed) for _, _, effect in town.effects)


def test_after_five_tries_it_has_failed() -> None:
    town = Town(packets=keyless())
    author = town.mixes[0]
    began = town.now
    author.publish(town.now, b"id", b"body")
    town.run(30.0)
    ((failed_at, node, failed),) = [one for one in town.effects if isinstance(one[2], Failed)]
    assert (node, failed) == (author.me, Failed(b"id"))
    patience = 3 * QUICK.expected_latency
    assert MAX_TRIES * patience < failed_at - began < MAX_TRIES * (patience + 10 / QUICK.payload_rate)
    assert len(town.delivered()) == 1 + 4 * 2
    assert author.heard(b"id") is None


def test_tries_take_different_mixes_as_long_as_there_are_some() -> None:
    seen: list[list[bytes]] = []

    class Watched(KeylessPackets):
        def build(self, path: Sequence[Leg], body: bytes) -> bytes:
            if body[:1] == b"\x02":
                seen.append([leg.node_id for leg in path])
            return super().build(path, body)

    town = Town(32, packets=Watched(random.Random(1)))
    author = town.mixes[0]
    author.publish(town.now, b"id", b"body")
    town.mixes = [author]
    town.silent.update(map(name, range(32)))  # nothing arrives anywhere: not even loops, and all fare alike
    while len(seen) < 9:
        town.run(0.1)
    guards = {guard.node_id for guard in author.guards.kept}
    assert len(guards) == 3 and {path[0] for path in seen} == guards
    behind = [node for path in seen[:6] for node in path[1:] if node != author.me]
    assert len(set(behind)) == len(behind) >= 20  # of 31, beside the guards; the ninth has to take some again
    assert not {path[0] for path in seen[:1]} & set(behind)


def test_more_than_waits_for_slots_is_refused() -> None:
    town = Town(packets=keyless())
    author = town.mixes[0]
    block = author.make_reply_block(town.now)
    for number in range(MAX_QUEUED):
        author.publish(town.now, b"%d" % number, b"%d" % number)
    asked: list[Callable[[], None]] = [
        lambda: author.publish(town.now, b"more", b"more"),
        lambda: author.send(town.now, Service.PUT, b""),
        lambda: author.answer(block, b""),
    ]
    for ask in asked:
        with pytest.raises(QueueFull) as caught:
            ask()
        assert caught.value.code == "queue_full"
    town.run(5.0)
    assert len(set(town.delivered())) == MAX_QUEUED
    assert all(author.heard(b"%d" % number) for number in range(MAX_QUEUED))
    town.run(5.0)
    # what was refused is not half begun
    author.publish(town.now, b"more", b"more")
    town.run(1.5)
    assert Deliver(Service.PUBLISH, b"more") in town.delivered()


def test_copies_that_nobody_needs_any_more_are_let_go_of() -> None:
    town = Town(packets=keyless())
    author = town.mixes[0]
    author.publish(town.now, b"heard", b"heard")
    author.publish(town.now, b"other", b"other")
    assert [queued.message_id for queued in author._queue] == [b"heard", b"other"]
    assert author.heard(b"heard") == 1  # an earlier copy came through
    assert [queued.message_id for queued in author._queue] == [b"other"]
    town.run(5.0)
    assert Deliver(Service.PUBLISH, b"other") in town.delivered()
    assert Deliver(Service.PUBLISH, b"heard") not in town.delivered()


def test_more_than_is_awaited_is_refused() -> None:
    town = Town(packets=keyless())
    author = town.mixes[0]
    for number in range(MAX_MESSAGES):
        author.publish(town.now, b"%d" % number, b"")
        author._queue.clear()  # in place of all the time it would take to send them, in which the first are given up
    with pytest.raises(QueueFull, match="not yet heard"):
        author.publish(town.now, b"more", b"")
    author.publish(town.now, b"7", b"")
    assert author.heard(b"7") == 1
    author.publish(town.now, b"more", b"")


def test_a_body_too_large_is_refused_and_leaves_nothing() -> None:
    town = Town(6)
    author = town.mixes[0]
    with pytest.raises(BodyTooLarge):
        author.publish(town.now, b"id", bytes(BODY_BYTES))
    assert author.heard(b"id") is None and not author._queue
    author.publish(town.now, b"id", bytes(BODY_BYTES - 1))
    assert author.heard(b"id") == 1


def test_without_a_path_the_caller_is_told() -> None:
    town = Town(5, packets=keyless())
    author = town.mixes[0]
    asked: list[Callable[[], None]] = [
        lambda: author.publish(town.now, b"id", b""),
        lambda: author.send(town.now, Service.PUT, b""),
    ]
    for ask in asked:
        with pytest.raises(NoPath) as caught:
            ask()
        assert caught.value.code == "no_path"
    assert author.heard(b"id") is None and not author._queue
    author.make_reply_block(town.now)  # home through four others
    with pytest.raises(NoPath):
        Town(4, packets=keyless()).mixes[0].make_reply_block(town.now)


def test_a_message_whose_mixes_are_all_gone_fails_in_its_time() -> None:
    town = Town(packets=keyless())
    author = town.mixes[0]
    author.publish(town.now, b"id", b"")
    # all keys of the others run out, and no new ones are announced
    town.now += EPOCH + GRACE
    town.silent.update(mix.me for mix in town.mixes)
    town.mixes = [author]
    town.run(60.0)
    assert Failed(b"id") in [effect for _, _, effect in town.effects]
    assert author.drops["no_path"] > 0


# Replies.


def through(town: Town, block: bytes, body: bytes, answerer: int) -> None:
    town.mixes[answerer].answer(block, body)
    town.run(1.5)


def replies(town: Town) -> list[tuple[bytes, Reply]]:
    return [(node, effect) for _, node, effect in town.effects if isinstance(effect, Reply)]


def test_a_reply_block_brings_one_answer_home() -> None:
    town = Town()
    blocks = [town.mixes[0].make_reply_block(town.now) for _ in range(2)]
    assert [len(block) for block in blocks] == [REPLY_BLOCK_BYTES] * 2
    through(town, blocks[0], b"answer", answerer=3)
    ((node, reply),) = replies(town)
    assert node == name(0) and reply.body == b"answer"
    # a second use is a replay at its first mix
    through(town, blocks[0], b"again", answerer=5)
    assert len(replies(town)) == 1 and town.drops == {"replay": 1}
    through(town, blocks[1], b"", answerer=5)
    assert [reply.body for _, reply in replies(town)] == [b"answer", b""]
    assert len({reply.reply_id for _, reply in replies(town)}) == 2


def test_a_reply_block_travels_in_a_message() -> None:
    town = Town()
    block = town.mixes[0].make_reply_block(town.now)
    town.mixes[0].send(town.now, Service.GET, block)
    town.run(1.5)
    ((_, server, asked),) = town.effects
    assert asked == Deliver(Service.GET, block)
    number = next(number for number in range(8) if name(number) == server)
    through(town, block, b"x" * BODY_BYTES, answerer=number)
    assert [(node, len(reply.body)) for node, reply in replies(town)] == [(name(0), BODY_BYTES)]


def test_what_is_no_reply_block_is_not_answered() -> None:
    town = Town(6)
    block = town.mixes[0].make_reply_block(town.now)
    for junk in (b"", block[:-1], block + b"x"):
        with pytest.raises(BadPacket, match="bad size"):
            town.mixes[1].answer(junk, b"")
    with pytest.raises(BodyTooLarge):
        town.mixes[1].answer(block, bytes(BODY_BYTES + 1))
    assert not town.mixes[1]._queue


def test_a_reply_block_that_begins_at_a_node_nobody_knows_is_not_answered() -> None:
    """A slot whose packet goes nowhere is a slot everybody sees to be missing."""
    town = Town(7)
    block = town.mixes[0].make_reply_block(town.now)
    with pytest.raises(BadPacket) as caught:
        town.mixes[1].answer(STRANGER + block[32:], b"")
    assert caught.value.code == "unknown_next" and not town.mixes[1]._queue


def test_a_reply_block_that_begins_at_oneself_is_unwrapped_at_once() -> None:
    town = Town()
    while (block := town.mixes[0].make_reply_block(town.now))[:32] != name(3):
        pass
    town.mixes[3].answer(block, b"answer")
    (queued,) = town.mixes[3]._queue
    assert queued.first_hop not in (name(3), name(0))
    town.run(1.5)
    assert [(node, reply.body) for node, reply in replies(town)] == [(name(0), b"answer")]
    # the block is spent, as it would be at any first mix
    with pytest.raises(BadPacket) as caught:
        town.mixes[3].answer(block, b"again")
    assert caught.value.code == "replay" and not town.mixes[3]._queue
    assert town.drops == {}


def test_a_reply_block_cannot_make_a_node_send_to_itself_or_to_nobody() -> None:
    town = Town(7)
    mix = town.mixes[1]
    key = town.mixes[2].announced().public
    for path in (town.legs(1), town.legs(1, 1), town.legs(1, 1, 2), [*town.legs(1), Leg(STRANGER, key)]):
        block, _, _ = town.packets.make_reply_block(path)
        with pytest.raises(BadPacket) as caught:
            mix.answer(block, b"")
        assert caught.value.code == "unknown_next" and not mix._queue
    for junk in (bytes(REPLY_BLOCK_BYTES - 32), random.Random(1).randbytes(REPLY_BLOCK_BYTES - 32)):
        with pytest.raises(BadPacket) as caught:
            mix.answer(mix.me + junk, b"")
        assert caught.value.code == "bad_mac" and not mix._queue


def test_an_answer_changed_on_its_way_is_refused_and_the_block_spent() -> None:
    town = Town()
    block = town.mixes[0].make_reply_block(town.now)
    town.mixes[3].answer(block, b"answer")
    town.silent.update(mix.me for mix in town.mixes)
    (send,) = town.leave(town.mixes[3])
    town.silent.clear()
    for changed in (flipped(send.packet, PACKET_BYTES - 1), send.packet):
        town.carry(name(3), [Send(send.peer, changed)])
        town.run(1.0)
    assert replies(town) == [] and town.drops == {"bad_payload": 1, "replay": 1}


# Everything that can end a packet, by its name.


def one_drop(town: Town, receiver: int, *packets: bytes, peer: bytes = STRANGER) -> str:
    """Why the last of the packets was dropped: by this node, at once, without a word, and no other packet."""
    mix = town.mixes[receiver]
    for packet in packets[:-1]:
        mix.handle(town.now, peer, packet)
    assert mix.drops == {}
    held = mix.held
    assert mix.handle(town.now, peer, packets[-1]) == []
    ((reason, number),) = mix.drops.items()
    assert number == 1 and mix.held == held
    return reason


def test_bad_size() -> None:
    town = Town(6)
    packet = town.packet(1)
    for wrong in (b"", packet[:-1], packet + b"\0", bytes(100_000)):
        assert one_drop(town, 1, wrong) == "bad_size"
        town.mixes[1].drops.clear()
    assert town.mixes[1].handle(town.now, STRANGER, packet) == [Deliver(Service.PUBLISH, b"body")]


@pytest.mark.parametrize("at", [0, 1_119, 1_120, 5_863, 5_864, HEADER_BYTES - 1])
def test_bad_mac(at: int) -> None:
    town = Town(6)
    assert one_drop(town, 1, flipped(town.packet(1, 2, 3), at)) == "bad_mac"


def test_bad_mac_of_a_packet_for_another() -> None:
    town = Town(6)
    assert one_drop(town, 2, town.packet(1, 2, 3)) == "bad_mac"


@pytest.mark.parametrize("command", [0, 4, 255])
def test_bad_command(command: int) -> None:
    """From a sender whose format has more commands than ours."""
    town = Town(6)
    hops = [header.Hop(leg.node_id, SphinxPackets()._key(leg.key)) for leg in town.legs(1)]
    layers = header.encapsulated(hops, Routing(cast(Command, command)))
    packet = header.assemble(layers, random.Random(1).randbytes) + bytes(PACKET_BYTES - HEADER_BYTES)
    assert one_drop(town, 1, packet) == "bad_command"


@pytest.mark.parametrize("at", [HEADER_BYTES, PACKET_BYTES - 1])
def test_bad_payload(at: int) -> None:
    town = Town(6)
    assert one_drop(town, 1, flipped(town.packet(1), at)) == "bad_payload"


def test_replay() -> None:
    town = Town(6)
    for packet in (town.packet(1), town.packet(1, 2), town.packet(1, 2, delay=0.1)):
        assert one_drop(town, 1, packet, packet) == "replay"
        # from whomever, with whatever payload, and also when the first has left
        town.run(0.5)
        assert town.mixes[1].handle(town.now, name(3), flipped(packet, HEADER_BYTES)) == []
        assert town.mixes[1].drops == {"replay": 2}
        town.mixes[1].drops.clear()


def test_replay_cache_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplayCache.__init__, "__defaults__", (3,))  # in place of a million
    town = Town(6)
    assert one_drop(town, 1, *(town.packet(1, 2) for _ in range(4))) == "replay_cache_full"
    town.mixes[1].tick(town.now + EPOCH)  # with the next key there is room again
    town.now += EPOCH
    town.mixes[1].drops.clear()
    assert town.mixes[1].handle(town.now, STRANGER, town.packet(1)) == [Deliver(Service.PUBLISH, b"body")]


def test_peer_rate() -> None:
    town = Town(6, packets=keyless())
    packets = [town.packet(1, 2) for _ in range(161)]
    assert one_drop(town, 1, *packets, peer=name(3)) == "peer_rate"
    # a packet refused for its peer is not spent
    assert town.mixes[1].handle(town.now, name(4), packets[-1]) == [] and town.mixes[1].held == 161


def test_hold_full() -> None:
    town = Town(6, packets=keyless())
    for number in range(MAX_HELD):
        town.mixes[1].handle(town.now, name(number // 100), town.packet(1, 2, delay=0.1))
    assert town.mixes[1].held == MAX_HELD and town.mixes[1].drops == {}
    late = town.packet(1)
    assert one_drop(town, 1, late) == "hold_full"
    town.run(1.0)
    assert town.mixes[1].handle(town.now, STRANGER, late) == [Deliver(Service.PUBLISH, b"body")]


def test_bad_delay() -> None:
    town = Town(6)
    assert one_drop(town, 1, town.packet(1, 2, delay=QUICK.max_delay + 1e-6)) == "bad_delay"
    assert town.mixes[1].handle(town.now, STRANGER, town.packet(1, 2, delay=QUICK.max_delay)) == []
    assert town.mixes[1].held == 1 and town.mixes[1].drops.total() == 1


def test_unknown_next() -> None:
    town = Town(6)
    somewhere = [*town.legs(1), Leg(STRANGER, town.mixes[2].announced().public)]
    assert one_drop(town, 1, town.packets.build(somewhere, b"")) == "unknown_next"
    town.mixes[1].drops.clear()
    assert one_drop(town, 1, town.packet(1, 1)) == "unknown_next"  # to itself


def test_unknown_reply() -> None:
    """A block older than it is awaited, which the mixes on its way would still take."""
    town = Town(6)
    block = town.mixes[0].make_reply_block(town.now)
    town.now += EPOCH + 1
    for mix in town.mixes:
        mix.tick(town.now)
    town.silent.update(mix.me for mix in town.mixes[1:])
    first_hop, packet = town.packets.answer(block, b"late")
    town.silent.clear()
    for _ in range(5):
        town.carry(STRANGER, [Send(first_hop, packet)])
    town.run(1.5)
    assert replies(town) == []
    assert town.mixes[0].drops["unknown_reply"] == 1 and town.drops["replay"] == 4


def test_unknown_loop() -> None:
    town = Town(6)
    assert one_drop(town, 1, town.packet(1, body=b"\x01" + bytes(16))) == "unknown_loop"
    town.mixes[1].drops.clear()
    assert one_drop(town, 1, town.packet(1, body=b"\x01")) == "unknown_loop"


def test_unknown_loop_of_one_that_comes_too_late() -> None:
    town = Town(7, packets=keyless())
    mix = town.mixes[0]
    loops: list[Send] = []
    while not loops:
        town.now = max(town.now, mix.deadline())
        sends = [effect for effect in mix.tick(town.now) if isinstance(effect, Send)]
        loops = sends if mix.sent["loop"] else []
    (loop,) = loops
    town.now += QUICK.max_delay * 4 + 20
    for other in town.mixes[1:]:
        other.tick(town.now)
    mix.tick(town.now)
    assert mix.health.lost >= 1 and mix.drops == {}
    lost = mix.health.lost
    town.mixes = town.mixes[1:]
    town.carry(mix.me, [loop])
    town.run(1.5)
    assert mix.drops == {"unknown_loop": 1} and mix.health.lost == lost


@pytest.mark.parametrize("body", [b"", b"\x06", b"\xff body"])
def test_unknown_service(body: bytes) -> None:
    town = Town(6)
    assert one_drop(town, 1, town.packet(1, body=body)) == "unknown_service"


def test_no_path() -> None:
    town = Town(4)
    town.run(2.0)
    assert set(town.drops) == {"no_path"} and town.own == []
    # each slot that stays empty is one
    assert abs(town.drops["no_path"] - 4 * 20 * 2) < 5 * math.sqrt(160)


def test_each_reason_has_its_test() -> None:
    """What the code counts by a name of its own is one of the names above."""
    named = {test.removeprefix("test_") for test in globals() if test.startswith("test_")}
    assert named >= {
        *("bad_size", "bad_mac", "bad_command", "bad_payload", "replay", "replay_cache_full", "peer_rate"),
        *("hold_full", "bad_delay", "unknown_next", "unknown_reply", "unknown_loop", "unknown_service", "no_path"),
    }


# Whatever comes.

FUZZED = Town(6)
VALID = [FUZZED.packet(1), FUZZED.packet(1, 2, 3), FUZZED.packet(1, 2, 3, 4, 5)]
noise = st.builds(lambda seed: random.Random(seed).randbytes(PACKET_BYTES), st.integers(0, 1 << 32))
bent = st.builds(
    lambda packet, at, bits: packet[:at] + bytes((packet[at] ^ bits,)) + packet[at + 1 :],
    st.sampled_from(VALID),
    st.integers(0, HEADER_BYTES - 1),
    st.integers(1, 255),
)


@settings(max_examples=300)
@given(peer=st.binary(max_size=40), packet=st.binary(max_size=200) | noise | bent)
def test_whatever_comes_from_whomever_is_only_counted(peer: bytes, packet: bytes) -> None:
    mix = FUZZED.mixes[1]
    FUZZED.now += 0.1  # the peer with an empty name is not over its rate
    counted, held, deadline = mix.drops.total(), mix.held, mix.deadline()
    assert mix.handle(FUZZED.now, peer, packet) == []
    assert (mix.drops.total(), mix.held, mix.deadline()) == (counted + 1, held, deadline)
    assert set(mix.drops) <= {"bad_size", "bad_mac"}


@settings(max_examples=100)
@given(payload=st.binary(max_size=40) | st.binary(min_size=1, max_size=1).map(lambda first: first + bytes(99)))
def test_whatever_a_sender_writes_never_raises(payload: bytes) -> None:
    mix = FUZZED.mixes[2]
    before = mix.drops.total()
    effects = mix.handle(FUZZED.now, payload, FUZZED.packet(2, body=payload))
    kept = [Deliver(Service(payload[0]), payload[1:])] if payload and 2 <= payload[0] <= 5 else []
    assert effects == kept
    assert mix.drops.total() - before == (not kept and payload[:1] != b"\0")


@settings(max_examples=60)
@given(
    block=st.binary(min_size=REPLY_BLOCK_BYTES - 32, max_size=REPLY_BLOCK_BYTES - 32).map(lambda rest: name(3) + rest)
)
def test_whatever_a_reply_block_says_it_is_only_sent(block: bytes) -> None:
    mix = FUZZED.mixes[4]
    mix._queue.clear()
    mix.answer(block, b"body")
    (send,) = FUZZED.leave(mix)
    assert send.peer == name(3) and len(send.packet) == PACKET_BYTES
    assert FUZZED.mixes[3].handle(FUZZED.now, mix.me, send.packet) == []


# Slots tell nothing.


def a_day_of(seconds: float, active: Callable[[Town, int], None] | None, packets: Packets | None = None) -> Town:
    """A town in which node 0 is asked for something every 200 ms, or for nothing."""
    town = Town(seed="slots", packets=packets)
    for step in range(round(5 * seconds)):
        if active is not None:
            active(town, step)
        town.run(0.2)
    return town


def publishing(town: Town, step: int) -> None:
    """More than there is room for, some heard, some tried again and again."""
    author = town.mixes[0]
    try:
        for part in range(1 + step % 4):
            author.publish(town.now, b"%d/%d" % (step, part), bytes(50))
        author.send(town.now, Service.PUT, b"")
        block = town.mixes[1].make_reply_block(town.now)
        author.answer(block, b"")
        author.make_reply_block(town.now)
    except QueueFull:
        pass
    author.heard(b"%d/0" % (step - 3))


@pytest.mark.parametrize("real", [True, False], ids=["real", "keyless"])
def test_a_node_sends_at_the_same_times_whether_it_says_anything_or_not(real: bool) -> None:
    seconds = 2.0 if real else 12.0
    idle, active = (a_day_of(seconds, what, None if real else keyless()) for what in (None, publishing))
    assert active.mixes[0].sent["real"] > 0 == idle.mixes[0].sent["real"]
    assert active.mixes[0].sent["real"] > 15 * seconds - 5 * math.sqrt(20 * seconds)  # every slot but those of loops
    times = [at for at, node in active.own if node == name(0)]
    assert times == [at for at, node in idle.own if node == name(0)]  # to the bit
    assert len(times) > 10 * seconds
    assert active.own == idle.own  # and so do all others


def test_where_no_cover_can_be_made_nothing_real_leaves_either() -> None:
    """Else each packet that leaves would be known to be real."""
    town = Town(packets=keyless())
    author = town.mixes[0]
    for _ in range(5):
        author.send(town.now, Service.PUT, b"body")
    assert len(author._queue) == 5
    # all others are gone for a while, before any cover is made
    known, town.directory._nodes, town.directory._usable_until = town.directory._nodes, {}, -math.inf
    town.mixes = [author]
    town.run(2.0)
    assert author.sent == {} and len(author._queue) == 5 and town.own == []
    assert abs(author.drops["no_path"] - 20 * 2) < 5 * math.sqrt(40)
    town.directory._nodes, town.directory._usable_until = known, -math.inf
    town.run(2.0)
    assert author.sent["real"] == 5 and not author._queue and author.sent["drop"] > 0


def test_a_real_packet_uses_up_the_drop_in_whose_place_it_leaves() -> None:
    town = Town(packets=keyless())
    author = town.mixes[0]
    author.tick(town.now)
    given_up: list[bytes] = []
    left: list[bytes] = []
    real: set[bytes] = set()
    for step in range(400):
        if step % 3 == 0 and not author._queue:
            author.send(town.now, Service.PUT, b"%d" % step)
            real.update(queued.packet for queued in author._queue)
        drop = author._cover._drop
        assert drop is not None  # one lies ready for each slot
        town.now = max(town.now, author.deadline())
        before = author.sent["real"]
        left += [effect.packet for effect in author.tick(town.now) if isinstance(effect, Send)]
        if author.sent["real"] > before:
            given_up.append(drop.packet)
        author.tick(town.now)  # what is to be done at once after a slot
    assert len(given_up) == author.sent["real"] > 30 and author.sent["drop"] > 30
    assert real <= set(left) and not set(given_up) & set(left)
    assert len(set(left)) == len(left)


def test_a_late_tick_sends_its_own_packets_in_their_turn() -> None:
    """Were they always last, whoever sees a node that was late would know which packet is its own."""
    town = Town(packets=keyless())
    mix = town.mixes[1]
    mix.tick(town.now)  # its cover is made, and with it its guards are drawn
    mix.send(town.now, Service.PUT, b"real")
    slots = Slots(START, QUICK.rate, random.Random(f"{town.seed}/slots/1"))
    guards = {guard.node_id for guard in mix.guards.kept}
    other = next(number for number in range(8) if number != 1 and name(number) not in guards)
    late = START + QUICK.max_delay
    due: list[tuple[float, str]] = []
    while slots.deadline() <= late:
        due.append((slots.deadline(), "own"))
        slots.take(slots.deadline())
    for delay in (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.29, QUICK.max_delay):
        assert mix.handle(town.now, STRANGER, town.packet(1, other, delay=delay)) == []
        due.append((START + delay, "held"))
    sends = [effect for effect in mix.tick(late) if isinstance(effect, Send)]
    kinds = ["held" if send.peer == name(other) else "own" for send in sends]
    assert kinds == [kind for _, kind in sorted(due)]
    assert kinds.count("own") >= 3 and kinds[-1] == "held" and kinds != sorted(kinds)
    assert mix.sent["forward"] == 8 and mix.sent["real"] == 1


def test_a_slot_keeps_a_processor_as_busy_whatever_it_carried() -> None:
    """A packet of another that is due while this node builds leaves late: who knows when it built knows what left."""
    town = Town(packets=keyless())
    author = town.mixes[0]
    author.tick(town.now)
    work: dict[str, set[int]] = {"real": set(), "cover": set()}
    for step in range(200):
        if step % 3 == 0:
            author.send(town.now, Service.PUT, b"")
        town.now = max(town.now, author.deadline())
        before, built = author.sent.copy(), author.built
        author.tick(town.now)
        if author.sent != before:
            author.tick(town.now)  # what is to be done at once after a slot
            work["real" if author.sent["real"] > before["real"] else "cover"].add(author.built - built)
    assert work["real"] == work["cover"] != set()


def test_loops_leave_as_often_whether_it_says_anything_or_not() -> None:
    """Otherwise fewer would come home to those who speak."""
    loops, slots = 0, 0
    for seed in range(3):
        town = Town(seed=seed, packets=keyless())
        for step in range(60):
            publishing(town, step)
            town.run(0.2)
        loops += town.mixes[0].sent["loop"]
        slots += town.mixes[0].sent["loop"] + town.mixes[0].sent["real"] + town.mixes[0].sent["drop"]
        assert town.mixes[0].sent["drop"] < 0.2 * town.mixes[0].sent["real"]
    assert abs(loops - 0.1 * slots) < 5 * math.sqrt(0.09 * slots)


def test_what_comes_in_does_not_move_slots_either() -> None:
    quiet, flooded = Town(6, packets=keyless()), Town(6, packets=keyless())
    for town in (quiet, flooded):
        town.mixes = town.mixes[:1]
        town.silent.update(map(name, range(6)))
    times: list[list[float]] = []
    for town in (quiet, flooded):
        (mix,) = town.mixes
        for step in range(1, 41):
            town.run(0.05)
            for number in range(20 if town is flooded else 0):
                delay = 0.3 * ((step * 7 + number) % 10) / 10
                legs = [
                    Leg(mix.me, mix.announced().public, round(1e6 * delay)),
                    Leg(name(1), b"k" * 32),
                ]
                mix.handle(town.now, b"%d" % number, town.packets.build(legs, b""))
        times.append([at for at, _ in town.own])
    assert flooded.mixes[0].sent["forward"] > 500 and times[0] == times[1] != []


# Time and room.


@pytest.mark.parametrize("nodes", [8, 3, 1], ids=["paths", "no path", "alone"])
def test_a_deadline_always_comes_forward(nodes: int) -> None:
    """Ticking at the deadline is all a driver has to do; it must never be asked to do so for ever at one time."""
    town = Town(nodes, packets=keyless())
    mix = town.mixes[0]
    ended = 0
    for number in range(3_000):
        if number % 100 == 0:
            try:
                mix.publish(town.now, b"%d" % number, b"")
            except (NoPath, QueueFull):
                ended += 1
        due = mix.deadline()
        assert due < math.inf
        before, town.now = town.now, max(town.now, due)
        effects = mix.tick(town.now)
        if due <= before:
            # at most one more tick at the same time, after which it lies ahead
            mix.tick(town.now)
            assert mix.deadline() > town.now
        assert len(effects) < 50
    assert town.now > START + 30
    assert (ended > 0) == (nodes < 6)


def test_ticks_before_the_deadline_do_nothing() -> None:
    town = Town(packets=keyless())
    mix = town.mixes[0]
    mix.tick(town.now)
    for _ in range(200):
        due = mix.deadline()
        while town.now < due - 1e-4:
            town.now += min(0.01, (due - town.now) / 2)
            assert mix.tick(town.now) == [] and mix.deadline() == due
        town.now = max(town.now, due)
        mix.tick(town.now)
        mix.tick(town.now)


def test_a_clock_that_steps_back_stands_still() -> None:
    town = Town(packets=keyless())
    mix = town.mixes[0]
    mix.tick(START + 10.0)
    mix.publish(START, b"id", b"body")
    mix.send(START - 1e9, Service.PUT, b"")
    block = mix.make_reply_block(-1.0)
    assert mix.handle(START, STRANGER, town.packet(0, 1, delay=0.1)) == [] and mix.held == 1
    for back in (START + 9.0, START, 0.0, -math.inf):
        assert mix.tick(back) == []
    # what was asked for meanwhile counts from the last time that was seen
    assert mix.deadline() > START + 10.0 and mix._hold.deadline() == pytest.approx(START + 10.1)
    assert next(iter(mix._replies.values()))[0] == START + 10.0 + EPOCH and len(block) > 0
    town.now = START + 10.0
    town.run(2.0)
    assert Deliver(Service.PUBLISH, b"body") in town.delivered()
    # nor is a peer's rate counted by two clocks
    admitted = sum(town.mixes[1].handle(START + 12.0 - back, b"peer", b"") == [] for back in range(300))
    assert admitted == 300 and town.mixes[1].drops == {"bad_size": 160, "peer_rate": 140}


def test_a_sleep_is_survived() -> None:
    town = Town(packets=keyless())
    town.run(2.0)
    for sleep in (5.0, 400.0, EPOCH + 1, 5 * EPOCH):
        town.now += sleep
        for mix in town.mixes:
            effects = mix.tick(town.now)
            assert sum(isinstance(effect, Send) for effect in effects) < 40  # what was held, and one slot
            for effect in effects:
                if isinstance(effect, NewMixKey):
                    town.announce(mix)
    town.mixes[0].publish(town.now, b"id", b"body")
    town.run(2.0)
    assert Deliver(Service.PUBLISH, b"body") in town.delivered()


def test_a_new_key_is_said_each_hour() -> None:
    town = Town(packets=keyless())
    mix = town.mixes[0]
    first = mix.announced()
    effects = mix.tick(START + EPOCH)
    (new,) = [effect for effect in effects if isinstance(effect, NewMixKey)]
    assert (
        new == mix.announced() and new.public != first.public and new.since == START + EPOCH < first.until < new.until
    )
    assert not any(isinstance(effect, NewMixKey) for effect in mix.tick(START + EPOCH + 1))


def test_a_new_key_is_said_early_when_the_replay_cache_is_nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplayCache.__init__, "__defaults__", (20,))  # in place of a million
    town = Town(packets=keyless())
    mix = town.mixes[0]
    first = mix.announced()
    for _ in range(18):
        assert mix.handle(town.now, STRANGER, town.packet(0)) == [Deliver(Service.PUBLISH, b"body")]
    town.now += 1.0
    (new,) = [effect for effect in mix.tick(town.now) if isinstance(effect, NewMixKey)]
    assert new == mix.announced() and new.public != first.public and new.since == START + 1.0
    # there is room again, and what is sealed to the old key is still taken
    old = [town.packets.build([Leg(mix.me, first.public)], b"\x02old") for _ in range(2)]
    for packet in (town.packet(0), old[0], town.packet(0), old[1]):
        assert len(mix.handle(town.now, STRANGER, packet)) == 1
    assert mix.drops == {} and not any(isinstance(effect, NewMixKey) for effect in mix.tick(town.now))


def test_reply_blocks_that_nobody_uses_are_bounded_and_forgotten() -> None:
    town = Town(packets=keyless())
    mix = town.mixes[0]
    blocks = [mix.make_reply_block(town.now) for _ in range(MAX_REPLIES + 1)]
    assert len(mix._replies) == MAX_REPLIES
    for block in (blocks[0], blocks[1]):
        through(town, block, b"answer", answerer=3 if block[:32] != name(3) else 4)
    assert len(replies(town)) == 1 and town.drops == {"unknown_reply": 1}  # the oldest had to go
    mix.tick(START + EPOCH + 60)
    assert len(mix._replies) == 0


def test_a_flood_fills_no_memory(counts: Callable[..., int]) -> None:
    """Valid packets to hold for long, from many peers, and more to publish than can be sent."""
    town = Town(6, packets=keyless())
    mix = town.mixes[0]
    rng = random.Random(1)
    for number in range(counts(20_000)):
        town.now += 1e-6
        body = rng.choice([b"\x01" + rng.randbytes(16), b"\xff", b"\x02x", b""])
        mix.handle(town.now, b"%d" % (number % 6_000), town.packet(*rng.choice([(0, 1), (0,)]), body=body, delay=0.3))
        try:
            mix.publish(town.now, b"%d" % number, b"")
        except QueueFull:
            pass
        mix.make_reply_block(town.now) if number % 10 == 0 else None
    assert mix.held == MAX_HELD and mix.drops["hold_full"] > 1_000
    assert len(mix._queue) <= MAX_QUEUED and len(mix._messages) <= MAX_MESSAGES and len(mix._replies) <= MAX_REPLIES
    assert len(mix._admission._buckets) <= 4_096
    town.silent.update(map(name, range(1, 6)))
    town.mixes = [mix]
    town.run(1.0)
    assert mix.held == 0
