//! A run for each of many seeds, or all that happens in the run of one.

/// Seeds that are run unless told otherwise.
pub(crate) const SEEDS: u64 = 1_000;

/// What one seed made happen.
pub(crate) struct Ran {
    /// What was to happen, in words.
    pub(crate) scenario: String,
    /// What happened, if that was to be told.
    pub(crate) log: Vec<String>,
    /// Which property broke, if one did.
    pub(crate) result: Result<(), String>,
}

/// How many seeds are run, from `TICKWRIGHT_SEEDS_FROM` on.
pub(crate) fn count() -> u64 {
    number("TICKWRIGHT_SEEDS").unwrap_or(SEEDS)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Runs every seed that belongs to the share `(which, of)`: several tests share them, so that several
/// processors are at work. A single seed that is told runs with its events told, in the first share.
/// Returns how many were run; none, if a single one was told.
pub(crate) fn run_share(
    test: &str,
    (which, of): (u64, usize),
    mut run: impl FnMut(u64, bool) -> Ran,
) -> Option<usize> {
    if let Some(seed) = number("TICKWRIGHT_SEED") {
        if which == 0 {
            let Ran { scenario, log, result } = run(seed, true);
            println!("{scenario}\n{}", log.join("\n"));
            result.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        }
        return None;
    }
    let mut failed = Vec::new();
    let from = number("TICKWRIGHT_SEEDS_FROM").unwrap_or(0);
    let seeds = (from + which..from + count()).step_by(of);
    let ran = seeds.clone().count();
    for seed in seeds {
        if let Err(broken) = run(seed, false).result {
            println!("seed {seed}: {broken}");
            println!(
                "  again: TICKWRIGHT_SEED={seed} cargo test -p tickwright-core --test {test} -- --nocapture"
            );
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "{} of {ran} seeds failed: {failed:?}", failed.len());
    Some(ran)
}
