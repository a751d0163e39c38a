//! What is chosen on one stretch of the rows is judged on the next.
//!
//! ```text
//! rows   0 ─────────────────────────────────────────────────────────── n
//! fold 0 [──────── chosen on ────────)[─ judged on ─)
//! fold 1           [──────── chosen on ────────)[─ judged on ─)
//! fold 2                     [──────── chosen on ────────)[─ judged on ─)
//! ```
//!
//! R. Pardo, "The Evaluation and Optimization of Trading Strategies", 2nd edition (2008), chapter 11. The
//! stretches that are judged on follow each other without a gap and end with the data. Every run knows
//! only its own stretch: factors warm up on its first rows.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// One choice and its judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    /// The rows that the best is chosen on.
    pub chosen_on: Range<u64>,
    /// The rows that it is judged on.
    pub judged_on: Range<u64>,
}

/// `count` folds over `rows` rows, the first of which chooses on so many of a hundred of them, and each
/// after it on as many. Fewer, if there are not rows enough.
pub fn folds(rows: u64, count: u32, chosen_percent: u32) -> Vec<Fold> {
    let percent = u64::from(chosen_percent.clamp(1, 99));
    let count = u64::from(count.max(1)).min((rows / 4).max(1));
    let judged = rows * (100 - percent) / (100 * count);
    let chosen = rows.saturating_sub(judged * count);
    if judged == 0 || chosen == 0 {
        return Vec::new();
    }
    let fold = |at: u64| {
        let start = judged * at;
        let middle = start + chosen;
        Fold { chosen_on: start..middle, judged_on: middle..middle + judged }
    };
    (0..count).map(fold).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_fold_is_one_cut() {
        assert_eq!(folds(100, 1, 70), [Fold { chosen_on: 0..70, judged_on: 70..100 }]);
        let three = folds(1_000, 3, 70);
        assert_eq!(three[0], Fold { chosen_on: 0..700, judged_on: 700..800 });
        assert_eq!(three[2], Fold { chosen_on: 200..900, judged_on: 900..1_000 });
        assert!(folds(0, 3, 70).is_empty() && folds(1, 1, 50).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_judged_on_follows_what_was_chosen_on_and_reaches_the_end(
            rows in 4u64..100_000, count in 1u32..12, percent in 1u32..99,
        ) {
            let folds = folds(rows, count, percent);
            for fold in &folds {
                prop_assert!(!fold.chosen_on.is_empty() && !fold.judged_on.is_empty());
                prop_assert_eq!(fold.chosen_on.end, fold.judged_on.start);
            }
            for pair in folds.windows(2) {
                prop_assert_eq!(pair[0].judged_on.end, pair[1].judged_on.start);
            }
            if let Some(last) = folds.last() {
                prop_assert_eq!(last.judged_on.end, rows);
                prop_assert!(folds.len() <= count as usize);
            }
        }
    }
}
