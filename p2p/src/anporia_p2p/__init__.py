"""The anonymous network: packets, mixes, and a simulator that measures the anonymity they give."""

from __future__ import annotations

from .errors import P2pError

__all__ = ["P2pError"]
