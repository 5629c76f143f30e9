//! What kind of recovery it was. A system that stays down although its trigger is gone, and keeps
//! itself down by its own work, is suspected of metastability.

use std::time::Duration;

use super::course::{Course, Found};
use super::signal::Baseline;
use crate::measure::ledger::Stretch;
use crate::measure::retry::{FanOut, sent};
use crate::measure::{CallEnd, Ledger, Span};

/// Calls over the usual that keep a system down.
const AMPLIFIED: f64 = 1.2;
/// Share of abandoned calls that does.
const ABANDONED: f64 = 0.2;
/// A gain of quality within the time after the fault that speaks of slow recovery.
const GAIN: f64 = 0.15;
/// Share of calls that a dependency may fail by itself.
const OWN_ERRORS: f64 = 0.1;
const LOAD_CHANGE: f64 = 0.2;

/// The class of a recovery.
pub(super) fn class(
    ledger: &Ledger,
    baseline: &Baseline,
    after: Span,
    whole: &Course<'_>,
    tail: &Course<'_>,
    found: Found,
    fault: &Stretch,
) -> &'static str {
    match found {
        Found::At(_) if whole.unhurt(fault.span.seconds()) => return "absorbed",
        Found::At(_) => return "recovered",
        Found::NotBefore(_) => {}
    }
    if tail.slope().is_some_and(|gain| gain >= GAIN) {
        return "slow_recovery";
    }
    let last = Duration::from_secs_f64((after.seconds() / 3.0).max(5.0));
    let end = Span::new(after.to.saturating_sub(last).max(after.from), after.to);
    if trigger_gone(ledger, baseline, end) && sustained(ledger, end) {
        "metastable_suspected"
    } else if ill(ledger, end) {
        "inconclusive"
    } else {
        "persistent_degradation"
    }
}

/// Whether nothing presses any more that did not press in baseline: neither faults nor load.
fn trigger_gone(ledger: &Ledger, baseline: &Baseline, end: Span) -> bool {
    let usual = ledger.baseline().map(|phase| phase.faults.as_slice()).unwrap_or_default();
    let armed = ledger
        .phases()
        .iter()
        .filter(|phase| !phase.span.cut(end).length().is_zero())
        .any(|phase| phase.faults.iter().any(|fault| !usual.contains(fault)));
    let expected = baseline.arrivals_per_second * end.seconds();
    let allowed = LOAD_CHANGE.max(2.0 / expected.max(1.0).sqrt());
    !armed && sent(ledger, end) as f64 <= expected * (1.0 + allowed)
}

/// Whether the app keeps itself down by its own work.
fn sustained(ledger: &Ledger, end: Span) -> bool {
    let fan_out = FanOut::of(ledger);
    let sent = sent(ledger, end);
    ledger.dependencies().iter().any(|dependency| {
        let calls = || ledger.calls_in(end).filter(|call| call.dependency == *dependency);
        let all = calls().count() as u64;
        let gone = calls().filter(|call| call.ended == CallEnd::ClientGone).count();
        let amplified = fan_out
            .amplification(dependency, all, sent)
            .is_some_and(|amplification| amplification >= AMPLIFIED);
        amplified || (all > 0 && gone as f64 / all as f64 >= ABANDONED)
    })
}

/// Whether a dependency fails by itself, so that the app cannot be blamed.
fn ill(ledger: &Ledger, end: Span) -> bool {
    ledger.dependencies().iter().any(|dependency| {
        let calls = || ledger.calls_in(end).filter(|call| call.dependency == *dependency);
        let own = calls().filter(|call| call.own_error()).count();
        own as f64 > OWN_ERRORS * calls().count() as f64
    })
}
