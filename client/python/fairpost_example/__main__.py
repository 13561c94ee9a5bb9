"""The commands: redeem, open, proof, verify. Exit codes: 0 yes, 1 error, 4 not proved, 5 proved, and no content shown."""

import argparse
import sys
import time

from . import judge, sealed
from .cbor import Refused, require
from .files import load_identity, load_trust
from .formats import RELEASED, VERDICTS, make_proof

INVALID, NOT_SHOWN = 4, 5


def read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    with open(path, "rb") as file:
        return file.read()


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)


class Mail:
    """A sealed mail, of which all has been checked that can be before anything is signed."""

    def __init__(self, options):
        self.data, self.trust = load_trust(options.cluster)
        self.identity = load_identity(options.identity)
        self.container = sealed.find_container(read(options.sealed))
        header, body = sealed.split_container(self.container)
        self.nro = sealed.parse_header(header)
        self.terms = self.nro.terms
        judge.check_nro(self.trust.views[-1], self.nro.signed.data, time.time_ns() // 10**6)
        stanza = sealed.inspect(body, self.terms.protocol, self.terms.exchange)
        self.lock = sealed.lock_for(stanza, self.terms.exchange, self.identity.sealing_key)

    def redeem(self) -> bytes:
        from . import client  # The judge needs neither gRPC nor its stubs.

        verdict, token = client.redeem(self.trust, self.identity, self.nro)
        require(verdict == RELEASED, f"the mail stays shut: {VERDICTS[verdict]}")
        return token


def redeem(options) -> int:
    write(Mail(options).redeem().hex().encode() + b"\n")
    return 0


def open_(options) -> int:
    mail = Mail(options)
    token = mail.redeem()
    write(sealed.open_container(mail.container, mail.terms, mail.nro.sealed, mail.lock, token))
    return 0


def proof(options) -> int:
    from . import client

    mail = Mail(options)
    parts = client.get_proof(mail.trust, mail.identity, mail.nro)
    released_cmp2 = parts.state - 1 == RELEASED and mail.terms.protocol == 2
    made = make_proof(mail.data, parts, mail.lock if released_cmp2 else None)
    judge.judge(made, mail.trust, None)
    write(made)
    return 0


def verify(options) -> int:
    _, trust = load_trust(options.cluster)
    container = sealed.find_container(read(options.mail)) if options.mail else None
    try:
        finding = judge.judge(read(options.proof), trust, container)
    except Refused as refused:
        print(f"not proved: {refused}", file=sys.stderr)
        return INVALID
    parties = f"from {finding.terms.sender} to {finding.terms.recipient}"
    print(f"{VERDICTS[finding.verdict]}, {parties}; content: {finding.content}")
    return NOT_SHOWN if finding.content == "not shown" else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="fairpost_example", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for run, name, words in [
        (redeem, "redeem", "sign the receipt, hand it in, and show the token"),
        (open_, "open", "redeem, and write the mail to standard output"),
        (proof, "proof", "fetch the proof of the verdict, and write it to standard output"),
    ]:
        command = commands.add_parser(name, help=words)
        command.add_argument("--identity", required=True)
        command.add_argument("--cluster", required=True, help="the cluster's trust file")
        command.add_argument("sealed", help="the sealed mail, or its sealed part alone; - for standard input")
        command.set_defaults(run=run)
    command = commands.add_parser("verify", help="judge a proof, without any network")
    command.add_argument("--cluster", required=True, help="the cluster's trust file")
    command.add_argument("--mail", help="the sealed mail that the proof is about; it must open to what was signed")
    command.add_argument("proof", help="- for standard input")
    command.set_defaults(run=verify)
    options = parser.parse_args()
    try:
        return options.run(options)
    except sealed.Garbage as garbage:
        print(f"the sender locked something else than it signed: {garbage}", file=sys.stderr)
        return INVALID
    except (OSError, Refused) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
