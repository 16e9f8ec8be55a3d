"""Which packets have been here before: one set of tags a mix key, kept as long as the key."""

from __future__ import annotations

__all__ = ["MAX_TAGS", "ReplayCache"]

MAX_TAGS = 1_000_000  # 78 MiB as measured; 70 minutes at 110 packets a second, `fast`, are 462,000


class ReplayCache:
    """Tags of 16 bytes. It forgets none: when it is full, no packet of its key is new; a new key comes before that."""

    def __init__(self, most: int = MAX_TAGS) -> None:
        self._tags: set[bytes] = set()
        self._most = most

    def __len__(self) -> int:
        return len(self._tags)

    @property
    def nearly_full(self) -> bool:
        """Say whether nine tenths of the room are used: time for a new key, and a new cache with it."""
        return 10 * len(self._tags) >= 9 * self._most

    def refuse(self, tag: bytes) -> str | None:
        """Remember a tag; gives why its packet must be dropped, `replay` or `replay_cache_full`, or None."""
        if tag in self._tags:
            return "replay"
        if len(self._tags) >= self._most:
            # forgetting old tags would let the oldest packets through again
            return "replay_cache_full"
        self._tags.add(tag)
        return None
