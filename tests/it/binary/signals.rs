//! Ctrl-C and SIGTERM: the first finishes, the second ends at once; nothing recorded is lost and
//! nothing that was started is left behind.

use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::Instant;

use super::app::{App, experiment, free_port};
use super::command::{Folder, Started, gone};
use super::runs::run;
use crate::raw::until;

const LONG: &str = "faults: { err: { target: llm, percent: 50, error: { status: 503 } } }\n\
    phases: [{ name: baseline, duration: 1s }, { name: storm, duration: 60s, faults: [err] }]\n\
    expect: [success_rate >= 60% during baseline, success_rate >= 10% during storm]\n";

fn lines(mut command: Command) -> Command {
    command.args(["--progress", "lines"]);
    command
}

/// Interrupts a run in its storm.
async fn interrupted(signal: Signal) {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let mut running = Started::new(lines(run(&folder, &experiment(&app.url(), port, LONG), &[])));
    running.hear("armed: err").await;
    let journal = folder.path().join("out/decisions.jsonl");
    until("a decision is written", || std::fs::metadata(&journal).is_ok_and(|it| it.len() > 0))
        .await;
    running.signal(signal);
    let over = running.ended().await;
    over.expect(130, &["faults are off, the report is being written", "partial"]);
    let results = folder.json("out/results.json");
    assert_eq!((&results["partial"], &results["exit_code"]), (&true.into(), &130.into()));
    assert!(results["reasons"].to_string().contains("interrupted"), "{}", results["reasons"]);
    assert_eq!(results["phases"].as_array().unwrap().len(), 2);
    assert!(results["faults"][0]["hit"].as_u64().unwrap() > 0);
    assert_eq!(
        folder.lines("out/decisions.jsonl").len() as u64,
        results["faults"][0]["armed"].as_u64().unwrap(),
        "every decision is in the journal"
    );
    assert!(folder.read("out/report.html").contains("partial"));
    assert!(folder.read("out/junit.xml").contains("<testsuite"));
}

#[tokio::test]
async fn an_interrupted_run_is_finished_and_reported() {
    tokio::join!(interrupted(Signal::INT), interrupted(Signal::TERM));
}

#[tokio::test]
async fn a_second_interrupt_ends_at_once() {
    let (folder, port) = (Folder::new(), free_port());
    let app = App::asking(port).await;
    let pid = folder.at("pid");
    // It takes no notice of SIGTERM, so that without the second interrupt it would be waited for.
    let stubborn = format!("trap '' TERM; echo $$ > {pid}; while :; do sleep 1; done");
    let text = experiment(&app.url(), port, LONG);
    let mut running = Started::new(lines(run(&folder, &text, &["--exec", &stubborn])));
    running.hear("armed: err").await;
    running.signal(Signal::INT);
    running.hear("once more to stop now").await;
    let asked = Instant::now();
    running.signal(Signal::INT);
    let over = running.ended().await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    over.expect(130, &["partial"]);
    assert_eq!(folder.json("out/results.json")["exit_code"], 130);
    gone(folder.read("pid").trim().parse().unwrap()).await;
}

#[tokio::test]
async fn whoever_closes_the_pipe_hears_no_more() {
    let mut listing = super::command::brownout(&["faults"]);
    listing.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = listing.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
