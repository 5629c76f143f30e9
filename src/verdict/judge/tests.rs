use super::*;
use crate::measure::ledger::tests::{add_call, add_sample, call, phased, sample, secs};
use crate::measure::record::{DependencyInfo, FaultLedger, Record};
use crate::measure::recovery::Rule;
use crate::measure::{Call, CallEnd, Ledger, Outcome};
use crate::verdict::{Ending, conclude};

/// Baseline, storm, recovery of 20, 20 and 40 s at 5 requests a second. In the storm every fifth
/// request fails, answers take ten times as long and the app calls twice; it ends `late` seconds
/// late.
fn run(late: f64) -> Ledger {
    let mut ledger =
        phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"]), ("recovery", 40.0, &[])]);
    for number in 0..400_u32 {
        let at = 0.1 + f64::from(number) / 5.0;
        let ill = (20.0..40.0 + late).contains(&at);
        let outcome = if ill && number % 5 == 0 { Outcome::Http5xx } else { Outcome::Ok };
        let mut one = sample(at, if ill { 4.0 } else { 0.4 }, outcome);
        one.user = number % 10;
        add_sample(&mut ledger, one);
        for attempt in 0..if ill { 2 } else { 1 } {
            let mut one = call("llm", at + f64::from(attempt) / 20.0, if ill { 503 } else { 200 });
            one.user = Some(u64::from(number % 10));
            if ill && number % 10 < 2 {
                one.faults = vec!["f".into()];
            }
            one.retry = Some(attempt);
            one.retry_after = ill.then(|| secs(1.0));
            one.silence = secs(if ill { 0.5 } else { 0.0 });
            add_call(&mut ledger, one);
        }
        add_call(&mut ledger, call("vectors", at, 200));
    }
    ledger
}

fn dependency(name: &str, kind: &str) -> DependencyInfo {
    DependencyInfo { name: name.into(), kind: kind.into(), ..DependencyInfo::default() }
}

fn judged_with(ledger: &Ledger, text: &str, change: impl FnOnce(&mut Expectation)) -> Expected {
    let rule = Rule::default();
    let faults = [FaultLedger { name: "f".into(), hit: 20, armed: 200, ..FaultLedger::default() }];
    let dependencies = [dependency("llm", "openai"), dependency("vectors", "qdrant")];
    let evidence = Evidence::new(ledger, &rule, &faults, &dependencies);
    let mut expectation = Expectation::parse(text).unwrap_or_else(|bad| panic!("{text}: {bad}"));
    change(&mut expectation);
    judge(&[expectation], &evidence).remove(0)
}

fn judged(ledger: &Ledger, text: &str) -> Expected {
    judged_with(ledger, text, |_| {})
}

#[test]
fn observed_and_margin_in_words() {
    let ledger = run(7.0);
    for (text, verdict, observed, margin) in [
        ("success_rate >= 99% during baseline", Verdict::Pass, "100 %", "1.0 points to spare"),
        ("success_rate >= 95% during storm", Verdict::Fail, "80 %", "15.0 points under"),
        ("failure_rate <= 20% during storm", Verdict::Pass, "20 %", "at the limit"),
        (
            "user_error_rate{kind=\"http_5xx\"} < 5% during storm",
            Verdict::Fail,
            "20 %",
            "15.0 points over",
        ),
        ("user_error_rate{kind=\"garbled\"} == 0", Verdict::Pass, "0 %", "as asked"),
        ("p95(ttft) < 2.5s during baseline", Verdict::Pass, "0.10 s", "2.4 s to spare"),
        ("p50(latency) < 2.5s during storm", Verdict::Fail, "4 s", "1.5 s over"),
        ("p90(latency) < 5s during storm", Verdict::Fail, "no answer", "never got that far"),
        (
            "p50(ttft) <= 110% of baseline during storm",
            Verdict::Fail,
            "1000 %",
            "890.0 points over",
        ),
        ("retry_amplification(llm) < 1.5 during storm", Verdict::Fail, "2.00x", "0.50 over"),
        (
            "retry_amplification(vectors) < 1.5 during storm",
            Verdict::Pass,
            "1.00x",
            "0.50 to spare",
        ),
        ("calls_per_request(llm) <= 2 during storm", Verdict::Pass, "2.00x", "at the limit"),
        ("calls(llm) <= 100 during storm", Verdict::Fail, "200", "100 over"),
        ("retries_before_retry_after(llm) == 0 during storm", Verdict::Fail, "100", "100 over"),
        ("attempts_max(llm) <= 1 during storm", Verdict::Fail, "2", "1 over"),
        ("longest_silence(llm) < 1s during storm", Verdict::Pass, "0.50 s", "0.50 s to spare"),
        ("needless_retries(llm) == 0 during storm", Verdict::Pass, "0", "as asked"),
        ("retry_rate(llm) < 10% during storm", Verdict::Fail, "50 %", "40.0 points over"),
        ("time_to_recover < 30s after storm", Verdict::Pass, "7 s", "23 s to spare"),
        ("time_to_recover < 5s", Verdict::Fail, "7 s", "2 s over"),
        ("goodput >= 80% of baseline during storm", Verdict::Pass, "80 %", "at the limit"),
        ("goodput > 4.5/s during storm", Verdict::Fail, "4/s", "0.5/s under"),
        ("tokens_per_second >= 90/s during baseline", Verdict::Pass, "100/s", "10/s to spare"),
        ("request_share(llm) == 100% during storm", Verdict::Pass, "100 %", "as asked"),
        ("affected_users(llm) <= 25% during storm", Verdict::Inconclusive, "20 %", ""),
        ("fault_hits(f) > 0", Verdict::Pass, "20", "20 to spare"),
        ("requests >= 100 during storm", Verdict::Pass, "100", "at the limit"),
        ("rate(requests) >= 4/s during storm", Verdict::Pass, "5/s", "1/s to spare"),
        ("stalls == 0", Verdict::Pass, "0", "as asked"),
        ("completeness >= 98% during storm", Verdict::Pass, "100 %", "2.0 points to spare"),
        ("silent_truncation_rate == 0 during storm", Verdict::Pass, "0 %", "as asked"),
        ("avg(itl) < 60ms during storm", Verdict::Pass, "20 ms", "40 ms to spare"),
        ("p95(time_to_head(llm)) < 1s", Verdict::Pass, "50 ms", "0.95 s to spare"),
        (
            "dependency_error_rate(llm) < 90% during storm",
            Verdict::Pass,
            "80 %",
            "10.0 points to spare",
        ),
    ] {
        let told = judged(&ledger, text);
        let got = (told.verdict, told.observed_text.as_str(), told.margin_text.as_str());
        assert_eq!(got, (verdict, observed, margin), "{text}: {told:?}");
    }
}

#[test]
fn an_expectation_tells_everything_the_reports_need() {
    let told = judged_with(&run(7.0), "success_rate >= 95% during storm", |expectation| {
        expectation.line = 21;
        expectation.warn = true;
    });
    assert_eq!((told.line, told.severity.as_str()), (21, "warn"));
    assert_eq!((told.phase.as_deref(), told.unit.as_str()), (Some("storm"), "%"));
    assert_eq!((told.observed, told.limit, told.samples), (Some(0.8), 0.95, 100));
    assert!((told.margin.unwrap() + 0.15).abs() < 1e-9, "under the limit is bad");
    let [low, high] = told.interval.unwrap();
    assert!(low > 0.70 && low < 0.73 && high > 0.86 && high < 0.88, "{low} {high}");
    let told = judged(&run(7.0), "p50(latency) < 2.5s during storm");
    assert_eq!(told.interval, Some([4.0, 4.0]));
    assert!((told.margin.unwrap() + 1.5).abs() < 1e-9);
}

#[test]
fn too_few_samples_make_no_verdict() {
    let mut ledger = phased(&[("baseline", 10.0, &[]), ("storm", 10.0, &["f"])]);
    for number in 0..12 {
        add_sample(&mut ledger, sample(0.5 + f64::from(number), 0.2, Outcome::Ok));
    }
    let open = |text: &str| {
        let told = judged(&ledger, text);
        assert_eq!(told.verdict, Verdict::Inconclusive, "{text}: {told:?}");
        (told.note.unwrap(), told.margin_text)
    };
    assert_eq!(open("success_rate >= 99%"), ("12 of 30 samples".into(), String::new()));
    assert_eq!(open("success_rate >= 99% during nowhere").0, "the phase `nowhere` never began");
    assert_eq!(open("success_rate >= 99% after storm").0, "no request in this part of the run");
    assert!(open("p50(ttft) < 110% of baseline").0.contains("10 samples; 30 are needed"));
    assert!(open("retry_amplification(llm) < 2").0.contains("no call reached `llm` in baseline"));
    assert!(open("retries_before_retry_after(llm) == 0").0.contains("carried Retry-After"));
    assert!(open("dependency_error_rate(llm) < 5%").0.contains("no call reached `llm`"));
    assert!(open("affected_users(llm) < 5%").0.contains("identify.user"));
    assert!(open("time_to_recover < 5s").0.contains("no phase with faults"));
    assert!(open("success_rate > 5% for 1m").0.contains("shorter than 60 s"));
    let few = judged_with(&ledger, "success_rate >= 99%", |e| e.min_samples = 10);
    assert_eq!(few.verdict, Verdict::Pass);
    let tail = judged_with(&ledger, "p99(ttft) < 1s", |e| e.min_samples = 10);
    assert_eq!(tail.note.unwrap(), "12 of the 100 samples that this quantile needs");
}

#[test]
fn one_counterexample_refutes_none_at_all() {
    let mut ledger = phased(&[("baseline", 10.0, &[])]);
    for number in 0..5 {
        let outcome = if number == 2 { Outcome::Invalid } else { Outcome::Ok };
        add_sample(&mut ledger, sample(f64::from(number), 0.2, outcome));
    }
    assert_eq!(judged(&ledger, "user_error_rate{kind=\"garbled\"} == 0").verdict, Verdict::Fail);
    assert_eq!(
        judged(&ledger, "user_error_rate{kind=\"timeout\"} == 0").verdict,
        Verdict::Inconclusive
    );
    assert_eq!(judged(&ledger, "success_rate > 99%").verdict, Verdict::Inconclusive);
}

#[test]
fn a_wait_without_end_fails_only_when_it_is_already_too_long() {
    let ledger = run(100.0);
    let told = judged(&ledger, "time_to_recover < 30s after storm");
    assert_eq!(told.verdict, Verdict::Fail);
    assert_eq!(
        (told.observed_text.as_str(), told.margin_text.as_str()),
        ("> 40 s", "more than 10 s over")
    );
    let told = judged(&ledger, "time_to_recover < 60s after storm");
    assert_eq!(told.verdict, Verdict::Inconclusive);
    assert_eq!(
        told.note.unwrap(),
        "nothing is known beyond 40 s; make that part of the run longer"
    );
    assert_eq!(judged(&ledger, "time_to_recover > 30s").verdict, Verdict::Pass);
    assert_eq!(judged(&ledger, "time_to_recover > 60s").verdict, Verdict::Inconclusive);
    let told = judged(&ledger, "time_to_failover < 15s after storm");
    assert_eq!((told.verdict, told.observed_text.as_str()), (Verdict::Fail, "> 20 s"));
    let told = judged(&run(0.0), "time_to_recover < 1s after storm");
    assert_eq!((told.verdict, told.observed_text.as_str()), (Verdict::Pass, "0 s"));
}

#[test]
fn confidence_asks_for_more_than_the_observed_value() {
    let ledger = run(0.0);
    let at =
        |text: &str, confidence| judged_with(&ledger, text, |e| e.confidence = Some(confidence));
    // 80 of 100: between 71 % and 87 %.
    assert_eq!(at("success_rate >= 70% during storm", 0.95).verdict, Verdict::Pass);
    assert_eq!(at("success_rate >= 90% during storm", 0.95).verdict, Verdict::Fail);
    let open = at("success_rate >= 85% during storm", 0.95);
    assert_eq!(open.verdict, Verdict::Inconclusive);
    assert!(open.note.unwrap().starts_with("between 71.1 % and 86.7 % at 95 %"));
    // A hundred perfect requests cannot prove 99 %, and thirty values cannot bound a p95.
    assert_eq!(at("success_rate >= 99% during baseline", 0.95).verdict, Verdict::Inconclusive);
    assert_eq!(at("success_rate >= 99% during baseline", 0.5).verdict, Verdict::Pass);
}

#[test]
fn a_sentence_with_for_is_judged_by_its_worst_stretch() {
    let mut ledger = phased(&[("baseline", 60.0, &[])]);
    for number in 0..300 {
        let at = f64::from(number) / 5.0;
        let bad = (30.0..35.0).contains(&at);
        add_sample(&mut ledger, sample(at, 0.2, if bad { Outcome::Timeout } else { Outcome::Ok }));
    }
    let whole = judged(&ledger, "success_rate >= 80% during baseline");
    assert_eq!((whole.verdict, whole.observed_text.as_str()), (Verdict::Pass, "91.7 %"));
    let worst = judged(&ledger, "success_rate >= 80% during baseline for 10s");
    assert_eq!((worst.verdict, worst.observed_text.as_str()), (Verdict::Fail, "50 %"));
    assert_eq!(worst.samples, 300);
    let highest = judged(&ledger, "failure_rate < 60% during baseline for 10s");
    assert_eq!((highest.verdict, highest.observed_text.as_str()), (Verdict::Pass, "50 %"));
}

#[test]
fn a_dependencys_share_is_among_its_own_kind() {
    let mut ledger = phased(&[("baseline", 20.0, &[])]);
    for number in 0..60 {
        let name = if number % 3 == 0 { "llm-us" } else { "llm-eu" };
        add_call(&mut ledger, call(name, f64::from(number) / 5.0, 200));
        add_call(&mut ledger, call("vectors", f64::from(number) / 5.0, 200));
    }
    add_call(&mut ledger, Call { ended: CallEnd::ClientGone, ..call("vectors", 1.0, 200) });
    let rule = Rule::default();
    let dependencies = [
        dependency("llm-us", "openai"),
        dependency("llm-eu", "openai"),
        dependency("vectors", "qdrant"),
    ];
    let evidence = Evidence::new(&ledger, &rule, &[], &dependencies);
    let observed = |text| judge(&[Expectation::parse(text).unwrap()], &evidence)[0].observed;
    assert!((observed("request_share(llm-eu) >= 40%").unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert!((observed("abandoned_rate(vectors) < 5%").unwrap() - 1.0 / 61.0).abs() < 1e-9);
}

#[test]
fn a_gate_looks_at_its_own_phase() {
    let gate = Expectation::parse("success_rate >= 99%").unwrap().gate_of("storm");
    assert_eq!(gate.window, Window::During("storm".into()));
    let elsewhere = Expectation::parse("success_rate >= 99% during baseline").unwrap();
    assert_eq!(elsewhere.gate_of("storm"), elsewhere);
}

#[test]
fn silent_truncation_is_seen_by_length() {
    let mut ledger = run(0.0);
    for _ in 0..50 {
        let mut short = sample(25.0, 1.0, Outcome::Ok);
        short.tokens = 5;
        add_sample(&mut ledger, short);
    }
    let told = judged(&ledger, "silent_truncation_rate == 0 during storm");
    assert_eq!((told.verdict, told.samples), (Verdict::Fail, 130));
    let told = judged(&ledger, "completeness >= 98% during storm");
    assert_eq!((told.verdict, told.observed_text.as_str()), (Verdict::Fail, "61.5 %"));
}

#[test]
fn every_known_metric_can_be_judged() {
    let (full, empty) = (run(7.0), Ledger::default());
    let bare = phased(&[("baseline", 20.0, &[]), ("storm", 20.0, &["f"])]);
    for known in crate::verdict::METRICS {
        let form = known.form().replace("(storm)", "(f)");
        for tail in ["", " after storm", " after baseline for 5s"] {
            let text = format!("{form} >= 0{tail}");
            let told = judged_with(&full, &text, |e| e.min_samples = 1);
            assert!(told.observed_text != "–" || told.note.is_some(), "{text}: {told:?}");
            assert!(
                told.verdict == Verdict::Pass || tail.starts_with(" after"),
                "{text}: {told:?}"
            );
            for ledger in [&empty, &bare] {
                let told = judged(ledger, &text);
                assert!(known.exempt || told.verdict == Verdict::Inconclusive, "{text}: {told:?}");
            }
        }
    }
}

#[test]
fn from_observations_to_a_verdict() {
    let (ledger, rule) = (run(7.0), Rule::default());
    let expectations: Vec<Expectation> =
        ["success_rate >= 95% during storm", "time_to_recover < 30s after storm"]
            .iter()
            .map(|text| Expectation::parse(text).unwrap())
            .collect();
    let mut record = Record {
        dependencies: vec![dependency("llm", "openai"), dependency("vectors", "qdrant")],
        faults: vec![FaultLedger {
            name: "f".into(),
            hit: 40,
            armed: 100,
            ..FaultLedger::default()
        }],
        ..Record::default()
    };
    ledger.summarise(&rule, &asked_recoveries(&expectations), &mut record);
    let evidence = Evidence::new(&ledger, &rule, &record.faults, &record.dependencies);
    record.expectations = judge(&expectations, &evidence);
    conclude(&mut record, &Ending::Complete);
    assert_eq!((record.verdict, record.exit_code), (Verdict::Fail, 1), "{:?}", record.reasons);
    assert_eq!(record.reasons, ["`success_rate >= 95% during storm`: 80 %, 15.0 points under"]);
    assert_eq!(
        record.headline,
        "In storm, 20 % of 100 requests failed, mostly HTTP 500; the app multiplied its calls to llm 2.0x and needed 7 s to recover after the fault was gone. 100 % of its retries came before Retry-After had passed."
    );
    assert_eq!(record.recovery[0].time_to_recover_s, record.expectations[1].observed);
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
}
