"""Holds the example against Fairpost itself: `check.py vectors FOLDER` runs the vectors in proto/vectors, and
`check.py judge TRUST FOLDER` judges each proof in a folder, and prints a line of JSON for each.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from fairpost_example import bls, cbor, chain, files, formats, judge, sealed, tls
from fairpost_example.cbor import Refused, require


class Vector:
    def __init__(self, fields: dict):
        self.fields = fields

    def __getitem__(self, name: str):
        return self.fields[name]

    def data(self, name: str) -> bytes | None:
        value = self.fields.get(name)
        return None if value is None else bytes.fromhex(value)

    def says(self, **read) -> None:
        """That what was read is what the vector says. Of what is to be refused it says nothing."""
        for name, value in read.items() if self["valid"] else ():
            shown = value.hex() if type(value) is bytes else str(value)
            assert shown == str(self[name]), name


class Runs:
    """How each file of vectors is tried. Those that raise `Refused` or `Garbage` are refused, the others accepted."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.views = {}

    def load(self, name: str) -> list[Vector]:
        return [Vector(fields) for fields in json.loads((self.folder / name).read_text())]

    def view(self, name: str) -> formats.View:
        if name not in self.views:
            vector = next(vector for vector in self.load("genesis.json") if vector["name"] == name)
            self.views[name] = formats.parse_view(vector.data("genesis"), None)
        return self.views[name]

    def cbor(self, vector):
        # Of a tag there is only the head.
        value = cbor.decode(vector.data("bytes") + (b"\0" if vector["read"] == "tag 18" else b""))
        match vector["read"]:
            case "uint":
                found = str(cbor.uint(value))
            case "int":
                found = str(cbor.uint(value, -(2**63), 2**63 - 1))
            case "bytes":
                found = cbor.octets(value).hex()
            case "text":
                found = cbor.text(value, 0, 2**32)
            case "bytes or null":
                found = "null" if cbor.octets_or_null(value) is None else value.hex()
            case "map of 0 and 1":
                found = ", ".join(str(cbor.uint(value)) for value in cbor.record(value, 0, 1))
            case "array":
                found = str(len(cbor.array(value, 0, 100)))
            case _:
                require(type(value) is cbor2.CBORTag and value.tag == 18, "another tag")
                found = "18"
        vector.says(value=found)

    def messages(self, vector):
        cluster, exchange, digest = (vector.data(name) for name in ("cluster", "exchange", "digest"))
        match vector["kind"]:
            case "verdict":
                found = bls.verdict_message(cluster, int(vector["verdict"]), exchange)
            case "genesis":
                found = bls.genesis_message(digest)
            case "view":
                # The vector gives the digest of a view, not the view.
                found = bls._message("fairpost/view/v1", cluster, digest)
        vector.says(bytes=found)

    def points(self, vector):
        kinds = {"public key": bls.g1, "share key": bls.g1, "share": bls.share, "token": bls.g2}
        data = vector.data("bytes")
        if vector["type"] in kinds:
            kinds[vector["type"]](data)
            return
        cbor.octets(data, 3 * 48)
        for place in range(0, len(data), 48):
            bls.g1(data[place : place + 48])

    def tokens(self, vector):
        """A raw message under a key: drand's."""
        bls.verify(vector.data("public_key"), vector.data("message"), vector.data("token"))

    def locks(self, vector):
        key = bls.unlock(vector.data("locked"), vector.data("token"))
        # A published one has no key, and the file that it opens.
        if "file_key" in vector.fields:
            vector.says(file_key=key)

    def containers(self, vector):
        header, body = sealed.split_container(vector.data("container"))
        vector.says(header=header, body=body)

    def sealed_mails(self, vector):
        exchange, key = vector.data("exchange"), vector.data("sealing_key")
        stanza = sealed.inspect(vector.data("body"), 1 if vector["protocol"] == "CMP1" else 2, exchange)
        lock = sealed.lock_for(stanza, exchange, key and X25519PrivateKey.from_private_bytes(key))
        vector.says(mail=sealed.unseal(stanza, lock, vector.data("token"), vector.data("content")))

    def inclusion(self, vector):
        path = [bytes.fromhex(node) for node in vector["path"]]
        size, index = int(vector["tree_size"]), int(vector["leaf_index"])
        formats.check_inclusion(vector.data("leaf"), vector.data("root"), size, index, path)

    def chains(self, vector):
        found = chain.parse([bytes.fromhex(der) for der in vector["chain"]])
        anchors = [chain.parse_anchor(bytes.fromhex(der)) for der in vector["anchors"]]
        found.verify(anchors, vector["address"], vector["at"])
        vector.says(key_id=found.key_id)

    def anchors(self, vector):
        chain.parse_anchor(vector.data("certificate"))

    def genesis(self, vector):
        view = formats.parse_view(vector.data("genesis"), None)
        message = bls.genesis_message(view.cluster)
        vector.says(cluster=view.cluster, public_key=view.key, quorum=view.quorum, message=message)

    def trust(self, vector):
        trust = formats.parse_trust(vector.data("trust"))
        vector.says(cluster=trust.cluster, epoch=trust.views[-1].epoch)

    def terms(self, vector):
        vector.says(exchange=formats.parse_terms(vector.data("terms")).exchange)

    def evidence(self, vector):
        view, at = self.view(vector["view"]), vector["at"]
        nro = judge.check_nro(view, vector.data("nro"), at)
        judge.check_evidence(view, vector["verdict"], nro, vector.data("evidence"), at)

    def letters(self, vector):
        vector.says(nro=sealed.parse_header(vector.data("header")).signed.digest)

    def leaves(self, vector):
        vector.says(hash=formats.parse_leaf(vector.data("leaf")).hash)

    def certificates(self, vector):
        judge.check_votes(self.view(vector["view"]), formats.parse_certificate(vector.data("certificate")))

    def bindings(self, vector):
        tls.check_binding(vector.data("binding"), vector.data("identity"), vector.data("tls_key"))

    def mails(self, vector):
        body = vector.data("body")
        vector.says(digest=sha256(body).digest())
        terms = formats.parse_terms(vector.data("terms"))
        lock = sealed.inspect(body, terms.protocol, terms.exchange).lock_digest
        assert vector["disclosed_lock"] is None or sha256(vector.data("disclosed_lock")).digest() == lock

    def proofs(self, vector):
        trust = next(other for other in self.load("trust.json") if other["name"] == vector["trust"])
        trusted = formats.parse_trust(trust.data("trust"))
        finding = judge.judge(vector.data("proof"), trusted, vector.data("mail"))
        vector.says(verdict=formats.VERDICTS[finding.verdict].capitalize())
        content = finding.content.replace("none", "not shown")
        assert not vector["valid"] or vector["opening"].startswith(content), "opening"

    FILES = {
        "cbor.json": cbor,
        "threshold/messages.json": messages,
        "threshold/points.json": points,
        "threshold/drand.json": tokens,
        "lock/tlock.json": locks,
        "lock/lock.json": locks,
        "sealed/container.json": containers,
        "sealed/mails.json": sealed_mails,
        "merkle/inclusion.json": inclusion,
        "chain/chains.json": chains,
        "chain/anchors.json": anchors,
        "genesis.json": genesis,
        "trust.json": trust,
        "terms.json": terms,
        "evidence.json": evidence,
        "letter.json": letters,
        "leaf.json": leaves,
        "certificate.json": certificates,
        "binding.json": bindings,
        "mails.json": mails,
        "proof.json": proofs,
    }


def vectors(folder: Path) -> int:
    runs, wrong, counts = Runs(folder), [], {}
    for name, run in Runs.FILES.items():
        counts[name] = 0
        for vector in runs.load(name):
            try:
                run(runs, vector)
                accepted, why = True, "accepted"
            except AssertionError as error:
                accepted, why = None, f"its {error} is read as something else"
            except (Refused, sealed.Garbage) as refused:
                accepted, why = False, f"refused: {refused}"
            if accepted != vector["valid"]:
                expected = vector.fields.get("error", "accepted")
                wrong.append(f"{name}: {vector['name']}: {why}; expected: {expected}")
            counts[name] += 1
    print(json.dumps({"tried": sum(counts.values()), "files": counts, "wrong": wrong}))
    return 1 if wrong else 0


def judged(trust: Path, folder: Path) -> int:
    """NAME.proof with NAME.mail, the sealed part, or without."""
    _, trusted = files.load_trust(str(trust))
    for path in sorted(folder.glob("*.proof")):
        mail = path.with_suffix(".mail")
        try:
            finding = judge.judge(path.read_bytes(), trusted, mail.read_bytes() if mail.exists() else None)
            answer = {"accepted": True, "content": finding.content}
        except Refused as refused:
            answer = {"accepted": False, "why": str(refused)}
        print(json.dumps({"name": path.stem, **answer}))
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["vectors", folder]:
            sys.exit(vectors(Path(folder)))
        case ["judge", trust, folder]:
            sys.exit(judged(Path(trust), Path(folder)))
        case _:
            sys.exit(__doc__)
