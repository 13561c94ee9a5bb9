"""Certificates of persons: X.509 chains, and the rules of docs/protocol.md by which they count."""

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519 as openssl
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from . import ed25519
from .cbor import Refused, octets, require

MOST = 4
MOST_BYTES = 4096
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
# A critical extension of another kind can't be ignored, so its certificate is refused.
KNOWN = {
    x509.KeyUsage,
    x509.SubjectAlternativeName,
    x509.BasicConstraints,
    x509.NameConstraints,
    x509.ExtendedKeyUsage,
    x509.CRLDistributionPoints,
}
HASHES = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: hashes.SHA256(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: hashes.SHA384(),
}


class Certificate:
    """One certificate, with what counts in it."""

    def __init__(self, der: bytes):
        require(len(octets(der)) <= MOST_BYTES, "a certificate is too large")
        try:
            self.x509 = x509.load_der_x509_certificate(der)
            # The rest is parsed when it is asked for, and not before.
            version, extensions = self.x509.version, list(self.x509.extensions)
            self.subject, self.issuer = self.x509.subject, self.x509.issuer
        except Exception as error:  # The parser has many.
            raise Refused(f"no X.509 certificate in DER: {error}") from None
        require(version is x509.Version.v3, "no certificate of version 3")
        self.extensions = {type(extension.value): extension.value for extension in extensions}
        for extension in extensions:
            known = type(extension.value) in KNOWN
            require(known or not extension.critical, f"unknown critical extension {extension.oid.dotted_string}")
        self.begin = (self.x509.not_valid_before_utc - EPOCH).total_seconds() * 1000
        self.end = (self.x509.not_valid_after_utc - EPOCH).total_seconds() * 1000
        require(self.begin <= self.end, "a certificate that is never valid")

    @property
    def is_authority(self) -> bool:
        constraints = self.extensions.get(x509.BasicConstraints)
        return constraints is not None and constraints.ca

    @property
    def path_length(self) -> int | None:
        return self.extensions[x509.BasicConstraints].path_length

    def names(self, kind) -> list:
        names = self.extensions.get(x509.SubjectAlternativeName)
        return names.get_values_for_type(kind) if names is not None else []

    def check_time(self, at: int) -> None:
        """That it is valid at this time, in milliseconds. Its times are whole seconds, and the last one counts."""
        require(self.begin <= at, "a certificate is not valid yet")
        require(at // 1000 * 1000 <= self.end, "a certificate is no longer valid")

    def check_role(self, authority: bool) -> None:
        require(self.is_authority == authority, f"a CA's certificate: expected {authority}")
        usage = self.extensions.get(x509.KeyUsage)
        if authority:
            require(usage is None or usage.key_cert_sign, "an authority's key is not for certificates")
        else:
            signs = usage is not None and (usage.digital_signature or usage.content_commitment)
            require(signs, "the signer's key is not for signatures")
        purposes = self.extensions.get(x509.ExtendedKeyUsage)
        # By name: anyExtendedKeyUsage is not enough.
        require(purposes is None or ExtendedKeyUsageOID.EMAIL_PROTECTION in purposes, "not for mail")

    def public_key(self):
        try:
            return self.x509.public_key()
        except Exception as error:
            raise Refused(f"a key that can't be read: {error}") from None

    def check_signs_certificates(self) -> None:
        key = self.public_key()
        curve = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1")
        require(curve or isinstance(key, openssl.Ed25519PublicKey), "an authority's key of another algorithm")

    def check_issued(self, below: "Certificate") -> None:
        """That this one's key signed that one."""
        self.check_signs_certificates()
        key, algorithm = self.public_key(), below.x509.signature_algorithm_oid
        signature, signed = below.x509.signature, below.x509.tbs_certificate_bytes
        try:
            if isinstance(key, openssl.Ed25519PublicKey):
                require(algorithm == SignatureAlgorithmOID.ED25519, "another signature algorithm")
                key.verify(signature, signed)
            else:
                require(algorithm in HASHES, "another signature algorithm")
                key.verify(signature, signed, ec.ECDSA(HASHES[algorithm]))
        except InvalidSignature:
            raise Refused("a certificate is not signed by its issuer") from None

    def check_constraints(self, path: list["Certificate"]) -> None:
        """That no name in `path`, below this one, is outside its NameConstraints."""
        constraints = self.extensions.get(x509.NameConstraints)
        if constraints is None:
            return
        for certificate in path:
            for kind in (x509.DNSName, x509.IPAddress):
                of_kind = lambda trees: [tree.value for tree in trees or [] if isinstance(tree, kind)]
                permitted, excluded = of_kind(constraints.permitted_subtrees), of_kind(constraints.excluded_subtrees)
                for name in certificate.names(kind):
                    allowed = not permitted or any(_within(name, tree) for tree in permitted)
                    require(allowed and not any(_within(name, tree) for tree in excluded), "a name is constrained")
        # Others are not evaluated: who carries them is refused.
        for tree in [*(constraints.permitted_subtrees or []), *(constraints.excluded_subtrees or [])]:
            require(isinstance(tree, (x509.DNSName, x509.IPAddress)), "constraints on names of another kind")


def _within(name, tree) -> bool:
    if isinstance(name, str):
        name, tree = name.lower(), tree.lower()
        return tree == "" or name == tree.lstrip(".") or name.endswith("." + tree.lstrip("."))
    return name in tree


@dataclass(frozen=True)
class Chain:
    """A signer's certificate and its issuers', each the next one's subject. `key` is the signer's, of 32 bytes."""

    certificates: tuple[Certificate, ...]
    key: bytes

    @property
    def key_id(self) -> bytes:
        return ed25519.key_id(self.key)

    @property
    def end(self) -> int:
        return min(certificate.end for certificate in self.certificates)

    def verify(self, anchors: list[Certificate], address: str, at: int) -> None:
        """That an anchor vouches, at this time in milliseconds, for the signer's key being that of `address`."""
        signer = self.certificates[0]
        require(address in signer.names(x509.RFC822Name), f"the certificate is not for {address}")
        for place, certificate in enumerate(self.certificates):
            certificate.check_time(at)
            certificate.check_role(authority=place > 0)
        why = "no trust anchor issued the certificates"
        for anchor in anchors:
            # The anchor may stand in the chain, too; then what is above it is not needed.
            for length in range(1, len(self.certificates) + 1):
                if self.certificates[length - 1].issuer == anchor.subject:
                    try:
                        return self._check_path([*self.certificates[:length], anchor], at)
                    except Refused as refused:
                        why = str(refused)
        raise Refused(why)

    @staticmethod
    def _check_path(path: list[Certificate], at: int) -> None:
        path[-1].check_time(at)
        for place in range(1, len(path)):
            issuer, below = path[place], path[:place]
            issuer.check_issued(below[-1])
            issuer.check_constraints(below)
            limit = issuer.path_length
            require(limit is None or len(below) - 1 <= limit, "an authority allows fewer below it")


def parse(certificates: list[bytes]) -> Chain:
    return _parse(tuple(octets(certificate) for certificate in certificates))


@lru_cache(maxsize=1024)
def _parse(certificates: tuple[bytes, ...]) -> Chain:
    require(1 <= len(certificates) <= MOST, f"a chain has 1 to {MOST} certificates")
    parsed = tuple(Certificate(der) for der in certificates)
    for below, issuer in zip(parsed, parsed[1:]):
        require(below.issuer == issuer.subject, "a certificate is not its predecessor's issuer")
    key = parsed[0].public_key()
    require(isinstance(key, openssl.Ed25519PublicKey), "the signer's key is not Ed25519")
    return Chain(parsed, ed25519.check_key(key.public_bytes(Encoding.Raw, PublicFormat.Raw)))


@lru_cache(maxsize=1024)
def parse_anchor(der: bytes) -> Certificate:
    """A trust anchor: a CA's certificate. Whether its time has come is asked when it is used."""
    anchor = Certificate(der)
    anchor.check_role(authority=True)
    anchor.check_signs_certificates()
    if anchor.subject == anchor.issuer:
        anchor.check_issued(anchor)
    return anchor
