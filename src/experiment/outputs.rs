//! Writes the results: whole files, each put in place at once so that none is ever half.

use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use crate::config::plan::Outputs;
use crate::measure::Record;
use crate::report;

/// Where the results went.
#[derive(Clone, Debug)]
pub struct Written {
    pub html: PathBuf,
    pub json: PathBuf,
    pub junit: PathBuf,
    pub decisions: PathBuf,
}

impl Written {
    /// The paths that these outputs will have.
    pub fn paths(outputs: &Outputs) -> Self {
        Self {
            html: outputs.dir.join(&outputs.html),
            json: outputs.dir.join(&outputs.json),
            junit: outputs.dir.join(&outputs.junit),
            decisions: outputs.dir.join(&outputs.decisions),
        }
    }
}

/// Makes the folder and shows at once, not after the run, when it cannot be written to.
pub(super) fn prepare(outputs: &Outputs) -> Result<(), Error> {
    let failed = |source| Error::Write { path: outputs.dir.display().to_string(), source };
    fs::create_dir_all(&outputs.dir).map_err(failed)?;
    let probe = outputs.dir.join(".brownout-can-write");
    fs::write(&probe, b"").map_err(failed)?;
    fs::remove_file(&probe).map_err(failed)?;
    let written = Written::paths(outputs);
    for path in [&written.json, &written.html, &written.junit, &written.decisions] {
        if path.is_dir() {
            let source = std::io::ErrorKind::IsADirectory.into();
            return Err(Error::Write { path: path.display().to_string(), source });
        }
    }
    Ok(())
}

/// Writes results.json, report.html and junit.xml; one that cannot be written keeps none of the
/// others from being so.
pub(super) fn write(record: &Record, outputs: &Outputs) -> Result<(), Error> {
    let written = Written::paths(outputs);
    let json = put(&written.json, &report::json(record));
    let html = put(&written.html, &report::html(record));
    let junit = put(&written.junit, &report::junit(record));
    json.and(html).and(junit)
}

/// Writes beside the target, then renames.
pub(crate) fn put(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    fs::write(&beside, text).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}
