"""Conformance as a product: named checks of the wire, for anybody's relay, by its URL.

`check.py` says what a check is, `areas/` holds them, `run.py` asks them, `report.py` says what came.
"""

from .areas import AREAS, CHECKS
from .check import Check, Failed, Skipped
from .client import Client
from .run import Result, Unreachable, meet, run, select

__all__ = ["AREAS", "CHECKS", "Check", "Client", "Failed", "Result", "Skipped", "Unreachable", "meet", "run", "select"]
