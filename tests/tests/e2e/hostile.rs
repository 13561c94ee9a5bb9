//! Input that no honest client sends, and calls that nobody has a right to.
//!
//! One cluster takes all of it. Whatever comes is refused by name, with what was expected and what was found, and decides
//! nothing: afterwards the exchange that all of it was about is as undecided as before, and is completed.

mod callers;
mod many;
mod requests;

use fairpost::client::{Client, Error, Options};
use fairpost_proto::ids::{Protocol, Verdict};
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::sealed::Garbage;
use fairpost_proto::verify::{self, Opening};
use fairpost_tests::{Cluster, People, Settings, mail};

#[tokio::test(flavor = "multi_thread")]
async fn what_no_honest_party_sends_is_refused_by_name_and_decides_nothing() {
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    callers::only_those_who_may_are_let_in(&cluster).await;
    requests::bad_input_is_refused_and_the_exchange_stays_undecided(&cluster, &people).await;
    garbage_under_a_valid_lock_is_proof_of_fraud(&cluster, &people).await;
    many::the_same_receipt_two_hundred_times_has_one_answer(&cluster, &people).await;
    many::a_race_for_the_verdict_has_one_winner_everywhere(&cluster, &people).await;
    many::a_deadline_is_kept_when_there_is_no_quorum(&mut cluster, &people).await;
}

async fn garbage_under_a_valid_lock_is_proof_of_fraud(cluster: &Cluster, people: &People) {
    let client = Client::new(cluster.trust.clone(), Options::default()).unwrap();
    for protocol in [Protocol::Cmp1, Protocol::Cmp2] {
        let mut fraud = people.defraud(cluster, protocol, b"not what was promised").unwrap();
        let caught = match client.open(&people.recipient, &mut fraud.mail).await {
            Err(Error::Fraud(caught)) => caught,
            other => panic!("{other:?}"),
        };
        let promised = fraud.mail.terms().content;
        assert!(
            matches!(&caught.garbage, Garbage::Content { committed, found } if *committed == promised && found != committed),
            "{}",
            caught.garbage
        );
        let proof = Proof::parse(&caught.proof.unwrap().to_bytes()).unwrap();
        assert_eq!(proof.claim, Claim::Fraud);
        let unseen = verify::verify(&proof, &cluster.trust).unwrap();
        assert_eq!(unseen.opening, Opening::NotShown, "a claim alone accuses nobody");
        let part = std::io::Cursor::new(&fraud.part);
        let report = verify::verify_with_mail(&proof, &cluster.trust, part, std::io::sink()).unwrap();
        assert_eq!((report.verdict, report.opening), (Verdict::Released, Opening::Fraud(caught.garbage)));
    }
    // Who was sent what was promised can't claim otherwise.
    let mut honest = people.seal(cluster, Protocol::Cmp2, requests::HOUR).unwrap();
    assert_eq!(fairpost_tests::open(&client, people, &mut honest).await.unwrap(), mail());
    let (proof, _) = client.fraud_proof(&people.recipient, &honest).await.unwrap();
    let part = honest.part().unwrap();
    let refused = verify::verify_with_mail(&proof, &cluster.trust, part, std::io::sink()).unwrap_err();
    assert!(matches!(refused, verify::Error::NoFraud { .. }), "{refused}");
}
