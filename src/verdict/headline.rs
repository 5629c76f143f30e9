//! One sentence on what happened to users, and why.

use super::overall::baseline;
use super::words::{percent, seconds};
use crate::measure::record::{Phase, Record, Recovery, UserError};

/// Calls over the usual that are worth a word.
const AMPLIFIED: f64 = 1.15;
/// Share of incomplete answers that is.
const INCOMPLETE: f64 = 0.005;
/// How much slower the first token must come.
const SLOWER: f64 = 1.5;
/// Share of early retries, and the fewest retries to speak of.
const EARLY: f64 = 0.5;
const FEWEST_RETRIES: u64 = 5;

/// What happened to users and why, as one generated sentence.
pub fn headline(record: &Record) -> String {
    let Some(phase) = worst_phase(record) else {
        return "No request was sent, so nothing is known.".to_owned();
    };
    let mut parts = vec![users(record, phase)];
    if let Some((name, amplification)) = amplified(phase) {
        parts.push(format!("the app multiplied its calls to {name} {amplification:.1}x"));
    }
    let recovery = record.recovery.iter().find(|recovery| recovery.after == phase.name);
    parts.extend(recovery.and_then(recovered));
    let mut sentence = match parts.len() {
        1 => parts.remove(0),
        2 if recovery.is_some() && amplified(phase).is_none() => {
            format!("{}; the app {}", parts[0], parts[1])
        }
        2 => parts.join("; "),
        _ => format!("{}; {} and {}", parts[0], parts[1], parts[2]),
    };
    sentence.push('.');
    sentence.extend(early(phase));
    sentence
}

/// The phase in which users fared worst, among those with faults if there are any.
fn worst_phase(record: &Record) -> Option<&Phase> {
    let asked = |phase: &&Phase| phase.requests > 0;
    let faulty = |phase: &&Phase| !phase.faults.is_empty();
    let ill = |phase: &&Phase| {
        let slow = phase.ttft.p95.unwrap_or(0.0).min(1e6) / 1e9;
        phase.success_rate.unwrap_or(1.0) + phase.completeness.unwrap_or(1.0) / 1e3 - slow
    };
    let lowest = |a: &&Phase, b: &&Phase| ill(a).total_cmp(&ill(b));
    let phases = || record.phases.iter().filter(asked);
    phases().filter(faulty).min_by(lowest).or_else(|| phases().min_by(lowest))
}

/// What users met in a phase.
fn users(record: &Record, phase: &Phase) -> String {
    let Phase { name, requests, .. } = phase;
    let failed = 1.0 - phase.success_rate.unwrap_or(1.0);
    let incomplete = 1.0 - phase.completeness.unwrap_or(1.0);
    let before = baseline(record).filter(|before| before.name != *name);
    if failed > 0.0 {
        let mostly = record
            .errors
            .iter()
            .filter(|error| error.phase == *name)
            .max_by_key(|error| error.count)
            .map_or(String::new(), |error| format!(", mostly {}", described(error)));
        return format!("In {name}, {} of {requests} requests failed{mostly}", percent(failed));
    }
    if incomplete > INCOMPLETE {
        return format!(
            "In {name}, all {requests} requests seemed to succeed, but {} of answers came incomplete",
            percent(incomplete)
        );
    }
    if let (Some(now), Some(then)) = (phase.ttft.p95, before.and_then(|before| before.ttft.p95))
        && now > SLOWER * then
    {
        let (now, then) = (seconds(now), seconds(then));
        return format!(
            "In {name}, all {requests} requests succeeded, but the first token took up to {now} for 95 % of them ({then} before)"
        );
    }
    let acted = |name: &String| record.faults.iter().any(|it| it.name == *name && it.hit > 0);
    let unnoticed = match (phase.faults.is_empty(), phase.faults.iter().any(acted)) {
        (true, _) => "",
        (false, true) => "; users did not notice the fault",
        (false, false) => "; no fault acted",
    };
    format!("In {name}, all {requests} requests succeeded{unnoticed}")
}

/// An error in the words of a user.
fn described(error: &UserError) -> String {
    match (error.outcome.as_str(), error.status) {
        ("aborted", _) => "answers broken off".to_owned(),
        ("inband_error", _) => "errors inside answers".to_owned(),
        ("invalid" | "degraded", _) => "unusable answers".to_owned(),
        ("refused", _) => "refused connections".to_owned(),
        ("shed_by_driver", _) => "requests that found no place".to_owned(),
        ("timeout", _) => "timeouts".to_owned(),
        ("truncated", _) => "answers cut short".to_owned(),
        (_, Some(status)) => format!("HTTP {status}"),
        (outcome, None) => outcome.replace('_', " "),
    }
}

fn amplified(phase: &Phase) -> Option<(&str, f64)> {
    phase
        .dependencies
        .iter()
        .filter_map(|(name, part)| Some((name.as_str(), part.retry_amplification?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .filter(|(_, amplification)| *amplification > AMPLIFIED)
}

fn recovered(recovery: &Recovery) -> Option<String> {
    let waited = recovery.time_to_recover_s?;
    match recovery.class.as_str() {
        "recovered" if waited < 1.0 => Some("recovered as soon as the fault was gone".to_owned()),
        "recovered" => {
            Some(format!("needed {} to recover after the fault was gone", seconds(waited)))
        }
        "metastable_suspected" => Some(format!(
            "kept itself down for more than {} after the fault was gone",
            seconds(waited)
        )),
        "slow_recovery" | "persistent_degradation" => {
            Some(format!("had not recovered {} after the fault was gone", seconds(waited)))
        }
        _ => None,
    }
}

/// Whether retries came before they were asked to.
fn early(phase: &Phase) -> Option<String> {
    let retries: u64 = phase.dependencies.values().map(|part| part.retries).sum();
    let early: u64 = phase.dependencies.values().map(|part| part.retries_before_retry_after).sum();
    let share = early as f64 / retries as f64;
    let share_text = format!("{:.0} %", share * 100.0);
    (retries >= FEWEST_RETRIES && share >= EARLY)
        .then(|| format!(" {share_text} of its retries came before Retry-After had passed."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::record::FaultLedger;
    use crate::measure::record::{DependencyPhase, Quantiles};

    fn storm() -> Record {
        let phase = |name: &str, success, faults: &[&str]| Phase {
            name: name.into(),
            requests: 125,
            success_rate: Some(success),
            completeness: Some(1.0),
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
            ttft: Quantiles { p95: Some(0.9), ..Quantiles::default() },
            ..Phase::default()
        };
        Record {
            phases: vec![
                phase("baseline", 1.0, &[]),
                phase("storm", 0.88, &["f"]),
                phase("recovery", 0.7, &[]),
            ],
            errors: vec![UserError {
                phase: "storm".into(),
                outcome: "http_5xx".into(),
                status: Some(500),
                count: 9,
                ..UserError::default()
            }],
            recovery: vec![Recovery {
                after: "storm".into(),
                class: "recovered".into(),
                time_to_recover_s: Some(21.0),
                ..Recovery::default()
            }],
            ..Record::default()
        }
    }

    #[test]
    fn a_bad_storm_in_one_sentence() {
        let mut record = storm();
        assert_eq!(
            headline(&record),
            "In storm, 12 % of 125 requests failed, mostly HTTP 500; the app needed 21 s to recover after the fault was gone."
        );
        record.phases[1].dependencies.insert(
            "llm".into(),
            DependencyPhase {
                retry_amplification: Some(2.07),
                retries: 50,
                retries_before_retry_after: 47,
                ..DependencyPhase::default()
            },
        );
        assert_eq!(
            headline(&record),
            "In storm, 12 % of 125 requests failed, mostly HTTP 500; the app multiplied its calls to llm 2.1x and needed 21 s to recover after the fault was gone. 94 % of its retries came before Retry-After had passed."
        );
        record.recovery[0].class = "metastable_suspected".into();
        assert!(headline(&record).contains("kept itself down for more than 21 s"));
        record.recovery.clear();
        assert!(headline(&record).contains("HTTP 500; the app multiplied its calls to llm 2.1x."));
    }

    #[test]
    fn good_runs_say_so() {
        let mut record = storm();
        record.phases[1].success_rate = Some(1.0);
        record.recovery.clear();
        assert_eq!(headline(&record), "In storm, all 125 requests succeeded; no fault acted.");
        record.faults = vec![FaultLedger { name: "f".into(), hit: 40, ..FaultLedger::default() }];
        assert_eq!(
            headline(&record),
            "In storm, all 125 requests succeeded; users did not notice the fault."
        );
        record.phases[1].ttft.p95 = Some(5.2);
        assert!(headline(&record).contains("took up to 5.2 s for 95 % of them (0.90 s before)"));
        record.phases[1].completeness = Some(0.98);
        assert!(
            headline(&record).contains("2 % of answers came incomplete"),
            "{}",
            headline(&record)
        );
        assert!(headline(&Record::default()).starts_with("No request was sent"));
    }
}
