//! Proofs that are damaged in as many ways as come to mind.

use fairpost_proto::cbor::{Reader, Writer};

/// A proof, and the sealed part that it is about.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) proof: Vec<u8>,
    pub(super) mail: Vec<u8>,
}

/// How many bits are flipped in each proof.
const FLIPS: usize = 130;

/// The proofs as they are, and damaged.
pub(super) fn all(whole: &[Case]) -> Vec<Case> {
    let mut cases = whole.to_vec();
    for (case, other) in whole.iter().zip(whole.iter().cycle().skip(1)) {
        let mut add = |what: String, proof: Vec<u8>| {
            cases.push(Case { name: format!("{}-{what}", case.name), proof, mail: case.mail.clone() });
        };
        let step = (case.proof.len() / FLIPS).max(1);
        for (turn, place) in (0..case.proof.len()).step_by(step).enumerate() {
            let mut proof = case.proof.clone();
            proof[place] ^= 1 << (turn % 8);
            add(format!("flipped-{place}"), proof);
        }
        add("empty".into(), vec![]);
        add("cut".into(), case.proof[..case.proof.len() - 1].to_vec());
        add("trailing".into(), [&case.proof[..], &[0]].concat());
        for (what, parts) in parts(&Parts::read(&case.proof), &Parts::read(&other.proof)) {
            add(what, parts.write());
        }
        let mails = [
            ("other", other.mail.clone()),
            ("cut", case.mail[..case.mail.len() - 1].to_vec()),
            ("trailing", [&case.mail[..], &[0]].concat()),
            ("without-container", case.mail[12..].to_vec()),
            ("empty", vec![]),
        ];
        for (what, mail) in mails {
            cases.push(Case { name: format!("{}-mail-{what}", case.name), mail, ..case.clone() });
        }
    }
    cases
}

/// A proof, taken apart.
#[derive(Clone)]
struct Parts {
    tag: String,
    /// Keys 1 to 6.
    values: Vec<Option<Vec<u8>>>,
}

const NAMES: [&str; 6] = ["trust", "nro", "evidence", "certificate", "token", "lock"];
const CERTIFICATE: usize = 3;

impl Parts {
    fn read(proof: &[u8]) -> Self {
        let mut reader = Reader::new(proof);
        let mut map = reader.map().unwrap();
        map.key(&mut reader, 0).unwrap();
        let tag = reader.text("the tag", 64).unwrap().to_owned();
        let value = |key| {
            map.key(&mut reader, key).unwrap();
            reader.bytes_or_null().unwrap().map(<[u8]>::to_vec)
        };
        Self { tag, values: (1..=6).map(value).collect() }
    }

    fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(7).uint(0).text(&self.tag);
        for (key, value) in (1..).zip(&self.values) {
            writer.uint(key).bytes_or_null(value.as_deref());
        }
        writer.finish()
    }

    fn with(&self, place: usize, value: Option<Vec<u8>>) -> Self {
        let mut changed = self.clone();
        changed.values[place] = value;
        changed
    }

    fn certificate(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let bytes = self.values[CERTIFICATE].as_ref().unwrap();
        let mut reader = Reader::new(bytes);
        let mut map = reader.map().unwrap();
        map.key(&mut reader, 0).unwrap();
        let leaf = reader.bytes().unwrap().to_vec();
        map.key(&mut reader, 1).unwrap();
        let count = reader.array("the votes", 64).unwrap();
        (leaf, (0..count).map(|_| reader.bytes().unwrap().to_vec()).collect())
    }

    fn with_votes(&self, leaf: &[u8], votes: &[Vec<u8>]) -> Self {
        let mut writer = Writer::new();
        writer.map(2).uint(0).bytes(leaf).uint(1).array(votes.len());
        for vote in votes {
            writer.bytes(vote);
        }
        self.with(CERTIFICATE, Some(writer.finish()))
    }
}

/// Each part of a proof spoiled or taken from another one.
fn parts(good: &Parts, other: &Parts) -> Vec<(String, Parts)> {
    let mut found = Vec::new();
    for (place, name) in NAMES.into_iter().enumerate() {
        let mut add = |what: &str, value| found.push((format!("{name}-{what}"), good.with(place, value)));
        add("null", None);
        add("empty", Some(vec![]));
        add("other", other.values[place].clone());
        if let Some(value) = &good.values[place] {
            add("cut", Some(value[..value.len() - 1].to_vec()));
            add("trailing", Some([&value[..], &[0]].concat()));
            // The last bit is a signature's, a token's or a lock's.
            add("last-bit", Some([&value[..value.len() - 1], &[value[value.len() - 1] ^ 1]].concat()));
        }
    }
    for (name, tag) in
        [("verdict", "fairpost/proof/v1"), ("fraud", "fairpost/fraud/v1"), ("v2", "fairpost/proof/v2")]
    {
        found.push((format!("claim-{name}"), Parts { tag: tag.into(), ..good.clone() }));
    }
    let ((leaf, votes), (other_leaf, other_votes)) = (good.certificate(), other.certificate());
    let mut add = |what: &str, leaf: &[u8], votes: &[Vec<u8>]| {
        found.push((format!("votes-{what}"), good.with_votes(leaf, votes)));
    };
    for dropped in 0..votes.len() {
        let rest = votes.iter().enumerate().filter(|(place, _)| *place != dropped);
        let rest: Vec<_> = rest.map(|(_, vote)| vote.clone()).collect();
        add(&format!("without-{dropped}"), &leaf, &rest);
        let twice = [&rest[..1], &rest[..]].concat();
        add(&format!("without-{dropped}-first-twice"), &leaf, &twice);
    }
    let reversed: Vec<_> = votes.iter().rev().cloned().collect();
    add("reversed", &leaf, &reversed);
    add("none", &leaf, &[]);
    add("two", &leaf, &votes[..2]);
    add("other", &leaf, &other_votes);
    add("leaf-other", &other_leaf, &votes);
    add("both-other", &other_leaf, &other_votes);
    found
}
