//! What an app makes of its requests: calls for each, retries, and whether they wait as told.
//! Retries that are guessed count only as far as the dependency got more calls than baseline
//! explains, since many users may ask the same.

use std::collections::HashMap;
use std::sync::Arc;

use super::attempts::{Mark, Tracker};
use super::{Call, CallEnd, Ledger, Span};
use crate::dialect::grpc;

/// Calls for each request of a user in baseline, by dependency.
#[derive(Clone, Debug, Default)]
pub struct FanOut {
    by_dependency: HashMap<Arc<str>, f64>,
}

/// Which calls are retries, and which came too early.
#[derive(Debug, Default)]
pub struct Retries {
    /// In the order of the ledger's calls.
    marks: Vec<Mark>,
}

/// Counts of retries within a span.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RetryCounts {
    pub calls: u64,
    pub retries: u64,
    /// Retries before the Retry-After of the answer before had passed.
    pub early: u64,
    /// Answers that told the client when to come back.
    pub told_to_wait: u64,
}

impl FanOut {
    /// Learns from the baseline.
    pub fn of(ledger: &Ledger) -> Self {
        let Some(baseline) = ledger.baseline() else { return Self::default() };
        let sent = sent(ledger, baseline.span);
        let mut calls: HashMap<Arc<str>, u64> = HashMap::new();
        for call in ledger.calls_in(baseline.span).filter(|_| sent > 0) {
            *calls.entry(Arc::clone(&call.dependency)).or_default() += 1;
        }
        let share = |(dependency, calls)| (dependency, calls as f64 / sent as f64);
        Self { by_dependency: calls.into_iter().map(share).collect() }
    }

    /// Calls for each request in baseline; None when there were none.
    pub fn get(&self, dependency: &str) -> Option<f64> {
        self.by_dependency.get(dependency).copied()
    }

    /// Calls over what baseline makes expect of so many requests.
    pub fn amplification(&self, dependency: &str, calls: u64, sent: u64) -> Option<f64> {
        let expected = self.get(dependency)? * sent as f64;
        (sent > 0).then(|| calls as f64 / expected)
    }
}

/// Requests of a span that were sent, whatever became of them.
pub fn sent(ledger: &Ledger, span: Span) -> u64 {
    let sent = |sample: &&super::Sample| span.holds(sample.scheduled) && sample.sent();
    ledger.samples().iter().filter(sent).count() as u64
}

impl Call {
    /// Whether the app got less than a whole good answer.
    pub fn failed(&self) -> bool {
        self.ended != CallEnd::Complete
            || self.status.is_some_and(|status| status >= 400)
            || self.grpc_status.is_some_and(|status| status != 0)
    }

    /// Whether it failed with no fault acting on it.
    pub fn own_error(&self) -> bool {
        let broken = matches!(self.ended, CallEnd::UpstreamCut | CallEnd::UpstreamFailed);
        let refused = self.status.is_some_and(|status| status >= 500 || status == 429);
        let refused = refused || self.grpc_status.is_some_and(grpc::is_server_error);
        self.faults.is_empty() && (broken || refused)
    }
}

impl Retries {
    /// Finds the retries among the calls of a ledger.
    pub fn of(ledger: &Ledger) -> Self {
        let calls = ledger.calls();
        let mut order: Vec<usize> = (0..calls.len()).collect();
        order.sort_by_key(|index| calls[*index].at);
        let mut marks = vec![Mark::default(); calls.len()];
        let mut tracker = Tracker::default();
        for index in order {
            marks[index] = tracker.see(&calls[index], index);
        }
        Self { marks }
    }

    /// What each call is, in the order of the ledger's calls.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Counts the retries of a dependency within a span.
    pub fn count(
        &self,
        ledger: &Ledger,
        fan_out: &FanOut,
        dependency: &str,
        span: Span,
    ) -> RetryCounts {
        let mut sure = RetryCounts::default();
        let (mut guessed, mut guessed_early) = (0, 0);
        for (call, mark) in ledger.calls().iter().zip(&self.marks) {
            if &*call.dependency != dependency || !span.holds(call.at) {
                continue;
            }
            sure.calls += 1;
            sure.told_to_wait += u64::from(call.retry_after.is_some());
            let (retries, early) = if mark.guess {
                (&mut guessed, &mut guessed_early)
            } else {
                (&mut sure.retries, &mut sure.early)
            };
            *retries += u64::from(mark.retry);
            *early += u64::from(mark.early);
        }
        let excess = fan_out.get(dependency).map_or(u64::MAX, |usual| {
            (sure.calls as f64 - usual * sent(ledger, span) as f64).max(0.0).round() as u64
        });
        let believed = guessed.min(excess.saturating_sub(sure.retries));
        sure.retries += believed;
        sure.early += guessed_early.min(believed);
        sure
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::super::ledger::tests::{add_call, add_sample, call, phased, sample, secs};
    use super::*;

    /// Ten requests in baseline and ten in the storm, with one call each in baseline.
    fn storm() -> Ledger {
        let mut ledger = phased(&[("baseline", 10.0, &[]), ("storm", 10.0, &["f"])]);
        for second in 0..20 {
            add_sample(&mut ledger, sample(f64::from(second) + 0.5, 0.3, Outcome::Ok));
        }
        for second in 0..10 {
            add_call(&mut ledger, call("llm", f64::from(second) + 0.6, 200));
        }
        ledger
    }

    fn limited(at: f64, wait: f64, key: u64) -> Call {
        Call { retry_after: Some(secs(wait)), key: Some(key), ..call("llm", at, 429) }
    }

    fn counts(ledger: &Ledger) -> RetryCounts {
        let storm = ledger.during("storm").unwrap();
        Retries::of(ledger).count(ledger, &FanOut::of(ledger), "llm", storm)
    }

    #[test]
    fn amplification_is_relative_to_baseline() {
        let mut ledger = storm();
        for extra in 0..25 {
            add_call(&mut ledger, call("llm", 10.0 + f64::from(extra) * 0.3, 503));
        }
        let fan_out = FanOut::of(&ledger);
        assert_eq!(fan_out.get("llm"), Some(1.0));
        let storm = ledger.during("storm").unwrap();
        let calls = ledger.calls_in(storm).count() as u64;
        assert_eq!(fan_out.amplification("llm", calls, sent(&ledger, storm)), Some(2.5));
        assert_eq!(fan_out.amplification("vectors", 5, 10), None);
    }

    #[test]
    fn a_repeated_failure_is_a_retry_and_early_before_retry_after() {
        let mut ledger = storm();
        for request in 0..10 {
            let at = 10.0 + f64::from(request);
            let key = request as u64;
            add_call(&mut ledger, limited(at, 2.0, key));
            // Even ones come back at once, odd ones wait as told.
            let wait = if request % 2 == 0 { 0.5 } else { 2.1 };
            add_call(&mut ledger, Call { key: Some(key), ..call("llm", at + wait, 200) });
        }
        // One waited beyond the phase.
        let counts = counts(&ledger);
        assert_eq!((counts.calls, counts.retries, counts.early), (19, 9, 5));
        assert_eq!(counts.told_to_wait, 10);
    }

    #[test]
    fn a_grpc_call_is_repeated_when_its_status_was_bad() {
        for (grpc_status, repeats) in [(14, 10), (0, 0)] {
            let mut ledger = storm();
            for request in 0..10 {
                let at = 10.0 + f64::from(request);
                let first = Call { key: Some(request as u64), ..call("llm", at, 200) };
                let again = Call { at: secs(at + 0.5), ..first.clone() };
                add_call(&mut ledger, Call { grpc_status: Some(grpc_status), ..first });
                add_call(&mut ledger, Call { grpc_status: Some(0), ..again });
            }
            assert_eq!(counts(&ledger).retries, repeats, "{grpc_status}");
        }
    }

    #[test]
    fn users_who_ask_the_same_are_no_retries() {
        let mut ledger = storm();
        for request in 0..10 {
            add_call(&mut ledger, limited(10.0 + f64::from(request), 5.0, 7));
        }
        assert_eq!(counts(&ledger).retries, 0, "no more calls than requests");
        let mut ledger = storm();
        for request in 0..10 {
            let first = limited(10.0 + f64::from(request), 5.0, 7);
            add_call(&mut ledger, Call { retry: Some(0), ..first.clone() });
            add_call(&mut ledger, Call { retry: Some(0), at: first.at + secs(0.2), ..first });
        }
        assert_eq!(counts(&ledger).retries, 0, "the client says that none is");
    }

    #[test]
    fn the_clients_word_needs_no_key() {
        let mut ledger = storm();
        let first = Call { key: None, retry: Some(0), ..limited(11.0, 3.0, 0) };
        add_call(&mut ledger, first.clone());
        add_call(
            &mut ledger,
            Call { at: secs(11.5), head: Some(secs(11.6)), retry: Some(1), ..first },
        );
        add_call(&mut ledger, Call { retry: Some(2), ..call("llm", 15.0, 200) });
        let counts = counts(&ledger);
        assert_eq!((counts.retries, counts.early), (2, 1));
    }
}
