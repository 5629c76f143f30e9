//! How long a model's answers are, as far as this run has shown. An answer that was cut tells only
//! that it was longer, so the estimate is Kaplan and Meier's, which takes both kinds of sight.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

/// Answers remembered per model; older ones are forgotten.
const ANSWERS: usize = 256;
/// Models told apart; what comes after them shares one place.
const MODELS: usize = 64;

/// The lengths seen so far, by model.
#[derive(Debug, Default)]
pub(super) struct Lengths {
    by_model: Mutex<HashMap<String, VecDeque<Sight>>>,
}

/// One answer: its tokens, or the tokens after which it was cut.
#[derive(Clone, Copy, Debug)]
struct Sight {
    tokens: u64,
    whole: bool,
}

impl Lengths {
    /// Remembers an answer of this many tokens; `whole` when it ended there by itself.
    pub(super) fn learn(&self, model: &str, tokens: u64, whole: bool) {
        let mut by_model = self.by_model.lock();
        let known = by_model.len() < MODELS || by_model.contains_key(model);
        let seen =
            by_model.entry(if known { model.to_owned() } else { String::new() }).or_default();
        if seen.len() == ANSWERS {
            seen.pop_front();
        }
        seen.push_back(Sight { tokens, whole });
    }

    /// The length at rank `u` (0 to 1) of this model's answers. Where the rank lies beyond all
    /// that was seen, `guess`, or the longest sight if that is longer.
    pub(super) fn draw(&self, model: &str, u: f64, guess: u64) -> u64 {
        let by_model = self.by_model.lock();
        let Some(seen) = by_model.get(model).or_else(|| by_model.get("")) else { return guess };
        let mut sorted: Vec<Sight> = seen.iter().copied().collect();
        // Of equal lengths the whole ones come first: the cut ones were longer.
        sorted.sort_by_key(|sight| (sight.tokens, !sight.whole));
        let mut longer = 1.0;
        for (index, sight) in sorted.iter().enumerate() {
            if sight.whole {
                longer *= 1.0 - 1.0 / (sorted.len() - index) as f64;
                if longer <= 1.0 - u + 1e-9 {
                    return sight.tokens;
                }
            }
        }
        sorted.last().map_or(guess, |longest| guess.max(longest.tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_give_their_distribution() {
        let lengths = Lengths::default();
        assert_eq!(lengths.draw("m", 0.5, 100), 100, "nothing seen: the guess");
        for tokens in 1..=100 {
            lengths.learn("m", tokens * 10, true);
        }
        assert_eq!(lengths.draw("m", 0.5, 7), 500);
        assert_eq!(lengths.draw("m", 0.0, 7), 10);
        assert_eq!(lengths.draw("m", 0.989, 7), 990);
        assert_eq!(lengths.draw("other", 0.5, 7), 7);
    }

    #[test]
    fn cut_answers_push_the_estimate_up() {
        let lengths = Lengths::default();
        for _ in 0..50 {
            lengths.learn("m", 20, true);
            lengths.learn("m", 30, false);
        }
        assert_eq!(lengths.draw("m", 0.4, 200), 20, "half of all answers have 20 tokens");
        assert_eq!(lengths.draw("m", 0.6, 200), 200, "the others are longer than 30");
        assert_eq!(lengths.draw("m", 0.6, 10), 30);
    }

    #[test]
    fn memory_is_bounded() {
        let lengths = Lengths::default();
        for model in 0..1000 {
            for tokens in 0..300 {
                lengths.learn(&model.to_string(), tokens, true);
            }
        }
        let by_model = lengths.by_model.lock();
        assert!(by_model.len() <= MODELS + 1);
        assert!(by_model.values().all(|seen| seen.len() <= ANSWERS));
    }
}
