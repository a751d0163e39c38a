//! A small generator whose whole state is in the snapshot.

use serde::{Deserialize, Serialize};

/// xoshiro256++ of Blackman and Vigna, <https://prng.di.unimi.it/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Random([u64; 4]);

impl Random {
    /// A stream of its own for every pair of seed and name.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
        let hash = hasher.finalize();
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
        }
        Self(words)
    }

    /// 64 even bits.
    #[inline]
    pub(super) const fn word(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let answer = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        answer
    }

    /// Of mean 1, as the gaps of a Poisson process are; at most 37.
    #[inline]
    pub(super) fn exponential(&mut self) -> f64 {
        // 53 bits, and never zero.
        -libm::log(((self.word() >> 11) + 1) as f64 / (1u64 << 53) as f64)
    }
}

/// A bell curve of mean 0 and deviation 1, cut off at 3.5: four even draws, added.
///
/// That it has no tails is wanted: a clean row must not look like an outlier. Fat tails come from
/// changing volatility and from jumps that take several rows.
#[inline]
pub(super) fn bell(word: u64) -> f64 {
    let sum = (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
    // Four draws from 0..=65_535: mean 2 x 65_535, variance (65_536^2 - 1) / 3.
    (sum as f64 - 131_070.0) * (1.732_050_807_568_877_2 / 65_536.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_and_deviation_they_claim() {
        let mut random = Random::new(1, "X");
        let count = 200_000;
        let (mut sum, mut squares, mut gaps) = (0.0, 0.0, 0.0);
        for _ in 0..count {
            let draw = bell(random.word());
            sum += draw;
            squares += draw * draw;
            gaps += random.exponential();
        }
        let count = f64::from(count);
        assert!((sum / count).abs() < 0.01, "mean {}", sum / count);
        assert!((squares / count - 1.0).abs() < 0.01, "variance {}", squares / count);
        assert!((gaps / count - 1.0).abs() < 0.01, "mean gap {}", gaps / count);
    }

    #[test]
    fn streams_differ_by_seed_and_by_name() {
        let first = |seed, name| Random::new(seed, name).word();
        assert_eq!(first(1, "A"), first(1, "A"));
        assert_ne!(first(1, "A"), first(2, "A"));
        assert_ne!(first(1, "A"), first(1, "B"));
    }
}
