//! How many servers it takes.
//!
//! # Specification
//!
//! Of `n` servers at most `f` are compromised, and `n ≥ 3f + 1`. A quorum is `q = ⌊(n + f) / 2⌋ + 1` of them. Then
//! `q ≤ n − f`, so the honest ones reach it alone, and `2q − n ≥ f + 1`, so any two quorums share an honest server.
//! The tests below check both for every size that can be built.

/// What is wrong with a cluster's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There are no servers, or more than the formats allow.
    #[error("a cluster has 1 to {max} servers, not {n}", max = Quorum::MAX_SERVERS)]
    Servers {
        /// The number asked for.
        n: usize,
    },
    /// So few servers can't stand so many compromised ones.
    #[error("{n} servers can't stand {f} compromised ones: that takes at least {needed}")]
    Faults {
        /// How many servers.
        n: usize,
        /// How many may be compromised.
        f: usize,
        /// 3f + 1.
        needed: usize,
    },
}

/// A cluster's size, how many of its servers may be compromised, and the quorum that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    n: usize,
    f: usize,
}

impl Quorum {
    /// The largest cluster that the formats allow.
    pub const MAX_SERVERS: usize = 64;

    /// `n` servers, of which up to `f` may be compromised.
    pub fn new(n: usize, f: usize) -> Result<Self, Error> {
        if n == 0 || n > Self::MAX_SERVERS {
            return Err(Error::Servers { n });
        }
        let needed = f.saturating_mul(3).saturating_add(1);
        if n < needed { Err(Error::Faults { n, f, needed }) } else { Ok(Self { n, f }) }
    }

    /// The most compromised servers that a cluster of `n` stands: ⌊(n − 1) / 3⌋.
    pub const fn most_faults(n: usize) -> usize {
        n.saturating_sub(1) / 3
    }

    /// Servers in the cluster.
    pub const fn n(self) -> usize {
        self.n
    }

    /// How many of them may be compromised.
    pub const fn f(self) -> usize {
        self.f
    }

    /// Votes that make a quorum certificate, and shares that make a token.
    pub const fn q(self) -> usize {
        (self.n + self.f) / 2 + 1
    }

    /// How many servers must say that they hold nothing of an exchange before it is believed that no token had been
    /// made: n − (q − f) + 1. Of the `q` whose shares made one, at least `q − f` are honest and hold what it rests on;
    /// so only the others, n − (q − f) at most, could say so.
    pub const fn denials(self) -> usize {
        self.n - (self.q() - self.f) + 1
    }

    /// Servers that make a majority in Raft.
    pub const fn majority(self) -> usize {
        self.n / 2 + 1
    }

    /// How many servers may be down or compromised while the rest still decide.
    pub const fn spare(self) -> usize {
        let needed = if self.q() > self.majority() { self.q() } else { self.majority() };
        self.n - needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_docs_is_true() {
        let row = |n, f| Quorum::new(n, f).map(|quorum| (quorum.q(), quorum.majority(), quorum.spare()));
        assert_eq!(row(4, 1), Ok((3, 3, 1)));
        assert_eq!(row(6, 1), Ok((4, 4, 2)));
        assert_eq!(row(7, 2), Ok((5, 4, 2)));
        assert_eq!(row(10, 3), Ok((7, 6, 3)));
        assert_eq!(row(3, 0), Ok((2, 2, 1)));
        assert_eq!(row(1, 0), Ok((1, 1, 0)));
    }

    #[test]
    fn too_few_servers_are_refused() {
        assert_eq!(Quorum::new(3, 1), Err(Error::Faults { n: 3, f: 1, needed: 4 }));
        assert_eq!(Quorum::new(0, 0), Err(Error::Servers { n: 0 }));
        assert_eq!(Quorum::new(65, 0), Err(Error::Servers { n: 65 }));
        assert!(Quorum::new(4, usize::MAX).is_err());
    }

    #[test]
    fn honest_servers_reach_a_quorum_and_two_quorums_share_one_of_them() {
        for n in 1..=Quorum::MAX_SERVERS {
            for f in 0..=Quorum::most_faults(n) {
                let quorum = Quorum::new(n, f).unwrap();
                assert!(quorum.q() <= n - f, "{quorum:?}");
                assert!(2 * quorum.q() - n > f, "{quorum:?}");
            }
            assert!(Quorum::new(n, Quorum::most_faults(n) + 1).is_err());
        }
    }

    #[test]
    fn who_denies_a_token_is_contradicted_by_an_honest_holder_and_honest_servers_alone_can_deny_one() {
        assert_eq!(Quorum::new(4, 1).map(Quorum::denials), Ok(3));
        for n in 1..=Quorum::MAX_SERVERS {
            for f in 0..=Quorum::most_faults(n) {
                let quorum = Quorum::new(n, f).unwrap();
                let holders = quorum.q() - f;
                assert!(quorum.denials() > n - holders, "{quorum:?}: all but the holders could say so");
                assert!(quorum.denials() > f, "{quorum:?}");
                assert!(quorum.denials() <= quorum.q() && quorum.denials() <= n - f, "{quorum:?}");
            }
        }
    }
}
