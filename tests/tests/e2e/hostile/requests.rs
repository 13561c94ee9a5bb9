//! One exchange, and everything that must not decide it.

use fairpost::client::{Client, Options};
use fairpost::identity::Identity;
use fairpost::{ca, sealed_mail::SealedMail};
use fairpost_api::v1::{PartyRequest, State};
use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::{Answer, Nro, Nrr, Refusal, Withdrawal};
use fairpost_proto::ids::{ClusterId, Digest, Protocol, Span, Timestamp, Verdict};
use fairpost_proto::request::{Method, Request};
use fairpost_proto::terms::{Fields, Terms};
use fairpost_tests::{
    Cluster, People, call, certified, envelope, get_proof, mail, open, prove, request, undecided, within,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub(super) const HOUR: Span = Span::from_seconds(3600);
const DAY: u64 = 86_400;

/// The exchange that is attacked, and everybody around it.
struct Scene<'a> {
    cluster: &'a Cluster,
    people: &'a People,
    nodes: Vec<Channel>,
    sealed: SealedMail,
    receipt: Vec<u8>,
    stranger: Identity,
    foreign_ca: tempfile::TempDir,
}

pub(super) async fn bad_input_is_refused_and_the_exchange_stays_undecided(
    cluster: &Cluster,
    people: &People,
) {
    let sealed = people.seal(cluster, Protocol::Cmp2, HOUR).unwrap();
    let receipt = people.recipient.sign(Nrr(Answer::to(sealed.nro()))).unwrap().bytes().to_vec();
    let foreign_ca = tempfile::tempdir().unwrap();
    ca::init(foreign_ca.path(), "Another CA", fairpost::now()).unwrap();
    let stranger = certified(&cluster.ca(), "stranger@example.org", 365, fairpost::now()).unwrap();
    let nodes = (0..4).map(|node| cluster.channel(node).unwrap()).collect();
    let mut scene = Scene { cluster, people, nodes, sealed, receipt, stranger, foreign_ca };
    let before = cluster.status(0).await.unwrap();

    scene.malformed().await;
    scene.swapped().await;
    scene.requests().await;
    scene.certificates().await;
    scene.terms().await;
    scene.oversize().await;

    let nro = scene.sealed.nro().clone();
    for node in &scene.nodes {
        for party in [&people.sender, &people.recipient] {
            assert!(undecided(node, cluster.trust.cluster(), party, &nro).await.unwrap());
        }
    }
    let unproven =
        get_proof(&scene.nodes[0], cluster.trust.cluster(), &people.sender, &nro).await.unwrap_err();
    expect("a proof of nothing", &unproven.downcast().unwrap(), Code::FailedPrecondition, "UNDECIDED", &[]);
    let after = cluster.status(0).await.unwrap();
    assert_eq!(after.sequence, before.sequence, "something was ordered");
    assert_eq!(after.evidence_log_root, before.evidence_log_root);

    scene.too_late().await;
    let client = Client::new(cluster.trust.clone(), Options::default()).unwrap();
    assert_eq!(open(&client, people, &mut scene.sealed).await.unwrap(), mail());
    assert_eq!(prove(&client, people, &mut scene.sealed).await.unwrap().verdict, Verdict::Released);
}

/// That a refusal has this code, this reason for programs, and these words for people.
fn expect(what: &str, status: &Status, code: Code, reason: &str, words: &[&str]) {
    let found = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    assert_eq!((status.code(), found.as_str()), (code, reason), "{what}: {}", status.message());
    for word in words {
        assert!(status.message().contains(word), "{what}: {word:?} is not in {:?}", status.message());
    }
}

fn expect_field(what: &str, status: &Status, field: &str, reason: &str, words: &[&str]) {
    expect(what, status, Code::InvalidArgument, reason, words);
    let details = status.get_details_bad_request().unwrap();
    let fields: Vec<String> = details.field_violations.into_iter().map(|found| found.field).collect();
    assert_eq!(fields, [field], "{what}");
}

impl Scene<'_> {
    fn id(&self) -> ClusterId {
        self.cluster.trust.cluster()
    }

    fn nro(&self) -> &Signed<Nro> {
        self.sealed.nro()
    }

    /// Sends a message to a node, which must refuse it.
    async fn refused(&self, method: Method, message: PartyRequest) -> Status {
        // Every node has to refuse: which one is asked depends on the message.
        let node = message.request.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 4;
        match call(&self.nodes[node], method, message).await {
            Err(status) => status,
            Ok(outcome) => panic!("answered with {outcome:?}"),
        }
    }

    /// Redeems with this evidence, in a request that is in order.
    async fn redeem(&self, nro: &Signed<Nro>, evidence: Option<&[u8]>) -> Status {
        let asked = request(self.id(), Method::Redeem, nro, evidence);
        let message = envelope(&self.people.recipient, asked, nro.bytes(), evidence).unwrap();
        self.refused(Method::Redeem, message).await
    }

    /// What the recipient would send.
    fn honest(&self) -> PartyRequest {
        let evidence = Some(self.receipt.as_slice());
        let asked = request(self.id(), Method::Redeem, self.nro(), evidence);
        envelope(&self.people.recipient, asked, self.nro().bytes(), evidence).unwrap()
    }

    async fn malformed(&self) {
        let garbage: Vec<u8> = (0..300_u32).map(|byte| (byte * 31 % 251) as u8).collect();
        let cut = |bytes: &[u8]| [0, 1, bytes.len() / 2, bytes.len() - 1].map(|end| bytes[..end].to_vec());
        let trailing = |bytes: &[u8]| [bytes, &[0]].concat();
        let honest = self.honest();
        for bad in cut(&honest.nro).into_iter().chain([garbage.clone(), trailing(&honest.nro)]) {
            // The request is signed for just this.
            let asked = request(self.id(), Method::Redeem, self.nro(), Some(&self.receipt));
            let asked =
                Request { body: fairpost_proto::request::body_digest(&bad, Some(&self.receipt)), ..asked };
            let message = envelope(&self.people.recipient, asked, &bad, Some(&self.receipt)).unwrap();
            expect_field(
                "the NRO",
                &self.refused(Method::Redeem, message).await,
                "nro",
                "MALFORMED",
                &["NRO"],
            );
        }
        for bad in cut(&honest.request).into_iter().chain([garbage.clone(), trailing(&honest.request)]) {
            let message = PartyRequest { request: bad, ..honest.clone() };
            let status = self.refused(Method::Redeem, message).await;
            expect_field("the request", &status, "request", "MALFORMED", &["request"]);
        }
        let receipts = cut(&self.receipt).into_iter().skip(1).chain([garbage, trailing(&self.receipt)]);
        for bad in receipts {
            let status = self.redeem(self.nro(), Some(&bad)).await;
            expect_field("the receipt", &status, "evidence", "MALFORMED", &["receipt"]);
        }
        self.flipped(&honest).await;
    }

    /// One bit in each part: at its end, where the signature is, and here and there before.
    async fn flipped(&self, honest: &PartyRequest) {
        let places =
            |bytes: &[u8]| (0..bytes.len()).step_by(bytes.len() / 12).chain([bytes.len() - 1]).collect();
        let flip = |bytes: &[u8], place: usize| {
            let mut flipped = bytes.to_vec();
            flipped[place] ^= 1 << (place % 8);
            flipped
        };
        let places_of = |bytes: &[u8]| -> Vec<usize> { places(bytes) };
        let codes = [Code::InvalidArgument, Code::FailedPrecondition, Code::PermissionDenied];
        let last = |bytes: &[u8], place: usize| place == bytes.len() - 1;
        for place in places_of(&honest.nro) {
            let message = PartyRequest { nro: flip(&honest.nro, place), ..honest.clone() };
            let status = self.refused(Method::Redeem, message).await;
            assert!(codes.contains(&status.code()), "bit {place} of the NRO: {status:?}");
            if last(&honest.nro, place) {
                expect_field(
                    "the NRO's signature",
                    &status,
                    "nro",
                    "MALFORMED",
                    &["signature", "not by key"],
                );
            }
        }
        for place in places_of(&honest.request) {
            let message = PartyRequest { request: flip(&honest.request, place), ..honest.clone() };
            let status = self.refused(Method::Redeem, message).await;
            assert!(codes.contains(&status.code()), "bit {place} of the request: {status:?}");
            if last(&honest.request, place) {
                expect_field("the request's signature", &status, "request", "MALFORMED", &["not by key"]);
            }
        }
        for place in places_of(&self.receipt) {
            let bad = flip(&self.receipt, place);
            let status = self.redeem(self.nro(), Some(&bad)).await;
            assert!(codes.contains(&status.code()), "bit {place} of the receipt: {status:?}");
            if last(&self.receipt, place) {
                expect_field("the receipt's signature", &status, "evidence", "MALFORMED", &["not by key"]);
            }
        }
    }

    /// Evidence that is in order, and not what it is offered for.
    async fn swapped(&self) {
        let (answer, people) = (Answer::to(self.nro()), self.people);
        let refusal = people.recipient.sign(Refusal(answer)).unwrap();
        let withdrawal = people.sender.sign(Withdrawal(answer)).unwrap();
        for (bytes, typ) in [(refusal.bytes(), "refusal"), (withdrawal.bytes(), "withdrawal")] {
            let status = self.redeem(self.nro(), Some(bytes)).await;
            let (found, expected) = (format!("fairpost.{typ}+cose"), "fairpost.nrr+cose");
            expect_field(typ, &status, "evidence", "MALFORMED", &[&found, expected]);
        }
        let asked = request(self.id(), Method::Refuse, self.nro(), Some(&self.receipt));
        let message = envelope(&people.recipient, asked, self.nro().bytes(), Some(&self.receipt)).unwrap();
        let status = self.refused(Method::Refuse, message).await;
        expect_field("a receipt as refusal", &status, "evidence", "MALFORMED", &["refusal+cose", "nrr+cose"]);

        let status = self.redeem(self.nro(), None).await;
        expect_field("no receipt", &status, "evidence", "PRESENCE", &["receipt", "without"]);

        let other = people.seal(self.cluster, Protocol::Cmp2, HOUR).unwrap();
        let receipt = people.recipient.sign(Nrr(Answer::to(other.nro()))).unwrap();
        let status = self.redeem(self.nro(), Some(receipt.bytes())).await;
        let ids = [self.sealed.exchange().to_string(), other.exchange().to_string()];
        expect_field("another exchange", &status, "evidence", "FOREIGN", &[&ids[0], &ids[1]]);

        // The same terms, signed for another sealed mail: another NRO of the same exchange.
        let terms = self.sealed.terms().clone();
        let twin = people.sender.sign(Nro { terms, sealed: Digest::of(b"another mail") }).unwrap();
        let receipt = people.recipient.sign(Nrr(Answer::to(&twin))).unwrap();
        let status = self.redeem(self.nro(), Some(receipt.bytes())).await;
        let digests = [self.nro().digest().to_string(), twin.digest().to_string()];
        expect_field("another NRO", &status, "evidence", "FOREIGN", &[&digests[0], &digests[1]]);

        let receipt = self.stranger.sign(Nrr(answer)).unwrap();
        let status = self.redeem(self.nro(), Some(receipt.bytes())).await;
        let keys = [people.recipient.key_id().to_string(), self.stranger.key_id().to_string()];
        expect_field("a stranger's receipt", &status, "evidence", "FOREIGN", &[&keys[0], &keys[1]]);
    }

    /// Requests that are not by, for, about or from when they should be.
    async fn requests(&self) {
        let (people, receipt) = (self.people, Some(self.receipt.as_slice()));
        let right = || request(self.id(), Method::Redeem, self.nro(), receipt);
        let send = async |signer: &Identity, method: Method, asked: Request| {
            let message = envelope(signer, asked, self.nro().bytes(), receipt).unwrap();
            self.refused(method, message).await
        };
        for signer in [&self.stranger, &people.sender] {
            let status = send(signer, Method::Redeem, right()).await;
            let key = signer.key_id().to_string();
            expect("a stranger", &status, Code::PermissionDenied, "STRANGER", &["recipient", &key]);
        }
        for method in [Method::Status, Method::Proof] {
            let asked = Request { method: Method::Status, ..right() };
            let status = send(&self.stranger, method, asked).await;
            expect("a nosy stranger", &status, Code::PermissionDenied, "STRANGER", &["sender or recipient"]);
        }
        let status =
            send(&people.recipient, Method::Withdraw, Request { method: Method::Withdraw, ..right() }).await;
        expect(
            "the other party",
            &status,
            Code::PermissionDenied,
            "STRANGER",
            &["withdraw is for the sender"],
        );

        let foreign = ClusterId::new([7; 32]);
        let status = send(&people.recipient, Method::Redeem, Request { cluster: foreign, ..right() }).await;
        let ids = [self.id().to_string(), foreign.to_string()];
        expect("another cluster", &status, Code::FailedPrecondition, "OTHER_CLUSTER", &[&ids[0], &ids[1]]);

        let status =
            send(&people.recipient, Method::Redeem, Request { method: Method::Refuse, ..right() }).await;
        expect_field("another method", &status, "request", "FOREIGN", &["refuse", "redeem"]);

        let other = people.seal(self.cluster, Protocol::Cmp2, HOUR).unwrap();
        let asked = Request { exchange: other.exchange(), ..right() };
        let status = send(&people.recipient, Method::Redeem, asked).await;
        let ids = [self.sealed.exchange().to_string(), other.exchange().to_string()];
        expect_field("another exchange", &status, "request", "FOREIGN", &[&ids[0], &ids[1]]);

        let asked = right();
        let signed_for = asked.body.to_string();
        let swapped = people.recipient.sign(Nrr(Answer::to(other.nro()))).unwrap();
        let message = PartyRequest {
            evidence: swapped.bytes().to_vec(),
            ..envelope(&people.recipient, asked, self.nro().bytes(), receipt).unwrap()
        };
        let status = self.refused(Method::Redeem, message).await;
        let came =
            fairpost_proto::request::body_digest(self.nro().bytes(), Some(swapped.bytes())).to_string();
        expect_field("another body", &status, "request", "FOREIGN", &[&signed_for, &came]);

        let now = fairpost::now().millis();
        for time in [now - 310_000, now + 330_000] {
            let time = Timestamp::from_millis(time).unwrap();
            let status = send(&people.recipient, Method::Redeem, Request { time, ..right() }).await;
            expect("a replay", &status, Code::FailedPrecondition, "CLOCK", &[&time.to_string()]);
            let told = status.get_details_error_info().unwrap().metadata["server_time_millis"].parse::<u64>();
            assert!(
                told.unwrap().abs_diff(now) < 60_000,
                "the server tells its time, so that a clock can be set"
            );
        }
    }

    /// Signatures that hold, under certificates that do not.
    async fn certificates(&self) {
        let people = self.people;
        // The recipient's own key, with certificates that convince nobody now.
        let file = self.foreign_ca.path().join("recipient.id");
        people.recipient.create(&file).unwrap();
        let recipient = |ca: &std::path::Path, days, at: Timestamp| {
            let mut identity = Identity::load(&file).unwrap();
            let request = identity.request_csr().unwrap();
            identity.install(&ca::issue(ca, identity.address(), &request, days, at).unwrap(), at).unwrap();
            identity
        };
        let past = Timestamp::from_seconds(fairpost::now().seconds() - 3 * DAY).unwrap();
        let expired = recipient(&self.cluster.ca(), 1, past);
        let foreign = recipient(self.foreign_ca.path(), 365, fairpost::now());
        for (what, identity) in [("expired", &expired), ("foreign", &foreign)] {
            let receipt = identity.sign(Nrr(Answer::to(self.nro()))).unwrap();
            let status = self.redeem(self.nro(), Some(receipt.bytes())).await;
            expect_field(what, &status, "evidence", "CERTIFICATE", &["receipt", "recipient@example.org"]);
        }

        // Senders: certified by nobody we know, expired, not for long enough, for another address.
        let now = fairpost::now();
        let of_another_ca = certified(self.foreign_ca.path(), "sender@example.org", 365, now).unwrap();
        let ended = certified(&self.cluster.ca(), "sender@example.org", 1, past).unwrap();
        let soon = certified(&self.cluster.ca(), "sender@example.org", 1, now).unwrap();
        for (what, sender, lifetime) in [
            ("a foreign CA", &of_another_ca, HOUR),
            ("an expired certificate", &ended, HOUR),
            ("a certificate that ends too soon", &soon, Span::from_seconds(2 * DAY)),
            ("another's address", &self.stranger, HOUR),
        ] {
            let nro = self.statement(sender, |terms| {
                terms.sender.key = sender.key_id();
                terms.expires = terms.created.plus(lifetime);
            });
            let status = self.answered(&nro).await;
            expect_field(what, &status, "nro", "CERTIFICATE", &["certificate"]);
        }
        // The sender's name under a stranger's signature, without hiding it.
        let nro = self.statement(&self.stranger, |_| ());
        let keys = [people.sender.key_id().to_string(), self.stranger.key_id().to_string()];
        expect_field("a forged NRO", &self.answered(&nro).await, "nro", "FOREIGN", &[&keys[0], &keys[1]]);
    }

    /// A sender's statement with changed terms.
    fn statement(&self, sender: &Identity, change: impl FnOnce(&mut Fields)) -> Signed<Nro> {
        let mut fields = self.people.terms(self.cluster, Protocol::Cmp2, Digest::of(b"content"));
        change(&mut fields);
        sender.sign(Nro { terms: Terms::new(fields).unwrap(), sealed: Digest::of(b"sealed") }).unwrap()
    }

    /// The recipient answers a statement with a receipt that is in order.
    async fn answered(&self, nro: &Signed<Nro>) -> Status {
        let receipt = self.people.recipient.sign(Nrr(Answer::to(nro))).unwrap();
        self.redeem(nro, Some(receipt.bytes())).await
    }

    /// Terms that this cluster does not take.
    async fn terms(&self) {
        let sender = &self.people.sender;
        let foreign = ClusterId::new([9; 32]);
        let nro = self.statement(sender, |terms| terms.cluster = foreign);
        let ids = [self.id().to_string(), foreign.to_string()];
        let status = self.answered(&nro).await;
        expect("another cluster's", &status, Code::FailedPrecondition, "OTHER_CLUSTER", &[&ids[0], &ids[1]]);

        let longest = self.cluster.trust.view().parameters().longest_lifetime;
        let more = Span::from_seconds(longest.millis() / 1000 + 1);
        let nro = self.statement(sender, |terms| terms.expires = terms.created.plus(more));
        let status = self.answered(&nro).await;
        let spans = [longest.to_string(), more.to_string()];
        expect("for too long", &status, Code::FailedPrecondition, "LIFETIME", &[&spans[0], &spans[1]]);

        let tomorrow = fairpost::now().plus(Span::from_seconds(DAY));
        let tomorrow = Timestamp::from_seconds(tomorrow.seconds()).unwrap();
        let nro = self.statement(sender, |terms| {
            (terms.created, terms.expires) = (tomorrow, tomorrow.plus(HOUR));
        });
        let status = self.answered(&nro).await;
        let created = tomorrow.to_string();
        expect("from tomorrow", &status, Code::FailedPrecondition, "CREATED_LATER", &[&created, "20"]);
    }

    async fn oversize(&self) {
        let large = vec![0; 25 * 1024];
        let status = self.redeem(self.nro(), Some(&large)).await;
        expect_field("a large receipt", &status, "evidence", "MALFORMED", &["25600", "24576"]);
        for node in &self.nodes {
            let message = PartyRequest { evidence: vec![0; 8 << 20], ..self.honest() };
            let status = call(node, Method::Redeem, message).await.unwrap_err();
            let codes = [Code::OutOfRange, Code::ResourceExhausted];
            assert!(codes.contains(&status.code()), "{status:?}");
            assert!(
                undecided(node, self.id(), &self.people.sender, self.nro()).await.unwrap(),
                "it works on"
            );
        }
    }

    /// A receipt after the deadline is refused, and after the grace the exchange has expired for everybody.
    async fn too_late(&self) {
        let second = Span::from_seconds(1);
        let nro = self.statement(&self.people.sender, |terms| terms.expires = terms.created.plus(second));
        let expires = nro.payload().terms.expires;
        until(expires).await;
        let status = self.answered(&nro).await;
        let deadline = expires.to_string();
        expect("a late receipt", &status, Code::FailedPrecondition, "TOO_LATE", &[&deadline, "deadline"]);
        let told = &status.get_details_error_info().unwrap().metadata["expires_millis"];
        assert_eq!(*told, expires.millis().to_string());

        until(expires.plus(self.cluster.trust.view().parameters().grace)).await;
        let asked = request(self.id(), Method::Status, &nro, None);
        let message = envelope(&self.people.sender, asked, nro.bytes(), None).unwrap();
        let outcome = call(&self.nodes[1], Method::Status, message).await.unwrap();
        assert_eq!(outcome.state(), State::Expired);
        let receipt = self.people.recipient.sign(Nrr(Answer::to(&nro))).unwrap();
        let asked = request(self.id(), Method::Redeem, &nro, Some(receipt.bytes()));
        let message = envelope(&self.people.recipient, asked, nro.bytes(), Some(receipt.bytes())).unwrap();
        let late = call(&self.nodes[2], Method::Redeem, message).await.unwrap();
        assert_eq!((late.state(), late.token), (State::Expired, outcome.token));
    }
}

/// Waits until this machine's clock, which is the cluster's, says `time`.
async fn until(time: Timestamp) {
    let waiting = async {
        while fairpost::now() < time {
            let left = time.millis().saturating_sub(fairpost::now().millis()) + 1;
            tokio::time::sleep(std::time::Duration::from_millis(left)).await;
        }
    };
    within("a deadline", waiting).await.unwrap();
}
