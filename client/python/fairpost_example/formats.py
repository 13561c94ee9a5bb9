"""What is carried and signed: terms, views and trust, leaves and votes, proofs. See proto/fairpost.cddl."""

import re
import unicodedata
from dataclasses import dataclass
from hashlib import sha256

from . import bls, chain, cose, ed25519
from .cbor import array, decode, encode, octets, octets_or_null, record, require, tagged, text, uint

SECONDS = 253402300799
MILLIS = SECONDS * 1000 + 999
CMP1, CMP2 = 1, 2
RELEASED, WITHDRAWN, REFUSED, EXPIRED = 1, 2, 3, 4
VERDICTS = {RELEASED: "released", WITHDRAWN: "withdrawn", REFUSED: "refused", EXPIRED: "expired"}
MOST_SERVERS = MOST_KEYS = MOST_ANCHORS = 64
MOST_VIEWS = 4096
MOST_VIEW_BYTES = 512 * 1024
MOST_TRUST_BYTES = 8 * 1024 * 1024
MOST_PROOF_BYTES = MOST_TRUST_BYTES + 1024 * 1024

_ATOM = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ADDRESS = re.compile(rf"(?=.{{1,64}}@[^@]*\Z){_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})*\Z")


def address(value) -> str:
    require(_ADDRESS.match(text(value, 3, 254)) is not None, f"{value!r} is no address")
    return value


def printable(value, most: int) -> str:
    shown = all(unicodedata.category(char) != "Cc" for char in text(value, 1, most))
    require(shown, "text with control characters")
    return value


# ------------------------------------------------------------------------------------------------ the exchange


@dataclass(frozen=True)
class Terms:
    protocol: int
    cluster: bytes
    sender: str
    sender_key: bytes
    recipient: str
    recipient_key: bytes | None
    content: bytes
    created: int  # both in milliseconds, as all times here
    expires: int
    exchange: bytes


def parse_terms(data: bytes) -> Terms:
    values = tagged(decode(octets(data)), "fairpost/terms/v1", 8)
    protocol, cluster, nonce, sender, recipient, content, created, expires = values
    octets(nonce, 16)
    (sender, sender_key), (recipient, recipient_key) = array(sender, 2, 2), array(recipient, 2, 2)
    terms = Terms(
        protocol=uint(protocol, CMP1, CMP2),
        cluster=octets(cluster, 32),
        sender=address(sender),
        sender_key=octets(sender_key, 32),
        recipient=address(recipient),
        recipient_key=octets_or_null(recipient_key, 32),
        content=octets(content, 32),
        created=uint(created, 0, SECONDS) * 1000,
        expires=uint(expires, 0, SECONDS) * 1000,
        exchange=sha256(b"fairpost/terms/v1" + data).digest(),
    )
    require(terms.created < terms.expires, "terms that expire before they are made")
    require(terms.protocol == CMP1 or terms.recipient_key is not None, "CMP2 names the recipient's key")
    return terms


@dataclass(frozen=True)
class Nro:
    signed: cose.Signed
    terms: Terms
    sealed: bytes  # digest of the sealed mail's body


def parse_nro(data: bytes) -> Nro:
    signed = cose.parse(data, "nro", 2)
    terms, sealed = signed.values
    return Nro(signed, parse_terms(terms), octets(sealed, 32))


# ----------------------------------------------------------------------------------------------- the cluster


@dataclass(frozen=True)
class View:
    cluster: bytes
    epoch: int
    members: dict[bytes, tuple[str, str, bytes]]  # by key id: name, host:port, identity key
    quorum: int
    key: bytes
    anchors: list[chain.Certificate]
    skew: int
    grace: int
    shortest: int
    longest: int
    data: bytes
    previous: bytes | None


def parse_view(data: bytes, cluster: bytes | None) -> View:
    """The genesis, or a later view of `cluster`."""
    value = decode(octets(data), MOST_VIEW_BYTES)
    previous, epoch = None, 0
    if cluster is None:
        cluster = sha256(b"fairpost/genesis/v1" + data).digest()
        name, *constitution = tagged(value, "fairpost/genesis/v1", 9)
        printable(name, 63)
    else:
        epoch, *constitution, previous = tagged(value, "fairpost/view/v1", 10)
        uint(epoch, 1, 2**32 - 1)
        previous, size, root = array(previous, 3, 3)
        octets(previous, 32), uint(size), octets(root, 32)
    members, faults, points, operators, agreeing, anchors, auditors, parameters = constitution

    members = [record(member, 0, 1, 2) for member in array(members, 1, MOST_SERVERS)]
    names = [printable(name, 63) for name, _, _ in members]
    require(names == sorted(set(names), key=str.encode), "members are not in the order of their names, or twice")
    keys = [ed25519.check_key(octets(identity, 32)) for _, _, identity in members]
    require(len(set(keys)) == len(keys), "two members have one key")
    hosts = [printable(host, 255) for _, host, _ in members]

    n, f = len(members), uint(faults)
    require(n >= 3 * f + 1, f"{n} servers can't stand {f} compromised ones")
    quorum = (n + f) // 2 + 1
    require(len(array(points, 1, MOST_SERVERS)) == quorum, f"the commitment has not {quorum} points")
    for point in points:
        bls.g1(point)

    for key in [*array(operators, 0, MOST_KEYS), *array(auditors, 0, MOST_KEYS)]:
        ed25519.check_key(octets(key, 32))
    # At least one operator must agree, if there are any, and not more than there are.
    uint(agreeing, min(1, len(operators)), len(operators))

    skew, grace, shortest, longest, level, retention = record(parameters, *range(6))
    uint(level, 1, 65535)
    view = View(
        cluster=cluster,
        epoch=epoch,
        members={ed25519.key_id(key): (name, host, key) for name, host, key in zip(names, hosts, keys)},
        quorum=quorum,
        key=points[0],
        anchors=[chain.parse_anchor(octets(anchor)) for anchor in array(anchors, 0, MOST_ANCHORS)],
        skew=uint(skew, 1, 3600000),
        grace=uint(grace, 0, 86400000),
        shortest=uint(shortest, 1, 7776000) * 1000,
        longest=uint(longest, 1, 7776000) * 1000,
        data=data,
        previous=previous,
    )
    require(view.shortest <= view.longest, "the shortest lifetime is longer than the longest")
    kept = uint(retention, 1, 3155760000) * 1000
    require(kept >= view.longest + view.grace, "signed bytes are not kept for long enough")
    return view


@dataclass(frozen=True)
class Trust:
    views: list[View]

    @property
    def cluster(self) -> bytes:
        return self.views[0].cluster

    @property
    def key(self) -> bytes:
        return self.views[0].key


def parse_trust(data: bytes, expected: bytes | None = None) -> Trust:
    """The genesis and views of a cluster; of the expected one, if an id is given."""
    genesis, token, later = tagged(decode(octets(data), MOST_TRUST_BYTES), "fairpost/trust/v1", 3)
    views = [parse_view(genesis, None)]
    cluster, key = views[0].cluster, views[0].key
    require(expected in (None, cluster), "this is of another cluster")
    bls.verify(key, bls.genesis_message(cluster), octets(token))
    for place, pair in enumerate(array(later, 0, MOST_VIEWS), 1):
        data, token = array(pair, 2, 2)
        view = parse_view(data, cluster)
        require(view.epoch == place, "a view stands in the place of another")
        require(view.previous == sha256(views[-1].data).digest(), "a view does not follow the one before it")
        require(view.key == key, "a view has another key than the genesis")
        bls.verify(key, bls.view_message(cluster, view.data), octets(token))
        views.append(view)
    return Trust(views)


# -------------------------------------------------------------------------------------- leaves, votes, proofs


@dataclass(frozen=True)
class Leaf:
    exchange: bytes
    verdict: int
    time: int
    nro: bytes
    evidence: bytes | None
    hash: bytes


def parse_leaf(data: bytes) -> Leaf:
    kind, exchange, round_, verdict, time, nro, evidence = record(decode(octets(data)), *range(7))
    uint(kind, 1, 1), uint(round_, 1, 2**32 - 1)
    leaf = Leaf(
        exchange=octets(exchange, 32),
        verdict=uint(verdict, RELEASED, EXPIRED),
        time=uint(time, 0, MILLIS),
        nro=octets(nro, 32),
        evidence=octets_or_null(evidence, 32),
        hash=sha256(b"\0" + data).digest(),
    )
    require((leaf.evidence is None) == (leaf.verdict == EXPIRED), "only Expired has no evidence")
    return leaf


@dataclass(frozen=True)
class Vote:
    signed: cose.Signed
    cluster: bytes
    epoch: int
    ballot: bytes
    inclusion: tuple[int, int, list[bytes]]


def parse_vote(data: bytes) -> Vote:
    signed = cose.parse(data, "vote", 7, server=True, proved=True)
    cluster, epoch, sequence, log_size, log_root, ballot, number = signed.values
    uint(sequence), uint(log_size), octets(log_root, 32), uint(number)
    size, index, path = array(decode(signed.inclusion), 3, 3)
    path = [octets(node, 32) for node in array(path, 0, 63)]
    return Vote(signed, octets(cluster, 32), uint(epoch, 0, 2**32 - 1), octets(ballot, 32), (uint(size), uint(index), path))


def check_inclusion(leaf: bytes, root: bytes, size: int, index: int, path: list[bytes]) -> None:
    """That the leaf with this hash is in the tree: RFC 9162, section 2.1.3.2."""
    require(index < size <= 2**63, "a leaf outside its tree")
    fn, sn, node = index, size - 1, leaf
    for beside in path:
        require(sn > 0, "the inclusion path is too long")
        if fn & 1 or fn == sn:
            node = sha256(b"\1" + beside + node).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = sha256(b"\1" + node + beside).digest()
        fn, sn = fn >> 1, sn >> 1
    require(sn == 0, "the inclusion path is too short")
    require(node == root, "the leaf is not in the ballot")


@dataclass(frozen=True)
class Certificate:
    leaf: Leaf
    votes: list[Vote]


def parse_certificate(data: bytes) -> Certificate:
    leaf, votes = record(decode(octets(data)), 0, 1)
    certificate = Certificate(parse_leaf(leaf), [parse_vote(vote) for vote in array(votes, 1, MOST_SERVERS)])
    kids = [vote.signed.kid for vote in certificate.votes]
    # Strictly: so these are distinct members.
    require(kids == sorted(set(kids)), "votes are not in the order of their signers, or twice")
    return certificate


@dataclass(frozen=True)
class Proof:
    fraud: bool
    trust: bytes
    nro: bytes
    evidence: bytes | None
    certificate: Certificate
    token: bytes
    lock: bytes | None


def parse_proof(data: bytes) -> Proof:
    tag, trust, nro, evidence, certificate, token, lock = record(decode(octets(data), MOST_PROOF_BYTES), *range(7))
    require(tag in ("fairpost/proof/v1", "fairpost/fraud/v1"), f"this is {tag!r}, and no proof")
    bls.g2(octets(token, 96))
    return Proof(
        fraud=tag == "fairpost/fraud/v1",
        trust=octets(trust),
        nro=octets(nro),
        evidence=octets_or_null(evidence),
        certificate=parse_certificate(certificate),
        token=token,
        lock=None if lock is None else bls.parse_lock(lock),
    )


def make_proof(trust: bytes, parts, lock: bytes | None) -> bytes:
    """A proof of what the cluster answered to GetProof."""
    evidence = parts.evidence or None
    values = ["fairpost/proof/v1", trust, parts.nro, evidence, parts.certificate, parts.token, lock]
    return encode(dict(enumerate(values)))
