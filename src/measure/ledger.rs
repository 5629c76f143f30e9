//! Collects what the planes report, by phase and time. Everything else here reads a ledger.
//!
//! Requests belong to the cohort of their intended start, not to the moment they ended: what a
//! fault does to a request counts for the second in which the user asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Call, Observation, Outcome, Sample};

/// Requests and calls kept; later ones are counted as forgotten.
const MOST_SAMPLES: usize = 500_000;
const MOST_CALLS: usize = 1_000_000;
/// Gaps between tokens kept; beyond, each request keeps an even selection.
const MOST_GAPS: usize = 16_000_000;
const THINNED_GAPS: usize = 16;

/// A stretch of time, its end not included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub from: Duration,
    pub to: Duration,
}

/// A stretch of the timeline with its own set of armed faults.
#[derive(Clone, PartialEq, Debug)]
pub struct Stretch {
    pub name: String,
    pub span: Span,
    /// Names of the faults armed in it.
    pub faults: Vec<String>,
    /// How they are set, in words.
    pub fault_text: Vec<String>,
}

/// When an answer is good enough to count for goodput.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Good {
    /// Its first token comes within this time.
    pub ttft: Option<Duration>,
    /// It ends within this time, from its intended start.
    pub latency: Option<Duration>,
}

/// How often a fault was considered and acted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hits {
    pub considered: u64,
    pub hit: u64,
}

/// Everything that was observed.
#[derive(Debug, Default)]
pub struct Ledger {
    good: Good,
    samples: Vec<Sample>,
    calls: Vec<Call>,
    hits: BTreeMap<(usize, Arc<str>), Hits>,
    phases: Vec<Stretch>,
    ended: Option<Duration>,
    /// The latest moment heard of.
    latest: Duration,
    gaps: usize,
    forgotten: u64,
}

impl Span {
    pub fn new(from: Duration, to: Duration) -> Self {
        Self { from, to: to.max(from) }
    }

    pub fn holds(&self, at: Duration) -> bool {
        self.from <= at && at < self.to
    }

    pub fn length(&self) -> Duration {
        self.to - self.from
    }

    pub fn seconds(&self) -> f64 {
        self.length().as_secs_f64()
    }

    /// The part that lies in both.
    pub fn cut(&self, other: Self) -> Self {
        Self::new(self.from.max(other.from), self.to.min(other.to))
    }
}

impl Sample {
    /// Seconds from issue to the first content-bearing event.
    pub fn ttft(&self) -> Option<f64> {
        self.first_token.map(|at| at.saturating_sub(self.issued).as_secs_f64())
    }

    /// Seconds from the intended start to the end.
    pub fn latency(&self) -> f64 {
        self.end.saturating_sub(self.scheduled).as_secs_f64()
    }

    /// Whether it was sent at all.
    pub fn sent(&self) -> bool {
        self.outcome != Outcome::ShedByDriver
    }
}

impl Good {
    /// Whether this request gave its user a good answer.
    pub fn of(&self, sample: &Sample) -> bool {
        let within = |limit: Option<Duration>, seconds: Option<f64>| match (limit, seconds) {
            (Some(limit), Some(seconds)) => seconds <= limit.as_secs_f64(),
            _ => true,
        };
        sample.outcome == Outcome::Ok
            && within(self.ttft, sample.ttft())
            && within(self.latency, Some(sample.latency()))
    }
}

impl Ledger {
    /// An empty ledger; `good` says which answers count for goodput.
    pub fn new(good: Good) -> Self {
        Self { good, ..Self::default() }
    }

    /// Takes in an observation.
    pub fn add(&mut self, observation: Observation) {
        self.latest = self.latest.max(match &observation {
            Observation::Call(call) => call.end,
            Observation::Decision(_) | Observation::Handshake(_) => Duration::ZERO,
            Observation::Sample(sample) => sample.end,
        });
        match observation {
            Observation::Call(call) if self.calls.len() < MOST_CALLS => self.calls.push(*call),
            Observation::Sample(sample) if self.samples.len() < MOST_SAMPLES => {
                self.keep(*sample);
            }
            Observation::Decision(line) => {
                let at = Duration::try_from_secs_f64(line.at_s.max(0.0)).unwrap_or_default();
                let phase = self.phase_at(at).unwrap_or_default();
                let hits = self.hits.entry((phase, line.fault)).or_default();
                hits.considered += 1;
                hits.hit += u64::from(line.hit);
            }
            // The metrics count these.
            Observation::Handshake(_) => {}
            Observation::Call(_) | Observation::Sample(_) => self.forgotten += 1,
        }
    }

    fn keep(&mut self, mut sample: Sample) {
        if self.gaps > MOST_GAPS && sample.gaps.len() > THINNED_GAPS {
            let step = sample.gaps.len().div_ceil(THINNED_GAPS);
            sample.gaps = sample.gaps.iter().step_by(step).copied().collect();
        }
        self.gaps += sample.gaps.len();
        self.samples.push(sample);
    }

    /// Begins a phase and ends the one before it.
    pub fn begin_phase(
        &mut self,
        name: &str,
        at: Duration,
        faults: Vec<String>,
        fault_text: Vec<String>,
    ) {
        self.close(at);
        let span = Span::new(at, Duration::MAX);
        self.phases.push(Stretch { name: name.to_owned(), span, faults, fault_text });
        self.ended = None;
    }

    /// Ends the last phase, and the run with it.
    pub fn end(&mut self, at: Duration) {
        self.close(at);
        self.ended = Some(at);
    }

    fn close(&mut self, at: Duration) {
        if let Some(last) = self.phases.last_mut()
            && last.span.to == Duration::MAX
        {
            last.span = Span::new(last.span.from, at);
        }
    }

    /// Which answers count as good.
    pub fn good(&self) -> Good {
        self.good
    }

    /// All requests of the driver, roughly in the order of their end.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// All calls to dependencies, roughly in the order of their end.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The phases; the end of one that still runs is `Duration::MAX`.
    pub fn phases(&self) -> &[Stretch] {
        &self.phases
    }

    /// When the run ended, or the latest thing known.
    pub fn ended(&self) -> Duration {
        self.ended.unwrap_or(self.latest)
    }

    /// Observations that no longer fitted; an honest run has none.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// What became of a fault within the phases that begin in a span.
    pub fn hits(&self, fault: &str, span: Span) -> Hits {
        let mut sum = Hits::default();
        for ((phase, name), hits) in &self.hits {
            let inside = self.phases.get(*phase).is_none_or(|phase| span.holds(phase.span.from));
            if inside && &**name == fault {
                sum.considered += hits.considered;
                sum.hit += hits.hit;
            }
        }
        sum
    }

    /// The number of the phase that a moment lies in.
    pub fn phase_at(&self, at: Duration) -> Option<usize> {
        self.phases.iter().position(|phase| phase.span.holds(at))
    }

    /// The number of a phase by its name.
    pub fn phase(&self, name: &str) -> Option<usize> {
        self.phases.iter().position(|phase| phase.name == name)
    }

    /// The whole run.
    pub fn all(&self) -> Span {
        Span::new(Duration::ZERO, Duration::MAX)
    }

    /// A phase by its name.
    pub fn during(&self, name: &str) -> Option<Span> {
        Some(self.phases[self.phase(name)?].span)
    }

    /// All that came after a phase.
    pub fn after(&self, name: &str) -> Option<Span> {
        Some(Span::new(self.during(name)?.to, Duration::MAX))
    }

    /// The span as far as time has come.
    pub fn clipped(&self, span: Span) -> Span {
        span.cut(Span::new(Duration::ZERO, self.ended()))
    }

    /// The phase that the others are compared with: the one named `baseline`, else the first
    /// without faults, else the first.
    pub fn baseline(&self) -> Option<&Stretch> {
        self.phases
            .iter()
            .find(|phase| phase.name == "baseline")
            .or_else(|| self.phases.iter().find(|phase| phase.faults.is_empty()))
            .or_else(|| self.phases.first())
    }

    /// The requests of a span by their intended start, without those that the driver cancelled.
    pub fn cohort(&self, span: Span) -> impl Iterator<Item = &Sample> + Clone {
        let inside = move |sample: &&Sample| span.holds(sample.scheduled);
        self.samples.iter().filter(inside).filter(|sample| sample.outcome.counts())
    }

    /// The calls of a span by their start.
    pub fn calls_in(&self, span: Span) -> impl Iterator<Item = &Call> + Clone {
        self.calls.iter().filter(move |call| span.holds(call.at))
    }

    /// The names of all dependencies that were called, in order.
    pub fn dependencies(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for call in &self.calls {
            if !names.contains(&call.dependency) {
                names.push(Arc::clone(&call.dependency));
            }
        }
        names.sort();
        names
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::CallEnd;
    use super::*;

    pub(crate) fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// A good request that takes `latency` seconds, its first token after a quarter of it.
    pub(crate) fn sample(at: f64, latency: f64, outcome: Outcome) -> Sample {
        let ok = outcome == Outcome::Ok;
        Sample {
            scheduled: secs(at),
            issued: secs(at),
            head: ok.then(|| secs(at + latency / 8.0)),
            first_byte: ok.then(|| secs(at + latency / 8.0)),
            first_token: ok.then(|| secs(at + latency / 4.0)),
            last_token: ok.then(|| secs(at + latency)),
            end: secs(at + latency),
            outcome,
            status: Some(if ok { 200 } else { 500 }),
            tokens: if ok { 20 } else { 0 },
            gaps: if ok { vec![20_000; 19].into() } else { Box::default() },
            complete: ok,
            fallback: false,
            prompt: 0,
            user: 0,
            session: 0,
            turn: 0,
            error: (!ok).then(|| "boom".into()),
            stream: true,
        }
    }

    /// A whole answer of a dependency after a tenth of a second.
    pub(crate) fn call(dependency: &str, at: f64, status: u16) -> Call {
        Call {
            head: Some(secs(at + 0.05)),
            first_byte: Some(secs(at + 0.05)),
            end: secs(at + 0.1),
            status: Some(status),
            grpc_status: None,
            ended: CallEnd::Complete,
            upstream: true,
            bytes: 10,
            ..Call::begun(&dependency.into(), secs(at))
        }
    }

    pub(crate) fn add_sample(ledger: &mut Ledger, sample: Sample) {
        ledger.add(Observation::Sample(Box::new(sample)));
    }

    pub(crate) fn add_call(ledger: &mut Ledger, call: Call) {
        ledger.add(Observation::Call(Box::new(call)));
    }

    /// A ledger with phases (name, seconds, faults), ended after the last.
    pub(crate) fn phased(phases: &[(&str, f64, &[&str])]) -> Ledger {
        let mut ledger = Ledger::new(Good::default());
        let mut at = 0.0;
        for (name, length, faults) in phases {
            let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
            ledger.begin_phase(name, secs(at), faults, Vec::new());
            at += length;
        }
        ledger.end(secs(at));
        ledger
    }

    #[test]
    fn requests_belong_to_the_phase_of_their_intended_start() {
        let mut ledger = phased(&[("baseline", 10.0, &[]), ("storm", 10.0, &["f"])]);
        let mut late = sample(9.9, 5.0, Outcome::Ok);
        late.issued = secs(10.5);
        add_sample(&mut ledger, late);
        add_sample(&mut ledger, sample(12.0, 1.0, Outcome::CancelledByDriver));
        let count = |name| ledger.cohort(ledger.during(name).unwrap()).count();
        assert_eq!((count("baseline"), count("storm")), (1, 0));
    }

    #[test]
    fn the_baseline_has_no_faults_unless_named() {
        assert_eq!(phased(&[("a", 1.0, &["f"]), ("b", 1.0, &[])]).baseline().unwrap().name, "b");
        let named = phased(&[("warm", 1.0, &[]), ("baseline", 1.0, &[])]);
        assert_eq!(named.baseline().unwrap().name, "baseline");
        assert_eq!(phased(&[("a", 1.0, &["f"])]).baseline().unwrap().name, "a");
    }

    #[test]
    fn decisions_count_by_phase() {
        let mut ledger = phased(&[("baseline", 10.0, &[]), ("storm", 10.0, &["f"])]);
        for (at_s, hit) in [(11.0, true), (12.0, false), (3.0, true)] {
            ledger.add(Observation::Decision(Box::new(super::super::DecisionLine {
                key: String::new(),
                ordinal: 0,
                dependency: "llm".into(),
                kind: "openai".into(),
                fault: "f".into(),
                matched: true,
                selected: hit,
                hit,
                would_hit: None,
                out_of_turn: None,
                impossible: None,
                let_go: None,
                drawn: BTreeMap::new(),
                at_s,
                seed: None,
            })));
        }
        let hits = ledger.hits("f", ledger.during("storm").unwrap());
        assert_eq!(hits, Hits { considered: 2, hit: 1 });
        assert_eq!(ledger.hits("f", ledger.all()).hit, 2);
    }
}
