//! Who may call what: members each other, operators the nodes, everybody the rest.

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use fairpost_api::tls::{
    ChannelOptions, ConnectError, Credentials, Pin, Target, channel, client_config, connect_error,
};
use fairpost_api::v1::admin_client::AdminClient;
use fairpost_api::v1::cluster_client::ClusterClient;
use fairpost_api::v1::consensus_client::ConsensusClient;
use fairpost_api::v1::peer_client::PeerClient;
use fairpost_api::v1::{
    CastVotesRequest, ForwardRequest, GetMetricsRequest, GetNodeRequest, GetNodeStatusRequest,
    GetSharesRequest, GetVotesRequest, RaftMessage,
};
use fairpost_node::config::Config;
use fairpost_proto::chain::key_id;
use fairpost_proto::ids::ClusterId;
use fairpost_tests::{Cluster, about};
use rand::rngs::OsRng;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// How every method that is not for everybody answers.
struct Answers {
    peer: Vec<Status>,
    consensus: Vec<Status>,
    admin: Vec<Status>,
}

async fn ask(channel: &Channel, group: ClusterId) -> Answers {
    let (mut peer, mut consensus) = (PeerClient::new(channel.clone()), ConsensusClient::new(channel.clone()));
    let peer = vec![
        peer.forward(ForwardRequest::default()).await.err(),
        peer.cast_votes(tokio_stream::once(CastVotesRequest::default())).await.err(),
        peer.get_votes(GetVotesRequest::default()).await.err(),
        peer.get_shares(GetSharesRequest::default()).await.err(),
    ];
    let message = RaftMessage::default;
    let consensus = vec![
        match consensus.append(about(group, tokio_stream::once(message()))).await {
            Ok(answers) => answers.into_inner().message().await.err(),
            Err(status) => Some(status),
        },
        consensus.vote(about(group, message())).await.err(),
        consensus.install_snapshot(about(group, tokio_stream::once(message()))).await.err(),
    ];
    let mut admin = AdminClient::new(channel.clone());
    let admin = vec![
        admin.get_node_status(GetNodeStatusRequest {}).await.err(),
        admin.get_metrics(GetMetricsRequest {}).await.err(),
    ];
    let all = |answers: Vec<Option<Status>>| answers.into_iter().flatten().collect();
    Answers { peer: all(peer), consensus: all(consensus), admin: all(admin) }
}

fn assert_all(what: &str, answers: &[Status], count: usize, code: Code, words: &str) {
    assert_eq!(answers.len(), count, "{what}: some calls were answered");
    for status in answers {
        assert_eq!(status.code(), code, "{what}: {status:?}");
        assert!(status.message().contains(words), "{what}: {words:?} is not in {status:?}");
    }
}

fn connect(cluster: &Cluster, pin: Pin, credentials: Option<&Credentials>) -> Channel {
    let target: Target = cluster.trust.view().members()[0].address.parse().unwrap();
    channel(&target, client_config(pin, credentials).unwrap(), ChannelOptions::default())
}

pub(super) async fn only_those_who_may_are_let_in(cluster: &Cluster) {
    let members = cluster.trust.view().members();
    let node = || Pin::Identity(members[0].identity);
    let group = cluster.trust.cluster();

    let nobody = ask(&connect(cluster, node(), None), group).await;
    let all: Vec<Status> = nobody.peer.into_iter().chain(nobody.consensus).chain(nobody.admin).collect();
    assert_all("no certificate", &all, 9, Code::Unauthenticated, "asks for a TLS client certificate");

    let stranger = SigningKey::generate(&mut OsRng);
    let credentials = Credentials::generate(&stranger, &[], fairpost::now()).unwrap();
    let answers = ask(&connect(cluster, node(), Some(&credentials)), group).await;
    let all: Vec<Status> = answers.peer.into_iter().chain(answers.consensus).chain(answers.admin).collect();
    let id = key_id(&stranger.verifying_key()).to_string();
    assert_all("a stranger", &all, 9, Code::PermissionDenied, &id);

    // A binding in a member's name that the member did not sign.
    let forged = forged(&credentials, &id, &key_id(&members[1].identity).to_string());
    let answers = ask(&connect(cluster, node(), Some(&forged)), group).await;
    let all: Vec<Status> = answers.peer.into_iter().chain(answers.consensus).chain(answers.admin).collect();
    assert_all("a forged binding", &all, 9, Code::PermissionDenied, "is not by key");

    let operator = ask(&cluster.operator_channel(0).unwrap(), group).await;
    assert_all("the operator", &operator.peer, 4, Code::PermissionDenied, "only members may call this");
    assert_all("the operator", &operator.consensus, 3, Code::PermissionDenied, "only members may call this");
    assert!(operator.admin.is_empty(), "{:?}", operator.admin);

    // A member is let in, and its nonsense refused for what it is.
    let config = Config::load(&cluster.nodes[1].config).unwrap();
    let pem = std::fs::read_to_string(&config.identity).unwrap();
    let member = SigningKey::from_pkcs8_pem(&pem).unwrap();
    let credentials = Credentials::generate(&member, &[], fairpost::now()).unwrap();
    let answers = ask(&connect(cluster, node(), Some(&credentials)), group).await;
    assert_all("a member's nonsense", &answers.consensus, 3, Code::InvalidArgument, "");
    // What is meant for another Raft, as that of the key ceremony, does not come as far.
    let other = ask(&connect(cluster, node(), Some(&credentials)), ClusterId::new([7; 32])).await;
    assert_all("another group", &other.consensus, 3, Code::FailedPrecondition, &"07".repeat(32));
    let refused = [Code::PermissionDenied, Code::Unauthenticated];
    assert!(answers.peer.iter().all(|status| !refused.contains(&status.code())), "{:?}", answers.peer);

    pins_are_kept(cluster, &stranger).await;
}

async fn pins_are_kept(cluster: &Cluster, stranger: &SigningKey) {
    let members = cluster.trust.view().members();
    let hello = async |channel: Channel| ClusterClient::new(channel).get_node(GetNodeRequest {}).await;
    for other in [members[1].identity, stranger.verifying_key()] {
        let status = hello(connect(cluster, Pin::Identity(other), None)).await.unwrap_err();
        match connect_error(&status) {
            Some(ConnectError::Refused { source, .. }) => {
                let text = source.to_string();
                let (expected, found) =
                    (key_id(&other).to_string(), key_id(&members[0].identity).to_string());
                assert!(text.contains(&expected) && text.contains(&found), "{text}");
            }
            other => panic!("{other:?}: {status:?}"),
        }
    }
    // Who has no pin yet may fetch what everybody may know, and nothing else.
    let node = hello(connect(cluster, Pin::FirstContact, None)).await.unwrap().into_inner();
    assert_eq!(node.name, cluster.nodes[0].name);
    assert_eq!(node.cluster, cluster.trust.cluster().as_bytes());
}

/// The same TLS key under a certificate whose binding names another identity than the one that signed it.
fn forged(honest: &Credentials, own: &str, claimed: &str) -> Credentials {
    let (own, claimed) = (hex::decode(own).unwrap(), hex::decode(claimed).unwrap());
    let mut der = honest.certificate_der().to_vec();
    let at = der.windows(own.len()).position(|window| window == own).unwrap();
    der[at..at + own.len()].copy_from_slice(&claimed);
    let pem = honest.to_pem().unwrap();
    let (_, key) = pem.split_once("-----END CERTIFICATE-----\n").unwrap();
    let certificate = fairpost::armor::encode("CERTIFICATE", &der);
    Credentials::from_pem(&[certificate.as_str(), key].concat()).unwrap()
}
