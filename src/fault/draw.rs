//! Seeded draws that remember what was drawn, for the decision journal.

use crate::dice::Dice;

/// The dice of one fault on one exchange, and what they showed.
#[derive(Clone, Debug)]
pub struct Draw {
    dice: Dice,
    drawn: Vec<(&'static str, f64)>,
}

impl Draw {
    /// Draws from this stream.
    pub fn new(dice: Dice) -> Self {
        Self { dice, drawn: Vec::new() }
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
