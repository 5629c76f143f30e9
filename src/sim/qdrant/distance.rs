//! How near two vectors are.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// The measures that a collection may be made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Distance {
    Cosine,
    Dot,
    Euclid,
    Manhattan,
}

impl Distance {
    /// The score of a pair. Cosine expects vectors of length 1, as they are kept.
    pub(super) fn score(self, a: &[f32], b: &[f32]) -> f32 {
        let pairs = a.iter().zip(b);
        match self {
            Self::Cosine | Self::Dot => dot(a, b),
            Self::Euclid => pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt(),
            Self::Manhattan => pairs.map(|(a, b)| (a - b).abs()).sum(),
        }
    }

    /// Nearest first.
    pub(super) fn order(self, a: f32, b: f32) -> Ordering {
        match self {
            Self::Cosine | Self::Dot => b.total_cmp(&a),
            Self::Euclid | Self::Manhattan => a.total_cmp(&b),
        }
    }

    /// Whether a score is at least as near as the threshold.
    pub(super) fn reaches(self, score: f32, threshold: f32) -> bool {
        self.order(score, threshold) != Ordering::Greater
    }
}

/// Eight sums side by side, so that the compiler can use vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a_parts, b_parts) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_textbook() {
        let (a, b) = ([3.0, 4.0, 0.0], [0.0, 0.0, 0.0]);
        assert_eq!(Distance::Euclid.score(&a, &b), 5.0);
        assert_eq!(Distance::Manhattan.score(&a, &b), 7.0);
        assert_eq!(Distance::Dot.score(&a, &a), 25.0);
        let long: Vec<f32> = (0..19).map(|number| number as f32).collect();
        assert_eq!(Distance::Dot.score(&long, &long), 2109.0);
    }

    #[test]
    fn near_comes_first() {
        assert_eq!(Distance::Cosine.order(0.9, 0.1), Ordering::Less);
        assert_eq!(Distance::Euclid.order(0.9, 0.1), Ordering::Greater);
        assert!(Distance::Dot.reaches(0.5, 0.5) && !Distance::Dot.reaches(0.4, 0.5));
        assert!(Distance::Euclid.reaches(0.4, 0.5) && !Distance::Euclid.reaches(0.6, 0.5));
    }
}
