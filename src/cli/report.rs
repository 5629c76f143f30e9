//! `report`: makes the report again from results.json.

use std::path::{Path, PathBuf};

use super::args::{ReportArgs, ReportAs};
use super::{Failed, exit, terminal};
use crate::experiment::put;
use crate::report;

pub(crate) fn run(args: &ReportArgs) -> Result<u8, Failed> {
    let path = results_path(&args.results);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failed::usage(format!(
            "`{}` cannot be read: {error}; name a results.json or the folder it is in",
            path.display()
        ))
    })?;
    let record = report::read_json(&text)
        .map_err(|error| Failed::usage(format!("`{}`: {error}", path.display())))?;
    if let Some(form) = args.print {
        let style =
            report::Style { color: terminal::stdout_has_colour(), ..report::Style::default() };
        let text = match form {
            ReportAs::Text => report::terminal(&record, &style),
            ReportAs::Markdown => report::markdown(&record),
            ReportAs::Junit => report::junit(&record),
            ReportAs::Html => report::html(&record),
            ReportAs::Annotations => report::annotations(&record),
        };
        terminal::out(&text)?;
        return Ok(exit::PASS);
    }
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| path.parent().map(Path::to_path_buf).unwrap_or_default());
    let html = folder.join("report.html");
    let failed = |error: crate::experiment::Error| Failed::run(error.to_string());
    put(&html, &report::html(&record)).map_err(failed)?;
    put(&folder.join("junit.xml"), &report::junit(&record)).map_err(failed)?;
    terminal::out(&format!("report  {}\n", html.display()))?;
    if args.open {
        open(&html)?;
    }
    Ok(exit::PASS)
}

fn results_path(given: &Path) -> PathBuf {
    if given.is_dir() { given.join("results.json") } else { given.to_path_buf() }
}

/// Opens a file with the desktop's own opener and does not wait for it.
fn open(path: &Path) -> Result<(), Failed> {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    std::process::Command::new(opener)
        .arg(path)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .map(drop)
        .map_err(|error| Failed::run(format!("`{opener}` cannot be started: {error}")))
}
