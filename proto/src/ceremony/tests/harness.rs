//! Members, their disks, and a log in whose order they all read, in memory.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

use super::super::attempt::Attempt;
use super::super::*;
use super::rogues::Rogue;
use crate::chain::key_id;
use crate::cose::{Payload, Signed};
use crate::proposal::{Draft, Proposal};
use crate::threshold::{KeyShare, combine};
use crate::trust::Trust;
use crate::view::{Member, Parameters};

pub(super) fn identity(member: u16) -> SigningKey {
    SigningKey::from_bytes(&[member as u8 + 1; 32])
}

pub(super) fn operator() -> SigningKey {
    SigningKey::from_bytes(&[0xaa; 32])
}

pub(super) fn draft(n: u16, f: usize) -> Draft {
    let member = |index| Member {
        name: format!("server-{index:02}"),
        address: format!("server-{index:02}.example.net:7443"),
        identity: identity(index).verifying_key(),
    };
    Draft {
        members: (0..n).map(member).collect(),
        faults: f,
        operators: vec![operator().verifying_key()],
        agreeing: 1,
        anchors: vec![],
        auditors: vec![],
        parameters: Parameters::default(),
    }
}

pub(super) fn proposal(n: u16, f: usize) -> Proposal {
    Proposal::new("test", draft(n, f)).unwrap()
}

pub(super) fn sign<P: Payload<Signer = crate::ids::KeyId>>(payload: P, key: &SigningKey) -> Vec<u8> {
    Signed::sign(payload, key_id(&key.verifying_key()), key).bytes().to_vec()
}

pub(super) fn parse(bytes: &[u8]) -> Message {
    Message::parse(bytes).unwrap()
}

/// The ceremony after this log. What is refused changes nothing, so it need not be told apart here.
pub(super) fn replay(proposal: &Proposal, log: &[Vec<u8>]) -> Ceremony {
    let mut ceremony = Ceremony::new(proposal.clone());
    for message in log {
        let _ = ceremony.apply(&parse(message));
    }
    ceremony
}

/// How often members crash, and messages get lost or come twice; of 100.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    pub(super) crash: u32,
    pub(super) loss: u32,
    pub(super) twice: u32,
}

pub(super) const CALM: Weather = Weather { crash: 0, loss: 0, twice: 0 };
pub(super) const ROUGH: Weather = Weather { crash: 20, loss: 20, twice: 20 };

pub(super) struct Harness {
    pub(super) proposal: Proposal,
    pub(super) ceremony: Ceremony,
    pub(super) rogues: BTreeMap<u16, Rogue>,
    pub(super) disks: BTreeMap<u16, Vec<u8>>,
    pub(super) log: Vec<Vec<u8>>,
    /// What of it counts.
    taken: BTreeSet<Vec<u8>>,
    pub(super) pending: Vec<Vec<u8>>,
    /// What an honest member said first, by attempt and kind, and for openings by row.
    said: BTreeMap<(u16, u32, Kind, u16, u16), Vec<u8>>,
    weather: Weather,
    pub(super) rng: ChaCha20Rng,
}

impl Harness {
    pub(super) fn new(n: u16, f: usize, seed: u64, weather: Weather) -> Self {
        let proposal = proposal(n, f);
        Self {
            ceremony: Ceremony::new(proposal.clone()),
            proposal,
            rogues: BTreeMap::new(),
            disks: BTreeMap::new(),
            log: Vec::new(),
            taken: BTreeSet::new(),
            pending: Vec::new(),
            said: BTreeMap::new(),
            weather,
            rng: ChaCha20Rng::seed_from_u64(seed),
        }
    }

    /// Members chosen at random, as many as may be compromised, are rogues of this kind.
    pub(super) fn with_rogues(mut self, rogue: &Rogue) -> Self {
        let mut members: Vec<u16> = self.members().collect();
        members.shuffle(&mut self.rng);
        self.rogues = members.into_iter().take(self.f()).map(|member| (member, rogue.clone())).collect();
        self
    }

    pub(super) fn f(&self) -> usize {
        self.proposal.quorum().f()
    }

    pub(super) fn q(&self) -> usize {
        self.proposal.quorum().q()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.proposal.members().len() as u16
    }

    pub(super) fn honest(&self) -> Vec<u16> {
        self.members().filter(|member| !self.rogues.contains_key(member)).collect()
    }

    pub(super) fn kept(&self, member: u16) -> Option<Kept> {
        self.disks.get(&member).map(|bytes| Kept::parse(bytes).unwrap())
    }

    pub(super) fn share(&self, member: u16) -> Option<KeyShare> {
        self.kept(member)?.share()
    }

    pub(super) fn attempt(&self) -> &Attempt {
        self.ceremony.attempt().unwrap()
    }

    pub(super) fn begin(&mut self, participants: Vec<u16>) {
        let begin = sign(self.ceremony.begin(participants), &operator());
        self.deliver(begin).unwrap();
    }

    /// The log gets this message.
    pub(super) fn deliver(&mut self, message: Vec<u8>) -> Result<(), Refusal> {
        let outcome = self.ceremony.apply(&parse(&message));
        if outcome.is_ok() {
            self.taken.insert(message.clone());
        }
        self.log.push(message);
        outcome
    }

    /// A member does what it has to do. Tells whether it said anything that the log has not.
    fn turn(&mut self, member: u16) -> bool {
        let chance = |rng: &mut ChaCha20Rng, percent| rng.gen_range(0..100) < percent;
        let mut seeds = ChaCha20Rng::seed_from_u64(self.rng.r#gen());
        if chance(&mut self.rng, self.weather.crash / 4) {
            // It starts again, from its disk and the log.
            self.ceremony = replay(&self.proposal, &self.log);
        }
        let kept = self.kept(member);
        let actions = match self.ceremony.next(&identity(member), kept.as_ref(), &mut seeds) {
            Ok(actions) => actions,
            // A rogue may have said what it did not keep.
            Err(_) if self.rogues.contains_key(&member) => return false,
            Err(lost) => panic!("member {member}: {lost}"),
        };
        let mut news = false;
        for action in actions {
            if chance(&mut self.rng, self.weather.crash) {
                return true;
            }
            match action {
                Action::Keep(kept) => drop(self.disks.insert(member, kept.to_bytes().to_vec())),
                Action::Erase => drop(self.disks.remove(&member)),
                Action::Send(message) => news |= self.send(member, message),
            }
        }
        news
    }

    fn send(&mut self, member: u16, message: Vec<u8>) -> bool {
        let Some(rogue) = self.rogues.get(&member).cloned() else {
            self.remember(member, &message);
            return self.post(message);
        };
        let messages = rogue.says(self, member, &message);
        messages.into_iter().filter(|message| self.post(message.clone())).count() > 0
    }

    /// An honest member never says two things, nor what the log has.
    fn remember(&mut self, member: u16, message: &[u8]) {
        assert!(!self.taken.contains(message), "member {member} says again what counts");
        if self.said.values().any(|said| said == message) {
            return;
        }
        let parsed = parse(message);
        let (place, reader) = match &parsed {
            Message::Opening(signed) => {
                let Opening { dealing, reader, .. } = signed.payload();
                let dealings = &self.attempt().dealings;
                (dealings.iter().position(|dealt| dealt.digest == *dealing).unwrap() as u16, *reader)
            }
            _ => (0, 0),
        };
        let attempt = self.attempt().context.attempt;
        let first = self.said.entry((member, attempt, parsed.kind(), place, reader));
        let first = first.or_insert_with(|| message.to_vec());
        assert!(first == message, "member {member} says another {}", parsed.kind());
    }

    fn post(&mut self, message: Vec<u8>) -> bool {
        if self.log.contains(&message) || self.pending.contains(&message) {
            return false;
        }
        self.pending.push(message);
        true
    }

    /// Everybody speaks, and the log takes one message after the other, in any order, until nobody has anything new to say.
    pub(super) fn run(&mut self) {
        for _ in 0..20_000 {
            if self.pending.is_empty() || self.rng.gen_range(0..3) == 0 {
                let mut members: Vec<u16> = self.members().collect();
                members.shuffle(&mut self.rng);
                let quiet = self.pending.is_empty();
                let spoken = members.into_iter().filter(|member| self.turn(*member)).count() > 0;
                if quiet && !spoken && self.pending.is_empty() {
                    return;
                }
                continue;
            }
            let place = self.rng.gen_range(0..self.pending.len());
            let message = self.pending.swap_remove(place);
            let [lost, twice] =
                [self.weather.loss, self.weather.twice].map(|percent| self.rng.gen_range(0..100) < percent);
            if lost {
                continue;
            }
            let honest = self.honest();
            let author = self.proposal.index_of(parse(&message).author());
            let outcome = self.deliver(message.clone());
            if let Err(refusal) = &outcome
                && author.is_some_and(|author| honest.contains(&author))
            {
                // What honest members say is refused for two reasons only; and one rogue forges.
                let usual = matches!(
                    refusal,
                    Refusal::Late { .. } | Refusal::Repeated { .. } | Refusal::NotAsked { .. }
                );
                let forged = matches!(refusal, Refusal::Signature(_))
                    && self.rogues.values().any(|rogue| *rogue == Rogue::Forges);
                assert!(usual || forged, "{refusal}");
            }
            if twice {
                assert!(self.deliver(message).is_err(), "the same again does not count");
            }
        }
        panic!("no end: {:?}", self.ceremony.progress());
    }

    /// What must hold wherever a ceremony ends. Tells whether it has a key.
    pub(super) fn check(&self) -> bool {
        let (progress, honest) = (self.ceremony.progress(), self.honest());
        for misdeed in &progress.misdeeds {
            assert!(!honest.contains(&misdeed.member), "an honest member is named: {misdeed:?}");
        }
        self.check_secrecy();
        let again = replay(&self.proposal, &self.log).progress();
        assert_eq!(format!("{again:?}"), format!("{progress:?}"), "a replay differs");
        match self.ceremony.outcome().filter(|outcome| outcome.token.is_some()) {
            Some(outcome) => {
                self.check_key(&outcome);
                true
            }
            None => {
                self.check_reason(&progress);
                false
            }
        }
    }

    /// What the rogues and all readers of the log together know of honest dealers' polynomials: at most `f` rows.
    fn check_secrecy(&self) {
        let Some(attempt) = self.ceremony.attempt() else { return };
        for dealt in attempt.dealings.iter().filter(|dealt| !self.rogues.contains_key(&dealt.dealer)) {
            let published = self.members().filter(|member| Attempt::opened_row(dealt, *member).is_some());
            let known: BTreeSet<u16> = published.chain(self.rogues.keys().copied()).collect();
            assert!(known.len() <= self.f(), "rows {known:?} of {} are known", dealt.dealer);
        }
        if attempt.set.is_some() {
            let honest = attempt.qualified().filter(|dealt| !self.rogues.contains_key(&dealt.dealer)).count();
            assert!(honest > 0, "only rogues made the key");
            assert!(attempt.qualified().count() >= (self.f() + 1).max(self.members().count().min(2)));
        }
    }

    fn check_key(&self, outcome: &Outcome<'_>) {
        let (genesis, token) = (outcome.genesis, outcome.token.unwrap());
        genesis.public_key().verify(&genesis.message(), token).unwrap();
        Trust::new(genesis.clone(), *token).unwrap();
        let mut shares = Vec::new();
        for member in self.honest() {
            let Some(share) = self.share(member) else {
                // Whose row was never published, or who takes no part, has none.
                let left = self.attempt().place(member).is_none() || self.attempt().lacking(member).is_some();
                assert!(left, "member {member} has no share");
                continue;
            };
            assert_eq!(share.public_share(), genesis.share_keys()[usize::from(member)], "member {member}");
            shares.push((member, share));
        }
        assert!(shares.len() >= self.q(), "only {} honest members have shares", shares.len());
        let message =
            crate::threshold::Message::released(genesis.cluster(), crate::ids::ExchangeId::new([3; 32]));
        let mut rng = self.rng.clone();
        for _ in 0..3 {
            shares.shuffle(&mut rng);
            let signed: Vec<_> =
                shares.iter().take(self.q()).map(|(member, share)| (*member, share.sign(&message))).collect();
            let token = combine(self.q(), &signed).unwrap();
            genesis.public_key().verify(&message, &token).unwrap();
        }
    }

    /// A ceremony without a key says why, and never waits for an honest member that could go on.
    fn check_reason(&self, progress: &Progress) {
        assert!(progress.dead.is_some() || !progress.awaited.is_empty(), "{progress:?}");
        let mut rogues = 0;
        for awaited in &progress.awaited {
            if self.rogues.contains_key(&awaited.member) {
                rogues += 1;
                continue;
            }
            let cut_off = self.attempt().lacking(awaited.member).is_some();
            assert!(cut_off, "it waits for {awaited:?}, who is honest");
        }
        let named = progress.misdeeds.iter().any(|misdeed| misdeed.attempt == progress.attempt);
        assert!(rogues > 0 || named, "{progress:?}");
    }
}
