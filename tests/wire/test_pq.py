"""Hybrid signatures: the one form that counts, what each signature covers, and which key an event binds."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anporia_wire import MAX_TAG_MEMBER_BYTES, MAX_TAGS, Event, InvalidKey, MalformedEvent, kinds, pow, pq
from tests.wire.hybrids import A_FALSE, SCHEME, A, B, base64url, cut
from tests.wire.samples import NOW, nasty, unsigned

Tags = list[tuple[str, ...]]

POST = A.event(1, "words", [("t", "lobby")])
PIECES = list(POST.tags[-1][1:])


def test_both_halves_of_a_hybrid_event_hold() -> None:
    POST.check()
    assert pq.verify(POST, A.public)
    assert not pq.verify(POST, A_FALSE.public)


def test_a_hybrid_event_keeps_the_limits_of_published_relays() -> None:
    for event in (POST, A.binding(), A.binding(kind=1510), pow.mine(A.keypair, 0, "{}", A.binding().tags, NOW, 1)):
        event.check_sizes()
        assert len(event.tags) <= MAX_TAGS
        assert max(len(member) for tag in event.tags for member in tag) <= 1020 < MAX_TAG_MEMBER_BYTES
        kinds.check_shape(event)
        assert Event.parse(event.to_json()) == event


def test_an_event_is_split_into_what_is_covered_and_the_signature() -> None:
    covered, signature = pq.split(POST) or ((), b"")
    assert covered == (("t", "lobby"), SCHEME)
    assert len(signature) == 3309 and [len(piece) for piece in PIECES] == [1020] * 4 + [332]


def test_the_tags_are_written_as_they_are_read() -> None:
    signature = A.signature(1, "", [SCHEME])
    assert pq.signature_tag(signature) == ("pq_sig", *cut(base64url(signature)))
    assert pq.key_tag(A.public) == A.key_tag
    assert pq.signed_tags([["t", "x"], ["pow", "12"], [], ["nonce", "1"]]) == (("t", "x"), (), SCHEME)
    assert pq.payload(POST.agent_id, NOW, 1, POST.tags, POST.content).hex() == POST.id


@pytest.mark.parametrize("name", ["scheme", "pq_sig"])
def test_tags_of_the_signer_are_not_taken_from_others(name: str) -> None:
    with pytest.raises(MalformedEvent, match="written by the signer"):
        pq.signed_tags([[name, "x"]])


@pytest.mark.parametrize("length", [0, 1951, 1953, 3308, 3310])
def test_only_whole_keys_and_signatures_are_taken(length: int) -> None:
    with pytest.raises(InvalidKey, match="1952"):
        pq.verify(POST, bytes(length))
    with pytest.raises(InvalidKey):
        pq.key_tag(bytes(length))
    with pytest.raises(InvalidKey):
        pq.address(A.keypair.agent_id, bytes(length))
    with pytest.raises(ValueError, match="3309"):
        pq.signature_tag(bytes(length))


def other_alphabet(pieces: Sequence[str]) -> list[str]:
    return [piece.replace("-", "+").replace("_", "/") for piece in pieces]


def moved(tags: Tags) -> Tags:
    return [tags[2], *tags[:2]]


FORMS: dict[str, Callable[[Tags], Tags]] = {
    "no scheme": lambda tags: [tags[0], tags[2]],
    "no signature": lambda tags: tags[:2],
    "signature first": moved,
    "signature before scheme": lambda tags: [tags[0], tags[2], tags[1]],
    "something between": lambda tags: [tags[1], tags[0], tags[2]],
    "something ordinary behind": lambda tags: [*tags, ("t", "x")],
    "something empty behind": lambda tags: [*tags, ()],
    "the signature twice": lambda tags: [*tags, tags[2]],
    "both twice": lambda tags: [*tags, *tags[1:]],
    "a second scheme before": lambda tags: [("scheme", "x"), *tags],
    "a signature of one member before": lambda tags: [("pq_sig",), *tags],
    "another scheme": lambda tags: [tags[0], ("scheme", "ed25519+ml-dsa-87"), tags[2]],
    "scheme in capitals": lambda tags: [tags[0], ("scheme", "Ed25519+ML-DSA-65"), tags[2]],
    "scheme with more": lambda tags: [tags[0], (*SCHEME, ""), tags[2]],
    "scheme without a value": lambda tags: [tags[0], ("scheme",), tags[2]],
    "two proofs behind": lambda tags: [*tags, ("pow", "1"), ("pow", "2")],
    "two nonces behind": lambda tags: [*tags, ("nonce", "1"), ("pow", "2"), ("nonce", "2")],
    "a nonce that says more": lambda tags: [*tags, ("nonce", "1", "words nobody signed")],
    "a proof of no value": lambda tags: [*tags, ("pow",)],
}


@pytest.mark.parametrize("form", FORMS)
def test_only_one_order_of_tags_counts(form: str) -> None:
    event = A.plain(1, "words", FORMS[form](list(POST.tags)))
    event.check()
    assert pq.split(event) is None and not pq.verify(event, A.public)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [""],
        PIECES[:-1],
        [*PIECES, ""],
        [*PIECES[:-1], PIECES[-1][:-1]],
        [*PIECES[:-1], PIECES[-1] + "A"],
        [*PIECES[:-1], PIECES[-1] + "===="],
        [*PIECES[:-1], PIECES[-1][:-1] + "="],
        [*PIECES[:-1], PIECES[-1][:-1] + "\n"],
        [*PIECES[:-1], PIECES[-1][:-1] + "é"],
        cut("".join(PIECES), 1019),
        cut("".join(PIECES), 1000),
        ["", *PIECES],
        list(reversed(PIECES)),
        [PIECES[0][:-4], PIECES[0][-4:] + PIECES[1][:-4], PIECES[1][-4:] + PIECES[2], *PIECES[3:]],
        other_alphabet(PIECES),
    ],
)
def test_a_signature_has_one_encoding(pieces: list[str]) -> None:
    event = A.plain(1, "words", [*POST.tags[:-1], ("pq_sig", *pieces)])
    event.check()
    assert pq.split(event) is None and not pq.verify(event, A.public)


def test_stray_bits_are_refused() -> None:
    # a key's last character has two bits that belong to no byte; the decoder of the standard library drops them
    *rest, last = A.key_tag
    strays = [last[:-1] + other for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    same = [one for one in strays if base64.urlsafe_b64decode(one + "=") == base64.urlsafe_b64decode(last + "=")]
    assert len(same) == 4
    bound = [pq.bound_key(A.event(0, "{}", [(*rest, one)])) for one in same]
    assert sorted(bound, key=lambda key: key is None) == [A.public, None, None, None]


@pytest.mark.parametrize(
    "change",
    [
        lambda tags: A.plain(1, "other words", tags),
        lambda tags: A.plain(2, "words", tags),
        lambda tags: A.plain(1, "words", tags, at=NOW + 1),
        lambda tags: A.plain(1, "words", [("t", "else"), *tags[1:]]),
        lambda tags: A.plain(1, "words", tags[1:]),
        lambda tags: A.plain(1, "words", [("t", "more"), *tags]),
        lambda tags: B.plain(1, "words", tags),  # under another agent's name
    ],
)
def test_the_signature_covers_all_before_it(change: Callable[[Tags], Event]) -> None:
    event = change(list(POST.tags))
    event.check()
    assert pq.split(event) is not None and not pq.verify(event, A.public)


def test_signatures_cannot_be_swapped() -> None:
    other = A.event(1, "other words", [("t", "lobby")])
    swapped = A.plain(1, "words", [*POST.tags[:-1], other.tags[-1]])
    assert pq.verify(other, A.public) and not pq.verify(swapped, A.public)


@pytest.mark.parametrize("context", [b"", b"anp2-pq-v2", b"anp2-pq-v1\0"])
def test_a_signature_for_another_purpose_does_not_count(context: bytes) -> None:
    event = A.event(context=context)
    assert pq.split(event) is not None and not pq.verify(event, A.public)


def test_mining_after_signing_keeps_the_signature() -> None:
    profile = A.binding()
    mined = pow.mine(A.keypair, 0, "{}", profile.tags, NOW, bits=12)
    mined.check()
    pow.check(mined)
    assert [tag[0] for tag in mined.tags[-3:]] == ["pq_sig", "pow", "nonce"]
    assert mined.tags[:-2] == profile.tags and pq.verify(mined, A.public)
    # what a nonce costs is one Ed25519 signature
    assert pq.verify(A.event(behind=[("nonce", "7")]), A.public)
    assert pq.verify(A.event(behind=[("nonce", "7"), ("pow", "1")]), A.public)


def test_an_identity_and_a_descriptor_bind_the_key_they_are_signed_with() -> None:
    assert pq.bound_key(A.binding()) == pq.bound_key(A.binding(kind=1510)) == A.public
    assert pq.bound_key(A_FALSE.binding()) == A_FALSE.public


@pytest.mark.parametrize(
    "event",
    [
        POST,
        A.binding(kind=1),
        A.binding(kind=1511),
        A.event(0, "{}"),
        A.plain(0, "{}", [A.key_tag]),
        A.event(0, "{}", [A_FALSE.key_tag]),
        A.event(0, "{}", [A.key_tag, A.key_tag]),
        A.event(0, "{}", [A.key_tag, A_FALSE.key_tag]),
        A.event(0, "{}", [A.key_tag, ("pq_key",)]),
        A.event(0, "{}", [("pq_key", "ml-dsa-87", *A.key_tag[2:])]),
        A.event(0, "{}", [("pq_key", *A.key_tag[2:])]),
        A.event(0, "{}", [("pq_key",)]),
        A.event(0, "{}", [("pq_key", "ml-dsa-65", *cut(base64url(A.public), 1000))]),
        A.event(0, "{}", [A.key_tag], behind=[("t", "x")]),
        A.event(0, "{}", behind=[A.key_tag]),
        A.event(0, "{}", [A.key_tag], context=b""),
        B.plain(0, "{}", A.binding().tags),  # another agent takes the key for its own
    ],
)
def test_what_binds_no_key(event: Event) -> None:
    event.check()
    assert pq.bound_key(event) is None


def test_an_address_is_of_both_keys() -> None:
    assert pq.address(A.keypair.agent_id, A.public) == A.address
    assert len({A.address, A_FALSE.address, B.address, pq.address(B.keypair.agent_id, A.public)}) == 4
    for wrong in ("", "x" * 64, A.keypair.agent_id.upper(), A.keypair.agent_id[:-2]):
        with pytest.raises(InvalidKey):
            pq.address(wrong, A.public)


names = st.sampled_from(["scheme", "pq_sig", "pq_key", "pow", "nonce", "ml-dsa-65", SCHEME[1], *PIECES, ""])
tags = st.lists(st.sampled_from([*A.binding().tags, *POST.tags]) | st.lists(nasty | names, max_size=7), max_size=7)


@given(kind=st.sampled_from([0, 1, 1510]), tags=tags, content=nasty)
def test_nothing_a_stranger_writes_raises(kind: int, tags: Tags, content: str) -> None:
    event = unsigned(kind, content, tags)
    assert pq.verify(event, A.public) in (True, False)
    assert pq.bound_key(event) is None


def test_half_an_emoji_is_no_signed_text() -> None:
    assert not pq.verify(unsigned(1, "\ud83d", POST.tags), A.public)
    with pytest.raises(MalformedEvent):
        pq.payload("a" * 64, NOW, 1, [SCHEME], "\ud83d")


@given(data=st.binary(max_size=40), text=st.text(alphabet="AQgw-_+/= \né", max_size=8))
def test_base64url_has_one_form(data: bytes, text: str) -> None:
    assert pq.from_base64url(pq.to_base64url(data), len(data)) == data
    assert pq.from_base64url(pq.to_base64url(data), len(data) + 1) is None
    for length in range(8):
        decoded = pq.from_base64url(text, length)
        assert decoded is None or (len(decoded) == length and pq.to_base64url(decoded) == text)


WITHOUT = """
import sys
sys.modules["cryptography"] = None  # what makes importing it fail
import anporia_wire, anporia_wire.pq as pq, anporia_wire.views as views
event = anporia_wire.Event.parse(sys.stdin.buffer.read())
event.check()
assert pq.split(event) and pq.claimed_key(event) and pq.PUBLIC_BYTES == 1952
assert not pq.verify(anporia_wire.Event("0" * 64, "0" * 64, 1, 1, (), "", "0" * 128), bytes(1952))
for call in (lambda: pq.verify(event, bytes(1952)), lambda: pq.bound_key(event), pq.require, views.Bindings):
    try:
        call()
    except pq.PqUnavailable as exc:
        assert exc.code == "pq_unavailable" and "anporia-wire[pq]" in str(exc)
    else:
        raise SystemExit("nothing was missed")
"""


def test_without_cryptography_all_but_verifying_works() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], input=A.binding().to_json(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_importing_the_views_does_not_import_cryptography() -> None:
    asked = "import sys, anporia_wire.pq, anporia_wire.views; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
