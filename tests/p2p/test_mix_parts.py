"""The parts of a mix, each alone: what it promises at its edges, and that it forgets and keeps what it should."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_p2p.errors import BadPacket, NoPath, QueueFull
from anporia_p2p.mix.admission import Admission
from anporia_p2p.mix.cover import Cover
from anporia_p2p.mix.descriptor import Descriptor, MixKey
from anporia_p2p.mix.directory import MAX_AHEAD, Directory
from anporia_p2p.mix.effects import NewMixKey, Service
from anporia_p2p.mix.epochs import EPOCH, GRACE, Epochs
from anporia_p2p.mix.guards import GUARDS, LIFETIME, Guard, Guards
from anporia_p2p.mix.health import Health
from anporia_p2p.mix.hold import Hold
from anporia_p2p.mix.messages import MAX_MESSAGES, MAX_TRIES, Message, Messages
from anporia_p2p.mix.packets import Leg
from anporia_p2p.mix.paths import Paths
from anporia_p2p.mix.profiles import PROFILES, Profile
from anporia_p2p.mix.replay import ReplayCache
from anporia_p2p.mix.sealing import SealedPacket, Sealer
from anporia_p2p.mix.slots import Slots
from anporia_p2p.sim.keyless import KeylessPackets
from anporia_p2p.sphinx import Arrived

QUICK = Profile("quick", rate=20.0, loop_share=0.1, mean_delay=0.03)  # what `fast` is may change
ALWAYS = (0, 2**40)
DAY = 86_400.0


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def node(
    number: int,
    *windows: tuple[int, int],
    created_at: int = 0,
    event: int = 0,
    family: Iterable[int] = (),
    network: int | None = None,
    profile: str = "fast",
) -> Descriptor:
    network = number if network is None else network
    return Descriptor(
        node_id=name(number),
        link_key=b"",
        mix_keys=tuple(MixKey(since, until, name(number)) for since, until in windows or (ALWAYS,)),
        addresses=(f"10.{network}.0.{1 + number % 250}:1",),
        family=frozenset(map(name, family)),
        profile=profile,
        created_at=created_at,
        event_id=f"{event:064x}",
        agent_id="0" * 64,
    )


def directory(nodes: Iterable[Descriptor]) -> Directory:
    known = Directory()
    for one in nodes:
        known.apply(one, 0.0)
    return known


# Replays.


@given(st.lists(st.binary(min_size=16, max_size=16) | st.sampled_from([bytes(16), b"x" * 16]), max_size=60))
def test_a_tag_is_new_once(tags: list[bytes]) -> None:
    cache = ReplayCache()
    seen: set[bytes] = set()
    for tag in tags:
        assert cache.refuse(tag) == ("replay" if tag in seen else None)
        seen.add(tag)
    assert len(cache) == len(seen)
    assert {cache.refuse(tag) for tag in tags} <= {"replay"}


def test_a_full_cache_refuses_what_is_new_and_still_knows_what_is_old() -> None:
    cache = ReplayCache(most=3)
    assert [cache.refuse(name(number)) for number in range(3)] == [None] * 3
    assert [cache.refuse(name(number)) for number in range(3, 60)] == ["replay_cache_full"] * 57
    assert [cache.refuse(name(number)) for number in range(3)] == ["replay"] * 3
    assert len(cache) == 3


@pytest.mark.parametrize(("most", "bound"), [(10, 9), (3, 3), (1, 1), (1_000, 900)])
def test_a_cache_says_when_nine_tenths_are_used(most: int, bound: int) -> None:
    cache = ReplayCache(most)
    for number in range(bound):
        assert not cache.nearly_full
        cache.refuse(name(number))
    assert cache.nearly_full


def test_a_cache_holds_an_hour_of_the_fastest_profile() -> None:
    cache = ReplayCache()
    packets = round(1.5 * EPOCH * max(profile.packets_per_second for profile in PROFILES.values()))  # and half more
    assert all(cache.refuse(number.to_bytes(16, "big")) is None for number in range(packets))
    assert cache.refuse(bytes(16)) == "replay"


# Held packets.


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_what_is_held_leaves_when_it_is_due_and_in_order(steps: list[tuple[int, int]]) -> None:
    hold = Hold()
    now = 0
    waiting: list[tuple[int, int]] = []
    for number, (pause, delay) in enumerate(steps):
        hold.put(now + delay, name(delay), name(number))
        waiting.append((now + delay, number))
        now += pause
        assert hold.deadline() == min(waiting)[0]
        due = sorted(one for one in waiting if one[0] <= now)
        assert [packet for _, packet in hold.release(now)] == [name(number) for _, number in due]
        waiting = [one for one in waiting if one[0] > now]
        assert len(hold) == len(waiting)


def test_hold_is_bounded() -> None:
    hold = Hold(most=2)
    assert hold.deadline() == math.inf
    hold.put(1.0, b"", b"")
    assert not hold.full
    hold.put(2.0, b"", b"")
    assert hold.full and hold.deadline() == 1.0
    assert len(list(hold.release(1.0))) == 1 and not hold.full


# Slots.


def slot_times(pauses: Iterable[float], until: float) -> list[float]:
    """The slots of one seed until then, looked for after each of the pauses, over and over."""
    slots = Slots(0.0, 5.0, random.Random("slots"))
    times, now = [], 0.0
    while True:
        for pause in pauses:
            now += pause
            while (due := slots.deadline()) <= min(now, until):
                assert slots.take(now)
                times.append(due)
            assert not slots.take(min(due, until) - 1e-9)
            if now >= until:
                return times


@given(st.lists(st.floats(0.001, 0.9), min_size=1, max_size=8))
def test_slots_come_when_they_come_however_they_are_looked_for(pauses: list[float]) -> None:
    assert slot_times(pauses, 8.0) == slot_times([0.01], 8.0)


def test_after_a_long_sleep_there_is_no_burst() -> None:
    slots = Slots(0.0, 20.0, random.Random(1))
    now = 100.0
    taken = 0
    while slots.take(now):
        taken += 1
    assert taken == 1 and slots.deadline() > now
    for _ in range(200):
        now = slots.deadline()
        assert slots.take(now)
    assert 5.0 < now - 100.0 < 20.0  # 200 gaps of 50 ms


def test_only_slots_up_to_a_time_are_taken_where_one_is_given() -> None:
    """A late tick takes each slot in its turn among what else was due."""
    slots, again = (Slots(0.0, 20.0, random.Random(1)) for _ in range(2))
    while (due := again.deadline()) <= 0.9:
        assert not slots.take(0.9, due - 1e-9) and slots.take(0.9, due)
        assert again.take(due)
    assert slots.deadline() == again.deadline()


def test_after_a_short_delay_no_slot_is_lost() -> None:
    slots, again = (Slots(0.0, 20.0, random.Random(1)) for _ in range(2))
    while again.deadline() <= 0.9:
        assert again.take(again.deadline())
        assert slots.take(0.9)
    assert not slots.take(0.9) and slots.deadline() == again.deadline()


def test_slots_have_their_rate_and_no_memory(counts: Callable[..., int]) -> None:
    number = counts(10_000)
    slots = Slots(0.0, 20.0, random.Random(1))
    times = [0.0]
    for _ in range(number):
        now = slots.deadline()
        assert slots.take(now)
        times.append(now)
    gaps = [after - before for before, after in pairwise(times)]
    assert abs(20.0 * times[-1] / number - 1) < 5 / math.sqrt(number)
    longer = sum(gap > 1 / 20.0 for gap in gaps) / number
    assert abs(longer - 1 / math.e) < 5 * 0.49 / math.sqrt(number)


# Admission.


def test_a_peer_has_a_burst_and_then_a_rate() -> None:
    admission = Admission(QUICK)
    burst = sum(admission.admit(0.0, b"peer") for _ in range(1_000))
    assert burst == 160  # two seconds of four times 20
    # the clock stands still, or steps back against the rules: nothing more
    assert not any(admission.admit(now, b"peer") for now in (0.0, 0.0, -5.0))
    admission = Admission(QUICK)
    admitted = sum(admission.admit(number / 1_000, b"peer") for number in range(10_000))
    assert abs(admitted - (160 + 80 * 10)) <= 1


def test_slow_profiles_have_room_for_what_queued_behind_congestion() -> None:
    for profile in PROFILES.values():
        admission = Admission(profile)
        assert sum(admission.admit(0.0, b"peer") for _ in range(1_000)) >= 32


def test_one_peer_costs_another_nothing() -> None:
    admission = Admission(QUICK)
    for _ in range(1_000):
        admission.admit(0.0, b"flooder")
    assert sum(admission.admit(0.0, b"peer") for _ in range(1_000)) == 160


def test_a_peer_that_rests_gets_its_burst_back_and_not_more() -> None:
    admission = Admission(QUICK)
    for _ in range(1_000):
        admission.admit(0.0, b"peer")
    assert sum(admission.admit(1.0, b"peer") for _ in range(1_000)) == 80
    assert sum(admission.admit(1e6, b"peer") for _ in range(1_000)) == 160


def test_only_so_many_peers_are_remembered() -> None:
    admission = Admission(QUICK)

    def others(number: int) -> None:
        for other in range(number):
            admission.admit(0.0, name(other))

    for _ in range(200):
        admission.admit(0.0, b"first")
    others(4_095)
    assert not admission.admit(0.0, b"first")
    # in use it is remembered, whoever else comes; the longest unheard one is forgotten
    others(4_096)
    assert admission.admit(0.0, b"first")


# Epochs.


class Keys:
    """Epochs over packets without keys."""

    def __init__(self, now: float = 0.0) -> None:
        self.packets = KeylessPackets(random.Random("packets"))
        self.epochs = Epochs(now, self.packets, random.Random("keys").randbytes)

    def packet(self) -> bytes:
        return self.packets.build([Leg(name(1), self.epochs.public)], b"")

    def take(self, packet: bytes) -> str | None:
        """Why a packet is refused, if it is."""
        try:
            assert isinstance(self.epochs.take(packet).unwrap(), Arrived)
        except BadPacket as exc:
            return exc.code
        return None


def test_each_hour_has_its_key() -> None:
    keys = Keys(now=1_000.0)
    epochs = keys.epochs
    first = epochs.public
    assert epochs.deadline() == 1_000.0 + EPOCH
    assert epochs.turn(1_000.0 + EPOCH - 1e-3) is None and epochs.public == first
    new = epochs.turn(1_000.0 + EPOCH)
    assert new is not None and new == epochs.announced() and new.public == epochs.public != first
    assert epochs.turn(1_000.0 + EPOCH) is None
    seen = {first, epochs.public}
    for hour in range(2, 30):
        epochs.turn(1_000.0 + hour * EPOCH)
        seen.add(epochs.public)
    assert len(seen) == 30


def test_the_old_key_is_taken_for_ten_minutes() -> None:
    keys = Keys()
    early, late, too_late = (keys.packet() for _ in range(3))
    keys.epochs.turn(EPOCH)
    assert keys.take(early) is None
    assert keys.epochs.deadline() == EPOCH + GRACE
    keys.epochs.turn(EPOCH + GRACE - 1e-3)
    assert keys.take(late) is None
    keys.epochs.turn(EPOCH + GRACE)
    assert keys.take(too_late) == "bad_mac"
    assert keys.epochs.deadline() == 2 * EPOCH


def test_a_sleep_of_hours_leaves_no_old_key() -> None:
    keys = Keys()
    old = keys.packet()
    assert keys.epochs.turn(5 * EPOCH) is not None
    assert keys.take(old) == "bad_mac"
    assert keys.epochs.announced() == NewMixKey(keys.epochs.public, 5 * EPOCH, 6 * EPOCH + GRACE / 2)


def test_replays_are_known_for_as_long_as_the_key() -> None:
    keys = Keys()
    before, across = keys.packet(), keys.packet()
    assert (keys.take(before), keys.take(before)) == (None, "replay")
    keys.epochs.turn(EPOCH)
    after = keys.packet()
    assert [keys.take(packet) for packet in (before, across, after)] == ["replay", None, None]
    assert [keys.take(packet) for packet in (before, across, after)] == ["replay"] * 3
    keys.epochs.turn(EPOCH + GRACE)
    assert [keys.take(packet) for packet in (before, across, after)] == ["bad_mac", "bad_mac", "replay"]


def test_what_is_announced_ends_before_the_key_does() -> None:
    keys = Keys(now=1_000.0)
    said = keys.epochs.announced()
    assert said == NewMixKey(keys.epochs.public, 1_000.0, 1_000.0 + EPOCH + GRACE / 2)
    keys.epochs.turn(1_000.0 + EPOCH)
    # no moment is without a key, and the old one is still taken five minutes after nobody seals to it any more
    assert keys.epochs.announced().since < said.until == 1_000.0 + EPOCH + GRACE - 300


def test_a_key_whose_replay_cache_is_nearly_full_gives_way_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplayCache.__init__, "__defaults__", (20,))  # in place of a million
    keys = Keys()
    first = keys.epochs.public
    taken, late, too_late = ([keys.packet() for _ in range(number)] for number in (18, 1, 1))
    for packet in taken[:17]:
        assert keys.take(packet) is None
    assert keys.epochs.turn(5.0) is None and keys.epochs.public == first
    assert keys.take(taken[17]) is None
    new = keys.epochs.turn(5.0)
    assert new is not None and new.public == keys.epochs.public != first
    assert new == NewMixKey(new.public, 5.0, 5.0 + EPOCH + GRACE / 2)
    assert keys.epochs.turn(5.0) is None  # one is enough
    # as with any other turn the old key is taken for its grace, and knows what it has seen
    assert keys.epochs.deadline() == 5.0 + GRACE
    assert [keys.take(packet) for packet in (*taken, *late)] == ["replay"] * 18 + [None]
    keys.epochs.turn(5.0 + GRACE)
    assert [keys.take(packet) for packet in too_late] == ["bad_mac"]
    assert keys.epochs.deadline() == 5.0 + EPOCH


def test_each_size_but_one_is_refused() -> None:
    keys = Keys()
    packet = keys.packet()
    assert keys.take(packet[:-1]) == keys.take(packet + b"x") == keys.take(b"") == "bad_size"


# The directory.

EDITIONS = [
    node(number, created_at=created_at, event=event)
    for number in range(3)
    for created_at, event in ((5, 9), (7, 1), (7, 2))
]


@given(st.permutations(EDITIONS))
def test_the_newest_descriptor_counts_in_whatever_order_they_come(editions: list[Descriptor]) -> None:
    known = Directory()
    newest: dict[bytes, tuple[int, str]] = {}
    for one in editions:
        age = (one.created_at, one.event_id)
        assert known.apply(one, 10.0) == (age > newest.get(one.node_id, (-1, "")))
        newest[one.node_id] = max(age, newest.get(one.node_id, age))
        assert not known.apply(one, 10.0)
    assert len(known) == 3
    assert set(known.usable(1).values()) == {EDITIONS[2], EDITIONS[5], EDITIONS[8]}


def test_a_directory_is_bounded_and_still_learns_of_those_it_knows() -> None:
    known = Directory(most=3)
    assert [known.apply(node(number), 0.0) for number in range(5)] == [True, True, True, False, False]
    assert [name(number) in known for number in range(5)] == [True, True, True, False, False]
    assert known.apply(node(1, created_at=1), 1.0) and len(known) == 3


def test_what_is_dated_ahead_is_not_taken() -> None:
    known = Directory()
    assert MAX_AHEAD == 300.0
    assert not known.apply(node(1, created_at=1_301), 1_000.0) and len(known) == 0
    assert known.apply(node(1, created_at=1_300), 1_000.0)
    # nor does it displace what is known, before its time comes
    assert not known.apply(node(1, created_at=1_400), 1_000.0)
    assert known.usable(1_000.0)[name(1)].created_at == 1_300
    assert known.apply(node(1, created_at=1_400), 1_100.0)


def test_a_network_has_one_profile() -> None:
    known = Directory("slow")
    assert not known.apply(node(1), 0.0) and known.apply(node(2, profile="slow"), 0.0)
    assert not known.apply(node(2, created_at=1), 1.0)  # by changing it a node does not come in either
    assert list(known.usable(1.0)) == [name(2)]
    anything = Directory()
    assert anything.apply(node(1), 0.0) and anything.apply(node(2, profile="slow"), 0.0)


def test_keys_that_are_over_for_a_day_are_not_news() -> None:
    windows = ((10, 20), (15, 30))
    assert not Directory().apply(node(1, *windows), 30 + DAY)
    known = Directory()
    assert known.apply(node(1, *windows), 30 + DAY - 1) and known.usable(30 + DAY - 1) == {}
    assert name(1) in known


def test_a_node_is_forgotten_a_day_after_its_last_key() -> None:
    known = directory([node(1, (10, 20)), node(2, (10, 20), (30, 40)), node(3)])
    for now, numbers in [(35, [1, 2, 3]), (20 + DAY - 1, [1, 2, 3]), (20 + DAY, [2, 3]), (40 + DAY, [3])]:
        known.usable(now)
        assert [number for number in range(1, 4) if name(number) in known] == numbers, now
    assert len(known) == 1


def test_when_it_is_full_those_whose_day_is_over_make_room() -> None:
    known = Directory(most=3)
    for number in range(2):
        assert known.apply(node(number, (10, 20)), 0.0)
    assert known.apply(node(2), 0.0)
    assert not known.apply(node(3), 20 + DAY - 1) and len(known) == 3
    assert known.apply(node(3), 20 + DAY) and known.apply(node(4), 20 + DAY)
    assert [number for number in range(6) if name(number) in known] == [2, 3, 4]
    assert not known.apply(node(5), 20 + DAY)


def test_nodes_are_usable_while_they_have_a_key() -> None:
    known = directory([node(1, (10, 20)), node(2, (15, 25), (25, 30)), node(3, (12, 14), (40, 50))])

    def usable(now: float) -> list[int]:
        return [int.from_bytes(id_, "big") for id_ in known.usable(now)]

    for now, numbers in [(0, []), (9.9, []), (10, [1]), (12, [1, 3]), (14, [1]), (15, [1, 2]), (19.9, [1, 2])]:
        assert usable(now) == numbers, now
    for now, numbers in [(20, [2]), (25, [2]), (29.9, [2]), (30, []), (39, []), (40, [3]), (50, []), (1e12, [])]:
        assert usable(now) == numbers, now


def test_the_view_is_kept_until_something_changes() -> None:
    known = directory([node(1, (10, 20)), node(2, (15, 25))])
    view = known.usable(16)
    assert known.usable(17) is view is known.usable(19.9)
    assert known.usable(20) is not view
    view = known.usable(21)
    known.apply(node(3), 21)
    assert list(known.usable(21)) == [name(2), name(3)] and list(view) == [name(2)]
    assert len(known) == 3 and name(1) in known  # without a key, and still known


# Guards.

MIXES = {name(number): node(number) for number in range(30)}


def use(
    guards: Guards, now: float, mixes: Mapping[bytes, Descriptor] = MIXES, unusable: Collection[bytes] = ()
) -> list[bytes]:
    """The guards in use; a path was found with them."""
    used = guards.current(now, mixes, unusable)
    guards.keep_new()
    return used


def test_guards_are_kept_for_thirty_days() -> None:
    guards = Guards(random.Random(1))
    first = use(guards, 0.0)
    assert len(set(first)) == GUARDS == 3
    for day in range(30):
        assert use(guards, day * DAY + 1) == first
    after = use(guards, LIFETIME)
    assert len(set(after)) == 3 and set(after) != set(first)
    assert [guard.chosen_at for guard in guards.kept] == [LIFETIME] * 3


def test_guards_survive_a_restart() -> None:
    guards = Guards(random.Random(1))
    first = use(guards, 5.0)
    again = Guards(random.Random(2), guards.kept)
    assert use(again, DAY) == first
    assert again.kept == guards.kept is not again.kept
    assert use(again, 5.0 + LIFETIME - 1) == first
    assert use(again, 5.0 + LIFETIME) != first


def test_however_many_die_only_six_are_chosen_in_a_lifetime() -> None:
    guards = Guards(random.Random(1))
    seen: set[bytes] = set()
    dead: set[bytes] = set()
    for hour in range(29 * 24):
        used = use(guards, hour * 3_600.0, MIXES, dead)
        seen.update(used)
        dead.update(used[:1])
    assert len(seen) == len(guards.kept) == 6
    assert use(guards, 29 * DAY, MIXES, dead) == []
    # when the first have had their time, others come in
    assert len(use(guards, LIFETIME, MIXES, dead)) == 3


def test_no_thirty_days_see_more_than_six_guards() -> None:
    guards, rng = Guards(random.Random(1)), random.Random(2)
    chosen: set[Guard] = set()
    for day in range(200):
        use(guards, day * DAY, MIXES, {name(number) for number in rng.sample(range(30), 15)})
        chosen.update(guards.kept)
    times = sorted(guard.chosen_at for guard in chosen)
    assert all(later - time >= LIFETIME for time, later in zip(times, times[6:], strict=False))


def test_a_guard_that_comes_back_is_used_again_before_any_other() -> None:
    guards = Guards(random.Random(1))
    first = use(guards, 0.0)
    without = use(guards, 1.0, MIXES, first[:1])
    assert len(without) == 3 and first[0] not in without and set(first[1:]) < set(without)
    assert use(guards, 2.0) == first
    gone = {id_: mix for id_, mix in MIXES.items() if id_ != first[1]}
    assert use(guards, 3.0, gone, ()) == [first[0], first[2], without[2]]


def test_guards_are_as_many_as_there_are() -> None:
    guards = Guards(random.Random(1))
    assert use(guards, 0.0, {}, ()) == [] == guards.kept
    assert use(guards, 0.0, {name(1): MIXES[name(1)]}, ()) == [name(1)]
    assert use(guards, 0.0, {name(1): MIXES[name(1)]}, [name(1)]) == []
    assert len(use(guards, 0.0)) == 3
    assert len(use(Guards(random.Random(1), size=1), 0.0)) == 1


def test_new_guards_are_kept_only_when_that_is_said() -> None:
    guards = Guards(random.Random(1))
    first = guards.current(0.0, MIXES, ())
    assert len(first) == 3 and guards.kept == []
    guards.forget_new()
    guards.keep_new()
    assert guards.kept == []
    # nor are those of an earlier call kept by a later one that drew none
    guards.current(0.0, MIXES, ())
    guards.current(0.0, {}, ())
    guards.keep_new()
    assert guards.kept == []
    first = guards.current(1.0, MIXES, ())
    guards.keep_new()
    guards.keep_new()
    guards.forget_new()
    assert guards.kept == [Guard(node_id, 1.0) for node_id in first] and use(guards, 2.0) == first


def test_no_two_guards_are_of_one_network_or_family() -> None:
    two = {name(number): node(number, network=number % 2) for number in range(30)}
    assert len(use(Guards(random.Random(1)), 0.0, two)) == 2
    pairs = {name(number): node(number, family=[number ^ 1]) for number in range(6)}
    alone = {name(number): node(number, family=set(range(6)) - {number}) for number in range(6)}
    for seed in range(30):
        used = [int.from_bytes(guard, "big") for guard in use(Guards(random.Random(seed)), 0.0, pairs)]
        assert len({number // 2 for number in used}) == len(used) == 3
        assert len(use(Guards(random.Random(seed)), 0.0, alone)) == 1
        three = {name(number): node(number, network=number % 3) for number in range(30)}
        guards = Guards(random.Random(seed))
        dead = use(guards, 0.0, three)[:1]
        # neither beside those in use nor beside one that may come back
        assert len(use(guards, 1.0, three, dead)) == 2 == len(guards.kept) - 1


def test_a_guard_that_was_away_is_not_used_beside_another_of_its_network() -> None:
    three = {name(number): node(number, network=number % 3) for number in range(30)}
    for seed in range(30):
        guards = Guards(random.Random(seed))
        first = use(guards, 0.0, three)
        use(guards, 1.0, {id_: mix for id_, mix in three.items() if id_ != first[0]})
        for unusable in ((), first[1:2], first[2:]):
            used = [three[guard] for guard in use(guards, 2.0, three, unusable)]
            assert not any(one.related(other) for one, other in permutations(used, 2))


def test_a_guard_dated_ahead_counts_from_now() -> None:
    """It was chosen under a clock that was wrong; else it would stay for ever."""
    guards = Guards(random.Random(1), [Guard(name(1), 1e10), Guard(name(2), 5.0), Guard(name(3), 1e10)])
    assert use(guards, 10.0) == [name(1), name(2), name(3)]
    assert guards.kept == [Guard(name(1), 10.0), Guard(name(2), 5.0), Guard(name(3), 10.0)]
    assert use(guards, 5.0 + LIFETIME)[:2] == [name(1), name(3)]
    use(guards, 10.0 + LIFETIME)
    assert all(guard.chosen_at >= 5.0 + LIFETIME for guard in guards.kept)


# Paths.

ME = 0


class Choosing:
    """Paths of node 0 among `nodes`."""

    def __init__(
        self, nodes: Iterable[Descriptor], *, guards: int = GUARDS, kept: Iterable[Guard] = (), seed: object = 1
    ) -> None:
        rng = random.Random(f"{seed}")
        self.guards = Guards(rng, kept, guards)
        self.health = Health()
        self.directory = directory(nodes)
        self.paths = Paths(name(ME), self.directory, self.guards, self.health, rng)

    def home(self, *, probing: bool = False) -> list[int]:
        return self._numbers(self.paths.home(0.0, probing=probing))

    def out(self, avoid: Iterable[int] = (), guards: Iterable[int] = ()) -> list[int]:
        return self._numbers(self.paths.out(0.0, set(map(name, avoid)), set(map(name, guards))))

    def choose(self, hops: int) -> list[int]:
        """A path home, of 4, or one out with another's exit, of 5."""
        while True:
            try:
                path = self.home() if hops == 4 else self.out()
            except NoPath:  # the only guard was drawn as exit time after time
                continue
            if len(path) == hops:
                return path

    def exit(self, avoid: Iterable[int] = ()) -> int:
        path = self.out(avoid)
        return path[-1] if len(path) == 5 else ME

    @staticmethod
    def _numbers(path: Iterable[Descriptor]) -> list[int]:
        return [int.from_bytes(mix.node_id, "big") for mix in path]

    def in_use(self) -> set[int]:
        return {int.from_bytes(guard.node_id, "big") for guard in self.guards.kept}

    def accuse(self, *mixes: int, came: bool = False) -> None:
        """Eight loops through each alone."""
        for mix in mixes:
            for number in range(8):
                self.health.sent_loop(b"%d/%d" % (mix, number), [name(mix)], 0.0)
                if came:
                    self.health.came_home(b"%d/%d" % (mix, number))
        self.health.expire(0.0)


@given(
    seed=st.integers(0, 1 << 32),
    networks=st.lists(st.integers(0, 9), min_size=3, max_size=16),
    families=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=12),
    home=st.booleans(),
    avoid=st.lists(st.integers(0, 15), max_size=6),
)
def test_a_path_keeps_its_rules(
    seed: int, networks: list[int], families: list[tuple[int, int]], home: bool, avoid: list[int]
) -> None:
    nodes = [
        node(number, network=network, family=[b for a, b in families if a == number])
        for number, network in enumerate(networks)
    ]
    choosing = Choosing(nodes, seed=seed)
    for _ in range(5):
        before = choosing.in_use()
        try:
            path = choosing.home() if home else choosing.out(avoid)
        except NoPath as exc:
            assert exc.code == "no_path" and choosing.in_use() == before
            continue
        assert len(set(path)) == len(path) in ((4,) if home else (4, 5)) and ME not in path
        assert path[0] in choosing.in_use() and len(choosing.in_use()) <= 3
        assert len({networks[mix] for mix in path}) == len(path)
        assert not any((a, b) in families and (b, a) in families for a, b in permutations(path, 2))


def test_those_of_a_declared_family_never_share_a_path() -> None:
    families = {1: [2, 3, 4], 2: [1], 3: [1], 4: [1]}
    choosing = Choosing([node(number, family=families.get(number, ())) for number in range(12)])
    paths = [choosing.out() for _ in range(300)]
    assert any(1 in path for path in paths) and any(3 in path for path in paths)
    assert not any(1 in path and {2, 3, 4} & set(path) for path in paths)


def test_a_guard_cannot_keep_others_off_paths_by_naming_them() -> None:
    """Were one declaration enough, a hostile guard would choose who is behind it."""
    named = range(2, 18)
    nodes = [node(1, family=named), *(node(number) for number in (0, *range(2, 21)))]
    choosing = Choosing(nodes, guards=1, kept=[Guard(name(1), 0.0)], seed="hostile")
    paths = [choosing.choose(5) for _ in range(3_000)]
    assert {path[0] for path in paths} == {1}
    # 18 degrees of freedom: above 53 once in 37,000, and the seed is fixed
    for place in range(1, 5):
        assert chi_square(Counter(path[place] for path in paths), range(2, 21)) < 53


def test_a_way_home_needs_four_mixes() -> None:
    assert len(Choosing(map(node, range(5))).home()) == 4
    with pytest.raises(NoPath) as caught:
        Choosing(map(node, range(4))).home()
    assert caught.value.code == "no_path"


def outcomes(choosing: Choosing, times: int) -> Counter[int]:
    """Exits, over and over; -1 where there is no path."""
    seen: Counter[int] = Counter()
    for _ in range(times):
        try:
            seen[choosing.exit()] += 1
        except NoPath:
            seen[-1] += 1
    return seen


def test_a_way_out_needs_five_mixes() -> None:
    """Four would do where the exit is oneself: but then whatever leaves would come out at its author."""
    assert set(outcomes(Choosing(map(node, range(6))), 200)) == set(range(6))
    assert set(outcomes(Choosing(map(node, range(5))), 200)) == {-1}


def test_mixes_of_one_network_are_one() -> None:
    def spread(networks: int) -> Choosing:
        return Choosing([node(number, network=number % networks) for number in range(1, 50)])

    with pytest.raises(NoPath):
        spread(3).home()
    assert len(spread(4).home()) == 4
    assert len(outcomes(spread(5), 500)) > 40
    assert set(outcomes(spread(4), 200)) == {-1}  # not only oneself


@pytest.mark.parametrize("known", [1, 2, 3, 4])
def test_those_known_first_are_no_guards_before_there_are_paths(known: int) -> None:
    """A node that just began would have whoever is nearest, or fastest to tell of itself, as guards for weeks."""
    choosing = Choosing(map(node, range(known)))
    for _ in range(20):
        with pytest.raises(NoPath):
            choosing.home()
        with pytest.raises(NoPath):
            choosing.out()
        assert choosing.guards.kept == []
    first: Counter[int] = Counter()
    for seed in range(100):
        choosing = Choosing(map(node, range(known)), seed=seed)
        with pytest.raises(NoPath):
            choosing.home()
        for number in range(known, 20):
            choosing.directory.apply(node(number), 0.0)
        choosing.out()
        first.update(choosing.in_use())
    assert first.total() == 300 and chi_square(first, range(1, 20)) < 55  # 18 degrees of freedom, and less


def test_guards_stay_where_there_is_no_path_for_a_while() -> None:
    choosing = Choosing(map(node, range(8)))
    choosing.out()
    kept = list(choosing.guards.kept)
    choosing.directory = directory(map(node, range(3)))
    choosing.paths = Paths(name(ME), choosing.directory, choosing.guards, choosing.health, random.Random(1))
    with pytest.raises(NoPath):
        choosing.out()
    assert choosing.guards.kept == kept and len(kept) == 3


def test_what_is_to_be_avoided_is_avoided_as_long_as_possible() -> None:
    choosing = Choosing(map(node, range(16)))
    choosing.out()
    guards = sorted(choosing.in_use())
    rest = [number for number in range(1, 16) if number not in guards]
    entered: set[int] = set()
    for _ in range(100):
        # a guard that need not be avoided goes first, and nothing that is to be is on the path
        path = choosing.out([*guards, *rest[:4]], guards[:2])
        assert path[0] == guards[2] and set(path[1:]) <= set(rest[4:])
        # guards are few: where all are to be avoided one is used all the same
        path = choosing.out([*guards, *rest[:6]], guards)
        assert set(path[1:]) <= set(rest[6:])
        entered.add(path[0])
        assert len(choosing.out([*guards, *rest[:10]], guards)) in (
            4,
            5,
        )  # two others are too few: as if nothing was said
    assert entered == set(guards)


def test_avoiding_others_does_not_make_oneself_the_exit() -> None:
    """Whoever drops a message's copies makes its author try again: it must not come out at the author for that."""
    choosing = Choosing(map(node, range(24)), seed="again")
    own: Counter[int] = Counter()
    messages = 300
    for _ in range(messages):
        message = Message(b"id", b"")
        for copy in range(9):
            path = choosing.paths.out(0.0, message.passed, message.entered)
            message.use([mix.node_id for mix in path])
            own[copy] += len(path) == 4
    assert own[0] < 2 * messages / 24
    # of nine copies in 24 nodes 0.4 come out at oneself, if each is as likely as any
    assert own.total() / messages < 1.5 * 9 / 24, dict(own)


def test_accused_mixes_are_left_out() -> None:
    choosing = Choosing(map(node, range(13)))
    choosing.accuse(*range(5, 13), came=True)
    choosing.accuse(1, 2, 3, 4)
    for _ in range(100):
        assert not {1, 2, 3, 4} & {*choosing.out(), *choosing.home()}
    assert not {1, 2, 3, 4} & choosing.in_use()
    # but for a probe: how else would it be found out that one is back
    assert {1, 2, 3, 4} <= {mix for _ in range(100) for mix in choosing.home(probing=True)}


def test_an_accused_guard_gives_way_to_another() -> None:
    choosing = Choosing(map(node, range(13)))
    choosing.out()
    guards = sorted(choosing.in_use())
    choosing.accuse(*(set(range(1, 13)) - set(guards)), came=True)
    choosing.accuse(*guards)
    for _ in range(50):
        assert not {*choosing.out(), *choosing.home()} & set(guards)
    assert len(choosing.in_use()) == 6


def chi_square(seen: Counter[int], among: Sequence[int]) -> float:
    expected = seen.total() / len(among)
    assert set(seen) <= set(among)
    return sum((seen[one] - expected) ** 2 / expected for one in among)


@pytest.mark.parametrize("hops", [4, 5])
def test_all_hops_behind_the_guard_are_uniform(hops: int, counts: Callable[..., int]) -> None:
    choosing = Choosing(map(node, range(20)), guards=1, seed="uniform")
    paths = [choosing.choose(hops) for _ in range(counts(6_000))]
    (guard,) = choosing.in_use()
    others = [number for number in range(1, 20) if number != guard]
    for place in range(1, hops):
        # 17 degrees of freedom: above 51 once in 40,000 even for a perfect choice, and the seed is fixed
        assert chi_square(Counter(path[place] for path in paths), others) < 51
    # nor does one hop say anything of the next: 18 * 17 pairs, 305 degrees of freedom
    pairs = Counter(path[1] * 100 + path[2] for path in paths)
    assert chi_square(pairs, [a * 100 + b for a, b in permutations(others, 2)]) < 305 + 5 * math.sqrt(2 * 305)


@pytest.mark.parametrize("hops", [4, 5])
def test_each_guard_is_used_as_often(hops: int) -> None:
    choosing = Choosing(map(node, range(20)))
    seen = Counter(choosing.choose(hops)[0] for _ in range(3_000))
    assert chi_square(seen, sorted(choosing.in_use())) < 21  # 2 degrees of freedom: once in 36,000


def test_the_exit_is_any_node_alike_oneself_and_the_guards_included(counts: Callable[..., int]) -> None:
    """Were an author never its own exit, and its guards seldom, where its events first appear would tell."""
    choosing = Choosing(map(node, range(20)), seed="exits")
    exits = Counter(choosing.exit() for _ in range(counts(8_000)))
    # 19 degrees of freedom: above 55 once in 40,000 even for a perfect choice, and the seed is fixed
    assert chi_square(exits, range(20)) < 55
    # each of the guards stands in front of exits that are guards too
    guards = sorted(choosing.in_use())
    pairs = Counter((path[0], path[-1]) for _ in range(3_000) if (path := choosing.out())[-1] in guards)
    assert set(pairs) == set(permutations(guards, 2))


# Health.


def judged(scores: dict[int, tuple[int, int]]) -> Health:
    """Of so many loops through each mix alone, so many came home, spread evenly."""
    health = Health()
    for mix, (came, loops) in scores.items():
        for number in range(loops):
            nonce = b"%d/%d" % (mix, number)
            health.sent_loop(nonce, [name(mix)], 1.0)
            if number * came % loops < came:
                assert health.came_home(nonce)
        health.expire(1.0)
    return health


def test_a_loop_that_comes_home_credits_all_its_mixes_once() -> None:
    health = Health()
    health.sent_loop(b"nonce", map(name, range(4)), 5.0)
    assert health.deadline() == 5.0
    assert health.came_home(b"nonce") and not health.came_home(b"nonce")
    health.expire(5.0)
    assert (health.sent, health.lost, health.deadline()) == (1, 0, math.inf)


def test_a_loop_that_is_due_accuses_all_its_mixes() -> None:
    health = Health()
    for number in range(8):
        health.sent_loop(b"%d" % number, [name(1), name(2)], 5.0)
    health.expire(4.999)
    assert health.lost == 0
    health.expire(5.0)
    assert (health.lost, health.score(name(1)), health.score(name(2)), health.score(name(3))) == (8, 0.0, 0.0, None)
    assert not health.came_home(b"1")  # too late


def test_nobody_is_judged_by_a_few_loops() -> None:
    health = judged({1: (0, 3), 2: (8, 8)})
    assert health.score(name(1)) is None and health.suspects([name(1), name(2)]) == frozenset()
    assert judged({1: (0, 5), 2: (8, 8), 3: (8, 8)}).suspects(list(map(name, range(1, 9)))) == {name(1)}
    # half of what the others have, of so few, is chance still
    assert judged({1: (3, 5), 2: (8, 8), 3: (8, 8)}).suspects(list(map(name, range(1, 9)))) == frozenset()


def test_suspects_are_far_below_the_median() -> None:
    scores = dict.fromkeys(range(9), (10, 20)) | {9: (1, 20), 10: (7, 20)}
    health = judged(scores)
    middle, low, near = (health.score(name(mix)) for mix in (0, 9, 10))
    assert middle is not None and low is not None and near is not None
    # of twenty loops seven instead of ten are no reason to leave a mix out
    assert low < near < 0.8 * middle
    assert health.suspects(list(map(name, scores))) == {name(9)}


def test_who_is_accused_is_below_what_is_usual_by_more_than_chance() -> None:
    health = judged({1: (20, 20), 2: (14, 20), 3: (8, 20), 4: (0, 3)})
    probes = sum(0.95**number for number in range(20))
    assert [health.accused(name(1), usual) for usual in (0.0, 0.5, 1.0)] == [False] * 3
    for mix in (2, 3):
        score = health.score(name(mix))
        assert score is not None
        for usual in (number / 100 for number in range(101)):
            bound = 0.8 * usual
            deviation = math.sqrt(bound * (1 - bound) / probes)
            assert health.accused(name(mix), usual) == (score < bound - 2 * deviation)
    assert (health.accused(name(2), 1.0), health.accused(name(3), 1.0)) == (False, True)
    # not judged yet, or never probed
    assert not health.accused(name(4), 1.0) and not health.accused(name(5), 1.0)


def test_a_network_where_all_fare_alike_has_no_suspects() -> None:
    for came in (0, 10, 20):
        assert judged(dict.fromkeys(range(9), (came, 20))).suspects(list(map(name, range(9)))) == frozenset()


def test_a_third_at_most_is_left_out_the_worst_first() -> None:
    scores = {mix: (mix, 20) for mix in range(7)} | dict.fromkeys(range(7, 18), (20, 20))
    suspects = judged(scores).suspects(list(map(name, scores)))
    assert suspects == set(map(name, range(6)))  # of 18
    assert judged(dict(list(scores.items())[:2])).suspects([name(0), name(1)]) == frozenset()


@given(st.dictionaries(st.integers(0, 30), st.tuples(st.integers(0, 12), st.integers(1, 12)), max_size=31))
def test_suspects_keep_their_rules(scores: dict[int, tuple[int, int]]) -> None:
    health = judged({mix: (min(came, loops), loops) for mix, (came, loops) in scores.items()})
    mixes = list(map(name, range(31)))
    suspects = health.suspects(mixes)
    assert len(suspects) <= 10 and health.suspects(mixes) == suspects
    known = {mix: score for mix in mixes if (score := health.score(mix)) is not None}
    assert all(0.0 <= score <= 1.0 + 1e-9 for score in known.values()) and suspects <= known.keys()
    if suspects:
        worst = max(known[mix] for mix in suspects)
        assert sum(score <= worst for score in known.values()) <= len(known) / 2


def test_new_probes_count_more_than_old_ones() -> None:
    health = judged({1: (40, 40)})
    for number in range(40):
        health.sent_loop(b"%d" % number, [name(1)], 2.0)
    health.expire(2.0)
    score = health.score(name(1))
    assert score is not None and score < 0.2


def test_unknown_nonces_change_nothing() -> None:
    health = judged({1: (8, 8)})
    assert not health.came_home(b"") and not health.came_home(b"x" * 10_000)
    assert (health.sent, health.lost, health.score(name(1))) == (8, 0, 1.0)


def test_loops_under_way_are_bounded() -> None:
    health = Health()
    for number in range(5_000):
        health.sent_loop(b"%d" % number, [name(1)], 1.0)
    assert health.sent == 4_096
    assert sum(health.came_home(b"%d" % number) for number in range(5_000)) == 4_096
    health.expire(1.0)
    assert health.deadline() == math.inf and health.lost == 0


def test_mixes_that_left_are_forgotten() -> None:
    health = judged({1: (0, 8), 2: (8, 8)})
    health.forget([name(2)])
    assert (health.score(name(1)), health.score(name(2))) == (None, 1.0)


# Messages.

PATIENCE = 3 * QUICK.expected_latency


def test_a_message_has_five_tries_one_copy_and_then_two() -> None:
    messages = Messages(QUICK)
    message = messages.submit(b"id", b"body")
    assert message is not None
    now = 0.0
    for number in range(1, MAX_TRIES + 1):
        copies = message.copies
        assert copies == (1 if number == 1 else 2)
        messages.trying(now, message, copies)
        assert message.tries == number
        for copy in range(copies):
            # it waits for a slot, and not for ever: without cover there are none
            assert now < messages.deadline() < now + 100 * PATIENCE
            now += 1.0 + copy
            messages.sent(now, b"id")
        now += PATIENCE  # counted from the last copy
        assert messages.deadline() == now
        assert messages.silent(now - 1e-3) == [] and messages.silent(now) == [message]
    assert message.tries == MAX_TRIES == 5 and len(messages) == 0
    assert messages.heard(b"id") is None


def test_a_try_without_a_path_is_silent_in_its_time() -> None:
    messages = Messages(QUICK)
    message = messages.submit(b"id", b"body")
    assert message is not None
    messages.trying(10.0, message, 0)
    assert messages.deadline() == 10.0 + PATIENCE
    assert messages.silent(10.0 + PATIENCE) == [message]


def test_what_was_heard_is_over() -> None:
    messages = Messages(QUICK)
    message = messages.submit(b"id", b"body")
    assert message is not None
    messages.trying(0.0, message, 1)
    messages.sent(0.0, b"id")
    assert (messages.heard(b"id"), messages.heard(b"id"), messages.heard(b"other")) == (1, None, None)
    assert messages.silent(1e9) == [] and messages.deadline() == math.inf and len(messages) == 0
    messages.sent(1.0, b"id")  # a copy that still stood in the queue
    assert messages.deadline() == math.inf


def test_a_message_under_way_is_not_begun_again() -> None:
    messages = Messages(QUICK)
    assert messages.submit(b"id", b"body") is not None
    assert messages.submit(b"id", b"body") is None and messages.submit(b"id", b"other") is None
    assert messages.submit(b"other", b"body") is not None and len(messages) == 2
    messages.heard(b"id")
    assert messages.submit(b"id", b"body") is not None


def test_messages_are_bounded() -> None:
    messages = Messages(QUICK)
    for number in range(MAX_MESSAGES):
        messages.submit(b"%d" % number, b"")
    with pytest.raises(QueueFull) as caught:
        messages.submit(b"one more", b"")
    assert caught.value.code == "queue_full"
    assert messages.submit(b"7", b"") is None and len(messages) == 256
    messages.heard(b"7")
    assert messages.submit(b"one more", b"") is not None


def test_what_was_heard_and_is_published_again_has_its_full_patience() -> None:
    messages = Messages(QUICK)
    for start in (0.0, 1.0):
        message = messages.submit(b"id", b"body")
        assert message is not None
        messages.trying(start, message, 1)
        messages.sent(start, b"id")
        if start == 0.0:
            messages.heard(b"id")
    # both are at their first try: what tells them apart is only that they are two
    assert messages.silent(PATIENCE) == [] and len(messages) == 1
    assert messages.silent(1.0 + PATIENCE - 1e-3) == [] and messages.silent(1.0 + PATIENCE) == [message]


def test_an_old_try_does_not_end_a_new_message_of_the_same_id() -> None:
    messages = Messages(QUICK)
    old = messages.submit(b"id", b"body")
    assert old is not None
    for _ in range(MAX_TRIES):
        messages.trying(0.0, old, 1)
    messages.sent(0.0, b"id")
    messages.heard(b"id")
    new = messages.submit(b"id", b"body")
    assert new is not None and new is not old
    for _ in range(MAX_TRIES):
        messages.trying(1.0, new, 1)
    messages.sent(1.0, b"id")
    assert messages.silent(PATIENCE) == [] and messages.heard(b"id") == MAX_TRIES
    assert messages.silent(1e9) == []


def test_what_a_message_went_through_is_avoided_and_its_guards_come_in_turn() -> None:
    message = Message(b"id", b"body")
    assert message.entered == message.passed == set()
    message.use([b"guard 1", b"a", b"b"])
    assert (message.entered, message.passed) == ({b"guard 1"}, {b"a", b"b"})
    message.use([b"guard 2", b"c"])
    message.use([b"guard 3", b"d"])
    passed = {b"a", b"b", b"c", b"d"}
    assert (message.entered, message.passed) == ({b"guard 1", b"guard 2", b"guard 3"}, passed)
    # each was used: now all others may be again
    message.use([b"guard 2", b"a"])
    assert (message.entered, message.passed) == ({b"guard 2"}, passed)
    message.use([b"guard 1"])
    assert (message.entered, message.passed) == ({b"guard 1", b"guard 2"}, passed)


# Sealing and cover.


class Recording(KeylessPackets):
    """Notes what it is asked to build."""

    def __init__(self) -> None:
        super().__init__(random.Random("packets"))
        self.built: list[tuple[list[Leg], bytes]] = []
        self.made: list[bytes] = []

    def build(self, path: Sequence[Leg], body: bytes) -> bytes:
        self.built.append((list(path), body))
        self.made.append(super().build(path, body))
        return self.made[-1]


class Rig:
    """A sealer and cover of node 0 among as many nodes as are said."""

    def __init__(self, nodes: int = 12, rng: random.Random | None = None) -> None:
        rng = random.Random("rig") if rng is None else rng
        self.packets = Recording()
        self.directory = directory(map(node, range(nodes)))
        self.health = Health()
        paths = Paths(name(ME), self.directory, Guards(rng), self.health, rng)
        self.sealer = Sealer(name(ME), QUICK, self.packets, paths, rng)
        self.epochs = Epochs(0.0, self.packets, rng.randbytes)
        self.cover = Cover(0.0, QUICK, self.sealer, self.epochs, self.health, rng)

    def seal(self, now: float = 0.0, service: Service = Service.DROP, body: bytes = b"") -> SealedPacket:
        return self.sealer.seal(now, self.epochs.public, service, body)


class Stretched(random.Random):
    """Draws every second delay beyond all bounds."""

    drawn = 0

    def expovariate(self, lambd: float = 1.0) -> float:
        self.drawn += 1
        return (10.01 if self.drawn % 2 else 9.99) / lambd


def test_delays_are_exponential_and_the_exit_has_none(counts: Callable[..., int]) -> None:
    rig = Rig()
    number = counts(3_000)
    for _ in range(number):
        sealed = rig.seal(0.0, Service.PUBLISH, b"body")
        legs, body = rig.packets.built[-1]
        assert body == b"\x02body" and len(legs) == 5 and legs[-1].delay_us == 0
        assert sealed.first_hop == legs[0].node_id and sealed.mixes == tuple(
            leg.node_id for leg in legs if leg.node_id != name(ME)
        )
        assert sealed.held == pytest.approx(sum(leg.delay_us for leg in legs) / 1e6)
    delays = [leg.delay_us / 1e6 for legs, _ in rig.packets.built for leg in legs[:-1]]
    draws = len(delays)
    assert draws == 4 * number and max(delays) <= 10 * QUICK.mean_delay
    assert abs(sum(delays) / draws / QUICK.mean_delay - 1) < 5 / math.sqrt(draws)
    for means in (0.1, 0.5, 1.0, 2.0, 3.0):
        share = sum(delay > means * QUICK.mean_delay for delay in delays) / draws
        assert abs(share - math.exp(-means)) < 5 * 0.5 / math.sqrt(draws)


def test_a_delay_beyond_ten_means_is_drawn_again() -> None:
    rig = Rig(rng=Stretched(1))
    rig.seal()
    legs, _ = rig.packets.built[-1]
    assert [leg.delay_us for leg in legs] == [round(9.99e6 * QUICK.mean_delay)] * 4 + [0]


def test_a_packet_may_come_out_at_oneself() -> None:
    rig = Rig()
    for _ in range(200):
        sealed = rig.seal(0.0, Service.PUBLISH, b"body")
        legs, _ = rig.packets.built[-1]
        own = [place for place, leg in enumerate(legs) if leg.node_id == name(ME)]
        if own:
            assert own == [4] and legs[4] == Leg(name(ME), rig.epochs.public)
            assert len(set(sealed.mixes)) == 4 and name(ME) not in sealed.mixes
    assert {legs[-1].node_id for legs, _ in rig.packets.built} == set(map(name, range(12)))


def test_what_is_to_be_avoided_is_not_on_the_path() -> None:
    rig = Rig(16)
    guard, *others = rig.seal().mixes
    for _ in range(50):
        again = rig.sealer.seal(0.0, rig.epochs.public, Service.PUBLISH, b"", {guard, *others}, {guard})
        assert not {guard, *others} & set(again.mixes)


def test_a_reply_block_has_the_guard_next_to_home() -> None:
    """Were it the first, whoever gets some blocks would know one's guards."""
    rig = Rig(20)
    paths: list[list[bytes]] = []
    make = rig.packets.make_reply_block

    def watched(path: Sequence[Leg]) -> tuple[bytes, bytes, None]:
        paths.append([leg.node_id for leg in path])
        return make(path)

    rig.packets.make_reply_block = watched  # type: ignore[method-assign]
    guards = {rig.seal().first_hop for _ in range(50)}
    for _ in range(100):
        rig.sealer.reply_block(0.0, rig.epochs.public)
    assert {path[3] for path in paths} == guards and len(guards) == 3
    assert all(len(set(path)) == 5 and path[4] == name(ME) for path in paths)
    assert len({path[0] for path in paths}) > 12


def test_a_loop_leads_home_through_four_mixes() -> None:
    rig = Rig()
    sealed = rig.sealer.loop(0.0, rig.epochs.public, b"nonce")
    legs, body = rig.packets.built[-1]
    assert body == b"\x01nonce" and legs[-1] == Leg(name(ME), rig.epochs.public)
    assert len(set(sealed.mixes)) == 4 and name(ME) not in sealed.mixes
    assert all(leg.delay_us > 0 for leg in legs[:-1])


def test_a_packet_is_sealed_to_the_keys_of_its_time() -> None:
    rig = Rig(0)
    for number in range(12):
        old, new = (MixKey(since, since + 15, name(100 * since + number)) for since in (0, 10))
        rig.directory.apply(
            Descriptor(name(number), b"", (old, new), (f"10.{number}.0.1:1",), frozenset(), "fast", 0, "", ""), 0.0
        )
    for now, since in [(0.0, 0), (9.9, 0), (10.0, 10), (24.9, 10)]:
        rig.seal(now)
        legs, _ = rig.packets.built[-1]
        others = [leg for leg in legs if leg.node_id != name(ME)]
        assert all(leg.key == name(100 * since + int.from_bytes(leg.node_id, "big")) for leg in others)
    with pytest.raises(NoPath):
        rig.seal(25.0)


def test_cover_lies_ready_before_it_is_needed() -> None:
    rig = Rig()
    assert rig.cover.deadline() <= 0.0
    rig.cover.prepare(0.0)
    assert rig.sealer.built == 2 and rig.cover.deadline() == math.inf
    loop, drop = rig.cover.loop(1.0), rig.cover.drop(1.0)
    assert loop is not None and drop is not None and rig.sealer.built == 2  # taken, not made
    assert rig.cover.deadline() <= 1.0
    rig.cover.prepare(1.0)
    assert rig.sealer.built == 4 and rig.cover.deadline() == math.inf


def test_two_slots_at_once_have_cover_both() -> None:
    rig = Rig()
    rig.cover.prepare(0.0)
    taken = [rig.cover.loop(0.0), rig.cover.loop(0.0), rig.cover.drop(0.0), rig.cover.drop(0.0)]
    assert len({sealed.packet for sealed in taken if sealed is not None}) == 4


def test_a_loop_is_expected_home_only_when_it_left() -> None:
    rig = Rig()
    rig.cover.prepare(0.0)
    assert rig.health.sent == 0
    sealed = rig.cover.loop(7.0)
    assert sealed is not None and rig.health.sent == 1
    nonce = next(body[1:] for _, body in rig.packets.built if body[0] == Service.LOOP)
    # its delays, and some more for links and processors
    assert 7.0 + sealed.held + 1.0 < rig.health.deadline() < 7.0 + sealed.held + 60.0
    assert rig.health.came_home(nonce)


def test_cover_does_not_grow_stale() -> None:
    rig = Rig()
    rig.cover.prepare(0.0)
    rig.cover.prepare(149.0)
    assert rig.sealer.built == 2
    rig.cover.prepare(151.0)
    assert rig.sealer.built == 4
    taken = [rig.cover.loop(151.0), rig.cover.drop(151.0)]
    assert {sealed.packet for sealed in taken if sealed is not None} == set(rig.packets.made[2:])


def test_without_a_path_it_is_tried_again_each_second() -> None:
    rig = Rig(3)
    rig.cover.prepare(0.0)
    assert rig.cover.loop(0.0) is None and rig.cover.drop(0.0) is None and rig.health.sent == 0
    assert rig.cover.deadline() == 1.0
    for number in range(3, 12):
        rig.directory.apply(node(number), 0.0)
    assert rig.cover.loop(0.5) is None  # asked for in between, it is not looked for
    rig.cover.prepare(1.0)
    assert rig.cover.deadline() == math.inf
    assert rig.cover.loop(1.0) is not None and rig.cover.drop(1.0) is not None
