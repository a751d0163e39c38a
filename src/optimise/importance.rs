//! Which parameter mattered: the share of the scores' variance that each explains by itself.
//!
//! Trials are sorted by the parameter and cut into bins of equal counts; trials of one value stay in one
//! bin. The share is ε², the variance between bins over the whole, less what bins of pure noise would
//! show: T. Kelley, "An Unbiased Correlation Ratio Measure", PNAS 21 (1935). That is the first-order
//! index of Sobol (1993), estimated from trials that are there anyway. *Its limits:* what two parameters
//! do only together counts for neither, so shares need not add up to 1; and trials of a search that
//! learns crowd where scores are high, so it tells what mattered there.

/// The most bins.
const BINS: usize = 10;

/// The share that each dimension explains of `scores`, from 0 to 1; `units` are the points in the unit
/// cube, in the same order.
pub fn importance(units: &[Vec<f64>], scores: &[f64]) -> Vec<f64> {
    let dimensions = units.first().map_or(0, Vec::len);
    (0..dimensions).map(|at| of_dimension(units.iter().map(|unit| unit[at]), scores)).collect()
}

fn of_dimension(units: impl Iterator<Item = f64>, scores: &[f64]) -> f64 {
    let mut pairs: Vec<(f64, f64)> = units.zip(scores.iter().copied()).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = pairs.len();
    let bins_max = BINS.min(count / 5).max(1);
    let mut bins: Vec<Vec<f64>> = Vec::new();
    for (at, &(unit, score)) in pairs.iter().enumerate() {
        let is_same = at > 0 && pairs[at - 1].0 == unit;
        let is_full = bins.len() * count <= at * bins_max;
        match bins.last_mut() {
            Some(bin) if is_same || !is_full => bin.push(score),
            _ => bins.push(vec![score]),
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let whole = scores.iter().take(count).copied().collect::<Vec<f64>>();
    let middle = mean(&whole);
    let total: f64 = whole.iter().map(|score| (score - middle).powi(2)).sum();
    let groups = bins.len();
    if groups < 2 || count <= groups || total <= 0.0 {
        return 0.0;
    }
    let within: f64 = bins
        .iter()
        .map(|bin| {
            let middle = mean(bin);
            bin.iter().map(|score| (score - middle).powi(2)).sum::<f64>()
        })
        .sum();
    let noise = within / (count - groups) as f64;
    let explained = total - within - (groups - 1) as f64 * noise;
    (explained / total).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimise::Random;

    #[test]
    fn what_decides_the_score_is_told_from_what_does_not() {
        let mut random = Random::new(5, 0);
        let units: Vec<Vec<f64>> =
            (0..400).map(|_| (0..3).map(|_| random.unit()).collect()).collect();
        let score = |unit: &Vec<f64>| -(unit[0] - 0.3).powi(2) * 10.0 + unit[1] * 0.3;
        let scores: Vec<f64> = units.iter().map(score).collect();
        let found = importance(&units, &scores);
        assert!(found[0] > 0.9 && found[1] > 0.001 && found[1] < 0.1, "{found:?}");
        assert!(found[2] < 0.03, "{found:?}");
    }

    #[test]
    fn noise_explains_nothing_and_values_of_a_list_are_not_cut() {
        let mut random = Random::new(6, 0);
        let units: Vec<Vec<f64>> = (0..300).map(|at| vec![f64::from(at % 2)]).collect();
        let noise: Vec<f64> = units.iter().map(|_| random.normal()).collect();
        assert!(importance(&units, &noise)[0] < 0.03);
        let scores: Vec<f64> = units.iter().map(|unit| unit[0]).collect();
        assert_eq!(importance(&units, &scores), [1.0]);
        assert_eq!(importance(&units, &vec![2.0; 300]), [0.0]);
        assert!(importance(&[], &[]).is_empty());
    }
}
