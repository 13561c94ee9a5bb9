"""The signed envelope: COSE_Sign1 (RFC 9052) in the one shape that the CDDL has."""

from dataclasses import dataclass
from hashlib import sha256

import cbor2

from . import chain, ed25519
from .cbor import array, decode, encode, octets, record, require, tagged, uint

MOST = 24 * 1024
ALG, KID, TYP, X5CHAIN, PROOFS = 1, 4, 16, 33, 396
ED25519 = -19
INCLUSION = -1


@dataclass(frozen=True)
class Signed:
    """A well-formed envelope. That it is signed is for `verify` to say."""

    values: list  # the payload's, from key 1 on
    chain: chain.Chain | None  # of a person
    kid: bytes | None  # of a server
    inclusion: bytes | None  # the ballot proof of a vote
    data: bytes  # the envelope with an empty unprotected header: as it came, but for a vote's ballot proof
    to_be_signed: bytes
    signature: bytes

    @property
    def digest(self) -> bytes:
        return sha256(self.data).digest()

    def verify(self, key: bytes) -> None:
        ed25519.verify(key, self.to_be_signed, self.signature)

    def verify_by_chain(self) -> None:
        self.verify(self.chain.key)


def typ(kind: str) -> str:
    return f"application/vnd.fairpost.{kind}+cose"


def parse(data: bytes, kind: str, count: int, server: bool = False, proved: bool = False) -> Signed:
    """An envelope of this kind, whose payload has keys 0 to `count`: a server's or a person's, with a proof or not."""
    sign1 = decode(octets(data), MOST)
    require(type(sign1) is cbor2.CBORTag and sign1.tag == 18, "no COSE_Sign1")
    protected, unprotected, payload, signature = array(sign1.value, 4, 4)
    signer = KID if server else X5CHAIN
    algorithm, name, who = record(decode(octets(protected)), ALG, TYP, signer)
    require(uint(algorithm, ED25519, ED25519) == ED25519, "not Ed25519")
    require(name == typ(kind), f"this is of type {name!r}, not {typ(kind)}")
    inclusion = None
    if proved:
        (proofs,) = record(unprotected, PROOFS)
        (inclusions,) = record(proofs, INCLUSION)
        inclusion = octets(*array(inclusions, 1, 1))
    else:
        record(unprotected)
    if server:
        kid, certificates = octets(who, 32), None
    else:
        kid = None
        # One certificate stands alone, more stand in an array.
        certificates = chain.parse([who] if type(who) is bytes else array(who, 2, chain.MOST))
    return Signed(
        values=tagged(decode(octets(payload)), f"fairpost/{kind}/v1", count),
        chain=certificates,
        kid=kid,
        inclusion=inclusion,
        data=encode(cbor2.CBORTag(18, [protected, {}, payload, octets(signature, 64)])),
        to_be_signed=structure(protected, payload),
        signature=signature,
    )


def structure(protected: bytes, payload: bytes) -> bytes:
    """What is signed: RFC 9052's Sig_structure, without external data."""
    return encode(["Signature1", protected, b"", payload])


def sign(kind: str, values: list, identity) -> bytes:
    """An envelope of this kind by a person: see `identity.Identity`."""
    certificates = identity.certificates
    x5chain = certificates[0] if len(certificates) == 1 else certificates
    protected = encode({ALG: ED25519, TYP: typ(kind), X5CHAIN: x5chain})
    payload = encode({0: f"fairpost/{kind}/v1", **dict(enumerate(values, 1))})
    signature = identity.key.sign(structure(protected, payload))
    return encode(cbor2.CBORTag(18, [protected, {}, payload, signature]))
