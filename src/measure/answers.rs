//! Whether answers came whole. An answer that ends in good order may still be half an answer: it
//! is compared with the answers that the same prompt got in baseline.

use std::collections::HashMap;

use super::{Ledger, Outcome, Sample};

/// An answer is short below this share of the usual length, and shorter than any seen before.
const SHORT: f64 = 0.7;
/// The same for prompts that baseline asked only once or twice, whose usual length is a guess.
const SHORT_OF_FEW: f64 = 0.5;
const FEW: usize = 3;

/// How long answers are when nothing is wrong, by prompt.
#[derive(Debug, Default)]
pub struct Lengths {
    /// Answers with fewer tokens are short.
    least: HashMap<u64, f64>,
}

impl Lengths {
    /// Learns from the answers of the baseline.
    pub fn of(ledger: &Ledger) -> Self {
        let Some(baseline) = ledger.baseline() else { return Self::default() };
        let mut lengths: HashMap<u64, Vec<u32>> = HashMap::new();
        for sample in ledger.cohort(baseline.span) {
            if sample.outcome == Outcome::Ok && !sample.fallback && sample.tokens > 0 {
                lengths.entry(sample.prompt).or_default().push(sample.tokens);
            }
        }
        let least = |mut lengths: Vec<u32>| {
            lengths.sort_unstable();
            let share = if lengths.len() < FEW { SHORT_OF_FEW } else { SHORT };
            let median = f64::from(lengths[lengths.len() / 2]);
            (median * share).min(f64::from(lengths[0]))
        };
        Self { least: lengths.into_iter().map(|(prompt, all)| (prompt, least(all))).collect() }
    }

    /// Whether an answer that looks whole is far too short; None when it does not look whole or
    /// its prompt was never answered in baseline. A stand-in that says so is not short: nobody
    /// takes it for the real answer.
    pub fn short(&self, sample: &Sample) -> Option<bool> {
        let looks_whole = matches!(sample.outcome, Outcome::Ok | Outcome::Degraded);
        let least = self.least.get(&sample.prompt).filter(|_| looks_whole)?;
        Some(!sample.fallback && f64::from(sample.tokens) < *least)
    }

    /// Whether a started answer arrived whole; None when it never started.
    pub fn whole(&self, sample: &Sample) -> Option<bool> {
        if !sample.status.is_some_and(|status| (200..300).contains(&status)) {
            return None;
        }
        let ended_well = matches!(sample.outcome, Outcome::Ok | Outcome::Degraded);
        Some(ended_well && self.short(sample) != Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{add_sample, phased, sample};
    use super::*;

    #[test]
    fn half_an_answer_is_not_whole_however_well_it_ends() {
        let mut ledger = phased(&[("baseline", 10.0, &[]), ("cut", 10.0, &["f"])]);
        for tokens in [100, 90, 110] {
            let mut good = sample(1.0, 1.0, Outcome::Ok);
            good.tokens = tokens;
            add_sample(&mut ledger, good);
        }
        let lengths = Lengths::of(&ledger);
        let judged = |tokens, prompt, outcome| {
            let mut late = sample(11.0, 1.0, Outcome::Ok);
            (late.tokens, late.prompt, late.outcome) = (tokens, prompt, outcome);
            (lengths.short(&late), lengths.whole(&late))
        };
        assert_eq!(judged(69, 0, Outcome::Ok), (Some(true), Some(false)));
        assert_eq!(judged(70, 0, Outcome::Ok), (Some(false), Some(true)));
        assert_eq!(judged(5, 7, Outcome::Ok), (None, Some(true)), "an unknown prompt");
        assert_eq!(judged(95, 0, Outcome::Truncated), (None, Some(false)));
        assert_eq!(lengths.whole(&sample(11.0, 1.0, Outcome::Http5xx)), None);
    }

    #[test]
    fn a_stand_in_that_says_so_is_whole_and_sets_no_length() {
        let mut ledger = phased(&[("baseline", 10.0, &[]), ("storm", 10.0, &["f"])]);
        for (tokens, fallback) in [(100, false), (100, false), (100, false), (4, true)] {
            let mut answer = sample(1.0, 1.0, Outcome::Ok);
            (answer.tokens, answer.fallback) = (tokens, fallback);
            add_sample(&mut ledger, answer);
        }
        let lengths = Lengths::of(&ledger);
        let mut late = sample(11.0, 1.0, Outcome::Ok);
        late.tokens = 5;
        assert_eq!((lengths.short(&late), lengths.whole(&late)), (Some(true), Some(false)));
        late.fallback = true;
        assert_eq!((lengths.short(&late), lengths.whole(&late)), (Some(false), Some(true)));
    }

    #[test]
    fn answers_that_vary_by_nature_are_not_short() {
        let mut ledger = phased(&[("baseline", 10.0, &[]), ("cut", 10.0, &["f"])]);
        for tokens in [100, 20, 110, 120] {
            let mut good = sample(1.0, 1.0, Outcome::Ok);
            good.tokens = tokens;
            add_sample(&mut ledger, good);
        }
        let mut late = sample(11.0, 1.0, Outcome::Ok);
        late.tokens = 25;
        assert_eq!(Lengths::of(&ledger).short(&late), Some(false));
    }
}
