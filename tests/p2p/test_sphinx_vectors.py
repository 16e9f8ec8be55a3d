"""Frozen packets, held against the package and against its format as its text reads when written down once more."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt

from anporia_p2p import sphinx
from anporia_p2p.crypto import lioness, xwing
from anporia_p2p.errors import BadPacket
from anporia_p2p.sphinx import header, packet
from anporia_p2p.sphinx.geometry import Command, Routing
from tests.p2p.test_lioness import chacha20, chacha20_block, hmac_sha256, xor
from tests.p2p.test_xwing import decapsulate
from tests.p2p.vectors import make_sphinx

FILE = Path(__file__).parent / "vectors" / "sphinx.json"
VECTORS: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text(encoding="utf-8"))
EVERY = VECTORS["packets"] + VECTORS["replies"]

FORWARD, DELIVER, REPLY = 1, 2, 3

each_vector = pytest.mark.parametrize("vector", EVERY, ids=lambda vector: vector["name"])
each_packet = pytest.mark.parametrize("vector", VECTORS["packets"], ids=lambda vector: vector["name"])
each_reply = pytest.mark.parametrize("vector", VECTORS["replies"], ids=lambda vector: vector["name"])


def raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def seeds(vector: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(hop["seed"]) for hop in vector["hops"]]


# The format once more, over kyber-py, libsodium, OpenSSL's HKDF, and loops.


def stream(key: bytes, data: bytes) -> bytes:
    """ChaCha20 from block 0, nonce zero, on 64 bytes or more. libsodium's AEAD begins with block 1 (RFC 8439, 2.8)."""
    rest = crypto_aead_chacha20poly1305_ietf_encrypt(data[64:], None, bytes(12), key)[:-16]
    return xor(data[:64], chacha20_block(key, 0, bytes(12))) + rest


def lioness_rounds(key: bytes, block: bytes, rounds: tuple[int, int, int, int]) -> bytes:
    """Rounds 0 and 2 change the right part, 1 and 3 the left one: to undo them is to go through them backwards."""
    keys = [key[32 * n : 32 * n + 32] for n in range(4)]
    left, right = block[:32], block[32:]
    for n in rounds:
        if n % 2:
            left = xor(left, hmac_sha256(keys[n], right))
        else:
            right = stream(xor(left, keys[n]), right)
    return left + right


def put_on(key: bytes, block: bytes) -> bytes:
    return lioness_rounds(key, block, (0, 1, 2, 3))


def take_off(key: bytes, block: bytes) -> bytes:
    return lioness_rounds(key, block, (3, 2, 1, 0))


def hkdf(secret: bytes, label: bytes, length: int) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=length, info=label).derive(secret)


def once_more(seed: bytes, whole: bytes) -> tuple[bytes, dict[str, Any], bytes, bytes]:
    """(tag, the orders, the next packet's header, the payload); the header is of use if the command is FORWARD."""
    assert len(whole) == 1_120 + 4_744 + 16 + 10_500
    alpha, beta, gamma, delta = whole[:1_120], whole[1_120:5_864], whole[5_864:5_880], whole[5_880:]
    keys = hkdf(decapsulate(seed, alpha), b"anporia/p2p/hop/v1", 32 + 32 + 128 + 16)
    assert hmac_sha256(keys[:32], alpha + beta)[:16] == gamma
    plain = stream(keys[32:64], beta + bytes(1_176))
    routing, next_gamma, next_alpha, next_beta = plain[:40], plain[40:56], plain[56:1_176], plain[1_176:]
    assert len(next_beta) == 4_744 and routing[1:4] == bytes(3)
    orders = {"command": routing[0], "delay_us": int.from_bytes(routing[4:8], "big"), "id": routing[8:].hex()}
    return keys[192:], orders, next_alpha + next_beta + next_gamma, take_off(keys[64:192], delta)


def body_once_more(payload: bytes) -> bytes:
    assert len(payload) == 10_500 and payload[:32] == bytes(32) and payload[34:36] == bytes(2)
    return payload[36 : 36 + int.from_bytes(payload[32:34], "big")]


# The vectors.


def test_the_file_is_what_the_script_makes() -> None:
    # so that it can be looked up where every byte comes from
    assert make_sphinx.vectors() == FILE.read_text(encoding="utf-8"), make_sphinx.__doc__


def test_the_vectors_are_the_frozen_ones() -> None:
    # the script could be changed together with the file: then this is the line that says that it is another format
    digest = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert digest == "670a87bdffe19a27c46dbf292c7eaf049b3d4f2ca3a1a0698362a22870621701"
    assert [len(vector["hops"]) for vector in VECTORS["packets"]] == [5, 3, 1]
    assert [len(vector["hops"]) for vector in VECTORS["replies"]] == [4, 1]
    assert [len(vector["body"]) // 2 for vector in EVERY] == [300, 10_464, 0, 41, 1]


@each_vector
def test_the_vectors_orders_are_those_of_its_path(vector: dict[str, Any]) -> None:
    hops, steps = vector["hops"], vector["steps"]
    assert hashlib.sha256(raw(vector["packet"])).hexdigest() == steps[0]["sha256"]
    last = (REPLY, vector["keys"]["id"]) if "keys" in vector else (DELIVER, "00" * 32)
    commands = [*((FORWARD, hop["node_id"]) for hop in hops[1:]), last]
    assert [(step["command"], step["id"]) for step in steps] == commands
    # an arrived packet waits for nothing
    assert [step["delay_us"] for step in steps] == [*(hop["delay_us"] for hop in hops[:-1]), 0]


@each_vector
def test_each_hop_reads_what_is_frozen(vector: dict[str, Any]) -> None:
    whole = raw(vector["packet"])
    for seed, step in zip(seeds(vector), vector["steps"], strict=True):
        assert hashlib.sha256(whole).hexdigest() == step["sha256"]
        opened = sphinx.open_header(xwing.PrivateKey(seed), whole)
        assert opened.tag.hex() == step["tag"]
        done = sphinx.unwrap(opened)
        if step["command"] == FORWARD:
            assert isinstance(done, sphinx.Forward)
            assert (done.next_id.hex(), done.delay_us) == (step["id"], step["delay_us"])
            whole = done.packet
    assert isinstance(done, sphinx.Arrived)
    if "keys" not in vector:
        assert done.reply_id is None
        assert sphinx.read_body(done.payload).hex() == vector["body"]
    else:
        assert done.reply_id is not None and done.reply_id.hex() == vector["keys"]["id"]
        assert reply_keys(vector).read(done.payload).hex() == vector["body"]


@each_vector
def test_the_format_written_once_more_reads_the_same(vector: dict[str, Any]) -> None:
    whole = raw(vector["packet"])
    for seed, step in zip(seeds(vector), vector["steps"], strict=True):
        assert hashlib.sha256(whole).hexdigest() == step["sha256"]
        tag, orders, head, payload = once_more(seed, whole)
        assert {"sha256": step["sha256"], "tag": tag.hex()} | orders == step
        # what the package would pass on is the same, at the last hop too, where nobody uses it
        opened = sphinx.open_header(xwing.PrivateKey(seed), whole)
        assert opened.orders()[1] == head and opened.payload() == payload
        whole = head + payload
    if "keys" in vector:
        for layer in reversed(vector["keys"]["layers"]):
            payload = put_on(bytes.fromhex(layer), payload)
        key = hkdf(bytes.fromhex(vector["keys"]["seed"]), b"anporia/p2p/reply/v1", 128)
        payload = take_off(key, payload)
    assert body_once_more(payload).hex() == vector["body"]


def test_the_stream_written_once_more_is_chacha20() -> None:
    # libsodium against the slow one that test_lioness.py holds against RFC 8439
    key = bytes(range(32))
    for length in (64, 65, 128, 1_000):
        assert stream(key, bytes(length)) == chacha20(key, 0, bytes(12), bytes(length))


def test_the_format_written_once_more_refuses() -> None:
    # else it would hold nothing against anything
    vector = VECTORS["packets"][0]
    whole, seed = raw(vector["packet"]), seeds(vector)[0]
    for at in (0, 1_119, 1_120, 5_863, 5_864, 5_879):
        changed = whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]
        with pytest.raises(AssertionError):
            once_more(seed, changed)
        with pytest.raises(BadPacket) as error:
            sphinx.open_header(xwing.PrivateKey(seed), changed)
        assert error.value.code == "bad_mac"


# How they are built.


def layers_of(vector: dict[str, Any]) -> Iterator[header.Layer]:
    for hop, step in zip(vector["hops"], vector["steps"], strict=True):
        keys = header.HopKeys.derive(bytes.fromhex(hop["secret"]))
        routing = Routing(Command(step["command"]), step["delay_us"], bytes.fromhex(step["id"]))
        yield header.Layer(raw(hop["ciphertext"]), keys, routing)


@each_vector
def test_the_secrets_are_those_of_the_ciphertexts(vector: dict[str, Any]) -> None:
    for seed, hop, layer in zip(seeds(vector), vector["hops"], layers_of(vector), strict=True):
        assert xwing.PrivateKey(seed).decapsulate(layer.ciphertext).hex() == hop["secret"]
        assert decapsulate(seed, layer.ciphertext).hex() == hop["secret"]


@each_packet
def test_the_layers_make_the_packet(vector: dict[str, Any]) -> None:
    layers, random_bytes = list(layers_of(vector)), make_sphinx.random_of(vector["name"])
    payload = packet.wrap_body(bytes.fromhex(vector["body"]), random_bytes)
    for layer in reversed(layers):
        payload = lioness.encrypt(layer.keys.lioness, payload)
    assert header.assemble(layers, random_bytes) + payload == raw(vector["packet"])


def reply_keys(vector: dict[str, Any]) -> sphinx.ReplyKeys:
    keys = vector["keys"]
    layers = tuple(bytes.fromhex(layer) for layer in keys["layers"])
    return sphinx.ReplyKeys(bytes.fromhex(keys["id"]), bytes.fromhex(keys["seed"]), layers)


@each_reply
def test_the_layers_make_the_reply_block(vector: dict[str, Any]) -> None:
    layers, random_bytes = list(layers_of(vector)), make_sphinx.random_of(vector["name"])
    keys = reply_keys(vector)
    assert (keys.id, keys.seed) == (random_bytes(32), random_bytes(32))
    assert keys.layers == tuple(layer.keys.lioness for layer in layers)
    block = sphinx.ReplyBlock(
        bytes.fromhex(vector["hops"][0]["node_id"]), header.assemble(layers, random_bytes), keys.seed
    )
    assert block.to_bytes() == raw(vector["block"])
    assert sphinx.ReplyBlock.from_bytes(raw(vector["block"])) == block
    answer = block.answer(bytes.fromhex(vector["body"]), random_bytes)
    assert answer == raw(vector["packet"]) and answer[:5_880] == block.header
