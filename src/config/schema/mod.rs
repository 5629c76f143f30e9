//! The experiment file as users write it; its doc comments are the editor's hover texts.
//!
//! Everything is optional here: what must be there is checked in `lower`, whose messages know more.

mod dependency;
mod fault;
mod gateway;
mod json;
mod named;
mod output;
mod phase;
mod safety;
mod selection;
mod tls;
mod when;
mod workload;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::IgnoredAny;

pub(super) use self::dependency::{Dependency, Identify, Listen, Simulate, SimulateOptions};
pub(super) use self::fault::{Fault, OWN_KEYS, Target};
pub(super) use self::gateway::{Gateways, Redirection, Transparent};
pub use self::json::{schema_json, schema_text};
pub(super) use self::named::Named;
pub(super) use self::output::Outputs;
pub(super) use self::phase::{Expect, Phase, PhaseFault, Recovered, Severity};
pub(super) use self::safety::{AbortWhen, Probe, Safety};
pub(super) use self::selection::{Pattern, Wanted, Where};
pub(super) use self::tls::{CertFiles, HttpVersion, ListenTls, UpstreamTls};
pub(super) use self::when::{
    After, Bursts, Escalate, Every, Flapping, PerCause, SharedCause, Stay, Step, When,
};
pub(super) use self::workload::{
    Answer, ArrivalRate, Prompts, Request, Sessions, Shape, Stage as ArrivalStage, Stream, Workload,
};
use crate::units::Percent;

/// An experiment: what the app depends on, what goes wrong there, the traffic, and what is
/// expected to hold. Keys that begin with `x-` are yours (for YAML anchors).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "brownout experiment", extend("patternProperties" = { "^x-": true }))]
pub(super) struct Experiment {
    /// The version of this language: 1.
    #[schemars(required, schema_with = "json::version")]
    pub(super) version: Option<u64>,
    /// What the report is called; the file's name when left out.
    pub(super) name: Option<String>,
    /// What the experiment is to show, in a sentence.
    pub(super) description: Option<String>,
    /// Same seed and same traffic give the same fault decisions. Drawn and printed when left out.
    pub(super) seed: Option<u64>,
    /// Values for `${NAME}`; the environment comes next, then the default of `${NAME:-default}`.
    #[schemars(with = "Option<json::Vars>")]
    #[expect(dead_code, reason = "filled in before the typed reading")]
    pub(super) vars: Option<IgnoredAny>,
    /// What the app calls, by name, and where it finds us instead.
    #[schemars(required)]
    pub(super) dependencies: Option<Named<Dependency>>,
    /// Listeners that serve several dependencies, beside or in place of a port each.
    pub(super) gateways: Option<Gateways>,
    /// How a user and a session are recognised in passing traffic (for sticky faults).
    pub(super) identify: Option<Identify>,
    /// What can go wrong, by name: off until a phase or an operator arms it.
    pub(super) faults: Option<Named<Fault>>,
    /// The traffic against the app.
    pub(super) workload: Option<Workload>,
    /// The timeline. Left out: a third each of `baseline`, `fault` (all faults) and `recovery`.
    pub(super) phases: Option<Vec<Phase>>,
    /// When the app counts as recovered.
    pub(super) recovered: Option<Recovered>,
    /// What must hold, in sentences: `p95(ttft) < 2.5s during slow`.
    pub(super) expect: Option<Vec<Expect>>,
    /// For all expectations: judge by the interval at this confidence, not by the observed value.
    pub(super) confidence: Option<Percent>,
    /// For all expectations: with fewer samples the verdict is inconclusive (default 30).
    pub(super) min_samples: Option<u64>,
    /// When to stop, and how far the run may go.
    pub(super) safety: Option<Safety>,
    /// What is written where.
    pub(super) outputs: Option<Outputs>,
    /// Named overlays, chosen by `--profile NAME`: parts of an experiment that replace those above.
    /// Phases are merged by their names; `null` takes a key away.
    #[schemars(with = "Option<json::Overlays>")]
    #[expect(dead_code, reason = "laid over the file before the typed reading")]
    pub(super) profiles: Option<IgnoredAny>,
}
