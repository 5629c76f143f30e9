//! What a checked file means: everything a run needs, with no reference back to the text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Rule;
use crate::engine::identify::Identify;
use crate::net::{HttpVersion, UpstreamTls};
use crate::proxy::{Gateways, ListenTls};
use crate::units::Ramp;
use crate::verdict::Expectation;
use crate::{sim, workload};

/// A loaded experiment.
#[derive(Debug)]
pub struct Plan {
    pub name: String,
    pub description: Option<String>,
    /// None: one is drawn and printed.
    pub seed: Option<u64>,
    pub dependencies: Vec<Dependency>,
    pub gateways: Gateways,
    pub identify: Identify,
    /// The faults.
    pub rules: Vec<Rule>,
    /// The options of each effect as written: fault, effect, options in YAML flow form.
    pub effect_texts: Vec<(Arc<str>, &'static str, String)>,
    pub workload: Option<workload::Plan>,
    /// Never empty when there is a workload.
    pub phases: Vec<Phase>,
    pub recovered: Recovered,
    pub expectations: Vec<Expectation>,
    pub safety: Safety,
    pub outputs: Outputs,
    /// The file's name.
    pub source_name: String,
    /// Its text as written, credentials hidden.
    pub source_text: String,
}

impl Plan {
    /// The options of a fault's effect as written, `{ add: 250ms }`.
    pub fn effect_text(&self, fault: &str, effect: &str) -> &str {
        let found =
            self.effect_texts.iter().find(|(name, key, _)| **name == *fault && *key == effect);
        found.map_or("", |(_, _, text)| text)
    }
}

impl Plan {
    /// All that makes a fault what it is, for telling whether another file has the same.
    pub fn meaning_of(&self, rule: &Rule) -> String {
        let place = (&rule.targets, &rule.selector, rule.opt_in, rule.shadow);
        let often = (&rule.percent, &rule.escalation, &rule.sticky, &rule.cause, &rule.when);
        let mut meaning = format!("{:?}", (place, often));
        for (effect, _) in &rule.effects {
            meaning.push_str(&format!("; {effect}: {}", self.effect_text(&rule.name, effect)));
        }
        meaning
    }
}

/// A dependency and where the app finds us instead.
#[derive(Clone, Debug)]
pub struct Dependency {
    pub name: Arc<str>,
    /// A kind of `dialect::KINDS`.
    pub kind: String,
    /// Port 0 picks a free one. None: it is reached through a gateway alone.
    pub listen: Option<SocketAddr>,
    /// TLS with the app on that port.
    pub tls: Option<ListenTls>,
    pub upstream: Upstream,
    pub upstream_tls: UpstreamTls,
    pub http: HttpVersion,
    /// Other hosts that mean this dependency at a gateway.
    pub hosts: Vec<String>,
    /// Its path prefix at the shared gateway; None: `/NAME`.
    pub path: Option<String>,
    pub region: Option<String>,
    /// Line in the file.
    pub line: u32,
}

/// Where exchanges go that no fault answers.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// To the embedded simulator.
    Simulate(sim::Settings),
    /// http or https, with an optional base path.
    Url(url::Url),
}

/// A stretch of the timeline.
#[derive(Clone, Debug)]
pub struct Phase {
    pub name: String,
    pub duration: Duration,
    /// Faults to arm, with their percent where the phase sets one.
    pub faults: Vec<(String, Option<Ramp>)>,
    /// Ends as soon as the app has recovered (`until: recovered`).
    pub until_recovered: bool,
    /// Must hold at its end, or the run stops as inconclusive.
    pub gate: Vec<Expectation>,
}

/// When the app counts as recovered.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// `success_rate`, `p95(ttft)`.
    pub metrics: Vec<String>,
    /// Allowed distance from baseline, as a share of 1.
    pub within: f64,
    /// For how long it must hold; None: 10 s, or less where a phase is short.
    pub hold: Option<Duration>,
}

/// When to stop, and how far a run may go.
#[derive(Clone, Debug, Default)]
pub struct Safety {
    pub abort_when: Vec<Expectation>,
    pub probes: Vec<Probe>,
    /// Never touch more than this share (0 to 1) of a dependency's exchanges.
    pub max_affected: Option<f64>,
    pub max_duration: Option<Duration>,
    /// No word from the controller for this long: everything is disarmed (`serve`).
    pub heartbeat: Option<Duration>,
    /// Requests may steer faults by headers.
    pub steer_by_header: bool,
}

/// A health check of the app during the run.
#[derive(Clone, Debug)]
pub struct Probe {
    pub url: url::Url,
    pub expect_status: u16,
    pub every: Duration,
    /// Failures in a row that stop the run.
    pub failures: u32,
}

/// What is written where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outputs {
    pub dir: PathBuf,
    pub html: String,
    pub json: String,
    pub junit: String,
    pub decisions: String,
    /// Where `/metrics` is served during a run, when asked for.
    pub prometheus: Option<SocketAddr>,
}
