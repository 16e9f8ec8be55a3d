"""Pure twins of the compiled kernels; the oracle their tests compare with."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import nacl.bindings
import nacl.exceptions

__all__ = ["FilterSet", "verify", "verify_many"]


class _Event(Protocol):
    @property
    def agent_id(self) -> str: ...
    @property
    def created_at(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def tags(self) -> tuple[tuple[str, ...], ...]: ...


class _Filter(Protocol):
    @property
    def kinds(self) -> frozenset[int] | None: ...
    @property
    def authors(self) -> frozenset[str] | None: ...
    @property
    def t(self) -> str | None: ...
    @property
    def p(self) -> str | None: ...
    @property
    def since(self) -> int | None: ...
    @property
    def until(self) -> int | None: ...


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether a 64-byte Ed25519 signature holds, by libsodium's rule.

    Keys of small order, non-canonical points and S >= L are refused. Wrong lengths are False.
    """
    if len(public_key) != 32 or len(signature) != 64:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public_key)
    except (nacl.exceptions.BadSignatureError, ValueError):
        return False
    return True


def verify_many(batch: Sequence[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """Verify (public key, message, signature) triples; one answer each, in order."""
    return [verify(*item) for item in tuple(batch)]


class FilterSet:
    """Many filters, asked at once which of them an event matches."""

    def __init__(self) -> None:
        self._filters: dict[Hashable, _Filter] = {}

    def __len__(self) -> int:
        return len(self._filters)

    def add(self, key: Hashable, filter_: _Filter) -> None:
        """Register a filter under a key; an existing key is replaced."""
        self._filters[key] = filter_

    def discard(self, key: Hashable) -> None:
        """Forget a key; unknown keys are ignored."""
        self._filters.pop(key, None)

    def match(self, event: _Event) -> list[Hashable]:
        """Give the keys of all filters that match the event, each once, in no particular order."""
        t = {tag[1] for tag in event.tags if len(tag) > 1 and tag[0] == "t"}
        p = {tag[1] for tag in event.tags if len(tag) > 1 and tag[0] == "p"}
        return [
            key
            for key, f in self._filters.items()
            if (f.kinds is None or event.kind in f.kinds)
            and (f.authors is None or event.agent_id in f.authors)
            and (f.t is None or f.t in t)
            and (f.p is None or f.p in p)
            and (f.since is None or event.created_at >= f.since)
            and (f.until is None or event.created_at <= f.until)
        ]
