//! Up, down, up again: what a dependency does whose health check cannot make up its mind.

use std::time::Duration;

use crate::dice::Dice;

/// Up for a while, then down (the fault acts), and so on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Flapping {
    pub up: Duration,
    pub down: Duration,
    /// How much earlier or later each change comes, as a share (0 to 0.5) of the shorter of the two.
    pub jitter: f64,
}

impl Flapping {
    /// Whether it is down, `since` it was armed. Changes do not add up, so any moment can be asked.
    pub(super) fn is_down(&self, since: Duration, dice: &Dice) -> bool {
        let (up, down) = (self.up.as_secs_f64(), self.down.as_secs_f64());
        let (cycle, since) = (up + down, since.as_secs_f64());
        if cycle <= 0.0 {
            return true;
        }
        let dice = dice.fork("flapping");
        let reach = self.jitter.clamp(0.0, 0.5) * up.min(down);
        let shift = |change: u64| reach * (2.0 * dice.fork_number(change).unit() - 1.0);
        let here = (since / cycle) as u64;
        (here.saturating_sub(1)..=here + 1).any(|number| {
            let begin = number as f64 * cycle;
            let from = begin + up + shift(2 * number);
            let to = begin + cycle + shift(2 * number + 1);
            from <= since && since < to
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(flapping: Flapping, seed: u64) -> Vec<u32> {
        let dice = Dice::from_seed(seed);
        let down = |tenth: u32| flapping.is_down(Duration::from_millis(100) * tenth, &dice);
        (1..2000).filter(|tenth| down(*tenth) != down(tenth - 1)).collect()
    }

    #[test]
    fn without_jitter_changes_come_on_time() {
        let flapping =
            Flapping { up: Duration::from_secs(20), down: Duration::from_secs(5), jitter: 0.0 };
        assert_eq!(changes(flapping, 1)[..4], [200, 250, 450, 500]);
    }

    #[test]
    fn jitter_moves_each_change_within_its_reach() {
        let flapping =
            Flapping { up: Duration::from_secs(20), down: Duration::from_secs(5), jitter: 0.4 };
        let seen = changes(flapping, 1);
        let nominal: Vec<u32> = (0..8).flat_map(|n| [n * 250 + 200, n * 250 + 250]).collect();
        assert!(seen.len() >= 15, "{seen:?}");
        for (seen, nominal) in seen.iter().zip(&nominal) {
            assert!(seen.abs_diff(*nominal) <= 21, "{seen} for {nominal}");
        }
        assert_eq!(seen, changes(flapping, 1));
        assert_ne!(seen, changes(flapping, 2));
    }
}
