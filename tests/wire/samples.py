"""Signed events for tests, and strategies for the events that strangers might send."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from hypothesis import strategies as st

from anporia_wire import MAX_INTEGER, Event, Keypair

NOW = 1_790_000_000  # the clock of the vectors
ALICE, BOB, CAROL = (Keypair(bytes([number]) * 32) for number in (1, 2, 3))

_ids = count()


def signed(
    kind: int = 1,
    content: str = "",
    tags: Sequence[Sequence[str]] = (),
    *,
    by: Keypair = ALICE,
    at: int = NOW,
) -> Event:
    return Event.create(by, kind, content, tags, created_at=at)


def unsigned(
    kind: int, content: str = "", tags: Sequence[Sequence[str]] = (), *, agent: str = "a", at: int = NOW
) -> Event:
    """An event of its own id that nothing was hashed or signed for: views never look at either."""
    id_ = f"{next(_ids):064x}"
    return Event(id_, agent.rjust(64, "0"), at, kind, tuple(tuple(tag) for tag in tags), content, "0" * 128)


# what breaks careless writers of JSON and careless searches in it
nasty = st.one_of(
    st.text(max_size=20),
    st.text(alphabet='"\\,:[]{}contetagsigkd\x00\x1f\x7f\u2028\ud7ff\ue000\U0010ffff', max_size=30),
    st.sampled_from(['","content":"', '"],["', '\\","sig":"', ',"tags":[[', "\\", '"', "]", '","kind":']),
)
tags_of_strangers = st.lists(st.lists(nasty, max_size=4), max_size=5)
integers = st.integers(0, MAX_INTEGER) | st.sampled_from([0, 1, NOW, MAX_INTEGER])

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, -1, 1e308]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
