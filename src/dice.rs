//! Seeded randomness: a tree of 64-bit streams, forked by label, the only user of `rand`.
//!
//! A decision is drawn from the stream of (seed, fault, exchange key, ordinal): it depends on what
//! an exchange is, never on when it came. The generator is our own and named in every result, so a
//! replay holds over dependency updates.

use std::f64::consts::TAU;

use rand::Rng as _;

/// The name of the generator, written into every result file.
pub const ALGORITHM: &str = "splitmix64-tree/1";

/// A stream of random numbers; forks are independent of each other and of draws made before.
#[derive(Clone, Debug)]
pub struct Dice {
    /// Identifies the stream; forks derive from it alone.
    root: u64,
    state: u64,
}

impl Dice {
    /// The root stream of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let root = mix(seed ^ 0x6272_6f77_6e6f_7574);
        Self { root, state: root }
    }

    /// A seed nobody chose, for runs that name none; printed so that the run can be repeated.
    #[expect(clippy::disallowed_methods, reason = "the one place where chance is wanted")]
    pub fn fresh_seed() -> u64 {
        u64::from(rand::rng().next_u32())
    }

    /// The stream that belongs to a label below this one.
    pub fn fork(&self, label: &str) -> Self {
        self.fork_number(hash_bytes(label.as_bytes()))
    }

    /// The stream that belongs to a number below this one.
    #[inline]
    pub fn fork_number(&self, number: u64) -> Self {
        let root = mix(self.root.rotate_left(23) ^ mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15)));
        Self { root, state: root }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number in `[0, 1)` with 53 random bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in `[low, high)`; `low` when the range is empty.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low).max(0.0) * self.unit()
    }

    /// A whole number in `[low, high]`; `low` when the range is empty.
    pub fn whole(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low + ((u128::from(self.bits()) * u128::from(span)) >> 64) as u64
    }

    /// The whole numbers below `count` in a random order that is never the natural one, if there are
    /// two or more.
    pub fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            order.swap(last, self.whole(0, last as u64) as usize);
        }
        if count > 1 && order.is_sorted() {
            order.rotate_left(1);
        }
        order
    }

    /// A draw from the standard normal distribution (Box–Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    /// A draw from the exponential distribution with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

/// Hashes bytes to 64 bits (FNV-1a, finished by the splitmix mixer); stable for ever.
pub const fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut fnv = 0xcbf2_9ce4_8422_2325_u64;
    let mut rest = bytes;
    while let [byte, behind @ ..] = rest {
        fnv = (fnv ^ *byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        rest = behind;
    }
    mix(fnv)
}

/// The splitmix64 finaliser (Steele, Lea, Flood 2014).
#[inline]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned_for_ever() {
        let mut dice = Dice::from_seed(42).fork("storm").fork_number(7);
        let drawn: Vec<u64> = (0..3).map(|_| dice.bits()).collect();
        assert_eq!(drawn, PINNED);
    }

    const PINNED: [u64; 3] =
        [8_895_086_658_630_608_241, 13_328_417_634_193_379_263, 4_462_257_255_564_701_268];

    #[test]
    fn draws_do_not_move_forks() {
        let mut dice = Dice::from_seed(1);
        let before = dice.fork("a").bits();
        dice.bits();
        assert_eq!(before, dice.fork("a").bits());
        assert_ne!(before, dice.fork("b").bits());
    }

    #[test]
    fn units_are_uniform() {
        let root = Dice::from_seed(9);
        let n = 20_000;
        let mean = (0..n).map(|i| root.fork_number(i).unit()).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
        let normal = (0..n).map(|i| root.fork_number(i).normal()).sum::<f64>() / n as f64;
        assert!(normal.abs() < 0.03, "mean {normal}");
    }

    #[test]
    fn nothing_is_lost_in_shuffling() {
        for count in 0..9 {
            let mut order = Dice::from_seed(count as u64).shuffled(count);
            assert!(count < 2 || !order.is_sorted());
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn whole_numbers_stay_in_range() {
        let mut dice = Dice::from_seed(3);
        for _ in 0..1000 {
            assert!((2..=6).contains(&dice.whole(2, 6)));
        }
        assert_eq!(dice.whole(5, 5), 5);
    }
}
