//! The nodes' shares, each from its node, put together by whoever asks.

use fairpost_proto::ids::{Protocol, Span, Verdict};
use fairpost_proto::proof::{Claim, Proof};
use fairpost_proto::request::Method;
use fairpost_proto::threshold::{self, Share};
use fairpost_proto::verify;
use fairpost_proto::vote::Certificate;
use fairpost_tests::{Cluster, People, Settings, certified, envelope, eventually, get_share, request};
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_party_makes_token_and_proof_of_what_each_node_gives_by_itself() {
    let mut cluster = Cluster::start(Settings::default()).await.unwrap();
    let people = People::new(&cluster).unwrap();
    let (trust, view) = (cluster.trust.clone(), cluster.trust.view().clone());
    let sealed = people.seal(&cluster, Protocol::Cmp1, Span::from_seconds(3600)).unwrap();
    let (nro, exchange) = (sealed.nro(), sealed.exchange());
    let channels: Vec<_> = (0..4).map(|node| cluster.channel(node).unwrap()).collect();
    let ask = async |node: usize, signer, method| {
        let asked = request(trust.cluster(), method, nro, None);
        get_share(&channels[node], envelope(signer, asked, nro.bytes(), None).unwrap()).await
    };

    let early = ask(1, &people.sender, Method::Proof).await.unwrap_err();
    let reason = early.get_details_error_info().map(|info| info.reason);
    assert_eq!((early.code(), reason.as_deref()), (Code::FailedPrecondition, Some("UNDECIDED")));

    let client = fairpost::Client::new(trust.clone(), fairpost::client::Options::default()).unwrap();
    client.redeem(&people.recipient, &sealed).await.unwrap();
    let stranger = certified(&cluster.ca(), "eve@example.org", 30, fairpost::now()).unwrap();
    assert_eq!(ask(1, &stranger, Method::Proof).await.unwrap_err().code(), Code::PermissionDenied);
    let other = ask(1, &people.sender, Method::Status).await.unwrap_err();
    assert_eq!(other.code(), Code::InvalidArgument, "signed for another method: {other}");

    // One may be down.
    cluster.kill(0).unwrap();
    let (mut shares, mut given) = (Vec::new(), None);
    for node in 1..4 {
        // It may still have to hear of the verdict.
        let share = eventually("a share", async || ask(node, &people.sender, Method::Proof).await.ok());
        let parts = share.await.unwrap();
        let share = Share::parse(&parts.share).unwrap();
        let message = threshold::Message::released(trust.cluster(), exchange);
        view.share_keys()[node].verify(&message, &share).unwrap();
        shares.push((node as u16, share));
        given = Some(parts);
    }
    let token = threshold::combine(view.quorum().q(), &shares).unwrap();
    verify::check_token(&trust.public_key(), trust.cluster(), Verdict::Released, exchange, &token).unwrap();
    let parts = given.unwrap();
    let proof = Proof {
        claim: Claim::Verdict,
        trust: trust.clone(),
        nro: parts.nro,
        evidence: Some(parts.evidence),
        certificate: Certificate::parse(&parts.certificate).unwrap(),
        token,
        disclosure: None,
    };
    let report = verify::verify(&proof, &trust).unwrap();
    assert_eq!((report.exchange, report.verdict), (exchange, Verdict::Released));
    let recipient = ask(2, &people.recipient, Method::Proof).await.unwrap();
    assert_eq!(recipient.share, shares[1].1.to_bytes(), "both parties get the same");
}
