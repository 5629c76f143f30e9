//! How the app's clients behave towards a dependency, seen on the wire and so for every language:
//! attempts, waits between them, what is repeated although it cannot help, what is never given up.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attempts::Mark;
use super::retry::Retries;
use super::statistics::{nearest_rank, sort};
use super::{Call, Ledger, Span};

/// The width of the bins in which herds of retries show.
const BIN: Duration = Duration::from_millis(100);
/// Fewer retries make no herd.
const HERD: usize = 20;
/// From this index of dispersion on retries come in herds.
const SYNCHRONISED: f64 = 3.0;
/// The official SDKs make three attempts.
const USUAL_ATTEMPTS: u64 = 3;
/// A client that waits longer without a byte has no read timeout to speak of.
const PATIENT: Duration = Duration::from_secs(30);

/// How the app's clients behaved towards a dependency: the same for every language, since it is
/// seen on the wire. Calls are counted by their start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClientBehaviour {
    /// The most attempts that one call got: the first and its retries.
    pub attempts_max: u64,
    /// Attempts of a call whose first attempt failed, on average; null when none failed.
    pub attempts_mean: Option<f64>,
    /// The median seconds from a failed answer to the first retry, to the second, and so on.
    pub waits_s: Vec<f64>,
    /// Second and later retries of a call that came within 100 ms of the failure before.
    pub retries_without_backoff: u64,
    /// How much retries come in herds: the variance over the mean of their number in bins of
    /// 100 ms. About 1 when they come at random, above 3 in herds; null with fewer than 20.
    pub retry_synchrony: Option<f64>,
    /// Retries of answers that no retry can mend: 400, 401, 403, 404, 405, 413, 422, or
    /// `x-should-retry: false`.
    pub needless_retries: u64,
    /// Retries that began while the attempt before was still on its way.
    pub overlapping_retries: u64,
    /// The longest that the app waited for the next byte while a fault held it back, in seconds,
    /// without giving up; null when nothing was held back.
    pub longest_silence_s: Option<f64>,
    /// Answers cut in mid-stream that the app did not ask for again within 120 s.
    pub unrepeated_cuts: u64,
    /// Events of streams (about a token each) that were sent before the call failed or was given
    /// up, as far as a fault looked at them.
    pub wasted_tokens: u64,
    /// Body bytes of the same.
    pub wasted_bytes: u64,
    /// What is worth a look, in words.
    pub findings: Vec<String>,
}

/// A call of the dependency within the span, what it is, and its place in the ledger.
#[derive(Clone, Copy)]
struct Seen<'a> {
    call: &'a Call,
    mark: Mark,
    place: usize,
}

impl ClientBehaviour {
    /// What the calls to a dependency that began in a span show.
    pub fn of(ledger: &Ledger, retries: &Retries, dependency: &str, span: Span) -> Self {
        let all = ledger.calls();
        let seen: Vec<Seen<'_>> = all
            .iter()
            .zip(retries.marks())
            .enumerate()
            .map(|(place, (call, mark))| Seen { call, mark: *mark, place })
            .filter(|seen| &*seen.call.dependency == dependency && span.holds(seen.call.at))
            .collect();
        let repeats: Vec<Seen<'_>> = seen.iter().filter(|seen| seen.mark.retry).copied().collect();
        let repeated = retries.marks().iter().filter_map(|mark| mark.failed);
        let repeated: HashSet<usize> = repeated.map(|failed| failed.place).collect();
        let count = |is: &dyn Fn(&Mark) -> bool| {
            repeats.iter().filter(|seen| is(&seen.mark)).count() as u64
        };
        let wasted = || seen.iter().filter(|seen| seen.call.failed());
        let silences = seen.iter().map(|seen| seen.call.silence);
        let mut behaviour = Self {
            attempts_max: seen.iter().map(|seen| u64::from(seen.mark.attempt)).max().unwrap_or(0),
            attempts_mean: attempts_mean(&seen, &repeats),
            waits_s: waits(&repeats),
            retries_without_backoff: count(&Mark::at_once),
            retry_synchrony: synchrony(&repeats, span),
            needless_retries: count(&Mark::needless),
            overlapping_retries: overlapping(&seen),
            longest_silence_s: silences
                .filter(|silence| !silence.is_zero())
                .max()
                .map(|silence| silence.as_secs_f64()),
            unrepeated_cuts: seen
                .iter()
                .filter(|seen| seen.call.was_cut() && !repeated.contains(&seen.place))
                .count() as u64,
            wasted_tokens: wasted().map(|seen| seen.call.events).sum(),
            wasted_bytes: wasted().map(|seen| seen.call.bytes).sum(),
            findings: Vec::new(),
        };
        let early = count(&|mark| mark.early);
        behaviour.findings = behaviour.in_words(repeats.len(), early);
        behaviour
    }

    /// What is worth a look.
    fn in_words(&self, retries: usize, early: u64) -> Vec<String> {
        let mut words = Vec::new();
        if self.attempts_max > USUAL_ATTEMPTS {
            words.push(format!(
                "retries multiply: a call was attempted {} times, where an official SDK makes {USUAL_ATTEMPTS} attempts",
                self.attempts_max
            ));
        }
        if early > 0 {
            words.push(format!("{early} of {retries} retries came before Retry-After had passed"));
        }
        if self.retries_without_backoff > 0 {
            words.push(format!(
                "{} retries came within 100 ms of the failure before: there is no back-off",
                self.retries_without_backoff
            ));
        }
        if let Some(synchrony) = self.retry_synchrony.filter(|value| *value > SYNCHRONISED) {
            words.push(format!(
                "retries come in herds (index of dispersion {synchrony:.1}): they wait equally long, without jitter"
            ));
        }
        if self.needless_retries > 0 {
            words.push(format!(
                "{} retries repeat what no retry can mend, such as a 400 or a 401",
                self.needless_retries
            ));
        }
        if let Some(silence) = self.longest_silence_s.filter(|it| *it >= PATIENT.as_secs_f64()) {
            words.push(format!(
                "a call waited {silence:.0} s without a byte and was not given up: there is no read timeout below that"
            ));
        }
        if self.unrepeated_cuts > 0 {
            words.push(format!(
                "{} answers that broke off were not asked for again: see whether users were shown them as whole",
                self.unrepeated_cuts
            ));
        }
        words
    }
}

/// Attempts for each call whose first attempt failed.
fn attempts_mean(seen: &[Seen<'_>], repeats: &[Seen<'_>]) -> Option<f64> {
    let first = |seen: &&Seen<'_>| !seen.mark.retry && seen.call.failed();
    let failed = seen.iter().filter(first).count();
    (failed > 0).then(|| (failed + repeats.len()) as f64 / failed as f64)
}

/// The median wait before the first retry, the second, and so on, as far as each is known.
fn waits(repeats: &[Seen<'_>]) -> Vec<f64> {
    let mut by_attempt: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for seen in repeats {
        if let Some(failed) = seen.mark.failed {
            by_attempt.entry(seen.mark.attempt).or_default().push(failed.waited.as_secs_f64());
        }
    }
    let median = |mut waits: Vec<f64>| {
        sort(&mut waits);
        nearest_rank(&waits, 0.5).unwrap_or_default()
    };
    by_attempt.into_values().map(median).collect()
}

/// The index of dispersion of the starts of retries.
fn synchrony(repeats: &[Seen<'_>], span: Span) -> Option<f64> {
    if repeats.len() < HERD {
        return None;
    }
    let mut bins: BTreeMap<u128, f64> = BTreeMap::new();
    for seen in repeats {
        *bins.entry(seen.call.at.as_nanos() / BIN.as_nanos()).or_default() += 1.0;
    }
    let width = (span.length().as_nanos() / BIN.as_nanos()).max(1) as f64;
    let width = width.max(bins.len() as f64);
    let mean = repeats.len() as f64 / width;
    let squares: f64 = bins.values().map(|count| (count - mean).powi(2)).sum();
    let empty = (width - bins.len() as f64) * mean.powi(2);
    Some((squares + empty) / width / mean)
}

/// Retries, by the client's word, that began before the same request's earlier attempt had ended.
fn overlapping(seen: &[Seen<'_>]) -> u64 {
    let mut running: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
    for seen in seen {
        if let Some(key) = seen.call.key {
            running.entry(key).or_default().push(seen.call);
        }
    }
    let overlaps = |call: &&Call, others: &[&Call]| {
        let said = call.retry.unwrap_or(0);
        let on_its_way = |other: &&Call| {
            other.retry.unwrap_or(0) + 1 == said && other.at < call.at && call.at < other.end
        };
        said > 0 && others.iter().any(on_its_way)
    };
    running.values().map(|calls| calls.iter().filter(|it| overlaps(it, calls)).count() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::super::CallEnd;
    use super::super::ledger::tests::{add_call, call, phased, secs};
    use super::*;

    fn behaviour(calls: Vec<Call>) -> ClientBehaviour {
        let mut ledger = phased(&[("storm", 100.0, &["f"])]);
        for call in calls {
            add_call(&mut ledger, call);
        }
        let storm = ledger.during("storm").unwrap();
        ClientBehaviour::of(&ledger, &Retries::of(&ledger), "llm", storm)
    }

    /// The attempts of one call, each failing with this status and beginning after these waits.
    fn attempts(start: f64, status: u16, waits: &[f64]) -> Vec<Call> {
        let mut at = start;
        let mut calls = vec![Call { retry: Some(0), key: Some(1), ..call("llm", at, status) }];
        for (number, wait) in waits.iter().enumerate() {
            let failed = calls.last().unwrap().head.unwrap().as_secs_f64();
            at = failed + wait;
            let retry = Some(number as u32 + 1);
            calls.push(Call { retry, key: Some(1), ..call("llm", at, status) });
        }
        calls
    }

    #[test]
    fn attempts_and_waits_are_told() {
        let seen = behaviour(attempts(1.0, 503, &[0.5, 1.0]));
        assert_eq!((seen.attempts_max, seen.attempts_mean), (3, Some(3.0)));
        assert!((seen.waits_s[0] - 0.5).abs() < 1e-6 && (seen.waits_s[1] - 1.0).abs() < 1e-6);
        assert_eq!((seen.retries_without_backoff, seen.needless_retries), (0, 0));
        assert_eq!(seen.findings, Vec::<String>::new(), "a patient client");
    }

    #[test]
    fn retries_at_once_and_of_what_is_final_are_told() {
        let seen = behaviour(attempts(1.0, 401, &[0.01, 0.02, 0.03]));
        assert_eq!((seen.retries_without_backoff, seen.needless_retries), (2, 3));
        assert_eq!(seen.attempts_max, 4);
        let words = seen.findings.join("; ");
        for part in ["attempted 4 times", "no back-off", "no retry can mend"] {
            assert!(words.contains(part), "{words}");
        }
        let told = Call { no_retry: true, ..attempts(1.0, 429, &[])[0].clone() };
        let again = Call { retry: Some(1), ..call("llm", 3.0, 200) };
        let again = Call { key: Some(1), ..again };
        assert_eq!(behaviour(vec![told, again]).needless_retries, 1, "x-should-retry: false");
    }

    #[test]
    fn herds_are_told_from_retries_at_random() {
        let retry = |at: f64| Call { retry: Some(1), ..call("llm", at, 200) };
        let spread = behaviour((0..90).map(|number| retry(f64::from(number) + 0.5)).collect());
        assert!(spread.retry_synchrony.unwrap() < 1.5, "{:?}", spread.retry_synchrony);
        let herd = (0..90).map(|number| retry(f64::from(number / 30) * 20.0 + 5.0)).collect();
        let herd = behaviour(herd);
        assert!(herd.retry_synchrony.unwrap() > 20.0, "{:?}", herd.retry_synchrony);
        assert!(herd.findings.iter().any(|words| words.contains("herds")));
        assert_eq!(behaviour(vec![retry(1.0)]).retry_synchrony, None);
    }

    #[test]
    fn silence_that_is_borne_and_cuts_that_are_kept_are_told() {
        let hung = Call { silence: secs(45.0), ended: CallEnd::Injected, ..call("llm", 1.0, 200) };
        let cut =
            Call { ended: CallEnd::Injected, bytes: 900, events: 30, ..call("llm", 2.0, 200) };
        let mended = Call { key: Some(7), ..cut.clone() };
        let again = Call { key: Some(7), ..call("llm", 4.0, 200) };
        let seen = behaviour(vec![Call { bytes: 0, ..hung }, cut, mended, again]);
        assert_eq!(seen.longest_silence_s, Some(45.0));
        assert_eq!((seen.unrepeated_cuts, seen.wasted_tokens, seen.wasted_bytes), (1, 60, 1800));
        let words = seen.findings.join("; ");
        assert!(words.contains("waited 45 s") && words.contains("not asked for again"), "{words}");
    }

    #[test]
    fn a_retry_may_overlap_its_attempt() {
        let first = Call { retry: Some(0), key: Some(3), end: secs(9.0), ..call("llm", 1.0, 200) };
        let hedge = Call { retry: Some(1), key: Some(3), ..call("llm", 2.0, 200) };
        assert_eq!(behaviour(vec![first.clone(), hedge]).overlapping_retries, 1);
        let later = Call { retry: Some(1), key: Some(3), ..call("llm", 9.5, 200) };
        assert_eq!(behaviour(vec![first, later]).overlapping_retries, 0);
    }
}
