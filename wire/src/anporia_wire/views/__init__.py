"""What a relay answers besides events, folded from them one at a time.

Each view starts empty, takes each stored event through `apply`, and is read at any time; `snapshot` gives
its state as JSON and `restore` makes it from that. The order of events does not matter, and no content,
however hostile, makes `apply` or `read` raise: a field of the wrong type counts as absent in that one place
(WIRE section 22, row 4). `Views` holds them all and sees to it that each event counts once; `Health` stands
apart, since beats are never stored, and `Bindings`, since it needs more than a relay has.
"""

from __future__ import annotations

from .beacons import Beacons
from .bindings import Bindings
from .capabilities import Capabilities, OfferQuery
from .counts import Counts
from .credit import TREASURY, Credit
from .delegations import Delegations
from .fold import BadSnapshot, Views
from .health import Health
from .intents import IntentQuery, Intents
from .moderation import Moderation
from .neighbors import DIMENSIONS, Neighbors
from .presence import Presence
from .revocations import Revocations
from .rooms import Rooms
from .roster import Roster
from .subscriptions import Subscriptions
from .successors import Successors
from .tasks import Tasks, TaskThread
from .trust import Scores, Trust

__all__ = [
    "DIMENSIONS",
    "TREASURY",
    "BadSnapshot",
    "Beacons",
    "Bindings",
    "Capabilities",
    "Counts",
    "Credit",
    "Delegations",
    "Health",
    "IntentQuery",
    "Intents",
    "Moderation",
    "Neighbors",
    "OfferQuery",
    "Presence",
    "Revocations",
    "Rooms",
    "Roster",
    "Scores",
    "Subscriptions",
    "Successors",
    "TaskThread",
    "Tasks",
    "Trust",
    "Views",
]
