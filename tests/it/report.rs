//! What the reports say of runs that fail, pass, cannot say or were stopped, and of hostile ones.

use std::fs;
use std::path::PathBuf;

use brownout::report;

mod markup;
mod page;
mod plain;
mod samples;

/// Everything rendered, for a look with one's own eyes: `target/tmp/report/*.html`.
#[test]
fn every_sample_renders() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&dir).unwrap();
    for (name, record) in samples::all() {
        let style = report::Style {
            report: Some("brownout-report/report.html".into()),
            ..report::Style::default()
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
            assert_eq!(text.is_empty(), end == "annotations" && name == "passing", "{name}.{end}");
            fs::write(dir.join(format!("{name}.{end}")), text).unwrap();
        }
    }
}
