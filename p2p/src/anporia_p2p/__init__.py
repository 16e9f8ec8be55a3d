"""The anonymous network: packets, mixes, and a simulator that measures the anonymity they give.

The simulator (`anporia_p2p.sim`) needs `anporia-p2p[sim]`; nothing here imports it.
"""

from __future__ import annotations

from . import sphinx
from .crypto.hybrid import HybridKeypair
from .errors import (
    REASONS,
    BadDescriptor,
    BadKey,
    BadPacket,
    BadPath,
    BodyTooLarge,
    NoPath,
    P2pError,
    QueueFull,
)
from .mix.core import Mix
from .mix.descriptor import Descriptor, MixKey, describe, node_id
from .mix.descriptor import read as read_descriptor
from .mix.directory import Directory
from .mix.effects import Deliver, Effect, Failed, NewMixKey, Reply, Send, Service
from .mix.guards import Guard
from .mix.packets import Packets, SphinxPackets
from .mix.profiles import PROFILES, Profile

__all__ = [
    "PROFILES",
    "REASONS",
    "BadDescriptor",
    "BadKey",
    "BadPacket",
    "BadPath",
    "BodyTooLarge",
    "Deliver",
    "Descriptor",
    "Directory",
    "Effect",
    "Failed",
    "Guard",
    "HybridKeypair",
    "Mix",
    "MixKey",
    "NewMixKey",
    "NoPath",
    "P2pError",
    "Packets",
    "Profile",
    "QueueFull",
    "Reply",
    "Send",
    "Service",
    "SphinxPackets",
    "describe",
    "node_id",
    "read_descriptor",
    "sphinx",
]
