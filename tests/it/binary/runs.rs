//! Whole runs: how they end, what they leave, and that a seed is a promise.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::process::Command;

use super::app::{App, experiment, free_port};
use super::command::{Ended, Folder, Started, brownout, ended};

const ERRORS: &str = "faults: { err: { target: llm, error: { status: 503, as: overloaded } } }\n\
    phases: [{ name: baseline, duration: 1s }, { name: storm, duration: 1s, faults: [err] }]\n";

/// A run of a file, with its results in `out`.
pub(super) fn run(folder: &Folder, text: &str, more: &[&str]) -> Command {
    let file = folder.write("brownout.yaml", text);
    let out = folder.at("out");
    let mut command = brownout(&["run", &file, "--out", &out]);
    command.args(more);
    command
}

/// Runs against an app of its own that asks the simulated model.
async fn run_with_app(rest: &str, more: &[&str]) -> (Folder, Ended) {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let over = ended(run(&folder, &experiment(&app.url(), port, rest), more)).await;
    (folder, over)
}

fn verdict(folder: &Folder) -> (String, i64) {
    let results = folder.json("out/results.json");
    (results["verdict"].as_str().unwrap().to_owned(), results["exit_code"].as_i64().unwrap())
}

#[tokio::test]
async fn a_verdict_is_an_exit_code() {
    let passes = format!("{ERRORS}expect: [success_rate >= 60% during baseline]\n");
    let fails = format!("{ERRORS}expect: [success_rate >= 95% during storm]\n");
    let ((good, passed), (bad, failed)) =
        tokio::join!(run_with_app(&passes, &[]), run_with_app(&fails, &["--json"]));
    passed.expect(0, &["PASS", "err hit", "report.html"]);
    assert_eq!(verdict(&good), ("pass".to_owned(), 0));
    failed.expect(1, &[]);
    assert_eq!(failed.json()["verdict"], "fail", "--json prints the results");
    assert_eq!(verdict(&bad), ("fail".to_owned(), 1));
    let results = bad.json("out/results.json");
    let err = &results["faults"][0];
    let count = |key: &str| err[key].as_u64().unwrap();
    assert!(count("hit") > 20 && count("armed") >= count("matched"), "{err}");
    assert_eq!(count("selected"), count("hit") + count("impossible") + count("let_go"));
    let asked = |phase: &Value| phase["requests"].as_u64().unwrap();
    let asked: u64 = results["phases"].as_array().unwrap().iter().map(asked).sum();
    assert_eq!(results["driver"]["planned"], asked, "each request is of a phase");
    assert!(bad.read("out/junit.xml").contains("<failure"));
    assert!(bad.read("out/report.html").contains("<svg"));
    let hits = bad.lines("out/decisions.jsonl").iter().filter(|line| line["hit"] == true).count();
    assert_eq!(hits as u64, count("hit"), "the journal has what the ledger has");
}

#[tokio::test]
async fn what_says_nothing_is_inconclusive_and_says_what_to_do() {
    let unmatched = "faults: { err: { target: llm, where: { path: /nowhere }, error: { status: 503 } } }\n\
        phases: [{ name: baseline, duration: 1s }, { name: storm, duration: 1s, faults: [err] }]\n\
        expect: [success_rate >= 90%]\n";
    let unsampled = format!(
        "{ERRORS}expect: [{{ check: success_rate >= 10% during baseline, min_samples: 5000 }}]\n"
    );
    let gated = "faults: { err: { target: llm, error: { status: 503 } } }\n\
        phases:\n  - { name: ill, duration: 1s, faults: [err], gate: [success_rate >= 99%] }\n  \
        - { name: never, duration: 60s }\nexpect: [success_rate >= 0%]\n";
    let deaf = async {
        let (folder, app) = (Folder::new(), App::deaf().await);
        let text = format!("{ERRORS}expect: [success_rate >= 99%]\n");
        let text = experiment(&app.url(), free_port(), &text);
        (ended(run(&folder, &text, &[])).await, folder)
    };
    let ((_, unmatched), (_, unsampled), (gate, gated), (deaf, deaf_folder)) = tokio::join!(
        run_with_app(unmatched, &[]),
        run_with_app(&unsampled, &[]),
        run_with_app(gated, &[]),
        deaf
    );
    unmatched.expect(
        5,
        &[
            "INCONCLUSIVE",
            "the fault `err` hit nothing: its `where` describes none of the",
            "compare it with the requests in decisions.jsonl, or leave it out",
        ],
    );
    unsampled.expect(5, &["INCONCLUSIVE", "of 5000 samples"]);
    gated.expect(5, &["the gate of phase `ill` did not hold", "(observed "]);
    assert_eq!(gate.json("out/results.json")["phases"].as_array().unwrap().len(), 1);
    deaf.expect(
        5,
        &[
            "no call of the app reached brownout: point its base URLs at llm (127.0.0.1:",
            "before its clients are built",
        ],
    );
    assert!(!deaf.out.contains("did not notice"), "a fault that never acted: {}", deaf.said());
    assert_eq!(verdict(&deaf_folder), ("inconclusive".to_owned(), 5));
}

#[tokio::test]
async fn a_phase_ends_early_when_the_app_has_recovered() {
    let text = "faults: { err: { target: llm, error: { status: 503 } } }\n\
        recovered: { metric: [success_rate], within: 10% of baseline, for: 1s }\n\
        phases:\n  - { name: baseline, duration: 2s }\n  - { name: storm, duration: 1s, faults: [err] }\n  \
        - { name: recovery, duration: 60s, until: recovered }\nexpect: [time_to_recover < 9s after storm]\n";
    let (folder, over) = run_with_app(text, &[]).await;
    over.expect(0, &[]);
    let results = folder.json("out/results.json");
    let recovery = &results["phases"][2];
    let length = recovery["end_s"].as_f64().unwrap() - recovery["start_s"].as_f64().unwrap();
    assert!((1.0..40.0).contains(&length), "{length} s");
}

/// What was decided for each (key, ordinal, fault).
fn decisions(folder: &Folder) -> BTreeMap<(String, u64, String), (bool, bool, String)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines = folder.lines("out/decisions.jsonl").into_iter().map(|line| {
        let key = (text(&line, "key"), line["ordinal"].as_u64().unwrap(), text(&line, "fault"));
        let flag = |key: &str| line[key].as_bool().unwrap();
        (key, (flag("matched"), flag("selected"), line["drawn"].to_string()))
    });
    lines.collect()
}

#[tokio::test]
async fn the_same_seed_decides_alike_for_every_key() {
    let text = "faults:\n  some: { target: llm, percent: 40, error: { status: 503 } }\n  \
        late: { target: llm, percent: 50, latency: { add: 5ms, jitter: 50% } }\n  \
        other: { target: llm, where: { model: claude-* }, error: { status: 500 } }\n\
        phases: [{ name: storm, duration: 2s, faults: [some, late, other] }]\n\
        expect: [success_rate >= 0%]\n";
    let ((one, _), (two, _), (three, _)) = tokio::join!(
        run_with_app(text, &["--seed", "7"]),
        run_with_app(text, &["--seed", "7"]),
        run_with_app(text, &["--seed", "8"])
    );
    let [one, two, three] = [&one, &two, &three].map(decisions);
    let shared = one.iter().filter(|(key, _)| two.contains_key(*key));
    let differing: Vec<_> = shared.clone().filter(|(key, fate)| two[*key] != **fate).collect();
    assert!(differing.is_empty(), "{differing:?}");
    let shared = shared.count();
    assert!(shared > 100 && shared * 10 > one.len() * 9, "{shared} of {}", one.len());
    assert!(one.values().any(|fate| !fate.0), "a `where` that does not match is journalled");
    let chosen = |all: &BTreeMap<_, (bool, bool, String)>| {
        all.iter()
            .filter(|(_, fate)| fate.1)
            .map(|(key, _): (&(String, u64, String), _)| key.clone())
            .collect::<Vec<_>>()
    };
    assert_ne!(chosen(&one), chosen(&three), "another seed, other faults");
}

#[tokio::test]
async fn zero_percent_changes_nothing() {
    let text = "faults: { none: { target: llm, percent: 0, error: { status: 503 }, truncate: { after: 1 token } } }\n\
        phases: [{ name: storm, duration: 1s, faults: [none] }]\nexpect: [success_rate == 100%]\n";
    let (folder, over) = run_with_app(text, &[]).await;
    // All is well, but a fault that chose nobody is never green.
    over.expect(5, &["its percent chose none of"]);
    let results = folder.json("out/results.json");
    assert_eq!(results["expectations"][0]["verdict"], "pass");
    assert_eq!(results["faults"][0]["selected"], 0);
}

#[tokio::test]
async fn results_keep_to_their_schemas_and_the_report_can_be_made_again() {
    let text = format!("{ERRORS}expect: [success_rate >= 60% during baseline]\n");
    let ((folder, over), results, decisions) = tokio::join!(
        run_with_app(&text, &[]),
        ended(brownout(&["schema", "results"])),
        ended(brownout(&["schema", "decisions"]))
    );
    over.expect(0, &[]);
    let schema = |printed: &Ended| jsonschema::validator_for(&printed.json()).unwrap();
    if let Err(error) = schema(&results).validate(&folder.json("out/results.json")) {
        panic!("{error} at {}", error.instance_path());
    }
    let line = schema(&decisions);
    for decision in folder.lines("out/decisions.jsonl") {
        if let Err(error) = line.validate(&decision) {
            panic!("{error}: {decision}");
        }
    }
    let again = folder.at("again");
    let made = ended(brownout(&["report", &folder.at("out"), "--out", &again])).await;
    made.expect(0, &["report.html"]);
    assert_eq!(folder.read("again/report.html"), folder.read("out/report.html"));
    assert_eq!(folder.read("again/junit.xml"), folder.read("out/junit.xml"));
    let shown = ended(brownout(&["report", &folder.at("out/results.json"), "--print", "markdown"]));
    shown.await.expect(0, &["PASS", "err"]);
}

#[tokio::test]
async fn an_app_that_dies_breaks_the_run_and_what_was_seen_is_reported() {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let text = format!(
        "{}expect: [success_rate >= 99%]\n",
        ERRORS.replace("name: storm, duration: 1s", "name: storm, duration: 60s")
    );
    let text = experiment(&app.url(), port, &text);
    let over = ended(run(&folder, &text, &["--exec", "sleep 1.5; exit 7"])).await;
    over.expect(3, &["the app ended by itself (exit status: 7)", "partial"]);
    let results = folder.json("out/results.json");
    assert_eq!((&results["partial"], &results["exit_code"]), (&true.into(), &3.into()));
    assert!(results["phases"][0]["requests"].as_u64().unwrap() > 10);
    let background = ended(run(&folder, &text, &["--exec", "true"])).await;
    background.expect(3, &["--exec needs a command that stays in the foreground"]);
}

#[tokio::test]
async fn the_app_is_started_with_every_address_and_ended_with_the_run() {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let text = format!("{ERRORS}expect: [success_rate >= 0%]\n");
    let seen = folder.at("seen");
    let command = format!("env > {seen}; echo $$ >> {seen}; echo on stdout; sleep 60");
    let mut command =
        run(&folder, &experiment(&app.url(), port, &text), &["--exec", &command, "--json"]);
    command.env("HTTP_PROXY", "http://nowhere.invalid:1").env_remove("NO_PROXY");
    let over = ended(command).await;
    over.expect(0, &["on stdout"]);
    over.json();
    let seen = folder.read("seen");
    assert!(seen.contains(&format!("\nOPENAI_BASE_URL=http://127.0.0.1:{port}/v1\n")), "{seen}");
    assert!(seen.contains("\nno_proxy=localhost,127.0.0.1,::1\n"), "{seen}");
    super::command::gone(seen.lines().last().unwrap().parse().unwrap()).await;
}

#[tokio::test]
async fn waiting_for_an_app_has_an_end() {
    let folder = Folder::new();
    let (port, nobody) = (free_port(), free_port());
    let text =
        experiment("http://127.0.0.1:1", port, &format!("{ERRORS}expect: [success_rate >= 0%]\n"));
    let never = format!(":{nobody}");
    let over = ended(run(&folder, &text, &["--wait-for", &never, "--wait-timeout", "300ms"])).await;
    over.expect(3, &[&format!("127.0.0.1:{nobody} did not answer within 300ms")]);
    let dead = ["--wait-for", &never, "--exec", "exit 4"];
    let over = ended(run(&folder, &text, &dead)).await;
    over.expect(3, &["the app ended by itself (exit status: 4) before"]);
    let mut waiting = run(&folder, &text, &["--wait-for", &never]);
    waiting.args(["--progress", "lines"]);
    let mut waiting = Started::new(waiting);
    waiting.hear("waiting for").await;
    waiting.signal(rustix::process::Signal::INT);
    waiting.ended().await.expect(130, &["interrupted while waiting for"]);
}
