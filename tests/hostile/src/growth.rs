//! Inputs that grow: work and memory must grow with them no faster than they do.
//!
//! The time is the thread's own on a processor, so that a busy machine changes little, and ten times the input may take
//! forty times as long before that counts as more than linear. What is done with after a few milliseconds is fast enough
//! whatever the ratio.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Target;
use crate::cbor::{self, Edit, Node};

/// Less than this is not looked at.
const SHORT: Duration = Duration::from_millis(40);
/// So much longer than a tenth of the input may take.
const RATIO: u32 = 40;

/// Pieces that are repeated.
const PIECES: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"a",
    b"\n",
    b"\r",
    b" ",
    b"\x81",
    b"\x9f",
    b"\xa1\x00",
    b"\xd2",
    b"\x30\x80",
    b"\x0a\x80",
    b"[",
    b"(",
    b"{\"a\":",
    b"\\\"",
    b";a=b",
    b"a: b\n",
    b"a.",
    b"--b\n",
    b"-----BEGIN CERTIFICATE-----\n",
    b"-----BEGIN A-----\n-----END A-----\n",
    b"-> a b\n",
    b"\n\n--b\nContent-Type: multipart/mixed; boundary=b\n",
];

/// Checks all growing inputs of this target.
pub(crate) fn check(target: &Target) -> Result<(), String> {
    let longest = target.longest_input();
    for shape in shapes(target) {
        let (small, large) = (shape.make(longest / 10), shape.make(longest));
        for input in [&small, &large] {
            target.check(input).map_err(|fault| {
                format!("{}: {} bytes of {}: {fault}", target.name(), input.len(), shape.what)
            })?;
        }
        let slow = time(target, &large);
        // The best of some: a processor that was shared makes a short run look long.
        if slow > SHORT && best(target, &large) > best(target, &small) * RATIO {
            return Err(format!(
                "{}: {} bytes of {} take {:?}, {} bytes take {:?}: more than linear",
                target.name(),
                large.len(),
                shape.what,
                best(target, &large),
                small.len(),
                best(target, &small),
            ));
        }
    }
    Ok(())
}

fn best(target: &Target, input: &[u8]) -> Duration {
    (0..3).map(|_| time(target, input)).min().unwrap_or_default().max(Duration::from_micros(100))
}

fn time(target: &Target, input: &[u8]) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let began = now();
    target.work(input);
    now().saturating_sub(began)
}

struct Shape {
    what: String,
    make: Box<dyn Fn(usize) -> Vec<u8>>,
}

impl Shape {
    fn make(&self, length: usize) -> Vec<u8> {
        (self.make)(length)
    }
}

fn shapes(target: &Target) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = PIECES
        .iter()
        .map(|piece| Shape {
            what: format!("{:?}", String::from_utf8_lossy(piece)),
            make: Box::new(|length| repeated(piece, length)),
        })
        .collect();
    for (place, seed) in target.seeds().iter().take(2).cloned().enumerate() {
        let whole = seed.clone();
        shapes.push(Shape {
            what: format!("seed {place} again and again"),
            make: Box::new(move |length| repeated(&whole, length)),
        });
        let start = seed.clone();
        shapes.push(Shape {
            what: format!("seed {place} and zeros"),
            make: Box::new(move |length| [start.clone(), vec![0; length]].concat()),
        });
        let Some(tree) = cbor::parse(&seed) else {
            let (front, back) = seed.split_at(seed.len() / 2);
            let (front, back) = (front.to_vec(), back.to_vec());
            shapes.push(Shape {
                what: format!("the middle of seed {place}"),
                make: Box::new(move |length| [&front[..], &vec![b'A'; length], &back].concat()),
            });
            continue;
        };
        let count = tree.count();
        for item in (0..count).step_by(count.div_ceil(24)) {
            let tree = tree.clone();
            shapes.push(Shape {
                what: format!("item {item} of seed {place}"),
                make: Box::new(move |length| grown(tree.clone(), item, length)),
            });
        }
    }
    shapes
}

/// The tree with one item grown to about this length: a string longer, a list with its last item many times.
fn grown(mut tree: Node, item: usize, length: usize) -> Vec<u8> {
    if let Some(node) = tree.nth(item) {
        let each = match node {
            Node::List { items, .. } => items.last().map_or(1, |last| last.to_bytes().len()),
            _ => 1,
        };
        node.apply(&Edit::Resize(length / each.max(1)));
    }
    tree.to_bytes()
}

fn repeated(piece: &[u8], length: usize) -> Vec<u8> {
    piece.iter().copied().cycle().take(if piece.is_empty() { 0 } else { length }).collect()
}
