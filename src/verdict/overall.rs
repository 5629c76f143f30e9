//! The verdict of a run: what its expectations say, and whether its evidence can be trusted.
//!
//! A failed expectation with enough samples is a failure whatever else went wrong. Green needs
//! more: every armed fault acted, requests were sent and reached the proxy, nothing was lost.

use super::headline::headline;
use super::words;
use crate::measure::record::{FaultLedger, Phase, Record, Replayed, Verdict};

/// The exit codes of a run.
pub mod exit {
    /// Every expectation held.
    pub const PASS: i32 = 0;
    /// An expectation failed.
    pub const FAIL: i32 = 1;
    /// Bad usage or a bad file.
    pub const USAGE: i32 = 2;
    /// The run could not start, or something it needs died.
    pub const BROKEN: i32 = 3;
    /// A safety rule stopped the run.
    pub const STOPPED_BY_SAFETY: i32 = 4;
    /// A fault hit nothing, or too little happened to say.
    pub const INCONCLUSIVE: i32 = 5;
    /// Ctrl-C or SIGTERM.
    pub const INTERRUPTED: i32 = 130;
}

/// Driver lag (99th percentile) beyond which the load was not the one asked for: in milliseconds,
/// or as a share of the usual latency.
const LAG_MS: f64 = 250.0;
const LAG_SHARE: f64 = 0.25;

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Something the run needs died; a sentence says what.
    Broken(String),
    Complete,
    /// A phase's gate did not hold; a sentence says which and why.
    Gate(String),
    Interrupted,
    /// A safety rule stopped it; a sentence says which.
    Safety(String),
}

/// Gives a record its verdict, exit code, reasons and headline. Expectations are judged already.
pub fn conclude(record: &mut Record, ending: &Ending) {
    let by_verdict = |verdict: Verdict, severity: &str| -> Vec<String> {
        record
            .expectations
            .iter()
            .filter(|told| told.verdict == verdict && told.severity == severity)
            .map(|told| sentence(told, verdict))
            .collect()
    };
    let failed = by_verdict(Verdict::Fail, "fail");
    let open = by_verdict(Verdict::Inconclusive, "fail");
    let warned = by_verdict(Verdict::Fail, "warn");
    let doubts = doubts(record);
    let judged = if !failed.is_empty() {
        Verdict::Fail
    } else if doubts.is_empty() && open.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    };
    let no_pass = if judged == Verdict::Fail { judged } else { Verdict::Inconclusive };
    let (verdict, exit_code, reason) = match ending {
        Ending::Broken(why) => (no_pass, exit::BROKEN, Some(why.clone())),
        Ending::Complete => (judged, exit_of(judged), None),
        Ending::Gate(why) => (Verdict::Inconclusive, exit::INCONCLUSIVE, Some(why.clone())),
        Ending::Interrupted => {
            (no_pass, exit::INTERRUPTED, Some("the run was interrupted".to_owned()))
        }
        Ending::Safety(why) => (Verdict::Aborted, exit::STOPPED_BY_SAFETY, Some(why.clone())),
    };
    record.verdict = verdict;
    record.exit_code = exit_code;
    record.partial = *ending != Ending::Complete;
    record.reasons = reason.into_iter().collect();
    record.reasons.extend(failed.into_iter().chain(doubts).chain(open));
    record.reasons.extend(warned.into_iter().map(|told| format!("warning: {told}")));
    record.reasons.extend(record.replay.as_ref().and_then(half_met));
    record.headline = headline(record);
}

/// Of an earlier run, what could not be met again.
fn half_met(replay: &Replayed) -> Option<String> {
    let gone: u64 = replay.gone.values().sum();
    (replay.unmet + gone > 0).then(|| {
        format!(
            "warning: of {} recorded choices {} were not met again: {} of requests that did not come \
             (or not while the fault was armed), {gone} of faults that are gone",
            replay.recorded,
            replay.unmet + gone,
            replay.unmet
        )
    })
}

/// The exit code of a run that came to its own end.
fn exit_of(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Aborted => exit::STOPPED_BY_SAFETY,
        Verdict::Fail => exit::FAIL,
        Verdict::Inconclusive => exit::INCONCLUSIVE,
        Verdict::Pass => exit::PASS,
    }
}

fn sentence(told: &crate::measure::record::Expected, verdict: Verdict) -> String {
    let note = told.note.as_deref().unwrap_or_default();
    match verdict {
        Verdict::Inconclusive => format!("`{}` cannot be judged: {note}", told.text),
        _ if note.is_empty() => {
            format!("`{}`: {}, {}", told.text, told.observed_text, told.margin_text)
        }
        _ => format!("`{}`: {}, {} ({note})", told.text, told.observed_text, told.margin_text),
    }
}

/// Why the evidence is not to be trusted, and what to do about it.
fn doubts(record: &Record) -> Vec<String> {
    let mut doubts = Vec::new();
    let requests: u64 = record.phases.iter().map(|phase| phase.requests).sum();
    if requests == 0 {
        doubts.push("no request of the driver ended; see whether the app's address answers, and make the run longer".to_owned());
    }
    let reached = record.dependencies.iter().any(|dependency| dependency.calls > 0);
    if !reached && !record.dependencies.is_empty() {
        let all: Vec<String> = record
            .dependencies
            .iter()
            .map(|dependency| format!("{} ({})", dependency.name, dependency.listen))
            .collect();
        doubts.push(format!(
            "no call of the app reached brownout: point its base URLs at {} before its clients are built",
            all.join(", ")
        ));
    }
    let armed = |fault: &FaultLedger| record.phases.iter().any(|p| p.faults.contains(&fault.name));
    let idle = |fault: &&FaultLedger| fault.hit + fault.would_hit == 0 && armed(fault);
    for fault in record.faults.iter().filter(idle) {
        let hit = if fault.shadow { "would have hit" } else { "hit" };
        doubts.push(format!("the fault `{}` {hit} nothing: {}", fault.name, funnel(fault)));
    }
    if record.observations_dropped > 0 {
        doubts.push(format!(
            "{} observations were lost; the machine could not keep up, lower the load",
            record.observations_dropped
        ));
    }
    doubts.extend(late_driver(record));
    doubts
}

/// At which stage a fault's chances ran out, and what to change.
fn funnel(fault: &FaultLedger) -> String {
    let FaultLedger { target, armed, matched, selected, impossible, let_go, .. } = fault;
    let most = fault.reasons.iter().max_by_key(|(_, n)| **n);
    let reason = most.map_or("no reason given", |(reason, _)| reason);
    if *armed == 0 {
        return format!(
            "no request reached `{target}` while it was armed; see whether the app calls it through brownout, and in that phase"
        );
    }
    if *matched == 0 {
        return format!(
            "its `where` describes none of the {armed} requests to `{target}`; compare it with the requests in decisions.jsonl, or leave it out"
        );
    }
    let out_of_turn: u64 = fault.out_of_turn.values().sum();
    if *selected == 0 && out_of_turn == *matched {
        let parts: Vec<String> =
            fault.out_of_turn.iter().map(|(part, n)| format!("{part} ({n}×)")).collect();
        return format!(
            "its `when` held for none of {matched} matching requests: {}",
            parts.join(", ")
        );
    }
    if *selected == 0 && *let_go > 0 {
        return format!("it could choose none of {matched} matching requests: {reason}");
    }
    if *selected == 0 {
        return format!(
            "its percent chose none of {matched} matching requests; raise it or make the phase longer"
        );
    }
    if *impossible > 0 {
        return format!("it could not act on {impossible} of {selected} chosen requests: {reason}");
    }
    let effects = fault.effects.join(", ");
    let why = if *let_go > 0 { format!(" ({reason})") } else { String::new() };
    format!(
        "{selected} requests were chosen, but {} never had to act{why}; make it harsher, or the load higher",
        if effects.is_empty() { "its effects" } else { &effects }
    )
}

fn late_driver(record: &Record) -> Option<String> {
    let lag = record.driver.lag_p99_ms?;
    let usual = baseline(record).and_then(|phase| phase.latency.p50).unwrap_or(0.0);
    let bound = LAG_MS.max(LAG_SHARE * usual * 1000.0);
    let text = || {
        format!(
            "the driver sent its requests too late (99th percentile {} behind plan); lower the load or give it more CPU",
            words::seconds(lag / 1000.0)
        )
    };
    (lag > bound).then(text)
}

/// The phase that the others are compared with.
pub(super) fn baseline(record: &Record) -> Option<&Phase> {
    let phases = &record.phases;
    phases
        .iter()
        .find(|phase| phase.name == "baseline")
        .or_else(|| phases.iter().find(|phase| phase.faults.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::measure::record::{DependencyInfo, Driver, Expected, Quantiles};

    /// A run in which everything worked.
    fn sound() -> Record {
        let phase = |name: &str, faults: &[&str]| Phase {
            name: name.to_owned(),
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
            requests: 100,
            success_rate: Some(1.0),
            latency: Quantiles { p50: Some(1.0), n: 100, ..Quantiles::default() },
            ..Phase::default()
        };
        Record {
            phases: vec![phase("baseline", &[]), phase("storm", &["f"])],
            faults: vec![FaultLedger {
                name: "f".into(),
                target: "llm".into(),
                effects: vec!["rate_limit".into()],
                armed: 100,
                matched: 80,
                selected: 40,
                hit: 30,
                ..FaultLedger::default()
            }],
            dependencies: vec![DependencyInfo {
                name: "llm".into(),
                listen: "127.0.0.1:4001".into(),
                calls: 200,
                ..DependencyInfo::default()
            }],
            expectations: vec![told(Verdict::Pass, "fail")],
            driver: Driver { lag_p99_ms: Some(2.0), ..Driver::default() },
            ..Record::default()
        }
    }

    fn told(verdict: Verdict, severity: &str) -> Expected {
        Expected {
            text: "success_rate >= 95% during storm".into(),
            verdict,
            severity: severity.into(),
            observed_text: "88.2 %".into(),
            margin_text: "6.8 points under".into(),
            note: (verdict == Verdict::Inconclusive).then(|| "12 of 30 samples".into()),
            ..Expected::default()
        }
    }

    fn concluded(change: impl FnOnce(&mut Record), ending: &Ending) -> (Verdict, i32, String) {
        let mut record = sound();
        change(&mut record);
        conclude(&mut record, ending);
        (record.verdict, record.exit_code, record.reasons.join("; "))
    }

    #[test]
    fn a_sound_run_passes_without_a_word() {
        let (verdict, code, reasons) = concluded(|_| {}, &Ending::Complete);
        assert_eq!((verdict, code, reasons.as_str()), (Verdict::Pass, 0, ""));
    }

    #[test]
    fn every_doubt_is_inconclusive_and_says_what_to_do() {
        type Change = fn(&mut Record);
        let cases: [(Change, &str); 13] = [
            (
                |r| r.expectations.push(told(Verdict::Inconclusive, "fail")),
                "cannot be judged: 12 of 30",
            ),
            (
                |r| r.phases.iter_mut().for_each(|phase| phase.requests = 0),
                "no request of the driver",
            ),
            (|r| r.dependencies[0].calls = 0, "point its base URLs at llm (127.0.0.1:4001)"),
            (
                |r| (r.faults[0].armed, r.faults[0].hit) = (0, 0),
                "no request reached `llm` while it was armed",
            ),
            (
                |r| (r.faults[0].matched, r.faults[0].hit) = (0, 0),
                "describes none of the 100 requests to `llm`",
            ),
            (|r| (r.faults[0].selected, r.faults[0].hit) = (0, 0), "chose none of 80"),
            (
                |r| {
                    (r.faults[0].impossible, r.faults[0].hit) = (40, 0);
                    r.faults[0].reasons = BTreeMap::from([("the answer is no stream".into(), 40)]);
                },
                "could not act on 40 of 40 chosen requests: the answer is no stream",
            ),
            (|r| r.faults[0].hit = 0, "rate_limit never had to act"),
            (
                |r| {
                    (r.faults[0].let_go, r.faults[0].hit) = (40, 0);
                    r.faults[0].reasons = BTreeMap::from([("within the limit".into(), 40)]);
                },
                "rate_limit never had to act (within the limit); make it harsher",
            ),
            (
                |r| {
                    (r.faults[0].selected, r.faults[0].let_go, r.faults[0].hit) = (0, 80, 0);
                    r.faults[0].reasons = BTreeMap::from([("no user on the request".into(), 80)]);
                },
                "choose none of 80 matching requests: no user on the request",
            ),
            (|r| r.observations_dropped = 7, "7 observations were lost"),
            (|r| r.driver.lag_p99_ms = Some(400.0), "400 ms"),
            (|r| r.phases.clear(), "no request of the driver"),
        ];
        for (change, reason) in cases {
            let (verdict, code, reasons) = concluded(change, &Ending::Complete);
            let reasons = reasons.replace("0.40 s", "400 ms");
            assert_eq!((verdict, code), (Verdict::Inconclusive, 5), "{reason}: {reasons}");
            assert!(reasons.contains(reason), "{reason}: {reasons}");
        }
    }

    #[test]
    fn a_fault_that_was_never_armed_is_no_doubt() {
        let (verdict, ..) = concluded(
            |record| {
                record.faults.push(FaultLedger { name: "spare".into(), ..FaultLedger::default() });
            },
            &Ending::Complete,
        );
        assert_eq!(verdict, Verdict::Pass);
    }

    #[test]
    fn a_real_failure_is_a_failure_whatever_else() {
        let (verdict, code, reasons) = concluded(
            |record| {
                record.expectations.push(told(Verdict::Fail, "fail"));
                record.faults[0].hit = 0;
            },
            &Ending::Complete,
        );
        assert_eq!((verdict, code), (Verdict::Fail, 1));
        assert!(
            reasons.starts_with("`success_rate >= 95% during storm`: 88.2 %, 6.8 points under")
        );
        assert!(reasons.contains("hit nothing"), "all reasons are told: {reasons}");
    }

    #[test]
    fn a_warning_does_not_fail() {
        let (verdict, code, reasons) = concluded(
            |record| record.expectations.push(told(Verdict::Fail, "warn")),
            &Ending::Complete,
        );
        assert_eq!((verdict, code), (Verdict::Pass, 0));
        assert!(reasons.starts_with("warning: `success_rate"));
    }

    #[test]
    fn how_a_run_ended_shows_in_its_exit_code() {
        let with = |ending: Ending| {
            let (verdict, code, reasons) = concluded(|_| {}, &ending);
            (verdict, code, reasons)
        };
        let why = || "the app exited with 1".to_owned();
        assert_eq!(with(Ending::Broken(why())), (Verdict::Inconclusive, 3, why()));
        assert_eq!(with(Ending::Gate(why())), (Verdict::Inconclusive, 5, why()));
        assert_eq!(with(Ending::Safety(why())), (Verdict::Aborted, 4, why()));
        assert_eq!(with(Ending::Interrupted).1, 130);
        let failed = |record: &mut Record| record.expectations.push(told(Verdict::Fail, "fail"));
        assert_eq!(concluded(failed, &Ending::Interrupted).0, Verdict::Fail);
        assert_eq!(concluded(failed, &Ending::Gate(why())).0, Verdict::Inconclusive);
    }
}
