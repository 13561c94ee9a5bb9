//! Senders and recipients at work, and the book in which they write what they saw.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fairpost::card::Card;
use fairpost::client::{Client, Disclosure, Error, Options, Outcome};
use fairpost::identity::Identity;
use fairpost::seal;
use fairpost::sealed_mail::SealedMail;
use fairpost_proto::ids::{ExchangeId, Protocol, Span, Verdict};
use fairpost_proto::threshold::Token;
use fairpost_proto::trust::Trust;
use fairpost_proto::verify;
use fairpost_tests::certified;
use fairpost_tests::history::{Answer, Event};
use fairpost_tests::world::World;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::progress::{Progress, count};

/// What was seen, by all clients.
pub(super) struct Book {
    trust: Trust,
    began: Instant,
    events: Mutex<Vec<Event>>,
    /// What each exchange is about, to ask again at the end.
    pub(super) begun: Mutex<BTreeMap<ExchangeId, Arc<Begun>>>,
    /// Told to whoever waits.
    pub(super) progress: Arc<Progress>,
}

/// An exchange that was begun.
pub(super) struct Begun {
    /// The sealed mail, as bytes.
    pub sealed: Vec<u8>,
    /// Who sent it.
    pub sender: Arc<Identity>,
    /// Who it is for.
    pub recipient: Arc<Identity>,
    /// What was asked first.
    pub operation: &'static str,
}

impl Book {
    pub(super) fn new(trust: Trust, progress: Arc<Progress>) -> Self {
        Self { trust, began: Instant::now(), events: Mutex::default(), begun: Mutex::default(), progress }
    }

    /// Milliseconds since the beginning.
    pub(super) fn millis(&self) -> u128 {
        self.began.elapsed().as_millis()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// What the cluster's public key says of an answer.
    pub(super) fn judge(&self, exchange: ExchangeId, verdict: Verdict, token: &[u8]) -> Answer {
        let valid = Token::parse(token).is_ok_and(|token| {
            let (key, cluster) = (self.trust.public_key(), self.trust.cluster());
            verify::check_token(&key, cluster, verdict, exchange, &token).is_ok()
        });
        Answer::Verdict { verdict, token: token.to_vec(), valid }
    }

    fn write(&self, exchange: ExchangeId, operation: &'static str, start: u128, answer: Answer) {
        count(&self.progress.operations);
        let end = self.millis();
        self.events.lock().unwrap().push(Event { exchange, operation, start, end, answer });
    }

    /// The longest time in which no client had an answer that proves itself.
    pub(super) fn longest_gap(&self, end: u128) -> Duration {
        let events = self.events();
        let proven =
            events.iter().filter(|event| matches!(event.answer, Answer::Verdict { .. } | Answer::Proof(_)));
        let mut ends: Vec<u128> =
            proven.map(|event| event.end).filter(|answered| *answered < end).chain([0, end]).collect();
        ends.sort_unstable();
        let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_millis(gaps.max().unwrap_or_default() as u64)
    }
}

/// One client: a sender and a recipient.
pub(super) struct Party {
    sender: Arc<Identity>,
    recipient: Arc<Identity>,
    trust: Trust,
    random: ChaCha8Rng,
}

impl Party {
    pub(super) fn new(world: &World, seed: u64) -> anyhow::Result<Self> {
        let ca = world.cluster.ca();
        let person = |address| certified(&ca, address, 365, fairpost::now()).map(Arc::new);
        Ok(Self {
            sender: person("sender@example.org")?,
            recipient: person("recipient@example.org")?,
            trust: world.cluster.trust.clone(),
            random: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// Works until it is over, and rests for `pause` between exchanges, more or less.
    pub(super) async fn work(
        mut self,
        book: Arc<Book>,
        over: Arc<AtomicBool>,
        pause: Duration,
    ) -> anyhow::Result<()> {
        while !over.load(Ordering::SeqCst) {
            let kind = self.random.gen_range(0..10);
            // Some deadlines pass while the exchange is under way.
            let lifetime = if kind < 3 { self.random.gen_range(1..5) } else { 3600 };
            let operation = ["redeem", "withdraw", "refuse"][usize::saturating_sub(kind, 7)];
            let mail = self.begin(&book, operation, Span::from_seconds(lifetime))?;
            let client = self.client()?;
            match kind {
                // Short deadlines: the sender asks beside it, until it has passed.
                0..3 => {
                    let asking = self.until_decided(&book, &client, &mail);
                    tokio::join!(self.ask(&book, &client, &mail, operation), asking);
                }
                // The recipient opens and the sender withdraws at once.
                3 => {
                    let withdrawing = self.ask(&book, &client, &mail, "withdraw");
                    tokio::join!(self.ask(&book, &client, &mail, operation), withdrawing);
                }
                _ => self.ask(&book, &client, &mail, operation).await,
            }
            self.ask(&book, &client, &mail, "proof").await;
            tokio::time::sleep((pause * 2).mul_f64(self.random.r#gen())).await;
        }
        Ok(())
    }

    fn client(&mut self) -> anyhow::Result<Client> {
        let first = Some(self.random.gen_range(0..self.trust.view().members().len()));
        let options = Options {
            first,
            attempt: Duration::from_secs(2),
            deadline: Duration::from_secs(10),
            ..Options::default()
        };
        Ok(Client::new(self.trust.clone(), options)?)
    }

    fn begin(&mut self, book: &Book, operation: &'static str, lifetime: Span) -> anyhow::Result<SealedMail> {
        let protocol = if self.random.r#gen() { Protocol::Cmp1 } else { Protocol::Cmp2 };
        let options = seal::Options { protocol, lifetime, now: fairpost::now() };
        let card = Card::parse(&self.recipient.card(fairpost::now())?)?;
        let (content, mut sealed) = (b"Subject: short\r\n\r\nA short mail.\r\n", Vec::new());
        seal::seal(&self.sender, &card, &self.trust, options, std::io::Cursor::new(content), &mut sealed)?;
        let mail = SealedMail::read(&sealed[..])?;
        let (sender, recipient) = (Arc::clone(&self.sender), Arc::clone(&self.recipient));
        let begun = Arc::new(Begun { sealed, sender, recipient, operation });
        book.begun.lock().unwrap().insert(mail.exchange(), begun);
        count(&book.progress.exchanges);
        Ok(mail)
    }

    async fn ask(&self, book: &Book, client: &Client, mail: &SealedMail, operation: &'static str) {
        ask(book, client, &self.sender, &self.recipient, mail, operation).await;
    }

    /// Asks until there is a verdict, past the deadline.
    async fn until_decided(&self, book: &Book, client: &Client, mail: &SealedMail) {
        let due = mail.terms().expires.plus(self.trust.view().parameters().grace);
        loop {
            let answer = ask(book, client, &self.sender, &self.recipient, mail, "status").await;
            if matches!(answer, Answer::Verdict { .. }) || fairpost::now() > due.plus(Span::from_seconds(2)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Asks, and writes down what came of it.
pub(super) async fn ask(
    book: &Book,
    client: &Client,
    sender: &Identity,
    recipient: &Identity,
    mail: &SealedMail,
    operation: &'static str,
) -> Answer {
    let (exchange, start) = (mail.exchange(), book.millis());
    let judged = |outcome: Outcome| book.judge(exchange, outcome.verdict, &outcome.token.to_bytes());
    let answer = match operation {
        "redeem" => client.redeem(recipient, mail).await.map(judged),
        "refuse" => client.refuse(recipient, mail).await.map(judged),
        "withdraw" => client.withdraw(sender, mail).await.map(judged),
        "status" => {
            client.status(sender, mail).await.map(|outcome| outcome.map_or(Answer::Undecided, judged))
        }
        _ => {
            let proof = Box::pin(client.proof(sender, mail, Disclosure::Content)).await;
            proof.map(|(_, report)| Answer::Proof(report.verdict))
        }
    };
    let answer = answer.unwrap_or_else(|error| match error {
        Error::Undecided => Answer::Undecided,
        Error::Rejected(rejection) => Answer::Rejected(rejection.to_string()),
        other => Answer::Failed(other.to_string()),
    });
    book.write(exchange, operation, start, answer.clone());
    answer
}
