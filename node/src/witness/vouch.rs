//! Who has signed a log: for a node that takes it over from another.
//!
//! A vote names the log's size and root after an entry, whichever leaves it is for ([`fairpost_proto::vote`]). Its author
//! has rebuilt that log from the first leaf on; so of `q` authors, at least `q - f` have done so honestly.

use std::collections::BTreeSet;

use fairpost_proto::view::View;

use super::service::Received;
use crate::ledger::Root;

/// The members, by index, whose signed votes among these name just this log.
pub fn signers(view: &View, root: &Root, votes: &[Received]) -> BTreeSet<u16> {
    let mut signers = BTreeSet::new();
    for received in votes {
        let vote = received.vote.payload();
        let names = (vote.cluster, vote.epoch) == (view.cluster(), view.epoch())
            && (vote.sequence, vote.log_size, vote.log_root) == (root.sequence, root.size, root.root);
        if let Some((index, member)) = view.member_by_key(*received.vote.signer())
            && names
            && !signers.contains(&index)
            && received.vote.verify(&member.identity).is_ok()
        {
            signers.insert(index);
        }
    }
    signers
}

#[cfg(test)]
mod tests {
    use fairpost_proto::chain;
    use fairpost_proto::cose::Signed;
    use fairpost_proto::ids::Digest;
    use fairpost_proto::vote::Vote;

    use super::*;
    use crate::testing::World;

    #[test]
    fn only_members_who_signed_just_this_log_count_and_each_once() {
        let world = World::new();
        let root = Root { sequence: 7, size: 9, root: Digest::of(b"root") };
        let honest = Vote {
            cluster: world.view.cluster(),
            epoch: 0,
            sequence: 7,
            log_size: 9,
            log_root: root.root,
            ballot: Digest::of(b"ballot"),
            number: 1,
        };
        let sign = |vote: &Vote, name: usize, key: usize| {
            let signer = chain::key_id(&world.identities[name].verifying_key());
            let vote = Signed::sign(*vote, signer, &world.identities[key]);
            Received { vote, leaves: Vec::new() }
        };
        let other = Vote { ballot: Digest::of(b"another ballot"), ..honest };
        let votes = [sign(&honest, 0, 0), sign(&other, 0, 0), sign(&other, 2, 2)];
        assert_eq!(signers(&world.view, &root, &votes), BTreeSet::from([0, 2]));

        let changed = [
            Vote { sequence: 8, ..honest },
            Vote { log_size: 8, ..honest },
            Vote { log_root: Digest::of(b"other"), ..honest },
            Vote { epoch: 1, ..honest },
        ];
        for vote in changed {
            assert!(signers(&world.view, &root, &[sign(&vote, 1, 1)]).is_empty(), "{vote:?}");
        }
        assert!(signers(&world.view, &root, &[sign(&honest, 1, 3)]).is_empty(), "another's key");
    }
}
