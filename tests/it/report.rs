//! What the reports say of runs that fail, pass, cannot say or were stopped, and of hostile ones.

#[path = "report/samples.rs"]
mod samples;

use std::fs;
use std::path::PathBuf;

use brownout::report;

/// Everything rendered, for a look: `target/tmp/report/*.html`.
#[test]
fn every_sample_renders() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&dir).unwrap();
    for (name, record) in samples::all() {
        let style = report::Style {
            report: Some("brownout-report/report.html".into()),
            ..Default::default()
        };
        let files = [
            ("html", report::html(&record)),
            ("txt", report::terminal(&record, &style)),
            ("xml", report::junit(&record)),
            ("json", report::json(&record)),
            ("md", report::markdown(&record)),
            ("annotations", report::annotations(&record)),
        ];
        for (end, text) in files {
            fs::write(dir.join(format!("{name}.{end}")), text).unwrap();
        }
    }
}
