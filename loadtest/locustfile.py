"""For plain locust and its web page: `locust -f loadtest/locustfile.py --host http://127.0.0.1:8000`."""

from __future__ import annotations

from anporia_loadtest.swarm.locustfile import Markets, Mischief, Posters, Readers, Streamers

__all__ = ["Markets", "Mischief", "Posters", "Readers", "Streamers"]
