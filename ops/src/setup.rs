//! The verbs that make a cluster.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use fairpost_ops::operator::{self, Operator};
use fairpost_ops::{ceremony, init, node, proposal, settings};
use fairpost_proto::armor;
use rand::rngs::OsRng;

use crate::arguments::{Format, Init, KeyVerb, NodeVerb, OperatorVerb, ProposalVerb, summary};
use crate::{INVALID, json, print};

pub(crate) fn init(arguments: &Init) -> anyhow::Result<ExitCode> {
    let made = init::run(&arguments.options(), operator::now())?;
    print(&summary(&made))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn node(verb: NodeVerb) -> anyhow::Result<ExitCode> {
    let options = verb.options();
    let member = node::init(&options, operator::now())?;
    let card = options.folder.join(node::CARD);
    print(&std::fs::read_to_string(&card).map_err(|error| anyhow!("{}: {error}", card.display()))?)?;
    let _ = writeln!(io::stderr(), "{} at {}, key {}", member.name, member.address, member.key_id());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn operator(verb: OperatorVerb) -> anyhow::Result<ExitCode> {
    let OperatorVerb::New { out } = verb;
    if out.exists() {
        bail!("{} is there already, and was not touched; choose another file", out.display());
    }
    let key = SigningKey::generate(&mut OsRng);
    operator::write_key(&out, &key)?;
    print(&key.verifying_key().to_public_key_pem(LineEnding::LF)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn proposal(verb: ProposalVerb) -> anyhow::Result<ExitCode> {
    print(&match verb {
        ProposalVerb::New(new) => proposal::text(&proposal::new(&new.options())?),
        ProposalVerb::Show { file } => proposal::describe(&proposal::read(&file)?),
        ProposalVerb::Approve { operator, file } => {
            proposal::describe(&proposal::approve(&file, &operator::read_key(&operator)?)?)
        }
        ProposalVerb::Merge { files } => proposal::text(&proposal::merge(&files)?),
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn key(verb: KeyVerb) -> anyhow::Result<ExitCode> {
    match verb {
        KeyVerb::Ceremony { about, out, without, again, timeout, format } => {
            let approved = proposal::read(&about.proposal())?;
            let agreed = approved.agreed().map_err(proposal::Error::from)?;
            let (key, operator) =
                (operator::read_key(&about.operator())?, Operator::open(&about.operator())?);
            let options = KeyVerb::options(&without, again, timeout);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let running = Box::pin(ceremony::run(agreed, &operator, &key, &options, tell));
            let made = runtime.block_on(running)?;
            let path = KeyVerb::trust(&about, out.as_ref());
            write_trust(&path, &made)?;
            print(&match format {
                Format::Table => words(&made, &path),
                Format::Json => json(&made)?,
            })?;
            Ok(ExitCode::SUCCESS)
        }
        KeyVerb::Verify { cluster, file } => {
            let bytes = std::fs::read(&file).map_err(|error| anyhow!("{}: {error}", file.display()))?;
            let trust = cluster.map(|path| settings::read_trust(&path)).transpose()?;
            let from = file.display().to_string();
            match ceremony::verify(&bytes, None, &from) {
                Err(error) => {
                    let _ = writeln!(io::stderr(), "fairpostctl: {error}");
                    Ok(INVALID.into())
                }
                Ok((_, made)) if trust.as_ref().is_some_and(|trust| trust.cluster() != made.cluster()) => {
                    let _ = writeln!(
                        io::stderr(),
                        "fairpostctl: {from} made cluster {}, and not this one",
                        made.cluster()
                    );
                    Ok(INVALID.into())
                }
                Ok((ceremony, made)) => {
                    let names =
                        ceremony.participants().iter().filter_map(|index| ceremony.proposal().member(*index));
                    let names: Vec<&str> = names.map(|(member, _)| member.name.as_str()).collect();
                    print(&format!(
                        "It holds: in attempt {}, {} made the key of cluster {}.\n",
                        ceremony.progress().attempt,
                        names.join(", "),
                        made.cluster()
                    ))?;
                    Ok(ExitCode::SUCCESS)
                }
            }
        }
    }
}

/// Shows on standard error how far the ceremony is.
fn tell(line: &ceremony::Line) {
    const WIDTH: usize = 6;
    let done = usize::from(line.done).min(WIDTH);
    let bar = if io::stderr().is_terminal() {
        format!("[{}{}] ", "#".repeat(done), ".".repeat(WIDTH - done))
    } else {
        format!("{done}/{WIDTH} ")
    };
    // If nobody reads it, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{bar}{}", line.text);
}

/// Writes the trust file, unless the one that is there is the same already.
fn write_trust(path: &Path, made: &ceremony::Made) -> anyhow::Result<()> {
    if path.exists() {
        let found = settings::read_trust(path)?.cluster();
        if found != made.trust.cluster() {
            bail!(
                "{} is of cluster {found}, and was not touched; the new one is {}: choose another file with --out",
                path.display(),
                made.cluster
            );
        }
        return Ok(());
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let text = armor::encode(armor::TRUST, &made.trust.to_bytes());
    std::fs::write(&fresh, text)
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn words(made: &ceremony::Made, trust: &Path) -> String {
    let mut text = format!("The key is made, and nobody holds it.\n\n  cluster id  {}\n", made.cluster);
    for member in &made.members {
        let state = match (member.participated, member.finished) {
            (true, true) => "has its share",
            (true, false) => "has yet to write its share: it does so when it runs",
            (false, _) => "took no part, and has no share",
        };
        text.push_str(&format!("  {:<10}  {state}\n", member.name));
    }
    for misdeed in &made.misdeeds {
        let proof = if misdeed.proven { "proven by its signatures" } else { "not proven" };
        text.push_str(&format!(
            "  {:<10}  {} in attempt {} ({proof})\n",
            misdeed.member, misdeed.what, misdeed.attempt
        ));
    }
    text.push_str(&format!(
        "\nThe trust file is {}. Give it to everybody who is to believe this cluster.\n",
        trust.display()
    ));
    text
}
