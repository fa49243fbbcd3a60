//! Random decisions that can be repeated, and the size of a test.

use std::env;

/// A source of random decisions for the test `name`. Its seed is printed; `POSTCALL_TEST_SEED` gives it again.
pub fn chance(name: &str) -> fastrand::Rng {
    let seed = match env::var("POSTCALL_TEST_SEED") {
        Ok(text) => text.parse().expect("POSTCALL_TEST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("{name}: POSTCALL_TEST_SEED={seed} makes the same decisions again");
    fastrand::Rng::with_seed(seed)
}

/// `usual` in an ordinary run, `long` where `scripts/torture --faults` asks for it.
pub fn sized(usual: usize, long: usize) -> usize {
    if env::var_os("POSTCALL_TORTURE").is_some() { long } else { usual }
}
