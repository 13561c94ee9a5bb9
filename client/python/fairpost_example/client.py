"""The cluster, asked over gRPC. No answer is believed but by its token."""

import os
import time
from hashlib import sha256

import grpc

# Made from proto/api by protoc: see README.md.
from fairpost.v1 import exchange_pb2, exchange_pb2_grpc

from . import bls, cose, tls
from .cbor import Refused, encode, require, uint
from .files import Identity
from .formats import Nro, Trust

PATIENCE = 10


def channel(address: str, identity: bytes) -> grpc.Channel:
    host, _, port = address.rpartition(":")
    pem, name = tls.pinned_certificate(host.strip("[]"), int(port), identity)
    # Names in the certificate say nothing, and gRPC insists on one: so it is given one that is there.
    options = [("grpc.ssl_target_name_override", name)]
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(root_certificates=pem), options)


def request(identity: Identity, cluster: bytes, method: str, nro: Nro, evidence: bytes | None):
    """The signed request. It is good for five minutes, so it is made anew for every call."""
    body = sha256(encode([nro.signed.data, evidence])).digest()
    values = [cluster, method, nro.terms.exchange, body, time.time_ns() // 10**6, os.urandom(16)]
    signed = cose.sign("request", values, identity)
    return exchange_pb2.PartyRequest(request=signed, nro=nro.signed.data, evidence=evidence or b"")


def ask(trust: Trust, identity: Identity, method: str, nro: Nro, evidence: bytes | None, call: str):
    """Asks one server after the other, until one answers with a verdict whose token holds."""
    require(nro.terms.cluster == trust.cluster, "the mail is of another cluster")
    why = []
    for name, address, key in trust.views[-1].members.values():
        try:
            with channel(address, key) as connection:
                service = exchange_pb2_grpc.ExchangeStub(connection)
                message = request(identity, trust.cluster, method, nro, evidence)
                answer = getattr(service, call)(message, timeout=PATIENCE)
            require(answer.state != exchange_pb2.STATE_UNDECIDED, "undecided, as far as it knows")
            # A verdict's code is one less than its State.
            verdict = uint(answer.state - 1, 1, 4)
            bls.verify(trust.key, bls.verdict_message(trust.cluster, verdict, nro.terms.exchange), answer.token)
            return verdict, answer
        except grpc.RpcError as error:
            why.append(f"{name}: {error.code().name}: {error.details()}")
        except (OSError, Refused) as error:
            why.append(f"{name}: {error}")
    raise Refused("no server gave a verdict:\n  " + "\n  ".join(why))


def redeem(trust: Trust, identity: Identity, nro: Nro):
    """Hands in the receipt, and gives verdict and token: not Released, if another verdict was there before."""
    receipt = cose.sign("nrr", [nro.terms.exchange, nro.signed.digest], identity)
    verdict, outcome = ask(trust, identity, "redeem", nro, receipt, "Redeem")
    return verdict, outcome.token


def get_proof(trust: Trust, identity: Identity, nro: Nro):
    """All that proves the verdict: see `formats.make_proof`."""
    return ask(trust, identity, "proof", nro, None, "GetProof")[1]
