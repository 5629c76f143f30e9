use proptest::prelude::*;

use super::*;
use crate::verdict::Known;

fn read(text: &str) -> Expectation {
    Expectation::parse(text).unwrap_or_else(|bad| panic!("{text}: {bad:?}"))
}

fn refused(text: &str) -> (String, String, String) {
    let wrong = Expectation::parse(text).expect_err(text);
    let place = text.get(wrong.at..wrong.at + wrong.len).unwrap_or("outside").to_owned();
    (place, wrong.reason, wrong.hint.unwrap_or_default())
}

#[test]
fn sentences_of_the_examples_are_read() {
    for text in [
        "success_rate >= 97% during fault",
        "time_to_recover < 30s",
        "p95(ttft) < 2.5s during slow",
        "retry_amplification(llm) < 1.5 during storm",
        "completeness >= 98% during storm",
        "time_to_recover < 30s after storm",
        "p95(ttft) <= 110% of baseline during recovery",
        "user_error_rate{kind=\"garbled\"} == 0",
        "success_rate < 50% for 15s",
        "retries_before_retry_after(llm) == 0",
        "silent_truncation_rate == 0 during cut",
        "affected_users(vectors) <= 6% during brownout",
        "goodput >= 80% of warm during overload",
        "time_to_failover < 15s after outage",
        "request_share(llm-eu) >= 40% during recovery",
        "p99(latency) <= 130% of baseline during recovery",
        "p99.9(time_to_head(llm)) < 1m30s",
        "rate(requests) >= 4/s during storm",
        "tokens_per_second > 120/min",
        "failure_rate{kind=\"timeout\",kind=\"aborted\"} <= 1 % during storm for 10s",
        "fault_hits(storm) > 0",
        "calls(llm) <= 100",
        "avg(itl)<60ms",
    ] {
        let expectation = read(text);
        let again = read(&expectation.to_string());
        assert_eq!(Expectation { text: expectation.text.clone(), ..again }, expectation, "{text}");
    }
}

#[test]
fn parts_mean_what_they_say() {
    let expectation = read("p95(ttft) <= 110% of baseline during recovery for 10s");
    assert_eq!(expectation.metric.function, Some(Function::Percentile(95.0)));
    assert_eq!(expectation.op, Op::AtMost);
    assert_eq!(expectation.limit, Limit::OfPhase { share: 1.1, phase: "baseline".into() });
    assert_eq!(expectation.window, Window::During("recovery".into()));
    assert_eq!(expectation.hold, Some(Duration::from_secs(10)));
    assert_eq!(expectation.min_samples, 30);
    let limit = |text| read(text).limit;
    let value = |value, unit| Limit::Value { value, unit };
    assert_eq!(limit("success_rate >= 97%"), value(0.97, crate::verdict::Unit::Percent));
    assert_eq!(limit("p95(ttft) < 250ms"), value(0.25, crate::verdict::Unit::Seconds));
    assert_eq!(limit("retry_amplification(llm) < 1.5x"), value(1.5, crate::verdict::Unit::Times));
    assert_eq!(limit("retry_amplification(llm) < 150%"), value(1.5, crate::verdict::Unit::Percent));
}

#[test]
fn mistakes_are_told_with_their_place_and_the_right_form() {
    for (text, place, reason, hint) in [
        ("succes_rate >= 97%", "succes_rate", "unknown metric `succes_rate`", "`success_rate`"),
        ("success-rate >= 97%", "success-rate", "unknown metric", "`success_rate`"),
        ("grounded_rate >= 98%", "grounded_rate", "unknown metric", "completeness, "),
        ("p95(ttff) < 2s", "ttff", "unknown metric `ttff`", "`ttft`"),
        ("median(ttft) < 2s", "median", "unknown function", "`p50`"),
        ("p95(ttft) < 2.5", "2.5", "2.5 what? write 2.5s or 2500ms", ""),
        ("p95(ttft) < 300 during x", "300", "300 what? write 300s or 300ms", ""),
        ("p95(ttft) < 110%", "110%", "`110%` of what?", "110% of baseline"),
        ("success_rate >= 0.97", "0.97", "0.97 what? write 97% or 0.97%", ""),
        ("success_rate >= 97", "97", "97 what? write 97%", ""),
        ("success_rate >= 970%", "970%", "never above 100%", ""),
        ("success_rate >= 2s", "2s", "which is a share", ">= 97%"),
        ("calls(llm) < 5%", "5%", "which is a count", "== 0"),
        ("ttft < 2s", "ttft", "many values", "`p95(ttft)`"),
        ("p95(success_rate) > 3%", "p95", "one number already", "`success_rate` alone"),
        ("p0(ttft) < 2s", "p0", "no percentile", "p95"),
        ("retry_amplification < 1.5", "retry_amplification", "of which dependency?", "(llm)"),
        ("fault_hits > 1", "fault_hits", "of which fault?", "(storm)"),
        ("success_rate(llm) >= 97%", "(llm)", "measured at the app", "success_rate"),
        ("success_rate{kind=\"timeout\"} >= 97%", "{kind=\"timeout\"}", "takes no labels", ""),
        ("failure_rate{kind=\"time_out\"} == 0", "time_out", "no kind of failure", "`timeout`"),
        ("failure_rate{king=\"timeout\"} == 0", "king", "unknown label", "kind"),
        ("failure_rate{kind=timeout} == 0", "timeout}", "in quotes", ""),
        ("failure_rate{kind=\"timeout} == 0", "\"timeout} == 0", "never closed", ""),
        ("success_rate => 97%", "=>", "no comparison", "`>=`"),
        ("success_rate = 97%", "=", "no comparison", "`==`"),
        ("success_rate 97%", "9", "a comparison is missing", ""),
        ("success_rate", "", "a comparison and a limit are missing", ""),
        ("success_rate >=", "", "the limit is missing", "97%"),
        ("success_rate >= 97% in storm", "in", "not understood", "`during`"),
        ("success_rate >= 97% durring storm", "durring", "not understood", "`during`"),
        ("success_rate >= 97% during", "", "which phase?", ""),
        ("success_rate >= 97% during a after b", "after", "one phase", ""),
        ("success_rate >= 97% for 10s during a", "during", "stands before `for`", ""),
        ("success_rate >= 97% for 15", "15", "15 what? write 15ms or 15s", ""),
        ("success_rate >= 97% for 0s", "0s", "needs some time", ""),
        ("success_rate >= 97% && x", "&&", "not understood", ""),
        ("time_to_recover < 30s during storm", "during", "is over", "`after storm`"),
        ("time_to_recover < 110% of baseline", "110% of baseline", "happens once", "30s"),
        ("p95(ttft) < 2s of baseline", "2s", "needs a percent", "110% of baseline"),
        ("p95(ttft < 2s", "<", "`)` is missing", ""),
        ("", "", "empty", "success_rate"),
        (">= 97%", ">=", "begins with a metric", ""),
        ("success_rate >= -3%", "-3%", "which is a share", ""),
    ] {
        let got = refused(text);
        assert_eq!(got.0, place, "{text}: {got:?}");
        assert!(got.1.contains(reason), "{text}: {got:?}");
        assert!(got.2.contains(hint), "{text}: {got:?}");
    }
}

fn any_sentence() -> impl Strategy<Value = String> {
    let metric =
        (0..crate::verdict::METRICS.len(), 0u32..1000, 0..3usize).prop_map(|(at, p, kinds)| {
            let known: &Known = &crate::verdict::METRICS[at];
            let labels = ["", "{kind=\"timeout\"}", "{kind=\"http_5xx\", kind=\"garbled\"}"][kinds];
            let labels = if known.labels { labels } else { "" };
            let argument = match known.argument {
                Argument::None => "",
                Argument::Optional if p % 2 == 0 => "",
                _ => "(llm-eu_2)",
            };
            let plain = format!("{}{labels}{argument}", known.name);
            let whole = if known.distribution {
                format!("p{}({plain})", f64::from(p + 1) / 10.1)
            } else {
                plain
            };
            (whole, known)
        });
    let tail = prop_oneof![Just(""), Just(" during storm"), Just(" after a.b-c")];
    (metric, 0..6usize, 0u32..1000, tail, 0u32..30_000, any::<bool>()).prop_map(
        |((metric, known), op, number, tail, hold, of)| {
            let op = ["<", "<=", ">", ">=", "==", "!="][op];
            let number = f64::from(number) / 10.0;
            let once =
                known.name.starts_with("time_to_recover") || known.name == "time_to_failover";
            let limit = match known.kind {
                _ if of && !once => format!("{number}% of base"),
                Kind::Count | Kind::Times => format!("{number}"),
                Kind::PerSecond => format!("{number}/s"),
                Kind::Seconds => format!("{number}s"),
                Kind::Share => format!("{number}%"),
            };
            let tail = if once { tail.replace("during", "after") } else { tail.to_owned() };
            let hold = if hold == 0 { String::new() } else { format!(" for {hold}ms") };
            format!("{metric} {op} {limit}{tail}{hold}")
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_reads_the_same(text in any_sentence()) {
        let first = Expectation::parse(&text);
        prop_assert!(first.is_ok(), "{text}: {first:?}");
        let first = first.unwrap();
        let second = read(&first.to_string());
        prop_assert_eq!(Expectation { text: first.text.clone(), ..second }, first);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _ = Expectation::parse(&text);
    }

    #[test]
    fn no_mangled_sentence_panics(text in any_sentence(), at in 0usize..60, junk in "\\PC{0,3}") {
        let mut mangled = text;
        let at = (0..=at.min(mangled.len())).rev().find(|at| mangled.is_char_boundary(*at)).unwrap();
        mangled.insert_str(at, &junk);
        if let Err(wrong) = Expectation::parse(&mangled) {
            prop_assert!(wrong.at + wrong.len <= mangled.len(), "{mangled}: {wrong:?}");
            prop_assert!(mangled.get(wrong.at..wrong.at + wrong.len).is_some(), "{mangled}: {wrong:?}");
        }
    }
}
