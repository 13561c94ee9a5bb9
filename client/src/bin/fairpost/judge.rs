//! `fairpost verify`: what judges do, offline.

use std::io::{self, Read as _, Seek as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use fairpost::mail;
use fairpost::spool::Spool;
use fairpost::trust::Trust;
use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::Nro;
use fairpost_proto::ids::Verdict;
use fairpost_proto::misconduct::{self, Misconduct};
use fairpost_proto::proof::{self, Claim, Proof};
use fairpost_proto::sealed;
use fairpost_proto::verify::{self, Opening, Report};
use serde::Serialize;

use crate::exit::{Exit, Usage};
use crate::files::{Cluster, open};
use crate::show::{Form, VERSION, meaning, names, table, word};

/// Judge a proof, with nothing but the cluster's trust file. No network.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fairpost verify --cluster cluster.trust proof --mail sealed.eml\n\n\
                  A proof of misconduct says which server signed two things that no honest server signs both.\n\n\
                  Exits with 0 if the proof holds and, for a released mail, the content was shown to match; with 5 if it \
                  holds and no content was shown; with 4 if it does not hold.")]
pub(crate) struct Verify {
    #[command(flatten)]
    cluster: Cluster,
    /// The sealed mail that the proof is about: shows that it opens to what the sender signed.
    #[arg(long, value_name = "SEALED")]
    mail: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
    /// The proof; - or nothing for standard input.
    #[arg(default_value = "-")]
    proof: PathBuf,
}

impl Verify {
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        let trust = self.cluster.load()?;
        let mut bytes = Vec::new();
        let limit = proof::MAX_BYTES as u64 + 1;
        open(&self.proof)?
            .take(limit)
            .read_to_end(&mut bytes)
            .with_context(|| self.proof.display().to_string())?;
        if Misconduct::is(&bytes) {
            return self.convict(&bytes, &trust);
        }
        let part = self.mail.as_ref().map(|path| {
            let mut part = Spool::new()?;
            mail::find(open(path)?, &mut part).with_context(|| path.display().to_string())?;
            part.rewind()?;
            anyhow::Ok(part)
        });
        let proof = Proof::parse(&bytes)?;
        let judgement = judge(&proof, &trust, part.transpose()?);
        self.form.print(&Sheet::new(&proof, &judgement), Sheet::table)?;
        match judgement {
            Ok((_, exit)) => Ok(exit),
            Err(error) => Err(error.into()),
        }
    }
}

impl Verify {
    /// Judges a proof of misconduct: it is against servers, and no mail belongs to it.
    fn convict(&self, bytes: &[u8], trust: &Trust) -> anyhow::Result<Exit> {
        if self.mail.is_some() {
            return Err(Usage("this is a proof of a server's misconduct: leave out --mail".into()).into());
        }
        let conviction = misconduct::verify(&Misconduct::parse(bytes)?, trust);
        let verdict = match &conviction {
            Ok(conviction) => Conviction {
                culprit: Some(conviction.culprit.to_string()),
                subject: Some(conviction.subject.clone()),
                first: Some(conviction.first.clone()),
                second: Some(conviction.second.clone()),
                ..Conviction::default()
            },
            Err(_) => Conviction { valid: false, ..Conviction::default() },
        };
        self.form.print(&verdict, Conviction::table)?;
        conviction.map(|_| Exit::Yes).map_err(Into::into)
    }
}

/// The JSON form of `fairpost verify` for a proof of misconduct; null where nobody is convicted.
#[derive(Debug, Serialize)]
struct Conviction {
    version: u32,
    valid: bool,
    claim: &'static str,
    culprit: Option<String>,
    subject: Option<String>,
    first: Option<String>,
    second: Option<String>,
}

impl Default for Conviction {
    fn default() -> Self {
        let (version, valid, claim) = (VERSION, true, "misconduct");
        Self { version, valid, claim, culprit: None, subject: None, first: None, second: None }
    }
}

impl Conviction {
    fn table(&self) -> String {
        let Self { culprit: Some(culprit), subject: Some(subject), .. } = self else {
            return table(&[("Convicted", "nobody".to_owned())]);
        };
        let said = |what: &Option<String>| format!("for {}", what.as_deref().unwrap_or_default());
        table(&[
            ("Convicted", culprit.clone()),
            ("Signed twice", subject.clone()),
            ("Once", said(&self.first)),
            ("And", said(&self.second)),
        ])
    }
}

/// What the judge found, and how the command ends with it.
fn judge(proof: &Proof, trust: &Trust, part: Option<Spool>) -> Result<(Report, Exit), verify::Error> {
    let report = verify::verify(proof, trust)?;
    let Some(part) = part else {
        return match (proof.claim, report.verdict) {
            (Claim::Fraud, _) => Err(verify::Error::FraudUnseen),
            (Claim::Verdict, Verdict::Released) => Ok((report, Exit::NotShown)),
            // Nothing can be opened, so nothing is missing.
            (Claim::Verdict, _) => Ok((report, Exit::Yes)),
        };
    };
    if report.verdict != Verdict::Released {
        if proof.claim == Claim::Fraud {
            return Err(verify::Error::NotReleased(report.verdict));
        }
        check_mail(proof, part)?;
        return Ok((report, Exit::Yes));
    }
    match verify::verify_with_mail(proof, trust, part, io::sink()) {
        Ok(report) => Ok((report, Exit::Yes)),
        // The proof was made to show acceptance alone. Whether the mail is the right one has been checked by then. A claim
        // of fraud is about the content, and unproved without it.
        Err(verify::Error::Disclosure { found: None, .. }) if proof.claim == Claim::Verdict => {
            Ok((report, Exit::NotShown))
        }
        Err(error) => Err(error),
    }
}

/// That the sealed part is the one that the proof's NRO is about.
fn check_mail(proof: &Proof, mut part: Spool) -> Result<(), verify::Error> {
    sealed::read_header(&mut part)?;
    let found = sealed::body_digest(&mut part)?;
    match Signed::<Nro>::parse(&proof.nro) {
        Ok(nro) if nro.payload().sealed != found => {
            Err(verify::Error::OtherMail { expected: nro.payload().sealed, found })
        }
        // It has been verified before.
        _ => Ok(()),
    }
}

/// The steps, in their order.
const STEPS: [&str; 6] = ["trust", "NRO", "evidence", "certificate", "token", "opening"];

/// Which step an error is of.
const fn step(error: &verify::Error) -> usize {
    use verify::Error as E;
    match error {
        E::Cluster { .. } | E::Epoch { .. } => 0,
        E::Nro(_) => 1,
        E::Evidence(_) => 2,
        E::LeafExchange { .. }
        | E::LeafNro { .. }
        | E::LeafEvidence { .. }
        | E::Late { .. }
        | E::Early { .. }
        | E::Certificate(_) => 3,
        E::Token { .. } => 4,
        _ => 5,
    }
}

/// The JSON form of `fairpost verify`.
#[derive(Debug, Serialize)]
struct Sheet {
    version: u32,
    valid: bool,
    claim: &'static str,
    steps: Vec<Step>,
    /// Null if a step before the opening failed: then nothing in the proof is to be relied on.
    finding: Option<Finding>,
}

#[derive(Debug, Serialize)]
struct Step {
    name: &'static str,
    /// "passed", "failed" or "not done".
    result: &'static str,
    detail: String,
}

#[derive(Debug, Serialize)]
struct Finding {
    verdict: String,
    meaning: &'static str,
    from: String,
    to: String,
    protocol: String,
    created: String,
    expires: String,
    recorded: String,
    exchange: String,
    cluster: String,
    epoch: u32,
    voters: Vec<String>,
    /// "shown", "not shown", "none" (there is nothing to open) or "fraud".
    content: &'static str,
}

impl Sheet {
    fn new(proof: &Proof, judgement: &Result<(Report, Exit), verify::Error>) -> Self {
        let failed = judgement.as_ref().err().map(|error| (step(error), error.to_string()));
        let report = judgement.as_ref().ok().map(|(report, _)| report);
        let steps = STEPS.into_iter().enumerate().map(|(place, name)| {
            let (result, detail) = match (&failed, report) {
                (Some((at, error)), _) if *at == place => ("failed", error.clone()),
                (Some((at, _)), _) if *at < place => ("not done", String::new()),
                (_, Some(report)) => passed(place, report),
                _ => ("passed", String::new()),
            };
            Step { name, result, detail }
        });
        Self {
            version: VERSION,
            valid: failed.is_none(),
            claim: if proof.claim == Claim::Fraud { "fraud" } else { "verdict" },
            steps: steps.collect(),
            finding: report.map(Finding::new),
        }
    }

    fn table(&self) -> String {
        let steps: Vec<(&str, String)> = self
            .steps
            .iter()
            .map(|step| match step.detail.as_str() {
                "" => (step.name, step.result.to_owned()),
                detail => (step.name, format!("{}: {detail}", step.result)),
            })
            .collect();
        let mut text = table(&steps);
        if let Some(finding) = &self.finding {
            text.push('\n');
            text.push_str(&finding.table());
        }
        text
    }
}

/// How a step ended, in a proof that holds.
fn passed(place: usize, report: &Report) -> (&'static str, String) {
    let terms = &report.terms;
    let detail = match (place, &report.opening) {
        (0, _) => format!("cluster {}", report.cluster),
        (1, _) => format!("{} signed it, for {}", terms.sender.address, terms.recipient.address),
        (2, _) => match report.verdict {
            Verdict::Released => format!("{} signed the receipt", terms.recipient.address),
            Verdict::Refused => format!("{} signed the refusal", terms.recipient.address),
            Verdict::Withdrawn => format!("{} signed the withdrawal", terms.sender.address),
            Verdict::Expired => "none is needed: the deadline had passed".to_owned(),
        },
        (3, _) => format!("voted for by {}; recorded at {}", names(&report.voters), report.time),
        (4, _) => format!("the cluster's, for {}", report.verdict),
        (_, Opening::Shown { bytes }) => format!("{bytes} bytes, as the sender signed them"),
        (_, Opening::Fraud(garbage)) => format!("the sender locked something else than it signed: {garbage}"),
        (_, Opening::NotShown) if report.verdict == Verdict::Released => {
            return (
                "not done",
                "content not shown: give --mail, and a proof that discloses the lock".to_owned(),
            );
        }
        (_, Opening::NotShown) => return ("not done", "nothing to open".to_owned()),
    };
    ("passed", detail)
}

impl Finding {
    fn new(report: &Report) -> Self {
        let terms = &report.terms;
        Self {
            verdict: word(Some(report.verdict)),
            meaning: meaning(report.verdict),
            from: terms.sender.address.to_string(),
            to: terms.recipient.address.to_string(),
            protocol: terms.protocol.to_string(),
            created: terms.created.to_string(),
            expires: terms.expires.to_string(),
            recorded: report.time.to_string(),
            exchange: report.exchange.to_string(),
            cluster: report.cluster.to_string(),
            epoch: report.epoch,
            voters: report.voters.clone(),
            content: match (&report.opening, report.verdict) {
                (Opening::Shown { .. }, _) => "shown",
                (Opening::Fraud(_), _) => "fraud",
                (Opening::NotShown, Verdict::Released) => "not shown",
                (Opening::NotShown, _) => "none",
            },
        }
    }

    fn table(&self) -> String {
        let mut rows = vec![
            ("Verdict", format!("{}: {}", self.verdict, self.meaning)),
            ("Recorded", self.recorded.clone()),
            ("From", self.from.clone()),
            ("To", self.to.clone()),
            ("Sealed", self.created.clone()),
            ("Deadline", self.expires.clone()),
            ("Exchange", self.exchange.clone()),
            ("Content", self.content.to_owned()),
        ];
        if self.content == "fraud" {
            rows.push(("Fraud by", self.from.clone()));
        }
        table(&rows)
    }
}
