//! When the next session starts: a pure function of how many have started.
//!
//! Arrivals are those of a unit process, bent by the inverse of the integrated rate: a ramp is
//! followed exactly, with no steps, and what the answers do never moves an arrival.

use std::time::Duration;

use super::{Shape, Stage};
use crate::dice::Dice;

/// Gives the intended starts one after the other.
#[derive(Clone, Debug)]
pub struct Pacer {
    curve: Curve,
    shape: Shape,
    dice: Dice,
    /// The unit process so far: how many arrivals the rate must have summed up to by the next one.
    due: f64,
    /// Added to every start (negative: the process began before the run).
    shift: f64,
}

impl Pacer {
    /// A pacer whose rate is `scale` times that of the stages (1 over the mean number of turns, for
    /// sessions), drawn from the stream `arrivals`.
    pub fn new(stages: &[Stage], shape: Shape, scale: f64, seed: &Dice) -> Self {
        let curve = Curve::new(stages, scale);
        let dice = seed.fork("arrivals");
        Self { curve, shape, dice, due: 0.0, shift: 0.0 }.primed()
    }

    /// A pacer that has been going at its first rate for `before` when the run begins, so that the
    /// run starts in the middle of traffic. Starts before the run come out negative.
    pub(crate) fn already_going(mut self, before: Duration) -> Self {
        let rate = self.curve.at_start();
        if rate > 0.0 && !before.is_zero() {
            self.curve.pieces.insert(
                0,
                Piece {
                    from: rate,
                    to: rate,
                    over: before.as_secs_f64(),
                    area: rate * before.as_secs_f64(),
                },
            );
            self.shift = -before.as_secs_f64();
        }
        self
    }

    /// The next intended start in seconds since the run's start; None when no more come.
    pub(crate) fn next_seconds(&mut self) -> Option<f64> {
        let at = self.curve.when(self.due)?;
        self.due += match self.shape {
            Shape::Constant => 1.0,
            Shape::Poisson => self.dice.exponential(),
        };
        Some(at + self.shift)
    }

    /// The first arrival stands half a gap after the start (constant), so that any stretch of time
    /// has the count its rate says, or a whole random gap after it (Poisson).
    fn primed(mut self) -> Self {
        self.due = match self.shape {
            Shape::Constant => 0.5,
            Shape::Poisson => self.dice.exponential(),
        };
        self
    }
}

impl Iterator for Pacer {
    type Item = Duration;

    /// The next intended start since the run's start; None when no more come.
    fn next(&mut self) -> Option<Duration> {
        self.next_seconds().and_then(|at| Duration::try_from_secs_f64(at.max(0.0)).ok())
    }
}

/// A rate over time, and its integral the other way round.
#[derive(Clone, Debug)]
struct Curve {
    pieces: Vec<Piece>,
    /// The rate after the last piece.
    last: f64,
}

/// An even move of the rate.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: f64,
    to: f64,
    over: f64,
    /// Arrivals in it.
    area: f64,
}

impl Curve {
    fn new(stages: &[Stage], scale: f64) -> Self {
        let (mut pieces, mut rate) = (Vec::new(), 0.0);
        for stage in stages {
            let (to, over) = (stage.to * scale, stage.over.as_secs_f64());
            if over > 0.0 {
                pieces.push(Piece { from: rate, to, over, area: (rate + to) / 2.0 * over });
            }
            rate = to;
        }
        Self { pieces, last: rate }
    }

    fn at_start(&self) -> f64 {
        self.pieces.first().map_or(self.last, |piece| piece.from)
    }

    /// When the integral of the rate reaches `due`.
    fn when(&self, mut due: f64) -> Option<f64> {
        let mut start = 0.0;
        for piece in &self.pieces {
            if due < piece.area {
                return Some(start + piece.when(due));
            }
            due -= piece.area;
            start += piece.over;
        }
        (self.last > 0.0).then(|| start + due / self.last)
    }
}

impl Piece {
    /// Solves `from t + (to - from) t^2 / (2 over) = due`, in the form that loses no digits.
    fn when(&self, due: f64) -> f64 {
        if due <= 0.0 {
            return 0.0;
        }
        let slope = (self.to - self.from) / self.over;
        let root = self.from.mul_add(self.from, 2.0 * slope * due).max(0.0).sqrt();
        (2.0 * due / (self.from + root)).min(self.over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(to: f64, seconds: u64) -> Stage {
        Stage { to, over: Duration::from_secs(seconds) }
    }

    fn starts(stages: &[Stage], shape: Shape, until: f64) -> Vec<f64> {
        Pacer::new(stages, shape, 1.0, &Dice::from_seed(1))
            .map(|at| at.as_secs_f64())
            .take_while(|at| *at < until)
            .collect()
    }

    #[test]
    fn constant_arrivals_are_even() {
        let starts = starts(&[stage(5.0, 0)], Shape::Constant, 60.0);
        assert_eq!(starts.len(), 300);
        for pair in starts.windows(2) {
            assert!((pair[1] - pair[0] - 0.2).abs() < 1e-6);
        }
    }

    #[test]
    fn poisson_arrivals_have_their_rate_and_spread() {
        let starts = starts(&[stage(100.0, 0)], Shape::Poisson, 200.0);
        let n = starts.len() as f64;
        assert!((n - 20_000.0).abs() < 3.0 * 20_000f64.sqrt(), "{n}");
        let gaps: Vec<f64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let variation = spread.sqrt() / mean;
        assert!((variation - 1.0).abs() < 0.05, "coefficient of variation {variation}");
    }

    #[test]
    fn ramps_follow_the_integral() {
        // 0 to 10/s over 10 s, then down to 0 over 10 s: 50 arrivals on either side, none later.
        let starts = starts(&[stage(10.0, 10), stage(0.0, 10)], Shape::Constant, 1e9);
        assert_eq!(starts.len(), 100);
        assert_eq!(starts.iter().filter(|at| **at < 10.0).count(), 50);
        // The integral t^2/2 reaches 12.5 at t = 5.
        assert_eq!(starts.iter().filter(|at| **at < 5.0).count(), 12);
        let mirrored = 20.0 - starts[99];
        assert!((mirrored - starts[0]).abs() < 1e-6, "{mirrored} {}", starts[0]);
    }

    #[test]
    fn a_rate_of_nothing_ends() {
        assert_eq!(starts(&[stage(0.0, 0)], Shape::Poisson, 1e9).len(), 0);
        assert_eq!(starts(&[], Shape::Constant, 1e9).len(), 0);
    }

    #[test]
    fn same_seed_same_arrivals() {
        let stages = [stage(3.0, 0)];
        let of = |seed| {
            let pacer = Pacer::new(&stages, Shape::Poisson, 1.0, &Dice::from_seed(seed));
            pacer.take(50).collect::<Vec<_>>()
        };
        assert_eq!(of(42), of(42));
        assert_ne!(of(42), of(43));
    }

    #[test]
    fn traffic_may_have_begun_before_the_run() {
        let pacer = Pacer::new(&[stage(4.0, 0)], Shape::Constant, 0.5, &Dice::from_seed(1));
        let mut pacer = pacer.already_going(Duration::from_secs(10));
        let starts: Vec<f64> =
            std::iter::from_fn(|| pacer.next_seconds()).take_while(|at| *at < 10.0).collect();
        assert_eq!(starts.iter().filter(|at| **at < 0.0).count(), 20);
        assert_eq!(starts.iter().filter(|at| **at >= 0.0).count(), 20);
    }

    proptest::proptest! {
        #[test]
        fn starts_never_run_backwards(
            rates in proptest::collection::vec((0.0f64..500.0, 0u64..30), 1..6),
            poisson: bool,
        ) {
            let stages: Vec<Stage> = rates.iter().map(|(to, over)| stage(*to, *over)).collect();
            let shape = if poisson { Shape::Poisson } else { Shape::Constant };
            let mut last = 0.0;
            for at in Pacer::new(&stages, shape, 1.0, &Dice::from_seed(7)).take(2000) {
                let at = at.as_secs_f64();
                proptest::prop_assert!(at >= last && at.is_finite());
                last = at;
            }
        }
    }
}
