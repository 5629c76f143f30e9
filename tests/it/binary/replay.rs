//! A run is met again by its journal, under another seed and another file.

use std::collections::BTreeSet;

use super::app::{App, experiment, free_port};
use super::command::{Ended, Folder, ended};
use super::runs::run;

const STORM: &str = "faults:\n  some: { target: llm, percent: 30, error: { status: 503 } }\n  \
    other: { target: llm, percent: 20, latency: { add: 5ms, jitter: 50% } }\n\
    phases: [{ name: storm, duration: 2s, faults: [some, other] }]\nexpect: [success_rate >= 0%]\n";

/// The same phase; another percent and another `where`, and `other` is gone.
const CHANGED: &str = "faults:\n  some: { target: llm, percent: 1, where: { model: nothing }, error: { status: 500 } }\n\
    phases: [{ name: storm, duration: 2s, faults: [some] }]\nexpect: [success_rate >= 0%]\n";

async fn run_in(folder: &Folder, rest: &str, more: &[&str]) -> Ended {
    let port = free_port();
    let app = App::asking(port).await;
    ended(run(folder, &experiment(&app.url(), port, rest), more)).await
}

type Exchanges = BTreeSet<(String, u64)>;

/// All exchanges of a journal, and those that `some` hit.
fn journal(folder: &Folder) -> (Exchanges, Exchanges) {
    let lines = folder.lines("out/decisions.jsonl");
    let place = |line: &serde_json::Value| {
        (line["key"].as_str().unwrap().to_owned(), line["ordinal"].as_u64().unwrap())
    };
    let hit = lines.iter().filter(|line| line["fault"] == "some" && line["hit"] == true);
    (lines.iter().map(place).collect(), hit.map(place).collect())
}

#[tokio::test]
async fn the_same_requests_are_hit_again() {
    let (first, again) = (Folder::new(), Folder::new());
    run_in(&first, STORM, &["--seed", "7"]).await.expect(0, &[]);
    let record = first.at("out/decisions.jsonl");
    let over = run_in(&again, CHANGED, &["--seed", "99", "--replay", &record]).await;
    over.expect(0, &["replay", "met again", "faults that are gone: other ("]);
    let ((known, hit), (asked, hit_again)) = (journal(&first), journal(&again));
    let both: Exchanges = known.intersection(&asked).cloned().collect();
    assert!(both.len() > 40, "{} of {}", both.len(), known.len());
    let expected: Exchanges = hit.intersection(&both).cloned().collect();
    assert!(!expected.is_empty());
    assert_eq!(hit_again, expected, "those and no others");
    let replay = &again.json("out/results.json")["replay"];
    assert_eq!(replay["met"], expected.len() as u64);
    assert_eq!(replay["unmet"], (hit.len() - expected.len()) as u64);
    assert!(replay["gone"]["other"].as_u64() > Some(0), "{replay}");
    assert_eq!(again.json("out/results.json")["seed"], 99);
}

#[tokio::test]
async fn what_is_no_journal_is_refused() {
    let folder = Folder::new();
    let bad = folder.write("bad.jsonl", "{\"key\": 1}\n");
    let over = run_in(&folder, STORM, &["--replay", &bad]).await;
    over.expect(2, &["bad.jsonl`, line 1: it is no line of a decision journal"]);
    let over = run_in(&folder, STORM, &["--replay", &folder.at("none.jsonl")]).await;
    over.expect(2, &["none.jsonl` cannot be read"]);
}
