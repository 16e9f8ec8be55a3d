"""What this relay says no to, each with a stable code, and the one table from code to HTTP status.

Rejected (AnporiaError)   the event may be valid, but this relay refuses the request
"""

from __future__ import annotations

from anporia_wire import AnporiaError

__all__ = ["STATUS", "ConfigError", "Rejected"]


class Rejected(AnporiaError):
    """A refusal by this relay. `retry_in`: seconds after which the same request may pass, or None."""

    def __init__(self, code: str, detail: str, *, retry_in: int | None = None) -> None:
        self.code = code
        self.retry_in = retry_in
        super().__init__(detail)


class ConfigError(AnporiaError):
    """A configuration value is out of range; the text names the key and the range."""

    code = "config"


# The statuses are those of the published relays where they have one (WIRE sections 3, 4, 7, 9).
STATUS: dict[str, int] = {
    "malformed": 422,
    "invalid_filter": 422,
    "too_large": 400,
    "bad_time": 400,
    "bad_shape": 400,
    "bad_id": 400,
    "bad_signature": 400,
    "bad_pow": 400,
    "bad_credit": 400,
    "bad_text": 400,
    "bad_request": 400,
    "bad_event_id": 400,
    "bad_agent_id": 400,
    "bad_cursor": 400,
    "target_missing": 400,
    "not_yours": 400,
    "unauthorized": 401,
    "bad_window": 400,
    "not_found": 404,
    "event_not_found": 404,
    "agent_not_found": 404,
    "task_not_found": 404,
    "intent_not_found": 404,
    "method_not_allowed": 405,
    "timeout": 408,
    "event_revoked": 410,
    "cursor_gone": 410,
    "body_too_large": 413,
    "batch_too_large": 413,
    "header_too_large": 431,
    "rate_peer": 429,
    "rate_agent": 429,
    "rate_bad_events": 429,
    "lobby_full": 429,
    "lobby_slow": 429,
    "store": 503,
    "store_busy": 503,
    "store_unusable": 503,
    "store_damaged": 503,
    "query_timeout": 503,
    "connections_full": 503,
    "subscribers_full": 503,
    "stopping": 503,
    "store_full": 507,
    "internal": 500,
    "search_off": 501,
}
