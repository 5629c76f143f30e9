//! What faults did beside hitting, in words: in the shadow, to bodies, to time, and met again.

use crate::measure::record::{FaultLedger, Quantiles, Replayed};

use super::numbers;

/// Of a fault in the shadow, what it would have done.
pub(super) fn shadow_words(fault: &FaultLedger) -> String {
    format!("in the shadow: would have hit {}", numbers::of(fault.would_hit, "call", "calls"))
}

/// What a fault changed of answers, and how long it held them; None when neither.
pub(super) fn effect_words(fault: &FaultLedger) -> Option<String> {
    let mut parts = Vec::new();
    if fault.events_changed > 0 {
        parts.push(format!(
            "changed {} ({})",
            numbers::of(fault.events_changed, "event", "events"),
            numbers::of(fault.bytes_changed, "byte", "bytes")
        ));
    }
    if let Some(wanted) = &fault.delay_wanted {
        let told = |quantiles: &Quantiles| {
            let value = quantiles.p50.or(quantiles.mean);
            let p95 = quantiles.p95.map(|p95| format!(", p95 {}", numbers::seconds(p95)));
            format!("{}{}", numbers::or_dash(value, numbers::seconds), p95.unwrap_or_default())
        };
        let real = fault.delay_real.as_ref().map(|real| format!(", really {}", told(real)));
        parts.push(format!("held them for {}{}", told(wanted), real.unwrap_or_default()));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// How much of an earlier run was met again: `decisions.jsonl: 118 of 120 choices met, …`.
pub fn replayed(replay: &Replayed) -> String {
    let mut text = format!(
        "{}: {} of {} met again",
        super::text::line(&replay.journal, 200),
        numbers::count(replay.met),
        numbers::of(replay.recorded, "choice", "choices")
    );
    if replay.unmet > 0 {
        text.push_str(&format!(
            ", {} of requests that did not come (or not while the fault was armed)",
            numbers::count(replay.unmet)
        ));
    }
    if !replay.gone.is_empty() {
        let gone: Vec<String> = replay
            .gone
            .iter()
            .map(|(fault, n)| format!("{} ({}×)", super::text::line(fault, 60), numbers::count(*n)))
            .collect();
        text.push_str(&format!(", faults that are gone: {}", gone.join(", ")));
    }
    if replay.unknown > 0 {
        text.push_str(&format!(
            "; {} that the journal does not know",
            numbers::of(replay.unknown, "request came", "requests came")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_met_again_is_told() {
        let whole = Replayed { journal: "d".into(), recorded: 3, met: 3, ..Replayed::default() };
        assert_eq!(replayed(&whole), "d: 3 of 3 choices met again");
        let gone = [("storm".to_owned(), 2)].into();
        let part = Replayed { met: 0, unmet: 1, gone, unknown: 7, ..whole };
        let told = replayed(&part);
        for part in ["0 of 3", "1 of requests that did not come", "storm (2×)", "7 requests came"]
        {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn changes_and_delays_are_told() {
        let mut fault = FaultLedger::default();
        assert_eq!(effect_words(&fault), None);
        (fault.events_changed, fault.bytes_changed) = (1, 20);
        let delay = |p50| Some(Quantiles { p50: Some(p50), n: 5, ..Quantiles::default() });
        (fault.delay_wanted, fault.delay_real) = (delay(2.0), delay(2.1));
        let told = effect_words(&fault).unwrap();
        assert!(told.starts_with("changed 1 event (20 bytes); held them for "), "{told}");
        assert!(told.contains("really"), "{told}");
    }
}
