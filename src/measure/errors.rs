//! Errors as users saw them, told apart by whether a fault was acting meanwhile.

use std::collections::HashMap;

use super::record::UserError;
use super::{Ledger, Outcome, Sample, Span};

/// The most kinds of errors listed.
const MOST: usize = 50;

/// The errors of a run by phase, outcome, status and message; the most frequent ones.
pub(super) fn errors(ledger: &Ledger) -> Vec<UserError> {
    let injected = injected(ledger);
    let mut counts: HashMap<_, u64> = HashMap::new();
    for sample in ledger.samples() {
        if sample.outcome == Outcome::Ok || !sample.outcome.counts() {
            continue;
        }
        let phase = ledger.phase_at(sample.scheduled);
        let during_fault = meanwhile(&injected, sample);
        let message = sample.error.as_deref().unwrap_or_default();
        let kind = (phase, sample.outcome, sample.status, message, during_fault);
        *counts.entry(kind).or_default() += 1;
    }
    let mut all: Vec<_> = counts.into_iter().collect();
    all.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    all.truncate(MOST);
    let name = |phase: Option<usize>| phase.map(|at| ledger.phases()[at].name.clone());
    all.into_iter()
        .map(|((phase, outcome, status, message, during_fault), count)| UserError {
            phase: name(phase).unwrap_or_default(),
            outcome: outcome.as_str().to_owned(),
            status,
            message: message.to_owned(),
            count,
            during_fault,
        })
        .collect()
}

/// The times in which a fault was acting on some call, in order and without overlaps.
fn injected(ledger: &Ledger) -> Vec<Span> {
    let hit = ledger.calls().iter().filter(|call| !call.faults.is_empty());
    let mut spans: Vec<Span> = hit.map(|call| Span::new(call.at, call.end)).collect();
    spans.sort_by_key(|span| span.from);
    let mut joined: Vec<Span> = Vec::new();
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => joined.push(span),
        }
    }
    joined
}

fn meanwhile(injected: &[Span], sample: &Sample) -> bool {
    let next = injected.partition_point(|span| span.to < sample.issued);
    injected.get(next).is_some_and(|span| span.from <= sample.end)
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{add_call, add_sample, call, phased, sample};
    use super::*;

    #[test]
    fn errors_are_grouped_and_told_from_the_apps_own() {
        let mut ledger = phased(&[("baseline", 10.0, &[]), ("storm", 10.0, &["f"])]);
        let mut hit = call("llm", 12.0, 503);
        hit.faults = vec!["f".into()];
        add_call(&mut ledger, hit);
        add_call(&mut ledger, call("llm", 15.0, 503));
        for (at, outcome) in [
            (2.0, Outcome::Http5xx),
            (11.9, Outcome::Http5xx),
            (11.95, Outcome::Http5xx),
            (15.0, Outcome::Http5xx),
            (12.0, Outcome::Timeout),
            (12.0, Outcome::Ok),
            (12.0, Outcome::CancelledByDriver),
        ] {
            add_sample(&mut ledger, sample(at, 0.5, outcome));
        }
        let found: Vec<_> = errors(&ledger)
            .into_iter()
            .map(|error| (error.phase, error.outcome, error.count, error.during_fault))
            .collect();
        let row = |phase: &str, outcome: &str, n, during| {
            (phase.to_owned(), outcome.to_owned(), n, during)
        };
        assert_eq!(
            found,
            [
                row("storm", "http_5xx", 2, true),
                row("baseline", "http_5xx", 1, false),
                row("storm", "http_5xx", 1, false),
                row("storm", "timeout", 1, true),
            ]
        );
    }

    #[test]
    fn only_the_most_frequent_are_listed() {
        let mut ledger = phased(&[("baseline", 10.0, &[])]);
        for number in 0..80 {
            let mut bad = sample(1.0, 0.1, Outcome::Http5xx);
            bad.error = Some(format!("error {number}").into());
            add_sample(&mut ledger, bad.clone());
            if number == 79 {
                add_sample(&mut ledger, bad);
            }
        }
        let errors = errors(&ledger);
        assert_eq!(
            (errors.len(), errors[0].message.as_str(), errors[0].count),
            (50, "error 79", 2)
        );
    }
}
