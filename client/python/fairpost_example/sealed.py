"""The sealed mail: the container, the age file in it with our one stanza, and the copies of the lock in CMP2.

Mails are held in memory here, as an example may; Fairpost itself never does.
"""

import base64
import binascii
import email
import hmac
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from . import bls
from .cbor import Refused, decode, octets, require, tagged
from .formats import CMP1, Nro, Terms, parse_nro

MAGIC = b"FPSEAL1\n"
MOST_HEADER = 64 * 1024
MOST_AGE_HEADER = 64 * 1024
COPY = 32 + bls.LOCK + 16
SALT = 32
CHUNK = 64 * 1024 + 16
VERSION = b"age-encryption.org/v1"
COLUMNS = 64
SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


class Garbage(Exception):
    """The sender sealed something else than it signed. With the right token, that accuses the sender."""


def find_container(mail: bytes) -> bytes:
    """The sealed part of a mail, or the mail itself if it is the bare part."""
    if mail.startswith(MAGIC):
        return mail
    parts = [part.get_payload(decode=True) or b"" for part in email.message_from_bytes(mail).walk()]
    sealed = [part for part in parts if part.startswith(MAGIC)]
    require(len(sealed) == 1, f"{len(sealed)} sealed parts in the mail, expected 1")
    return sealed[0]


def split_container(container: bytes) -> tuple[bytes, bytes]:
    """Header and body."""
    require(container[:8] == MAGIC, "no sealed mail")
    require(len(container) >= 12, "the container is cut")
    length = int.from_bytes(container[8:12], "big")
    require(length <= MOST_HEADER, "the container's header is too long")
    header, body = container[12 : 12 + length], container[12 + length :]
    require(len(header) == length, "the container is cut in its header")
    return header, body


def parse_header(header: bytes) -> Nro:
    (nro,) = tagged(decode(header), "fairpost/sealed/v1", 1)
    return parse_nro(octets(nro))


def _base64(data: bytes, url: bool = False) -> bytes:
    """Unpadded, and no other encoding of the same bytes."""
    alphabet = b"-_" if url else b"+/"
    try:
        found = base64.b64decode(data + b"=" * (-len(data) % 4), altchars=alphabet, validate=True)
    except binascii.Error:
        raise Refused("no base64") from None
    require(base64.b64encode(found, altchars=alphabet).rstrip(b"=") == data, "not the one base64 of these bytes")
    return found


@dataclass(frozen=True)
class Stanza:
    protocol: int
    lock: bytes | None  # in the open: CMP1
    lock_digest: bytes
    copies: tuple[bytes, ...]  # for the recipient and the sender: CMP2
    header: bytes  # up to and including the dashes of the MAC
    mac: bytes
    payload: bytes


def inspect(body: bytes, protocol: int, exchange: bytes) -> Stanza:
    """The age header with its one stanza, as this protocol and exchange want it. To be done before signing."""
    lines, place = [], 0
    while not lines or not lines[-1].startswith(b"---"):
        end = body.find(b"\n", place, MOST_AGE_HEADER)
        require(end >= 0, "no age header, or one that is cut or too long")
        lines.append(body[place:end])
        place = end + 1
    version, stanza, *encoded, last = lines if len(lines) > 2 else [b""] * 3
    require(version == VERSION, "no age file")
    words = stanza.split(b" ")
    require(words[0] == b"->", "no stanza")
    kind, *arguments = words[1:] or [b""]
    require(kind == f"fairpost-cmp{protocol}".encode(), f"a stanza of type {kind!r}")
    # All lines but the last have 64 columns, and the last has fewer, or none.
    *full, short = encoded or [b"-"]
    require(all(len(line) == COLUMNS for line in full) and len(short) < COLUMNS, "a stanza that is wrapped otherwise")
    content = _base64(b"".join(encoded))
    require(last.startswith(b"--- "), "no MAC")
    mac = _base64(last[4:])
    require(len(mac) == 32, "a MAC of another length")
    require(len(arguments) == (1 if protocol == CMP1 else 2), "a stanza with other arguments")
    found, *digest = [octets(_base64(argument, url=True), 32) for argument in arguments]
    require(found == exchange, "a mail that is sealed for another exchange")
    header = body[: place - 1 - len(last) + 3]
    if protocol == CMP1:
        lock = bls.parse_lock(content)
        return Stanza(protocol, lock, sha256(lock).digest(), (), header, mac, body[place:])
    require(len(content) == 2 * COPY, "a stanza with other than two copies")
    return Stanza(protocol, None, digest[0], (content[:COPY], content[COPY:]), header, mac, body[place:])


def lock_for(stanza: Stanza, exchange: bytes, key: X25519PrivateKey) -> bytes:
    """The lock, out of the party's own copy in CMP2. To be done before signing."""
    if stanza.lock is not None:
        return stanza.lock
    for copy in stanza.copies:
        try:
            lock = SUITE.decrypt(copy, key, info=b"fairpost/cmp2/v1" + exchange)
        except (InvalidTag, ValueError):
            continue
        require(sha256(lock).digest() == stanza.lock_digest, "the copy holds another lock than the stanza names")
        return bls.parse_lock(lock)
    raise Refused("neither copy of the lock opens with this key")


def _hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(key)


def _stream(payload: bytes, key: bytes) -> bytes:
    """The plaintext of an age payload: its nonce, then chunks of 64 KiB, each with a tag, the last one marked."""
    if len(payload) < 16:
        raise Garbage("the payload is cut")
    cipher = ChaCha20Poly1305(_hkdf(key, payload[:16], b"payload"))
    rest, plaintext, last = payload[16:], [], False
    for number in range(2**63):
        chunk, rest = rest[:CHUNK], rest[CHUNK:]
        last = not rest
        try:
            piece = cipher.decrypt(number.to_bytes(11, "big") + bytes([last]), chunk, None)
        except InvalidTag:
            raise Garbage("the payload does not decrypt") from None
        # Only a plaintext of no bytes ends with an empty chunk.
        if not piece and number > 0:
            raise Garbage("the payload ends with an empty chunk")
        plaintext.append(piece)
        if last:
            return b"".join(plaintext)
    raise Garbage("the payload is too long")


def unseal(stanza: Stanza, lock: bytes, token: bytes, content: bytes) -> bytes:
    """The mail. Token and lock must be the right ones, which callers have seen: then `Garbage` accuses the sender."""
    try:
        key = bls.unlock(lock, token)
    except Refused as refused:
        raise Garbage(str(refused)) from None
    mac = hmac.digest(_hkdf(key, b"", b"header"), stanza.header, "sha256")
    if not hmac.compare_digest(mac, stanza.mac):
        raise Garbage("the age header's MAC does not verify")
    plaintext = _stream(stanza.payload, key)
    if len(plaintext) < SALT:
        raise Garbage("the plaintext is shorter than its salt")
    if sha256(plaintext).digest() != content:
        raise Garbage("the content is not what the terms commit to")
    return plaintext[SALT:]


def open_container(container: bytes, terms: Terms, digest: bytes, lock: bytes | None, token: bytes) -> bytes:
    """The mail in a container, whose body must have this digest; in CMP2 with the lock that a party disclosed."""
    _, body = split_container(container)
    require(sha256(body).digest() == digest, "the sealed mail is another than the NRO is about")
    stanza = inspect(body, terms.protocol, terms.exchange)
    lock = stanza.lock if terms.protocol == CMP1 else lock
    require(lock is not None and sha256(lock).digest() == stanza.lock_digest, "the lock is missing, or another")
    return unseal(stanza, lock, token, terms.content)
