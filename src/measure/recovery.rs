//! Whether and when users were well again after a fault.
//!
//! Quality is the share of good requests of each second's cohort over the same in baseline. The
//! app has recovered at the first second from which quality stays up for the hold time; a run that
//! ends before that leaves a lower bound (censored), never a number to be proud of.

mod classify;
mod course;
mod signal;

pub use self::signal::{Rule, Signal};

use std::time::Duration;

use self::course::{Course, Found};
use super::record::Recovery;
use super::{Ledger, Span};

/// A recovery, with a word on why nothing can be said when that is so.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessed {
    pub recovery: Recovery,
    pub note: Option<String>,
}

/// A wait for good service.
#[derive(Clone, Debug, PartialEq)]
pub struct Waited {
    /// The wait, or what it is known to exceed when censored.
    pub seconds: f64,
    pub censored: bool,
}

/// Assesses the recovery after the phase of this number.
pub fn assess(ledger: &Ledger, rule: &Rule, phase: usize) -> Assessed {
    let fault = &ledger.phases()[phase];
    let after = after(ledger, phase);
    let mut recovery = Recovery {
        after: fault.name.clone(),
        fault_end_s: after.from.as_secs_f64(),
        time_to_recover_s: None,
        censored: true,
        class: "inconclusive".to_owned(),
        depth: None,
        loss_ratio: None,
    };
    let baseline = match signal::Baseline::of(ledger, rule, phase) {
        Ok(baseline) => baseline,
        Err(note) => return Assessed { recovery, note: Some(note) },
    };
    if after.seconds() < 1.0 {
        let note = follower(ledger, phase).map_or_else(
            || format!("the run ended with `{}` or right after it; give it a phase without faults after it", fault.name),
            |next| {
                let name = &fault.name;
                format!("`{next}` arms other faults right after `{name}`; put a phase without faults between them")
            },
        );
        return Assessed { recovery, note: Some(note) };
    }
    let hold = rule.hold_within(after.length());
    let whole = Course::of(ledger, &baseline, Span::new(fault.span.from, after.to), hold);
    let tail = Course::of(ledger, &baseline, after, hold);
    if !whole.has_arrivals() || !tail.has_arrivals() {
        let note = format!("no request was sent during or after `{}`", fault.name);
        return Assessed { recovery, note: Some(note) };
    }
    let found = if whole.unhurt(fault.span.seconds()) { Found::At(0.0) } else { tail.find() };
    (recovery.time_to_recover_s, recovery.censored) = match found {
        Found::At(seconds) => (Some(seconds), false),
        Found::NotBefore(seconds) => (Some(seconds), true),
    };
    let until =
        fault.span.seconds() + if recovery.censored { after.seconds() } else { found.seconds() };
    recovery.depth = whole.depth(until);
    recovery.loss_ratio = whole.loss(until).map(|loss| loss / fault.span.seconds().max(1.0));
    recovery.class =
        classify::class(ledger, &baseline, after, &whole, &tail, found, fault).to_owned();
    let still_ill = recovery.class == "inconclusive";
    let note = still_ill
        .then(|| "a dependency still failed by itself after the fault was gone".to_owned());
    Assessed { recovery, note }
}

/// How long it took from the start of a phase until users were served well while its faults last.
pub fn failover(ledger: &Ledger, rule: &Rule, phase: usize) -> Result<Waited, String> {
    let span = ledger.clipped(ledger.phases()[phase].span);
    let baseline = signal::Baseline::of(ledger, rule, phase)?;
    let course = Course::of(ledger, &baseline, span, rule.hold_within(span.length()));
    if !course.has_arrivals() {
        return Err(format!("no request was sent during `{}`", ledger.phases()[phase].name));
    }
    Ok(match course.find() {
        _ if course.unhurt(span.seconds()) => Waited { seconds: 0.0, censored: false },
        Found::At(seconds) => Waited { seconds, censored: false },
        Found::NotBefore(seconds) => Waited { seconds, censored: true },
    })
}

/// Whether the app, while the run goes on, has been well for the hold time since a phase ended.
pub fn recovered_by(ledger: &Ledger, rule: &Rule, phase: usize, now: Duration) -> bool {
    let Ok(baseline) = signal::Baseline::of(ledger, rule, phase) else { return false };
    let since = ledger.phases()[phase].span.to;
    // Requests of the last moments are still on their way; only the quick ones have ended.
    let settled = now.saturating_sub(Duration::from_secs_f64(baseline.usual_latency));
    // Whole seconds: a part of one must not pass for it.
    let whole = Duration::from_secs(settled.saturating_sub(since).as_secs());
    if whole.is_zero() {
        return false;
    }
    let hold = rule.hold.unwrap_or(signal::HOLD);
    let span = Span::new(since, since + whole);
    let course = Course::of(ledger, &baseline, span, hold);
    course.find_held(baseline.arrivals_per_second)
}

/// The time in which a phase's recovery shows: until other faults are armed, or the end.
pub fn after(ledger: &Ledger, phase: usize) -> Span {
    let from = ledger.phases()[phase].span.to.min(ledger.ended());
    let to = harmful(ledger, phase).map_or(ledger.ended(), |next| ledger.phases()[next].span.from);
    Span::new(from, to)
}

/// The next phase that arms a fault which this one does not.
fn harmful(ledger: &Ledger, phase: usize) -> Option<usize> {
    let phases = ledger.phases();
    (phase + 1..phases.len())
        .find(|next| phases[*next].faults.iter().any(|fault| !phases[phase].faults.contains(fault)))
}

fn follower(ledger: &Ledger, phase: usize) -> Option<&str> {
    harmful(ledger, phase).map(|next| ledger.phases()[next].name.as_str())
}

/// The phases whose recovery is worth telling: with faults, followed by one with none.
pub fn worth_telling(ledger: &Ledger) -> Vec<usize> {
    let phases = ledger.phases();
    let ends = |at: &usize| phases.get(at + 1).is_some_and(|next| next.faults.is_empty());
    (0..phases.len()).filter(|at| !phases[*at].faults.is_empty()).filter(ends).collect()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod toy;
