//! From the shares that nodes give to a token that verifies. Pure.
//!
//! # Specification
//!
//! What a node gives counts if it holds together: a quorum's certificate for a leaf of this exchange, and the NRO and
//! the evidence that the leaf names. Shares that rest on the same (verdict, NRO and evidence; rounds may differ) are put together,
//! and `q` of them are combined without checking each. If the token is wrong, each is checked against its member's public
//! share in the view; the wrong ones are done without from then on, and their givers named.
//!
//! # Guarantees
//!
//! - A token that comes out is the cluster's for this exchange and verdict, whatever the nodes gave (test
//!   `a_wrong_share_is_done_without_and_its_giver_asked_last_from_then_on`).
//! - Whoever is named gave what does not hold (same test).

use fairpost_api::v1::{self, ProofParts, ShareParts};
use fairpost_proto::ids::{Digest, ExchangeId, Verdict};
use fairpost_proto::threshold::{self, Message, Share, Token};
use fairpost_proto::trust::Trust;
use fairpost_proto::vote::Certificate;

use super::answer;

/// An answer that nodes give with a token, and that a token and what it rests on make as well.
pub(super) trait Combined {
    /// The answer.
    fn of(parts: ShareParts, token: &Token) -> Self;
}

impl Combined for v1::Outcome {
    fn of(parts: ShareParts, token: &Token) -> Self {
        Self {
            state: parts.state,
            token: token.to_bytes().to_vec(),
            evidence: parts.evidence,
            ..Self::default()
        }
    }
}

impl Combined for ProofParts {
    fn of(ShareParts { state, nro, evidence, certificate, .. }: ShareParts, token: &Token) -> Self {
        Self { state, nro, evidence, certificate, token: token.to_bytes().to_vec() }
    }
}

/// The shares of one exchange's token, as they come.
pub(super) struct Shares<'t> {
    trust: &'t Trust,
    exchange: ExchangeId,
    sets: Vec<Set>,
}

/// A token, and what it rests on.
pub(super) type Made = (ShareParts, Token);

/// What shares rest on.
type Ground = (Verdict, Digest, Option<Digest>);

/// Shares that rest on the same.
struct Set {
    ground: Ground,
    parts: ShareParts,
    /// With the place of each one's giver in the view.
    shares: Vec<(u16, Share)>,
}

impl<'t> Shares<'t> {
    /// None yet.
    pub(super) const fn new(trust: &'t Trust, exchange: ExchangeId) -> Self {
        Self { trust, exchange, sets: Vec::new() }
    }

    /// Takes what the node at `place` gave, once; or says how it lies.
    pub(super) fn take(&mut self, place: usize, given: ShareParts) -> Result<(), String> {
        let (ground, share) = self.check(&given)?;
        let place = u16::try_from(place).map_err(|error| error.to_string())?;
        match self.sets.iter_mut().find(|set| set.ground == ground) {
            Some(set) => set.shares.push((place, share)),
            None => self.sets.push(Set { ground, parts: given, shares: vec![(place, share)] }),
        }
        Ok(())
    }

    /// The token and what it rests on, if there are shares for it; and the places whose shares are wrong, with how.
    pub(super) fn combine(&mut self) -> (Option<Made>, Vec<(usize, String)>) {
        let (needed, mut liars) = (self.needed(), Vec::new());
        let mut sets = std::mem::take(&mut self.sets);
        let mut made = None;
        for set in &mut sets {
            while set.shares.len() >= needed && made.is_none() {
                let verdict = set.ground.0;
                made = self.token(verdict, &set.shares).map(|token| (set.parts.clone(), token));
                let before = set.shares.len();
                if made.is_none() {
                    set.shares.retain(|(place, share)| match self.verify(verdict, *place, share) {
                        Ok(()) => true,
                        Err(lie) => {
                            liars.push((usize::from(*place), lie));
                            false
                        }
                    });
                }
                if set.shares.len() == before {
                    break;
                }
            }
        }
        self.sets = sets;
        (made, liars)
    }

    /// How many shares make a token.
    pub(super) fn needed(&self) -> usize {
        self.trust.view().quorum().q()
    }

    /// The most shares that rest on the same.
    pub(super) fn found(&self) -> usize {
        self.sets.iter().map(|set| set.shares.len()).max().unwrap_or_default()
    }

    fn check(&self, given: &ShareParts) -> Result<(Ground, Share), String> {
        let verdict = answer::verdict(given.state())?;
        let certificate = Certificate::parse(&given.certificate).map_err(|error| error.to_string())?;
        let leaf = *certificate.leaf();
        if leaf.exchange != self.exchange {
            return Err(format!("its certificate is for exchange {}, not {}", leaf.exchange, self.exchange));
        }
        if leaf.verdict != verdict {
            return Err(format!("it says {verdict}, and its certificate is for {}", leaf.verdict));
        }
        let evidence = Some(&given.evidence).filter(|bytes| !bytes.is_empty()).map(|bytes| Digest::of(bytes));
        let found = (Digest::of(&given.nro), evidence);
        if found != (leaf.nro, leaf.evidence) {
            return Err(format!(
                "its certificate names {:?}, and with it came {found:?}",
                (leaf.nro, leaf.evidence)
            ));
        }
        let epoch = certificate.epoch().unwrap_or_default();
        let view = self.trust.view_of(epoch).ok_or_else(|| format!("its votes are of epoch {epoch}"))?;
        certificate.check(view).map_err(|error| error.to_string())?;
        let share = Share::parse(&given.share).map_err(|error| error.to_string())?;
        Ok(((verdict, leaf.nro, leaf.evidence), share))
    }

    const fn message(&self, verdict: Verdict) -> Message {
        Message::Verdict { cluster: self.trust.cluster(), verdict, exchange: self.exchange }
    }

    fn token(&self, verdict: Verdict, shares: &[(u16, Share)]) -> Option<Token> {
        let token = threshold::combine(self.needed(), shares).ok()?;
        self.trust.public_key().verify(&self.message(verdict), &token).is_ok().then_some(token)
    }

    fn verify(&self, verdict: Verdict, place: u16, share: &Share) -> Result<(), String> {
        let key = self.trust.view().share_keys().get(usize::from(place)).ok_or("there is no such member")?;
        key.verify(&self.message(verdict), share).map_err(|error| error.to_string())
    }
}
