//! Signed bytes go when their time is over; what was decided stays.

use fairpost::client::{Error, Reason};
use fairpost::sealed_mail::SealedMail;
use fairpost_api::v1::State;
use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_proto::request::Method;
use fairpost_tests::{
    Cluster, People, Settings, call, envelope, eventually, get_proof, mail, open, prove, request,
};
use tonic::{Code, Status};

use super::{forgetful, level, lose_ledger, purged, through};

const LIFETIME: Span = Span::from_seconds(5);
const SHORT: Settings = Settings {
    faults: None,
    nodes: 4,
    skew_millis: 20_000,
    grace_millis: 1000,
    longest_lifetime_seconds: 5,
    retention_seconds: 6,
};

async fn decided(cluster: &Cluster, people: &People, node: usize) -> SealedMail {
    let mut sealed = people.seal(cluster, Protocol::Cmp2, LIFETIME).unwrap();
    assert_eq!(open(&through(cluster, node), people, &mut sealed).await.unwrap(), mail());
    sealed
}

/// Waits until a node has dropped the signed bytes, while the ledger's time goes on.
async fn dropped(cluster: &Cluster, people: &People, node: usize, sealed: &SealedMail) -> Status {
    let probe = async || {
        decided(cluster, people, node).await;
        let (channel, id) = (cluster.channel(node).unwrap(), cluster.trust.cluster());
        let refused = get_proof(&channel, id, &people.sender, sealed.nro()).await.err()?;
        Some(refused.downcast::<Status>().unwrap())
    };
    eventually("the signed bytes' end", probe).await.unwrap()
}

/// What a node says of an exchange whose signed bytes it does not have.
async fn stands(cluster: &Cluster, people: &People, node: usize, sealed: &SealedMail) {
    let (channel, id) = (cluster.channel(node).unwrap(), cluster.trust.cluster());
    let asked = request(id, Method::Status, sealed.nro(), None);
    let message = envelope(&people.sender, asked, sealed.nro().bytes(), None).unwrap();
    let outcome = call(&channel, Method::Status, message).await.unwrap();
    assert_eq!((outcome.state(), outcome.token.len(), outcome.evidence.len()), (State::Released, 96, 0));
    assert!(outcome.evidence_dropped_millis > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_bytes_are_dropped_in_time_and_the_verdict_stays() {
    let (mut cluster, people) = forgetful(SHORT).await;
    let mut old = decided(&cluster, &people, 0).await;
    assert_eq!(prove(&through(&cluster, 0), &people, &mut old).await.unwrap().verdict, Verdict::Released);
    for node in [0, 1, 2, 3] {
        let refused = dropped(&cluster, &people, node, &old).await;
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert!(refused.message().contains("dropped at"), "{refused:?}");
        stands(&cluster, &people, node, &old).await;
    }
    // A client hears the same of both: the verdict is proven, the proof is gone for good, and nobody is called a liar.
    let outcome = through(&cluster, 1).status(&people.sender, &old).await.unwrap().unwrap();
    assert_eq!((outcome.verdict, outcome.evidence), (Verdict::Released, None));
    let refused =
        prove(&through(&cluster, 1), &people, &mut old).await.unwrap_err().downcast::<Error>().unwrap();
    assert!(matches!(&refused, Error::Rejected(why) if why.reason == Reason::EvidenceDropped), "{refused}");

    // A node that rebuilds its ledger now gets the leaf without the bytes, and makes the token once more.
    purged(&cluster, &[0, 1, 2, 3]).await;
    cluster.stop(2).await.unwrap();
    lose_ledger(&cluster, 2);
    cluster.launch(2).unwrap();
    cluster.ready(2).await.unwrap();
    level(&cluster, 2, 0).await;
    stands(&cluster, &people, 2, &old).await;
    // And what is young is whole.
    let mut young = decided(&cluster, &people, 2).await;
    assert_eq!(prove(&through(&cluster, 2), &people, &mut young).await.unwrap().verdict, Verdict::Released);
}
