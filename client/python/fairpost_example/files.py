"""Identities and trust files: PEM with labels of our own."""

import base64
import os
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from .cbor import Refused, octets, require
from .formats import Trust, parse_trust

_BLOCK = re.compile(r"-----BEGIN ([^\n]*?)-----(.*?)-----END \1-----", re.DOTALL)


def blocks(text: str, label: str) -> list[bytes]:
    bodies = ["".join(body.split()) for found, body in _BLOCK.findall(text) if found == label]
    try:
        return [base64.b64decode(body, validate=True) for body in bodies]
    except ValueError:
        raise Refused(f"a {label} block that is no base64") from None


def block(text: str, label: str) -> bytes:
    found = blocks(text, label)
    require(len(found) == 1, f"{len(found)} blocks {label}, expected 1")
    return found[0]


@dataclass(frozen=True)
class Identity:
    key: Ed25519PrivateKey
    sealing_key: X25519PrivateKey
    certificates: list[bytes]


def load_identity(path: str) -> Identity:
    with open(path, encoding="ascii") as file:
        require(os.fstat(file.fileno()).st_mode & 0o077 == 0, f"others may read {path}: run chmod 600 {path}")
        text = file.read()
    key = load_der_private_key(block(text, "PRIVATE KEY"), None)
    require(isinstance(key, Ed25519PrivateKey), "the signing key is not Ed25519")
    sealing_key = X25519PrivateKey.from_private_bytes(octets(block(text, "FAIRPOST SEALING KEY"), 32))
    certificates = blocks(text, "CERTIFICATE")
    require(certificates != [], "the identity has no certificate yet")
    return Identity(key, sealing_key, certificates)


def load_trust(path: str) -> tuple[bytes, Trust]:
    """The trust file, as it came and as it was understood."""
    with open(path, encoding="ascii") as file:
        data = block(file.read(), "FAIRPOST CLUSTER TRUST")
    return data, parse_trust(data)
