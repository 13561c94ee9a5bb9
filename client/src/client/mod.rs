//! Asking a cluster about an exchange: from any node, believing none.
//!
//! # Specification
//!
//! Nodes are asked one after the other, the one that answered last first, until one gives an answer that proves itself: a
//! verdict under the cluster's own token, or a proof that convinces the judge ([`fairpost_proto::verify`]). When one has
//! not answered within [`Options::hedge`], the next is asked as well, and the first proven answer wins: up to one more
//! than may be compromised at once (`schedule`). A node that is dead, silent, without a quorum or lying costs that
//! time and nothing else; one that lied is asked last from then on. Those that failed are asked again, after pauses that
//! grow or after as long as they tell, until [`Options::deadline`]. [`Client::watch`] waits for a verdict (`watch`).
//!
//! Beside that, when no proven answer comes in twice the time after which the next node is asked, or a node is silent, can't
//! get on or lies, all are asked for their shares, and the token is made here (`collect`, `shares`).
//!
//! What does not prove itself is believed by numbers (`tally`): a rejection when more nodes give it than may be
//! compromised; "undecided" when so many say it that the honest ones who hold what a token was made of can't all be
//! among the others ([`Quorum::denials`](fairpost_proto::quorum::Quorum::denials), `q` of `3f + 1`). With fewer it is not
//! known, and an error.
//!
//! # Relies on
//!
//! The [`Trust`] is the cluster's. This machine's clock is within five minutes of the cluster's.
//!
//! # Guarantees
//!
//! - Every verdict comes with a token of the cluster's key for this exchange and this verdict (`answer::outcome`; test
//!   `a_node_with_a_wrong_token_is_not_believed`).
//! - A sender gets what proves a verdict from any one node that has it, whatever others deny (test
//!   `one_honest_node_with_the_evidence_is_enough_for_the_sender_whatever_others_deny`); and either party from `q` nodes that
//!   hold the certificate, whether or not any of them reaches another (test
//!   `a_mail_opens_and_its_delivery_is_proved_although_no_node_collects_shares`).
//! - Nothing is signed before the mail has been checked ([`Client::redeem`]; test
//!   `no_receipt_is_signed_for_a_mail_that_does_not_check_out`).
//! - Every call may be dropped at any moment and made again: an exchange has one verdict, and whoever asks later gets the
//!   one that stands. A call that was dropped leaves no task and no timer (`tests/cancel.rs`).
//! - There is one connection to each node, whatever the number of calls and clones (test
//!   `calls_and_clones_share_one_connection_to_each_node`).

mod answer;
mod ask;
mod collect;
mod error;
mod reason;
mod roster;
mod schedule;
mod shares;
mod tally;
mod watch;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fairpost_proto::evidence::{Answer, Nrr, Refusal, Withdrawal};
use fairpost_proto::ids::{Protocol, Verdict};
use fairpost_proto::lock::Locked;
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::request::Method;
use fairpost_proto::sealed;
use fairpost_proto::threshold::Token;
use fairpost_proto::trust::Trust;
use fairpost_proto::verify::Report;

pub use error::{Error, Failure, Fault, Fraud, Party, Rejection};
pub use reason::Reason;
pub use watch::{Event, Watch};

use crate::identity::Identity;
use crate::sealed_mail::SealedMail;
use crate::spool::Spool;
use answer::Judged;
use roster::Roster;
use tally::Tally;

/// How patient a client is, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long one node may take. 5 s.
    pub attempt: Duration,
    /// How long a call may take, over all nodes. 30 s.
    pub deadline: Duration,
    /// How long a node may take before the next is asked as well; none: three times what answers to the same method
    /// usually took, at least 50 ms and at most half of `attempt`.
    pub hedge: Option<Duration>,
    /// Which node to ask first, by its place in the view; none: any.
    pub first: Option<usize>,
    /// How long a watched node may be silent. Nodes give a sign of life every 10 s. 15 s.
    pub silence: Duration,
    /// How often other nodes than the watched one are asked. 30 s.
    pub second_opinion: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
            hedge: None,
            first: None,
            silence: Duration::from_secs(15),
            second_opinion: Duration::from_secs(30),
        }
    }
}

/// The verdict on an exchange, proven.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The cluster's token for it. For [`Verdict::Released`] it opens the mail.
    pub token: Token,
    /// The signed object that it rests on (NRR, withdrawal or refusal), as it came; none for [`Verdict::Expired`].
    pub evidence: Option<Vec<u8>>,
}

/// What became of opening a mail.
#[derive(Debug)]
pub enum Opening {
    /// It was released, and its content is what the sender signed.
    Opened {
        /// The mail, byte for byte, to be read from its start.
        mail: Spool,
        /// Its length in bytes.
        length: u64,
        /// The verdict Released.
        outcome: Outcome,
    },
    /// Another verdict stands: it stays shut.
    Shut(Outcome),
}

/// Whether a proof lets its reader open the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Disclosure {
    /// Whoever has the proof and the sealed mail can open it, and see that it is what was signed.
    #[default]
    Content,
    /// In CMP2 the proof shows that the mail was accepted, and not what it says. (In CMP1 the token alone opens it.)
    Acceptance,
}

/// Asks one cluster, in the name of whoever calls.
///
/// It has one connection to each node, opened when it is first needed and opened again when it is lost. A clone is
/// cheap, and shares the connections and what is known of the nodes: make one client for each cluster, and clone it.
#[derive(Clone)]
pub struct Client {
    trust: Arc<Trust>,
    options: Options,
    roster: Arc<Roster>,
}

impl Client {
    /// A client of the cluster that `trust` is about. It connects when it is first used. To be called in a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if the view has an address that is none.
    pub fn new(trust: Trust, options: Options) -> Result<Self, Error> {
        let roster = Roster::new(trust.view(), options)?;
        Ok(Self { trust: Arc::new(trust), options, roster: Arc::new(roster) })
    }

    /// The cluster's genesis and views.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The recipient accepts: signs the receipt and hands it in. For [`Verdict::Released`] the token in the answer opens
    /// the mail ([`SealedMail::unlock`]). A verdict that stands already is an answer, not an error.
    ///
    /// **When dropped:** the receipt may have been handed in, and the mail be released. Call again to get the verdict.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but [`Error::Undecided`] and [`Error::Fraud`]. Those about the mail come before anything is signed.
    pub async fn redeem(&self, identity: &Identity, mail: &SealedMail) -> Result<Outcome, Error> {
        self.check_for_receipt(identity, mail)?;
        let receipt = identity.sign(Nrr(Answer::to(mail.nro())))?;
        self.submit(Method::Redeem, identity, mail, receipt.bytes().to_vec()).await
    }

    /// [`Client::redeem`], and opens the mail if it is released. Decrypting a long mail takes its time on the calling
    /// task; where that matters, redeem, and unlock elsewhere.
    ///
    /// **When dropped:** as [`Client::redeem`]. Nothing of the mail has been handed over; call again, and it is.
    ///
    /// # Errors
    ///
    /// Those of [`Client::redeem`], and [`Error::Fraud`] if the sender locked something else than it signed.
    pub async fn open(&self, identity: &Identity, mail: &mut SealedMail) -> Result<Opening, Error> {
        let lock = self.check_for_receipt(identity, mail)?;
        let outcome = self.redeem(identity, mail).await?;
        if outcome.verdict != Verdict::Released {
            return Ok(Opening::Shut(outcome));
        }
        let mut content = Spool::new()?;
        match mail.unlock(&lock, &outcome.token, io::BufWriter::new(&mut content)) {
            Ok(length) => {
                io::Seek::rewind(&mut content)?;
                Ok(Opening::Opened { mail: content, length, outcome })
            }
            Err(sealed::Error::Garbage(garbage)) => {
                let proof = Box::pin(self.prove(identity, mail, Claim::Fraud, Disclosure::Content)).await;
                let proof = proof.map(|(proof, _)| proof);
                Err(Error::Fraud(Box::new(Fraud { garbage, proof })))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// The recipient declines. Gives the verdict that stands then, which may be another.
    ///
    /// **When dropped:** the refusal may have been handed in. Call again to get the verdict.
    ///
    /// # Errors
    ///
    /// Those of [`Client::redeem`].
    pub async fn refuse(&self, identity: &Identity, mail: &SealedMail) -> Result<Outcome, Error> {
        mail.check(&self.trust, crate::now())?;
        check_party(identity, mail, Party::Recipient)?;
        let refusal = identity.sign(Refusal(Answer::to(mail.nro())))?;
        self.submit(Method::Refuse, identity, mail, refusal.bytes().to_vec()).await
    }

    /// The sender calls it off. Gives the verdict that stands then, which may be another.
    ///
    /// **When dropped:** the withdrawal may have been handed in. Call again to get the verdict.
    ///
    /// # Errors
    ///
    /// Those of [`Client::redeem`].
    pub async fn withdraw(&self, identity: &Identity, mail: &SealedMail) -> Result<Outcome, Error> {
        mail.check(&self.trust, crate::now())?;
        check_party(identity, mail, Party::Sender)?;
        let withdrawal = identity.sign(Withdrawal(Answer::to(mail.nro())))?;
        self.submit(Method::Withdraw, identity, mail, withdrawal.bytes().to_vec()).await
    }

    /// Either party learns the verdict; none while there is none. Once deadline and grace have passed, asking brings
    /// about [`Verdict::Expired`].
    ///
    /// **When dropped:** nothing has changed, but that Expired may be on record if it was due.
    ///
    /// # Errors
    ///
    /// Those of [`Client::redeem`].
    pub async fn status(&self, identity: &Identity, mail: &SealedMail) -> Result<Option<Outcome>, Error> {
        mail.check(&self.trust, crate::now())?;
        check_party(identity, mail, Party::Either)?;
        let call: ask::Call<_> = |mut node, request| Box::pin(async move { node.get_status(request).await });
        let judge = |given| answer::outcome(&self.trust, mail.nro(), given);
        self.ask(Method::Status, identity, mail, None, call, judge).await
    }

    /// Either party gets the proof of the verdict, whatever it is. The judge has accepted it, all but the opening.
    ///
    /// **When dropped:** as [`Client::status`].
    ///
    /// # Errors
    ///
    /// [`Error::Undecided`], [`Error::OtherNro`], or those of [`Client::status`].
    pub async fn proof(
        &self,
        identity: &Identity,
        mail: &SealedMail,
        disclosure: Disclosure,
    ) -> Result<(Proof, Report), Error> {
        self.prove(identity, mail, Claim::Verdict, disclosure).await
    }

    /// The recipient gets the proof that the sender locked something else than it signed. It convinces together with the
    /// sealed mail.
    ///
    /// **When dropped:** as [`Client::status`].
    ///
    /// # Errors
    ///
    /// Those of [`Client::proof`]. Whether the claim is true is not checked here.
    pub async fn fraud_proof(
        &self,
        identity: &Identity,
        mail: &SealedMail,
    ) -> Result<(Proof, Report), Error> {
        self.prove(identity, mail, Claim::Fraud, Disclosure::Content).await
    }

    async fn prove(
        &self,
        identity: &Identity,
        mail: &SealedMail,
        claim: Claim,
        disclosure: Disclosure,
    ) -> Result<(Proof, Report), Error> {
        mail.check(&self.trust, crate::now())?;
        check_party(identity, mail, Party::Either)?;
        let lock = match (mail.terms().protocol, disclosure) {
            (Protocol::Cmp2, Disclosure::Content) => Some(mail.lock_for(identity.sealing_key())?),
            _ => None,
        };
        let call: ask::Call<_> = |mut node, request| Box::pin(async move { node.get_proof(request).await });
        let judge = |given| {
            answer::proof(&self.trust, mail.exchange(), claim, lock.as_ref(), given).map(Judged::Proven)
        };
        let proven = self.ask(Method::Proof, identity, mail, None, call, judge).await?;
        let proven = proven.ok_or(Error::Undecided)?;
        let (expected, found) = (mail.nro().digest(), proven.0.certificate.leaf().nro);
        if expected == found { Ok(proven) } else { Err(Error::OtherNro { expected, found }) }
    }

    /// How many members may be compromised.
    fn faults(&self) -> usize {
        self.trust.view().quorum().f()
    }

    fn tally(&self) -> Tally {
        Tally::new(self.trust.view().quorum())
    }

    /// The node at `place` gave an answer that does not prove itself.
    fn lied(&self, place: usize, lie: &str) {
        let node = self.roster.nodes.get(place).map(|node| node.name.as_str());
        tracing::warn!(node, lie, "an answer does not prove itself");
        self.roster.lied(place);
    }

    /// All that a recipient checks before it signs. Gives the lock.
    fn check_for_receipt(&self, identity: &Identity, mail: &SealedMail) -> Result<Locked, Error> {
        mail.check(&self.trust, crate::now())?;
        check_party(identity, mail, Party::Recipient)?;
        Ok(mail.lock_for(identity.sealing_key())?)
    }

    async fn submit(
        &self,
        method: Method,
        identity: &Identity,
        mail: &SealedMail,
        evidence: Vec<u8>,
    ) -> Result<Outcome, Error> {
        let call: ask::Call<_> = match method {
            Method::Withdraw => |mut node, request| Box::pin(async move { node.withdraw(request).await }),
            Method::Refuse => |mut node, request| Box::pin(async move { node.refuse(request).await }),
            _ => |mut node, request| Box::pin(async move { node.redeem(request).await }),
        };
        let judge = |given| match answer::outcome(&self.trust, mail.nro(), given)? {
            Judged::Undecided => Err("it says undecided, and should have decided".to_owned()),
            proven => Ok(proven),
        };
        let outcome = self.ask(method, identity, mail, Some(evidence), call, judge).await?;
        outcome.ok_or(Error::Undecided)
    }
}

/// That `identity` is this party of the exchange.
fn check_party(identity: &Identity, mail: &SealedMail, party: Party) -> Result<(), Error> {
    let (terms, key) = (mail.terms(), identity.key_id());
    let is_sender = terms.sender.address == *identity.address() && terms.sender.key == key;
    let is_recipient = terms.recipient.address == *identity.address()
        && terms.recipient.key.is_none_or(|named| named == key);
    let is = match party {
        Party::Sender => is_sender,
        Party::Recipient => is_recipient,
        Party::Either => is_sender || is_recipient,
    };
    if is {
        return Ok(());
    }
    Err(Error::Stranger {
        party,
        identity: identity.address().clone(),
        key,
        sender: terms.sender.address.clone(),
        recipient: terms.recipient.address.clone(),
    })
}
