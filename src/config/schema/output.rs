//! `outputs`: what is written where.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json;

/// What is written where.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Outputs {
    /// The folder. Default brownout-report.
    pub(in crate::config) dir: Option<String>,
    /// The report, one file that needs no network. Default report.html.
    pub(in crate::config) html: Option<String>,
    /// All numbers. Default results.json.
    pub(in crate::config) json: Option<String>,
    /// For CI systems. Default junit.xml.
    pub(in crate::config) junit: Option<String>,
    /// A line for each decision. Default decisions.jsonl.
    pub(in crate::config) decisions: Option<String>,
    /// Where the admin API with `/metrics` is served during a run: `9464` or `127.0.0.1:9464`.
    /// `--admin` takes its place.
    pub(in crate::config) prometheus: Option<String>,
    /// Not built yet: ignored, with a warning.
    #[schemars(with = "Option<json::Anything>")]
    pub(in crate::config) github: Option<IgnoredAny>,
    /// Not built yet: ignored, with a warning.
    #[schemars(with = "Option<json::Anything>")]
    pub(in crate::config) otlp: Option<IgnoredAny>,
    /// Not built yet: ignored, with a warning.
    #[schemars(with = "Option<json::Anything>")]
    pub(in crate::config) capture: Option<IgnoredAny>,
}
