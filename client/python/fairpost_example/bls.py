"""The cluster's signature (token), and the lock that a token opens. BLS12-381, by py-ecc."""

from functools import lru_cache
from hashlib import sha256

# The ciphersuite is BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_: keys in G1, signatures in G2.
from py_ecc.bls import G2Basic
from py_ecc.bls.g2_primitives import G1_to_pubkey, pubkey_to_G1, signature_to_G2, subgroup_check
from py_ecc.optimized_bls12_381 import FQ2, G1, b2, curve_order, field_modulus, is_inf, is_on_curve, multiply, pairing

from .cbor import Refused, octets, require

LOCK = 80


@lru_cache(maxsize=1024)
def _point(data: bytes, read):
    try:
        point = read(data)
    except Exception as error:  # Assertions of the library among them.
        raise Refused(f"no point: {error}") from None
    require(not is_inf(point), "the identity point")
    require(subgroup_check(point), "a point outside the subgroup of prime order")
    return point


def g1(data: bytes):
    """A key or a lock's U: canonical, on the curve, in the subgroup, not the identity."""
    return _point(octets(data, 48), pubkey_to_G1)


def g2(data: bytes):
    """A token: likewise."""
    return _point(octets(data, 96), signature_to_G2)


def share(data: bytes):
    """What servers send each other for a token: uncompressed, on the curve, not the identity; its group is left open."""
    require(octets(data, 192)[0] < 32, "a flag of a compressed point, or the identity")
    numbers = [int.from_bytes(data[at : at + 48], "big") for at in range(0, 192, 48)]
    require(all(number < field_modulus for number in numbers), "a number beyond the field's")
    x1, x0, y1, y0 = numbers
    point = FQ2([x0, x1]), FQ2([y0, y1]), FQ2.one()
    require(is_on_curve(point, b2), "no point of the curve")
    return point


@lru_cache(maxsize=1024)
def _verifies(key: bytes, message: bytes, token: bytes) -> bool:
    return G2Basic.Verify(key, message, token)


def verify(key: bytes, message: bytes, token: bytes) -> None:
    """That `token` is the signature on `message` by the cluster with this key."""
    g1(key), g2(token)
    require(_verifies(key, message, token), "the token is not the cluster's for this")


def _message(domain: str, *fields: bytes) -> bytes:
    return bytes([len(domain)]) + domain.encode() + b"".join(fields)


def verdict_message(cluster: bytes, verdict: int, exchange: bytes) -> bytes:
    return _message("fairpost/verdict/v1", cluster, bytes([verdict]), exchange)


def genesis_message(cluster: bytes) -> bytes:
    return _message("fairpost/genesis-token/v1", cluster)


def view_message(cluster: bytes, view: bytes) -> bytes:
    return _message("fairpost/view/v1", cluster, sha256(view).digest())


def parse_lock(lock: bytes) -> bytes:
    g1(octets(lock, LOCK)[:48])
    return lock


@lru_cache(maxsize=1024)
def unlock(lock: bytes, token: bytes) -> bytes:
    """The 16 bytes that were locked. The token must have been verified: then a failure is the sender's."""
    parse_lock(lock)
    u, v, w = lock[:48], lock[48:64], lock[64:]
    sigma = _xor(v, _h2(pairing(g2(token), g1(u))))
    key = _xor(w, _head(b"IBE-H4", sigma))
    require(G1_to_pubkey(multiply(G1, _h3(sigma, key))) == u, "the token does not open the lock")
    return key


def _h2(paired) -> bytes:
    # py-ecc's pairing takes the loop's length by its absolute value, and raises to (p^12 - 1) / r. The lock is made
    # with the ate pairing at the curve's negative parameter, raised to three times that: so theirs to the power -3.
    paired = (paired**3).inv()
    c = [int(coefficient) for coefficient in paired.coeffs]
    hashed = sha256(b"IBE-H2")
    # py-ecc writes an element as c0 + c1 w + … + c11 w^11 with w^6 = 1 + u. Over Fp2 = Fp[u], the coefficient of w^k
    # is c_k + c_{k+6} + c_{k+6} u, and w^2 = v: so Fp12 = Fp6[w] has at i, j that of w^(i + 2j). Highest first.
    for i in (1, 0):
        for j in (2, 1, 0):
            k = i + 2 * j
            for part in (c[k + 6], (c[k] + c[k + 6]) % field_modulus):
                hashed.update(part.to_bytes(48, "big"))
    return hashed.digest()[:16]


def _h3(sigma: bytes, key: bytes) -> int:
    seed = sha256(b"IBE-H3" + sigma + key).digest()
    for i in range(1, 2**16 - 1):
        digest = bytearray(sha256(i.to_bytes(2, "little") + seed).digest())
        digest[0] >>= 1
        r = int.from_bytes(digest, "big")
        if 0 < r < curve_order:
            return r
    raise Refused("no scalar for this lock")


def _head(domain: bytes, data: bytes) -> bytes:
    return sha256(domain + data).digest()[:16]


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))
