"""Places in lists, as the opaque texts that clients hand back."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import NamedTuple

from anporia_wire import InvalidFilter

__all__ = ["Cursor", "RankCursor"]


class Cursor(NamedTuple):
    """A place in a newest-first list: the row after which the next page begins."""

    created_at: int
    idkey: int

    def encode(self) -> str:
        """Give the opaque text clients hand back."""
        return _encode(">qq", *self)

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read a cursor. Raises `InvalidFilter`."""
        return cls(*_decode(">qq", text))


class RankCursor(NamedTuple):
    """A place in a list ordered by rank: how many rows were given, of what was indexed up to `upto` then."""

    offset: int
    upto: int

    def encode(self) -> str:
        """Give the opaque text clients hand back."""
        return _encode(">iq", *self)

    @classmethod
    def decode(cls, text: str) -> RankCursor:
        """Read a cursor. Raises `InvalidFilter`."""
        offset, upto = _decode(">iq", text)
        if offset < 0:
            raise InvalidFilter.of("value_error", "cursor", "not a cursor of this relay", text)
        return cls(offset, upto)


def _encode(form: str, *numbers: int) -> str:
    return base64.urlsafe_b64encode(struct.pack(form, *numbers)).decode().rstrip("=")


def _decode(form: str, text: str) -> tuple[int, int]:
    try:
        first, second = struct.unpack(form, base64.b64decode(text + "==", altchars=b"-_", validate=True))
        return first, second
    except (ValueError, binascii.Error, struct.error):
        msg = "not a cursor of this relay; take it from the Link header of the page before"
        raise InvalidFilter.of("value_error", "cursor", msg, text) from None
