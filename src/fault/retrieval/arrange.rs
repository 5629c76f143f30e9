//! How the hits of a list are arranged anew. What a store would keep to is kept to: the list is sorted
//! by its scores (or distances), whatever has become of the hits.

use super::Lose;
use crate::dialect::{Arrangement, Listing};
use crate::dice::Dice;

/// Which hits there are, and in which order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Order {
    Fewer(Keep, Lose),
    None,
    Repeated(usize),
    Reversed,
    Shuffled,
}

/// How many hits are left.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Keep {
    Count(usize),
    Share(f64),
}

/// What becomes of the scores.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Scoring {
    Flat,
    Moved,
    Noise(f64),
}

/// What becomes of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Made {
    Changed(Arrangement),
    /// The list has no scores that could change.
    NoScores,
    /// It stays as it is: it has too few hits.
    Same,
}

/// The list arranged.
pub(super) fn made(
    listing: &Listing,
    order: Option<Order>,
    scoring: Option<Scoring>,
    dice: &Dice,
) -> Made {
    let old: Option<Vec<f64>> = listing.scores.iter().copied().collect();
    let old = old.filter(|old| !old.is_empty());
    let mut wanted = Arrangement::same(listing.rows);
    if let Some(order) = order {
        wanted.order = ordered(listing.rows, order, &mut dice.fork("order"));
    }
    let turned = matches!(order, Some(Order::Reversed | Order::Shuffled));
    match (scoring, &old) {
        (Some(Scoring::Flat | Scoring::Noise(_)), None) if listing.rows > 0 => {
            return Made::NoScores;
        }
        // Places keep their scores.
        (None, Some(old)) if turned && listing.rows > 1 => {
            let mut new = old.clone();
            wanted.order.iter().zip(old).for_each(|(row, score)| new[*row] = *score);
            wanted.scores = Some(new);
        }
        (Some(Scoring::Flat), Some(old)) if old.windows(2).any(|two| two[0] != two[1]) => {
            wanted.scores = Some(vec![old[0]; old.len()]);
        }
        (Some(Scoring::Noise(share)), Some(old)) => {
            let new = noisy(old, share, &dice.fork("noise"));
            let ascending = old.first() < old.last();
            wanted.order.sort_by(|a, b| {
                let nearer = new[*a].total_cmp(&new[*b]);
                if ascending { nearer } else { nearer.reverse() }
            });
            wanted.scores = Some(new);
        }
        _ => {}
    }
    if wanted == Arrangement::same(listing.rows) { Made::Same } else { Made::Changed(wanted) }
}

fn ordered(rows: usize, order: Order, dice: &mut Dice) -> Vec<usize> {
    match order {
        Order::None => Vec::new(),
        Order::Reversed => (0..rows).rev().collect(),
        Order::Shuffled => dice.shuffled(rows),
        Order::Repeated(copies) => (0..rows).map(|place| place / copies).collect(),
        Order::Fewer(keep, lose) => {
            let kept = match keep {
                Keep::Count(count) => count.min(rows),
                Keep::Share(share) => (rows as f64 * share).round() as usize,
            };
            match lose {
                Lose::Farthest => (0..kept).collect(),
                Lose::Nearest => (rows - kept..rows).collect(),
                Lose::Random => {
                    let mut any = dice.shuffled(rows);
                    any.truncate(kept);
                    any.sort_unstable();
                    any
                }
            }
        }
    }
}

/// Scores that have moved, within the bounds that they seem to have, as exact as stores give them.
fn noisy(old: &[f64], share: f64, dice: &Dice) -> Vec<f64> {
    let positive = old.iter().all(|score| *score >= 0.0);
    let unit = old.iter().all(|score| score.abs() <= 1.0);
    let moved = |(place, score): (usize, &f64)| {
        let mut new = score * (1.0 + share * dice.fork_number(place as u64).normal());
        if unit {
            new = new.clamp(-1.0, 1.0);
        }
        if positive {
            new = new.max(0.0);
        }
        // 32 bits, shortly written, as the stores do.
        (new as f32).to_string().parse().unwrap_or(new)
    };
    old.iter().enumerate().map(moved).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(scores: &[f64]) -> Listing {
        let scores: Vec<_> = scores.iter().map(|score| Some(*score)).collect();
        Listing { rows: scores.len(), scores, ids: Vec::new() }
    }

    fn order_of(order: Order, rows: usize) -> Vec<usize> {
        let listing = Listing { rows, scores: vec![None; rows], ids: Vec::new() };
        match made(&listing, Some(order), None, &Dice::from_seed(1)) {
            Made::Changed(wanted) => wanted.order,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hits_are_lost_doubled_and_turned() {
        assert_eq!(order_of(Order::None, 3), [0; 0]);
        assert_eq!(order_of(Order::Fewer(Keep::Count(2), Lose::Farthest), 5), [0, 1]);
        assert_eq!(order_of(Order::Fewer(Keep::Share(0.4), Lose::Nearest), 5), [3, 4]);
        let any = order_of(Order::Fewer(Keep::Count(3), Lose::Random), 9);
        assert!(any.len() == 3 && any.is_sorted());
        assert_eq!(order_of(Order::Repeated(2), 5), [0, 0, 1, 1, 2]);
        assert_eq!(order_of(Order::Reversed, 3), [2, 1, 0]);
        assert!(!order_of(Order::Shuffled, 2).is_sorted());
        let few = list(&[0.5]);
        for order in [Order::Reversed, Order::Shuffled, Order::Repeated(2)] {
            assert_eq!(made(&few, Some(order), None, &Dice::from_seed(1)), Made::Same, "{order:?}");
        }
    }

    #[test]
    fn places_keep_their_scores_unless_they_move() {
        let three = list(&[0.9, 0.5, 0.1]);
        let dice = Dice::from_seed(1);
        let Made::Changed(wanted) = made(&three, Some(Order::Reversed), None, &dice) else { panic!() };
        assert_eq!((wanted.order, wanted.scores), (vec![2, 1, 0], Some(vec![0.1, 0.5, 0.9])));
        let moved = made(&three, Some(Order::Reversed), Some(Scoring::Moved), &dice);
        let Made::Changed(wanted) = moved else { panic!() };
        assert_eq!(wanted.scores, None);
        let Made::Changed(wanted) = made(&three, None, Some(Scoring::Flat), &dice) else { panic!() };
        assert_eq!(wanted.scores, Some(vec![0.9; 3]));
        let bare = Listing { rows: 2, scores: vec![None; 2], ids: Vec::new() };
        assert_eq!(made(&bare, None, Some(Scoring::Flat), &dice), Made::NoScores);
    }

    proptest! {
        #[test]
        fn noise_leaves_a_list_sorted(
            mut scores in prop::collection::vec(0.0..1.0f64, 2..20), ascending in any::<bool>(), seed in any::<u64>(),
        ) {
            scores.sort_by(|a, b| if ascending { a.total_cmp(b) } else { b.total_cmp(a) });
            prop_assume!(scores.first() != scores.last());
            let noise = made(&list(&scores), None, Some(Scoring::Noise(0.5)), &Dice::from_seed(seed));
            let Made::Changed(wanted) = noise else { return Ok(()) };
            let new = wanted.scores.unwrap();
            let told: Vec<f64> = wanted.order.iter().map(|row| new[*row]).collect();
            let sorted = told.windows(2).all(|two| two[0] == two[1] || (two[0] < two[1]) == ascending);
            prop_assert!(sorted, "{:?}", told);
            prop_assert!(told.iter().all(|score| (0.0..=1.0).contains(score)));
        }
    }
}
