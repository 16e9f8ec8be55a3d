"""Anporia's relay: takes, proves, keeps and serves signed events. Read `pipeline.py` first."""

from .app import Relay
from .config import Config
from .errors import ConfigError, Rejected
from .pipeline import Accepted, Pipeline

__all__ = ["Accepted", "Config", "ConfigError", "Pipeline", "Rejected", "Relay"]
