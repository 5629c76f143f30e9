//! The run second by second, and what happened at each dependency.

use std::sync::Arc;
use std::time::Duration;

use super::record::{Lane, Second, Tick};
use super::retry::FanOut;
use super::statistics::{carried, sort};
use super::{Ledger, Outcome, Sample};
use crate::dialect::grpc;

/// The most ticks of a lane.
const MOST_TICKS: usize = 3000;
/// Quantiles of a second look back until so many requests are in view, but no further than this.
const ENOUGH: usize = 20;
const FURTHEST: usize = 10;
/// Amplification looks back so many seconds.
const AMPLIFICATION_WINDOW: usize = 5;
/// Seconds of a timeline; a longer run shows its first day.
const MOST_SECONDS: usize = 86_400;

/// One row a second: arrivals, good and failed ones by intended start; the rest by the clock.
pub(super) fn seconds(ledger: &Ledger, fan_out: &FanOut) -> Vec<Second> {
    let n = (ledger.ended().as_secs_f64().ceil() as usize).min(MOST_SECONDS);
    let mut rows: Vec<Second> =
        (0..n).map(|at| Second { at_s: at as f64, ..Second::default() }).collect();
    let mut times: Vec<Times> = vec![Times::default(); n];
    let mut sent = vec![0_u64; n];
    for sample in ledger.samples() {
        count(ledger, sample, &mut rows);
        let at = second(sample.scheduled);
        if let (true, Some(sent)) = (sample.sent(), sent.get_mut(at)) {
            *sent += 1;
        }
        if let (true, Some(times)) = (sample.outcome.counts(), times.get_mut(at)) {
            times.ttft.extend(sample.ttft());
            times.latency.extend(sample.answered().then(|| sample.latency()));
        }
    }
    for call in ledger.calls() {
        if let Some(row) = rows.get_mut(second(call.at)) {
            *row.calls.entry(call.dependency.to_string()).or_default() += 1;
        }
    }
    let dependencies = ledger.dependencies();
    for at in 0..n {
        let from = at.saturating_sub(AMPLIFICATION_WINDOW - 1);
        let amplification =
            amplification(&rows[from..=at], &sent[from..=at], &dependencies, fan_out);
        let ttft = in_view(&times[..=at], |times| &times.ttft);
        let latency = in_view(&times[..=at], |times| &times.latency);
        let row = &mut rows[at];
        row.amplification = amplification;
        row.ttft_p50 = carried(&ttft, 0.50);
        row.ttft_p95 = carried(&ttft, 0.95);
        row.ttft_p99 = carried(&ttft, 0.99);
        row.latency_p50 = carried(&latency, 0.50);
        row.latency_p95 = carried(&latency, 0.95);
    }
    rows
}

#[derive(Clone, Default)]
struct Times {
    ttft: Vec<f64>,
    latency: Vec<f64>,
}

fn second(at: Duration) -> usize {
    at.as_secs() as usize
}

fn count(ledger: &Ledger, sample: &Sample, rows: &mut [Second]) {
    let counts = sample.outcome.counts();
    if let (true, Some(row)) = (counts, rows.get_mut(second(sample.scheduled))) {
        row.arrivals += 1;
        row.good += u64::from(ledger.good().of(sample));
        row.failed += u64::from(sample.outcome != Outcome::Ok);
    }
    if let (true, Some(row)) = (counts && sample.sent(), rows.get_mut(second(sample.end))) {
        row.completed += 1;
    }
    if sample.sent() && !rows.is_empty() {
        let last = second(sample.end).min(rows.len() - 1);
        // In flight at the start of a second: issued by then, not yet over.
        let first = sample.issued.as_secs_f64().ceil() as usize;
        for row in rows.iter_mut().take(last + 1).skip(first) {
            row.in_flight += u64::from(Duration::from_secs_f64(row.at_s) < sample.end);
        }
    }
    spread_tokens(sample, rows);
}

/// Puts each token into the second in which it came.
fn spread_tokens(sample: &Sample, rows: &mut [Second]) {
    let Some(first) = sample.first_token else { return };
    let thinned = sample.gaps.len() + 1 != sample.tokens as usize;
    if thinned {
        // The gaps are a selection: all that is known is when the last one came.
        if let Some(row) = rows.get_mut(second(sample.last_token.unwrap_or(first))) {
            row.tokens += u64::from(sample.tokens);
        }
        return;
    }
    let mut at = first;
    for gap in [0].iter().chain(&*sample.gaps) {
        at += Duration::from_micros(u64::from(*gap));
        if let Some(row) = rows.get_mut(second(at)) {
            row.tokens += 1;
        }
    }
}

/// The sorted values of the last seconds, as few seconds as hold enough.
fn in_view(times: &[Times], of: impl Fn(&Times) -> &Vec<f64>) -> Vec<f64> {
    let mut values = Vec::new();
    for times in times.iter().rev().take(FURTHEST) {
        values.extend_from_slice(of(times));
        if values.len() >= ENOUGH {
            break;
        }
    }
    sort(&mut values);
    values
}

fn amplification(
    rows: &[Second],
    sent: &[u64],
    dependencies: &[Arc<str>],
    fan_out: &FanOut,
) -> Option<f64> {
    let sent: u64 = sent.iter().sum();
    let of = |dependency: &Arc<str>| {
        let calls = rows.iter().filter_map(|row| row.calls.get(&**dependency)).sum();
        fan_out.amplification(dependency, calls, sent)
    };
    dependencies.iter().filter_map(of).max_by(f64::total_cmp)
}

/// One lane a dependency: a tick for each fault that acted and each error of its own.
pub(super) fn lanes(ledger: &Ledger) -> Vec<Lane> {
    let lane = |dependency: &Arc<str>| {
        let mut ticks = Vec::new();
        for call in ledger.calls().iter().filter(|call| call.dependency == *dependency) {
            let tick = |fault| Tick {
                at_s: call.at.as_secs_f64(),
                fault,
                status: call.status,
                grpc_status: call.grpc_status.map(grpc::name_of),
            };
            ticks.extend(call.faults.iter().map(|fault| tick(Some(fault.to_string()))));
            ticks.extend(call.own_error().then(|| tick(None)));
        }
        ticks.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        Lane { dependency: dependency.to_string(), ticks: thinned(ticks) }
    };
    ledger.dependencies().iter().map(lane).collect()
}

/// At most so many ticks, evenly chosen.
fn thinned(ticks: Vec<Tick>) -> Vec<Tick> {
    let step = ticks.len().div_ceil(MOST_TICKS).max(1);
    ticks.into_iter().step_by(step).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{add_call, add_sample, call, phased, sample};
    use super::*;

    #[test]
    fn seconds_count_by_intended_start_and_by_the_clock() {
        let mut ledger = phased(&[("baseline", 4.0, &[]), ("storm", 4.0, &["f"])]);
        add_sample(&mut ledger, sample(0.5, 2.0, Outcome::Ok));
        add_sample(&mut ledger, sample(0.7, 0.1, Outcome::Http5xx));
        add_sample(&mut ledger, sample(1.0, 0.0, Outcome::ShedByDriver));
        add_sample(&mut ledger, sample(1.2, 0.0, Outcome::CancelledByDriver));
        add_call(&mut ledger, call("llm", 0.6, 200));
        for at in [4.1, 4.2, 4.3, 4.4] {
            add_sample(&mut ledger, sample(at, 0.1, Outcome::Ok));
            add_call(&mut ledger, call("llm", at, 503));
        }
        let rows = seconds(&ledger, &FanOut::of(&ledger));
        assert_eq!(rows.len(), 8);
        assert_eq!((rows[0].arrivals, rows[0].good, rows[0].failed), (2, 1, 1));
        assert_eq!((rows[1].arrivals, rows[1].good, rows[1].failed), (1, 0, 1), "shed");
        assert_eq!((rows[0].completed, rows[2].completed), (1, 1));
        let in_flight: Vec<u64> = rows.iter().map(|row| row.in_flight).collect();
        assert_eq!(in_flight, [0, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(rows.iter().map(|row| row.tokens).sum::<u64>(), 5 * 20);
        assert_eq!(rows[1].tokens, 20, "from 1.0 s on, every 20 ms");
        assert_eq!(rows[0].calls["llm"], 1);
        // One call for three requests is usual; here there were five for seven.
        assert!((rows[4].amplification.unwrap() - 15.0 / 7.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_look_back_only_as_far_as_needed() {
        let mut ledger = phased(&[("baseline", 30.0, &[])]);
        for number in 0..300 {
            let at = f64::from(number) / 10.0;
            add_sample(&mut ledger, sample(at, if at < 15.0 { 0.4 } else { 0.8 }, Outcome::Ok));
        }
        let rows = seconds(&ledger, &FanOut::default());
        assert_eq!(rows[0].ttft_p95, None, "ten are too few");
        assert!((rows[14].latency_p95.unwrap() - 0.4).abs() < 1e-6);
        assert!((rows[16].latency_p50.unwrap() - 0.8).abs() < 1e-6, "two seconds are enough");
        assert_eq!(rows[20].ttft_p99, None, "never a hundred in view");
    }

    #[test]
    fn lanes_are_thinned_evenly() {
        let mut ledger = phased(&[("baseline", 1.0, &[]), ("storm", 100.0, &["f"])]);
        for number in 0..10_000 {
            let mut one = call("llm", 1.0 + f64::from(number) / 100.0, 429);
            one.faults = vec!["f".into()];
            add_call(&mut ledger, one);
        }
        add_call(&mut ledger, call("vectors", 3.0, 200));
        add_call(&mut ledger, call("vectors", 4.0, 500));
        let lanes = lanes(&ledger);
        let ticks = &lanes[0].ticks;
        assert!(ticks.len() > MOST_TICKS / 2 && ticks.len() <= MOST_TICKS, "{}", ticks.len());
        assert!(ticks[ticks.len() - 1].at_s > 100.0, "to the end");
        assert_eq!(lanes[1].ticks, [Tick { at_s: 4.0, status: Some(500), ..Tick::default() }]);
    }
}
