"""The bytes that are hashed and signed, and the JSON form that is stored and sent.

canonical bytes = RFC 8785 form of `[agent_id, created_at, kind, tags, content]` (ANP2 section 4).
For strings and integers up to 2^53-1 orjson writes exactly RFC 8785; floats and booleans never
reach this module because `events` refuses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import orjson

__all__ = ["MAX_INTEGER", "canonical_bytes", "event_id", "id_of_serialised", "is_id", "splice_canonical"]

MAX_INTEGER = 2**53 - 1  # RFC 8785 section 3.1: the integers every JSON reader keeps exact

_HEAD, _AGENT_KEY, _TIME_KEY = b'{"id":"', b'","agent_id":"', b'","created_at":'
_SIG_KEY, _END = b',"sig":"', b'"}'
_ID = slice(len(_HEAD), len(_HEAD) + 64)
_AGENT = slice(_ID.stop + len(_AGENT_KEY), _ID.stop + len(_AGENT_KEY) + 64)
_TIME = _AGENT.stop + len(_TIME_KEY)
_SIG_TAIL = len(_SIG_KEY) + 128 + len(_END)


def is_id(text: str) -> bool:
    """Say whether a text is 64 lower-case hex characters, as ids of events and agents are."""
    return len(text) == 64 and not text.strip("0123456789abcdef")


def canonical_bytes(agent_id: str, created_at: int, kind: int, tags: Sequence[Sequence[str]], content: str) -> bytes:
    """Serialise the five signed fields. Raises `TypeError` for strings with lone surrogates."""
    return orjson.dumps((agent_id, created_at, kind, tags, content))


def event_id(canonical: bytes) -> str:
    """Hash canonical bytes into the event's id: 64 lower-case hex characters."""
    return sha256(canonical).hexdigest()


def splice_canonical(serialised: bytes) -> bytes:
    """Cut the canonical bytes out of an event serialised by `Event.to_json`, without parsing it.

    Keys stand in a fixed order there, and `,"content":` cannot occur inside a JSON string (its quote
    would be escaped) nor inside the tags (they hold no objects), so the first hit is the key itself.
    Raises `ValueError` when the bytes are not of that form.
    """
    if not (
        serialised.startswith(_HEAD)
        and serialised.startswith(_AGENT_KEY, _ID.stop)
        and serialised.startswith(_TIME_KEY, _AGENT.stop)
        and serialised.startswith(_SIG_KEY, -_SIG_TAIL)
        and serialised.endswith(_END)
    ):
        raise ValueError("not an event serialised by Event.to_json")
    kind = serialised.index(b',"kind":', _TIME)
    tags = serialised.index(b',"tags":', kind)
    content = serialised.index(b',"content":', tags)
    return b'["%b",%b,%b,%b,%b]' % (
        serialised[_AGENT],
        serialised[_TIME:kind],
        serialised[kind + 8 : tags],
        serialised[tags + 8 : content],
        serialised[content + 11 : -_SIG_TAIL],
    )


def id_of_serialised(serialised: bytes) -> str | None:
    """Give the id of a serialised event, or None when the bytes no longer hash to it.

    A store calls this on each row it serves, so that damage on disk is never passed on; of the
    signature it sees that it is hex, so that the whole is JSON, since the id does not cover it.
    """
    if serialised[-len(_END) - 128 : -len(_END)].translate(None, b"0123456789abcdef"):
        return None
    try:
        true = sha256(splice_canonical(serialised)).hexdigest()
    except ValueError:
        return None
    return true if serialised[_ID] == true.encode() else None
