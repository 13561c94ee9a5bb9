//! Ceremonies in memory, for this room's tests.

use fairpost_proto::approval::ApprovedProposal;
use fairpost_proto::ceremony::{Action, Ceremony, Kept, Message, Transcript};
use fairpost_proto::chain::key_id;
use fairpost_proto::cose::Signed;
use fairpost_proto::proposal::Proposal;
use rand::rngs::OsRng;

use super::machine::State;
use crate::testing::World;

/// The ceremony of the world's members for a proposal of this name, before its first message.
pub(super) fn state(world: &World, name: &str) -> State {
    let proposal = Proposal::new(name, world.view.constitution().draft()).unwrap();
    let ceremony = Ceremony::new(proposal.clone());
    State { ceremony, transcript: Transcript::new(ApprovedProposal::new(proposal)) }
}

fn take(state: &mut State, message: &[u8]) {
    let message = Message::parse(message).unwrap();
    if state.ceremony.apply(&message).is_ok() {
        state.transcript.push(message);
    }
}

/// Another attempt of all four begins.
pub(super) fn begin(state: &mut State, world: &World) {
    let (begin, key) = (state.ceremony.begin(vec![0, 1, 2, 3]), &world.identities[0]);
    take(state, Signed::sign(begin, key_id(&key.verifying_key()), key).bytes());
}

/// The attempt goes on to its end. Gives what each member kept.
pub(super) fn finish(state: &mut State, world: &World) -> Vec<Kept> {
    let mut kept: Vec<Option<Kept>> = vec![None; world.identities.len()];
    while state.ceremony.outcome().is_none_or(|outcome| outcome.token.is_none()) {
        for (key, kept) in world.identities.iter().zip(&mut kept) {
            for action in state.ceremony.next(key, kept.as_ref(), &mut OsRng).unwrap() {
                match action {
                    Action::Keep(new) => *kept = Some(new),
                    Action::Erase => *kept = None,
                    Action::Send(message) => take(state, &message),
                }
            }
        }
    }
    kept.into_iter().flatten().collect()
}
