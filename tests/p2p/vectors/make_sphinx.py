"""Makes the vectors of the packet: `.venv/bin/python -m tests.p2p.vectors.make_sphinx NEW_FILE`, from the root.

It gives the same bytes each time: all that is random in a packet is taken from SHAKE128 of names here, and ML-KEM's
randomness is given to kyber-py. `test_sphinx_vectors.py` therefore holds `sphinx.json` against it.

Where the two differ, the format has changed: packets of one version would be noise to nodes of the other. Such a
change needs a new version in the labels of `anporia_p2p.crypto.kdf` and in `LABEL` below, and a file of its own beside
`sphinx.json`, which stays as it is. This is why an existing file is never written over.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from anporia_p2p import sphinx
from anporia_p2p.crypto import xwing
from tests.p2p.test_xwing import encapsulate_derand

LABEL = b"anporia/p2p/vectors/sphinx/v1/"

# name, delays of the hops in microseconds (the last is not to wait), bytes of the body
PACKETS = [
    ("five hops", (0, 1, 65_536, sphinx.MAX_DELAY_US, 0), 300),
    ("three hops, full", (250_000, 1_500_000, 0), sphinx.BODY_BYTES),
    ("one hop, empty", (0,), 0),
]
REPLIES = [
    ("reply over four hops", (20_000, 0, 300_000_000, 0), 41),
    ("reply over one hop", (0,), 1),
]


class Stream:
    """SHAKE128 of `LABEL` and a name, read from its start on: it stands where `random_bytes` is asked for."""

    def __init__(self, name: str) -> None:
        self._hash, self._at = hashlib.shake_128(LABEL + name.encode()), 0

    def __call__(self, length: int) -> bytes:
        start, self._at = self._at, self._at + length
        return self._hash.digest(self._at)[start:]


def random_of(name: str) -> Stream:
    """What a vector's packet takes for random bytes, in the order it asks for them."""
    return Stream(f"{name}/random")


@contextmanager
def known_encapsulations(name: str) -> Iterator[list[tuple[bytes, bytes, bytes]]]:
    """Take the randomness of encapsulations from a name; gives a list of (it, secret, ciphertext), as they are made."""
    made: list[tuple[bytes, bytes, bytes]] = []
    numbers = count(1)

    def encapsulate(public: xwing.PublicKey) -> tuple[bytes, bytes]:
        eseed = Stream(f"{name}/eseed {next(numbers)}")(64)
        made.append((eseed, *encapsulate_derand(public.raw, eseed)))
        return made[-1][1:]

    with patch.object(xwing.PublicKey, "encapsulate", encapsulate):
        yield made


def hops(name: str, delays: Sequence[int]) -> tuple[list[xwing.PrivateKey], list[sphinx.Hop], list[dict[str, Any]]]:
    privates, path, written = [], [], []
    for number, delay_us in enumerate(delays, 1):
        seed, node_id = Stream(f"{name}/seed {number}")(32), Stream(f"{name}/node {number}")(32)
        privates.append(xwing.PrivateKey(seed))
        path.append(sphinx.Hop(node_id, privates[-1].public, delay_us))
        written.append({"seed": seed.hex(), "node_id": node_id.hex(), "delay_us": delay_us})
    return privates, path, written


def add_encapsulations(written: list[dict[str, Any]], made: list[tuple[bytes, bytes, bytes]]) -> None:
    for hop, (eseed, secret, ciphertext) in zip(written, made, strict=True):
        hop |= {"eseed": eseed.hex(), "secret": secret.hex(), "ciphertext": text(ciphertext)}


def steps(privates: Sequence[xwing.PrivateKey], packet: bytes) -> list[dict[str, Any]]:
    """What each hop gets and reads."""
    written = []
    for private in privates:
        opened = sphinx.open_header(private, packet)
        orders, _ = opened.orders()
        written.append(
            {
                "sha256": hashlib.sha256(packet).hexdigest(),
                "tag": opened.tag.hex(),
                "command": int(orders.command),
                "delay_us": orders.delay_us,
                "id": orders.id.hex(),
            }
        )
        done = sphinx.unwrap(opened)
        if isinstance(done, sphinx.Forward):
            packet = done.packet
    return written


def text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def packet_vector(name: str, delays: Sequence[int], size: int) -> dict[str, Any]:
    privates, path, written = hops(name, delays)
    body = Stream(f"{name}/body")(size)
    with known_encapsulations(name) as made:
        packet = sphinx.build(path, body, random_of(name))
    add_encapsulations(written, made)
    return {
        "name": name,
        "hops": written,
        "body": body.hex(),
        "packet": text(packet),
        "steps": steps(privates, packet),
    }


def reply_vector(name: str, delays: Sequence[int], size: int) -> dict[str, Any]:
    privates, path, written = hops(name, delays)
    body, random_bytes = Stream(f"{name}/body")(size), random_of(name)
    with known_encapsulations(name) as made:
        block, keys = sphinx.make_reply_block(path, random_bytes)
    add_encapsulations(written, made)
    packet = block.answer(body, random_bytes)
    return {
        "name": name,
        "hops": written,
        "block": text(block.to_bytes()),
        "keys": {"id": keys.id.hex(), "seed": keys.seed.hex(), "layers": [key.hex() for key in keys.layers]},
        "body": body.hex(),
        "packet": text(packet),
        "steps": steps(privates, packet),
    }


def vectors() -> str:
    """The text of the file."""
    made = {
        "packets": [packet_vector(*arguments) for arguments in PACKETS],
        "replies": [reply_vector(*arguments) for arguments in REPLIES],
    }
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    try:
        with Path(sys.argv[1]).open("x", encoding="utf-8") as file:
            file.write(vectors())
    except (IndexError, FileExistsError):
        sys.exit(__doc__)
    print("These differ from sphinx.json only if the format has changed, which then needs a new version.")
