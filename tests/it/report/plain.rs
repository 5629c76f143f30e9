//! The reports that are no page: terminal, JUnit, Markdown, annotations, JSON, decisions.

use std::sync::Arc;

use brownout::measure::DecisionLine;
use brownout::measure::record::{Expected, Record, SCHEMA_VERSION, Verdict};
use brownout::report::{self, Style};

use super::markup::Element;
use super::samples;

fn terminal(record: &Record) -> String {
    report::terminal(
        record,
        &Style { report: Some("brownout-report/report.html".into()), ..Style::default() },
    )
}

#[test]
fn the_summary_of_a_failed_run() {
    insta::assert_snapshot!(terminal(&samples::failing()), @r"
    ─────────────────────────────────────────────────────────────────────── rag-demo
    ✗ FAIL  3 of 6 expectations failed                   75 s  375 requests  seed 42

    PHASE      DUR  FAULT              SUCCESS  TTFT p95  ITL p99  COMPLETE    AMPL
    baseline   20s  –                    100 %    0.90 s    49 ms     100 %   1.00x
    storm      25s  storm: rate_lim…   !88.0 %    5.20 s    49 ms    98.3 %  !2.07x
    recovery   30s  –                   92.7 %    0.97 s    49 ms     100 %   1.14x

    success    █████████████████████▇▇▇▇▇▆▅▅▄▄▅▅▅▄▄▃▄▅▄▄▄▄▃▄▄▅▅▆▆▆▇▇▇▇▇▇▇▇▇█████████
               │baseline         │storm                 │recovery
                                        ←────── 21 s ──────→ to recover, limit < 10s
               ▁ 0 %  █ 100 %

    ✗ success_rate >= 95% during storm            88.0 %  n=125  7.0 points under
    ✗ retry_amplification(llm) < 1.5 during storm  2.07x  n=259  0.57 over
    ✗ time_to_recover < 10s after storm             21 s    n=1  11 s over
    ✓ success_rate >= 99% during baseline          100 %  n=100  1.0 points to spare
    ✓ completeness >= 98% during storm            98.3 %  n=119  0.3 points to spare
    ✓ p95(ttft) <= 110% of baseline during recovery
                                                   107 %  n=147  3.0 points to spare

    why        In storm, 12 % of user requests failed (limit 5 %): 94 % of the app's
               retries came before Retry-After had passed, and the queue they built
               needed 21 s to drain after the fault was gone (limit 10 s).
    users saw  17 × http_5xx, 7 × timeout, 2 × truncated
    fault      storm hit 203 of 259 matching calls (100 %, wanted 100 %)
    report     brownout-report/report.html
    again      brownout run brownout.yaml --seed 42
    ");
}

#[test]
fn the_summary_of_a_run_that_cannot_say() {
    insta::assert_snapshot!(terminal(&samples::inconclusive()), @r"
    ───────────────────────────────────────────────────────────── vector-db-brownout
    ? INCONCLUSIVE  4 of 6 expectations were met, 1 could not be judged, 1 warning
      75 s  375 requests  seed 42

    PHASE      DUR  FAULT              SUCCESS  TTFT p95  ITL p99  COMPLETE    AMPL
    baseline   20s  –                    100 %    0.90 s    49 ms     100 %   1.00x
    storm      25s  storm: rate_lim…    98.4 %    1.40 s    49 ms   !97.1 %   1.13x
    recovery   30s  –                    100 %    0.97 s    49 ms     100 %   1.00x

    success    ████████████████████████████▅▅▅▅▆███▄▅▅▂▂▅▅▅█████████████████████████
               │baseline         │storm                 │recovery
               ▁ 90 %  █ 100 %

    ? time_to_recover < 10s after storm                –    n=0
        no fault acted during storm, so there was nothing to recover from
    ✗ completeness >= 98% during storm            97.1 %  n=119  0.9 points under
        a warning only, it fails nothing
    ✓ success_rate >= 99% during baseline          100 %  n=100  1.0 points to spare
    ✓ success_rate >= 95% during storm            98.4 %  n=125  3.4 points to spare
    ✓ retry_amplification(llm) < 1.5 during storm  1.13x  n=259  0.37 to spare
    ✓ p95(ttft) <= 110% of baseline during recovery
                                                   102 %  n=147  8.0 points to spare

    why        In storm, 1.6 % of 125 requests failed, and no fault was acting.
               the fault `storm` hit nothing: its `where` describes none of the 141
               requests to `llm`; compare it with the requests in decisions.jsonl,
               or leave it out
    users saw  2 × http_5xx
    fault      ? storm never acted
    report     brownout-report/report.html
    again      brownout run brownout.yaml --seed 42
    ");
}

#[test]
fn the_summary_fits_its_columns_and_its_alphabet() {
    for (name, record) in samples::all() {
        for width in [60, 80, 120] {
            for ascii in [false, true] {
                let text = report::terminal(&record, &Style { width, ascii, ..Style::default() });
                for line in text.lines() {
                    assert!(line.chars().count() <= width, "{name} at {width}: {line}");
                    assert!(!line.contains(|c: char| c.is_control()), "{name}: {line:?}");
                    assert!(!line.trim_start().starts_with("::"), "{name}: {line}");
                }
                assert!(!ascii || text.is_ascii(), "{name}: {text}");
            }
        }
    }
}

#[test]
fn colours_come_only_when_told() {
    let plain = report::terminal(&samples::failing(), &Style::default());
    assert!(!plain.contains('\x1b'));
    let style = Style { color: true, ..Style::default() };
    let colored = report::terminal(&samples::failing(), &style);
    assert!(colored.contains("\x1b[1m\x1b[31m✗ FAIL\x1b[0m"), "{colored:?}");
    let mut stripped = String::new();
    for (n, part) in colored.split('\x1b').enumerate() {
        stripped.push_str(if n == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert_eq!(trimmed(&stripped), trimmed(&plain), "colours change nothing else");
}

/// The rules of both usual schemas that a document could break: Jenkins' `junit-10.xsd` and Ant's
/// `JUnit.xsd`.
fn check_junit(name: &str, xml: &str) -> Element {
    let document = Element::read(xml);
    let root = &document.children[0];
    assert_eq!((root.name.as_str(), root.attributes.len()), ("testsuites", 0), "{name}");
    for (n, suite) in root.children.iter().enumerate() {
        assert_eq!(suite.name, "testsuite");
        let mut attributes: Vec<&str> = suite.attributes.iter().map(|it| it.0.as_str()).collect();
        attributes.sort_unstable();
        let wanted = [
            "errors",
            "failures",
            "hostname",
            "id",
            "name",
            "package",
            "skipped",
            "tests",
            "time",
            "timestamp",
        ];
        assert_eq!(attributes, wanted, "{name}");
        assert_eq!(suite.attribute("id"), Some(n.to_string().as_str()));
        assert!(suite.attribute("name").unwrap().len() > "brownout.".len(), "{name}");
        assert_eq!(suite.attribute("timestamp").unwrap().len(), "2026-09-10T14:03:22".len());
        let kinds: Vec<&str> = suite.children.iter().map(|it| it.name.as_str()).collect();
        let cases = kinds.len() - 3;
        assert_eq!(kinds[0], "properties", "{name}");
        assert!(kinds[1..=cases].iter().all(|it| *it == "testcase"), "{name}: {kinds:?}");
        assert_eq!(&kinds[cases + 1..], ["system-out", "system-err"], "{name}");
        let count = |kind: &str| suite.named(kind).len().to_string();
        assert_eq!(suite.attribute("tests"), Some(cases.to_string().as_str()), "{name}");
        assert_eq!(suite.attribute("failures"), Some(count("failure").as_str()), "{name}");
        assert_eq!(suite.attribute("errors"), Some(count("error").as_str()), "{name}");
        for property in &suite.children[0].children {
            let names: Vec<&str> = property.attributes.iter().map(|it| it.0.as_str()).collect();
            assert_eq!((property.name.as_str(), names), ("property", vec!["name", "value"]));
        }
        for case in &suite.children[1..=cases] {
            let names: Vec<&str> = case.attributes.iter().map(|it| it.0.as_str()).collect();
            assert_eq!(names, ["name", "classname", "time"], "{name}");
            assert!(case.attribute("time").unwrap().parse::<f64>().unwrap() >= 0.0);
            assert!(case.children.len() <= 1, "{name}: one result at most");
            for result in &case.children {
                assert!(matches!(result.name.as_str(), "failure" | "error"), "{name}");
                let names: Vec<&str> = result.attributes.iter().map(|it| it.0.as_str()).collect();
                assert_eq!(names, ["message", "type"], "{name}");
                assert!(!result.text.trim().is_empty(), "{name}: all stands in the body");
            }
        }
    }
    document
}

#[test]
fn junit_follows_the_usual_schemas() {
    for (name, record) in samples::all() {
        let xml = report::junit(&record);
        let document = check_junit(name, &xml);
        assert!(!xml.contains('\x1b') && !xml.contains('\0'), "{name}");
        let green = document.named("failure").is_empty() && document.named("error").is_empty();
        assert_eq!(green, record.verdict == Verdict::Pass, "{name}: as green as the verdict");
        assert!(document.named("skipped").is_empty(), "{name}: a skip is green everywhere");
    }
}

#[test]
fn junit_tells_each_expectation() {
    let document = Element::read(&report::junit(&samples::failing()));
    let cases = document.named("testcase");
    let names: Vec<&str> = cases.iter().map(|it| it.attribute("name").unwrap()).collect();
    assert_eq!(
        names,
        [
            "success_rate &gt;= 99% during baseline",
            "success_rate &gt;= 95% during storm",
            "retry_amplification(llm) &lt; 1.5 during storm",
            "completeness &gt;= 98% during storm",
            "time_to_recover &lt; 10s after storm",
            "p95(ttft) &lt;= 110% of baseline during recovery",
            "faults hit: storm",
            "run completed",
        ]
    );
    let failed = cases[1];
    assert_eq!(failed.attribute("classname"), Some("rag-demo.storm"));
    assert_eq!(failed.attribute("time"), Some("25.000"));
    let failure = &failed.children[0];
    assert_eq!(failure.attribute("type"), Some("Expectation"));
    assert_eq!(failure.attribute("message"), Some("88.0 % (limit &gt;= 95%)"));
    for words in [
        "success_rate",
        "88.0 %",
        "81.1 % to 92.6 %",
        "7.0 points under",
        "125",
        "brownout.yaml:19",
        "--seed 42",
    ] {
        assert!(failure.text.contains(words), "{words} is missing in {}", failure.text);
    }
}

#[test]
fn junit_is_never_green_by_mistake() {
    let kinds = |record: &Record| -> Vec<String> {
        let document = Element::read(&report::junit(record));
        let results = document.named("error").into_iter().chain(document.named("failure"));
        results.map(|it| it.attribute("type").unwrap().to_owned()).collect()
    };
    // The unjudged expectation and the fault that never acted; the warning stays green.
    assert_eq!(kinds(&samples::inconclusive()), ["Inconclusive", "Inconclusive"]);
    assert!(report::junit(&samples::inconclusive()).contains("warning: completeness"));
    assert!(kinds(&samples::aborted()).iter().all(|it| it == "SafetyAbort"));
    let mut record = samples::passing();
    record.partial = true;
    assert_eq!(kinds(&record), ["Partial"]);
    record.partial = false;
    record.verdict = Verdict::Inconclusive;
    record.reasons = vec!["no request reached a dependency".into()];
    assert_eq!(kinds(&record), ["Inconclusive"]);
    record.verdict = Verdict::Pass;
    record.faults[0].hit = 0;
    assert_eq!(kinds(&record), ["Inconclusive"], "a fault that did not fire is never green");
    record.phases[1].faults.clear();
    record.faults[0].armed = 0;
    assert!(kinds(&record).is_empty(), "a fault that no phase uses is no fault of the run");
}

#[test]
fn results_are_read_back_as_they_were() {
    for (name, record) in samples::all() {
        if name == "nulls" {
            continue; // its limits are NaN, which JSON has not
        }
        let text = report::json(&record);
        assert_eq!(report::read_json(&text).unwrap(), record, "{name}");
        assert!(text.starts_with("{\n  \"schema_version\": 1,\n  \"version\":"), "stable order");
        assert!(text.ends_with("}\n"));
    }
}

#[test]
fn results_of_other_versions_are_read_or_refused_in_words() {
    let mut tree: serde_json::Value =
        serde_json::from_str(&report::json(&samples::failing())).unwrap();
    // An older file lacks what came later; a newer one of the same layout has more.
    tree.as_object_mut().unwrap().remove("observations_dropped");
    tree["phases"][0].as_object_mut().unwrap().remove("stalls");
    tree["one_more"] = serde_json::json!({ "a": 1 });
    assert_eq!(report::read_json(&tree.to_string()).unwrap(), samples::failing());

    tree["schema_version"] = (SCHEMA_VERSION + 1).into();
    tree["version"] = "9.0.0".into();
    tree["phases"] = "changed".into();
    let error = report::read_json(&tree.to_string()).unwrap_err().to_string();
    assert_eq!(
        error,
        "`schema_version` is 2, written by brownout 9.0.0; this one reads up to 1: use brownout 9.0.0 or newer"
    );
    for (text, words) in [
        ("{ \"name\": 1 }", "no `schema_version`"),
        ("[]", "no `schema_version`"),
        ("[1]", "no `schema_version`"),
        ("{ \"schema_version\": 9 }", "use a later brownout or newer"),
        ("7", "no `schema_version`"),
        ("<html>", "this is no JSON"),
        ("", "this is no JSON"),
        ("{ \"schema_version\": 1, \"phases\": 3 }", "does not fit"),
    ] {
        let error = report::read_json(text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn the_step_summary_is_a_summary() {
    let text = report::markdown(&samples::failing());
    for words in [
        "<!-- brownout:ragdemo -->",
        "## ✗ brownout: rag-demo: FAIL, 3 of 6 expectations failed",
        "| ✗ | `success_rate >= 95% during storm` | 88.0 % | 125 | 7.0 points under |",
        "| storm | storm | 125 | **88.0 %** | 5.20 s | 98.3 % | **2.07×** |",
        "Reproduce: `brownout run brownout.yaml --seed 42`",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    let hostile = report::markdown(&samples::hostile());
    assert!(!hostile.contains("<img") && !hostile.contains(" @team"), "{hostile}");
    assert!(hostile.lines().all(|line| !line.trim_start().starts_with("::")), "{hostile}");
}

#[test]
fn a_huge_summary_drops_tables_from_the_bottom() {
    let mut record = samples::failing();
    let model = record.phases[1].clone();
    record.phases = (0..10_000)
        .map(|n| brownout::measure::record::Phase {
            name: format!("{n} {}", "long ".repeat(30)),
            ..model.clone()
        })
        .collect();
    let text = report::markdown(&record);
    assert!(text.len() < 1_000_000, "{}", text.len());
    assert!(text.contains("4 tables are left out"), "it says so");
    assert!(text.contains("success_rate >= 95%"), "the upper tables stay");
}

#[test]
fn annotations_are_commands_of_ours_alone() {
    assert_eq!(report::annotations(&samples::passing()), "");
    let text = report::annotations(&samples::failing());
    let first = "::error file=brownout.yaml,line=19,title=brownout%3A storm::success_rate >= 95%25 during storm: 88.0 %25, 7.0 points under";
    assert_eq!(text.lines().next(), Some(first));
    assert_eq!(text.lines().count(), 3);
    let inconclusive = report::annotations(&samples::inconclusive());
    assert!(inconclusive.contains("never acted"), "{inconclusive}");
    assert!(inconclusive.contains("::warning file=brownout.yaml,line=21"), "{inconclusive}");
    for (name, record) in samples::all() {
        for line in report::annotations(&record).lines() {
            let rest = line.strip_prefix("::error ").or_else(|| line.strip_prefix("::warning "));
            let properties = rest.unwrap_or_else(|| panic!("{name}: {line}")).split("::").next();
            for property in properties.unwrap().split(',') {
                let key = property.split('=').next().unwrap();
                assert!(matches!(key, "file" | "line" | "title"), "{name}: {line}");
            }
        }
    }
    let mut record = samples::failing();
    let broken: Expected = record.expectations[1].clone();
    record.expectations = vec![broken; 30];
    let text = report::annotations(&record);
    assert_eq!(text.lines().count(), 9);
    assert!(text.ends_with("and 22 more, see the report\n"), "{text}");
    assert!(
        report::annotations(&samples::empty()).starts_with("::error "),
        "never silent when not green"
    );
}

#[test]
fn a_decision_is_one_line() {
    let line = DecisionLine {
        key: "00ff".into(),
        ordinal: 1,
        dependency: Arc::from("llm"),
        kind: "openai".into(),
        fault: Arc::from("a\nb"),
        matched: true,
        selected: true,
        hit: true,
        would_hit: None,
        out_of_turn: None,
        impossible: None,
        let_go: None,
        drawn: [("percent".to_owned(), 12.5)].into(),
        at_s: 3.25,
        seed: Some(42),
    };
    assert_eq!(
        report::decision(&line),
        "{\"key\":\"00ff\",\"ordinal\":1,\"dependency\":\"llm\",\"kind\":\"openai\",\"fault\":\"a\\nb\",\"matched\":true,\"selected\":true,\"hit\":true,\"drawn\":{\"percent\":12.5},\"at_s\":3.25,\"seed\":42}\n"
    );
}
