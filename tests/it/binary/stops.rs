//! Safety rules stop a run: exit code 4, and what was seen is reported.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::app::{App, experiment, free_port};
use super::command::{Ended, Folder, ended};
use super::runs::run;

/// A run that would last a minute, stopped by these rules.
async fn stopped(safety: &str, ill_after: Option<Duration>) -> (Folder, Ended) {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let rest = format!(
        "faults: {{ err: {{ target: llm, error: {{ status: 503 }} }} }}\n\
         phases: [{{ name: baseline, duration: 1s }}, {{ name: storm, duration: 60s, faults: [err] }}]\n\
         expect: [success_rate >= 60% during baseline]\nsafety: {}\n",
        safety.replace("APP", &app.url())
    );
    let state = std::sync::Arc::clone(&app.state);
    let falls_ill = async {
        if let Some(after) = ill_after {
            tokio::time::sleep(after).await;
            state.ill.store(true, Ordering::Relaxed);
        }
    };
    let (over, ()) =
        tokio::join!(ended(run(&folder, &experiment(&app.url(), port, &rest), &[])), falls_ill);
    assert!(app.state.asked.load(Ordering::Relaxed) > 10);
    (folder, over)
}

#[tokio::test]
async fn safety_rules_stop_a_run() {
    let ((folder, sentence), (_, probe), (_, longest)) = tokio::join!(
        stopped("{ abort_when: [success_rate < 50% for 1s] }", None),
        stopped(
            "{ abort_when: [{ probe: { http: \"APP/healthz\", every: 100ms, failures: 3 } }] }",
            Some(Duration::from_millis(1500))
        ),
        stopped("{ max_duration: 2s }", None)
    );
    sentence.expect(4, &["ABORTED", "`abort_when: success_rate < 50% for 1s` came true"]);
    probe.expect(4, &["/healthz failed 3 probes in a row"]);
    longest.expect(4, &["the run reached safety.max_duration (2s)"]);
    let results = folder.json("out/results.json");
    assert_eq!((&results["verdict"], &results["exit_code"]), (&"aborted".into(), &4.into()));
    assert_eq!(results["partial"], true);
    assert!(results["phases"][1]["end_s"].as_f64().unwrap() < 30.0);
    assert!(folder.read("out/report.html").contains("abort_when"));
    assert!(folder.read("out/junit.xml").contains("SafetyAbort"));
}

#[tokio::test]
async fn no_more_than_max_affected_is_touched() {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let rest = "faults: { err: { target: llm, error: { status: 503 } } }\n\
         phases: [{ name: storm, duration: 2s, faults: [err] }]\n\
         expect: [success_rate >= 60%]\nsafety: { max_affected: 25% }\n";
    let over = ended(run(&folder, &experiment(&app.url(), port, rest), &[])).await;
    over.expect(0, &["let go"]);
    let results = folder.json("out/results.json");
    let fault = &results["faults"][0];
    let count = |key: &str| fault[key].as_u64().unwrap();
    assert!(count("hit") > 5 && count("hit") * 4 <= count("selected"), "{fault}");
    assert_eq!(count("let_go"), count("selected") - count("hit"));
    assert_eq!(fault["reasons"]["max_affected reached"], count("let_go"));
}
