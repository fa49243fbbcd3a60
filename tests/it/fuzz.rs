//! The seeds of the fuzz targets (`fuzz/`), and some mutations of each: a short run on every commit, always the same. A fuzzer
//! goes on from there (CONTRIBUTING.md).

use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// How many mutations of each seed are tried.
const MUTATIONS: u64 = 300;
/// The same for answers, each of which takes connections.
const ANSWER_MUTATIONS: u64 = 20;
/// Bytes that mean something somewhere.
const PIECES: [&[u8]; 20] = [
    b"${",
    b"}",
    b"\"",
    b"\\",
    b"{",
    b"[",
    b"]",
    b",",
    b":",
    b"\0",
    b"\r\n",
    b"\n",
    b"%",
    b"#",
    b"?",
    b"/",
    b"@",
    b"'",
    b"\xe2\x80\xae",
    b"0",
];

/// The seeds of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert!(files.len() >= 4, "{}", directory.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// A generator of numbers that is good enough to choose places: xorshift64 (Marsaglia, 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most.max(1) as u64).unwrap()
    }
}

/// Changes a few places of `bytes`: a piece more, some bytes fewer, a byte that is another, or a part twice.
fn mutated(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        let length = numbers.below(8).min(bytes.len() - at);
        match numbers.below(4) {
            0 => drop(bytes.splice(at..at, PIECES[numbers.below(PIECES.len())].iter().copied())),
            1 => drop(bytes.drain(at..at + length)),
            2 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            _ => {
                let again = bytes[at..at + length].to_vec();
                drop(bytes.splice(at..at, again));
            }
        }
    }
    bytes
}

/// Tries each seed and its mutations, and names the bytes if one of them does not hold.
fn tries(target: &str, mutations: u64, holds: fn(&[u8])) {
    let mut tried = 0;
    for seed in seeds(target) {
        let all = (0..=mutations).map(|number| match number {
            0 => seed.clone(),
            number => mutated(&seed, &mut Numbers(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        });
        for bytes in all {
            let held = std::panic::catch_unwind(|| holds(&bytes));
            assert!(held.is_ok(), "{target} does not hold for {:?}", String::from_utf8_lossy(&bytes));
            tried += 1;
        }
    }
    assert!(tried > 4 * mutations, "{tried}");
}

#[test]
fn whatever_an_action_file_holds_it_is_examined_and_what_passes_compiles() {
    tries("action_file", MUTATIONS, targets::action_file);
}

#[test]
fn whatever_a_call_holds_a_url_leads_where_its_template_says() {
    tries("url", MUTATIONS, targets::url);
}

#[test]
fn whatever_a_call_holds_it_adds_no_header_and_no_line() {
    tries("headers", MUTATIONS, targets::headers);
}

#[test]
fn whatever_a_call_holds_a_body_is_json() {
    tries("body", MUTATIONS, targets::body);
}

#[test]
fn whatever_is_answered_no_request_is_said_to_have_failed_and_no_answer_is_taken_for_another_s() {
    tries("answer", ANSWER_MUTATIONS, targets::answer);
}
