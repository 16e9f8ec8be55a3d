"""Compiled kernels of Anporia: signature checks off the GIL, and matching of many filters at once.

Import them through `anporia_wire.kernels`, which falls back to pure twins.
"""

from __future__ import annotations

from ._match import FilterSet
from ._verify import verify, verify_many

__all__ = ["FilterSet", "verify", "verify_many"]
