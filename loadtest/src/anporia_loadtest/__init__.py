"""Is a relay right under load? Agents of every kind by locust, and a verdict. `anporia-loadtest` runs it."""

from __future__ import annotations

from .observations import Observations
from .verdict import Verdict, judge

__all__ = ["Observations", "Verdict", "__version__", "judge"]

__version__ = "0.3.0"
