"""Both verifiers say what libsodium says, alone and in a batch; the compiled one does so off the GIL."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nacl.bindings
import nacl.exceptions
import nacl.signing
import pytest
from hypothesis import given
from hypothesis import strategies as st

import anporia_cython_ext as compiled
from anporia_cython_ext import _verify
from anporia_wire import _kernels_py as pure

Triple = tuple[bytes, bytes, bytes]

both = pytest.mark.parametrize("kernel", [pytest.param(pure, id="python"), pytest.param(compiled, id="cython")])

VECTORS = Path(__file__).parents[1] / "vectors" / "ed25519_edges.json"
EDGES = [
    ((bytes.fromhex(case["public_key"]), bytes.fromhex(case["message"]), bytes.fromhex(case["signature"])), case)
    for case in json.loads(VECTORS.read_text())["cases"]
]

# RFC 8032, section 7.1: TEST 1, 2, 3 and SHA(abc); public key, message, signature
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]

SIGNER = nacl.signing.SigningKey(bytes(range(32)))
PUBLIC_KEY = bytes(SIGNER.verify_key)


def signed(message: bytes) -> Triple:
    return PUBLIC_KEY, message, SIGNER.sign(message).signature


def by_verify_key(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """What published Python clients and the reference relay ask: PyNaCl's `VerifyKey`."""
    try:
        nacl.signing.VerifyKey(public_key).verify(message, signature)
    except (nacl.exceptions.BadSignatureError, ValueError):
        return False
    return True


@both
@pytest.mark.parametrize("vector", RFC_8032, ids=["test1", "test2", "test3", "sha_abc"])
def test_rfc_8032(kernel: ModuleType, vector: tuple[str, str, str]) -> None:
    public_key, message, signature = map(bytes.fromhex, vector)
    assert kernel.verify(public_key, message, signature) is True
    assert kernel.verify(public_key, message + b"\0", signature) is False
    assert kernel.verify_many([(public_key, message, signature)]) == [True]


@both
@pytest.mark.parametrize(("triple", "case"), EDGES, ids=[case["name"] for _, case in EDGES])
def test_edge_alone(kernel: ModuleType, triple: Triple, case: dict[str, Any]) -> None:
    assert kernel.verify(*triple) is case["expect"]
    assert kernel.verify_many([triple]) == [case["expect"]]
    assert by_verify_key(*triple) is case["expect"]


@both
def test_edges_in_one_batch(kernel: ModuleType) -> None:
    expected = [case["expect"] for _, case in EDGES]
    assert kernel.verify_many([triple for triple, _ in EDGES]) == expected
    assert kernel.verify_many(tuple(triple for triple, _ in reversed(EDGES))) == expected[::-1]
    assert True in expected and False in expected


@given(
    st.lists(
        st.tuples(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(-1, 32 * 8 + 512 + 1600)),
        max_size=8,
    )
)
def test_good_and_one_bit_bad(drawn: list[tuple[bytes, bytes, int]]) -> None:
    """Flip one bit of key, signature or message, or none (negative, or beyond the message's end)."""
    batch, expected = [], []
    for seed, message, bit in drawn:
        signer = nacl.signing.SigningKey(seed)
        joined = bytearray(bytes(signer.verify_key) + signer.sign(message).signature + message)
        flipped = 0 <= bit < len(joined) * 8
        if flipped:
            joined[bit // 8] ^= 1 << bit % 8
        batch.append((bytes(joined[:32]), bytes(joined[96:]), bytes(joined[32:96])))
        expected.append(not flipped)
    for kernel in (pure, compiled):
        assert [kernel.verify(*triple) for triple in batch] == expected
        assert kernel.verify_many(batch) == expected


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes(public_key: bytes, message: bytes, signature: bytes) -> None:
    expected = by_verify_key(public_key, message, signature)
    for kernel in (pure, compiled):
        assert kernel.verify(public_key, message, signature) is expected
        assert kernel.verify_many([(public_key, message, signature)]) == [expected]


@both
def test_empty_batch(kernel: ModuleType) -> None:
    assert kernel.verify_many([]) == []


@both
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("wrong", ["text", None, 5])
def test_wrong_types(kernel: ModuleType, at: int, wrong: object) -> None:
    triple: list[Any] = list(signed(b"message"))
    # As text it has the right length: the pure twin looks at that first
    triple[at] = triple[at].decode("latin-1") if wrong == "text" else wrong
    with pytest.raises(TypeError):
        kernel.verify(*triple)
    with pytest.raises(TypeError):
        kernel.verify_many([signed(b"message"), tuple(triple)])


@both
@pytest.mark.parametrize("batch", [None, 5, [5], [()], [(b"", b"")], [(b"", b"", b"", b"")]])
def test_wrong_batches(kernel: ModuleType, batch: Any) -> None:
    with pytest.raises(TypeError):
        kernel.verify_many(batch)


@both
def test_batch_emptied_meanwhile(kernel: ModuleType) -> None:
    """The caller's list may change while the GIL is off: the answers are those of the list at the call."""
    copied = threading.Event()

    class Batch(list[Triple]):
        def __iter__(self) -> Iterator[Triple]:
            yield from super().__iter__()
            copied.set()

    batch = Batch(signed(b"%d" % n) for n in range(2_000))  # about 20 ms at least
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.extend(kernel.verify_many(batch)))
    thread.start()
    assert copied.wait(60)
    batch.clear()
    # New bytes of the same sizes would take the place of freed ones.
    others = [(bytes(32), b"%d" % n, bytes(64)) for n in range(2_000)]
    thread.join(60)
    assert answers == [True] * len(others)


@pytest.mark.parametrize(
    "work",
    [
        # each about 0.3 s on one core of the machine this was written on
        pytest.param(lambda: compiled.verify_many([signed(b"message")] * 30_000), id="verify_many"),
        pytest.param(lambda: compiled.verify(PUBLIC_KEY, bytes(150_000_000), signed(b"")[2]), id="verify"),
    ],
)
def test_the_gil_is_released(work: Callable[[], object]) -> None:
    """Another thread wakes from many short sleeps meanwhile; with the GIL held it would wake once or twice."""
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    woken = 0
    while not done.is_set():
        time.sleep(0.001)
        woken += 1
    thread.join(60)
    assert woken >= 10  # 200 to 300 are usual


def test_without_the_detached_symbol() -> None:
    """Where PyNaCl hides libsodium's symbols, crypto_sign_open gives the same answers."""
    code = """
import ctypes, json, sys

class Hidden:
    def __init__(self, name): pass
    def __getattr__(self, name):
        print("asked for", name, file=sys.stderr)
        raise AttributeError(name)

ctypes.CDLL = Hidden
from anporia_cython_ext import verify, verify_many, _verify
assert not _verify._know(bytes.fromhex(sys.argv[1]))
batch = [tuple(map(bytes.fromhex, triple)) for triple in json.load(sys.stdin)]
json.dump([verify_many(batch), [verify(*triple) for triple in batch]], sys.stdout)
"""
    given_ = json.dumps([[part.hex() for part in triple] for triple, _ in EDGES])
    command = [sys.executable, "-c", code, PUBLIC_KEY.hex()]
    ran = subprocess.run(command, input=given_, capture_output=True, text=True, check=True)
    assert "asked for crypto_sign_ed25519_verify_detached" in ran.stderr
    expected = [case["expect"] for _, case in EDGES]
    assert json.loads(ran.stdout) == [expected, expected]


# ---- Tables of keys ----


@pytest.fixture
def keep() -> Iterator[Callable[..., None]]:
    """Start without any knowledge of keys, with room for as many tables as a test says."""
    if sys.platform == "win32" or sys.maxsize < 2**32:
        pytest.skip("no tables: PyNaCl hides its symbols, or no products of 128 bits")
    _verify._forget()
    yield _verify._forget
    _verify._forget()


SIGNERS = [nacl.signing.SigningKey(bytes([n]) * 32) for n in range(24)]
KEYS = [bytes(signer.verify_key) for signer in SIGNERS]


def of(*who: int) -> list[Triple]:
    """A signature of each, in order."""
    return [(KEYS[n], b"%d" % n, SIGNERS[n].sign(b"%d" % n).signature) for n in who]


def forged(*who: int) -> list[Triple]:
    return [(key, message + b"!", signature) for key, message, signature in of(*who)]


def with_tables() -> set[int]:
    return {KEYS.index(key) for key in _verify._held()[0]}


def noted() -> set[int]:
    return {KEYS.index(key) for key in _verify._held()[1]}


def test_the_second_that_holds_makes_a_table(keep: object) -> None:
    assert compiled.verify(*of(1)[0])
    assert (with_tables(), noted()) == (set(), {1})
    assert compiled.verify_many(of(1, 2)) == [True, True]
    assert (with_tables(), noted()) == ({1}, {2})
    assert compiled.verify_many([*of(3, 4, 3), *forged(3), *of(3)]) == [True, True, True, False, True]
    assert (with_tables(), noted()) == ({1, 3}, {2, 4})
    assert compiled.verify(*of(2)[0]) and compiled.verify(*of(2)[0])
    assert (with_tables(), noted()) == ({1, 2, 3}, {4})


def test_what_does_not_hold_changes_nothing(keep: object) -> None:
    compiled.verify_many(of(0, 0, 1))
    for _ in range(5):
        batch = forged(0, 1, 2, 1, 0, 2)
        assert compiled.verify_many(batch) == [False] * 6
        assert [compiled.verify(*triple) for triple in batch] == [False] * 6
        assert (with_tables(), noted()) == ({0}, {1})
    no_point = (bytes([2]) + bytes(31), b"", bytes(64))
    assert compiled.verify_many([no_point] * 3 + [(bytes(32), b"", bytes(64))] * 3) == [False] * 6
    assert (with_tables(), noted()) == ({0}, {1})


def test_tables_are_bounded(keep: Callable[..., None]) -> None:
    keep(tables=3)
    everyone = [*range(24)] * 3
    for _ in range(3):
        assert compiled.verify_many(of(*everyone)) == [True] * 72  # in one batch, and then one by one
        assert len(with_tables()) == 3
        for triple in of(*everyone):
            assert compiled.verify(*triple)
            assert len(with_tables()) <= 3


def test_notes_are_bounded(keep: object) -> None:
    many = [nacl.signing.SigningKey(n.to_bytes(32, "big")) for n in range(9_000)]
    assert all(compiled.verify_many([(bytes(one.verify_key), b"", one.sign(b"").signature) for one in many]))
    assert 0 < len(_verify._held()[1]) <= 8_192
    assert not _verify._held()[0]


def test_a_table_takes_less_than_4_kb(keep: object) -> None:
    assert _verify._held()[2] == 3_840


def test_tables_in_use_stay(keep: Callable[..., None]) -> None:
    keep(tables=2)
    compiled.verify_many(of(0, 0, 1, 1))
    for n in range(50):
        compiled.verify_many(of(0, 1, 2 + n % 5, 2 + n % 5))
        assert with_tables() == {0, 1}
    # unused ones go, forgers or not, when others hold
    compiled.verify_many(forged(7, 8, 7, 8))
    assert with_tables() == {0, 1}
    for _ in range(5):
        compiled.verify_many(of(7, 8))
    assert with_tables() == {7, 8}


def test_without_tables(keep: Callable[..., None]) -> None:
    keep(tables=0)
    expected = [case["expect"] for _, case in EDGES]
    for _ in range(3):
        assert compiled.verify_many(of(1, 1, 1)) == [True] * 3
        assert compiled.verify_many([triple for triple, _ in EDGES]) == expected
    assert _verify._held()[:2] == (set(), set())
    assert not _verify._know(PUBLIC_KEY)


def test_threads_that_share_tables(keep: Callable[..., None], counts: Callable[..., int]) -> None:
    """Overlapping keys, forgeries, and room for a third of the keys, so that tables go while others use them."""
    good, bad = of(*range(24)), forged(*range(24))
    wrong: list[object] = []

    def run(seed: int) -> None:
        rng = random.Random(seed)
        for n in range(counts(150, soak=20_000)):
            if seed == 0 and n % 50 == 0:
                keep(tables=rng.choice([1, 2, 8, 0]))
            which = [(rng.randrange(24), rng.random() < 0.8) for _ in range(rng.randrange(1, 40))]
            answers = compiled.verify_many([(good if holds else bad)[at] for at, holds in which])
            if answers != [holds for _, holds in which]:
                wrong.append(which)

    keep(tables=8)
    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert not wrong
    assert len(with_tables()) <= 8


@pytest.mark.parametrize("changed", [0, 3])
def test_a_libsodium_of_another_rule(changed: int) -> None:
    """Where a probe is answered otherwise, tables stay off, and libsodium's word counts as before."""
    code = """
import runpy, sys, types
module = types.ModuleType("anporia_cython_ext._probes")
module.PROBES = runpy.run_path(sys.argv[1])["PROBES"]
at = int(sys.argv[2])
triple, answer = module.PROBES[at]
module.PROBES[at] = triple, not answer
sys.modules["anporia_cython_ext._probes"] = module
from anporia_cython_ext import _verify
print(_verify._know(triple[0]), *_verify.verify_many([triple] * 3), *_verify._held()[:2])
"""
    assert _verify.__file__
    command = [sys.executable, "-c", code, str(Path(_verify.__file__).with_name("_probes.py")), str(changed)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", *[str(changed == 0)] * 3, "set()", "set()"]
