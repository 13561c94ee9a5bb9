//! How fast a running cluster is, and how fast its cryptography would let it be.
//!
//! # Specification
//!
//! A full exchange is: the recipient hands in a receipt and gets the token; then the sender asks the same node for the proof.
//! Everything that can be signed beforehand is. `clients` of them go on at any time, each in a closed loop, each going
//! round the nodes.
//!
//! 1. Single operations and the disk are measured (`bound`).
//! 2. A pilot run finds out how many exchanges to prepare.
//! 3. The load runs; once it is warm, the clock starts, and stops after the time asked for, or when the exchanges run
//!    out. What was answered while it ran counts.
//! 4. Single operations and the disk are measured again.
//! 5. Every token is verified, and a sample of proofs, with the mails that their tokens open. If one does not hold, there is
//!    no report.
//!
//! # Relies on
//!
//! - Nobody else uses cluster and machine.
//! - For the bound and for processor times: all nodes are on this machine, or on machines like it.
//! - For what others used of the processors: all nodes are on this machine.

mod bound;
mod check;
mod disk;
mod load;
mod machine;
mod numbers;
mod people;
mod prepare;
pub mod report;
mod show;
mod sum;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairpost_node::usage;
use fairpost_proto::trust::Trust;

use crate::operator::{self, Operator};
use crate::status;
use load::{Done, Nodes, Work};
pub use numbers::latency;
use people::People;
use prepare::Prepared;
pub use report::Report;
pub use show::table;
use sum::{Clock, Seen};
use watch::Watch;

/// How long the pilot runs.
const PILOT: Duration = Duration::from_secs(2);
/// How many more exchanges are prepared than the pilot's rate would need.
const MARGIN: f64 = 1.6;
/// How long to wait before a member that is not ready is asked again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How many proofs are verified at most.
const PROOFS: usize = 100;
/// What a database puts around a record, and a command around its evidence, roughly.
const FRAMING: usize = 512;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member is not there.
    #[error("{name} is not reached: {problem}; the bench wants all members")]
    Unreached {
        /// The member.
        name: String,
        /// What was found instead.
        problem: String,
    },
    /// A member is not ready.
    #[error("{name} is not ready: {problem}; the bench wants all members")]
    NotReady {
        /// The member.
        name: String,
        /// Why not, in its own words.
        problem: String,
    },
    /// No people can be certified.
    #[error(transparent)]
    People(#[from] people::Error),
    /// No exchange can be prepared.
    #[error(transparent)]
    Prepare(#[from] prepare::Error),
    /// The load failed.
    #[error(transparent)]
    Load(#[from] load::Error),
    /// A node did not tell how it is.
    #[error(transparent)]
    Watch(#[from] watch::Error),
    /// The operations can't be measured.
    #[error("measuring the cryptography: {0}")]
    Bound(#[from] bound::Error),
    /// The disk can't be measured.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// What the nodes gave does not hold.
    #[error("what the cluster gave does not hold: {0}")]
    Check(#[from] check::Error),
    /// Nothing was measured.
    #[error("no exchange was answered within {0:?}; give it more time")]
    Nothing(Duration),
    /// The runtime does not start, or a task of it ended early.
    #[error("the runtime: {0}")]
    Runtime(String),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many clients ask at once.
    pub clients: usize,
    /// For how long, or how many exchanges.
    pub until: Until,
    /// How long the load runs before the clock starts.
    pub warm_up: Duration,
    /// How many senders, and how many recipients.
    pub people: usize,
    /// Connections to each node.
    pub connections: usize,
    /// Whether an exchange ends with the proof.
    pub proof: bool,
    /// The folder of a CA that the cluster believes.
    pub ca: PathBuf,
    /// A folder on the nodes' disk.
    pub disk: Option<PathBuf>,
    /// How long to wait for a member to say how it is.
    pub patience: Duration,
}

/// When the clock stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// When so many exchanges are answered; there is no other warm-up than the pilot.
    Answered(usize),
}

/// What is told while it goes on: what is done, how much of it, and of how much.
pub type Progress = Arc<dyn Fn(&str, usize, usize) + Send + Sync>;

/// Runs the bench. Blocks.
pub fn run(
    options: &Options,
    operator: &Operator,
    trust: &Trust,
    progress: Progress,
) -> Result<Report, Error> {
    // One thread: the clients cost least so.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Runtime(error.to_string()))?;
    runtime.block_on(Bench::start(options, operator, trust, progress)?.report())
}

/// A bench that is set up.
struct Bench<'a> {
    options: &'a Options,
    operator: &'a Operator,
    trust: Arc<Trust>,
    people: Arc<People>,
    progress: Progress,
}

impl<'a> Bench<'a> {
    fn start(
        options: &'a Options,
        operator: &'a Operator,
        trust: &Trust,
        progress: Progress,
    ) -> Result<Self, Error> {
        let people = Arc::new(People::new(&options.ca, options.people, operator::now())?);
        Ok(Self { options, operator, trust: Arc::new(trust.clone()), people, progress })
    }

    async fn report(self) -> Result<Report, Error> {
        let view = self.trust.view();
        self.all_ready().await?;
        let watch = Watch::new(self.operator, view, self.options.patience)?;
        let nodes = Nodes::new(view, self.options.connections)?;

        let pilot = self.prepare(0, (self.options.clients * 8).max(500)).await?;
        let Some(example) = pilot.first() else { return Err(bound::Error::Nothing.into()) };
        let mut bound = bound::Bench::new(view, &self.people, example, operator::now())?;
        let record = example.nro.len() + example.nrr.len() + FRAMING;
        let mut syncs = self.measure(&mut bound, record)?;

        let (piloted, rate, mut again) = self.pilot(&nodes, &pilot).await?;
        let count = match self.options.until {
            Until::Answered(count) => count,
            Until::Elapsed(time) => {
                let seconds = (time + self.options.warm_up).as_secs_f64();
                (rate * MARGIN * seconds) as usize + 2 * self.options.clients
            }
        };
        let exchanges = self.prepare(pilot.len(), count).await?;

        let work = Work::new(&exchanges);
        let (people, clients, proof) = (&self.people, self.options.clients, self.options.proof);
        let load = async { nodes.run(people, &work, clients, proof).await.map_err(Error::from) };
        let (done, clock) = futures::future::try_join(load, self.watch(&watch, &work)).await?;
        again += work.again.get();

        syncs.extend(self.measure(&mut bound, record)?);
        bound.measure_tokens(sum::whole(clock.token_batch()))?;
        let checked = self.check(&nodes, (&pilot, &piloted), (&exchanges, &done)).await?;

        let answered = piloted.len() + done.len();
        let clock = Clock { stopped: self.last(&done, clock.stopped), ..clock };
        let counted: Vec<Done> =
            done.into_iter().filter(|done| done.at >= clock.started && done.at <= clock.stopped).collect();
        if counted.is_empty() {
            return Err(Error::Nothing(clock.stopped - clock.started));
        }
        let (sync, certificates) = (bound::median(&syncs), self.people.certificates());
        let seen = Seen { counted, answered, again, clock, checked, sync, certificates };
        Ok(sum::report(self.options, view, &seen, &bound))
    }

    /// Waits until every member is ready, at most as long as one may take to answer: there may be an election just now.
    async fn all_ready(&self) -> Result<(), Error> {
        let end = Instant::now() + self.options.patience;
        loop {
            match self.are_ready().await {
                Err(Error::NotReady { .. }) if Instant::now() < end => tokio::time::sleep(LOOK_AGAIN).await,
                ready => return ready,
            }
        }
    }

    async fn are_ready(&self) -> Result<(), Error> {
        for probe in status::probe(self.operator, self.trust.view(), self.options.patience).await {
            let name = probe.name;
            match probe.outcome {
                Err(problem) => return Err(Error::Unreached { name, problem }),
                Ok(answer) if !answer.status.ready => {
                    return Err(Error::NotReady { name, problem: answer.status.not_ready_because });
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    async fn prepare(&self, first: usize, count: usize) -> Result<Vec<Prepared>, Error> {
        let (people, trust, progress) =
            (Arc::clone(&self.people), Arc::clone(&self.trust), Arc::clone(&self.progress));
        // Beside the runtime, which keeps connections alive meanwhile.
        let work = move || {
            let done = |ready| {
                if ready % 64 == 0 || ready == count {
                    progress("sealing and signing", ready, count);
                }
            };
            prepare::prepare(&people, &trust, first, count, operator::now(), &done)
        };
        let made = tokio::task::spawn_blocking(work).await;
        Ok(made.map_err(|error| Error::Runtime(error.to_string()))??)
    }

    /// Gives what was done, how many a second, and how many calls were made again.
    async fn pilot(&self, nodes: &Nodes, exchanges: &[Prepared]) -> Result<(Vec<Done>, f64, u64), Error> {
        (self.progress)("trying", 0, 0);
        let work = Work::new(exchanges);
        let started = Instant::now();
        let end = async {
            tokio::select! {
                () = tokio::time::sleep(PILOT) => work.stop(),
                () = work.stopped() => {}
            }
            Ok(())
        };
        let load = nodes.run(&self.people, &work, self.options.clients, self.options.proof);
        let (done, ()) = futures::future::try_join(load, end).await?;
        let rate = done.len() as f64 / started.elapsed().as_secs_f64();
        Ok((done, rate, work.again.get()))
    }

    /// Measures the cryptography, and the disk if it is known.
    fn measure(&self, bound: &mut bound::Bench<'_>, record: usize) -> Result<Vec<f64>, Error> {
        (self.progress)("measuring single operations", 0, 0);
        bound.measure()?;
        match &self.options.disk {
            Some(folder) => Ok(disk::syncs(folder, record)?),
            None => Ok(Vec::new()),
        }
    }

    /// Starts the clock when the load is warm, and stops it and the load.
    async fn watch(&self, watch: &Watch, work: &Work<'_>) -> Result<Clock, Error> {
        let length = match self.options.until {
            Until::Elapsed(length) => {
                (self.progress)("warming up", 0, 0);
                tokio::time::sleep(self.options.warm_up).await;
                Some(length)
            }
            Until::Answered(_) => None,
        };
        let before = watch.look().await?;
        let (cpu, ticks) = (usage::cpu(), machine::Ticks::now());
        let started = match length {
            Some(_) => Instant::now(),
            None => before.iter().map(|look| look.at).min().unwrap_or_else(Instant::now),
        };
        let tick = async {
            let mut tick = tokio::time::interval(Duration::from_millis(500));
            loop {
                tick.tick().await;
                let (now, all) = (started.elapsed(), length.unwrap_or_default());
                (self.progress)("running", now.as_millis() as usize, all.as_millis() as usize);
            }
        };
        tokio::select! {
            () = work.stopped() => {}
            () = tokio::time::sleep(length.unwrap_or(Duration::MAX)) => {}
            () = tick => {}
        }
        let stopped = Instant::now();
        let cpu = usage::cpu() - cpu;
        let cores = sum::cores();
        let busy = ticks.zip(machine::Ticks::now()).map(|(before, now)| now.busy_since(before, cores));
        let after = watch.look().await?;
        work.stop();
        Ok(Clock { started, stopped, before, after, cpu, busy, resident: usage::resident_bytes() })
    }

    /// When the clock stops: with the last answer, if a number of exchanges was asked for.
    fn last(&self, done: &[Done], stopped: Instant) -> Instant {
        match self.options.until {
            Until::Elapsed(_) => stopped,
            Until::Answered(_) => done.iter().map(|done| done.at).max().unwrap_or(stopped),
        }
    }

    async fn check(
        &self,
        nodes: &Nodes,
        pilot: (&[Prepared], &[Done]),
        main: (&[Prepared], &[Done]),
    ) -> Result<report::Checked, Error> {
        let mut checked = report::Checked::default();
        for (exchanges, done) in [pilot, main] {
            (self.progress)("verifying tokens", 0, done.len());
            checked.tokens += check::tokens(&self.trust, exchanges, done)?;
        }
        let (exchanges, done) = main;
        let sample = done.iter().filter_map(|done| {
            let prepared = exchanges.get(done.place)?;
            Some((prepared, prepared.mail.as_deref()?))
        });
        let work = Work::new(&[]);
        for (prepared, mail) in sample.take(PROOFS) {
            (self.progress)("verifying proofs", checked.proofs, 0);
            let Some((sender, _)) = self.people.pair(prepared.number) else { continue };
            let parts = nodes.proof(&work, sender, prepared, &mut prepared.number.clone()).await?;
            check::proof(&self.trust, prepared, mail, parts)?;
            checked.proofs += 1;
        }
        Ok(checked)
    }
}
