"""The judge: from a proof, and the trust in a cluster, to an answer. No network. See docs/protocol.md."""

from contextlib import contextmanager
from dataclasses import dataclass

from . import bls, cose, sealed
from .cbor import Refused, require
from .formats import EXPIRED, REFUSED, RELEASED, WITHDRAWN, Nro, Proof, Terms, Trust, View
from .formats import check_inclusion, parse_nro, parse_proof, parse_trust

KINDS = {RELEASED: "nrr", WITHDRAWN: "withdrawal", REFUSED: "refusal"}


@dataclass(frozen=True)
class Finding:
    terms: Terms
    verdict: int
    time: int
    content: str  # "shown", "not shown", "none" (there is nothing to open) or "fraud"


@contextmanager
def step(name: str):
    try:
        yield
    except Refused as refused:
        raise Refused(f"{name}: {refused}") from None


def check_nro(view: View, data: bytes, at: int) -> Nro:
    """That the sender signed this NRO, if it is decided at this time in milliseconds."""
    nro = parse_nro(data)
    terms, chain = nro.terms, nro.signed.chain
    require(terms.cluster == view.cluster, "the terms are for another cluster")
    lifetime = terms.expires - terms.created
    require(view.shortest <= lifetime <= view.longest, "the exchange is shorter or longer than the cluster allows")
    require(terms.created <= at + view.skew, "the terms are made later than they are decided")
    require(chain.key_id == terms.sender_key, "signed by another key than the terms name")
    # At the deadline, so that an expiry can be proved years later, and at the recorded time if that is before it.
    chain.verify(view.anchors, terms.sender, terms.expires)
    if at < terms.expires:
        chain.verify(view.anchors, terms.sender, at)
    nro.signed.verify_by_chain()
    return nro


def check_evidence(view: View, verdict: int, nro: Nro, data: bytes | None, at: int) -> bytes | None:
    """That the right party signed what this verdict needs, about this very NRO. Gives its digest."""
    if verdict == EXPIRED:
        require(data is None, "an expiry with evidence")
        return None
    require(data is not None, "the evidence is missing")
    signed = cose.parse(data, KINDS[verdict], 2)
    terms, (exchange, digest) = nro.terms, signed.values
    require(exchange == terms.exchange, "it is about another exchange")
    require(digest == nro.signed.digest, "it is about another NRO")
    if verdict == WITHDRAWN:
        address, key = terms.sender, terms.sender_key
    else:
        address, key = terms.recipient, terms.recipient_key
    require(key is None or signed.chain.key_id == key, "signed by another key than the terms name")
    signed.chain.verify(view.anchors, address, at)
    signed.verify_by_chain()
    return signed.digest


def check_votes(view: View, certificate) -> None:
    """That a quorum of this view voted for the leaf. `parse_certificate` has seen that the voters are distinct."""
    for vote in certificate.votes:
        require(vote.cluster == view.cluster and vote.epoch == view.epoch, "a vote in another cluster or epoch")
        require(vote.signed.kid in view.members, "a vote by nobody in the view")
        _, _, identity = view.members[vote.signed.kid]
        vote.signed.verify(identity)
        check_inclusion(certificate.leaf.hash, vote.ballot, *vote.inclusion)
    require(len(certificate.votes) >= view.quorum, "too few votes")


def check_certificate(view: View, proof: Proof, nro: Nro, evidence: bytes | None) -> None:
    leaf, terms = proof.certificate.leaf, nro.terms
    require(leaf.exchange == terms.exchange, "the leaf is for another exchange")
    require(leaf.nro == nro.signed.digest, "the leaf names another NRO")
    require(leaf.evidence == evidence, "the leaf names other evidence")
    require(leaf.verdict != RELEASED or leaf.time < terms.expires, "Released after the deadline")
    require(leaf.verdict != EXPIRED or leaf.time >= terms.expires + view.grace, "Expired too early")
    check_votes(view, proof.certificate)


def judge(data: bytes, trusted: Trust, container: bytes | None) -> Finding:
    """What a proof proves, with the sealed part of the mail or without."""
    with step("proof"):
        proof = parse_proof(data)
    leaf = proof.certificate.leaf
    with step("trust"):
        trust = parse_trust(proof.trust, trusted.cluster)
        epoch = proof.certificate.votes[0].epoch
        require(epoch < len(trust.views), "the votes are of a view that the proof does not hold")
        view = trust.views[epoch]
    with step("NRO"):
        nro = check_nro(view, proof.nro, leaf.time)
    with step("evidence"):
        evidence = check_evidence(view, leaf.verdict, nro, proof.evidence, leaf.time)
    with step("certificate"):
        check_certificate(view, proof, nro, evidence)
    with step("token"):
        # Equal cluster ids are equal geneses, and so equal keys.
        bls.verify(trusted.key, bls.verdict_message(view.cluster, leaf.verdict, leaf.exchange), proof.token)
    with step("opening"):
        content = check_opening(proof, nro, leaf.verdict, container)
    return Finding(nro.terms, leaf.verdict, leaf.time, content)


def check_opening(proof: Proof, nro: Nro, verdict: int, container: bytes | None) -> str:
    if container is None:
        require(not proof.fraud, "fraud is claimed, and it takes the sealed mail to see it")
        return "not shown" if verdict == RELEASED else "none"
    require(verdict == RELEASED, "only a released mail can be opened")
    try:
        sealed.open_container(container, nro.terms, nro.sealed, proof.lock, proof.token)
    except sealed.Garbage as garbage:
        require(proof.fraud, f"{garbage}; the sender locked something else than it signed")
        return "fraud"
    require(not proof.fraud, "fraud is claimed, but the mail opens as the terms say")
    return "shown"
