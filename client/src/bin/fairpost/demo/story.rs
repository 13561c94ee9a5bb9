//! The story, in the order in which it is told.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use fairpost::sealed_mail::SealedMail;
use fairpost::trust::{self, Trust};
use fairpost_proto::ids::Timestamp;
use fairpost_proto::proof::Proof;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::nodes::{self, Nodes};
use super::{mail, scene::Scene};

/// How long after its deadline an exchange may expire here. Real clusters wait longer.
const GRACE_MILLIS: u64 = 3000;
/// How long the expiry may be waited for, beyond deadline and grace.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two questions whether it has expired.
const PAUSE: Duration = Duration::from_millis(250);

/// Tells it all, with its files in `folder`. An error says what did not go as it should.
pub(super) async fn tell(folder: &Path) -> anyhow::Result<()> {
    let scene = Scene { folder: folder.to_owned() };
    scene.say(
        "Registered post on paper has a postman: he hands over the letter only against a signature. Ordinary e-mail has \
         nobody. If Anna mails first, Ben can read and deny; if Ben signs first, Anna can keep the mail back.\n\n\
         Fairpost is the postman, made of several servers so that nobody has to trust any one of them. Ben can read the \
         mail if and only if Anna can prove that he accepted it. This is how it goes; every command below is one that \
         you can use yourself.",
    )?;
    let (mut nodes, trust) = Box::pin(start(&scene)).await?;
    Box::pin(introduce(&scene)).await?;

    scene.part("3. A mail that only Ben can open, and only by signing for it")?;
    scene.say(
        "Anna has a mail with text, HTML, two attachments and characters of all kinds. She seals it. The lock is made so that \
         it will open with one thing only: a signature of the servers on \"Ben has accepted this mail\", which does not \
         exist yet. Under the protocol CMP2, the default, Ben's own key is needed on top of that, so the servers never \
         see what the mail says.",
    )?;
    let first = Exchange { scene: &scene, protocol: "cmp2", name: "first" };
    Box::pin(first.seal("notice", "3d")).await?;
    Box::pin(first.deliver()).await?;
    Box::pin(first.prove_and_judge()).await?;
    scene.say("Anna can't make up a receipt. Here one bit of Ben's signature is another, and the proof is worth nothing:")?;
    Box::pin(first.forge()).await?;

    Box::pin(kill_the_leader(&scene, &mut nodes)).await?;
    let second = Exchange { scene: &scene, protocol: "cmp1", name: "second" };
    Box::pin(second.seal("reminder", "3d")).await?;
    Box::pin(second.deliver()).await?;
    Box::pin(second.prove_and_judge()).await?;

    Box::pin(refuse(&scene)).await?;
    Box::pin(withdraw(&scene)).await?;
    Box::pin(expire(&scene, &trust)).await?;

    drop(nodes);
    scene.part("The end")?;
    scene.say(
        "All of this came out as it should: two mails opened, each together with its proof; one was refused, one withdrawn, \
         one expired, and none of those three can ever be opened. At no moment could Ben read a mail for which Anna had no \
         proof, or Anna prove one that Ben could not read; not even while a server died.\n\nThe servers of this demo have been stopped.",
    )
}

async fn start(scene: &Scene) -> anyhow::Result<(Nodes, Trust)> {
    scene.part("1. Four servers, of which any one may fail or cheat")?;
    scene.say(
        "Each server makes keys of its own, and an operator approves who is to belong to the cluster. Here all of that is \
         done on one machine; in real life each server does its part at home, and no private key ever travels.",
    )?;
    let port = nodes::free_base_port()?;
    let line = format!(
        "fairpostctl init --dir cluster --nodes 4 --base-port {port} --grace-ms {GRACE_MILLIS} --shortest-lifetime-s 1"
    );
    scene.run(0, &line).await?;
    scene.say("Each server is a process of its own. Until the cluster has a key, they wait.")?;
    let mut nodes = Nodes::start(&scene.path("cluster"))?;
    let started = nodes.list().into_iter().map(|(name, id)| {
        format!("    $ fairpostd run --config cluster/{name}/fairpostd.toml &\n      process {id}\n\n")
    });
    scene.list(&started.collect::<String>())?;
    scene.say(
        "Now they make one signing key together, in such a way that nobody ever holds it, not for a moment: each draws a \
         secret and deals the others parts of it, each checks what it got, and the key is the sum. From then on three of \
         the four have to agree before anything is signed. The file cluster.trust says which cluster this is, and by \
         whose word people are who they say. Everybody else goes by it.",
    )?;
    scene.run(0, "fairpostctl key ceremony --dir cluster").await?;
    let trust = trust::load(&scene.path("cluster/cluster.trust"))?;
    nodes.ready(&trust).await?;
    scene.say(
        "Anybody can check later, without a network, that it was made like that: each server keeps what was said.",
    )?;
    scene
        .run(0, "fairpostctl key verify --cluster cluster/cluster.trust cluster/n1/data/ceremony/transcript")
        .await?;
    Ok((nodes, trust))
}

async fn introduce(scene: &Scene) -> anyhow::Result<()> {
    scene.part("2. Anna and Ben")?;
    scene.say(
        "Both make keys, and have an authority certify whose they are: here one for trying out, in real life their mail \
         provider's. Ben hands out his card. It is public, and is all that Anna needs to write to him.",
    )?;
    scene.run(0, "fairpost identity new anna@example.org --out anna.id --ca cluster/ca").await?;
    scene.run(0, "fairpost identity new ben@example.net --out ben.id --ca cluster/ca").await?;
    scene.run(0, "fairpost identity card ben.id > ben.card").await?;
    Ok(())
}

async fn kill_the_leader(scene: &Scene, nodes: &mut Nodes) -> anyhow::Result<()> {
    scene.part("5. The server that leads is killed, and it makes no difference")?;
    let end = Instant::now() + PATIENCE;
    while scene.try_quietly("fairpostctl health --dir cluster").await?.is_none() {
        ensure!(Instant::now() < end, "expected a cluster that is well within {PATIENCE:?}");
        sleep(PAUSE).await;
    }
    scene.say("This is what operators see:")?;
    let shown = scene.run(0, "fairpostctl status --dir cluster").await?;
    let report = scene.run_quietly("fairpostctl status --dir cluster -o json").await?;
    let report: Value = serde_json::from_str(&report).context("the answer of fairpostctl status")?;
    let leader = report.get("leader").and_then(Value::as_str);
    let leader = leader.with_context(|| format!("expected a leader, but found:\n{shown}"))?;
    let id = nodes.kill(leader)?;
    scene.list(&format!("    $ kill -9 {id}\n\n"))?;
    scene.say(&format!(
        "{leader} led, and is dead: no goodbye, no handing over. The other three notice, choose a new leader and go on; \
         whoever asks the dead one gets no answer and asks the next. Meanwhile Anna seals a second mail, this time under \
         CMP1, the simpler of the two protocols: the servers' signature alone opens the mail for whoever holds it."
    ))
}

async fn refuse(scene: &Scene) -> anyhow::Result<()> {
    scene.part("6. Ben declines a mail")?;
    scene.say("Ben need not accept. If he declines, Anna learns it, can prove it, and the mail can never be opened.")?;
    let third = Exchange { scene, protocol: "cmp2", name: "third" };
    Box::pin(third.seal("offer", "3d")).await?;
    scene.run(0, "fairpost refuse --identity ben.id --cluster cluster/cluster.trust third.eml").await?;
    scene.say(
        "Should he think better of it, it is too late. There is one verdict on each mail, and it stands:",
    )?;
    Box::pin(third.stays_shut("refused")).await
}

async fn withdraw(scene: &Scene) -> anyhow::Result<()> {
    scene.part("7. Anna changes her mind")?;
    scene.say("As long as Ben has not accepted, Anna can call her mail off.")?;
    let fourth = Exchange { scene, protocol: "cmp2", name: "fourth" };
    Box::pin(fourth.seal("letter", "3d")).await?;
    scene.run(0, "fairpost withdraw --identity anna.id --cluster cluster/cluster.trust fourth.eml").await?;
    Box::pin(fourth.stays_shut("withdrawn")).await
}

async fn expire(scene: &Scene, trust: &Trust) -> anyhow::Result<()> {
    scene.part("8. Ben says nothing at all")?;
    scene.say(
        "Silence must not leave Anna waiting for ever: each mail has a deadline, here of two seconds. When it has passed, \
         and a little grace for clocks that differ, she gets a proof that no acceptance was recorded in time.",
    )?;
    let fifth = Exchange { scene, protocol: "cmp2", name: "fifth" };
    Box::pin(fifth.seal("question", "2s")).await?;
    let terms = SealedMail::read(scene.read("fifth.eml")?.as_slice())?.terms().clone();
    let due = terms.expires.plus(trust.view().parameters().grace);
    scene.say("(The demo waits for that.)")?;
    sleep(until(due)).await;
    let line = "fairpost status --identity anna.id --cluster cluster/cluster.trust fifth.eml";
    let end = Instant::now() + PATIENCE;
    // The deadline is one of the servers' clocks, which may be a little behind this one.
    while !scene.run_quietly(line).await?.contains("expired") {
        ensure!(
            Instant::now() < end,
            "expected the verdict Expired within {PATIENCE:?} after deadline and grace"
        );
        sleep(PAUSE).await;
    }
    scene.run(0, line).await?;
    Box::pin(fifth.stays_shut("expired")).await
}

fn until(time: Timestamp) -> Duration {
    Duration::from_millis(time.millis().saturating_sub(fairpost::now().millis()))
}

/// One mail and what becomes of it.
struct Exchange<'s> {
    scene: &'s Scene,
    protocol: &'s str,
    /// Of its files.
    name: &'s str,
}

impl Exchange<'_> {
    /// Anna writes a mail and seals it.
    async fn seal(&self, about: &str, expires: &str) -> anyhow::Result<()> {
        let Self { scene, protocol, name } = self;
        let mail = mail::write(fairpost::now(), about)?;
        scene.write(&format!("{about}.eml"), &mail)?;
        let line = format!(
            "fairpost seal --identity anna.id --to ben.card --cluster cluster/cluster.trust --protocol {protocol} \
             --expires {expires} {about}.eml > {name}.eml"
        );
        scene.run(0, &line).await?;
        let sealed = scene.read(&format!("{name}.eml"))?;
        ensure!(
            !contains(&sealed, mail::SECRET.as_bytes()),
            "expected a sealed mail that says nothing, but found the text of {about}.eml in it"
        );
        // To hold what comes out against what went in.
        scene.write(&format!("{name}.original"), &mail)
    }

    /// Ben looks, signs and reads.
    async fn deliver(&self) -> anyhow::Result<()> {
        let Self { scene, name, .. } = self;
        scene.say(
            "The sealed mail travels as ordinary e-mail. Before Ben signs anything he can see who it is from, what signing \
             means and how long he has. Looking signs nothing and tells nobody:",
        )?;
        let looked = format!("fairpost show --identity ben.id --cluster cluster/cluster.trust {name}.eml");
        let shown = scene.run(0, &looked).await?;
        for expected in ["anna@example.org", "vouched for by", "yes, once you have signed"] {
            ensure!(
                shown.contains(expected),
                "expected {expected:?} in what Ben is shown, but found:\n{shown}"
            );
        }
        scene.say(
            "Ben accepts. His program signs a receipt and hands it to any of the servers. Each of them checks it and stores \
             it; when three have voted for it, three put their parts of the signature together. That signature opens \
             the mail, and by being there it proves that the receipt is on record: both sides have what they want in \
             the same moment.",
        )?;
        let opened = format!(
            "fairpost open --identity ben.id --cluster cluster/cluster.trust {name}.eml > {name}.opened"
        );
        scene.run(0, &opened).await?;
        let (sent, got) = (scene.read(&format!("{name}.original"))?, scene.read(&format!("{name}.opened"))?);
        ensure!(sent == got, "expected the mail that Anna sent, byte for byte, but found another");
        scene.say(&format!(
            "It is the mail that Anna sealed, byte for byte: {} bytes, as the comparison shows.",
            got.len()
        ))
    }

    /// Anna gets her proof, and a judge looks at it.
    async fn prove_and_judge(&self) -> anyhow::Result<()> {
        let Self { scene, name, .. } = self;
        if *name == "first" {
            scene.part("4. What Anna can prove")?;
        }
        scene.say("Anna asks for her proof. Any server gives it to her, now or in years.")?;
        let proved = format!(
            "fairpost proof --identity anna.id --cluster cluster/cluster.trust {name}.eml > {name}.proof"
        );
        scene.run(0, &proved).await?;
        scene.say(
            "A judge needs no server, no network and no trust in Anna or Ben: only the proof, the sealed mail, and \
             cluster.trust from a source of their own.",
        )?;
        let line = format!("fairpost verify --cluster cluster/cluster.trust {name}.proof --mail {name}.eml");
        let found = scene.run(0, &line).await?;
        ensure!(found.contains("released"), "expected the verdict released, but found:\n{found}");
        if *name == "first" {
            scene.say(
                "Without the sealed mail the proof still shows that Ben accepted it, but not what it said. That is another \
                 answer, with an exit code of its own:",
            )?;
            scene.run(5, &format!("fairpost verify --cluster cluster/cluster.trust {name}.proof")).await?;
        }
        Ok(())
    }

    /// Somebody changes a bit of the receipt.
    async fn forge(&self) -> anyhow::Result<()> {
        let Self { scene, name, .. } = self;
        let mut proof = Proof::parse(&scene.read(&format!("{name}.proof"))?)?;
        // The signature is what a receipt ends with.
        let last = proof.evidence.as_mut().and_then(|receipt| receipt.last_mut());
        *last.context("the proof has no receipt")? ^= 1;
        scene.write("forged.proof", &proof.to_bytes())?;
        let line = format!("fairpost verify --cluster cluster/cluster.trust forged.proof --mail {name}.eml");
        scene.run(4, &line).await?;
        Ok(())
    }

    /// The mail can't be opened any more, and Anna can prove why.
    async fn stays_shut(&self, verdict: &str) -> anyhow::Result<()> {
        let Self { scene, name, .. } = self;
        scene.run(1, &format!("fairpost open --identity ben.id --cluster cluster/cluster.trust {name}.eml > {name}.opened")).await?;
        let opened = scene.read(&format!("{name}.opened"))?;
        ensure!(opened.is_empty(), "expected nothing of the mail, but found {} bytes", opened.len());
        let proved = format!(
            "fairpost proof --identity anna.id --cluster cluster/cluster.trust {name}.eml > {name}.proof"
        );
        scene.run(0, &proved).await?;
        let found =
            scene.run(0, &format!("fairpost verify --cluster cluster/cluster.trust {name}.proof")).await?;
        ensure!(found.contains(verdict), "expected the verdict {verdict}, but found:\n{found}");
        Ok(())
    }
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}
