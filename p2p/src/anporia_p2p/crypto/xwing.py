"""X-Wing, the hybrid KEM of X25519 and ML-KEM-768: secret as long as either of the two is.

draft-connolly-cfrg-xwing-kem, over the X25519 (RFC 7748) and ML-KEM-768 (FIPS 203) of `cryptography`. It is also the
KEM 0x647a of HPKE, which a test holds it against.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ..errors import BadKey

__all__ = ["CIPHERTEXT_BYTES", "PUBLIC_BYTES", "SECRET_BYTES", "SEED_BYTES", "PrivateKey", "PublicKey"]

SEED_BYTES = 32
PUBLIC_BYTES = 1_216  # 1,184 of ML-KEM-768 and 32 of X25519
CIPHERTEXT_BYTES = 1_120  # 1,088 and 32
SECRET_BYTES = 32

_MLKEM_PUBLIC = 1_184  # FIPS 203, table 3
_MLKEM_CIPHERTEXT = 1_088  # the same
# its exchange gives zero for points of small order and no others, as that of any clamped scalar (RFC 7748, section 7)
_PROBE = X25519PrivateKey.from_private_bytes(b"\x01" * 32)
_NO_MLKEM = "this build of cryptography has no ML-KEM-768: install its wheel, 50 or later"
_LABEL = bytes.fromhex("5c2e2f2f5e5c")  # \.//^\ : section 5.3 of the draft


class PublicKey:
    """Where shared secrets are sent to: 1,216 bytes."""

    __slots__ = ("_mlkem", "_x25519", "_x25519_raw", "raw")

    def __init__(self, raw: bytes) -> None:
        """Read a public key. Raises `BadKey` for another length, an encoding ML-KEM refuses, or small order.

        The draft leaves small order to be found out by each user; a mix whose key no packet can be sealed to must not
        get into a directory.
        """
        if len(raw) != PUBLIC_BYTES:
            raise BadKey(f"an X-Wing public key has {PUBLIC_BYTES} bytes, not {len(raw)}")
        self.raw = bytes(raw)
        self._x25519_raw = self.raw[_MLKEM_PUBLIC:]
        try:
            self._mlkem = MLKEM768PublicKey.from_public_bytes(self.raw[:_MLKEM_PUBLIC])
        except UnsupportedAlgorithm:
            raise BadKey(_NO_MLKEM) from None
        except ValueError:
            raise BadKey("not an ML-KEM-768 public key") from None
        self._x25519 = X25519PublicKey.from_public_bytes(self._x25519_raw)
        try:
            _PROBE.exchange(self._x25519)
        except ValueError:
            raise BadKey("the X25519 half is of small order") from None

    def encapsulate(self) -> tuple[bytes, bytes]:
        """Make a secret only this key's owner can have too: gives (secret of 32 bytes, ciphertext of 1,120).

        Randomness is the operating system's.
        """
        ephemeral = X25519PrivateKey.generate()
        mlkem_secret, mlkem_ciphertext = self._mlkem.encapsulate()
        x25519_secret = ephemeral.exchange(self._x25519)
        x25519_ciphertext = ephemeral.public_key().public_bytes_raw()
        secret = _combine(mlkem_secret, x25519_secret, x25519_ciphertext, self._x25519_raw)
        return secret, mlkem_ciphertext + x25519_ciphertext


class PrivateKey:
    """The other half: a seed of 32 bytes, from which both keys follow. `repr` does not show it."""

    __slots__ = ("_mlkem", "_x25519", "public")

    def __init__(self, seed: bytes) -> None:
        """Expand the seed (section 5.2 of the draft). Raises `BadKey` for another length."""
        if len(seed) != SEED_BYTES:
            raise BadKey(f"an X-Wing seed has {SEED_BYTES} bytes, not {len(seed)}")
        expanded = hashlib.shake_256(seed).digest(96)
        try:
            self._mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        except UnsupportedAlgorithm:
            raise BadKey(_NO_MLKEM) from None
        self._x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        raw = self._mlkem.public_key().public_bytes_raw() + self._x25519.public_key().public_bytes_raw()
        self.public = PublicKey(raw)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """Give the secret of a ciphertext of 1,120 bytes: 32 bytes. Raises `BadKey` for any other length.

        A changed ciphertext gives another secret, not an error (FIPS 203 calls it implicit rejection), except for
        an X25519 half of small order, which no sender makes: `BadKey`.
        """
        if len(ciphertext) != CIPHERTEXT_BYTES:
            raise BadKey(f"an X-Wing ciphertext has {CIPHERTEXT_BYTES} bytes, not {len(ciphertext)}")
        x25519_ciphertext = ciphertext[_MLKEM_CIPHERTEXT:]
        mlkem_secret = self._mlkem.decapsulate(ciphertext[:_MLKEM_CIPHERTEXT])
        try:
            x25519_secret = self._x25519.exchange(X25519PublicKey.from_public_bytes(x25519_ciphertext))
        except ValueError:
            raise BadKey("the X25519 half is of small order") from None
        return _combine(mlkem_secret, x25519_secret, x25519_ciphertext, self.public.raw[_MLKEM_PUBLIC:])

    def __repr__(self) -> str:
        return f"xwing.PrivateKey(public {self.public.raw[:8].hex()}…)"


def _combine(mlkem_secret: bytes, x25519_secret: bytes, x25519_ciphertext: bytes, x25519_public: bytes) -> bytes:
    # section 5.3: ML-KEM's ciphertext need not be in, since ML-KEM binds it to its secret
    return hashlib.sha3_256(mlkem_secret + x25519_secret + x25519_ciphertext + x25519_public + _LABEL).digest()
