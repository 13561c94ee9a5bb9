//! A small world for this crate's tests: four members, a dealt key, a CA, a sender and a recipient, all with real keys.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use fairpost_proto::chain::{self, Anchor, Chain};
use fairpost_proto::cose::Signed;
use fairpost_proto::entry::{self, Command, Demand, Head, Opening};
use fairpost_proto::evidence::{Answer, Nro, Nrr, Refusal, Withdrawal};
use fairpost_proto::ids::{Digest, Protocol, Span, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::merkle;
use fairpost_proto::round::Statement;
use fairpost_proto::terms::{Address, Fields, Recipient, Sender, Terms};
use fairpost_proto::threshold::{self, KeyShare};
use fairpost_proto::trust::Trust;
use fairpost_proto::view::{Constitution, Member, Parameters, View};
use fairpost_proto::vote::{Certificate, Vote};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

use crate::ledger::State;

/// When the world's exchanges are created, in seconds.
pub(crate) const CREATED: u64 = 1_800_000_000;
/// How long they last, in seconds.
pub(crate) const LIFETIME: u64 = 1000;

/// A person with a certificate.
pub(crate) struct Person {
    pub(crate) address: Address,
    pub(crate) key: SigningKey,
    pub(crate) chain: Chain,
}

/// Everything that a test needs.
pub(crate) struct World {
    pub(crate) view: View,
    pub(crate) identities: Vec<SigningKey>,
    pub(crate) shares: Vec<KeyShare>,
    pub(crate) sender: Person,
    pub(crate) recipient: Person,
}

/// Seconds after the exchanges' creation.
pub(crate) fn after(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(CREATED + seconds).unwrap()
}

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn key_pair(key: &SigningKey) -> KeyPair {
    KeyPair::try_from(key.to_pkcs8_der().unwrap().as_bytes()).unwrap()
}

fn authority() -> (Anchor, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = key_pair(&signing_key(90));
    let certificate = params.self_signed(&key).unwrap();
    (Anchor::parse(certificate.der().to_vec()).unwrap(), Issuer::new(params, key))
}

fn person(issuer: &Issuer<'static, KeyPair>, address: &str, seed: u8) -> Person {
    let key = signing_key(seed);
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::Rfc822Name(address.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::EmailProtection];
    let certificate = params.signed_by(&key_pair(&key), issuer).unwrap();
    let chain = Chain::parse(vec![certificate.der().to_vec()]).unwrap();
    Person { address: Address::parse(address).unwrap(), key, chain }
}

impl World {
    /// Four members, of which one may be compromised; skew 10 s, grace 30 s.
    pub(crate) fn new() -> Self {
        let (anchor, issuer) = authority();
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let (commitment, shares) = threshold::deal(3, 4, &mut rng).unwrap();
        let identities: Vec<SigningKey> = (1..=4).map(signing_key).collect();
        let members = identities.iter().zip(1..).map(|(key, number)| Member {
            name: format!("n{number}"),
            address: format!("127.0.0.1:{}", 7400 + number),
            identity: key.verifying_key(),
        });
        let view = View::genesis(
            "world",
            Constitution {
                members: members.collect(),
                faults: 1,
                commitment,
                operators: vec![],
                agreeing: 0,
                anchors: vec![anchor],
                auditors: vec![],
                parameters: Parameters { shortest_lifetime: Span::from_seconds(1), ..Parameters::default() },
            },
        );
        let (sender, recipient) =
            (person(&issuer, "sender@example.org", 10), person(&issuer, "recipient@example.org", 11));
        Self { view: view.unwrap(), identities, shares, sender, recipient }
    }

    /// What a judge of this cluster trusts.
    pub(crate) fn trust(&self) -> Trust {
        let shares = self.shares.iter().zip(0_u16..).take(self.view.quorum().q());
        let shares: Vec<_> = shares.map(|(share, index)| (index, share.sign(&self.view.message()))).collect();
        let token = threshold::combine(self.view.quorum().q(), &shares).unwrap();
        Trust::new(self.view.clone(), token).unwrap()
    }

    /// A vote of the member at `member` on entry `sequence`, in epoch 0.
    pub(crate) fn vote(&self, member: usize, sequence: u64, change: impl FnOnce(&mut Vote)) -> Signed<Vote> {
        let mut vote = Vote {
            cluster: self.view.cluster(),
            epoch: 0,
            sequence,
            log_size: sequence,
            log_root: Digest::of(b"root"),
            ballot: Digest::of(b"ballot"),
            number: sequence,
        };
        change(&mut vote);
        let key = &self.identities[member];
        Signed::sign(vote, chain::key_id(&key.verifying_key()), key)
    }

    /// The NRO of exchange number `number`.
    pub(crate) fn nro(&self, number: u8) -> Signed<Nro> {
        let terms = Terms::new(Fields {
            protocol: Protocol::Cmp2,
            cluster: self.view.cluster(),
            nonce: [number; 16],
            sender: Sender {
                address: self.sender.address.clone(),
                key: chain::key_id(&self.sender.key.verifying_key()),
            },
            recipient: Recipient {
                address: self.recipient.address.clone(),
                key: Some(chain::key_id(&self.recipient.key.verifying_key())),
            },
            content: Digest::of(b"salt and mail"),
            created: after(0),
            expires: after(LIFETIME),
        });
        let nro = Nro { terms: terms.unwrap(), sealed: Digest::of(b"sealed mail") };
        Signed::sign_as(nro, self.sender.chain.clone(), &self.sender.key).unwrap()
    }

    /// The command for this verdict on exchange number `number`.
    pub(crate) fn command(&self, number: u8, verdict: Verdict) -> Demand {
        let nro = self.nro(number);
        let (answer, sender, recipient) = (Answer::to(&nro), &self.sender, &self.recipient);
        let evidence = match verdict {
            Verdict::Released => Some(
                Signed::sign_as(Nrr(answer), recipient.chain.clone(), &recipient.key)
                    .unwrap()
                    .bytes()
                    .to_vec(),
            ),
            Verdict::Withdrawn => Some(
                Signed::sign_as(Withdrawal(answer), sender.chain.clone(), &sender.key)
                    .unwrap()
                    .bytes()
                    .to_vec(),
            ),
            Verdict::Refused => Some(
                Signed::sign_as(Refusal(answer), recipient.chain.clone(), &recipient.key)
                    .unwrap()
                    .bytes()
                    .to_vec(),
            ),
            Verdict::Expired => None,
        };
        Demand { verdict, nro: nro.bytes().to_vec(), evidence }
    }

    /// An entry by the member at `leader` that follows `state`, as it stands in the log.
    pub(crate) fn entry(
        &self,
        leader: usize,
        state: &State,
        time: Timestamp,
        commands: &[impl Clone + Into<Command>],
    ) -> Vec<u8> {
        let commands: Vec<Command> = commands.iter().cloned().map(Into::into).collect();
        let batch = entry::write_batch(&commands);
        let head = Head {
            cluster: self.view.cluster(),
            epoch: 0,
            term: 1,
            sequence: state.sequence + 1,
            previous: state.head,
            time,
            batch: Digest::of(&batch),
        };
        let key = &self.identities[leader];
        entry::write(&Signed::sign(head, chain::key_id(&key.verifying_key()), key), &batch)
    }
}

impl World {
    /// The certificate of a leaf that stands alone in its entry, by these members.
    pub(crate) fn certificate(&self, leaf: Leaf, members: &[usize]) -> Certificate {
        let ballot = [leaf.hash()];
        let vote = |member: &usize| {
            let vote = Vote {
                cluster: self.view.cluster(),
                epoch: 0,
                sequence: 1,
                log_size: 1,
                log_root: merkle::root(&ballot),
                ballot: merkle::root(&ballot),
                number: 1,
            };
            let key = &self.identities[*member];
            let signed = Signed::sign(vote, chain::key_id(&key.verifying_key()), key);
            (signed, merkle::inclusion(&ballot, 0).unwrap())
        };
        Certificate::new(leaf, members.iter().map(vote).collect())
    }

    /// A member's statement for a round of exchange number `number`: no certificate, no receipt, and the clock at
    /// `clock`, unless it is changed.
    pub(crate) fn statement(
        &self,
        member: usize,
        (number, round): (u8, u32),
        clock: Timestamp,
        change: impl FnOnce(&mut Statement),
    ) -> Signed<Statement> {
        let mut statement = Statement {
            cluster: self.view.cluster(),
            epoch: 0,
            exchange: self.nro(number).payload().terms.exchange(),
            round: Round::new(round).unwrap(),
            certificate: None,
            receipt: None,
            clock,
            number: 1,
        };
        change(&mut statement);
        let key = &self.identities[member];
        Signed::sign(statement, chain::key_id(&key.verifying_key()), key)
    }

    /// A round of exchange number `number` with these statements, in the order that they must have, and the evidence for
    /// these verdicts.
    pub(crate) fn opening(
        &self,
        number: u8,
        statements: &[Signed<Statement>],
        verdicts: &[Verdict],
    ) -> Opening {
        let mut statements = statements.to_vec();
        statements.sort_by_key(|statement| *statement.signer());
        let evidence = |verdict| {
            let evidence = self.command(number, verdict).evidence;
            evidence.filter(|_| verdicts.contains(&verdict))
        };
        Opening {
            nro: self.nro(number).bytes().to_vec(),
            statements: statements.iter().map(|statement| statement.bytes().to_vec()).collect(),
            receipt: evidence(Verdict::Released),
            withdrawal: evidence(Verdict::Withdrawn),
            refusal: evidence(Verdict::Refused),
        }
    }
}
