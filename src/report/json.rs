//! `results.json`: the record as it is. Everything else can be made again from it.

use serde::Deserialize;

use crate::measure::record::{Record, SCHEMA_VERSION};

/// Why a text is no record that this program can read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this is no JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    #[error("this is not a `results.json` of brownout: it has no `schema_version`")]
    NotResults,
    #[error(
        "`schema_version` is {found}, written by {writer}; this one reads up to {SCHEMA_VERSION}: use {writer} or newer"
    )]
    Newer { found: u64, writer: String },
    #[error("this `results.json` does not fit its `schema_version`: {0}")]
    Unfit(#[source] serde_json::Error),
}

/// What every version of the layout has.
#[derive(Deserialize)]
struct Stamp {
    schema_version: Option<u64>,
    #[serde(default)]
    version: String,
}

/// The record as pretty JSON, fields in their written order, with a final newline.
pub fn json(record: &Record) -> String {
    let mut text = serde_json::to_string_pretty(record)
        .expect("a record has string keys and plain values only");
    text.push('\n');
    text
}

/// Reads what `json` wrote, now or in an older version.
pub fn read_json(text: &str) -> Result<Record, Error> {
    // Serde would take a list of values for the fields of a struct, in order.
    if text.trim_start().starts_with('[') {
        return Err(Error::NotResults);
    }
    let stamp = stamp(text)?;
    let found = stamp.schema_version.ok_or(Error::NotResults)?;
    if found > u64::from(SCHEMA_VERSION) {
        let writer = match super::text::line(&stamp.version, 40) {
            unknown if unknown.is_empty() => "a later brownout".to_owned(),
            version => format!("brownout {version}"),
        };
        return Err(Error::Newer { found, writer });
    }
    serde_json::from_str(text).map_err(Error::Unfit)
}

fn stamp(text: &str) -> Result<Stamp, Error> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Error::NotResults,
        _ => Error::NotJson(error),
    })
}
