use super::super::Outcome;
use super::super::ledger::tests::{add_call, add_sample, call, phased, sample, secs};
use super::*;
use crate::dice::Dice;

/// Baseline of 20 s, storm of 20 s, recovery of 40 s at 5 requests a second; `fate` decides about
/// each by its time.
fn run(mut fate: impl FnMut(f64, &mut Dice) -> Outcome, seed: u64) -> Ledger {
    let mut ledger =
        phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"]), ("recovery", 40.0, &[])]);
    let root = Dice::from_seed(seed);
    for number in 0..400_u64 {
        let at = 0.1 + number as f64 / 5.0;
        let outcome = fate(at, &mut root.fork_number(number));
        add_sample(&mut ledger, sample(at, 0.4, outcome));
        add_call(&mut ledger, call("llm", at + 0.01, 200));
    }
    ledger
}

fn ends_at(end: f64) -> impl FnMut(f64, &mut Dice) -> Outcome {
    move |at, _| if (20.0..end).contains(&at) { Outcome::Http5xx } else { Outcome::Ok }
}

fn assessed(ledger: &Ledger) -> Recovery {
    assess(ledger, &Rule::default(), 1).recovery
}

#[test]
fn the_time_to_recover_is_exact_on_a_clean_timeline() {
    for (end, expected) in [(52.0, 12.0), (41.0, 1.0), (45.0, 5.0), (40.0, 0.0)] {
        let recovery = assessed(&run(ends_at(end), 1));
        assert_eq!(recovery.time_to_recover_s, Some(expected), "fails until {end}");
        assert_eq!((recovery.censored, recovery.class.as_str()), (false, "recovered"));
        assert_eq!((recovery.after.as_str(), recovery.fault_end_s), ("storm", 40.0));
        assert_eq!(recovery.depth, Some(1.0));
        let loss = recovery.loss_ratio.unwrap();
        assert!((loss - (end - 20.0) / 20.0).abs() < 0.01, "{loss}");
    }
}

#[test]
fn phases_need_not_begin_on_a_full_second() {
    let mut ledger =
        phased(&[("baseline", 20.37, &[]), ("storm", 10.21, &["f"]), ("recovery", 30.0, &[])]);
    for number in 0..300 {
        let at = 0.1 + f64::from(number) / 5.0;
        let outcome = if (20.37..42.58).contains(&at) { Outcome::Timeout } else { Outcome::Ok };
        add_sample(&mut ledger, sample(at, 0.4, outcome));
    }
    assert_eq!(assessed(&ledger).time_to_recover_s, Some(12.0));
}

#[test]
fn a_short_relapse_within_the_hold_time_starts_it_anew() {
    let fate = |at: f64, _: &mut Dice| {
        let bad = (20.0..44.0).contains(&at) || (50.0..52.0).contains(&at);
        if bad { Outcome::Http5xx } else { Outcome::Ok }
    };
    assert_eq!(assessed(&run(fate, 1)).time_to_recover_s, Some(12.0));
}

#[test]
fn no_recovery_is_censored_with_a_lower_bound() {
    let recovery = assessed(&run(ends_at(100.0), 1));
    assert_eq!((recovery.time_to_recover_s, recovery.censored), (Some(40.0), true));
    assert_eq!(recovery.class, "persistent_degradation".to_owned());
    // Well for the last three seconds: not long enough to tell, but long enough to doubt.
    let late = assessed(&run(ends_at(77.0), 1));
    assert_eq!((late.time_to_recover_s, late.censored), (Some(37.0), true));
}

#[test]
fn nothing_felt_is_absorbed() {
    let recovery = assessed(&run(|_, _| Outcome::Ok, 1));
    assert_eq!((recovery.time_to_recover_s, recovery.class.as_str()), (Some(0.0), "absorbed"));
    assert_eq!((recovery.depth, recovery.loss_ratio), (Some(0.0), Some(0.0)));
}

#[test]
fn a_run_compared_with_itself_is_rarely_ill() {
    let mut false_alarms = 0;
    for seed in 0..100 {
        let fate = |_: f64, dice: &mut Dice| {
            if dice.unit() < 0.02 { Outcome::Http5xx } else { Outcome::Ok }
        };
        let recovery = assessed(&run(fate, seed));
        assert!(!recovery.censored, "seed {seed}");
        false_alarms += u32::from(recovery.class != "absorbed");
    }
    assert!(false_alarms <= 10, "{false_alarms} of 100");
}

#[test]
fn noise_moves_the_time_to_recover_little() {
    for seed in 0..50 {
        let fate = |at: f64, dice: &mut Dice| {
            let ill = (20.0..52.0).contains(&at) && dice.unit() < 0.6;
            if ill || dice.unit() < 0.01 { Outcome::Http5xx } else { Outcome::Ok }
        };
        let seconds = assessed(&run(fate, seed)).time_to_recover_s.unwrap();
        assert!((9.0..=18.0).contains(&seconds), "seed {seed}: {seconds}");
    }
}

#[test]
fn slow_answers_can_be_an_illness() {
    let mut ledger =
        phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"]), ("recovery", 40.0, &[])]);
    for number in 0..400 {
        let at = 0.1 + f64::from(number) / 5.0;
        let latency =
            if (20.0..48.0).contains(&at) { 4.0 } else { 0.4 + f64::from(number % 20) / 100.0 };
        add_sample(&mut ledger, sample(at, latency, Outcome::Ok));
    }
    assert_eq!(assessed(&ledger).class, "absorbed", "all of them were ok");
    let metrics = ["success_rate".to_owned(), "p95(ttft)".to_owned()];
    let rule = Rule::new(&metrics, 0.1, Some(secs(10.0))).unwrap();
    let recovery = assess(&ledger, &rule, 1).recovery;
    assert_eq!((recovery.time_to_recover_s, recovery.class.as_str()), (Some(8.0), "recovered"));
}

#[test]
fn what_cannot_be_told_says_why() {
    let note = |ledger: &Ledger, phase| assess(ledger, &Rule::default(), phase).note.unwrap();
    let full = run(ends_at(40.0), 1);
    assert!(note(&full, 0).contains("no phase before it"));
    let empty =
        phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"]), ("recovery", 40.0, &[])]);
    assert!(note(&empty, 1).contains("had 0 requests"));
    let mut chained =
        phased(&[("baseline", 20.0, &[]), ("slow", 20.0, &["f"]), ("storm", 40.0, &["g"])]);
    let mut last = phased(&[("baseline", 20.0, &[]), ("slow", 20.0, &["f"])]);
    for number in 0..100 {
        add_sample(&mut chained, sample(f64::from(number) / 5.0, 0.1, Outcome::Ok));
        add_sample(&mut last, sample(f64::from(number) / 5.0, 0.1, Outcome::Ok));
    }
    assert!(note(&chained, 1).contains("`storm` arms other faults"));
    assert!(note(&last, 1).contains("the run ended with `slow`"));
    assert_eq!(worth_telling(&full), [1]);
    assert_eq!(worth_telling(&chained), [0usize; 0]);
}

#[test]
fn a_saturation_that_stays_armed_still_shows_recovery() {
    let mut ledger = phased(&[
        ("warm", 20.0, &["gpu"]),
        ("overload", 20.0, &["gpu"]),
        ("recovery", 40.0, &["gpu"]),
    ]);
    for number in 0..400 {
        let at = 0.1 + f64::from(number) / 5.0;
        let outcome = if (20.0..47.0).contains(&at) { Outcome::Http5xx } else { Outcome::Ok };
        add_sample(&mut ledger, sample(at, 0.4, outcome));
    }
    assert_eq!(assessed(&ledger).time_to_recover_s, Some(7.0));
}

#[test]
fn failover_is_counted_from_the_start_of_the_outage() {
    let waited = |end| failover(&run(ends_at(end), 1), &Rule::default(), 1).unwrap();
    assert_eq!(waited(26.0), Waited { seconds: 6.0, censored: false });
    assert_eq!(waited(90.0), Waited { seconds: 20.0, censored: true });
    assert_eq!(waited(0.0), Waited { seconds: 0.0, censored: false });
}

#[test]
fn a_live_run_ends_only_after_the_whole_hold_time() {
    let mut ledger = run(ends_at(48.0), 1);
    ledger.end(secs(80.0));
    let by = |now| {
        // What has not ended is not known yet.
        let mut live = phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"])]);
        live.begin_phase("recovery", secs(40.0), Vec::new(), Vec::new());
        for sample in ledger.samples().iter().filter(|sample| sample.end <= secs(now)) {
            add_sample(&mut live, sample.clone());
        }
        recovered_by(&live, &Rule::default(), 1, secs(now))
    };
    assert!(!by(41.0) && !by(50.0) && !by(57.0));
    assert!(by(60.0));
}

#[test]
fn a_part_of_a_second_does_not_pass_for_the_hold_time() {
    let rule = Rule { hold: Some(Duration::from_secs(1)), ..Rule::default() };
    let by = |now: f64| {
        let mut live =
            phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"]), ("recovery", 40.0, &[])]);
        for number in 0..(now * 50.0) as u32 {
            let at = f64::from(number) / 50.0;
            let fails = (20.0..40.0).contains(&at);
            let outcome = if fails { Outcome::Http5xx } else { Outcome::Ok };
            add_sample(&mut live, sample(at, 0.01, outcome));
        }
        recovered_by(&live, &rule, 1, secs(now))
    };
    assert!(!by(40.9) && by(41.1));
}

#[test]
fn requests_that_hang_until_the_end_are_not_well() {
    let mut ledger =
        phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"]), ("recovery", 40.0, &[])]);
    for number in 0..400 {
        let at = 0.1 + f64::from(number) / 5.0;
        let hangs = at >= 20.0 && number % 2 == 0;
        let mut one = sample(at, 0.4, if hangs { Outcome::CancelledByDriver } else { Outcome::Ok });
        if hangs {
            one.end = secs(80.0);
        }
        add_sample(&mut ledger, one);
    }
    let recovery = assessed(&ledger);
    assert!(recovery.censored && recovery.time_to_recover_s > Some(30.0), "{recovery:?}");
}

#[test]
fn own_errors_of_a_dependency_excuse_the_app() {
    let ill = |calls_a_request: u32| {
        let mut ledger =
            phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"]), ("recovery", 40.0, &[])]);
        for number in 0..400 {
            let at = 0.1 + f64::from(number) / 5.0;
            let down = at >= 20.0;
            add_sample(
                &mut ledger,
                sample(at, 0.4, if down { Outcome::Http5xx } else { Outcome::Ok }),
            );
            for attempt in 0..if down { calls_a_request } else { 1 } {
                let status = if down { 503 } else { 200 };
                add_call(&mut ledger, call("llm", at + f64::from(attempt) / 10.0, status));
            }
        }
        assess(&ledger, &Rule::default(), 1)
    };
    let alone = ill(1);
    assert_eq!(alone.recovery.class, "inconclusive");
    assert!(alone.note.unwrap().contains("failed by itself"));
    // Beaten down by the app's own retries, it is no excuse.
    assert_eq!(ill(3).recovery.class, "metastable_suspected");
}
