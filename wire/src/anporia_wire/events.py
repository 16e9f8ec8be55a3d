"""The signed event: the one thing all of Anporia speaks. A frozen value; no I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from . import jsontext, kernels
from .canonical import MAX_INTEGER, canonical_bytes, event_id
from .errors import BadId, BadSignature, EventTooLarge, MalformedEvent, Problem
from .keys import Keypair

__all__ = ["MAX_CONTENT_BYTES", "MAX_EVENT_BYTES", "MAX_TAGS", "MAX_TAG_MEMBER_BYTES", "Event", "Tags"]

MAX_CONTENT_BYTES = 65_536  # ANP2 section 5, enforced by published relays
MAX_TAGS = 32  # the same
MAX_TAG_MEMBER_BYTES = 1_024  # the same
MAX_EVENT_BYTES = 512 * 1024  # of the canonical form; inner tag arrays are otherwise unbounded (decision 0002)

Tags = tuple[tuple[str, ...], ...]

_HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_HEX128 = re.compile(r"[0-9a-f]{128}", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]{1,17}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Event:
    """A signed, immutable statement by one agent (ANP2 section 4).

    `id`, `agent_id`: 64 lower-case hex; `sig`: 128; `created_at`: Unix seconds, 0 ... 2^53-1;
    `kind`: 0 ... 2^53-1. A value of this class has a well-formed envelope; only `check()` says
    that sizes, id and signature hold too.
    """

    id: str
    agent_id: str
    created_at: int
    kind: int
    tags: Tags
    content: str
    sig: str

    @classmethod
    def parse(cls, data: bytes | str) -> Event:
        """Read an event from JSON. Raises `MalformedEvent`, naming each bad field.

        Integers may come as `12`, `12.0` or `"12"`; hex in either case; unknown fields are dropped;
        of duplicate keys the last wins.
        """
        try:
            value = jsontext.parse(data.encode() if isinstance(data, str) else data)
        except (jsontext.BadJson, UnicodeEncodeError) as exc:
            raise MalformedEvent([_problem("json_invalid", (), f"not JSON: {exc}", None)]) from None
        return cls.from_mapping(value)

    @classmethod
    def from_mapping(cls, value: object) -> Event:
        """Read an event from parsed JSON, with the rules of `parse`. Raises `MalformedEvent`."""
        if event := cls._plain(value):
            return event
        if not isinstance(value, Mapping):
            raise MalformedEvent([_problem("model_attributes_type", (), "an event is a JSON object", value)])
        problems: list[Problem] = []
        event = cls(
            id=_hex(value, "id", 64, _HEX64, problems),
            agent_id=_hex(value, "agent_id", 64, _HEX64, problems),
            created_at=_integer(value, "created_at", problems),
            kind=_integer(value, "kind", problems),
            tags=_tags(value.get("tags", ()), problems),
            content=_content(value.get("content", ""), problems),
            sig=_hex(value, "sig", 128, _HEX128, problems),
        )
        if problems:
            raise MalformedEvent(problems)
        return event

    @classmethod
    def _plain(cls, value: Any) -> Event | None:
        """Read an event whose every field is just as it should be, as nearly all are; None where one is not."""
        try:
            id_, agent_id, sig = value["id"], value["agent_id"], value["sig"]
            created_at, kind, tags, content = value["created_at"], value["kind"], value["tags"], value["content"]
            together = id_ + agent_id + sig
            if (
                len(id_) == len(agent_id) == 64
                and len(sig) == 128
                and bytes.fromhex(together).hex() == together  # lower case, and no spaces
                and type(created_at) is type(kind) is int
                and 0 <= created_at <= MAX_INTEGER
                and 0 <= kind <= MAX_INTEGER
                and type(content) is str
                and type(tags) is list
            ):
                for tag in tags:
                    if type(tag) is not list:
                        return None
                    for member in tag:
                        if type(member) is not str:
                            return None
                return cls(id_, agent_id, created_at, kind, tuple(map(tuple, tags)), content, sig)
        except (TypeError, ValueError, KeyError):
            pass
        return None

    @classmethod
    def from_stored(cls, serialised: bytes) -> Event:
        """Read back what `to_json` wrote, without checking it again: only for bytes known to be whole."""
        value = orjson.loads(serialised)
        return cls(
            value["id"],
            value["agent_id"],
            value["created_at"],
            value["kind"],
            tuple(map(tuple, value["tags"])),
            value["content"],
            value["sig"],
        )

    @classmethod
    def create(
        cls, keypair: Keypair, kind: int, content: str = "", tags: Iterable[Sequence[str]] = (), *, created_at: int
    ) -> Event:
        """Make and sign an event. Raises `MalformedEvent` or `EventTooLarge` for what no relay would take."""
        agent_id = keypair.agent_id
        # A string is a sequence of strings too: left as it is, it is refused instead of split into letters.
        split = [tag if isinstance(tag, str) else list(tag) for tag in tags]
        draft = {"agent_id": agent_id, "created_at": created_at, "kind": kind, "tags": split}
        blank = cls.from_mapping({**draft, "content": content, "id": "0" * 64, "sig": "0" * 128})
        blank.check_sizes()
        id_ = event_id(blank.canonical())
        return cls(
            id_, agent_id, blank.created_at, blank.kind, blank.tags, content, keypair.sign(bytes.fromhex(id_)).hex()
        )

    def canonical(self) -> bytes:
        """Give the bytes whose SHA-256 is the id. Raises `MalformedEvent` for lone surrogates."""
        try:
            return canonical_bytes(self.agent_id, self.created_at, self.kind, self.tags, self.content)
        except TypeError:
            problem = _problem("string_unicode", (), "lone surrogates have no canonical form", None)
            raise MalformedEvent([problem]) from None

    def to_json(self) -> bytes:
        """Serialise compactly, keys in a fixed order; this is the form that is stored and sent."""
        return orjson.dumps(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Give the seven envelope fields as plain values, in their fixed order."""
        return {
            "id": self.id,
            "agent_id": self.agent_id,
            "created_at": self.created_at,
            "kind": self.kind,
            "tags": self.tags,
            "content": self.content,
            "sig": self.sig,
        }

    def check(self) -> None:
        """Hold the event against its intrinsic rules: sizes, id, signature; raises the first broken."""
        self.check_sizes()
        self.check_id()
        if not kernels.verify(*self.signed()):
            raise BadSignature(BAD_SIGNATURE)

    def check_sizes(self) -> None:
        """Hold content, tags and tag members against the protocol's sizes. Raises `EventTooLarge`."""
        if len(self.content) * 4 > MAX_CONTENT_BYTES and _utf8_len(self.content) > MAX_CONTENT_BYTES:
            raise EventTooLarge(f"content exceeds {MAX_CONTENT_BYTES} bytes")
        if len(self.tags) > MAX_TAGS:
            raise EventTooLarge(f"too many tags (max {MAX_TAGS})")
        for tag in self.tags:
            for member in tag:
                # One character is at most four bytes of UTF-8: short members need no encoding.
                if len(member) > MAX_TAG_MEMBER_BYTES // 4 and _utf8_len(member) > MAX_TAG_MEMBER_BYTES:
                    raise EventTooLarge(f"tag value exceeds {MAX_TAG_MEMBER_BYTES} bytes")

    def check_id(self) -> None:
        """Hold the canonical form against its size and the id. Raises `EventTooLarge` or `BadId`."""
        canonical = self.canonical()
        if len(canonical) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"event exceeds {MAX_EVENT_BYTES} bytes in canonical form")
        computed = event_id(canonical)
        if computed != self.id:
            raise BadId(f"event id mismatch: you sent id={self.id}, but the relay computed {computed}")

    def signed(self) -> tuple[bytes, bytes, bytes]:
        """Give what a verifier needs: public key (32 bytes), message (32), signature (64)."""
        return bytes.fromhex(self.agent_id), bytes.fromhex(self.id), bytes.fromhex(self.sig)

    def tag_values(self, name: str) -> list[str]:
        """Give the second member of each tag called `name` that has one, in order."""
        return [tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name]

    def first_tag(self, name: str) -> str | None:
        """Give the value of the first such tag, or None."""
        return next((tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name), None)


BAD_SIGNATURE = "bad signature: it does not verify for this agent_id over the event id"


def _problem(type_: str, loc: tuple[str | int, ...], msg: str, given: object) -> Problem:
    return {"type": type_, "loc": ["body", *loc], "msg": msg, "input": given}


def _hex(value: Mapping[str, Any], name: str, length: int, pattern: re.Pattern[str], out: list[Problem]) -> str:
    if name not in value:
        out.append(_problem("missing", (name,), "field required", None))
        return ""
    given = value[name]
    if not isinstance(given, str):
        out.append(_problem("string_type", (name,), "must be a string", given))
        return ""
    if len(given) != length:
        kind = "string_too_short" if len(given) < length else "string_too_long"
        out.append(_problem(kind, (name,), f"must be {length} hex characters, got {len(given)}", given[:length]))
        return ""
    lower = given.lower()
    if not pattern.fullmatch(lower):
        out.append(_problem("value_error", (name,), "must be hexadecimal", given))
    return lower


def _integer(value: Mapping[str, Any], name: str, out: list[Problem]) -> int:
    if name not in value:
        out.append(_problem("missing", (name,), "field required", None))
        return 0
    given = value[name]
    number = given
    if isinstance(given, float):
        if not given.is_integer():
            out.append(_problem("int_from_float", (name,), "must be a whole number", given))
            return 0
        number = int(given)
    elif isinstance(given, str):
        if not _DECIMAL.fullmatch(given):
            out.append(_problem("int_parsing", (name,), "must be an integer", given[:64]))
            return 0
        number = int(given)
    elif isinstance(given, bool) or not isinstance(given, int):
        out.append(_problem("int_type", (name,), "must be an integer", given))
        return 0
    if number < 0:
        out.append(_problem("greater_than_equal", (name,), "must be at least 0", given))
    elif number > MAX_INTEGER:
        out.append(_problem("less_than_equal", (name,), f"must be at most {MAX_INTEGER}", given))
    return int(number)


def _tags(given: object, out: list[Problem]) -> Tags:
    if not isinstance(given, (list, tuple)):
        out.append(_problem("list_type", ("tags",), "must be an array of arrays of strings", given))
        return ()
    for at, tag in enumerate(given):
        if not isinstance(tag, (list, tuple)):
            out.append(_problem("list_type", ("tags", at), "must be an array of strings", tag))
            return ()
        for inner, member in enumerate(tag):
            if not isinstance(member, str):
                out.append(_problem("string_type", ("tags", at, inner), "must be a string", member))
                return ()
    return tuple(map(tuple, given))


def _content(given: object, out: list[Problem]) -> str:
    if isinstance(given, str):
        return given
    out.append(_problem("string_type", ("content",), "must be a string", given))
    return ""


def _utf8_len(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
