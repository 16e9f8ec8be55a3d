"""Key derivation: HKDF-Expand with SHA-256 (RFC 5869), and the labels under which each key is made.

A label is used for one purpose only. Its version is part of it, so that two versions of a format never share a key.
"""

from __future__ import annotations

import hmac

__all__ = ["HOP", "REPLY", "expand"]

HOP = b"anporia/p2p/hop/v1"
"""The keys of one hop, from the hop's shared secret."""
REPLY = b"anporia/p2p/reply/v1"
"""The keys of a reply's payload, from the seed in the reply block."""

_BLOCK = 32  # bytes SHA-256 gives
_MAX_BYTES = 255 * _BLOCK  # RFC 5869, section 2.3


def expand(key: bytes, label: bytes, length: int) -> bytes:
    """Derive `length` bytes (1 to 8,160) from a uniformly random 32-byte key: HKDF-Expand (RFC 5869, section 2.3).

    There is no Extract step: what X-Wing gives is uniform already. Raises `ValueError` for another length.
    """
    if not 1 <= length <= _MAX_BYTES:
        raise ValueError(f"HKDF-Expand gives 1 to {_MAX_BYTES} bytes, not {length}")
    block, blocks = b"", []
    for counter in range(1, -(-length // _BLOCK) + 1):
        block = hmac.digest(key, block + label + bytes((counter,)), "sha256")
        blocks.append(block)
    return b"".join(blocks)[:length]
