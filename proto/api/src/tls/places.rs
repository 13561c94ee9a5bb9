//! Who may hold how many places. No clock and no sockets in here: what comes in is counted, and what goes out.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fairpost_proto::ids::KeyId;

/// Whom an address stands for: an IPv4 address for itself, an IPv6 address for its network of 64 bits, which is what one
/// customer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                Self(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into())
            }
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// Counts what each has, and what all have together.
#[derive(Debug)]
pub struct Places<K> {
    taken: Mutex<(HashMap<K, usize>, usize)>,
    each: usize,
    all: usize,
}

impl<K: Copy + Eq + Hash> Places<K> {
    /// At most `each` for one, and `all` together.
    pub fn new(each: usize, all: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::new((HashMap::new(), 0)), each, all })
    }

    /// A place for `key`, free again when it is dropped; none if there is none.
    pub fn take(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, all) = &mut *taken;
        if *all >= self.all || of.get(&key).is_some_and(|count| *count >= self.each) {
            return None;
        }
        *of.entry(key).or_default() += 1;
        *all += 1;
        Some(Place { places: Arc::clone(self), key })
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// One of the [`Places`].
#[derive(Debug)]
pub struct Place<K: Copy + Eq + Hash> {
    places: Arc<Places<K>>,
    key: K,
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, all) = &mut *taken;
        *all = all.saturating_sub(1);
        if let Some(count) = of.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                of.remove(&self.key);
            }
        }
    }
}

/// The place of a connection, whoever holds it.
#[derive(Debug)]
pub(super) enum Seat {
    /// Of a connection from that address.
    Of(#[expect(dead_code, reason = "kept until the connection ends")] Place<Source>),
    /// Of a member's or an operator's.
    Known(#[expect(dead_code, reason = "kept until the connection ends")] Place<KeyId>),
}

/// How many connections there are.
#[derive(Clone, Debug)]
pub struct Connections {
    pub(super) strangers: Arc<Places<Source>>,
    pub(super) known: Arc<Places<KeyId>>,
    pub(super) handshakes: Arc<AtomicU64>,
    pub(super) refused: Arc<AtomicU64>,
}

impl Connections {
    /// Of those whom nobody knows.
    pub fn strangers(&self) -> usize {
        self.strangers.taken()
    }

    /// Of members and operators.
    pub fn known(&self) -> usize {
        self.known.taken()
    }

    /// Handshakes that are under way.
    pub fn handshakes(&self) -> u64 {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// How many were closed because there were too many already, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_is_ipv4() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn places_are_bounded_for_each_and_for_all_and_come_back() {
        let places = Places::new(2, 3);
        let mine = [places.take(1), places.take(1)];
        assert!(mine.iter().all(Option::is_some) && places.take(1).is_none());
        let other = places.take(2).unwrap();
        assert!(places.take(3).is_none(), "three are taken in all");
        drop(other);
        assert!(places.take(3).is_some());
        drop(mine);
        assert_eq!(places.taken(), 0);
        assert!(places.taken.lock().unwrap().0.is_empty(), "nothing is kept of who has gone");
    }
}
