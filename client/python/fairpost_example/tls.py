"""Whom one talks to: a server's TLS certificate carries a binding, by which its identity key vouches for the TLS key."""

import socket
import ssl
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import cose
from .cbor import Refused, octets, require, uint
from .formats import SECONDS

# The extension that holds the binding.
OID = x509.ObjectIdentifier("1.2.840.113556.1.8000.2554.20676.5703.19452.33135.52164.5941775.12277652")
PATIENCE = 10


def check_binding(binding: bytes, identity: bytes, tls_key: bytes) -> None:
    """That this identity key vouches for the TLS key with this digest."""
    signed = cose.parse(binding, "tls-binding", 2, server=True)
    found, created = signed.values
    uint(created, 0, SECONDS)
    require(octets(found, 32) == tls_key, "the binding is for another TLS key")
    signed.verify(identity)


def _octet_string(der: bytes) -> bytes:
    """What is in a DER OCTET STRING of less than 64 KiB."""
    require(len(der) >= 2 and der[0] == 4 and der[1] <= 0x82, "no DER OCTET STRING")
    head = {0x81: 3, 0x82: 4}.get(der[1], 2)
    length = int.from_bytes(der[2:head], "big") if head > 2 else der[1]
    require(len(der) == head + length, "a DER OCTET STRING of another length")
    return der[head:]


def check_certificate(der: bytes, identity: bytes) -> x509.Certificate:
    """That the holder of this certificate's key speaks for this identity. Its names and dates say nothing."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        found = [extension.value.value for extension in certificate.extensions if extension.oid == OID]
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception as error:
        raise Refused(f"no certificate: {error}") from None
    require(len(found) == 1, f"{len(found)} bindings in the certificate, expected 1")
    # X.509 wraps every extension in an OCTET STRING. In it lies another one, since what is in there must be DER.
    check_binding(_octet_string(found[0]), identity, sha256(spki).digest())
    return certificate


def pinned_certificate(host: str, port: int, identity: bytes) -> tuple[bytes, str]:
    """The certificate (PEM) that a server shows, if the identity key vouches for it, and a name in it.

    Whoever answers could show somebody else's. That does not matter: on the connection that counts, gRPC accepts this
    certificate alone, and the handshake proves that the other end holds its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, port), PATIENCE) as plain:
        with context.wrap_socket(plain) as connection:
            der = connection.getpeercert(binary_form=True)
    certificate = check_certificate(der, identity)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    name, *_ = names.get_values_for_type(x509.DNSName) + names.get_values_for_type(x509.IPAddress)
    return certificate.public_bytes(Encoding.PEM), str(name)
