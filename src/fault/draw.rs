//! Seeded draws that remember what was drawn, for the decision journal.

use crate::dice::Dice;

/// The dice of one fault on one exchange, and what they showed.
#[derive(Clone, Debug)]
pub struct Draw {
    dice: Dice,
    /// The stream of what sticks as the fault does (`sticky: user`).
    choice: Dice,
    drawn: Vec<(&'static str, f64)>,
}

impl Draw {
    /// Draws from this stream.
    pub fn new(dice: Dice) -> Self {
        Self { choice: dice.fork("choice"), dice, drawn: Vec::new() }
    }

    /// Draws from this stream; whether an exchange is chosen, from the other.
    pub fn sticking(dice: Dice, choice: Dice) -> Self {
        Self { choice, ..Self::new(dice) }
    }

    /// Whether an effect's own percent (a share, 0 to 1) chooses this exchange. Where the fault is
    /// sticky, so is this.
    pub fn chooses(&mut self, share: f64) -> bool {
        if share >= 1.0 {
            return true;
        }
        let value = self.choice.fork("percent").unit();
        self.note("own_percent", value * 100.0);
        value < share
    }

    /// A stream for draws that need no journal line each (per-token jitter).
    pub fn fork(&self, label: &str) -> Dice {
        self.dice.fork(label)
    }

    /// A named number in `[0, 1)`. The same name gives the same number, whatever was drawn before.
    pub fn unit(&mut self, name: &'static str) -> f64 {
        let value = self.dice.fork(name).unit();
        self.note(name, value);
        value
    }

    /// Writes a figure to the journal.
    pub fn note(&mut self, name: &'static str, value: f64) {
        self.drawn.push((name, value));
    }

    /// What was drawn so far, in order.
    pub fn drawn(&self) -> &[(&'static str, f64)] {
        &self.drawn
    }

    /// Takes what was drawn.
    pub fn into_drawn(self) -> Vec<(&'static str, f64)> {
        self.drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sticks_is_chosen_alike_whatever_else_is_drawn() {
        let root = Dice::from_seed(5);
        let chosen = |user: u64, exchange: u64| {
            let mut draw =
                Draw::sticking(root.fork_number(exchange), root.fork("sticky").fork_number(user));
            draw.chooses(0.3)
        };
        for user in 0..200 {
            assert!((1..9).all(|exchange| chosen(user, exchange) == chosen(user, 0)), "{user}");
        }
        let share = (0..200).filter(|user| chosen(*user, 0)).count();
        assert!((40..80).contains(&share), "{share}");
        let mut plain = Draw::new(root.clone());
        assert!(plain.chooses(1.0) && plain.drawn().is_empty());
        let alone = |exchange: u64| Draw::new(root.fork_number(exchange)).chooses(0.3);
        assert!((0..50).any(alone) && !(0..50).all(alone));
    }
}
