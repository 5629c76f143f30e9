//! What becomes of a vector's numbers. The same vector becomes the same, whenever it comes, as far as
//! the change is not `stale`.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::dice::{Dice, hash_bytes};

/// Vectors that are remembered.
const KEPT: usize = 64;
/// The seed of what is the same in every run: a cached vector, another model.
const FIXED: u64 = 0x6d6f_6465_6c32;
/// The largest number of 16 bits, and the smallest step between small ones.
const LARGEST_16: f64 = 65_504.0;
const STEP_16: f64 = 1.0 / 16_777_216.0;
/// Below this, numbers of 16 bits lose places.
const NORMAL_16: f64 = 1.0 / 16_384.0;

/// A change of a vector.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Change {
    Constant,
    /// None: one fewer.
    Dimensions(Option<usize>),
    Float16,
    Nan,
    Noise(f64),
    OtherModel,
    Scaled(f64),
    Stale,
    Zeros,
}

/// Vectors that came before.
#[derive(Debug, Default)]
pub(super) struct Stale {
    kept: VecDeque<Vec<f32>>,
}

impl Stale {
    /// The last vector of the same length that is not this one; this one is remembered.
    fn swap(&mut self, numbers: &[f64]) -> Option<Vec<f64>> {
        let this: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
        let fits = |kept: &&Vec<f32>| kept.len() == this.len() && **kept != this;
        let found = self.kept.iter().rfind(fits);
        let found = found.map(|kept| kept.iter().map(|number| f64::from(*number)).collect());
        if !self.kept.contains(&this) {
            self.kept.push_back(this);
            if self.kept.len() > KEPT {
                self.kept.pop_front();
            }
        }
        found
    }
}

/// The vector as it is to be; one that is not chosen is only remembered. An error says why it stays.
pub(super) fn changed(
    numbers: &[f64],
    change: Change,
    dice: &Dice,
    chosen: bool,
    stale: &Mutex<Stale>,
) -> Result<Vec<f64>, &'static str> {
    let earlier = match change {
        Change::Stale => stale.lock().swap(numbers),
        _ => None,
    };
    if !chosen {
        return Ok(Vec::new());
    }
    let fixed = Dice::from_seed(FIXED).fork_number(numbers.len() as u64);
    let new = match change {
        Change::Stale => earlier.ok_or("no vector of another text has been seen")?,
        Change::Zeros => vec![0.0; numbers.len()],
        Change::Nan => vec![f64::NAN; numbers.len()],
        Change::Constant => scaled(&direction(numbers.len(), fixed), length(numbers)),
        Change::Scaled(factor) => scaled(numbers, factor),
        Change::Float16 => numbers.iter().map(|number| rounded_16(*number)).collect(),
        Change::OtherModel => turned(numbers, fixed),
        Change::Noise(cosine) => noisy(numbers, cosine, of_vector(dice, numbers))?,
        Change::Dimensions(wanted) => {
            let wanted = wanted.unwrap_or(numbers.len() - 1);
            if wanted == 0 {
                return Err("the vector has one number alone");
            }
            let mut new = numbers.to_vec();
            new.resize(wanted, 0.0);
            new
        }
    };
    let same = |(new, old): (&f64, &f64)| *new as f32 == *old as f32;
    if new.len() == numbers.len() && new.iter().zip(numbers).all(same) {
        return Err("the vectors are like that already");
    }
    Ok(new)
}

/// The dice of one vector, by its numbers.
fn of_vector(dice: &Dice, numbers: &[f64]) -> Dice {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    dice.fork_number(hash_bytes(&bytes))
}

fn length(numbers: &[f64]) -> f64 {
    dot(numbers, numbers).sqrt()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn scaled(numbers: &[f64], factor: f64) -> Vec<f64> {
    numbers.iter().map(|number| number * factor).collect()
}

/// A random direction: a vector of length 1.
fn direction(dimensions: usize, mut dice: Dice) -> Vec<f64> {
    let drawn: Vec<f64> = (0..dimensions).map(|_| dice.normal()).collect();
    let long = length(&drawn);
    // All draws are 0 with no probability worth naming.
    scaled(&drawn, 1.0 / long.max(f64::MIN_POSITIVE))
}

/// As another model might have it: numbers in other places and with other signs, which leaves the
/// angles between vectors of that model what they are.
fn turned(numbers: &[f64], mut dice: Dice) -> Vec<f64> {
    let places = dice.shuffled(numbers.len());
    let sign = |dice: &mut Dice| if dice.bits() & 1 == 0 { 1.0 } else { -1.0 };
    places.into_iter().map(|place| numbers[place] * sign(&mut dice)).collect()
}

/// A vector of the same length in a direction whose cosine to the old one is this.
fn noisy(numbers: &[f64], cosine: f64, dice: Dice) -> Result<Vec<f64>, &'static str> {
    let long = length(numbers);
    if long == 0.0 || !long.is_finite() {
        return Err("the vector has no direction");
    }
    let old = scaled(numbers, 1.0 / long);
    let drawn = direction(numbers.len(), dice);
    let along = dot(&old, &drawn);
    let across: Vec<f64> = drawn.iter().zip(&old).map(|(new, old)| new - along * old).collect();
    let wide = length(&across);
    if wide < 1e-9 {
        return Err("the vector has too few numbers for another direction");
    }
    let sine = (1.0 - cosine * cosine).sqrt() / wide;
    let mixed = old.iter().zip(&across).map(|(old, across)| long * (cosine * old + sine * across));
    Ok(mixed.collect())
}

/// The nearest number of 16 bits (IEEE 754 binary16).
fn rounded_16(number: f64) -> f64 {
    let size = number.abs();
    if !number.is_finite() {
        return number;
    }
    // Eleven places of the number count; below the smallest normal one the steps are all alike.
    let step = if size < NORMAL_16 { STEP_16 } else { size.log2().floor().exp2() / 1024.0 };
    ((number / step).round_ties_even() * step).clamp(-LARGEST_16, LARGEST_16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn done(numbers: &[f64], change: Change) -> Result<Vec<f64>, &'static str> {
        changed(numbers, change, &Dice::from_seed(7), true, &Mutex::default())
    }

    fn cosine(a: &[f64], b: &[f64]) -> f64 {
        dot(a, b) / (length(a) * length(b))
    }

    #[test]
    fn each_change_does_what_it_says() {
        let vector = [0.6, 0.8, 0.0, 0.0];
        assert_eq!(done(&vector, Change::Zeros).unwrap(), [0.0; 4]);
        assert!(done(&vector, Change::Nan).unwrap().iter().all(|number| number.is_nan()));
        assert_eq!(done(&vector, Change::Scaled(10.0)).unwrap(), [6.0, 8.0, 0.0, 0.0]);
        assert_eq!(done(&vector, Change::Dimensions(None)).unwrap(), [0.6, 0.8, 0.0]);
        assert_eq!(done(&vector, Change::Dimensions(Some(6))).unwrap().len(), 6);
        assert!(done(&vector, Change::Dimensions(Some(4))).is_err());
        let constant = done(&vector, Change::Constant).unwrap();
        assert_eq!(constant, done(&[0.0, 1.0, 0.0, 0.0], Change::Constant).unwrap());
        assert!((length(&constant) - 1.0).abs() < 1e-9);
        assert!(done(&[0.0; 4], Change::Noise(0.5)).is_err());
        assert!(done(&[1.0], Change::Noise(0.5)).is_err());
    }

    #[test]
    fn another_model_keeps_its_own_angles() {
        let mut dice = Dice::from_seed(3);
        let one = direction(256, dice.fork("one"));
        let two: Vec<f64> = one.iter().map(|number| number + 0.02 * dice.normal()).collect();
        let turned = |vector: &[f64]| done(vector, Change::OtherModel).unwrap();
        assert!((cosine(&turned(&one), &turned(&two)) - cosine(&one, &two)).abs() < 1e-9);
        assert!(cosine(&turned(&one), &one).abs() < 0.3);
    }

    #[test]
    fn a_stale_vector_is_anothers() {
        let stale = Mutex::default();
        let dice = Dice::from_seed(1);
        let swap = |vector: &[f64]| changed(vector, Change::Stale, &dice, true, &stale);
        assert!(swap(&[1.0, 0.0]).is_err());
        assert!(swap(&[1.0, 0.0]).is_err(), "its own is not another's");
        assert_eq!(swap(&[0.0, 1.0]).unwrap(), [1.0, 0.0]);
        assert!(swap(&[0.0, 1.0, 0.0]).is_err(), "of another length");
    }

    #[test]
    fn sixteen_bits_are_rounded_as_they_are() {
        for (number, wanted) in [
            (0.1, 0.099_975_585_937_5),
            (1.0, 1.0),
            (-0.333_333_333, -0.333_251_953_125),
            (1e-8, 0.0),
            (6e-8, 5.960_464_477_539_063e-8),
            (1e6, 65_504.0),
        ] {
            assert_eq!(rounded_16(number), wanted, "{number}");
        }
    }

    proptest! {
        #[test]
        fn noise_reaches_its_cosine(
            numbers in prop::collection::vec(-1.0..1.0f64, 2..200), wanted in -0.99..0.99f64, seed in any::<u64>(),
        ) {
            prop_assume!(length(&numbers) > 1e-3);
            let dice = Dice::from_seed(seed);
            let found = changed(&numbers, Change::Noise(wanted), &dice, true, &Mutex::default());
            let Ok(new) = found else { return Ok(()) };
            // As they are sent: with 32 bits.
            let sent: Vec<f64> = new.iter().map(|number| f64::from(*number as f32)).collect();
            prop_assert!((cosine(&sent, &numbers) - wanted).abs() < 1e-3);
            prop_assert!((length(&sent) / length(&numbers) - 1.0).abs() < 1e-3);
            let again = changed(&numbers, Change::Noise(wanted), &dice, true, &Mutex::default());
            prop_assert_eq!(again.unwrap(), new);
        }
    }
}
