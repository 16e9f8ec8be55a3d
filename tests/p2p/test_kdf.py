"""HKDF-Expand as published, and labels that keep one key from being another."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from anporia_p2p.crypto import kdf

LONGEST = 255 * 32  # RFC 5869, section 2.3
# whatever bytes the module holds under a name in capitals, so that a label added later is held to the rules too
LABELS = sorted(value for name, value in vars(kdf).items() if isinstance(value, bytes) and name.strip("_").isupper())


def test_the_published_vector() -> None:
    # RFC 5869, appendix A.1: the second step of test case 1
    prk = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    info = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")
    okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert kdf.expand(prk, info, 42).hex() == okm


@given(key=st.binary(min_size=32, max_size=32), label=st.binary(max_size=100), length=st.integers(1, LONGEST))
def test_equals_that_of_cryptography(key: bytes, label: bytes, length: int) -> None:
    assert kdf.expand(key, label, length) == HKDFExpand(SHA256(), length, label).derive(key)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 63, 64, 65, 254 * 32 + 1, LONGEST - 1, LONGEST])
def test_lengths_at_the_edges_of_blocks(length: int) -> None:
    expanded = kdf.expand(bytes(range(32)), b"label", length)
    assert expanded == HKDFExpand(SHA256(), length, b"label").derive(bytes(range(32)))
    assert expanded == kdf.expand(bytes(range(32)), b"label", LONGEST)[:length]


@pytest.mark.parametrize("length", [-1, 0, LONGEST + 1, 1 << 40])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"1 to {LONGEST} bytes, not {length}"):
        kdf.expand(bytes(32), kdf.HOP, length)


def test_labels_are_distinct_and_none_begins_another() -> None:
    assert {kdf.HOP, kdf.REPLY} <= set(LABELS)
    assert len(LABELS) == len(set(LABELS))
    # were one the start of another, the bytes between label and counter would be someone's choice
    assert [(a, b) for a in LABELS for b in LABELS if a is not b and b.startswith(a)] == []


def test_labels_say_whose_they_are_and_which_version() -> None:
    assert [label for label in LABELS if not re.fullmatch(rb"anporia/p2p/[a-z0-9/-]+/v[1-9][0-9]*", label)] == []


def test_labels_and_keys_make_other_bytes() -> None:
    keys = (bytes(32), bytes(31) + b"\1")
    made = {kdf.expand(key, label, 32) for key in keys for label in LABELS}
    assert len(made) == len(keys) * len(LABELS)
