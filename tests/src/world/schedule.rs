//! What goes wrong when: from a seed, and from nothing else.

use std::fmt;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The node at this index.
    Node(usize),
    /// Whoever leads when it begins.
    Leader,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// SIGKILL; started again at the end.
    Kill(Target),
    /// SIGSTOP; SIGCONT at the end.
    Stop(Target),
    /// Every node is killed at once; started again at the end.
    KillAll,
    /// Nothing passes to it or from it.
    Isolate(Target),
    /// Nothing passes from it to other nodes.
    Mute(Target),
    /// Nothing passes from other nodes to it.
    Deaf(Target),
    /// Two and the rest do not reach each other.
    Split(usize, usize),
    /// All packets between nodes are late and some are lost: milliseconds, and percent.
    Weather(u64, u8),
    /// Its clock is so many milliseconds ahead.
    Clock(Target, i64),
    /// Its disk is full.
    FullDisk(Target),
    /// Its disk turns read-only.
    BrokenDisk(Target),
    /// Its disk stalls again and again.
    SlowDisk(Target),
    /// Its disk hangs.
    HungDisk(Target),
}

impl Fault {
    /// A word for counting.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Stop(_) => "stop",
            Self::KillAll => "kill-all",
            Self::Isolate(_) => "isolate",
            Self::Mute(_) => "mute",
            Self::Deaf(_) => "deaf",
            Self::Split(..) => "split",
            Self::Weather(..) => "delay-and-loss",
            Self::Clock(..) => "clock",
            Self::FullDisk(_) => "disk-full",
            Self::BrokenDisk(_) => "disk-read-only",
            Self::SlowDisk(_) => "disk-slow",
            Self::HungDisk(_) => "disk-hung",
        }
    }
}

/// A fault, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planned {
    /// How long after the one before has ended; faults begin together where this is zero.
    pub after: Duration,
    /// What goes wrong.
    pub fault: Fault,
    /// For how long.
    pub lasts: Duration,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:?}, for {:?}: {:?}", self.after, self.lasts, self.fault)
    }
}

/// The faults of a run of so long, for so many nodes. Rounds of one fault, sometimes two at once, with calm between them, so
/// that a quorum can be found now and then.
pub fn schedule(seed: u64, nodes: usize, length: Duration) -> Vec<Planned> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut planned = Vec::new();
    let mut at = Duration::ZERO;
    while at < length {
        let calm = Duration::from_millis(random.gen_range(500..2500));
        let lasts = Duration::from_millis(random.gen_range(500..6000));
        planned.push(Planned { after: calm, fault: one(&mut random, nodes), lasts });
        if random.gen_bool(0.25) {
            planned.push(Planned { after: Duration::ZERO, fault: one(&mut random, nodes), lasts });
        }
        at += calm + lasts;
    }
    planned
}

fn one(random: &mut ChaCha8Rng, nodes: usize) -> Fault {
    let target = if random.gen_bool(0.4) { Target::Leader } else { Target::Node(random.gen_range(0..nodes)) };
    match random.gen_range(0..16) {
        0 | 1 => Fault::Kill(target),
        2 | 3 => Fault::Stop(target),
        4 => Fault::KillAll,
        5 => Fault::Isolate(target),
        6 => Fault::Mute(target),
        7 => Fault::Deaf(target),
        8 => {
            let one = random.gen_range(0..nodes);
            Fault::Split(one, (one + random.gen_range(1..nodes)) % nodes)
        }
        9 => Fault::Weather(random.gen_range(5..150), random.gen_range(0..20)),
        10 | 11 => {
            let far = [1_000, 2_000, 20_000, 3_600_000];
            let ahead = far.get(random.gen_range(0..far.len())).copied().unwrap_or_default();
            Fault::Clock(target, if random.r#gen() { ahead } else { -ahead })
        }
        12 => Fault::FullDisk(target),
        13 => Fault::BrokenDisk(target),
        14 => Fault::SlowDisk(target),
        _ => Fault::HungDisk(target),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_schedule_follows_from_its_seed_and_has_every_kind() {
        let hour = Duration::from_secs(3600);
        assert_eq!(schedule(7, 4, hour), schedule(7, 4, hour));
        assert_ne!(schedule(7, 4, hour), schedule(8, 4, hour));
        let kinds: BTreeSet<_> = schedule(7, 4, hour).iter().map(|planned| planned.fault.kind()).collect();
        assert_eq!(kinds.len(), 13, "{kinds:?}");
        let length: Duration = schedule(7, 4, hour)
            .iter()
            .filter(|planned| !planned.after.is_zero())
            .map(|planned| planned.after + planned.lasts)
            .sum();
        assert!(length >= hour && length < hour + Duration::from_secs(10), "{length:?}");
    }
}
