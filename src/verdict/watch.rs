//! Sentences over a run that goes on: for `abort_when` and gates.

use std::time::Duration;

use super::evidence::{Evidence, View};
use super::{Expectation, Limit};
use crate::measure::Span;

/// How far back a sentence without `for` looks.
const LOOK_BACK: Duration = Duration::from_secs(10);
/// Requests that must have ended before anything is said.
const FEWEST: u64 = 5;

impl Evidence<'_> {
    /// Whether a sentence holds over the last seconds (`for 15s`, else 10 s), by the requests that
    /// ended in them. None while too little is known.
    pub fn holds(&self, expectation: &Expectation, now: Duration) -> Option<bool> {
        let over = expectation.hold.unwrap_or(LOOK_BACK);
        let from = now.checked_sub(over)?;
        let within = match expectation.phase() {
            None => self.ledger.all(),
            Some(phase) => {
                let during = self.ledger.during(phase)?;
                let after = self.ledger.after(phase)?;
                if matches!(expectation.window, super::Window::During(_)) { during } else { after }
            }
        };
        let span = Span::new(from, now).cut(within);
        if span.length() < over {
            return None;
        }
        let estimate = match expectation.metric.name.as_str() {
            "time_to_failover" => self.failover(expectation.phase()),
            "time_to_recover" => self.recovery(expectation.phase()),
            _ => self.measure(&expectation.metric, View { span, by_end: true }, 0.95),
        };
        let base = match &expectation.limit {
            Limit::Value { .. } => 1.0,
            Limit::OfPhase { phase, .. } => {
                let view = View { span: self.ledger.during(phase)?, by_end: false };
                self.measure(&expectation.metric, view, 0.95).value.filter(|value| *value > 0.0)?
            }
        };
        if estimate.samples < FEWEST || estimate.censored {
            return None;
        }
        let limit = match expectation.limit {
            Limit::OfPhase { share, .. } => share,
            Limit::Value { value, .. } => value,
        };
        Some(expectation.op.holds(estimate.value? / base, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::ledger::tests::{add_sample, phased, sample, secs};
    use crate::measure::recovery::Rule;
    use crate::measure::{Ledger, Outcome};

    fn holds(ledger: &Ledger, text: &str, now: f64) -> Option<bool> {
        let rule = Rule::default();
        let expectation = Expectation::parse(text).unwrap();
        Evidence::new(ledger, &rule, &[], &[]).holds(&expectation, secs(now))
    }

    #[test]
    fn a_sentence_holds_when_it_holds_over_its_time() {
        let mut ledger = phased(&[("baseline", 20.0, &[]), ("storm", 40.0, &["f"])]);
        for number in 0..300 {
            let at = f64::from(number) / 5.0;
            let bad = at > 30.0 && number % 3 != 0;
            add_sample(
                &mut ledger,
                sample(at, 0.1, if bad { Outcome::Http5xx } else { Outcome::Ok }),
            );
        }
        let stop = "success_rate < 50% for 15s";
        assert_eq!(holds(&ledger, stop, 10.0), None, "the run is younger than that");
        assert_eq!(holds(&ledger, stop, 30.0), Some(false));
        assert_eq!(holds(&ledger, stop, 35.0), Some(false));
        assert_eq!(holds(&ledger, stop, 46.0), Some(true));
        assert_eq!(holds(&ledger, "success_rate < 50% during storm", 25.0), None);
        assert_eq!(holds(&ledger, "success_rate < 50% during storm", 45.0), Some(true));
        assert_eq!(holds(&ledger, "success_rate < 80% of baseline", 45.0), Some(true));
        assert_eq!(holds(&ledger, "success_rate < 50% during nowhere", 45.0), None);
        assert_eq!(holds(&ledger, stop, 90.0), None, "nothing ended lately");
    }
}
