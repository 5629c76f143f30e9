//! What a record says, before any format: which phase is the baseline, which the worst, which
//! expectation breaks on what, what became of a fault. Every report draws from here, so that they
//! never tell different stories.

use crate::measure::record::{Expected, FaultLedger, Phase, Record, Verdict};

use super::numbers;

/// The sign of a verdict.
pub(super) fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Aborted => "■",
        Verdict::Fail => "✗",
        Verdict::Inconclusive => "?",
        Verdict::Pass => "✓",
    }
}

/// The word of a verdict.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Aborted => "ABORTED",
        Verdict::Fail => "FAIL",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Pass => "PASS",
    }
}

/// Whether a failure of this expectation is only told.
pub(super) fn only_warns(expected: &Expected) -> bool {
    expected.severity == "warn"
}

/// The reasons that say more than the headline, the tally and the expectations do.
pub(super) fn reasons(record: &Record) -> impl Iterator<Item = &String> {
    // A reason that begins with an expectation stands in their table, numbers and all.
    let judged = |reason: &String| {
        let quoted = reason.strip_prefix("warning: ").unwrap_or(reason).strip_prefix('`');
        quoted.is_some_and(|it| {
            record.expectations.iter().any(|told| {
                !told.text.is_empty()
                    && it.strip_prefix(&*told.text).is_some_and(|rest| rest.starts_with('`'))
            })
        })
    };
    let tally = Tally::of(record).sentence();
    record.reasons.iter().filter(move |it| {
        !it.trim().is_empty()
            && !judged(it)
            && !record.headline.contains(it.as_str())
            && !tally.contains(it.as_str())
    })
}

/// Whether a reason speaks of this already.
pub(super) fn is_reason(record: &Record, what: &str) -> bool {
    record.reasons.iter().any(|reason| reason.contains(what))
}

/// How many expectations ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) total: usize,
    pub(super) failed: usize,
    pub(super) warned: usize,
    pub(super) inconclusive: usize,
    pub(super) met: usize,
}

impl Tally {
    pub(super) fn of(record: &Record) -> Self {
        let mut tally = Self { total: record.expectations.len(), ..Self::default() };
        for expected in &record.expectations {
            match expected.verdict {
                Verdict::Pass => tally.met += 1,
                Verdict::Fail if only_warns(expected) => tally.warned += 1,
                Verdict::Fail => tally.failed += 1,
                Verdict::Aborted | Verdict::Inconclusive => tally.inconclusive += 1,
            }
        }
        tally
    }

    /// `3 of 6 expectations failed, 1 had too few samples`.
    pub(super) fn sentence(self) -> String {
        let Self { total, failed, warned, inconclusive, met } = self;
        if total == 0 {
            return "no expectations were written".into();
        }
        let mut parts = Vec::new();
        if failed > 0 {
            parts.push(format!("{failed} of {total} expectations failed"));
        } else if met == total {
            parts.push(match total {
                1 => "the one expectation was met".into(),
                _ => format!("all {total} expectations were met"),
            });
        } else {
            parts.push(format!("{met} of {total} expectations were met"));
        }
        if inconclusive > 0 {
            parts.push(format!("{inconclusive} could not be judged"));
        }
        if warned > 0 {
            parts.push(numbers::of(warned as u64, "warning", "warnings"));
        }
        parts.join(", ")
    }
}

/// The expectations, the ones that need attention first, each group in the file's order.
pub(super) fn by_urgency(record: &Record) -> Vec<&Expected> {
    let mut all: Vec<&Expected> = record.expectations.iter().collect();
    all.sort_by_key(|expected| urgency(expected));
    all
}

fn urgency(expected: &Expected) -> u8 {
    match expected.verdict {
        Verdict::Fail if !only_warns(expected) => 0,
        Verdict::Aborted => 1,
        Verdict::Inconclusive => 2,
        Verdict::Fail => 3,
        Verdict::Pass => 4,
    }
}

/// All requests of the driver.
pub(super) fn requests(record: &Record) -> u64 {
    record.phases.iter().map(|phase| phase.requests).sum()
}

/// An expectation's sentence in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sentence<'a> {
    pub(super) metric: &'a str,
    pub(super) op: &'a str,
    /// What it is compared with (`95%`, `110% of baseline`).
    pub(super) limit: &'a str,
    /// ` during storm`, ` after storm`, or nothing.
    pub(super) scope: &'a str,
}

/// Takes a sentence apart; None when it has no comparison.
pub(super) fn sentence(text: &str) -> Option<Sentence<'_>> {
    let at = text.find(['<', '>', '=', '!'])?;
    let after = text[at..].trim_start_matches(['<', '>', '=', '!']);
    let op = &text[at..text.len() - after.len()];
    let scope = [" during ", " after ", " for "]
        .iter()
        .filter_map(|word| after.find(word))
        .min()
        .unwrap_or(after.len());
    let (limit, scope) = after.split_at(scope);
    Some(Sentence { metric: text[..at].trim(), op, limit: limit.trim(), scope: scope.trim_end() })
}

/// A number that every phase has and that gets a tile, a column or a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Amplification,
    Completeness,
    Itl,
    Latency,
    Success,
    Ttft,
}

impl Measure {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Amplification => "Retry amplification",
            Self::Completeness => "Completeness",
            Self::Itl => "ITL p99",
            Self::Latency => "Latency p95",
            Self::Success => "Success rate",
            Self::Ttft => "TTFT p95",
        }
    }

    pub(super) fn value(self, phase: &Phase) -> Option<f64> {
        let value = match self {
            Self::Amplification => worst_amplification(phase).map(|(_, value)| value),
            Self::Completeness => phase.completeness,
            Self::Itl => below_max(phase.itl.p99, phase.itl.max),
            Self::Latency => below_max(phase.latency.p95, phase.latency.max),
            Self::Success => phase.success_rate,
            Self::Ttft => below_max(phase.ttft.p95, phase.ttft.max),
        };
        value.filter(|value| value.is_finite())
    }

    /// How many samples stand behind the value.
    pub(super) fn samples(self, phase: &Phase) -> u64 {
        match self {
            Self::Itl => phase.itl.n,
            Self::Latency => phase.latency.n,
            Self::Ttft => phase.ttft.n,
            Self::Amplification | Self::Completeness | Self::Success => phase.requests,
        }
    }

    pub(super) fn format(self, value: f64) -> String {
        match self {
            Self::Completeness | Self::Success => numbers::percent(value),
            Self::Itl | Self::Latency | Self::Ttft => numbers::seconds(value),
            Self::Amplification => numbers::times(value),
        }
    }

    /// Whether more is better.
    fn rises(self) -> bool {
        matches!(self, Self::Completeness | Self::Success)
    }

    /// Whether an expectation speaks of this measure.
    pub(super) fn is_meant_by(self, expected: &Expected) -> bool {
        let Some(Sentence { metric, .. }) = sentence(&expected.text) else { return false };
        match self {
            Self::Amplification => metric.starts_with("retry_amplification"),
            Self::Completeness => metric == "completeness",
            Self::Itl => metric == "p99(itl)",
            Self::Latency => metric == "p95(latency)",
            Self::Success => metric == "success_rate",
            Self::Ttft => metric == "p95(ttft)",
        }
    }
}

/// A percentile is never told above the maximum.
pub(super) fn below_max(quantile: Option<f64>, max: Option<f64>) -> Option<f64> {
    match (quantile, max) {
        (Some(quantile), Some(max)) => Some(quantile.min(max)),
        (quantile, _) => quantile,
    }
}

/// The dependency whose calls grew most in this phase, and how much.
pub(super) fn worst_amplification(phase: &Phase) -> Option<(&str, f64)> {
    phase
        .dependencies
        .iter()
        .filter_map(|(name, it)| Some((name.as_str(), it.retry_amplification?)))
        .filter(|(_, value)| value.is_finite())
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The expectation that says most about a measure: a broken one first.
pub(super) fn telling(record: &Record, measure: Measure) -> Option<&Expected> {
    by_urgency(record).into_iter().find(|expected| measure.is_meant_by(expected)).map(|first| {
        // Among the met ones the closest to its limit, leaving the guard of the baseline aside.
        let baseline = baseline(record).map(|phase| phase.name.as_str());
        record
            .expectations
            .iter()
            .filter(|it| first.verdict == Verdict::Pass && measure.is_meant_by(it))
            .filter(|it| it.phase.as_deref() != baseline)
            .min_by(|a, b| nearness(a).total_cmp(&nearness(b)))
            .unwrap_or(first)
    })
}

fn nearness(expected: &Expected) -> f64 {
    expected.margin.unwrap_or(f64::INFINITY)
}

/// Whether an expectation on this measure is broken in this phase (for the run, when it names none).
pub(super) fn breaks(record: &Record, measure: Measure, phase: &Phase) -> bool {
    record.expectations.iter().any(|expected| {
        expected.verdict == Verdict::Fail
            && measure.is_meant_by(expected)
            && expected.phase.as_ref().is_some_and(|name| *name == phase.name)
    })
}

/// The healthy phase at the start, if there is one.
pub(super) fn baseline(record: &Record) -> Option<&Phase> {
    let first = record.phases.first()?;
    (record.phases.len() > 1 || first.faults.is_empty()).then_some(first)
}

/// The healthy phase at the end, if there is one.
pub(super) fn recovered(record: &Record) -> Option<&Phase> {
    let last = record.phases.last()?;
    (record.phases.len() > 2 && last.faults.is_empty()).then_some(last)
}

/// Phases between baseline and recovery.
fn troubled(record: &Record) -> &[Phase] {
    let start = usize::from(baseline(record).is_some());
    let end = record.phases.len() - usize::from(recovered(record).is_some());
    record.phases.get(start..end).unwrap_or_default()
}

/// From healthy to worst to healthy again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Journey<'a> {
    pub(super) baseline: Option<f64>,
    pub(super) worst: Option<f64>,
    /// Where it was worst.
    pub(super) worst_phase: Option<&'a Phase>,
    pub(super) recovered: Option<f64>,
}

/// How a measure went; where a broken expectation names a troubled phase, that phase is the worst.
pub(super) fn journey(record: &Record, measure: Measure) -> Journey<'_> {
    let broken = telling(record, measure).filter(|it| it.verdict == Verdict::Fail);
    let named = troubled(record).iter().find(|phase| {
        broken.is_some_and(|it| it.phase.as_ref() == Some(&phase.name))
            && measure.value(phase).is_some()
    });
    let worst = named.or_else(|| worst_phase(troubled(record), measure));
    Journey {
        baseline: baseline(record).and_then(|phase| measure.value(phase)),
        worst: worst.and_then(|phase| measure.value(phase)),
        worst_phase: worst,
        recovered: recovered(record).and_then(|phase| measure.value(phase)),
    }
}

fn worst_phase(phases: &[Phase], measure: Measure) -> Option<&Phase> {
    let badness = |phase: &&Phase| {
        measure.value(phase).map(|value| if measure.rises() { -value } else { value })
    };
    phases
        .iter()
        .filter(|phase| badness(phase).is_some())
        .max_by(|a, b| badness(a).partial_cmp(&badness(b)).unwrap_or(std::cmp::Ordering::Equal))
}

/// What the app's clients did that is worth a look, each with its dependency and phase.
pub(super) fn findings(record: &Record) -> impl Iterator<Item = String> {
    let in_phase = |phase: &Phase| {
        let name = phase.name.clone();
        let told = phase.dependencies.iter().flat_map(|(dependency, it)| {
            it.client.findings.iter().map(move |words| (dependency.clone(), words.clone()))
        });
        let told: Vec<_> = told.collect();
        told.into_iter().map(move |(dependency, words)| format!("{dependency} in {name}: {words}"))
    };
    record.phases.iter().flat_map(in_phase)
}

/// Whether answers were streamed, so that a time to the first token exists.
pub(super) fn streamed(record: &Record) -> bool {
    record.phases.iter().any(|phase| phase.ttft.n > 0)
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It acted.
    Hit,
    /// It was in the shadow, and would have acted.
    Shadow,
    /// It was to act and never did: no run with it is green.
    NeverHit,
    /// No phase armed it.
    Unused,
}

pub(super) fn fate(record: &Record, fault: &FaultLedger) -> Fate {
    let planned = record.phases.iter().any(|phase| phase.faults.contains(&fault.name));
    match fault {
        _ if fault.hit > 0 => Fate::Hit,
        _ if fault.would_hit > 0 => Fate::Shadow,
        _ if planned || fault.armed > 0 => Fate::NeverHit,
        _ => Fate::Unused,
    }
}

/// Why a fault never acted, in words.
pub(super) fn never_hit_because(fault: &FaultLedger) -> String {
    if let Some(why) = passed_over(fault) {
        return why;
    }
    match fault {
        _ if fault.armed == 0 => "no request passed while it was armed".into(),
        _ if fault.matched == 0 => "its `where` matched none of the requests".into(),
        _ if fault.selected == 0 && !fault.out_of_turn.is_empty() => {
            let parts: Vec<&str> = fault.out_of_turn.keys().map(String::as_str).collect();
            format!("its `when` held for none of the requests it matched ({})", parts.join(", "))
        }
        _ if fault.selected == 0 => "its `percent` chose none of the requests it matched".into(),
        _ => "it was chosen but no effect acted".into(),
    }
}

/// Why a fault did not act on exchanges that it was meant for, in words; None when it acted on all.
pub(super) fn passed_over(fault: &FaultLedger) -> Option<String> {
    let reasons: Vec<String> =
        fault.reasons.iter().map(|(why, n)| format!("{why} ({})", times(*n))).collect();
    match (fault.impossible + fault.let_go, reasons.is_empty()) {
        (0, _) => None,
        (_, true) => Some("its effects could not act".into()),
        (_, false) => Some(reasons.join(", ")),
    }
}

/// `1,204×`.
fn times(count: u64) -> String {
    format!("{}×", numbers::count(count))
}

/// The share of matched exchanges that the percent really chose, and its 95 % interval.
pub(super) fn really_selected(fault: &FaultLedger) -> Option<(f64, [f64; 2])> {
    let interval = numbers::wilson(fault.selected, fault.matched)?;
    Some((fault.selected as f64 / fault.matched as f64, interval))
}

/// `21 s`, or `> 30 s` when the run ended first. Recovery is found to the second.
pub(super) fn recovery_time(recovery: &crate::measure::record::Recovery) -> String {
    match recovery.time_to_recover_s {
        Some(time) if time.is_finite() && recovery.censored => {
            format!("> {}", numbers::whole_seconds(time))
        }
        Some(time) => numbers::whole_seconds(time),
        None if recovery.censored => "not recovered".into(),
        None => numbers::DASH.into(),
    }
}

/// The limit written for the recovery after a phase: `< 10s`.
pub(super) fn recovery_limit<'a>(record: &'a Record, after: &str) -> Option<String> {
    recovery_expectation(record, after)
        .and_then(|expected| sentence(&expected.text))
        .map(|parts: Sentence<'a>| format!("{} {}", parts.op, parts.limit))
}

/// The expectation on the recovery after a phase.
pub(super) fn recovery_expectation<'a>(record: &'a Record, after: &str) -> Option<&'a Expected> {
    by_urgency(record).into_iter().find(|expected| {
        let about = sentence(&expected.text).is_some_and(|it| it.metric == "time_to_recover");
        about && expected.phase.as_deref().is_none_or(|phase| phase == after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_come_apart() {
        let parts = sentence("p95(ttft) <= 110% of baseline during recovery").unwrap();
        assert_eq!(parts.metric, "p95(ttft)");
        assert_eq!(
            (parts.op, parts.limit, parts.scope),
            ("<=", "110% of baseline", " during recovery")
        );
        let parts = sentence("user_error_rate{kind=\"garbled\"} == 0");
        // The label's own `=` comes first: such a metric belongs to no tile, and that is all.
        assert_eq!(parts.unwrap().metric, "user_error_rate{kind");
        assert_eq!(sentence("nothing to compare"), None);
        assert_eq!(sentence("x < 1").unwrap().scope, "");
    }

    #[test]
    fn a_percentile_is_never_told_above_the_maximum() {
        assert_eq!(below_max(Some(2.0), Some(1.5)), Some(1.5));
        assert_eq!(below_max(Some(2.0), None), Some(2.0));
        assert_eq!(below_max(None, Some(1.5)), None);
    }

    #[test]
    fn a_fault_that_did_not_fire_says_why() {
        let mut fault = FaultLedger { armed: 10, matched: 4, ..FaultLedger::default() };
        assert!(never_hit_because(&fault).contains("percent"));
        fault.matched = 0;
        assert!(never_hit_because(&fault).contains("`where`"));
        fault.armed = 0;
        assert!(never_hit_because(&fault).contains("no request"));
        fault.impossible = 2;
        fault.reasons.insert("not a stream".into(), 2);
        assert_eq!(never_hit_because(&fault), "not a stream (2×)");
        fault.let_go = 1200;
        fault.reasons.insert("within the limit".into(), 1200);
        assert_eq!(never_hit_because(&fault), "not a stream (2×), within the limit (1,200×)");
    }

    #[test]
    fn an_empty_record_has_no_phases_to_tell() {
        let record = Record::default();
        assert!(baseline(&record).is_none() && recovered(&record).is_none());
        assert!(journey(&record, Measure::Success).worst.is_none());
        assert_eq!(Tally::of(&record).sentence(), "no expectations were written");
    }
}
