//! One cluster and its people, the same in every run: all keys are fixed, and Ed25519 and BLS signatures are
//! deterministic. Only sealing draws randomness; so the sealed mails lie in `vectors/mails.json`.

use std::path::PathBuf;
use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use fairpost_proto::chain::{Anchor, key_id};
use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::{Answer, Nro, Nrr, Refusal, Withdrawal};
use fairpost_proto::ids::{ClusterId, Digest, ExchangeId, Protocol, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::merkle::{self, InclusionProof};
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::terms::{Fields, Terms};
use fairpost_proto::threshold::{Commitment, KeyShare, Message, Token, combine, deal};
use fairpost_proto::trust::Trust;
use fairpost_proto::verify;
use fairpost_proto::view::{Constitution, Member, Parameters, View};
use fairpost_proto::vote::{Certificate, Vote};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rcgen::date_time_ymd;

pub(crate) use crate::mails::Exchange;
use crate::mails::{Mails, fields};
use crate::people::Authority;
pub(crate) use crate::people::{Person, signing_key};

pub(crate) const SENDER: &str = "sender@example.org";
pub(crate) const RECIPIENT: &str = "recipient@example.org";
pub(crate) const MAIL: &[u8] = b"Subject: Notice\r\n\r\nThe lease ends in June.\r\n";
pub(crate) const OTHER_MAIL: &[u8] = b"Subject: Notice\r\n\r\nNothing at all.\r\n";

/// 2026-06-01T12:00:00Z.
pub(crate) const CREATED: u64 = 1_780_315_200;
/// A week later.
pub(crate) const EXPIRES: u64 = CREATED + 7 * 86_400;

/// So many seconds after the terms were made.
pub(crate) fn after(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(CREATED + seconds).unwrap()
}

/// When things happen, if nothing else is said: an hour after the terms were made.
pub(crate) fn now() -> Timestamp {
    after(3600)
}

pub(crate) fn expires() -> Timestamp {
    Timestamp::from_seconds(EXPIRES).unwrap()
}

/// A file of vectors.
pub(crate) fn vector_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name)
}

/// Whether this run is to write the vectors instead of comparing them.
pub(crate) fn updating() -> bool {
    std::env::var_os("UPDATE_VECTORS").is_some()
}

/// All of it.
pub(crate) struct World {
    pub(crate) ca: Authority,
    pub(crate) sender: Person,
    pub(crate) recipient: Person,
    /// The recipient's address, another key, a certificate as good.
    pub(crate) renewed: Person,
    /// Another address, under the same authority.
    pub(crate) impostor: Person,
    /// The recipient's address, a certificate of the foreign authority.
    pub(crate) foreign: Person,
    /// The recipient's key, in a certificate that ended before.
    pub(crate) expired: Person,
    /// The recipient's key, in a certificate that begins later.
    pub(crate) early: Person,
    /// The sender's key, in a certificate that ends before the exchange does.
    pub(crate) short: Person,
    /// The sender's key, in a certificate that begins within the exchange.
    pub(crate) late: Person,
    /// The sender's key, in a certificate that begins after the deadline.
    pub(crate) later: Person,
    pub(crate) members: Vec<SigningKey>,
    pub(crate) commitment: Commitment,
    pub(crate) shares: Vec<KeyShare>,
    pub(crate) genesis: View,
    pub(crate) trust: Trust,
    pub(crate) cmp1: Exchange,
    pub(crate) cmp2: Exchange,
    /// Sealed content other than the terms commit to.
    pub(crate) garbage1: Exchange,
    pub(crate) garbage2: Exchange,
    /// A lock that the token does not open.
    pub(crate) unopenable: Exchange,
}

/// The world, made once.
pub(crate) fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(World::new);
    &WORLD
}

/// Nobody's key: the shares of a cluster that is not this one.
pub(crate) fn foreign_deal() -> (Commitment, Vec<KeyShare>) {
    deal(3, 4, &mut ChaCha20Rng::seed_from_u64(2)).unwrap()
}

pub(crate) fn token_of(shares: &[KeyShare], message: &Message) -> Token {
    let signed: Vec<_> = (0..3).map(|index| (index, shares[usize::from(index)].sign(message))).collect();
    combine(3, &signed).unwrap()
}

/// A constitution with these members and this commitment.
pub(crate) fn constitution(members: &[SigningKey], commitment: &Commitment, ca: &Authority) -> Constitution {
    let member = |(place, key): (usize, &SigningKey)| Member {
        name: format!("server-{}", place + 1),
        address: format!("server-{}.example.net:7443", place + 1),
        identity: key.verifying_key(),
    };
    Constitution {
        members: members.iter().enumerate().map(member).collect(),
        faults: 1,
        commitment: commitment.clone(),
        operators: vec![signing_key(0x41).verifying_key(), signing_key(0x42).verifying_key()],
        agreeing: 2,
        anchors: vec![ca.anchor()],
        auditors: vec![signing_key(0x43).verifying_key()],
        parameters: Parameters::default(),
    }
}

/// The genesis of a cluster of the same servers, whose one anchor is the CA, but ends at the start of this day.
pub(crate) fn genesis_with_an_anchor_until((year, month, day): (i32, u8, u8)) -> View {
    let world = world();
    let mut parameters = world.ca.parameters.clone();
    parameters.not_after = date_time_ymd(year, month, day);
    let der = parameters.self_signed(&world.ca.key).unwrap().der().to_vec();
    let mut body = world.constitution();
    body.anchors = vec![Anchor::parse(der).unwrap()];
    View::genesis("vectors", body).unwrap()
}

impl World {
    fn new() -> Self {
        let (ca, foreign_ca) = (Authority::new("CA", 1), Authority::new("CA", 2));
        let person = |address, seed| ca.person(address, seed, |_| {});
        let members: Vec<_> = (0x31..0x35).map(signing_key).collect();
        let (commitment, shares) = deal(3, 4, &mut ChaCha20Rng::seed_from_u64(1)).unwrap();
        let genesis = View::genesis("vectors", constitution(&members, &commitment, &ca)).unwrap();
        let trust = Trust::new(genesis.clone(), token_of(&shares, &genesis.message())).unwrap();
        let (sender, recipient) = (person(SENDER, 0x11), person(RECIPIENT, 0x12));
        let mails = Mails { genesis: &genesis, sender: &sender, recipient: &recipient };
        Self {
            cmp1: mails.exchange("cmp1", Protocol::Cmp1, MAIL, genesis.cluster()),
            cmp2: mails.exchange("cmp2", Protocol::Cmp2, MAIL, genesis.cluster()),
            garbage1: mails.exchange("cmp1-other-content", Protocol::Cmp1, OTHER_MAIL, genesis.cluster()),
            garbage2: mails.exchange("cmp2-other-content", Protocol::Cmp2, OTHER_MAIL, genesis.cluster()),
            unopenable: mails.exchange("cmp1-other-lock", Protocol::Cmp1, MAIL, ClusterId::new([9; 32])),
            renewed: person(RECIPIENT, 0x13),
            impostor: person("impostor@example.org", 0x14),
            foreign: foreign_ca.person(RECIPIENT, 0x12, |_| {}),
            expired: ca.person(RECIPIENT, 0x12, |certificate| {
                certificate.not_after = date_time_ymd(2026, 5, 1);
            }),
            early: ca.person(RECIPIENT, 0x12, |certificate| {
                certificate.not_before = date_time_ymd(2026, 7, 1);
            }),
            late: ca.person(SENDER, 0x11, |certificate| {
                certificate.not_before = date_time_ymd(2026, 6, 4);
            }),
            later: ca.person(SENDER, 0x11, |certificate| {
                certificate.not_before = date_time_ymd(2026, 7, 1);
            }),
            short: ca.person(SENDER, 0x11, |certificate| {
                certificate.not_after = date_time_ymd(2026, 6, 5);
            }),
            ca,
            sender,
            recipient,
            members,
            commitment,
            shares,
            genesis,
            trust,
        }
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        self.genesis.cluster()
    }

    pub(crate) fn constitution(&self) -> Constitution {
        constitution(&self.members, &self.commitment, &self.ca)
    }

    /// The values of CMP2 terms as they should be.
    pub(crate) fn fields(&self) -> Fields {
        fields(&self.genesis, &self.sender, &self.recipient, Protocol::Cmp2, [7; 16])
    }

    /// An NRO of the sender's over changed terms; its mail does not matter.
    pub(crate) fn nro(&self, change: impl FnOnce(&mut Fields)) -> Signed<Nro> {
        let mut fields = self.fields();
        change(&mut fields);
        self.sender.sign(Nro { terms: Terms::new(fields).unwrap(), sealed: Digest::of(b"sealed") })
    }

    /// What is signed for this verdict, by whom it should be; none for Expired.
    pub(crate) fn answer(&self, verdict: Verdict, nro: &Signed<Nro>) -> Option<Vec<u8>> {
        let answer = Answer::to(nro);
        match verdict {
            Verdict::Released => Some(self.recipient.sign(Nrr(answer)).bytes().to_vec()),
            Verdict::Withdrawn => Some(self.sender.sign(Withdrawal(answer)).bytes().to_vec()),
            Verdict::Refused => Some(self.recipient.sign(Refusal(answer)).bytes().to_vec()),
            Verdict::Expired => None,
        }
    }

    pub(crate) fn token(&self, verdict: Verdict, exchange: ExchangeId) -> Token {
        token_of(&self.shares, &Message::Verdict { cluster: self.cluster(), verdict, exchange })
    }

    /// The vote of a member for this leaf, in a ballot with another one.
    pub(crate) fn vote(
        &self,
        member: usize,
        leaf: &Leaf,
        change: impl FnOnce(&mut Vote),
    ) -> (Signed<Vote>, InclusionProof) {
        let ballot = [Digest::of(b"another leaf"), leaf.hash()];
        let mut vote = Vote {
            cluster: self.cluster(),
            epoch: 0,
            sequence: 5,
            log_size: 9,
            log_root: Digest::of(b"log"),
            ballot: merkle::root(&ballot),
            number: 3,
        };
        change(&mut vote);
        let key = &self.members[member];
        let signed = Signed::sign(vote, key_id(&key.verifying_key()), key);
        (signed, merkle::inclusion(&ballot, 1).unwrap())
    }

    /// The certificate of this leaf by these members.
    pub(crate) fn certificate(&self, leaf: Leaf, members: &[usize]) -> Certificate {
        Certificate::new(leaf, members.iter().map(|member| self.vote(*member, &leaf, |_| {})).collect())
    }

    /// The proof that this exchange has this verdict, recorded at `time`, with this evidence.
    pub(crate) fn proof_of(
        &self,
        exchange: &Exchange,
        verdict: Verdict,
        evidence: Option<Vec<u8>>,
        time: Timestamp,
    ) -> Proof {
        let id = exchange.nro.payload().terms.exchange();
        let leaf = Leaf {
            exchange: id,
            round: Round::FIRST,
            verdict,
            time,
            nro: exchange.nro.digest(),
            evidence: evidence.as_deref().map(Digest::of),
        };
        Proof {
            claim: Claim::Verdict,
            trust: self.trust.clone(),
            nro: exchange.nro.bytes().to_vec(),
            evidence,
            certificate: self.certificate(leaf, &[0, 1, 2]),
            token: self.token(verdict, id),
            disclosure: exchange.disclosure.clone().filter(|_| verdict == Verdict::Released),
        }
    }

    /// The proof that this exchange has this verdict.
    pub(crate) fn proof(&self, exchange: &Exchange, verdict: Verdict) -> Proof {
        let time = match verdict {
            Verdict::Expired => expires().plus(self.genesis.parameters().grace),
            _ => now(),
        };
        self.proof_of(exchange, verdict, self.answer(verdict, &exchange.nro), time)
    }

    /// The leaf of that proof.
    pub(crate) fn leaf(&self, verdict: Verdict) -> Leaf {
        *self.proof(&self.cmp2, verdict).certificate.leaf()
    }
}

/// What the judge says of a proof file, with this mail or none: its answer, or the error's text.
pub(crate) fn judge(
    proof: &[u8],
    trusted: &Trust,
    container: Option<&[u8]>,
) -> Result<verify::Report, String> {
    let proof = Proof::parse(proof).map_err(|error| error.to_string())?;
    let report = match container {
        None => match proof.claim {
            Claim::Verdict => verify::verify(&proof, trusted),
            Claim::Fraud => verify::verify(&proof, trusted).and(Err(verify::Error::FraudUnseen)),
        },
        Some(container) => {
            verify::verify_with_mail(&proof, trusted, std::io::Cursor::new(container), std::io::sink())
        }
    };
    report.map_err(|error| error.to_string())
}
