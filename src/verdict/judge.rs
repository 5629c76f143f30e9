//! Judges expectations: the observed value against the limit, given enough samples.
//!
//! Too few samples make no verdict, except that one counterexample refutes "none at all". A wait
//! that the run did not see the end of fails when it is already too long.

use std::time::Duration;

use super::evidence::{Estimate, Evidence, View};
use super::words::{self, margin, shown};
use super::{Expectation, Kind, Known, Limit, Op, Window};
use crate::measure::Span;
use crate::measure::record::{Expected, Verdict};

/// The confidence of the interval that stands beside every estimate.
const CONFIDENCE: f64 = 0.95;
/// Stretches that a sentence with `for` looks at; in a long run they begin more than 1 s apart.
const MOST_STRETCHES: u32 = 600;

/// Judges each expectation.
pub fn judge(expectations: &[Expectation], evidence: &Evidence<'_>) -> Vec<Expected> {
    expectations.iter().map(|expectation| judge_one(expectation, evidence)).collect()
}

/// The phases after which expectations ask for recovery.
pub fn asked_recoveries(expectations: &[Expectation]) -> Vec<String> {
    let asks = |expectation: &&Expectation| expectation.metric.name == "time_to_recover";
    let phases = expectations.iter().filter(asks).filter_map(Expectation::phase);
    phases.map(str::to_owned).collect()
}

fn judge_one(expectation: &Expectation, evidence: &Evidence<'_>) -> Expected {
    let kind = expectation.kind();
    let mut told = Expected {
        text: expectation.text.clone(),
        line: expectation.line,
        verdict: Verdict::Inconclusive,
        severity: if expectation.warn { "warn" } else { "fail" }.to_owned(),
        phase: expectation.phase().map(str::to_owned),
        limit: expectation.limit_value(),
        unit: words::unit(kind).to_owned(),
        observed_text: "–".to_owned(),
        ..Expected::default()
    };
    let estimate = match expectation.estimate(evidence) {
        Ok(estimate) => estimate,
        Err(note) => {
            told.note = Some(note);
            return told;
        }
    };
    told.samples = estimate.samples;
    told.interval = estimate.interval.filter(|ends| ends.iter().all(|end| end.is_finite()));
    let Some(value) = estimate.value.filter(|_| estimate.note.is_none()) else {
        let none = || "no request in this part of the run".to_owned();
        told.note = Some(estimate.note.unwrap_or_else(none));
        return told;
    };
    told.observed = Some(value).filter(|value| value.is_finite());
    let good = expectation.op.holds(value, told.limit);
    told.margin = told.observed.map(|value| expectation.op.margin(value, told.limit));
    told.observed_text = match told.observed {
        None => "no answer".to_owned(),
        Some(value) if estimate.censored => format!("> {}", shown(value, kind)),
        Some(value) => shown(value, kind),
    };
    told.margin_text = match told.observed {
        None if good => String::new(),
        None => "never got that far".to_owned(),
        Some(value) => margin(value, told.limit, expectation.op, kind, good),
    };
    (told.verdict, told.note) = expectation.verdict(&estimate, value, good, told.limit);
    if told.verdict == Verdict::Inconclusive {
        told.margin_text = String::new();
    } else if estimate.censored {
        told.margin_text = format!("more than {}", told.margin_text);
    }
    told
}

impl Op {
    /// Whether a value satisfies a limit.
    pub(super) fn holds(self, value: f64, limit: f64) -> bool {
        let same = value == limit || (value - limit).abs() <= 1e-12 * limit.abs().max(1.0);
        match self {
            Self::Above => value > limit && !same,
            Self::AtLeast => value > limit || same,
            Self::AtMost => value < limit || same,
            Self::Below => value < limit && !same,
            Self::Equal => same,
            Self::NotEqual => !same,
        }
    }

    /// The distance to the limit; positive is good.
    fn margin(self, value: f64, limit: f64) -> f64 {
        match self {
            Self::Above | Self::AtLeast => value - limit,
            Self::AtMost | Self::Below => limit - value,
            Self::Equal => -(value - limit).abs(),
            Self::NotEqual => (value - limit).abs(),
        }
    }

    /// Whether larger values are worse.
    fn bounds_above(self) -> bool {
        matches!(self, Self::AtMost | Self::Below | Self::Equal)
    }
}

impl Expectation {
    fn known(&self) -> Option<&'static Known> {
        Known::named(&self.metric.name)
    }

    /// In what observed and limit are given.
    fn kind(&self) -> Kind {
        match (&self.limit, self.known()) {
            (Limit::Value { .. }, Some(known)) => self.metric.kind(known),
            _ => Kind::Share,
        }
    }

    fn limit_value(&self) -> f64 {
        match self.limit {
            Limit::OfPhase { share, .. } => share,
            Limit::Value { value, .. } => value,
        }
    }

    /// The phase that the sentence names.
    pub fn phase(&self) -> Option<&str> {
        match &self.window {
            Window::After(phase) | Window::During(phase) => Some(phase),
            Window::All => None,
        }
    }

    /// The same as a gate of a phase: what names no phase is judged over this one.
    pub fn gate_of(&self, phase: &str) -> Self {
        let mut gate = self.clone();
        if gate.window == Window::All && gate.metric.name != "time_to_recover" {
            gate.window = Window::During(phase.to_owned());
        }
        gate
    }

    fn span(&self, evidence: &Evidence<'_>) -> Result<Span, String> {
        let never = |phase: &str| format!("the phase `{phase}` never began");
        let ledger = evidence.ledger;
        match &self.window {
            Window::After(phase) => ledger.after(phase).ok_or_else(|| never(phase)),
            Window::All => Ok(ledger.all()),
            Window::During(phase) => ledger.during(phase).ok_or_else(|| never(phase)),
        }
    }

    /// What the metric came to, as a share of the other phase where the limit asks for that.
    fn estimate(&self, evidence: &Evidence<'_>) -> Result<Estimate, String> {
        let span = self.span(evidence)?;
        match self.metric.name.as_str() {
            "time_to_failover" => return Ok(evidence.failover(self.phase())),
            "time_to_recover" => return Ok(evidence.recovery(self.phase())),
            _ => {}
        }
        let mut estimate = self.worst(evidence, span);
        let Limit::OfPhase { phase, .. } = &self.limit else { return Ok(estimate) };
        let other = evidence.ledger.during(phase);
        let other = other.ok_or_else(|| format!("the phase `{phase}` never began"))?;
        let base = self.measured(evidence, other);
        let least = self.min_samples.max(base.need);
        if base.samples < least && !self.exempt() {
            return Err(format!("`{phase}` had {} samples; {least} are needed", base.samples));
        }
        let Some(value) = base.value.filter(|value| value.is_finite() && *value > 0.0) else {
            let metric = &self.metric;
            return Err(base
                .note
                .unwrap_or(format!("`{metric}` was nothing in `{phase}`, and has no share")));
        };
        estimate.value = estimate.value.map(|observed| observed / value);
        estimate.interval = estimate.interval.map(|ends| ends.map(|end| end / value));
        Ok(estimate)
    }

    fn measured(&self, evidence: &Evidence<'_>, span: Span) -> Estimate {
        let confidence = self.confidence.unwrap_or(CONFIDENCE);
        evidence.measure(&self.metric, View { span, by_end: false }, confidence)
    }

    /// The estimate over a span, or with `for 10s` that of its worst 10 s.
    fn worst(&self, evidence: &Evidence<'_>, span: Span) -> Estimate {
        let whole = self.measured(evidence, span);
        let Some(hold) = self.hold else { return whole };
        let span = evidence.ledger.clipped(span);
        let step = Duration::from_secs(1).max(span.length() / MOST_STRETCHES);
        let mut worst: Option<Estimate> = None;
        let mut from = span.from;
        while from + hold <= span.to {
            let part = self.measured(evidence, Span::new(from, from + hold));
            let worse = |old: &Estimate| match (part.value, old.value) {
                (Some(new), Some(old)) if self.op.bounds_above() => new > old,
                (Some(new), Some(old)) => new < old,
                (new, _) => new.is_some(),
            };
            if part.value.is_some() && worst.as_ref().is_none_or(worse) {
                worst = Some(part);
            }
            from += step;
        }
        let note =
            format!("this part of the run was shorter than {}", words::seconds(hold.as_secs_f64()));
        let none = Estimate { note: Some(note), ..Estimate::default() };
        Estimate { samples: whole.samples, need: 0, ..worst.unwrap_or(none) }
    }

    fn exempt(&self) -> bool {
        self.known().is_some_and(|known| known.exempt)
            || self.metric.function.is_some_and(|function| {
                matches!(function, super::Function::Count | super::Function::Rate)
            })
    }

    fn verdict(
        &self,
        estimate: &Estimate,
        value: f64,
        good: bool,
        limit: f64,
    ) -> (Verdict, Option<String>) {
        let plain = if good { Verdict::Pass } else { Verdict::Fail };
        let open = |note: String| (Verdict::Inconclusive, Some(note));
        if estimate.censored {
            // Only "longer than this" is certain.
            let certain = good != self.op.bounds_above() && self.op != Op::NotEqual;
            if certain {
                return (plain, Some("it had not happened yet when the run moved on".to_owned()));
            }
            return open(format!(
                "nothing is known beyond {}; make that part of the run longer",
                words::seconds(value)
            ));
        }
        let refuted = !good && limit == 0.0 && self.op.bounds_above();
        if !refuted && !self.exempt() {
            let least = self.min_samples.max(1);
            if estimate.samples < least {
                return open(format!("{} of {least} samples", estimate.samples));
            }
            if estimate.samples < estimate.need {
                let need = estimate.need;
                return open(format!(
                    "{} of the {need} samples that this quantile needs",
                    estimate.samples
                ));
            }
        }
        let Some([low, high]) = estimate.interval.filter(|_| self.confidence.is_some()) else {
            return (plain, None);
        };
        let held = |end| self.op.holds(end, limit);
        match (held(low), held(high)) {
            _ if matches!(self.op, Op::Equal | Op::NotEqual) => (plain, None),
            (true, true) => (Verdict::Pass, None),
            (false, false) => (Verdict::Fail, None),
            _ => {
                let kind = self.kind();
                let high =
                    if high.is_finite() { shown(high, kind) } else { "no answer".to_owned() };
                let percent = words::percent(self.confidence.unwrap_or(CONFIDENCE));
                open(format!(
                    "between {} and {high} at {percent}: more samples are needed",
                    shown(low, kind)
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests;
