//! A cluster in this process, with dealt keys: what nodes do to clients, without Raft and without a disk.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test's helpers fail as tests do: by a panic that names the line"
)]

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use ed25519_dalek::SigningKey;
use fairpost::card::Card;
use fairpost::identity::Identity;
use fairpost::seal::{self, Sealed};
use fairpost::sealed_mail::SealedMail;
use fairpost_api::tls::{Credentials, Incoming, IncomingOptions, server_config};
use fairpost_api::v1::cluster_server::{Cluster as ClusterService, ClusterServer};
use fairpost_api::v1::exchange_server::{Exchange as ExchangeService, ExchangeServer};
use fairpost_api::v1::{
    GetNodeRequest, GetNodeResponse, GetTrustRequest, GetTrustResponse, Outcome, PartyRequest, ProofParts,
    ShareParts, State,
};
use fairpost_proto::chain::{self, Anchor};
use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::{self, Answer, Nro, Nrr, Refusal, Withdrawal};
use fairpost_proto::ids::{ExchangeId, Protocol, Span, Timestamp, Verdict};
use fairpost_proto::leaf::{Leaf, Round};
use fairpost_proto::merkle;
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::request::{self, Method};
use fairpost_proto::terms::Address;
use fairpost_proto::threshold::{self, KeyShare, Message, Token};
use fairpost_proto::trust::Trust;
use fairpost_proto::view::{Constitution, Member, Parameters, View};
use fairpost_proto::vote::{Certificate, Vote};
use futures::stream::{self, BoxStream, StreamExt as _};
use rand::rngs::OsRng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub const MAIL: &[u8] =
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Raw: gr\xfc\xdfe\r\n\r\n\xf0\x9f\x93\xa8 body\r\n\0\xff";

/// How long an overloaded node is to be left alone.
pub const BUSY: Duration = Duration::from_secs(5);

/// How long a share takes that comes late.
pub const LATE: Duration = Duration::from_millis(500);

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Honest,
    /// Nobody listens.
    Dead,
    /// Connections are taken, and nothing is ever said.
    Silent,
    /// TLS works, calls never end; as a node without a quorum.
    Hanging,
    /// It has no quorum, and says so.
    Unavailable,
    /// It has too much to do, and tells to come back after [`BUSY`].
    Overloaded,
    /// It says Released with another exchange's token.
    WrongToken,
    /// It says Withdrawn with the token for Released; its proofs say Refused.
    SwappedVerdict,
    /// Its evidence has a bit of the signature changed.
    ForgedEvidence,
    /// It orders, certifies and gives its share, and says that it can't collect the others'.
    Cut,
    /// The same, and it says nothing: its calls never end.
    Stuck,
    /// As [`Behaviour::Cut`], and its own share comes [`LATE`].
    Late,
    /// As [`Behaviour::Cut`], and its share is for another exchange.
    WrongShare,
    /// As [`Behaviour::Cut`], and the certificate with its share lacks a vote.
    FewVotes,
    /// It says undecided to everything.
    Undecided,
    /// It rejects everything.
    Rejecting,
    /// Whoever watches it is told undecided, and then the stream ends.
    Dropping,
    /// Another than the pinned identity is at its address.
    Impostor,
}

struct Decided {
    leaf: Leaf,
    nro: Vec<u8>,
    evidence: Option<Vec<u8>>,
}

/// A cluster of four, one of which may be compromised, with a CA and two people.
pub struct World {
    pub folder: tempfile::TempDir,
    pub trust: Trust,
    pub sender: Identity,
    pub recipient: Identity,
    shares: Vec<KeyShare>,
    keys: Vec<SigningKey>,
    listeners: Mutex<Vec<Option<TcpListener>>>,
    ledger: Mutex<HashMap<ExchangeId, Decided>>,
    pub asked: Mutex<Vec<(usize, Method)>>,
    /// Who was asked for its share, in order.
    pub asked_shares: Mutex<Vec<usize>>,
    /// How many connections each node has taken.
    pub connections: Mutex<[usize; 4]>,
    /// Who was watched, in order.
    pub watched: Mutex<Vec<usize>>,
    /// Told when something was decided.
    changed: watch::Sender<()>,
}

impl World {
    pub fn new() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let now = fairpost::now();
        let ca = folder.path().join("ca");
        let anchor = Anchor::parse(fairpost::ca::init(&ca, "Test CA", now).unwrap()).unwrap();
        let person = |address| {
            let mut identity = Identity::generate(Address::parse(address).unwrap());
            let key = identity.verifying_key();
            let certificate = fairpost::ca::issue_for_key(&ca, identity.address(), &key, 30, now).unwrap();
            identity.install(&certificate, now).unwrap();
            identity
        };
        let keys: Vec<SigningKey> = (0..4).map(|_| SigningKey::generate(&mut OsRng)).collect();
        let listeners: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let members = keys.iter().zip(&listeners).enumerate().map(|(index, (key, listener))| Member {
            name: format!("n{}", index + 1),
            address: listener.local_addr().unwrap().to_string(),
            identity: key.verifying_key(),
        });
        let (commitment, shares) = threshold::deal(3, 4, &mut OsRng).unwrap();
        let genesis = View::genesis(
            "test",
            Constitution {
                members: members.collect(),
                faults: 1,
                commitment,
                operators: vec![],
                agreeing: 0,
                anchors: vec![anchor],
                auditors: vec![],
                parameters: Parameters {
                    grace: Span::from_millis(0),
                    shortest_lifetime: Span::from_seconds(1),
                    ..Parameters::default()
                },
            },
        )
        .unwrap();
        let token = combine(&shares, &genesis.message());
        Arc::new(Self {
            trust: Trust::new(genesis, token).unwrap(),
            sender: person("sender@example.org"),
            recipient: person("recipient@example.org"),
            folder,
            shares,
            keys,
            listeners: Mutex::new(listeners.into_iter().map(Some).collect()),
            ledger: Mutex::default(),
            asked: Mutex::default(),
            asked_shares: Mutex::default(),
            connections: Mutex::default(),
            watched: Mutex::default(),
            changed: watch::channel(()).0,
        })
    }

    pub fn card(&self) -> Card {
        Card::parse(&self.recipient.card(fairpost::now()).unwrap()).unwrap()
    }

    pub fn seal(&self, protocol: Protocol) -> (Sealed, Vec<u8>) {
        self.seal_with(seal::Options { protocol, ..seal::Options::default() })
    }

    pub fn seal_with(&self, options: seal::Options) -> (Sealed, Vec<u8>) {
        let mut out = Vec::new();
        let mail = std::io::Cursor::new(MAIL);
        let sealed = seal::seal(&self.sender, &self.card(), &self.trust, options, mail, &mut out).unwrap();
        (sealed, out)
    }

    pub fn sealed_mail(&self, protocol: Protocol) -> SealedMail {
        SealedMail::read(self.seal(protocol).1.as_slice()).unwrap()
    }

    /// A sealed mail whose body opens to something else than the terms say.
    pub fn garbage(&self, protocol: Protocol) -> Vec<u8> {
        use fairpost_proto::sealed::{self, Access, Salt, Sealing};
        let (made, _) = self.seal(protocol);
        let access = match protocol {
            Protocol::Cmp1 => Access::Cmp1,
            Protocol::Cmp2 => Access::Cmp2 {
                recipient: self.card().sealing_key(),
                sender: self.sender.sealing_key().public(),
            },
        };
        let (cluster, key, exchange) = (self.trust.cluster(), self.trust.public_key(), made.exchange);
        let mut body = Vec::new();
        let salt = Salt::generate(&mut OsRng);
        let sealing = Sealing { cluster, key, exchange, access };
        let digest = sealed::seal(&sealing, &salt, &b"something else"[..], &mut body).unwrap().digest;
        let nro = self.sender.sign(Nro { terms: made.terms, sealed: digest }).unwrap();
        let mut container = Vec::new();
        sealed::write_header(&fairpost_proto::letter::write_header(&nro), &mut container).unwrap();
        container.extend(body);
        container
    }

    pub fn token(&self, verdict: Verdict, exchange: ExchangeId) -> Token {
        combine(&self.shares, &Message::Verdict { cluster: self.trust.cluster(), verdict, exchange })
    }

    /// The votes of the first three members.
    pub fn certificate(&self, leaf: Leaf) -> Certificate {
        self.votes(leaf, 3)
    }

    fn votes(&self, leaf: Leaf, count: usize) -> Certificate {
        let hash = leaf.hash();
        let votes = self.keys.iter().take(count).map(|key| {
            let vote = Vote {
                cluster: self.trust.cluster(),
                epoch: 0,
                sequence: 1,
                log_size: 1,
                log_root: hash,
                ballot: merkle::root(&[hash]),
                number: 1,
            };
            let signed = Signed::sign(vote, chain::key_id(&key.verifying_key()), key);
            (signed, merkle::inclusion(&[hash], 0).unwrap())
        });
        Certificate::new(leaf, votes.collect())
    }

    /// What the recipient or sender signs for this verdict.
    pub fn evidence(&self, nro: &Signed<Nro>, verdict: Verdict) -> Option<Vec<u8>> {
        let answer = Answer::to(nro);
        match verdict {
            Verdict::Released => Some(self.recipient.sign(Nrr(answer)).unwrap().bytes().to_vec()),
            Verdict::Withdrawn => Some(self.sender.sign(Withdrawal(answer)).unwrap().bytes().to_vec()),
            Verdict::Refused => Some(self.recipient.sign(Refusal(answer)).unwrap().bytes().to_vec()),
            Verdict::Expired => None,
        }
    }

    /// A proof of this verdict on the mail, as a cluster would give it.
    pub fn proof(&self, mail: &SealedMail, verdict: Verdict, claim: Claim) -> Proof {
        let (nro, terms) = (mail.nro(), mail.terms());
        let evidence = self.evidence(nro, verdict);
        let time = if verdict == Verdict::Expired {
            terms.expires
        } else {
            terms.created.plus(Span::from_millis(1))
        };
        let leaf = leaf(nro, verdict, evidence.as_deref(), time);
        Proof {
            claim,
            trust: self.trust.clone(),
            nro: nro.bytes().to_vec(),
            evidence,
            certificate: self.certificate(leaf),
            token: self.token(verdict, terms.exchange()),
            disclosure: (terms.protocol == Protocol::Cmp2 && verdict == Verdict::Released)
                .then(|| mail.lock_for(self.sender.sealing_key()).unwrap()),
        }
    }

    /// Starts the nodes; they end when the answer is dropped.
    pub fn serve(self: &Arc<Self>, behaviours: [Behaviour; 4]) -> JoinSet<()> {
        let mut nodes = JoinSet::new();
        for (place, behaviour) in behaviours.into_iter().enumerate() {
            let listener = self.listeners.lock().unwrap()[place].take().unwrap();
            match behaviour {
                Behaviour::Dead => drop(listener),
                Behaviour::Silent => {
                    nodes.spawn(async move {
                        std::future::pending::<()>().await;
                        drop(listener);
                    });
                }
                _ => {
                    listener.set_nonblocking(true).unwrap();
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    let stranger = SigningKey::generate(&mut OsRng);
                    let key = if behaviour == Behaviour::Impostor { &stranger } else { &self.keys[place] };
                    let credentials = Credentials::generate(key, &[], fairpost::now()).unwrap();
                    let config = Arc::new(ArcSwap::from(server_config(&credentials).unwrap()));
                    let incoming = Incoming::new(listener, config, IncomingOptions::default());
                    let world = Arc::clone(self);
                    let incoming = incoming.inspect(move |_| world.connections.lock().unwrap()[place] += 1);
                    let node = Node { world: Arc::clone(self), place, behaviour };
                    nodes.spawn(async move {
                        tonic::transport::Server::builder()
                            .add_service(ExchangeServer::new(node.clone()))
                            .add_service(ClusterServer::new(node))
                            .serve_with_incoming(incoming)
                            .await
                            .unwrap();
                    });
                }
            }
        }
        nodes
    }

    /// Who was asked, in order.
    pub fn asked(&self) -> Vec<(usize, Method)> {
        self.asked.lock().unwrap().clone()
    }

    /// Writes identities, card and trust file; gives the folder.
    pub fn write_files(&self) -> PathBuf {
        let folder = self.folder.path();
        self.sender.create(&folder.join("sender.id")).unwrap();
        self.recipient.create(&folder.join("recipient.id")).unwrap();
        std::fs::write(folder.join("recipient.card"), self.recipient.card(fairpost::now()).unwrap()).unwrap();
        fairpost::trust::save(&folder.join("cluster.trust"), &self.trust).unwrap();
        folder.to_owned()
    }

    fn verdict(&self, exchange: &ExchangeId) -> Option<Verdict> {
        self.ledger.lock().unwrap().get(exchange).map(|decided| decided.leaf.verdict)
    }

    fn decide(&self, nro: &Signed<Nro>, verdict: Verdict, evidence: Option<Vec<u8>>, time: Timestamp) {
        let leaf = leaf(nro, verdict, evidence.as_deref(), time);
        let decided = Decided { leaf, nro: nro.bytes().to_vec(), evidence };
        self.ledger.lock().unwrap().entry(leaf.exchange).or_insert(decided);
        self.changed.send_replace(());
    }
}

fn leaf(nro: &Signed<Nro>, verdict: Verdict, evidence: Option<&[u8]>, time: Timestamp) -> Leaf {
    Leaf {
        exchange: nro.payload().terms.exchange(),
        round: Round::FIRST,
        verdict,
        time,
        nro: nro.digest(),
        evidence: evidence.map(fairpost_proto::ids::Digest::of),
    }
}

fn combine(shares: &[KeyShare], message: &Message) -> Token {
    let shares: Vec<_> = (0..).zip(shares).map(|(index, share)| (index, share.sign(message))).collect();
    threshold::combine(3, &shares).unwrap()
}

#[derive(Clone)]
struct Node {
    world: Arc<World>,
    place: usize,
    behaviour: Behaviour,
}

/// A node that is watched, for which exchange, what wakes it, and whether it has said anything.
type Watched = (Node, Signed<Nro>, watch::Receiver<()>, bool);
type Given<T> = Result<Response<T>, Status>;

impl Node {
    async fn misbehave(&self, method: Method) -> Result<(), Status> {
        self.world.asked.lock().unwrap().push((self.place, method));
        self.misbehave_always().await
    }

    async fn misbehave_always(&self) -> Result<(), Status> {
        match self.behaviour {
            Behaviour::Hanging => std::future::pending().await,
            Behaviour::Unavailable => Err(unavailable("no quorum")),
            Behaviour::Overloaded => {
                let mut details = ErrorDetails::with_retry_info(Some(BUSY));
                details.set_error_info("OVERLOADED", "fairpost", HashMap::new());
                Err(Status::with_error_details(Code::ResourceExhausted, "too much to do", details))
            }
            Behaviour::Rejecting => {
                let details = ErrorDetails::with_error_info("TOO_LATE", "fairpost", HashMap::new());
                Err(Status::with_error_details(Code::FailedPrecondition, "too late", details))
            }
            _ => Ok(()),
        }
    }

    /// Collects shares, if it can.
    async fn collect(&self, nro: &Signed<Nro>) -> Result<(), Status> {
        match self.behaviour {
            _ if self.world.verdict(&nro.payload().terms.exchange()).is_none() => Ok(()),
            Behaviour::Cut | Behaviour::Late | Behaviour::WrongShare | Behaviour::FewVotes => {
                Err(unavailable("too few shares"))
            }
            Behaviour::Stuck => std::future::pending().await,
            _ => Ok(()),
        }
    }

    /// Whether it decides by the rules.
    const fn decides(&self) -> bool {
        use Behaviour::{Cut, FewVotes, Honest, Late, Stuck, WrongShare};
        matches!(self.behaviour, Honest | Cut | Stuck | Late | WrongShare | FewVotes)
    }

    fn admit(&self, method: Method, asked: &PartyRequest) -> Result<Signed<Nro>, Status> {
        let (view, now) = (self.world.trust.view(), fairpost::now());
        let invalid = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
        let nro = evidence::check_nro(view, &asked.nro, now).map_err(|error| invalid(&error))?;
        let evidence = Some(asked.evidence.as_slice()).filter(|bytes| !bytes.is_empty());
        request::check(view, method, &asked.request, &nro, evidence, now).map_err(|error| invalid(&error))?;
        Ok(nro)
    }

    async fn submit(&self, method: Method, verdict: Verdict, asked: PartyRequest) -> Given<Outcome> {
        self.misbehave(method).await?;
        let nro = self.admit(method, &asked)?;
        let now = fairpost::now();
        let exchange = nro.payload().terms.exchange();
        if self.world.verdict(&exchange).is_none() && self.decides() {
            evidence::check(self.world.trust.view(), verdict, nro.bytes(), Some(&asked.evidence), now)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            self.world.decide(&nro, verdict, Some(asked.evidence), now);
        }
        self.collect(&nro).await?;
        self.outcome(&nro)
    }

    /// The next message to whoever watches: at once, and then whenever something was decided.
    async fn sign(watched: Option<Watched>) -> Option<(Result<Outcome, Status>, Option<Watched>)> {
        let (node, nro, mut changed, said) = watched?;
        if said && node.behaviour == Behaviour::Dropping {
            return None;
        }
        if said {
            changed.changed().await.unwrap();
        }
        node.expire(&nro);
        let given = node.outcome(&nro).map(Response::into_inner);
        let goes_on = given.as_ref().is_ok_and(|given| given.state() == State::Undecided);
        Some((given, goes_on.then_some((node, nro, changed, true))))
    }

    fn outcome(&self, nro: &Signed<Nro>) -> Given<Outcome> {
        let exchange = nro.payload().terms.exchange();
        let standing = self.world.verdict(&exchange);
        let token = |verdict, exchange| Some(self.world.token(verdict, exchange));
        // Liars are allied with the parties: what these sign is at hand.
        let (said, token) = match (self.behaviour, standing) {
            (Behaviour::Undecided, _) => (None, None),
            (Behaviour::WrongToken, _) => {
                (Some(Verdict::Released), token(Verdict::Released, ExchangeId::new([7; 32])))
            }
            (Behaviour::SwappedVerdict, _) => (Some(Verdict::Withdrawn), token(Verdict::Released, exchange)),
            (Behaviour::ForgedEvidence, _) => (Some(Verdict::Released), token(Verdict::Released, exchange)),
            (_, standing) => (standing, standing.and_then(|verdict| token(verdict, exchange))),
        };
        let ledger = self.world.ledger.lock().unwrap();
        let evidence = match (standing, said) {
            (Some(standing), Some(said)) if standing == said => ledger[&exchange].evidence.clone(),
            (_, said) => said.and_then(|verdict| self.world.evidence(nro, verdict)),
        };
        Ok(Response::new(Outcome {
            state: said.map_or(State::Undecided, state).into(),
            token: token.map(|token| token.to_bytes().to_vec()).unwrap_or_default(),
            evidence: self.maybe_forged(evidence).unwrap_or_default(),
            server_time_millis: fairpost::now().millis(),
            ..Outcome::default()
        }))
    }

    fn maybe_forged(&self, mut evidence: Option<Vec<u8>>) -> Option<Vec<u8>> {
        if self.behaviour == Behaviour::ForgedEvidence
            && let Some(last) = evidence.as_mut().and_then(|bytes| bytes.last_mut())
        {
            *last ^= 1;
        }
        evidence
    }

    fn expire(&self, nro: &Signed<Nro>) {
        let terms = &nro.payload().terms;
        if self.decides() && fairpost::now() >= terms.expires {
            self.world.decide(nro, Verdict::Expired, None, fairpost::now());
        }
    }
}

fn unavailable(message: &str) -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(20)));
    Status::with_error_details(Code::Unavailable, message, details)
}

fn undecided() -> Status {
    let details = ErrorDetails::with_error_info("UNDECIDED", "fairpost", HashMap::new());
    Status::with_error_details(Code::FailedPrecondition, "undecided", details)
}

fn state(verdict: Verdict) -> State {
    match verdict {
        Verdict::Released => State::Released,
        Verdict::Withdrawn => State::Withdrawn,
        Verdict::Refused => State::Refused,
        Verdict::Expired => State::Expired,
    }
}

#[tonic::async_trait]
impl ExchangeService for Node {
    async fn redeem(&self, request: Request<PartyRequest>) -> Given<Outcome> {
        self.submit(Method::Redeem, Verdict::Released, request.into_inner()).await
    }

    async fn withdraw(&self, request: Request<PartyRequest>) -> Given<Outcome> {
        self.submit(Method::Withdraw, Verdict::Withdrawn, request.into_inner()).await
    }

    async fn refuse(&self, request: Request<PartyRequest>) -> Given<Outcome> {
        self.submit(Method::Refuse, Verdict::Refused, request.into_inner()).await
    }

    async fn get_status(&self, request: Request<PartyRequest>) -> Given<Outcome> {
        self.misbehave(Method::Status).await?;
        let nro = self.admit(Method::Status, request.get_ref())?;
        self.expire(&nro);
        self.collect(&nro).await?;
        self.outcome(&nro)
    }

    type WatchStream = BoxStream<'static, Result<Outcome, Status>>;

    async fn watch(&self, request: Request<PartyRequest>) -> Given<Self::WatchStream> {
        self.world.watched.lock().unwrap().push(self.place);
        self.misbehave(Method::Status).await?;
        let nro = self.admit(Method::Status, request.get_ref())?;
        let changed = self.world.changed.subscribe();
        let signs = stream::unfold(Some((self.clone(), nro, changed, false)), Self::sign);
        Ok(Response::new(Box::pin(signs)))
    }

    async fn get_proof(&self, request: Request<PartyRequest>) -> Given<ProofParts> {
        self.misbehave(Method::Proof).await?;
        let nro = self.admit(Method::Proof, request.get_ref())?;
        self.expire(&nro);
        self.collect(&nro).await?;
        let exchange = nro.payload().terms.exchange();
        let ledger = self.world.ledger.lock().unwrap();
        let Some(decided) = ledger.get(&exchange).filter(|_| self.behaviour != Behaviour::Undecided) else {
            return Err(undecided());
        };
        let verdict = decided.leaf.verdict;
        let about = if self.behaviour == Behaviour::WrongToken { ExchangeId::new([7; 32]) } else { exchange };
        Ok(Response::new(ProofParts {
            state: if self.behaviour == Behaviour::SwappedVerdict { State::Refused } else { state(verdict) }
                .into(),
            nro: decided.nro.clone(),
            evidence: self.maybe_forged(decided.evidence.clone()).unwrap_or_default(),
            certificate: self.world.certificate(decided.leaf).to_bytes(),
            token: self.world.token(verdict, about).to_bytes().to_vec(),
        }))
    }

    async fn get_share(&self, request: Request<PartyRequest>) -> Given<ShareParts> {
        self.world.asked_shares.lock().unwrap().push(self.place);
        self.misbehave_always().await?;
        let nro = self.admit(Method::Proof, request.get_ref())?;
        if self.behaviour == Behaviour::Late {
            tokio::time::sleep(LATE).await;
        }
        let exchange = nro.payload().terms.exchange();
        let ledger = self.world.ledger.lock().unwrap();
        let Some(decided) = ledger.get(&exchange).filter(|_| self.behaviour != Behaviour::Undecided) else {
            return Err(undecided());
        };
        let (cluster, verdict) = (self.world.trust.cluster(), decided.leaf.verdict);
        let lies = matches!(self.behaviour, Behaviour::WrongToken | Behaviour::WrongShare);
        let few = self.behaviour == Behaviour::FewVotes;
        let about = if lies { ExchangeId::new([7; 32]) } else { exchange };
        let message = Message::Verdict { cluster, verdict, exchange: about };
        Ok(Response::new(ShareParts {
            state: if self.behaviour == Behaviour::SwappedVerdict { State::Refused } else { state(verdict) }
                .into(),
            nro: decided.nro.clone(),
            evidence: self.maybe_forged(decided.evidence.clone()).unwrap_or_default(),
            certificate: self.world.votes(decided.leaf, if few { 2 } else { 3 }).to_bytes(),
            share: self.world.shares[self.place].sign(&message).to_bytes().to_vec(),
        }))
    }
}

#[tonic::async_trait]
impl ClusterService for Node {
    async fn get_trust(&self, _: Request<GetTrustRequest>) -> Given<GetTrustResponse> {
        Ok(Response::new(GetTrustResponse { trust: self.world.trust.to_bytes() }))
    }

    async fn get_node(&self, _: Request<GetNodeRequest>) -> Given<GetNodeResponse> {
        Ok(Response::new(GetNodeResponse {
            name: format!("n{}", self.place + 1),
            ..GetNodeResponse::default()
        }))
    }
}
