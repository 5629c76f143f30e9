//! Sums a ledger up into the parts of the record that come from measuring.

use std::collections::BTreeMap;

use super::answers::Lengths;
use super::behaviour::ClientBehaviour;
use super::ledger::Stretch;
use super::record::{DependencyPhase, Driver, Phase, Quantiles, Record};
use super::recovery::{Rule, assess, worth_telling};
use super::retry::{FanOut, Retries, sent};
use super::{Call, Ledger, Outcome, Sample, Span, errors, timeline};
use crate::dialect::grpc;

/// A gap above this is a stall, in microseconds.
pub const STALL: u32 = 1_000_000;
/// Driver lag that is worth a warning: in milliseconds, or as a share of the usual latency.
const LAG_MS: f64 = 10.0;
const LAG_SHARE: f64 = 0.05;
const SHED_SHARE: f64 = 0.01;
/// How far Little's law may be off in a steady baseline.
const LITTLE: f64 = 0.1;

impl Ledger {
    /// Fills in phases, timeline, lanes, errors, recovery, the driver's health, and what else the
    /// ledger knows of a record: calls of its dependencies, chances of its faults, what was lost.
    /// Recovery is assessed after the phases where it shows, and after those named in `asked`.
    pub fn summarise(&self, rule: &Rule, asked: &[String], record: &mut Record) {
        let (lengths, fan_out, retries) = (Lengths::of(self), FanOut::of(self), Retries::of(self));
        record.duration_s = self.ended().as_secs_f64();
        record.phases = self
            .phases()
            .iter()
            .map(|phase| self.phase_summary(phase, &lengths, &fan_out, &retries))
            .collect();
        record.timeline = timeline::seconds(self, &fan_out);
        record.lanes = timeline::lanes(self);
        record.errors = errors::errors(self);
        let mut after = worth_telling(self);
        after.extend(asked.iter().filter_map(|name| self.phase(name)));
        after.sort_unstable();
        after.dedup();
        record.recovery = after.into_iter().map(|at| assess(self, rule, at).recovery).collect();
        record.driver = Driver { cpu: record.driver.cpu, ..self.driver() };
        for dependency in &mut record.dependencies {
            let calls = self.calls().iter().filter(|call| *call.dependency == *dependency.name);
            dependency.calls = calls.count() as u64;
        }
        for fault in &mut record.faults {
            let armed = self.phases().iter().filter(|phase| phase.faults.contains(&fault.name));
            fault.requests_meanwhile =
                armed.map(|phase| self.cohort(phase.span).count() as u64).sum();
        }
        record.observations_dropped += self.forgotten();
    }

    fn phase_summary(
        &self,
        phase: &Stretch,
        lengths: &Lengths,
        fan_out: &FanOut,
        retries: &Retries,
    ) -> Phase {
        let span = self.clipped(phase.span);
        let cohort = || self.cohort(phase.span);
        let requests = cohort().count() as u64;
        let count = |is: &dyn Fn(&Sample) -> bool| cohort().filter(|sample| is(sample)).count();
        let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
        let started = cohort().filter_map(|sample| lengths.whole(sample));
        let per_second = |n: f64| (span.seconds() > 0.0).then(|| n / span.seconds());
        let mut outcomes = BTreeMap::new();
        for sample in self.samples().iter().filter(|sample| phase.span.holds(sample.scheduled)) {
            *outcomes.entry(sample.outcome.as_str().to_owned()).or_default() += 1;
        }
        let mut dependencies = BTreeMap::new();
        for name in self.dependencies() {
            let mut part = self.dependency_summary(&name, span);
            let counts = retries.count(self, fan_out, &name, span);
            part.retries = counts.retries;
            part.retries_before_retry_after = counts.early;
            part.client = ClientBehaviour::of(self, retries, &name, span);
            let sent = sent(self, phase.span);
            part.retry_amplification = fan_out.amplification(&name, counts.calls, sent);
            part.calls_per_request = (sent > 0).then(|| counts.calls as f64 / sent as f64);
            dependencies.insert(name.to_string(), part);
        }
        Phase {
            name: phase.name.clone(),
            start_s: span.from.as_secs_f64(),
            end_s: span.to.as_secs_f64(),
            faults: phase.faults.clone(),
            fault_text: phase.fault_text.clone(),
            requests,
            outcomes,
            success_rate: share(count(&|s| s.outcome == Outcome::Ok), requests as usize),
            ttft: Quantiles::of(cohort().filter_map(Sample::ttft).collect()),
            latency: Quantiles::of(
                cohort().filter(|s| s.answered()).map(Sample::latency).collect(),
            ),
            itl: Quantiles::of(gaps(cohort()).collect()),
            completeness: share(started.clone().filter(|whole| *whole).count(), started.count()),
            goodput: per_second(count(&|s| self.good().of(s)) as f64),
            tokens_per_second: per_second(cohort().map(|s| f64::from(s.tokens)).sum()),
            stalls: stalls(cohort()),
            dependencies,
        }
    }

    fn dependency_summary(&self, name: &str, span: Span) -> DependencyPhase {
        let calls = || self.calls_in(span).filter(|call| &*call.dependency == name);
        let count = |is: &dyn Fn(&Call) -> bool| calls().filter(|call| is(call)).count() as u64;
        let (mut statuses, mut grpc_statuses) = (BTreeMap::new(), BTreeMap::new());
        for call in calls() {
            let status = call.status.map_or("none".to_owned(), |status| status.to_string());
            *statuses.entry(status).or_default() += 1;
            if let Some(status) = call.grpc_status {
                *grpc_statuses.entry(grpc::name_of(status)).or_default() += 1;
            }
        }
        DependencyPhase {
            calls: count(&|_| true),
            injected: count(&|call| !call.faults.is_empty()),
            own_errors: count(&Call::own_error),
            abandoned: count(&|call| call.ended == super::CallEnd::ClientGone),
            statuses,
            grpc_statuses,
            time_to_head: Quantiles::of(calls().filter_map(Call::time_to_head).collect()),
            ..DependencyPhase::default()
        }
    }

    fn driver(&self) -> Driver {
        let sent = || self.samples().iter().filter(|sample| sample.sent());
        let lag = |s: &Sample| s.issued.saturating_sub(s.scheduled).as_secs_f64() * 1000.0;
        let mut lags: Vec<f64> = sent().map(lag).collect();
        super::statistics::sort(&mut lags);
        // The 99th of fewer than a hundred is their worst: health errs on the side of doubt.
        let lag_p99_ms = super::statistics::nearest_rank(&lags, 0.99);
        let (planned, sent) = (self.samples().len() as u64, sent().count() as u64);
        let shed = planned - sent;
        let mut warnings = Vec::new();
        if let Some(lag) = lag_p99_ms
            && lag > LAG_MS.max(LAG_SHARE * self.usual_latency() * 1000.0)
        {
            warnings.push(format!(
                "the driver sent late (99th percentile {lag:.0} ms); latencies count from the intended start, so they are too high rather than too low"
            ));
        }
        if shed as f64 > SHED_SHARE * planned as f64 {
            warnings.push(format!(
                "{shed} of {planned} requests were never sent, since too many were in flight; they count as not good"
            ));
        }
        warnings.extend(self.unsteady());
        Driver { lag_p99_ms, lag_max_ms: lags.last().copied(), shed, planned, cpu: None, warnings }
    }

    /// The median latency of good answers in baseline, in seconds; 0 when there is none.
    pub fn usual_latency(&self) -> f64 {
        let Some(baseline) = self.baseline() else { return 0.0 };
        let answered = self.cohort(baseline.span).filter(|sample| sample.answered());
        Quantiles::of(answered.map(Sample::latency).collect()).p50.unwrap_or(0.0)
    }

    /// Little's law in baseline: requests in flight = arrivals a second x time in flight. When it
    /// does not hold, requests piled up before any fault.
    fn unsteady(&self) -> Option<String> {
        let baseline = self.baseline()?;
        let span = self.clipped(baseline.span);
        let all: Vec<&Sample> = self.cohort(span).filter(|sample| sample.sent()).collect();
        let stay = |sample: &Sample| sample.end.saturating_sub(sample.issued).as_secs_f64();
        let mean = all.iter().map(|sample| stay(sample)).sum::<f64>() / all.len().max(1) as f64;
        // Too short to be steady: what arrives at the edges weighs too much.
        if all.len() < 100 || span.seconds() < 20.0 * mean {
            return None;
        }
        let settled = Span::new(span.from + span.length() / 4, span.to);
        let inside = |s: &Sample| Span::new(s.issued, s.end).cut(settled).seconds();
        let in_flight =
            self.samples().iter().filter(|sample| sample.sent()).map(inside).sum::<f64>()
                / settled.seconds();
        let arrivals = all.iter().filter(|sample| settled.holds(sample.issued)).count() as f64;
        let expected = arrivals / settled.seconds() * mean;
        // Chance alone moves the mean of n by about one part in the root of n.
        let allowed = LITTLE.max(3.0 / arrivals.max(1.0).sqrt());
        let off = (in_flight - expected).abs() > allowed * in_flight.max(expected);
        off.then(|| {
            format!("requests piled up in `{}`: {in_flight:.1} in flight where {expected:.1} were to be expected", baseline.name)
        })
    }
}

impl Sample {
    /// Whether it ended as an answer that its user could take for one.
    pub fn answered(&self) -> bool {
        matches!(self.outcome, Outcome::Ok | Outcome::Degraded)
    }
}

impl Call {
    /// Seconds to the head of the answer.
    pub fn time_to_head(&self) -> Option<f64> {
        self.head.map(|head| head.saturating_sub(self.at).as_secs_f64())
    }
}

/// The gaps between content-bearing events, in seconds.
pub fn gaps<'a>(samples: impl Iterator<Item = &'a Sample>) -> impl Iterator<Item = f64> {
    samples.flat_map(|sample| sample.gaps.iter().map(|gap| f64::from(*gap) / 1e6))
}

/// Gaps of more than a second.
pub fn stalls<'a>(samples: impl Iterator<Item = &'a Sample>) -> u64 {
    samples.map(|s| s.gaps.iter().filter(|gap| **gap > STALL).count() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::super::CallEnd;
    use super::super::ledger::tests::{add_call, add_sample, call, phased, sample, secs};
    use super::super::record::{DependencyInfo, FaultLedger};
    use super::*;

    fn summary(ledger: &Ledger) -> Record {
        let mut record = Record {
            dependencies: vec![DependencyInfo { name: "llm".into(), ..DependencyInfo::default() }],
            faults: vec![FaultLedger { name: "f".into(), ..FaultLedger::default() }],
            driver: Driver { cpu: Some(0.5), ..Driver::default() },
            ..Record::default()
        };
        ledger.summarise(&Rule::default(), &[], &mut record);
        record
    }

    fn storm() -> Ledger {
        let mut ledger =
            phased(&[("baseline", 10.0, &[]), ("storm", 10.0, &["f"]), ("end", 5.0, &[])]);
        for number in 0..100 {
            let at = 0.1 + f64::from(number) / 5.0;
            let bad = number >= 50 && number % 5 == 0;
            let mut one = sample(at, 0.4, if bad { Outcome::Truncated } else { Outcome::Ok });
            if bad {
                one.status = Some(200);
                one.gaps = vec![2_000_000, 30_000].into();
            }
            add_sample(&mut ledger, one);
            for attempt in 0..if bad { 3 } else { 1 } {
                let mut one =
                    call("llm", at + f64::from(attempt) / 10.0, if bad { 503 } else { 200 });
                if bad {
                    one.faults = vec!["f".into()];
                    one.retry = Some(attempt);
                }
                add_call(&mut ledger, one);
            }
        }
        ledger
    }

    #[test]
    fn a_phase_says_what_happened_in_it() {
        let record = summary(&storm());
        let [baseline, storm, end] = &record.phases[..] else { panic!("three phases") };
        assert_eq!((baseline.requests, baseline.success_rate), (50, Some(1.0)));
        assert_eq!((storm.start_s, storm.end_s), (10.0, 20.0));
        assert_eq!((storm.requests, storm.success_rate), (50, Some(0.8)));
        assert_eq!(storm.outcomes, BTreeMap::from([("ok".into(), 40), ("truncated".into(), 10)]));
        assert_eq!((storm.completeness, storm.stalls), (Some(0.8), 10));
        assert_eq!((storm.goodput, storm.tokens_per_second), (Some(4.0), Some(80.0)));
        assert_eq!((storm.ttft.n, storm.ttft.p99), (40, None));
        assert!((storm.ttft.p95.unwrap() - 0.1).abs() < 1e-6);
        assert!((storm.latency.p50.unwrap() - 0.4).abs() < 1e-6);
        assert_eq!((storm.itl.n, storm.itl.max), (40 * 19 + 20, Some(2.0)));
        let llm = &storm.dependencies["llm"];
        assert_eq!((llm.calls, llm.retries, llm.injected, llm.own_errors), (70, 20, 30, 0));
        assert!((llm.retry_amplification.unwrap() - 1.4).abs() < 1e-9);
        assert_eq!(llm.statuses, BTreeMap::from([("200".into(), 40), ("503".into(), 30)]));
        assert_eq!((end.requests, end.success_rate, end.completeness), (0, None, None));
        assert_eq!(record.duration_s, 25.0);
        assert_eq!((record.dependencies[0].calls, record.faults[0].requests_meanwhile), (120, 50));
        assert_eq!(record.driver.cpu, Some(0.5));
    }

    #[test]
    fn a_late_or_shedding_driver_is_told() {
        let mut ledger = storm();
        assert_eq!(summary(&ledger).driver.warnings, Vec::<String>::new());
        for number in 0..20 {
            let mut late = sample(11.0 + f64::from(number) / 10.0, 1.0, Outcome::Ok);
            late.issued = late.scheduled + secs(0.3);
            add_sample(&mut ledger, late);
            add_sample(&mut ledger, sample(12.0, 0.0, Outcome::ShedByDriver));
        }
        let driver = summary(&ledger).driver;
        assert_eq!((driver.shed, driver.planned), (20, 140));
        assert!((driver.lag_p99_ms.unwrap() - 300.0).abs() < 1e-6);
        assert!(driver.warnings[0].contains("sent late"), "{:?}", driver.warnings);
        assert!(driver.warnings[1].contains("20 of 140"), "{:?}", driver.warnings);
    }

    #[test]
    fn littles_law_shows_what_piled_up() {
        let piled = |grows: f64| {
            let mut ledger = phased(&[("baseline", 100.0, &[]), ("storm", 10.0, &["f"])]);
            for number in 0..500 {
                let at = f64::from(number) / 5.0;
                // The last fifth hangs until long after the phase.
                let latency = if at > 80.0 { 1.0 + grows } else { 1.0 };
                add_sample(&mut ledger, sample(at, latency, Outcome::Ok));
            }
            ledger.unsteady()
        };
        assert_eq!(piled(0.0), None);
        assert!(piled(15.0).unwrap().contains("piled up in `baseline`"));
    }

    #[test]
    fn a_grpc_call_is_as_good_as_its_own_status() {
        let mut ledger = storm();
        let before = summary(&ledger).phases[1].dependencies["llm"].own_errors;
        for status in [0, 5, 14, 14, 99] {
            let call = Call { grpc_status: Some(status), ..call("llm", 11.0, 200) };
            assert_eq!(call.failed(), status != 0, "{status}");
            add_call(&mut ledger, call);
        }
        let injected = Call { faults: vec!["f".into()], ..call("llm", 11.0, 200) };
        add_call(&mut ledger, Call { grpc_status: Some(8), ..injected });
        let record = summary(&ledger);
        let llm = &record.phases[1].dependencies["llm"];
        let counted = |name: &str| llm.grpc_statuses.get(name).copied();
        assert_eq!(
            (counted("OK"), counted("NOT_FOUND"), counted("UNAVAILABLE")),
            (Some(1), Some(1), Some(2))
        );
        assert_eq!((counted("RESOURCE_EXHAUSTED"), counted("99")), (Some(1), Some(1)));
        assert_eq!(llm.own_errors - before, 2, "what is not found is no fault of the server");
        let ticks = &record.lanes.iter().find(|lane| lane.dependency == "llm").unwrap().ticks;
        let named = ticks.iter().filter(|it| it.grpc_status.as_deref() == Some("UNAVAILABLE"));
        assert_eq!(named.count(), 2);
    }

    #[test]
    fn calls_given_up_and_own_errors_are_apart() {
        let mut ledger = storm();
        add_call(&mut ledger, Call { ended: CallEnd::ClientGone, ..call("llm", 11.0, 200) });
        add_call(&mut ledger, Call { ended: CallEnd::UpstreamCut, ..call("llm", 11.0, 200) });
        add_call(&mut ledger, Call { status: None, ..call("llm", 11.0, 0) });
        let record = summary(&ledger);
        let llm = &record.phases[1].dependencies["llm"];
        assert_eq!((llm.abandoned, llm.own_errors, llm.statuses["none"]), (1, 1, 1));
    }
}
