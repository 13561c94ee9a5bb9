//! Mails that nobody would write, and files that are none, given to the commands: through files and through pipes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fairpost_tests::{Cluster, Measured, Settings, binary, measure};

/// No command may hold more, however long the mail is.
const MEMORY: u64 = 64 << 20;

const SENDER: &str = "--identity @sender.id --cluster %cluster.trust";
const RECIPIENT: &str = "--identity @recipient.id --cluster %cluster.trust";

/// A folder with people's files, and the files of a cluster.
struct Desk {
    folder: tempfile::TempDir,
    cluster: PathBuf,
}

impl Desk {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A word with a leading @ is a file in this folder, one with a leading % in the cluster's.
    fn words(&self, line: &str) -> Vec<OsString> {
        let word = |word: &str| match word.split_at(1) {
            ("@", file) => self.path(file).into_os_string(),
            ("%", file) => self.cluster.join(file).into_os_string(),
            _ => OsString::from(word),
        };
        line.split_whitespace().map(word).collect()
    }

    fn run(&self, line: &str, input: &Path, output: &Path, pipes: bool) -> Measured {
        let ended = measure("fairpost", self.words(line), input, output, pipes).unwrap();
        assert!(!ended.err.contains("panicked"), "fairpost {line}: {}", ended.err);
        assert!(ended.peak < MEMORY, "fairpost {line} held {} MiB", ended.peak >> 20);
        ended
    }

    fn ok(&self, line: &str, input: &Path, output: &Path, pipes: bool) -> Measured {
        let ended = self.run(line, input, output, pipes);
        assert_eq!(ended.code, Some(0), "fairpost {line}: {}", ended.err);
        ended
    }

    /// The command without any input or output to speak of: its exit code, and what it says.
    fn said(&self, line: &str) -> (Option<i32>, String) {
        let ended = self.run(line, Path::new("/dev/null"), &self.path("out"), false);
        if ended.code != Some(0) {
            assert_eq!(
                fs::metadata(self.path("out")).unwrap().len(),
                0,
                "fairpost {line}: something on standard output"
            );
        }
        (ended.code, ended.err)
    }

    /// Seals the mail, shows it, opens it, and finds the same bytes.
    fn there_and_back(&self, what: &str, mail: &Path, pipes: bool) -> u64 {
        let (sealed, shown, opened) = (self.path("sealed.eml"), self.path("shown"), self.path("opened.eml"));
        let seal = self.ok(&format!("seal {SENDER} --to @recipient.card"), mail, &sealed, pipes);
        let show = self.ok(&format!("show {RECIPIENT}"), &sealed, &shown, pipes);
        let open = self.ok(&format!("open {RECIPIENT}"), &sealed, &opened, pipes);
        assert!(same(mail, &opened), "{what} comes back changed (pipes: {pipes})");
        seal.peak.max(show.peak).max(open.peak)
    }
}

/// Whether two files have the same bytes.
fn same(one: &Path, other: &Path) -> bool {
    let (mut one, mut other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = one.read(&mut left).unwrap();
        if count == 0 {
            return other.read(&mut right).unwrap() == 0;
        }
        if other.read_exact(&mut right[..count]).is_err() || left[..count] != right[..count] {
            return false;
        }
    }
}

fn strange_mails() -> Vec<(&'static str, Vec<u8>)> {
    let headers: String =
        (0..10_000).map(|n| format!("X-Header-{n}: {}\r\n", "value ".repeat(n % 9))).collect();
    let nested: String = (0..1000)
        .map(|level| format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"))
        .collect();
    vec![
        ("a mail of no bytes", vec![]),
        ("a mail of one byte", vec![b'\n']),
        ("10,000 headers", format!("From: a@example.org\r\n{headers}\r\nbody\r\n").into_bytes()),
        ("NULs in headers and body", b"Subject: \0\0\0\r\nX\0: y\r\n\r\n\0body\0\r\n\0".to_vec()),
        ("nothing but NULs", vec![0; 70_000]),
        ("8-bit headers and body", (0..=255_u8).cycle().take(100_000).collect()),
        ("line feeds alone", b"Subject: x\n\nbody\nbody\n\n\n".to_vec()),
        ("carriage returns alone", b"Subject: x\r\rbody\rbody\r".to_vec()),
        ("line ends the wrong way round", b"Subject: x\n\r\n\rbody\n\r".to_vec()),
        ("no header at all", b"body without a header".to_vec()),
        ("a header without an end", b"Subject: and then".to_vec()),
        (
            "broken MIME",
            b"Content-Type: multipart/mixed; boundary=\"\r\nContent-Transfer-Encoding: base64\r\n\r\n--\r\n=ZZ=\r\n--b--\r\n"
                .to_vec(),
        ),
        ("a line of a megabyte", [b"Subject: ".to_vec(), vec![b'x'; 1 << 20]].concat()),
        ("multiparts a thousand deep", nested.into_bytes()),
        ("what looks like a sealed part", b"FPSEAL1\n\0\0\0\x04aaaaage-encryption.org/v1\n".to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_mails_long_mails_and_no_mails_go_through_the_commands() {
    let cluster = Cluster::start(Settings::default()).await.unwrap();
    let desk = Desk { folder: tempfile::tempdir().unwrap(), cluster: cluster.path() };
    for party in ["sender", "recipient"] {
        desk.said(&format!("identity new {party}@example.org --out @{party}.id --ca %ca"));
        desk.ok(
            &format!("identity card @{party}.id"),
            Path::new("/dev/null"),
            &desk.path(&format!("{party}.card")),
            false,
        );
    }
    // All of it waits for processes, and nothing else is to do here.
    tokio::task::block_in_place(|| {
        come_back(&desk);
        a_long_mail(&desk);
        no_sealed_mails(&desk);
        no_files(&desk);
        closed_pipes(&desk);
        strange_surroundings(&desk);
    });
}

fn come_back(desk: &Desk) {
    let mail = desk.path("mail.eml");
    for (what, bytes) in strange_mails() {
        fs::write(&mail, &bytes).unwrap();
        for pipes in [false, true] {
            desk.there_and_back(what, &mail, pipes);
        }
    }
    // A sealed mail, sealed again.
    let again = desk.path("again.eml");
    fs::copy(desk.path("sealed.eml"), &again).unwrap();
    desk.there_and_back("a sealed mail", &again, true);
}

fn a_long_mail(desk: &Desk) {
    let mail = desk.path("long.eml");
    {
        let mut file = std::io::BufWriter::new(File::create(&mail).unwrap());
        let block: Vec<u8> = (0..1_000_003_u32).map(|place| (place % 251) as u8).collect();
        for _ in 0..157 {
            file.write_all(&block).unwrap();
        }
    }
    assert!(fs::metadata(&mail).unwrap().len() > 149 << 20);
    for pipes in [false, true] {
        let peak = desk.there_and_back("a mail of 150 MiB", &mail, pipes);
        assert!(peak > 1 << 20, "it was looked at");
        eprintln!("150 MiB, pipes {pipes}: {} MiB held", peak >> 20);
    }
    for name in ["long.eml", "sealed.eml", "opened.eml"] {
        fs::remove_file(desk.path(name)).unwrap();
    }
}

/// Garbage and what is left of sealed mails: an exit code that means something, and an error that names the file and what
/// is wrong with it.
fn no_sealed_mails(desk: &Desk) {
    fs::write(desk.path("mail.eml"), b"Subject: x\r\n\r\nbody\r\n").unwrap();
    let seal = format!("seal {SENDER} --to @recipient.card --bare @mail.eml");
    desk.ok(&seal, Path::new("/dev/null"), &desk.path("good"), false);
    let good = fs::read(desk.path("good")).unwrap();
    let age = good.windows(21).position(|window| window == b"age-encryption.org/v1").unwrap();
    let flipped = |place: usize| {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        bytes
    };
    let cases: Vec<(i32, Vec<u8>, &str)> = vec![
        (1, vec![], "found no sealed part"),
        (1, vec![0; 4096], "found no sealed part"),
        (1, (0..=255_u8).cycle().take(65_536).collect(), "found no sealed part"),
        (1, b"Subject: x\r\n\r\nno attachment".to_vec(), "found no sealed part"),
        (1, good[..4].to_vec(), "found no sealed part"),
        (4, good[..8].to_vec(), "the container ends"),
        (4, good[..100].to_vec(), "the container ends"),
        (4, good[..age].to_vec(), "was changed on the way"),
        (4, good[..good.len() - 1].to_vec(), "was changed on the way"),
        (4, [&good[..], b"\n"].concat(), "was changed on the way"),
        (4, flipped(9), "the container"),
        (4, flipped(14), "the sealed mail's header"),
        (4, flipped(age), "was changed on the way"),
        (4, [&b"FPSEAL1\n\xff\xff\xff\xff"[..], &good].concat(), "the container's header"),
    ];
    for (place, (code, bytes, words)) in cases.into_iter().enumerate() {
        fs::write(desk.path("bad"), &bytes).unwrap();
        for line in [
            "show @bad".to_owned(),
            format!("open {RECIPIENT} @bad"),
            format!("refuse {RECIPIENT} @bad"),
            format!("withdraw {SENDER} @bad"),
            format!("status {SENDER} @bad"),
            format!("proof {SENDER} @bad"),
        ] {
            let (found, err) = desk.said(&line);
            assert_eq!(found, Some(code), "case {place}, {line}: {err}");
            assert!(err.contains(words) && err.contains("bad"), "case {place}, {line}: {err}");
        }
        // As a proof it is none either.
        let (found, err) = desk.said("verify --cluster %cluster.trust @bad");
        assert_eq!(found, Some(4), "case {place}: {err}");
        assert!(err.contains("proof"), "case {place}: {err}");
    }
    // It never ends, and is given up.
    let (code, err) = desk.said("show /dev/zero");
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("a header of the mail is longer than"), "{err}");
}

/// Keys, cards, trust and proofs that are none, or never end.
fn no_files(desk: &Desk) {
    fs::write(
        desk.path("none"),
        b"\xff\xfe\0 -----BEGIN FAIRPOST CARD-----\n!\n-----END FAIRPOST CARD-----\n",
    )
    .unwrap();
    fs::set_permissions(desk.path("none"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (code, line, words) in [
        (
            1,
            "seal --identity @none --cluster %cluster.trust --to @recipient.card @mail.eml".to_owned(),
            "none",
        ),
        (1, "seal --identity @sender.id --cluster @none --to @recipient.card @mail.eml".to_owned(), "none"),
        (1, format!("seal {SENDER} --to @none @mail.eml"), "none"),
        (1, format!("seal {SENDER} --to /dev/zero @mail.eml"), "/dev/zero"),
        (1, format!("seal {SENDER} --to @recipient.card @nowhere"), "nowhere"),
        (
            1,
            "seal --identity @sender.id --cluster /dev/zero --to @recipient.card @mail.eml".to_owned(),
            "/dev/zero",
        ),
        (
            1,
            "seal --identity /dev/zero --cluster %cluster.trust --to @recipient.card @mail.eml".to_owned(),
            "/dev/zero",
        ),
        (1, "identity install @sender.id /dev/zero".to_owned(), "/dev/zero"),
        (1, "identity install @sender.id @none".to_owned(), "none"),
        (1, format!("open {RECIPIENT} @."), "Is a directory"),
        (4, "verify --cluster %cluster.trust /dev/zero".to_owned(), "the proof has"),
        (4, "verify --cluster %cluster.trust @none".to_owned(), "proof"),
        (1, "verify --cluster @none @none".to_owned(), "none"),
    ] {
        let (found, err) = desk.said(&line);
        assert_eq!(found, Some(code), "{line}: {err}");
        assert!(err.contains(words), "{line}: {err}");
        assert!(err.chars().all(|char| !char.is_control() || char == '\n'), "{line}: {err:?}");
    }
}

/// Nobody reads what is said: that is no reason to panic, and the mail is sealed all the same.
fn closed_pipes(desk: &Desk) {
    let seal = format!("seal {SENDER} --to @recipient.card --output @piped.eml @mail.eml");
    for line in [seal.as_str(), "show @piped.eml", "show @nowhere", "--help", "seel", "completions bash"] {
        for (out, err) in [(true, false), (false, true), (true, true)] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let closed =
                |closed: bool| if closed { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::piped() };
            let mut command = Command::new(binary("fairpost"));
            command.args(desk.words(line)).stdin(Stdio::null()).stdout(closed(out)).stderr(closed(err));
            let ended = fairpost_tests::ended(command.spawn().unwrap()).unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            let expected: &[i32] = match line {
                "show @nowhere" => &[1],
                "seel" => &[64],
                // Its output is all that it is for.
                "completions bash" => &[0, 1],
                _ => &[0],
            };
            let code = ended.status.code().unwrap_or(-1);
            assert!(expected.contains(&code), "{line}, closed {out} {err}: {code} {said}");
            assert!(!said.contains("panicked"), "{line}: {said}");
        }
    }
    assert!(desk.path("piped.eml").is_file());
}

/// Names and variables that are no UTF-8, and numbers that are too great.
fn strange_surroundings(desk: &Desk) {
    let run = |name: &str, words: Vec<OsString>, variable: (&str, OsString)| {
        let mut command = Command::new(binary(name));
        command.args(words).env(variable.0, variable.1).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = fairpost_tests::ended(command.spawn().unwrap()).unwrap();
        let err = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!err.contains("panicked"), "{name}, {}: {err}", variable.0);
        (ended.status.code(), err)
    };
    let odd = || OsString::from_vec(b"\xff\xfe\x1b[2J".to_vec());
    let (code, err) = run("fairpost", vec!["show".into(), odd()], ("NOTHING", "".into()));
    assert_eq!(code, Some(1), "{err}");
    let (code, err) = run("fairpost", desk.words("show @piped.eml"), ("FAIRPOST_CLUSTER", odd()));
    assert_eq!(code, Some(1), "{err}");
    let open = desk.words(&format!("open {RECIPIENT} @piped.eml"));
    let (code, err) = run("fairpost", open, ("FAIRPOST_TIMEOUT", "99999999999999999999d".into()));
    assert_eq!(code, Some(64), "{err}");

    let config = || desk.words("config show --config %n1/fairpostd.toml");
    for (variable, value) in [
        ("FAIRPOSTD_RAFT__HEARTBEAT_MILLIS", "18446744073709551615"),
        ("FAIRPOSTD_RAFT__HEARTBEAT_MILLIS", "-1"),
        ("FAIRPOSTD_LIMITS__BATCH", "18446744073709551615"),
        ("FAIRPOSTD_LIMITS__BATCH", "[[[[[[[[{"),
        ("FAIRPOSTD_LISTEN", "nowhere:99999"),
        ("FAIRPOSTD_RAFT", "{a=1"),
    ] {
        let (code, err) = run("fairpostctl", config(), (variable, value.into()));
        assert_eq!(code, Some(1), "{variable}={value}: {err}");
    }
    let (_, err) = run("fairpostctl", config(), ("FAIRPOSTD_RAFT__HEARTBEAT_MILLIS", odd()));
    assert!(!err.contains("panicked"), "{err}");
}
