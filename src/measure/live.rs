//! How things stand while a run goes on: the last seconds, by what has ended in them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::retry::FanOut;
use super::statistics::{carried, sort};
use super::{Ledger, Outcome, Span};

/// The last seconds of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Now {
    /// Requests that ended in them, the driver's own cancelling aside.
    pub requests: u64,
    /// Share (0 to 1) of them that were ok.
    pub success_rate: Option<f64>,
    /// In seconds.
    pub ttft_p95: Option<f64>,
    /// Content-bearing events of the ended answers, per second.
    pub tokens_per_second: f64,
    /// Calls per request over the same in baseline, of the worst dependency.
    pub amplification: Option<f64>,
    /// That dependency.
    pub amplified: Option<String>,
    /// Calls to all dependencies.
    pub calls: u64,
    /// What users saw besides good answers.
    pub failures: BTreeMap<Outcome, u64>,
}

impl Ledger {
    /// How things stood in the time `over` before `at`. The baseline's own picture is
    /// `now(end of baseline, its length)`.
    pub fn now(&self, at: Duration, over: Duration) -> Now {
        let span = Span::new(at.saturating_sub(over), at);
        let mut now = Now::default();
        let (mut ttft, mut ok, mut tokens) = (Vec::new(), 0, 0.0);
        for sample in self.samples().iter().filter(|sample| span.holds(sample.end)) {
            tokens += f64::from(sample.tokens);
            if !sample.outcome.counts() {
                continue;
            }
            now.requests += 1;
            ttft.extend(sample.ttft());
            if sample.outcome == Outcome::Ok {
                ok += 1;
            } else {
                *now.failures.entry(sample.outcome).or_default() += 1;
            }
        }
        sort(&mut ttft);
        now.ttft_p95 = carried(&ttft, 0.95);
        now.success_rate = (now.requests > 0).then(|| f64::from(ok) / now.requests as f64);
        now.tokens_per_second = tokens / span.seconds().max(0.001);
        let fan_out = FanOut::of(self);
        let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
        for call in self.calls_in(span) {
            *calls.entry(&call.dependency).or_default() += 1;
        }
        now.calls = calls.values().sum();
        let amplified = calls
            .iter()
            .filter_map(|(name, n)| Some((fan_out.amplification(name, *n, now.requests)?, *name)))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        now.amplification = amplified.map(|(amplification, _)| amplification);
        now.amplified = amplified.map(|(_, name)| name.to_owned());
        now
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{add_call, add_sample, call, phased, sample, secs};
    use super::*;

    #[test]
    fn only_the_last_seconds_count() {
        let mut ledger = phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"])]);
        for number in 0..200 {
            let at = f64::from(number) / 5.0;
            let bad = number >= 100 && number % 2 == 0;
            add_sample(
                &mut ledger,
                sample(at, 0.1, if bad { Outcome::Timeout } else { Outcome::Ok }),
            );
            for attempt in 0..if number >= 100 { 3 } else { 1 } {
                add_call(&mut ledger, call("llm", at + f64::from(attempt) / 100.0, 200));
            }
        }
        let before = ledger.now(secs(20.0), secs(20.0));
        assert_eq!((before.success_rate, before.requests), (Some(1.0), 100));
        assert_eq!((before.amplification, before.tokens_per_second), (Some(1.0), 100.0));
        let now = ledger.now(secs(35.0), secs(10.0));
        assert_eq!((now.success_rate, now.requests, now.calls), (Some(0.5), 50, 150));
        assert_eq!(now.failures, BTreeMap::from([(Outcome::Timeout, 25)]));
        assert_eq!((now.amplification, now.amplified.as_deref()), (Some(3.0), Some("llm")));
        assert!(now.ttft_p95.is_some());
        assert_eq!(ledger.now(secs(500.0), secs(1.0)), Now::default());
    }
}
