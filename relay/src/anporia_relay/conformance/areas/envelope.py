"""The seven fields of an event: what is well-formed, what is not, and what the id and signature cover."""

from __future__ import annotations

from typing import Any

from ..check import Area, Body
from ..probe import ENVELOPE, Probe, equal, expect, holds

AREA = Area("envelope")

_ABSENT = object()

# name, field, value: each is no well-formed envelope
_MALFORMED: list[tuple[str, str, Any]] = [
    *(
        (f"{field.replace('_', '-')}-is-needed", field, _ABSENT)
        for field in ENVELOPE
        if field not in ("tags", "content")
    ),
    ("id-too-short", "id", "a" * 63),
    ("id-too-long", "id", "a" * 65),
    ("id-not-hex", "id", "g" * 64),
    ("id-not-text", "id", 5),
    ("agent-id-too-short", "agent_id", "a" * 62),
    ("agent-id-not-hex", "agent_id", "z" * 64),
    ("sig-too-short", "sig", "a" * 127),
    ("sig-too-long", "sig", "a" * 130),
    ("sig-not-hex", "sig", "x" * 128),
    ("created-at-negative", "created_at", -1),
    ("created-at-fraction", "created_at", 1.5),
    ("created-at-null", "created_at", None),
    ("created-at-words", "created_at", "yesterday"),
    ("kind-negative", "kind", -1),
    ("kind-fraction", "kind", 0.5),
    ("kind-null", "kind", None),
    ("kind-words", "kind", "post"),
    ("tags-not-an-array", "tags", {"t": "x"}),
    ("tags-null", "tags", None),
    ("tag-not-an-array", "tags", ["t"]),
    ("tag-member-a-number", "tags", [["t", 5]]),
    ("tag-member-null", "tags", [["t", None]]),
    ("content-a-number", "content", 5),
    ("content-an-object", "content", {"text": "x"}),
    ("content-null", "content", None),
]

# name, body: each is no event at all
_BODIES = [
    ("body-an-array", b"[]"),
    ("body-a-string", b'"event"'),
    ("body-null", b"null"),
    ("body-empty-object", b"{}"),
    ("body-cut-short", b'{"id":"'),
]

# name, text: each must come back as it was, in content and in a tag
_TEXTS = [
    ("empty-text", ""),
    ("quotes-and-backslashes", 'a "b" \\ c \\" /'),
    ("control-characters", "".join(map(chr, range(1, 32))) + "\x7f"),
    ("nul", "a\x00b"),
    ("line-separators", "a\u2028b\u2029c\u0085d"),
    ("beyond-the-basic-plane", "🜚 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 👩‍👩‍👧"),
    ("no-normalisation", "e\u0301 \u00e9 \u212b \ufb01"),
    ("byte-order-mark-inside", "\ufeffa\ufeff"),
    ("noncharacters", "\ufffe\uffff"),
    ("right-to-left", "\u202eabc\u202c שלום"),
    ("looks-escaped", "\\u0041 \\n \\x00 &amp;"),
]


def _malformed(field: str, value: Any) -> Body:
    def body(probe: Probe) -> None:
        event: dict[str, Any] = probe.event().to_dict()
        if value is _ABSENT:
            del event[field]
        else:
            event[field] = value
        probe.rejects(event, 422)

    return body


def _unreadable(data: bytes) -> Body:
    def body(probe: Probe) -> None:
        expect(probe.post("/events", data), f"POST {data!r}", 422)

    return body


def _round_trip(text: str) -> Body:
    def body(probe: Probe) -> None:
        topic = probe.word()
        event = probe.said(1, text, ["x", text], [text or "empty", ""], ["t", topic])
        wanted = {**event.to_dict(), "tags": [list(tag) for tag in event.tags]}
        equal(probe.value(f"/events/{event.id}"), wanted, "the event by its id")
        equal(probe.events(t=topic), [wanted], "the event in a list")

    return body


for _name, _field, _value in _MALFORMED:
    AREA.add(_name, "core", "2", f"`{_field}` of this form is answered 422.", _malformed(_field, _value))
for _name, _data in _BODIES:
    AREA.add(_name, "core", "3", f"The body {_data.decode()} is answered 422.", _unreadable(_data))
for _name, _text in _TEXTS:
    AREA.add(
        f"round-trip-{_name}",
        "core",
        "2",
        "Such text is hashed as RFC 8785 says and comes back as it was.",
        _round_trip(_text),
    )


@AREA.core("2")
def tags_default_to_none(probe: Probe) -> None:
    """An event without `tags` has none."""
    event = probe.event()
    without = {name: value for name, value in event.to_dict().items() if name != "tags"}
    probe.publish(without)
    equal(probe.value(f"/events/{event.id}")["tags"], [], "tags")


@AREA.core("2")
def content_defaults_to_empty(probe: Probe) -> None:
    """An event without `content` has an empty one."""
    event = probe.event()
    without = {name: value for name, value in event.to_dict().items() if name != "content"}
    probe.publish(without)
    equal(probe.value(f"/events/{event.id}")["content"], "", "content")


@AREA.core("2")
def unknown_fields_are_dropped(probe: Probe) -> None:
    """A field beyond the seven is taken and does not come back."""
    event = probe.event()
    probe.publish({**event.to_dict(), "extra": {"a": 1}})
    equal(sorted(probe.value(f"/events/{event.id}")), sorted(ENVELOPE), "keys")


@AREA.core("2")
def tags_may_be_empty_or_wide(probe: Probe) -> None:
    """Inner arrays may be empty, and hold many members."""
    event = probe.said(1, "", [], ["x", *map(str, range(200))], [""])
    equal(probe.value(f"/events/{event.id}")["tags"], [list(tag) for tag in event.tags], "tags")


@AREA.core("2")
def tag_order_is_kept(probe: Probe) -> None:
    """Tags keep their order and repetitions."""
    event = probe.said(1, "", ["b", "2"], ["a", "1"], ["b", "2"])
    equal(probe.value(f"/events/{event.id}")["tags"], [["b", "2"], ["a", "1"], ["b", "2"]], "tags")


@AREA.spec("1")
def upper_case_hex_is_folded(probe: Probe) -> None:
    """Upper-case id, agent_id and sig are taken and stored in lower case."""
    event = probe.event()
    upper = {
        name: value.upper() if name in ("id", "agent_id", "sig") else value for name, value in event.to_dict().items()
    }
    answer = probe.publish(upper)
    equal(answer.json()["id"], event.id, "id of the answer")
    equal(probe.value(f"/events/{event.id}")["sig"], event.sig, "sig")


@AREA.core("2")
def another_id_is_refused(probe: Probe) -> None:
    """An id that is not the hash of the event is 400."""
    probe.rejects({**probe.event().to_dict(), "id": probe.unused_id()})


@AREA.core("2")
def changed_content_is_refused(probe: Probe) -> None:
    """Content changed after signing is 400."""
    probe.rejects({**probe.event(1, "a").to_dict(), "content": "b"})


@AREA.core("2")
def changed_tags_are_refused(probe: Probe) -> None:
    """Tags changed after signing are 400."""
    probe.rejects({**probe.event().to_dict(), "tags": [["t", "x"]]})


@AREA.core("2")
def changed_kind_is_refused(probe: Probe) -> None:
    """A kind changed after signing is 400."""
    probe.rejects({**probe.event(1).to_dict(), "kind": 2})


@AREA.core("2")
def flipped_signature_is_refused(probe: Probe) -> None:
    """A signature with one bit changed is 400."""
    event = probe.event()
    probe.rejects({**event.to_dict(), "sig": f"{int(event.sig, 16) ^ 1:0128x}"})


@AREA.core("2")
def signature_of_another_key_is_refused(probe: Probe) -> None:
    """A signature by another key over the right id is 400."""
    event = probe.event()
    probe.rejects({**event.to_dict(), "sig": probe.key().sign(bytes.fromhex(event.id)).hex()})


@AREA.core("2")
def signature_over_hex_is_refused(probe: Probe) -> None:
    """What is signed is the 32 raw bytes of the id, not its 64 characters."""
    key = probe.key()
    event = probe.event(by=key)
    probe.rejects({**event.to_dict(), "sig": key.sign(event.id.encode()).hex()})


@AREA.core("2")
def malleable_signature_is_refused(probe: Probe) -> None:
    """A signature whose S is not below the group order is 400, as in libsodium."""
    event = probe.event()
    order = 2**252 + 27742317777372353535851937790883648493  # of Ed25519's base point, RFC 8032
    s = int.from_bytes(bytes.fromhex(event.sig)[32:], "little") + order
    probe.rejects({**event.to_dict(), "sig": event.sig[:64] + s.to_bytes(32, "little").hex()})


@AREA.core("2")
def small_order_key_is_refused(probe: Probe) -> None:
    """A public key of small order is 400, though the equation holds for anything it "signs"."""
    neutral = "01" + "00" * 31  # the neutral element: R = neutral, S = 0 satisfies the bare equation
    event = probe.forge(probe.key(), 1, "", [])
    event["agent_id"] = neutral
    event["id"] = probe.id_of(event)
    event["sig"] = neutral + "00" * 32
    probe.rejects(event)


@AREA.core("2")
def greatest_kind_is_taken(probe: Probe) -> None:
    """Kind 2^53-1 is taken: integers go as far as JSON numbers are exact."""
    event = probe.said(2**53 - 1)
    equal(probe.value(f"/events/{event.id}")["kind"], 2**53 - 1, "kind")


@AREA.spec("2")
def kinds_beyond_exact_integers_are_refused(probe: Probe) -> None:
    """Kind 2^53 has no canonical form and is 400 or 422."""
    probe.rejects({**probe.event().to_dict(), "kind": 2**53}, 400, 422)


@AREA.spec("2")
def lone_surrogates_are_refused(probe: Probe) -> None:
    r"""Content "\ud800" has no canonical form and is 400 or 422."""
    body = probe.event(1, "@@").to_json().replace(b"@@", b"\\ud800")
    expect(probe.post("/events", body), "an event with a lone surrogate", 400, 422)


@AREA.spec("2")
def escaped_surrogate_pairs_are_one_character(probe: Probe) -> None:
    r"""Content sent as "\ud83d\ude00" is the character U+1F600."""
    event = probe.event(1, "😀")
    expect(probe.post("/events", event.to_json().replace("😀".encode(), b"\\ud83d\\ude00")), "an escaped event", 200)
    equal(probe.value(f"/events/{event.id}")["content"], "😀", "content")


@AREA.spec("2")
def white_space_in_the_body_means_nothing(probe: Probe) -> None:
    """A body with white space and keys in another order is the same event."""
    event = probe.event(1, "x", ["t", probe.word()])
    turned = dict(reversed(list(event.to_dict().items())))
    answer = probe.publish(turned)
    holds(answer.json().get("id") == event.id, f"id {event.id}", answer.text)
