"""What a relay answers besides events, folded from them one at a time.

Each view starts empty, takes each stored event once through `apply`, and is read at any time. The
order of events does not matter, and no content, however hostile, makes `apply` or `read` raise:
a field of the wrong type counts as absent in that one place (WIRE section 22, row 4).
"""

from __future__ import annotations

from .capabilities import Capabilities, OfferQuery
from .counts import Counts
from .health import Health
from .rooms import Rooms
from .roster import Roster

__all__ = ["Capabilities", "Counts", "Health", "OfferQuery", "Rooms", "Roster"]
