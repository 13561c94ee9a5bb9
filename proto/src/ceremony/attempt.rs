//! One attempt at a key: what of it is in the log, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Context, digest_of_dealings, digest_of_set};
use super::{
    Awaited, Begin, Complaint, Dead, Dealing, Join, Kind, Offence, Opening, Proof, Qualified, Refusal,
    Report, Step,
};
use crate::cose::{Payload, Signed};
use crate::ids::{Digest, KeyId};
use crate::proposal::Proposal;
use crate::threshold::{self, DealingCommitment, Row, Share, Token, combine, sum_of_commitments};
use crate::view::View;

/// A dealing that the log has.
#[derive(Clone)]
pub(super) struct Dealt {
    pub(super) dealer: u16,
    pub(super) signed: Signed<Dealing>,
    pub(super) digest: Digest,
    /// Who complained, in the log's order.
    complaints: Vec<u16>,
    opened: BTreeMap<u16, Signed<Opening>>,
    /// It is no part of the key: its dealer was convicted, too many complained, or the set was closed without it.
    out: bool,
}

/// The dealings that make the key.
#[derive(Clone)]
pub(super) struct Set {
    pub(super) digest: Digest,
    /// Their places among all dealings.
    pub(super) places: Vec<usize>,
}

/// What an accepted message says of its author.
pub(super) type Verdict = Result<Option<Offence>, Refusal>;

/// One attempt.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) context: Context,
    pub(super) participants: Vec<u16>,
    pub(super) joins: BTreeMap<u16, Signed<Join>>,
    pub(super) dealings: Vec<Dealt>,
    /// The digest of all dealings, once they are all there.
    pub(super) dealings_digest: Option<Digest>,
    pub(super) reports: BTreeMap<u16, Signed<Report>>,
    pub(super) set: Option<Set>,
    pub(super) signatures: BTreeMap<u16, Signed<Qualified>>,
    pub(super) genesis: Option<Result<View, String>>,
    pub(super) proofs: BTreeMap<u16, Signed<Proof>>,
    working: BTreeMap<u16, Share>,
    pub(super) token: Option<Token>,
    /// Who was convicted of contradicting itself in what.
    contradicted: BTreeSet<(Kind, u16)>,
}

/// How many dealings make a key at least: with `f + 1` one is an honest member's. Where nobody is expected to be
/// compromised, two: so that even there nobody holds the whole key.
pub(super) fn least_dealings(proposal: &Proposal) -> usize {
    let quorum = proposal.quorum();
    (quorum.f() + 1).max(quorum.n().min(2))
}

/// How many members have to take part to the end: then `q` of them are honest, and have working shares.
pub(super) fn needed_members(proposal: &Proposal) -> usize {
    proposal.quorum().q() + proposal.quorum().f()
}

fn name(proposal: &Proposal, member: u16) -> String {
    proposal.member(member).map_or_else(|| format!("member {member}"), |(member, _)| member.name.clone())
}

impl Attempt {
    pub(super) fn new(begin: &Signed<Begin>) -> Self {
        let Begin { proposal, attempt, participants } = begin.payload().clone();
        Self {
            context: Context { proposal, attempt, begin: begin.digest() },
            participants,
            joins: BTreeMap::new(),
            dealings: Vec::new(),
            dealings_digest: None,
            reports: BTreeMap::new(),
            set: None,
            signatures: BTreeMap::new(),
            genesis: None,
            proofs: BTreeMap::new(),
            working: BTreeMap::new(),
            token: None,
            contradicted: BTreeSet::new(),
        }
    }

    /// How many dealings are awaited: as many as come if `f` participants do not deal.
    pub(super) fn wanted_dealings(&self, proposal: &Proposal) -> usize {
        self.participants.len() - proposal.quorum().f()
    }

    pub(super) fn all_joined(&self) -> bool {
        self.joins.len() == self.participants.len()
    }

    /// The place of this member among the participants.
    pub(super) fn place(&self, member: u16) -> Option<usize> {
        self.participants.iter().position(|participant| *participant == member)
    }

    /// Whether this author may say this: it has not yet. Says it the contrary of what it has said, it is convicted, once.
    fn contradiction<P: Payload<Signer = KeyId>>(
        &mut self,
        kind: Kind,
        author: u16,
        before: Option<(&Signed<P>, String)>,
        now: &Signed<P>,
    ) -> Result<Option<Offence>, Refusal> {
        let Some((before, member)) = before else { return Ok(None) };
        if before.says_the_same(now) || !self.contradicted.insert((kind, author)) {
            return Err(Refusal::Repeated { kind, member });
        }
        let (first, second) = (before.bytes().to_vec(), now.bytes().to_vec());
        Ok(Some(Offence::Equivocation { kind, first, second }))
    }

    pub(super) fn join(&mut self, proposal: &Proposal, author: u16, signed: &Signed<Join>) -> Verdict {
        let before = self.joins.get(&author).cloned();
        let before = before.as_ref().map(|before| (before, name(proposal, author)));
        let offence = self.contradiction(Kind::Join, author, before, signed)?;
        if offence.is_none() {
            self.joins.insert(author, signed.clone());
        }
        Ok(offence)
    }

    pub(super) fn deal(&mut self, proposal: &Proposal, author: u16, signed: &Signed<Dealing>) -> Verdict {
        let member = name(proposal, author);
        if !self.all_joined() {
            return Err(Refusal::Early { kind: Kind::Dealing, member, step: self.step() });
        }
        let Dealing { commitment, rows, .. } = signed.payload();
        let (expected, found) = (proposal.quorum().q(), commitment.threshold());
        if expected != found {
            return Err(Refusal::Threshold { member, expected, found });
        }
        let (expected, found) = (self.participants.len(), rows.len());
        if expected != found {
            return Err(Refusal::Rows { member, expected, found });
        }
        let place = self.dealings.iter().position(|dealt| dealt.dealer == author);
        if let Some(dealt) = place.and_then(|place| self.dealings.get(place)).cloned() {
            let before = Some((&dealt.signed, member));
            let offence = self.contradiction(Kind::Dealing, author, before, signed)?;
            self.put_out(place);
            return Ok(offence);
        }
        if self.dealings_digest.is_some() {
            return Err(Refusal::Late { member, dealings: self.dealings.len() });
        }
        self.dealings.push(Dealt {
            dealer: author,
            signed: signed.clone(),
            digest: signed.digest(),
            complaints: Vec::new(),
            opened: BTreeMap::new(),
            out: false,
        });
        if self.dealings.len() >= self.wanted_dealings(proposal) {
            let digests: Vec<_> = self.dealings.iter().map(|dealt| dealt.digest).collect();
            self.dealings_digest = Some(digest_of_dealings(&digests));
        }
        Ok(None)
    }

    pub(super) fn report(&mut self, proposal: &Proposal, author: u16, signed: &Signed<Report>) -> Verdict {
        let member = name(proposal, author);
        let Some(expected) = self.dealings_digest else {
            return Err(Refusal::Early { kind: Kind::Report, member, step: self.step() });
        };
        let Report { dealings: found, complaints, .. } = signed.payload();
        let dealings = self.dealings.len();
        if let Some(found) = complaints.iter().find(|place| usize::from(**place) >= dealings) {
            return Err(Refusal::NoSuchPlace { member, dealings, found: *found });
        }
        let before = self.reports.get(&author).cloned();
        let before = before.as_ref().map(|before| (before, member));
        if let Some(offence) = self.contradiction(Kind::Report, author, before, signed)? {
            return Ok(Some(offence));
        }
        self.reports.insert(author, signed.clone());
        if *found != expected {
            return Ok(Some(other_log(Kind::Report, expected, *found, signed)));
        }
        let answered = proposal.quorum().f();
        for (place, dealt) in self.dealings.iter_mut().enumerate() {
            if complaints.iter().any(|complaint| usize::from(*complaint) == place) {
                dealt.complaints.push(author);
                // So many complaints are no lie of the compromised alone; and that many rows are never published.
                dealt.out |= dealt.complaints.len() > answered && self.set.is_none();
            }
        }
        self.close(proposal);
        Ok(None)
    }

    /// Whether the dealer has to open the row of `reader`: it complained, among the first `f`.
    pub(super) fn is_to_open(proposal: &Proposal, dealt: &Dealt, reader: u16) -> bool {
        !dealt.out && dealt.complaints.iter().take(proposal.quorum().f()).any(|asking| *asking == reader)
    }

    /// The dealings of this dealer with the complaints that wait for an opening.
    pub(super) fn to_open<'a>(
        &'a self,
        proposal: &'a Proposal,
    ) -> impl Iterator<Item = (&'a Dealt, u16)> + 'a {
        let waiting = move |dealt: &&Dealt, reader: &u16| {
            Self::is_to_open(proposal, dealt, *reader) && !dealt.opened.contains_key(reader)
        };
        self.dealings.iter().flat_map(move |dealt| {
            let readers = dealt.complaints.iter().filter(move |reader| waiting(&dealt, reader));
            readers.map(move |reader| (dealt, *reader))
        })
    }

    pub(super) fn open(&mut self, proposal: &Proposal, author: u16, signed: &Signed<Opening>) -> Verdict {
        let (member, kind) = (name(proposal, author), Kind::Opening);
        let Opening { dealing, reader, row, .. } = signed.payload();
        let place = self.dealings.iter().position(|dealt| dealt.dealer == author && dealt.digest == *dealing);
        let Some(dealt) = place.and_then(|place| self.dealings.get_mut(place)) else {
            return Err(Refusal::NotItsDealing { member, found: *dealing });
        };
        if !Self::is_to_open(proposal, dealt, *reader) {
            return Err(Refusal::NotAsked { member, answered: proposal.quorum().f(), reader: *reader });
        }
        if dealt.opened.contains_key(reader) {
            return Err(Refusal::Repeated { kind, member });
        }
        if dealt.signed.payload().commitment.holds(*reader, row) {
            dealt.opened.insert(*reader, signed.clone());
            self.close(proposal);
            return Ok(None);
        }
        if !self.contradicted.insert((kind, author)) {
            return Err(Refusal::Repeated { kind, member });
        }
        let (dealing, opening) = (dealt.signed.bytes().to_vec(), signed.bytes().to_vec());
        self.put_out(place);
        Ok(Some(Offence::WrongRow { dealing, opening }))
    }

    /// Takes a convicted dealer's dealing out; once the set is closed, its rows are what counts.
    fn put_out(&mut self, place: Option<usize>) {
        if let Some(dealt) = place.and_then(|place| self.dealings.get_mut(place)) {
            dealt.out |= self.set.is_none();
        }
    }

    /// Those who reported on these dealings.
    fn reporters(&self) -> impl Iterator<Item = u16> {
        let digest = self.dealings_digest;
        let agrees = move |(_, report): &(&u16, &Signed<Report>)| Some(report.payload().dealings) == digest;
        self.reports.iter().filter(agrees).map(|(member, _)| *member)
    }

    /// Closes the set as soon as it can be: `q + f` members reported, and enough dealings are there of which every
    /// reporter has its row.
    fn close(&mut self, proposal: &Proposal) {
        if self.set.is_some() || self.reporters().count() < needed_members(proposal) {
            return;
        }
        let clean = |dealt: &Dealt| {
            !dealt.out && dealt.complaints.iter().all(|reader| dealt.opened.contains_key(reader))
        };
        let clean = self.dealings.iter().enumerate().filter(|(_, dealt)| clean(dealt));
        let (places, digests): (Vec<_>, Vec<_>) = clean.map(|(place, dealt)| (place, dealt.digest)).unzip();
        if places.len() >= least_dealings(proposal) {
            for (place, dealt) in self.dealings.iter_mut().enumerate() {
                dealt.out = !places.contains(&place);
            }
            self.set = Some(Set { digest: digest_of_set(&digests), places });
        }
    }

    /// The qualified dealings.
    pub(super) fn qualified(&self) -> impl Iterator<Item = &Dealt> {
        let places = self.set.iter().flat_map(|set| &set.places);
        places.filter_map(|place| self.dealings.get(*place))
    }

    /// Whether this member has its row of the dealing: it confirmed it, or the row was opened. For a dealing as the log
    /// has it: what the member itself knows may be more.
    fn has_row(&self, member: u16, dealt: &Dealt) -> bool {
        dealt.opened.contains_key(&member)
            || (!dealt.complaints.contains(&member) && self.reporters().any(|by| by == member))
    }

    /// The dealer of a qualified dealing of which this member lacks its row.
    pub(super) fn lacking(&self, member: u16) -> Option<&Dealt> {
        self.qualified().find(|dealt| !self.has_row(member, dealt))
    }

    pub(super) fn sign(&mut self, proposal: &Proposal, author: u16, signed: &Signed<Qualified>) -> Verdict {
        let (member, kind) = (name(proposal, author), Kind::Qualified);
        let Some(expected) = self.set.as_ref().map(|set| set.digest) else {
            return Err(Refusal::Early { kind, member, step: self.step() });
        };
        let before = self.signatures.get(&author).cloned();
        let before = before.as_ref().map(|before| (before, member.clone()));
        if let Some(offence) = self.contradiction(kind, author, before, signed)? {
            return Ok(Some(offence));
        }
        let found = signed.payload().set;
        if found != expected {
            self.signatures.insert(author, signed.clone());
            return Ok(Some(other_log(kind, expected, found, signed)));
        }
        if let Some(dealt) = self.lacking(author) {
            return Err(Refusal::Unresolved { member, dealer: name(proposal, dealt.dealer) });
        }
        self.signatures.insert(author, signed.clone());
        if self.genesis.is_none() && self.signers().count() >= needed_members(proposal) {
            self.genesis = Some(self.make_genesis(proposal));
        }
        Ok(None)
    }

    /// Those who signed this set.
    fn signers(&self) -> impl Iterator<Item = u16> {
        let digest = self.set.as_ref().map(|set| set.digest);
        let agrees = move |(_, signed): &(&u16, &Signed<Qualified>)| Some(signed.payload().set) == digest;
        self.signatures.iter().filter(agrees).map(|(member, _)| *member)
    }

    fn make_genesis(&self, proposal: &Proposal) -> Result<View, String> {
        let commitments: Vec<&DealingCommitment> =
            self.qualified().map(|dealt| &dealt.signed.payload().commitment).collect();
        let commitment = sum_of_commitments(&commitments).map_err(|error| error.to_string())?;
        proposal.genesis(commitment).map_err(|error| error.to_string())
    }

    pub(super) fn prove(&mut self, proposal: &Proposal, author: u16, signed: &Signed<Proof>) -> Verdict {
        let (member, kind) = (name(proposal, author), Kind::Proof);
        let Some(Ok(genesis)) = self.genesis.clone() else {
            return Err(Refusal::Early { kind, member, step: self.step() });
        };
        let before = self.proofs.get(&author).cloned();
        let before = before.as_ref().map(|before| (before, member));
        if let Some(offence) = self.contradiction(kind, author, before, signed)? {
            return Ok(Some(offence));
        }
        let Proof { genesis: found, share, .. } = signed.payload();
        let expected = Digest::new(*genesis.cluster().as_bytes());
        self.proofs.insert(author, signed.clone());
        if *found != expected {
            return Ok(Some(other_log(kind, expected, *found, signed)));
        }
        let key = genesis.share_keys().get(usize::from(author));
        if key.is_none_or(|key| key.verify(&genesis.message(), share).is_err()) {
            let (genesis, proof) = (genesis.bytes().to_vec(), signed.bytes().to_vec());
            return Ok(Some(Offence::WrongShare { genesis, proof }));
        }
        self.working.insert(author, *share);
        if self.token.is_none() && self.working.len() >= needed_members(proposal) {
            self.token = self.combine(proposal, &genesis).ok();
        }
        Ok(None)
    }

    fn combine(&self, proposal: &Proposal, genesis: &View) -> Result<Token, threshold::Error> {
        let shares: Vec<(u16, Share)> =
            self.working.iter().map(|(member, share)| (*member, *share)).collect();
        let token = combine(proposal.quorum().q(), &shares)?;
        genesis.public_key().verify(&genesis.message(), &token).map(|()| token)
    }

    /// The row that was published for this member.
    pub(super) fn opened_row(dealt: &Dealt, member: u16) -> Option<Row> {
        dealt.opened.get(&member).map(|signed| signed.payload().row.clone())
    }

    pub(super) fn step(&self) -> Step {
        if self.token.is_some() {
            Step::Done
        } else if self.genesis.is_some() {
            Step::Proving
        } else if self.set.is_some() {
            Step::Signing
        } else if self.dealings_digest.is_some() {
            Step::Reporting
        } else if self.all_joined() {
            Step::Dealing
        } else {
            Step::Joining
        }
    }

    /// Who has yet to say what, and how many of them must.
    pub(super) fn awaited(&self, proposal: &Proposal) -> (Vec<Awaited>, usize) {
        let needed = needed_members(proposal);
        let without = |kind: Kind, said: &dyn Fn(u16) -> bool| {
            let silent = self.participants.iter().filter(|member| !said(**member));
            silent.map(|member| Awaited { member: *member, kind }).collect::<Vec<_>>()
        };
        let openings =
            self.to_open(proposal).map(|(dealt, _)| Awaited { member: dealt.dealer, kind: Kind::Opening });
        let (mut awaited, missing) = match self.step() {
            Step::NotBegun | Step::Done => return (Vec::new(), 0),
            Step::Joining => (
                without(Kind::Join, &|member| self.joins.contains_key(&member)),
                self.participants.len() - self.joins.len(),
            ),
            Step::Dealing => (
                without(Kind::Dealing, &|member| self.dealings.iter().any(|dealt| dealt.dealer == member)),
                self.wanted_dealings(proposal) - self.dealings.len(),
            ),
            Step::Reporting => (
                without(Kind::Report, &|member| self.reports.contains_key(&member)),
                needed.saturating_sub(self.reporters().count()),
            ),
            Step::Signing => (
                without(Kind::Qualified, &|member| self.signatures.contains_key(&member)),
                needed.saturating_sub(self.signers().count()),
            ),
            Step::Proving => (
                without(Kind::Proof, &|member| self.proofs.contains_key(&member)),
                needed.saturating_sub(self.working.len()),
            ),
        };
        awaited.extend(openings);
        awaited.sort_unstable();
        awaited.dedup();
        (awaited, missing)
    }

    /// Why the attempt can't finish, whatever is still said in it.
    pub(super) fn dead(&self, proposal: &Proposal) -> Option<Dead> {
        let needed = needed_members(proposal);
        let silent = |said: &dyn Fn(u16) -> bool| {
            // Whose row can't be opened any more never has its share.
            let cut_off = |member: u16| {
                self.lacking(member).is_some_and(|dealt| {
                    dealt.complaints.contains(&member) && !Self::is_to_open(proposal, dealt, member)
                })
            };
            self.participants.iter().filter(|member| !said(**member) && !cut_off(**member)).count()
        };
        let (kind, left) = match self.step() {
            Step::NotBegun | Step::Done | Step::Joining | Step::Dealing => return None,
            Step::Reporting => {
                let (least, left) =
                    (least_dealings(proposal), self.dealings.iter().filter(|dealt| !dealt.out).count());
                if left < least {
                    return Some(Dead::Dealings { needed: least, left });
                }
                let silent = silent(&|member| self.reports.contains_key(&member));
                (Kind::Report, self.reporters().count() + silent)
            }
            Step::Signing => {
                let silent = silent(&|member| self.signatures.contains_key(&member));
                (Kind::Qualified, self.signers().count() + silent)
            }
            Step::Proving => {
                if let Some(Err(why)) = &self.genesis {
                    return Some(Dead::Key(why.clone()));
                }
                let silent = silent(&|member| self.proofs.contains_key(&member));
                (Kind::Proof, self.working.len() + silent)
            }
        };
        (left < needed).then_some(Dead::Members { kind, needed, left })
    }

    pub(super) fn complaints(&self) -> Vec<Complaint> {
        let of = |dealt: &Dealt| {
            let complaint =
                |by: &u16| Complaint { by: *by, dealer: dealt.dealer, opened: dealt.opened.contains_key(by) };
            dealt.complaints.iter().map(complaint).collect::<Vec<_>>()
        };
        self.dealings.iter().flat_map(of).collect()
    }
}

fn other_log<P: Payload>(kind: Kind, expected: Digest, found: Digest, signed: &Signed<P>) -> Offence {
    Offence::OtherLog { kind, expected, found, message: signed.bytes().to_vec() }
}
