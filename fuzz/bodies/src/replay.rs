//! A body without a fuzzer: over all of its seeds, thousands of changed ones and bytes drawn at random.
//!
//! Owns: which inputs an ordinary test tries, the same in every run. Must not know any body.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const CHANGED: usize = 4_000;
const DRAWN: usize = 4_000;
/// As in `scripts/fuzz`.
const MAX_LEN: usize = 4_096;
/// What bytes drawn at random would hardly ever spell.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "\\ud800",
    "\u{e9}",
    "\n",
    "{\"",
    "\":[",
    "\"now-1d\"",
    "\"\"",
    "\0",
    "=",
    ".",
    "'''",
];

/// Fails with the input that makes `body` panic. The seeds are those of `target`.
pub fn replay(target: &str, body: fn(&[u8])) {
    let seeds = read_seeds(target);
    assert!(!seeds.is_empty(), "no seeds for {target}");
    for seed in &seeds {
        run(target, body, seed);
    }
    let mut rng = StdRng::seed_from_u64(54);
    for _ in 0..DRAWN {
        let input: Vec<u8> = (0..rng.random_range(0..512)).map(|_| rng.random()).collect();
        run(target, body, &input);
    }
    for _ in 0..CHANGED {
        let mut input = pick(&mut rng, &seeds).clone();
        for _ in 0..rng.random_range(1..=8) {
            change(&mut rng, &mut input, &seeds);
        }
        input.truncate(MAX_LEN);
        run(target, body, &input);
    }
}

/// In the order of their names, so that every machine makes the same changes.
fn read_seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder of seeds")
        .map(|entry| entry.expect("a seed").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect()
}

fn run(target: &str, body: fn(&[u8]), input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| body(input))).is_err() {
        panic!("{target} fails on b\"{}\"", input.escape_ascii());
    }
}

fn pick<'a, T>(rng: &mut StdRng, items: &'a [T]) -> &'a T {
    &items[rng.random_range(0..items.len())]
}

fn change(rng: &mut StdRng, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = rng.random_range(0..=input.len());
    let end = rng.random_range(at..=input.len().min(at + 32));
    match rng.random_range(0..6) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => drop(input.splice(at..end, pick(rng, TOKENS).bytes())),
        3 => drop(input.splice(at..at, input[at..end].to_vec())),
        4 => {
            let other = pick(rng, seeds);
            let from = rng.random_range(0..=other.len());
            let to = rng.random_range(from..=other.len());
            drop(input.splice(at..end, other[from..to].iter().copied()));
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rng.random();
            }
        }
    }
}
