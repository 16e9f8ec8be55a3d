"""What a node says of itself, kind 1510: its keys and where it can be reached. All nodes know all of these.

A node signs with a hybrid key of its own, never with an agent's: descriptors hold network addresses, and an author
whose key had signed one could be found by it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from anporia_wire import MAX_INTEGER, Event, InvalidEvent, is_id, pow, pq
from anporia_wire.jsontext import BadJson, parse
from anporia_wire.kinds import NODE_DESCRIPTOR

from ..crypto import xwing
from ..crypto.hybrid import HybridKeypair
from ..errors import BadDescriptor, BadKey
from .profiles import PROFILES

__all__ = [
    "MAX_ADDRESSES",
    "MAX_BYTES",
    "MAX_FAMILY",
    "MAX_MIX_KEYS",
    "MAX_WINDOW",
    "MIN_BITS",
    "MIN_WINDOW",
    "SCHEMA",
    "Descriptor",
    "MixKey",
    "describe",
    "node_id",
    "read",
]

SCHEMA = "anporia.node.v1"
_NODE_LABEL = b"anporia/p2p/node/v1"

MIN_BITS = 20  # of proof of work, some seconds: 16 nodes placed around a key of the DHT cost minutes, not nothing
MAX_MIX_KEYS = 3  # the one before, the one now, the one after
MIN_WINDOW = 3_600  # seconds: a key that serves for a moment would tell when a packet was sealed with it
MAX_WINDOW = 2 * 86_400  # seconds a mix key serves: when it is gone, what was recorded for it stays closed
MAX_ADDRESSES = 4  # IPv4, IPv6, a name, and one to spare
MAX_FAMILY = 16  # other nodes of the same operator: a path takes one of them
MAX_BYTES = 20 * 1024  # of content and tags in UTF-8; the largest that keeps all rules has 16 kB

_NAME_CHARS = 253  # RFC 1035, section 3.1, without the last dot
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)  # RFC 1123, section 2.1, lower case
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_IPV4_GROUP, _IPV6_GROUP = 16, 32  # bits of what one provider has: two nodes in one group are taken for one operator's


@dataclass(frozen=True, slots=True)
class MixKey:
    """A key packets are sealed for, from `since` up to but not including `until`.

    Both in Unix seconds, `MIN_WINDOW` to `MAX_WINDOW` apart; `key`: an X-Wing public key, 1,216 bytes.
    """

    since: int
    until: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A node as one event describes it; one that `read` gave keeps every rule.

    `node_id`: what `node_id` gives, 32 bytes; `link_key`: X-Wing, 1,216 bytes; `mix_keys`: 1 to 3; `addresses`: at
    most 4 of `host:port`; `family`: at most 16 node ids; `profile`: a name of `PROFILES`; `created_at`: Unix seconds;
    `event_id` and `agent_id` (who signed): 64 hex. Nothing here proves that the signer has the link key; who answers at
    an address proves that. Raises `BadDescriptor` for addresses of another form.
    """

    node_id: bytes
    link_key: bytes
    mix_keys: tuple[MixKey, ...]
    addresses: tuple[str, ...]
    family: frozenset[bytes]
    profile: str
    created_at: int
    event_id: str
    agent_id: str
    _groups: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # once: choosing a path asks for it at every draw
        object.__setattr__(self, "_groups", frozenset(_group(_split_address(one)[0]) for one in self.addresses))

    def mix_key(self, now: float) -> MixKey | None:
        """Give the newest key that is valid at `now` (Unix seconds), or None."""
        valid = (key for key in self.mix_keys if key.since <= now < key.until)
        return max(valid, key=lambda key: (key.since, key.until, key.key), default=None)

    def related(self, other: Descriptor) -> bool:
        """Say whether one operator may run both: the same node, the same network, or a family that both declare.

        Both, since who names others as its family on its own would keep them off all paths that it is on.
        """
        return (
            self.node_id == other.node_id
            or (self.node_id in other.family and other.node_id in self.family)
            or not self._groups.isdisjoint(other._groups)
        )

    def network_groups(self) -> frozenset[str]:
        """Give the networks its addresses are in: the /16 of IPv4, the /32 of IPv6, of host names the name itself."""
        return self._groups


def node_id(address: str, link_key: bytes) -> bytes:
    """Give a node's id, 32 bytes: a hash of its signer's address (`pq.address`, 64 hex) and its X-Wing link key.

    With the signer in it nobody else can describe the node; with the link key, nobody can be dialled in its place.
    """
    return hashlib.sha256(_NODE_LABEL + bytes.fromhex(address) + link_key).digest()


def describe(
    keys: HybridKeypair,
    *,
    link_key: bytes,
    mix_keys: Sequence[MixKey],
    addresses: Sequence[str] = (),
    family: Iterable[bytes] = (),
    profile: str,
    created_at: int,
    bits: int = MIN_BITS,
) -> Event:
    """Write, sign and mine a node's descriptor; `keys` are the node's own, `created_at` in Unix seconds.

    Mining 20 bits takes some seconds, and `bits` of 0 leaves the proof out. Raises `BadDescriptor` for what `read`
    would refuse, before it signs or mines; `ValueError` for `bits` beyond 24.
    """
    fields = {
        "v": 1,
        "node": node_id(keys.address, link_key).hex(),
        "link_key": pq.to_base64url(link_key),
        "mix_keys": [{"from": one.since, "until": one.until, "key": pq.to_base64url(one.key)} for one in mix_keys],
        "addresses": list(addresses),
        "family": sorted(one.hex() for one in family),
        "profile": profile,
    }
    _check_keys(_said(fields, created_at, "", keys.agent_id, keys.address))
    tags = [("s", SCHEMA), pq.key_tag(keys.public)]
    return keys.sign_event(NODE_DESCRIPTOR, orjson.dumps(fields).decode(), tags, created_at, bits)


def read(event: Event, *, min_bits: int = MIN_BITS) -> Descriptor:
    """Read a descriptor off a stranger's event, whole or not at all; what it gives a directory need not check again.

    Checks the cheap first: kind, sizes, schema, proof of work, content; then `Event.check`, the ML-DSA half, and that
    each key can be sealed for; 0.2 to 1 ms in all. There is no clock here: whether it is of yesterday or of next year
    is for the directory. Raises `BadDescriptor`, which says what is wrong.
    """
    if event.kind != NODE_DESCRIPTOR:
        raise BadDescriptor(f"kind {event.kind} is not {NODE_DESCRIPTOR}")
    texts = (event.content, *(member for tag in event.tags for member in tag))
    if sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) > MAX_BYTES:
        raise BadDescriptor(f"content and tags exceed {MAX_BYTES} bytes")
    if [tag for tag in event.tags if tag and tag[0] == "s"] != [("s", SCHEMA)]:
        raise BadDescriptor(f"needs exactly one `s` tag, {SCHEMA}")
    _check_proof(event, min_bits)
    try:
        fields = parse(event.content.encode())
    except (BadJson, UnicodeEncodeError):
        raise BadDescriptor("content is not JSON") from None
    public = pq.claimed_key(event)
    if public is None:
        raise BadDescriptor("needs a `pq_key` tag with the node's ML-DSA-65 key")
    said = _said(fields, event.created_at, event.id, event.agent_id, pq.address(event.agent_id, public))
    try:
        event.check()
    except InvalidEvent as exc:
        raise BadDescriptor(str(exc)) from None
    if pq.bound_key(event) is None:
        raise BadDescriptor("no ML-DSA key is bound: `pq_key` and `pq_sig` do not hold")
    _check_keys(said)
    return said


def _check_proof(event: Event, min_bits: int) -> None:
    if min_bits <= 0:
        return
    declared = pow.declared_bits(event.tags)
    if declared is None or declared < min_bits:
        raise BadDescriptor(f"needs a proof of work of {min_bits} bits")
    if pow.leading_zero_bits(event.id) < declared:  # the id may be a lie still; `Event.check` sees that
        raise BadDescriptor(f"the id does not have the {declared} bits of work it declares")


def _said(fields: object, created_at: int, event_id: str, agent_id: str, address: str) -> Descriptor:
    """Read the content's fields, holding each against its rule; whether keys work is not asked here."""
    if not isinstance(fields, dict):
        raise BadDescriptor("content must be a JSON object")
    if type(fields.get("v")) is not int or fields["v"] != 1:
        raise BadDescriptor("`v` must be 1")
    link_key = _key(fields.get("link_key"), "link_key")
    node = node_id(address, link_key)
    if fields.get("node") != node.hex():
        raise BadDescriptor("`node` must be the hash of the signer's address and the link key, in hex")
    mix_keys = tuple(_mix_key(one) for one in _texts_or_objects(fields, "mix_keys", 1, MAX_MIX_KEYS))
    addresses = tuple(map(_address, _texts_or_objects(fields, "addresses", 0, MAX_ADDRESSES)))
    family = [_member(one) for one in _texts_or_objects(fields, "family", 0, MAX_FAMILY)]
    if len(set(addresses)) != len(addresses) or len(set(family)) != len(family):
        raise BadDescriptor("`addresses` and `family` must name each one once")
    profile = fields.get("profile")
    if not isinstance(profile, str) or profile not in PROFILES:
        raise BadDescriptor(f"`profile` must be one of {', '.join(PROFILES)}")
    return Descriptor(node, link_key, mix_keys, addresses, frozenset(family), profile, created_at, event_id, agent_id)


def _texts_or_objects(fields: Mapping[str, Any], name: str, least: int, most: int) -> list[Any]:
    given = fields.get(name)
    if not isinstance(given, list) or not least <= len(given) <= most:
        raise BadDescriptor(f"`{name}` must be a list of {least} to {most}")
    return given


def _mix_key(given: object) -> MixKey:
    if not isinstance(given, dict):
        raise BadDescriptor("each of `mix_keys` must be an object")
    since, until = _seconds(given.get("from")), _seconds(given.get("until"))
    if not MIN_WINDOW <= until - since <= MAX_WINDOW:
        raise BadDescriptor(f"a mix key must serve for {MIN_WINDOW} to {MAX_WINDOW} seconds")
    return MixKey(since, until, _key(given.get("key"), "key"))


def _seconds(given: object) -> int:
    if type(given) is not int or not 0 <= given <= MAX_INTEGER:
        raise BadDescriptor("`from` and `until` must be integers of Unix seconds")
    return given


def _key(given: object, name: str) -> bytes:
    key = pq.from_base64url(given, xwing.PUBLIC_BYTES) if isinstance(given, str) else None
    if key is None:
        raise BadDescriptor(f"`{name}` must be {xwing.PUBLIC_BYTES} bytes in base64url without padding")
    return key


def _member(given: object) -> bytes:
    if not isinstance(given, str) or not is_id(given):
        raise BadDescriptor("each of `family` must be a node id of 64 lower-case hex characters")
    return bytes.fromhex(given)


def _address(given: object) -> str:
    if not isinstance(given, str):
        raise BadDescriptor("each of `addresses` must be a string")
    _split_address(given)
    return given


def _split_address(address: str) -> tuple[str, int]:
    """Split `host:port`, where the host is IPv4, IPv6 in brackets or a name, each in its one form."""
    host, _, port = address.rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > 65_535 or not _is_host(host):
        raise BadDescriptor("each of `addresses` must be host:port: IPv4, [IPv6] or a lower-case host name")
    return host, int(port)


def _is_host(host: str) -> bool:
    if len(host) > _NAME_CHARS:
        return False
    if host.startswith("[") and host.endswith("]"):
        return _is_plain_ipv6(host[1:-1])
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        pass
    labels = host.split(".")
    # a last label that begins with a digit is what resolvers read as an IPv4 address: 127.1, 0x7f000001
    return all(map(_HOST_LABEL.fullmatch, labels)) and not labels[-1][0].isdigit()


def _is_plain_ipv6(text: str) -> bool:
    try:
        ip = ipaddress.IPv6Address(text)
    except ValueError:
        return False
    # an IPv4 address inside would be in another group than it is; a zone means something on one machine only
    return ip.ipv4_mapped is None and ip.sixtofour is None and ip.scope_id is None and str(ip) == text


def _group(host: str) -> str:
    if host.startswith("["):
        return str(ipaddress.ip_network((host[1:-1], _IPV6_GROUP), strict=False))
    try:
        return str(ipaddress.ip_network((host, _IPV4_GROUP), strict=False))
    except ValueError:
        return host


def _check_keys(said: Descriptor) -> None:
    """Read each key: one that cannot be sealed for would fail every path through the node."""
    for raw in (said.link_key, *(one.key for one in said.mix_keys)):
        try:
            xwing.PublicKey(raw)
        except BadKey as exc:
            raise BadDescriptor(f"a key cannot be used: {exc}") from None
