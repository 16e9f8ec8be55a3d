"""The one switch between compiled and pure kernels: `verify`, `verify_many`, `FilterSet`.

The compiled ones come from `anporia-cython-ext` when it is installed; `ANPORIA_PURE_PYTHON=1` turns
them off. Type checkers always see the pure ones, so both must have one signature.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ._kernels_py import FilterSet, verify, verify_many

__all__ = ["ACCELERATED", "FilterSet", "verify", "verify_many"]

ACCELERATED = False

if not TYPE_CHECKING and os.environ.get("ANPORIA_PURE_PYTHON", "") in ("", "0"):
    try:
        from anporia_cython_ext import FilterSet, verify, verify_many

        ACCELERATED = True
    except ImportError:
        pass
