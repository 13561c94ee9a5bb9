//! The key ceremony: how the members of a proposal make the cluster's key, so that nobody ever holds it.
//!
//! # Specification
//!
//! Distributed key generation after Pedersen (1991), with the symmetric polynomials in two variables that
//! [`crate::threshold`] describes, over a log that gives everybody the same messages in the same order. All of them are
//! COSE_Sign1, each of its own kind, and bound to the [proposal](crate::proposal), to the attempt's number, and to the
//! message with which that attempt began.
//!
//! 1. **Begin.** An operator of the proposal (any member, if it names no operators) lets an attempt begin and says who
//!    takes part: at least `q + f` members. It replaces the attempt before, whose keys and dealings are void.
//! 2. **Join.** Each participant publishes an X25519 key that serves in this attempt only. All of them have to.
//! 3. **Deal.** Participants draw a polynomial of degree `q - 1` and publish the commitment, with each participant's row
//!    sealed to its one-time key. As many dealings are awaited as come if `f` participants do not deal; later ones are
//!    refused.
//! 4. **Report.** Each participant opens its rows, checks them against the commitments, and says of which dealings it
//!    has none: it complains of these and confirms the others. A dealer publishes the row of whoever complains. It
//!    answers `f` complaints and no more: a dealing with more is out, and so is one whose dealer opened a row that does
//!    not fit, or dealt twice.
//! 5. **Close.** As soon as `q + f` participants have reported, and of at least `f + 1` dealings (2, where two members
//!    are) each of the reporters has its row, these dealings are the **qualified set**.
//! 6. **Sign.** A participant that has its row of each qualified dealing signs their digest. With `q + f` signatures the
//!    key is fixed: the sum of the qualified commitments. The proposal with that commitment is the genesis.
//! 7. **Prove.** Each participant gives its share of the token over the genesis. With `q + f` valid shares the ceremony
//!    is done.
//!
//! Why `q + f` and not, as in the literature, `2f + 1`: the key has degree `q - 1`, so `q` *honest* members must hold
//! shares, and `f` of those who say so may lie. At `n = 3f + 1` and `3f + 2` that takes every member.
//!
//! Each participant may say one thing of each kind, and one opening for each row. The first counts; a second one that says
//! something else convicts its author.
//!
//! # Relies on
//!
//! - The log gives all honest members the same order, and its end is never taken back. Whoever keeps it may delay and
//!   drop. If two orders existed all the same, honest members would sign at most one set in each attempt ([`Kept`] has
//!   what they said), and of two sets at most one has `q + f` signatures: there is no key at all rather than two.
//! - What a member is told to keep is on its disk before what follows is sent, and is destroyed at the end.
//! - The operators agreed to the proposal: that is checked before a [`Ceremony`] exists.
//! - At most `f` members are compromised. Discrete logarithms in G1 are hard, and HPKE and Ed25519 are what they say.
//!
//! # Guarantees
//!
//! - The state is a function of the log: whoever applies the same messages has the same state, and a message that is
//!   refused changes nothing ([`Ceremony::apply`]; tests `refused_messages_change_nothing`,
//!   `whoever_replays_the_log_has_the_same_state`).
//! - If it ends, each honest participant with all of its rows has a share that matches the genesis, any `q` of them make
//!   the token, and fewer than `q` points of the key's polynomial are known to the compromised and to readers of the
//!   log together: at most their own `f` (tests in `tests/`).
//! - An honest member is never convicted, wherever it crashes: it says the same bytes again ([`Ceremony::next`]; test
//!   `members_may_crash_at_every_step`).
//! - Whoever deals, opens, signs or proves wrongly is named with the messages that show it, and whoever stays away is
//!   awaited by name ([`Ceremony::progress`]; tests in `tests/rogues.rs`).
//! - The compromised can bias the key, as in each protocol of this kind (Gennaro, Jarecki, Krawczyk, Rabin, 2007), by
//!   deciding late which dealings qualify. For BLS signatures that does not help a forger (Bacho and Loss, 2022).

mod attempt;
mod member;
mod message;
mod progress;
mod refusal;
#[cfg(test)]
mod tests;
mod transcript;

use ed25519_dalek::VerifyingKey;

use attempt::Attempt;
pub use member::{Action, Error, Kept, Lost};
pub use message::{
    Begin, Context, Dealing, Join, Kind, Message, Opening, Proof, Qualified, Report, digest_of_dealings,
    digest_of_set,
};
pub use progress::{Awaited, Complaint, Dead, Misdeed, Offence, Progress, Step};
pub use refusal::Refusal;
pub use transcript::{Error as TranscriptError, Transcript};

use crate::cose::{Payload, Signed};
use crate::ids::KeyId;
use crate::proposal::Proposal;
use crate::threshold::Token;
use crate::view::View;

/// A key ceremony, as far as its log goes.
#[derive(Clone)]
pub struct Ceremony {
    proposal: Proposal,
    attempt: Option<Attempt>,
    misdeeds: Vec<Misdeed>,
}

/// What a ceremony makes.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The proposal with the key. It is fixed: no other one comes from this attempt.
    pub genesis: &'a View,
    /// The token over the genesis, once `q + f` members have shown that their shares work. Before that the genesis is
    /// not to be used: another attempt may replace it.
    pub token: Option<&'a Token>,
}

impl Ceremony {
    /// The ceremony for this proposal, before its first message. The proposal is one that its operators agreed to.
    pub const fn new(proposal: Proposal) -> Self {
        Self { proposal, attempt: None, misdeeds: Vec::new() }
    }

    /// The proposal.
    pub const fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    const fn attempt(&self) -> Option<&Attempt> {
        self.attempt.as_ref()
    }

    /// The begin of the next attempt with these participants, to be signed by an operator.
    pub fn begin(&self, mut participants: Vec<u16>) -> Begin {
        participants.sort_unstable();
        participants.dedup();
        Begin { proposal: self.proposal.digest(), attempt: self.number().saturating_add(1), participants }
    }

    fn number(&self) -> u32 {
        self.attempt.as_ref().map_or(0, |attempt| attempt.context.attempt)
    }

    /// Takes the next message of the log. One that convicts its author is taken, too: [`Progress::misdeeds`] has it.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the message changes nothing.
    pub fn apply(&mut self, message: &Message) -> Result<(), Refusal> {
        let (author, offence) = match message {
            Message::Begin(signed) => return self.apply_begin(signed),
            Message::Join(signed) => self.member(signed, &signed.payload().context, Attempt::join)?,
            Message::Dealing(signed) => self.member(signed, &signed.payload().context, Attempt::deal)?,
            Message::Report(signed) => self.member(signed, &signed.payload().context, Attempt::report)?,
            Message::Opening(signed) => self.member(signed, &signed.payload().context, Attempt::open)?,
            Message::Qualified(signed) => self.member(signed, &signed.payload().context, Attempt::sign)?,
            Message::Proof(signed) => self.member(signed, &signed.payload().context, Attempt::prove)?,
        };
        let attempt = self.number();
        self.misdeeds.extend(offence.map(|offence| Misdeed { attempt, member: author, offence }));
        Ok(())
    }

    fn apply_begin(&mut self, signed: &Signed<Begin>) -> Result<(), Refusal> {
        let Begin { proposal, attempt: found, participants } = signed.payload();
        self.about(*proposal)?;
        if self.attempt.as_ref().is_some_and(|attempt| attempt.token.is_some()) {
            return Err(Refusal::Finished { attempt: self.number() });
        }
        let expected = self.number().saturating_add(1);
        if *found != expected {
            return Err(Refusal::Number { expected, found: *found });
        }
        let members = self.proposal.members().len();
        if let Some(found) = participants.iter().find(|index| usize::from(**index) >= members) {
            return Err(Refusal::NoMember { members, found: *found });
        }
        let (needed, found) = (attempt::needed_members(&self.proposal), participants.len());
        if found < needed {
            return Err(Refusal::TooFew { needed, found });
        }
        signed.verify(self.beginner(*signed.signer())?)?;
        self.attempt = Some(Attempt::new(signed));
        Ok(())
    }

    /// Who may let an attempt begin: an operator, or where none is, a member.
    fn beginner(&self, found: KeyId) -> Result<&VerifyingKey, Refusal> {
        let operators = self.proposal.draft().operators.len();
        let key = match operators {
            0 => self.proposal.index_of(found).and_then(|index| self.proposal.member(index)),
            _ => return self.proposal.operator(found).ok_or(Refusal::NoOperator { operators, found }),
        };
        key.map(|(member, _)| &member.identity).ok_or(Refusal::NoOperator { operators, found })
    }

    fn about(&self, found: crate::ids::Digest) -> Result<(), Refusal> {
        let expected = self.proposal.digest();
        if found == expected { Ok(()) } else { Err(Refusal::Proposal { expected, found }) }
    }

    /// Checks what every message of a member must keep, and has the attempt judge the rest.
    fn member<P: Payload<Signer = KeyId>>(
        &mut self,
        signed: &Signed<P>,
        context: &Context,
        judge: impl FnOnce(&mut Attempt, &Proposal, u16, &Signed<P>) -> attempt::Verdict,
    ) -> Result<(u16, Option<Offence>), Refusal> {
        self.about(context.proposal)?;
        let (expected, found) = (self.number(), context.attempt);
        let Some(attempt) = self.attempt.as_mut().filter(|_| expected == found) else {
            return Err(Refusal::Attempt { expected, found });
        };
        let (expected, found) = (attempt.context.begin, context.begin);
        if expected != found {
            return Err(Refusal::Begun { expected, found });
        }
        let found = *signed.signer();
        let author = self.proposal.index_of(found).filter(|index| attempt.place(*index).is_some());
        let Some((author, (member, _))) =
            author.and_then(|author| Some((author, self.proposal.member(author)?)))
        else {
            return Err(Refusal::Stranger { attempt: context.attempt, found });
        };
        signed.verify(&member.identity)?;
        Ok((author, judge(attempt, &self.proposal, author, signed)?))
    }

    /// The indices of those that take part in the running attempt.
    pub fn participants(&self) -> &[u16] {
        self.attempt.as_ref().map_or(&[], |attempt| &attempt.participants)
    }

    /// How far it is, for people.
    pub fn progress(&self) -> Progress {
        let misdeeds = self.misdeeds.clone();
        let Some(attempt) = &self.attempt else {
            let (step, awaited, complaints) = (Step::NotBegun, Vec::new(), Vec::new());
            return Progress { attempt: 0, step, missing: 0, awaited, dead: None, misdeeds, complaints };
        };
        let (awaited, missing) = attempt.awaited(&self.proposal);
        Progress {
            attempt: attempt.context.attempt,
            step: attempt.step(),
            missing,
            awaited,
            dead: attempt.dead(&self.proposal),
            misdeeds,
            complaints: attempt.complaints(),
        }
    }

    /// What it has made, once the key is fixed.
    pub fn outcome(&self) -> Option<Outcome<'_>> {
        let attempt = self.attempt.as_ref()?;
        let genesis = attempt.genesis.as_ref()?.as_ref().ok()?;
        Some(Outcome { genesis, token: attempt.token.as_ref() })
    }
}
