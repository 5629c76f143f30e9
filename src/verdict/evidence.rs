//! What was measured, asked by metric and stretch of time: a number, its samples, its interval.

use std::cell::OnceCell;
use std::collections::HashSet;

use super::known::outcomes_of;
use super::{Function, Kind, Known, Metric};
use crate::measure::answers::Lengths;
use crate::measure::behaviour::ClientBehaviour;
use crate::measure::record::{DependencyInfo, FaultLedger};
use crate::measure::recovery::{self, Rule};
use crate::measure::retry::{FanOut, Retries, RetryCounts};
use crate::measure::statistics::{nearest_rank, quantile_interval, samples_for, sort, wilson};
use crate::measure::{Call, CallEnd, Ledger, Outcome, Sample, Span};

/// Everything that verdicts rest on.
#[derive(Debug)]
pub struct Evidence<'a> {
    pub ledger: &'a Ledger,
    /// When the app counts as recovered.
    pub rule: &'a Rule,
    /// The faults as the engine counted them.
    pub faults: &'a [FaultLedger],
    /// The dependencies with their kinds.
    pub dependencies: &'a [DependencyInfo],
    lengths: OnceCell<Lengths>,
    fan_out: OnceCell<FanOut>,
    retries: OnceCell<Retries>,
}

/// A stretch of time, and by which of its moments a request belongs to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) span: Span,
    /// By its end, for a run that goes on; else by its intended start.
    pub(super) by_end: bool,
}

/// What a metric came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Estimate {
    /// Infinite where a quantile falls among the requests that never got that far.
    pub(super) value: Option<f64>,
    pub(super) samples: u64,
    pub(super) interval: Option<[f64; 2]>,
    /// The value is a lower bound.
    pub(super) censored: bool,
    /// Samples that the metric itself asks for.
    pub(super) need: u64,
    /// Why there is no value.
    pub(super) note: Option<String>,
}

impl Estimate {
    fn share(hits: usize, trials: usize, confidence: f64) -> Self {
        let (hits, trials) = (hits as u64, trials as u64);
        let value = (trials > 0).then(|| hits as f64 / trials as f64);
        let interval = wilson(hits, trials, confidence);
        Self { value, samples: trials, interval, ..Self::default() }
    }

    fn plain(value: f64, samples: usize) -> Self {
        Self { value: Some(value), samples: samples as u64, ..Self::default() }
    }

    fn nothing(note: String) -> Self {
        Self { note: Some(note), ..Self::default() }
    }

    fn times(mut values: Vec<f64>, function: Function, seconds: f64, confidence: f64) -> Self {
        sort(&mut values);
        let reached = values.partition_point(|value| value.is_finite());
        let finite = &values[..reached];
        let n = values.len();
        let mut estimate = Self { samples: n as u64, ..Self::default() };
        estimate.value = match function {
            Function::Avg => (reached > 0).then(|| finite.iter().sum::<f64>() / reached as f64),
            Function::Count => Some(reached as f64),
            Function::Max => values.last().copied(),
            Function::Min => values.first().copied(),
            Function::Percentile(percent) => {
                let q = percent / 100.0;
                estimate.need = samples_for(q);
                estimate.interval = quantile_interval(&values, q, confidence);
                nearest_rank(&values, q)
            }
            Function::Rate => (seconds > 0.0).then(|| reached as f64 / seconds),
        };
        estimate
    }
}

impl<'a> Evidence<'a> {
    /// Evidence for the verdicts over a ledger.
    pub fn new(
        ledger: &'a Ledger,
        rule: &'a Rule,
        faults: &'a [FaultLedger],
        dependencies: &'a [DependencyInfo],
    ) -> Self {
        let (lengths, fan_out, retries) = Default::default();
        Self { ledger, rule, faults, dependencies, lengths, fan_out, retries }
    }

    fn lengths(&self) -> &Lengths {
        self.lengths.get_or_init(|| Lengths::of(self.ledger))
    }

    fn fan_out(&self) -> &FanOut {
        self.fan_out.get_or_init(|| FanOut::of(self.ledger))
    }

    fn cohort(&self, view: View) -> impl Iterator<Item = &'a Sample> + Clone {
        let moment = move |s: &Sample| if view.by_end { s.end } else { s.scheduled };
        let inside = move |sample: &&Sample| view.span.holds(moment(sample));
        self.ledger.samples().iter().filter(inside).filter(|sample| sample.outcome.counts())
    }

    fn calls<'b>(&self, view: View, name: &'b str) -> impl Iterator<Item = &'a Call> + use<'a, 'b> {
        let calls: &'a [Call] = self.ledger.calls();
        calls.iter().filter(move |call| view.span.holds(call.at) && &*call.dependency == name)
    }

    /// Requests that were sent in this view, cancelled ones too.
    fn sent(&self, view: View) -> u64 {
        let moment = |s: &Sample| if view.by_end { s.end } else { s.scheduled };
        let sent = |s: &&Sample| s.sent() && view.span.holds(moment(s));
        self.ledger.samples().iter().filter(sent).count() as u64
    }

    fn retries(&self, view: View, name: &str) -> RetryCounts {
        let retries = self.retries.get_or_init(|| Retries::of(self.ledger));
        retries.count(self.ledger, self.fan_out(), name, view.span)
    }

    /// What a metric came to in a view.
    pub(super) fn measure(&self, metric: &Metric, view: View, confidence: f64) -> Estimate {
        let Some(known) = Known::named(&metric.name) else {
            return Estimate::nothing(format!("unknown metric `{}`", metric.name));
        };
        let seconds = self.ledger.clipped(view.span).seconds();
        if let Some(function) = metric.function {
            let values = self.values(metric, view);
            return Estimate::times(values, function, seconds, confidence);
        }
        let name = metric.dependency.as_deref().unwrap_or_default();
        match (known.kind, known.name) {
            (Kind::Share, _) => {
                let (hits, trials) = self.share(metric, view);
                let mut estimate = Estimate::share(hits, trials, confidence);
                estimate.note = (trials == 0).then(|| self.why_none(metric)).flatten();
                estimate
            }
            (_, "fault_hits") => self.fault_hits(name, view),
            (_, "goodput" | "requests" | "stalls" | "tokens_per_second") => {
                let n = self.cohort(view).count();
                match self.total(&metric.name, view) {
                    total if known.kind == Kind::Count => Estimate::plain(total, n),
                    total if seconds > 0.0 => Estimate::plain(total / seconds, n),
                    _ => Estimate::default(),
                }
            }
            _ => self.at_dependency(known, name, view),
        }
    }

    /// The values of a distribution; infinite for requests that never got that far.
    fn values(&self, metric: &Metric, view: View) -> Vec<f64> {
        let never = |sample: &Sample| (!sample.answered()).then_some(f64::INFINITY);
        let cohort = self.cohort(view);
        match (metric.name.as_str(), &metric.dependency) {
            ("itl", _) => crate::measure::summary::gaps(cohort).collect(),
            ("latency", _) => cohort.map(|s| never(s).unwrap_or_else(|| s.latency())).collect(),
            ("time_to_head", Some(name)) => self
                .calls(view, name)
                .map(|call| call.time_to_head().unwrap_or(f64::INFINITY))
                .collect(),
            ("time_to_head", None) => {
                let head =
                    |s: &Sample| s.head.map(|head| head.saturating_sub(s.issued).as_secs_f64());
                cohort.filter_map(|s| head(s).or_else(|| never(s))).collect()
            }
            ("ttft", _) => cohort.filter_map(|s| s.ttft().or_else(|| never(s))).collect(),
            _ => cohort.map(|_| 0.0).collect(),
        }
    }

    /// Hits and trials of a share.
    fn share(&self, metric: &Metric, view: View) -> (usize, usize) {
        let cohort = self.cohort(view);
        let name = metric.dependency.as_deref().unwrap_or_default();
        let of_calls = |hit: fn(&Call) -> bool| {
            let calls: Vec<&Call> = self.calls(view, name).collect();
            (calls.iter().filter(|call| hit(call)).count(), calls.len())
        };
        let told = |answers: Vec<bool>| (answers.iter().filter(|hit| **hit).count(), answers.len());
        match metric.name.as_str() {
            "abandoned_rate" => of_calls(|call| call.ended == CallEnd::ClientGone),
            "affected_users" => self.affected(metric, view),
            "completeness" => told(cohort.filter_map(|s| self.lengths().whole(s)).collect()),
            "dependency_error_rate" => of_calls(Call::own_error),
            "fallback_rate" => told(cohort.filter(|s| s.complete).map(|s| s.fallback).collect()),
            "request_share" => self.request_share(name, view),
            "retry_rate" => {
                let counts = self.retries(view, name);
                (counts.retries as usize, counts.calls as usize)
            }
            "silent_truncation_rate" => {
                told(cohort.filter_map(|s| self.lengths().short(s)).collect())
            }
            "success_rate" => told(cohort.map(|s| s.outcome == Outcome::Ok).collect()),
            _ => {
                let kinds: Vec<Outcome> = metric
                    .labels
                    .iter()
                    .filter_map(|(_, kind)| outcomes_of(kind))
                    .flatten()
                    .collect();
                let any = kinds.is_empty();
                let bad =
                    |outcome| if any { outcome != Outcome::Ok } else { kinds.contains(&outcome) };
                told(cohort.map(|s| bad(s.outcome)).collect())
            }
        }
    }

    fn affected(&self, metric: &Metric, view: View) -> (usize, usize) {
        let (mut all, mut hit) = (HashSet::new(), HashSet::new());
        let mut count = |user: u64, affected: bool| {
            all.insert(user);
            if affected {
                hit.insert(user);
            }
        };
        match &metric.dependency {
            Some(name) => self
                .calls(view, name)
                .filter_map(|call| Some((call.user?, !call.faults.is_empty())))
                .for_each(|(user, affected)| count(user, affected)),
            None => {
                self.cohort(view).for_each(|s| count(u64::from(s.user), s.outcome != Outcome::Ok))
            }
        }
        (hit.len(), all.len())
    }

    fn request_share(&self, name: &str, view: View) -> (usize, usize) {
        let kind = |name: &str| {
            self.dependencies.iter().find(|known| known.name == name).map(|known| &known.kind)
        };
        let wanted = kind(name);
        let alike = self
            .ledger
            .calls_in(view.span)
            .filter(|call| wanted.is_none() || kind(&call.dependency) == wanted)
            .count();
        (self.calls(view, name).count(), alike)
    }

    /// Why a share has no trials, where that is no plain lack of requests.
    fn why_none(&self, metric: &Metric) -> Option<String> {
        let name = metric.dependency.as_deref();
        match (metric.name.as_str(), name) {
            ("affected_users", Some(name)) => Some(format!(
                "no call to `{name}` said who was asking; set `identify.user`, and arm a fault there"
            )),
            ("silent_truncation_rate", _) => {
                Some("no answered prompt was answered in baseline too, so that lengths could be compared".to_owned())
            }
            (_, Some(name)) => Some(format!("no call reached `{name}`")),
            _ => None,
        }
    }

    fn total(&self, name: &str, view: View) -> f64 {
        let cohort = self.cohort(view);
        match name {
            "goodput" => cohort.filter(|s| self.ledger.good().of(s)).count() as f64,
            "stalls" => crate::measure::summary::stalls(cohort) as f64,
            "tokens_per_second" => cohort.map(|s| f64::from(s.tokens)).sum(),
            _ => cohort.count() as f64,
        }
    }

    fn fault_hits(&self, name: &str, view: View) -> Estimate {
        let whole = view.span == self.ledger.all();
        let engine = self.faults.iter().find(|fault| fault.name == name).filter(|_| whole);
        let hits = self.ledger.hits(name, view.span);
        let (hit, considered) =
            engine.map_or((hits.hit, hits.considered), |fault| (fault.hit, fault.armed));
        Estimate::plain(hit as f64, considered as usize)
    }

    fn at_dependency(&self, known: &Known, dependency: &str, view: View) -> Estimate {
        let (calls, sent) = (self.calls(view, dependency).count(), self.sent(view));
        match known.name {
            "calls" => Estimate::plain(calls as f64, calls),
            "calls_per_request" if sent > 0 => {
                Estimate::plain(calls as f64 / sent as f64, sent as usize)
            }
            "retry_amplification" => {
                match self.fan_out().amplification(dependency, calls as u64, sent) {
                    Some(amplification) => Estimate::plain(amplification, sent as usize),
                    None if sent == 0 => Estimate::default(),
                    None => {
                        Estimate::nothing(format!("no call reached `{dependency}` in baseline"))
                    }
                }
            }
            "retries_before_retry_after" => {
                let counts = self.retries(view, dependency);
                if counts.told_to_wait == 0 {
                    return Estimate::nothing(format!(
                        "no answer of `{dependency}` carried Retry-After"
                    ));
                }
                Estimate::plain(counts.early as f64, calls)
            }
            name => self.client(name, view, dependency, calls),
        }
    }

    /// What the app's clients did.
    fn client(&self, metric: &str, view: View, dependency: &str, calls: usize) -> Estimate {
        let retries = self.retries.get_or_init(|| Retries::of(self.ledger));
        let seen = ClientBehaviour::of(self.ledger, retries, dependency, view.span);
        let count = |count: u64| Estimate::plain(count as f64, calls);
        match metric {
            "attempts_max" => count(seen.attempts_max),
            "longest_silence" => match seen.longest_silence_s {
                Some(seconds) => Estimate::plain(seconds, calls),
                None => Estimate::nothing(format!("no call to `{dependency}` was held back")),
            },
            "needless_retries" => count(seen.needless_retries),
            "overlapping_retries" => count(seen.overlapping_retries),
            "retries_without_backoff" => count(seen.retries_without_backoff),
            "retry_synchrony" => match seen.retry_synchrony {
                Some(synchrony) => Estimate::plain(synchrony, calls),
                None => Estimate::nothing(format!("fewer than 20 retries reached `{dependency}`")),
            },
            "unrepeated_cuts" => count(seen.unrepeated_cuts),
            "wasted_tokens" => count(seen.wasted_tokens),
            _ => Estimate::default(),
        }
    }

    /// The time to recover after a phase, or the longest of all.
    pub(super) fn recovery(&self, after: Option<&str>) -> Estimate {
        let phases = match after {
            Some(name) => self.ledger.phase(name).into_iter().collect(),
            None => recovery::worth_telling(self.ledger),
        };
        let mut worst = Estimate::nothing(
            "no phase with faults is followed by one without, in which recovery could show"
                .to_owned(),
        );
        for phase in phases {
            let assessed = recovery::assess(self.ledger, self.rule, phase);
            if assessed.note.is_some() {
                return Estimate { note: assessed.note, ..Estimate::default() };
            }
            let view = View { span: recovery::after(self.ledger, phase), by_end: false };
            let samples = self.cohort(view).count() as u64;
            let (value, censored) =
                (assessed.recovery.time_to_recover_s, assessed.recovery.censored);
            if worst.value.is_none() || value > worst.value {
                worst = Estimate { value, samples, censored, ..Estimate::default() };
            }
        }
        worst
    }

    /// The time to failover in a phase, or in the first with faults.
    pub(super) fn failover(&self, phase: Option<&str>) -> Estimate {
        let phases = self.ledger.phases();
        let found = match phase {
            Some(name) => self.ledger.phase(name),
            None => phases.iter().position(|phase| !phase.faults.is_empty()),
        };
        let Some(at) = found else {
            return Estimate::nothing("no phase arms a fault".to_owned());
        };
        match recovery::failover(self.ledger, self.rule, at) {
            Err(note) => Estimate::nothing(note),
            Ok(waited) => {
                let view = View { span: phases[at].span, by_end: false };
                let samples = self.cohort(view).count() as u64;
                let value = Some(waited.seconds);
                Estimate { value, samples, censored: waited.censored, ..Estimate::default() }
            }
        }
    }
}
