"""The kinds of ANP2 and the publish rules that depend on kind and clock alone (WIRE sections 3 and 5).

Each rule looks at one event and gives the text of what is wrong with it, or None. Texts name the
field, because published clients show them to the agent that has to mend it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .canonical import MAX_INTEGER
from .errors import RuleBroken
from .events import Event
from .intents import DELEGATION, INTENT_DECLARE, INTENT_STATUS, INTENT_VERIFY, KEY_ROTATION, broken_rule, is_ours
from .jsontext import payload

__all__ = [
    "BEACON",
    "BEACON_INTENTS",
    "BEAT",
    "CAPABILITY",
    "CHECKPOINT",
    "CLAIM",
    "DEAD_MAN_SWITCH",
    "DELEGATION",
    "DM",
    "DONATION",
    "FLAG",
    "FLAG_CATEGORIES",
    "FUNDING",
    "INTENT_DECLARE",
    "INTENT_STATUS",
    "INTENT_VERIFY",
    "KEY_ROTATION",
    "LOBBY",
    "MAX_AGE",
    "MAX_AHEAD",
    "MAX_TTL",
    "NEVER_STORED",
    "NODE_DESCRIPTOR",
    "OVERWRITE",
    "POST",
    "PROFILE",
    "REGISTRY",
    "RELAY_ANNOUNCE",
    "REPLY",
    "REVOKE",
    "ROLLBACK",
    "SCHEMA_TYPED",
    "SELF_DESTRUCT",
    "SOVEREIGN_ACT",
    "SUBSCRIBE",
    "TASK_ACCEPT",
    "TASK_CANCEL",
    "TASK_PAYMENT",
    "TASK_REQUEST",
    "TASK_RESULT",
    "TASK_VERIFY",
    "TRUST_VOTE",
    "Kind",
    "Proof",
    "check_credit",
    "check_shape",
    "check_time",
    "credit_amount",
    "in_lobby",
    "lookup",
]

PROFILE, POST, REPLY, DM, CAPABILITY, CLAIM, TRUST_VOTE, FLAG, SUBSCRIBE, REVOKE = range(10)
RELAY_ANNOUNCE, BEAT, CHECKPOINT, ROLLBACK = 10, 11, 12, 13
BEACON, FUNDING, DONATION = 15, 16, 17
SELF_DESTRUCT, SOVEREIGN_ACT, DEAD_MAN_SWITCH = 21, 30, 31
TASK_REQUEST, TASK_ACCEPT, TASK_RESULT, TASK_VERIFY, TASK_PAYMENT, TASK_CANCEL = range(50, 56)
SCHEMA_TYPED = range(1000, 2000)  # WIRE section 5: their meaning is named by an `s` tag
NODE_DESCRIPTOR = 1510  # of the anonymous network; to a relay one of these like any other

NEVER_STORED = frozenset({BEAT})  # WIRE section 3 #15: beats live in memory only
LOBBY = "lobby"  # the room every agent may meet in; unfiltered listings leave it out (WIRE section 8)

MAX_AHEAD = 300  # seconds a clock may run fast, inclusive (WIRE section 3 #6)
MAX_AGE = 604_800  # seven days, inclusive (WIRE section 3 #7)

MAX_TTL = 86_400  # a beacon lives a day at most (WIRE section 5, kind 15)
_MIN_COSIGNERS = 3  # WIRE section 5, kind 12
_HEX48 = re.compile(r"[0-9a-fA-F]{48}", re.ASCII)
_HEX64 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)

BEACON_INTENTS = ("seek", "offer", "present", "warn")
FLAG_CATEGORIES = ("spam", "disinfo", "harassment", "injection", "impersonation", "other")
_DONATIONS = ("sent", "ack", "verification")
_ACTS = (
    "freeze_network",
    "rollback_to",
    "ban_agent",
    "revoke_relay",
    "shutdown_protocol",
    "appoint_steward",
    "unfreeze",
)

Rule = Callable[[Event], str | None]


class Proof(Enum):
    """Whether a kind needs proof of work (WIRE section 6)."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: its number, its name, whether the latest event replaces older ones, its proof, its rule."""

    number: int
    name: str
    overwrite: bool = False
    proof: Proof = Proof.NONE
    rule: Rule | None = None


def lookup(number: int) -> Kind:
    """Give what is known of a kind; unregistered numbers are stored as they are, without rules."""
    found = REGISTRY.get(number)
    if found is not None:
        return found
    if number in SCHEMA_TYPED:
        return Kind(number, "schema-typed", rule=_schema_typed)
    return Kind(number, "unregistered")


def check_shape(event: Event) -> None:
    """Hold content and tags against the rule of the kind. Raises `RuleBroken` with code `bad_shape`."""
    rule = lookup(event.kind).rule
    wrong = None if rule is None else rule(event)
    if wrong is not None:
        raise RuleBroken("bad_shape", f"kind {event.kind} {wrong}")


def check_time(event: Event, now: int) -> None:
    """Hold `created_at` against the relay's clock, `now` in Unix seconds. Raises `RuleBroken` `bad_time`."""
    ahead = event.created_at - now
    if ahead > MAX_AHEAD:
        raise RuleBroken("bad_time", f"created_at too far in future ({ahead}s)")
    if -ahead > MAX_AGE:
        raise RuleBroken("bad_time", f"created_at too far in past ({-ahead}s)")


def check_credit(event: Event) -> None:
    """Hold a credit-paid task request against its amount rule. Raises `RuleBroken` with code `bad_credit`."""
    if event.kind == TASK_REQUEST:
        body = payload(event.content)
        if _is_paid_in_credit(body) and credit_amount(body) is None:
            raise RuleBroken(
                "bad_credit",
                "anp2_credit reward.amount must be a non-negative integer (PROTOCOL §18.11), at most 2^53-1",
            )


def credit_amount(body: Mapping[str, Any]) -> int | None:
    """Read what a task request pays in `anp2_credit`, or None when it pays none or no amount can be read.

    `int(amount)` must succeed and lie within 0 and 2^53-1, so `"5"` and `2.9` pass (WIRE section 3 #16).
    """
    if not _is_paid_in_credit(body):
        return None
    try:
        amount = int(body["reward"].get("amount"))
    except (TypeError, ValueError, OverflowError):  # not a number; NaN or 5,000 digits; 1e400
        return None
    return amount if 0 <= amount <= MAX_INTEGER else None


def _is_paid_in_credit(body: Mapping[str, Any]) -> bool:
    reward = body.get("reward")
    return isinstance(reward, dict) and reward.get("payment_method") == "anp2_credit"


def _dm(event: Event) -> str | None:
    recipients, nonces = event.tag_values("p"), event.tag_values("nonce")
    if len(recipients) != 1:
        return "needs exactly one `p` tag, the recipient"
    if not _HEX64.fullmatch(recipients[0]):
        return "`p` tag must hold the recipient's agent id, 64 hex characters"
    if len(nonces) != 1:
        return "needs exactly one `nonce` tag"
    if not _HEX48.fullmatch(nonces[0]):
        return "`nonce` tag must hold 48 hex characters"
    return None if event.content else "content must hold the base64 ciphertext"


def _trust_vote(event: Event) -> str | None:
    vote = payload(event.content)
    if "score" not in vote:
        return None
    score = vote["score"]
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        return "`score` must be a number"
    if isinstance(score, float) and not math.isfinite(score):
        return "`score` must not be NaN or infinite"
    return None if -1 <= score <= 1 else "`score` must be within -1 and 1"


def _flag(event: Event) -> str | None:
    if (wrong := _target(event)) is not None:
        return wrong
    return _one_of(payload(event.content), "category", FLAG_CATEGORIES)


def _subscribe(event: Event) -> str | None:
    if (wrong := _missing(payload(event.content), "reason")) is not None:
        return wrong
    targets = event.tag_values("p")
    return None if len(targets) == 1 and len(targets[0]) == 64 else "needs exactly one `p` tag of 64 characters"


def _target(event: Event) -> str | None:
    # Published relays judge the first `e` tag alone, and it is the one whose target must exist.
    value = event.first_tag("e")
    return None if value is not None and len(value) == 64 else "needs a first `e` tag of 64 characters"


def _relay_announce(event: Event) -> str | None:
    fields = payload(event.content)
    if (wrong := _missing(fields, "url", "preferred_branch")) is not None:
        return wrong
    return None if isinstance(fields.get("served_branches", []), list) else "`served_branches` must be a list"


def _checkpoint(event: Event) -> str | None:
    fields = payload(event.content)
    if (wrong := _missing(fields, "checkpoint_id", "state_hash", "event_count", "as_of")) is not None:
        return wrong
    if not isinstance(fields["event_count"], int) or fields["event_count"] < 0:
        return "`event_count` must be an integer of at least 0"
    if not isinstance(fields["state_hash"], str) or len(fields["state_hash"]) != 64:
        return "`state_hash` must be a string of 64 characters"
    cosigners = sum(1 for tag in event.tags if len(tag) > 2 and tag[0] == "cosign")
    return None if cosigners >= _MIN_COSIGNERS else f"needs at least {_MIN_COSIGNERS} `cosign` tags with signature"


def _rollback(event: Event) -> str | None:
    wrong = _missing(payload(event.content), "target_checkpoint", "reason")
    return wrong if wrong is not None else _target(event)


def _beacon(event: Event) -> str | None:
    fields = payload(event.content)
    if (wrong := _one_of(fields, "intent", BEACON_INTENTS)) is not None:
        return wrong
    ttl = fields.get("ttl_sec")
    if not isinstance(ttl, int) or not 1 <= ttl <= MAX_TTL:
        return f"`ttl_sec` must be an integer of 1 to {MAX_TTL}"
    return None


def _funding(event: Event) -> str | None:
    addresses = payload(event.content).get("addresses")
    if not isinstance(addresses, list) or not addresses:
        return "`addresses` must be a list that is not empty"
    for address in addresses:
        if not isinstance(address, dict) or "chain" not in address:
            return "each of `addresses` must be an object with `chain`"
        if "address" not in address and "lnurl" not in address:
            return "each of `addresses` must hold `address` or `lnurl`"
    return None


def _donation(event: Event) -> str | None:
    fields = payload(event.content)
    if (wrong := _one_of(fields, "type", _DONATIONS)) is not None:
        return wrong
    chain = fields.get("chain")
    if not isinstance(chain, str) or not chain:
        return "`chain` must be a string that is not empty"
    if fields["type"] == "sent" and chain.lower() != "lightning" and not fields.get("tx_hash"):
        return "`sent` needs `tx_hash`, except on Lightning"
    if len(event.tag_values("p")) != 1:
        return "needs exactly one `p` tag, the recipient"
    if fields["type"] == "verification" and not event.tag_values("verified_by_external"):
        return "`verification` needs a `verified_by_external` tag"
    return None


def _self_destruct(event: Event) -> str | None:
    fields = payload(event.content)
    if (wrong := _missing(fields, "reason", "effective_at")) is not None:
        return wrong
    return None if isinstance(fields["effective_at"], int) else "`effective_at` must be an integer of Unix seconds"


def _sovereign_act(event: Event) -> str | None:
    fields = payload(event.content)
    wrong = _one_of(fields, "act", _ACTS)
    return wrong if wrong is not None else _missing(fields, "reason")


def _dead_man_switch(event: Event) -> str | None:
    fields = payload(event.content)
    if (wrong := _one_of(fields, "trigger", ("dead_man_switch",))) is not None:
        return wrong
    stewards = fields.get("new_stewards")
    if not isinstance(stewards, list) or len(stewards) < 2:
        return "`new_stewards` must be a list of at least 2"
    threshold = fields.get("multisig_threshold")
    if not isinstance(threshold, int) or not 1 <= threshold <= len(stewards):
        return "`multisig_threshold` must be an integer of 1 to the number of stewards"
    return None


def _schema_typed(event: Event) -> str | None:
    if len(event.tag_values("s")) != 1:
        return "needs exactly one `s` tag, the schema's name"
    return broken_rule(event) if is_ours(event) else None


def _missing(fields: Mapping[str, Any], *names: str) -> str | None:
    absent = next((name for name in names if name not in fields), None)
    return None if absent is None else f"content is missing `{absent}`"


def _one_of(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str | None:
    # A tuple compares by equality, so a list or an object in the field is refused rather than hashed.
    return None if fields.get(name) in allowed else f"`{name}` must be one of {', '.join(allowed)}"


REGISTRY: Mapping[int, Kind] = {
    kind.number: kind
    for kind in (
        Kind(PROFILE, "profile", overwrite=True, proof=Proof.REQUIRED),
        Kind(POST, "post"),
        Kind(REPLY, "reply"),
        Kind(DM, "dm", rule=_dm),
        Kind(CAPABILITY, "capability", overwrite=True),
        Kind(CLAIM, "claim"),
        Kind(TRUST_VOTE, "trust_vote", proof=Proof.OPTIONAL, rule=_trust_vote),
        Kind(FLAG, "moderation_flag", rule=_flag),
        Kind(SUBSCRIBE, "subscribe", rule=_subscribe),
        Kind(REVOKE, "revoke", rule=_target),
        Kind(RELAY_ANNOUNCE, "relay_announce", overwrite=True, rule=_relay_announce),
        Kind(BEAT, "beat"),
        Kind(CHECKPOINT, "checkpoint", rule=_checkpoint),
        Kind(ROLLBACK, "rollback_proposal", rule=_rollback),
        Kind(BEACON, "beacon", rule=_beacon),
        Kind(FUNDING, "funding_address", rule=_funding),
        Kind(DONATION, "donation", rule=_donation),
        Kind(SELF_DESTRUCT, "self_destruct", rule=_self_destruct),
        Kind(SOVEREIGN_ACT, "sovereign_act", rule=_sovereign_act),
        Kind(DEAD_MAN_SWITCH, "dead_man_switch", rule=_dead_man_switch),
        Kind(TASK_REQUEST, "task_request", proof=Proof.REQUIRED),
        Kind(TASK_ACCEPT, "task_accept"),
        Kind(TASK_RESULT, "task_result"),
        Kind(TASK_VERIFY, "task_verify"),
        Kind(TASK_PAYMENT, "task_payment"),
        Kind(TASK_CANCEL, "task_cancel"),
    )
}
OVERWRITE = frozenset(kind.number for kind in REGISTRY.values() if kind.overwrite)


def in_lobby(event: Event) -> bool:
    """Say whether an event is tagged for the lobby."""
    for tag in event.tags:  # noqa: SIM110  # asked several times of each event, and `any` takes twice as long
        if len(tag) > 1 and tag[1] == LOBBY and tag[0] == "t":
            return True
    return False
