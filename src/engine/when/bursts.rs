//! Failures that come in bursts: two states, good and bad, with a percent each (Gilbert 1960, Elliott
//! 1963).

use parking_lot::Mutex;

use crate::dice::Dice;

/// Two states that take turns. How long each one lasts is random, with these means.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bursts {
    /// The mean stay in the good state, in seconds or requests.
    pub good: f64,
    /// The mean stay in the bad state.
    pub bad: f64,
    pub by: By,
    /// The percent (0 to 100) while good.
    pub percent_good: f64,
    /// The percent while bad.
    pub percent_bad: f64,
}

/// What moves from one state to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The number of the request among those that fit.
    Requests,
    /// The time since the fault was armed.
    Time,
}

/// The states are drawn for a stretch of so many mean cycles at once. Each stretch begins in a state
/// of its own, drawn as often good as the two means say; so any moment can be asked without walking
/// there from the start, and stays are cut short once in so many cycles.
const CYCLES: f64 = 64.0;
/// More changes than any stretch has.
const MOST_CHANGES: usize = 4096;

/// The stretch asked about last, to be asked about again.
#[derive(Debug, Default)]
pub(super) struct Walked(Mutex<Option<Stretch>>);

#[derive(Debug)]
struct Stretch {
    /// Which dice, which means, and the number of the stretch.
    key: (u64, u64, u64),
    /// The state at its start.
    begins_bad: bool,
    /// When the state changes, from its start.
    changes: Vec<f64>,
}

impl Walked {
    /// Which share (0 to 1) of the percent counts at this place.
    pub(super) fn share(&self, bursts: &Bursts, dice: &Dice, place: f64) -> f64 {
        let percent = match self.is_bad(bursts, dice, place) {
            true => bursts.percent_bad,
            false => bursts.percent_good,
        };
        percent / 100.0
    }

    fn is_bad(&self, bursts: &Bursts, dice: &Dice, place: f64) -> bool {
        let dice = dice.fork("bursts");
        let length = stretch_length(bursts);
        let number = (place / length) as u64;
        let key = (dice.clone().bits(), length.to_bits(), number);
        let mut kept = self.0.lock();
        let stretch = match kept.as_ref() {
            Some(stretch) if stretch.key == key => stretch,
            _ => kept.insert(walk(bursts, &dice, key, length)),
        };
        let within = place - number as f64 * length;
        let passed = stretch.changes.partition_point(|change| *change <= within);
        stretch.begins_bad != (passed % 2 == 1)
    }
}

fn stretch_length(bursts: &Bursts) -> f64 {
    let length = CYCLES * (bursts.good + bursts.bad);
    match bursts.by {
        By::Requests => length.ceil(),
        By::Time => length,
    }
}

fn walk(bursts: &Bursts, dice: &Dice, key: (u64, u64, u64), length: f64) -> Stretch {
    let mut dice = dice.fork_number(key.2);
    let begins_bad = dice.unit() * (bursts.good + bursts.bad) < bursts.bad;
    let mut changes = Vec::new();
    let (mut at, mut bad) = (0.0, begins_bad);
    while at < length && changes.len() < MOST_CHANGES {
        let mean = if bad { bursts.bad } else { bursts.good };
        at += match bursts.by {
            By::Time => mean * dice.exponential(),
            // Geometric: at each request the state is left with the same chance.
            By::Requests if mean <= 1.0 => 1.0,
            By::Requests => 1.0 + (dice.exponential() / -(1.0 - 1.0 / mean).ln()).floor(),
        };
        changes.push(at);
        bad = !bad;
    }
    Stretch { key, begins_bad, changes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(bursts: Bursts, seed: u64, places: impl Iterator<Item = f64>) -> Vec<bool> {
        let (walked, dice) = (Walked::default(), Dice::from_seed(seed));
        places.map(|place| walked.is_bad(&bursts, &dice, place)).collect()
    }

    fn stays(states: &[bool], which: bool) -> Vec<usize> {
        let runs = states.chunk_by(|a, b| a == b);
        runs.filter(|run| run[0] == which).map(<[bool]>::len).collect()
    }

    fn mean(values: &[usize]) -> f64 {
        values.iter().sum::<usize>() as f64 / values.len() as f64
    }

    const BY_REQUESTS: Bursts =
        Bursts { good: 40.0, bad: 10.0, by: By::Requests, percent_good: 1.0, percent_bad: 80.0 };

    #[test]
    fn stays_have_the_means_that_were_asked_for() {
        let states = states(BY_REQUESTS, 3, (0..200_000).map(f64::from));
        let (good, bad) = (mean(&stays(&states, false)), mean(&stays(&states, true)));
        assert!((37.0..43.0).contains(&good) && (9.2..10.8).contains(&bad), "{good} {bad}");
        let share = states.iter().filter(|bad| **bad).count() as f64 / states.len() as f64;
        assert!((0.17..0.23).contains(&share), "{share}");
    }

    #[test]
    fn by_time_too() {
        let bursts = Bursts { good: 30.0, bad: 5.0, by: By::Time, ..BY_REQUESTS };
        let states = states(bursts, 3, (0..400_000).map(|tenth| f64::from(tenth) / 10.0));
        let (good, bad) = (mean(&stays(&states, false)), mean(&stays(&states, true)));
        assert!((270.0..330.0).contains(&good) && (45.0..55.0).contains(&bad), "{good} {bad}");
    }

    #[test]
    fn any_order_of_asking_gives_the_same_states() {
        let forward = states(BY_REQUESTS, 7, (0..10_000).map(f64::from));
        let mut backward = states(BY_REQUESTS, 7, (0..10_000).rev().map(f64::from));
        backward.reverse();
        assert_eq!(forward, backward);
        assert_ne!(forward, states(BY_REQUESTS, 8, (0..10_000).map(f64::from)));
    }
}
