"""Ed25519 (RFC 8032), strictly: one encoding of each key, and no key or signature point of small order.

Libraries differ in which of these odd signatures they take; a judge and the servers must not.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hashlib import sha256

from .cbor import Refused, require

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
# A point P has small order if 8 P is the neutral point: these are the y of all eight.
_Y = 2707385501144840649318225287225658788936804267575313519463743609750303021585
SMALL_ORDER = {0, 1, P - 1, _Y, P - _Y}
# What stands before a key's 32 bytes in its DER SubjectPublicKeyInfo (RFC 8410).
SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")


def key_id(key: bytes) -> bytes:
    return sha256(SPKI_PREFIX + key).digest()


def _y(point: bytes) -> int:
    """A point's y, without the bit that is the sign of x."""
    return int.from_bytes(point, "little") & (2**255 - 1)


def check_key(key: bytes) -> bytes:
    """A key of 32 bytes: a point in its one encoding, not of small order."""
    y = _y(key)
    require(y < P, "an Ed25519 key that is not canonical")
    require(y not in SMALL_ORDER, "an Ed25519 key of small order")
    # x² = (y² - 1) / (d y² + 1) must be a square. (x = 0, which has no sign, is of small order.)
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    require(pow(x2, (P - 1) // 2, P) == 1, "no point of the curve, so no Ed25519 key")
    return key


def verify(key: bytes, message: bytes, signature: bytes) -> None:
    check_key(key)
    # OpenSSL compares R byte by byte with the one that it computes, so a second encoding never passes.
    require(_y(signature[:32]) not in SMALL_ORDER, "a signature whose point is of small order")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("the signature is not by this key") from None
