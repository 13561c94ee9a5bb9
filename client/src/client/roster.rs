//! The nodes of a cluster, and in which order to ask them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairpost_api::tls::{self, ChannelOptions, Pin, Target};
use fairpost_proto::request::Method;
use fairpost_proto::view::View;
use rand::Rng as _;
use tonic::transport::Channel;

use super::{Error, Options};

/// How many answers to each method are remembered.
const REMEMBERED: usize = 16;
/// What an answer may take before any has come.
const UNKNOWN: Duration = Duration::from_millis(500);

/// A node: where it is, and a channel to it and nobody else.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) channel: Channel,
}

/// The nodes, in the order of the view.
pub(super) struct Roster {
    pub(super) nodes: Vec<Node>,
    record: Mutex<Record>,
}

/// What is remembered of the nodes.
#[derive(Clone, Debug)]
struct Record {
    first: usize,
    marks: Vec<Mark>,
    took: Vec<(Method, VecDeque<Duration>)>,
}

/// How a node did last; the worst is asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    Fine,
    Failed,
    Lied,
}

impl Roster {
    pub(super) fn new(view: &View, options: Options) -> Result<Self, Error> {
        let patience = ChannelOptions {
            // A third of an attempt: then an attempt can still go to a node that drops packets, and on.
            connect_timeout: (options.attempt / 3).max(Duration::from_millis(100)),
            request_timeout: None,
            ..ChannelOptions::default()
        };
        let nodes: Vec<Node> = view
            .members()
            .iter()
            .map(|member| {
                let node = || member.name.clone();
                let target: Target =
                    member.address.parse().map_err(|source| Error::Address { node: node(), source })?;
                let config = tls::client_config(Pin::Identity(member.identity), None)
                    .map_err(|problem| Error::Tls { node: node(), problem: problem.to_string() })?;
                Ok(Node { name: node(), channel: tls::channel(&target, config, patience) })
            })
            .collect::<Result<_, Error>>()?;
        let first = options.first.unwrap_or_else(|| rand::thread_rng().gen_range(0..nodes.len().max(1)));
        let marks = vec![Mark::Fine; nodes.len()];
        Ok(Self { nodes, record: Mutex::new(Record { first, marks, took: Vec::new() }) })
    }

    /// All places, in the order in which to ask: round from the first, the fine ones before those that failed.
    pub(super) fn order(&self) -> Vec<usize> {
        self.record().order()
    }

    /// The node at `place` gave an answer that proved itself.
    pub(super) fn answered(&self, place: usize) {
        let mut record = self.record();
        record.mark(place, Mark::Fine);
        record.first = place;
    }

    /// An answer to a call of this method took so long.
    pub(super) fn took(&self, method: Method, took: Duration) {
        self.record().take(method, took);
    }

    /// Three times what half of the last answers to this method took no longer than: who takes longer is slow.
    pub(super) fn usual(&self, method: Method) -> Duration {
        self.record().median(method).map_or(UNKNOWN, |median| median * 3)
    }

    /// The node at `place` did not answer, or could not.
    pub(super) fn failed(&self, place: usize) {
        self.record().mark(place, Mark::Failed);
    }

    /// The node at `place` gave an answer that did not prove itself.
    pub(super) fn lied(&self, place: usize) {
        self.record().mark(place, Mark::Lied);
    }

    /// Whether the node at `place` has ever given an answer that did not prove itself.
    pub(super) fn has_lied(&self, place: usize) -> bool {
        self.record().marks.get(place) == Some(&Mark::Lied)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn take(&mut self, method: Method, took: Duration) {
        let known = self.took.iter().position(|(known, _)| *known == method);
        let place = known.unwrap_or_else(|| {
            self.took.push((method, VecDeque::with_capacity(REMEMBERED)));
            self.took.len() - 1
        });
        if let Some((_, last)) = self.took.get_mut(place) {
            if last.len() == REMEMBERED {
                last.pop_front();
            }
            last.push_back(took);
        }
    }

    fn median(&self, method: Method) -> Option<Duration> {
        let (_, last) = self.took.iter().find(|(known, _)| *known == method)?;
        let mut sorted: Vec<Duration> = last.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    fn order(&self) -> Vec<usize> {
        let count = self.marks.len();
        let mut places: Vec<usize> = (0..count).map(|step| (self.first + step) % count).collect();
        places.sort_by_key(|place| self.marks.get(*place).copied());
        places
    }

    fn mark(&mut self, place: usize, mark: Mark) {
        if let Some(held) = self.marks.get_mut(place)
            // A lie is remembered, whatever comes after it.
            && *held != Mark::Lied
        {
            *held = mark;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_answered_is_first_and_the_liar_last() {
        let mut record = Record { first: 2, marks: vec![Mark::Fine; 4], took: Vec::new() };
        assert_eq!(record.order(), [2, 3, 0, 1]);
        record.mark(2, Mark::Lied);
        record.mark(3, Mark::Failed);
        assert_eq!(record.order(), [0, 1, 3, 2]);
        record.mark(2, Mark::Fine);
        record.mark(3, Mark::Fine);
        assert_eq!(record.order(), [3, 0, 1, 2], "a failure is forgiven, a lie is not");
    }

    #[test]
    fn what_is_usual_is_known_for_each_method_and_forgets_what_was_long_ago() {
        let mut record = Record { first: 0, marks: Vec::new(), took: Vec::new() };
        assert_eq!(record.median(Method::Redeem), None);
        let milli = Duration::from_millis;
        for took in [7, 90, 8] {
            record.take(Method::Redeem, milli(took));
        }
        record.take(Method::Status, milli(1));
        assert_eq!(record.median(Method::Redeem), Some(milli(8)), "one slow answer is not what is usual");
        for _ in 0..REMEMBERED {
            record.take(Method::Redeem, milli(200));
        }
        assert_eq!(record.median(Method::Redeem), Some(milli(200)));
        assert_eq!(record.took[0].1.len(), REMEMBERED);
    }
}
