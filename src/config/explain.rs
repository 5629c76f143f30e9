//! What a plan means, in plain words: the text of `brownout check`. No I/O.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::lower::gateway::{hosts_of, prefix_of, ways_in};
use super::plan::{Dependency, Phase, Plan, Upstream};
use crate::engine::{Rule, Sticky};
use crate::fault::KINDS;
use crate::net::{HttpVersion, UpstreamTls};
use crate::proxy::ListenTls;
use crate::units::{Ramp, Rate, Span};
use crate::verdict::Expectation;
use crate::workload::{Arrivals, Prompts, Shape};

/// Counts, the dependencies, the timeline, and what each fault does.
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}   {}", plan.source_name, counts(plan));
    let width = plan.dependencies.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
    let width = width.max("app".len());
    if let Some(workload) = &plan.workload {
        let app = without_password(&workload.app);
        let _ = writeln!(text, "  {:width$}  {app}   {}", "app", traffic(plan));
    }
    for one in &plan.dependencies {
        let _ = writeln!(text, "  {:width$}  {}", one.name, dependency(one));
        for way in gateways(one, plan) {
            let _ = writeln!(text, "  {:width$}  {way}", "");
        }
    }
    write_timeline(&mut text, &plan.phases);
    if !plan.rules.is_empty() {
        text.push_str("  faults\n");
    }
    for rule in &plan.rules {
        let _ = writeln!(text, "    {}: {}", rule.name, selection(rule));
        for (name, _) in &rule.effects {
            let summary =
                KINDS.iter().find(|kind| kind.name == *name).map_or("", |one| one.summary);
            let options = plan.effect_text(&rule.name, name);
            let _ = writeln!(text, "      {name}: {options}   ({summary})");
        }
    }
    if !plan.expectations.is_empty() {
        text.push_str("  expect\n");
    }
    for expectation in &plan.expectations {
        let _ = writeln!(text, "    {}{}", expectation.text, conditions(expectation));
    }
    write_safety(&mut text, plan);
    text
}

fn counts(plan: &Plan) -> String {
    let plural = |count: usize, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let mut parts = vec![
        plural(plan.dependencies.len(), "dependency", "dependencies"),
        plural(plan.rules.len(), "fault", "faults"),
    ];
    if !plan.phases.is_empty() {
        parts.push(plural(plan.phases.len(), "phase", "phases"));
        parts.push(plural(plan.expectations.len(), "expectation", "expectations"));
        parts.push(Span(total(&plan.phases)).to_string());
    }
    parts.join(", ")
}

fn total(phases: &[Phase]) -> Duration {
    phases.iter().map(|phase| phase.duration).sum()
}

/// Where a dependency is found, and what it is.
fn dependency(one: &Dependency) -> String {
    let mut about = vec![one.kind.clone()];
    about.extend(one.region.as_ref().map(|region| format!("region {region}")));
    let to = match &one.upstream {
        Upstream::Simulate(settings) => {
            format!("simulated ({}, {} at once)", settings.model, settings.slots)
        }
        Upstream::Url(url) => without_password(url),
    };
    about.extend(upstream_tls(&one.upstream_tls));
    match one.http {
        HttpVersion::Auto => {}
        HttpVersion::Http1 => about.push("HTTP/1.1".into()),
        HttpVersion::Http2 => about.push("HTTP/2".into()),
    }
    let tls = match &one.tls {
        None => String::new(),
        Some(ListenTls::Minted) => " (TLS, a certificate made here)".into(),
        Some(ListenTls::Passes) => " (TLS passes)".into(),
        Some(ListenTls::Files(pair)) => format!(" (TLS, {})", file_name(&pair.cert)),
    };
    let listen = match one.listen {
        None => "gateways alone".to_owned(),
        Some(listen) if listen.port() == 0 => format!("{} on a free port", listen.ip()),
        Some(listen) => listen.to_string(),
    };
    format!("{listen}{tls} → {to}   {}", about.join(", "))
}

fn upstream_tls(tls: &UpstreamTls) -> Vec<String> {
    let mut parts = Vec::new();
    parts.extend(tls.ca_file.as_ref().map(|file| format!("trusts {}", file_name(file))));
    parts.extend(tls.client.as_ref().map(|pair| format!("shows {}", file_name(&pair.cert))));
    parts.extend(tls.server_name.as_ref().map(|name| format!("known as {name}")));
    if tls.insecure {
        parts.push("takes any certificate".into());
    }
    parts
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The gateways that reach a dependency, and what means it there.
fn gateways(one: &Dependency, plan: &Plan) -> Vec<String> {
    let hosts = hosts_of(one, &plan.dependencies);
    let by_host = match hosts.as_slice() {
        [] => String::new(),
        hosts => format!("host {}", hosts.join(" or ")),
    };
    ways_in(one, &plan.dependencies, &plan.gateways)
        .map(|(key, address)| {
            let at = match address.port() {
                0 => format!("{} on a free port", address.ip()),
                _ => address.to_string(),
            };
            let means = match (key, by_host.as_str()) {
                ("shared", "") => format!("path {}", prefix_of(one)),
                ("shared", by_host) => format!("{by_host}, or path {}", prefix_of(one)),
                (_, by_host) => by_host.to_owned(),
            };
            format!("{key} gateway {at}: {means}")
        })
        .collect()
}

/// A URL as it may be shown.
fn without_password(url: &url::Url) -> String {
    let mut url = url.clone();
    if !url.username().is_empty() || url.password().is_some() {
        // Fails only for URLs that have no host, which never come here.
        let _ = url.set_username("");
        let _ = url.set_password(None);
    }
    if url.query().is_some() {
        url.set_query(Some("…"));
    }
    let text = url.to_string().replace("%E2%80%A6", "…");
    match url.path() {
        "/" => text.trim_end_matches('/').to_owned(),
        _ => text,
    }
}

fn traffic(plan: &Plan) -> String {
    let Some(workload) = &plan.workload else { return String::new() };
    let turns = workload.sessions.turns;
    let mut sessions =
        if turns.high > 1 { format!(", {turns} turns a session") } else { String::new() };
    if let Prompts::List(list) = &workload.prompts
        && !list.is_empty()
    {
        let _ = write!(sessions, ", {} prompts", list.len());
    }
    match &workload.arrivals {
        Arrivals::Users { users } => {
            format!("{users} users, each waits for its answer{sessions}")
        }
        Arrivals::Rate { stages, shape } => {
            let spread = match shape {
                Shape::Constant => "evenly",
                Shape::Poisson => "at random",
            };
            let rates: Vec<String> =
                stages.iter().map(|stage| Rate { per_second: stage.to }.to_string()).collect();
            format!("{} {spread}{sessions}", rates.join(" → "))
        }
    }
}

fn write_timeline(text: &mut String, phases: &[Phase]) {
    if phases.is_empty() {
        return;
    }
    text.push_str("  timeline\n");
    let width = phases.iter().map(|phase| phase.name.chars().count()).max().unwrap_or(0);
    let mut begins = Duration::ZERO;
    for phase in phases {
        let mut faults: Vec<String> = phase
            .faults
            .iter()
            .map(|(name, percent)| match percent {
                Some(percent) => format!("{name} ({percent} %)"),
                None => name.clone(),
            })
            .collect();
        if faults.is_empty() {
            faults.push("no faults".into());
        }
        let lasts = match phase.until_recovered {
            true => format!("{} or until recovered", Span(phase.duration)),
            false => Span(phase.duration).to_string(),
        };
        let gate: String =
            phase.gate.iter().map(|gate| format!("; goes on only if {}", gate.text)).collect();
        let minutes = begins.as_secs() / 60;
        let seconds = begins.as_secs() % 60;
        let _ = writeln!(
            text,
            "    {minutes:>2}:{seconds:02} {:width$}  {lasts}: {}{gate}",
            phase.name,
            faults.join(", ")
        );
        begins += phase.duration;
    }
}

/// Which exchanges a fault acts on, in words.
fn selection(rule: &Rule) -> String {
    let share = match rule.percent {
        Ramp { from, to } if from >= 100.0 && to >= 100.0 => "all".to_owned(),
        percent => format!("{percent} % of the"),
    };
    let mut text = format!("{share} requests to {}", rule.target_text);
    let parts: Vec<String> = rule.selector.parts().iter().map(ToString::to_string).collect();
    if !parts.is_empty() {
        let _ = write!(text, " where {}", parts.join(" and "));
    }
    let all = rule.percent.from >= 100.0 && rule.percent.to >= 100.0;
    match rule.sticky.filter(|_| !all) {
        Some(Sticky::ApiKey) => text.push_str(", the same API keys all along"),
        Some(Sticky::Session) => text.push_str(", the same sessions all along"),
        Some(Sticky::User) => text.push_str(", the same users all along"),
        None => {}
    }
    if let Some(cause) = &rule.cause {
        let _ = write!(text, ", {cause}");
    }
    if let Some(steps) = &rule.escalation {
        let _ = write!(text, ", {steps}");
    }
    if !rule.when.is_empty() {
        let _ = write!(text, "; {}", rule.when);
    }
    if rule.opt_in {
        let _ = write!(text, "; only those with `x-brownout-fault: {}`", rule.name);
    }
    if rule.shadow {
        text.push_str("; in the shadow: counted, never acts");
    }
    text
}

fn conditions(expectation: &Expectation) -> String {
    let mut parts = Vec::new();
    if expectation.warn {
        parts.push("only warns".to_owned());
    }
    if let Some(confidence) = expectation.confidence {
        parts.push(format!("at {} % confidence", confidence * 100.0));
    }
    if expectation.min_samples != crate::verdict::MIN_SAMPLES {
        parts.push(format!("needs {} samples", expectation.min_samples));
    }
    if parts.is_empty() { String::new() } else { format!("   ({})", parts.join(", ")) }
}

fn write_safety(text: &mut String, plan: &Plan) {
    let safety = &plan.safety;
    let mut parts: Vec<String> =
        safety.abort_when.iter().map(|one| format!("stops when {}", one.text)).collect();
    for probe in &safety.probes {
        let url = without_password(&probe.url);
        parts.push(format!("stops when {url} fails {} times in a row", probe.failures));
    }
    if let Some(share) = safety.max_affected {
        parts.push(format!(
            "never touches more than {} % of a dependency's requests",
            share * 100.0
        ));
    }
    if let Some(longest) = safety.max_duration {
        parts.push(format!("stops after {} in any case", Span(longest)));
    }
    if let Some(heartbeat) = safety.heartbeat {
        parts.push(format!("disarms without a word for {}", Span(heartbeat)));
    }
    if safety.steer_by_header {
        parts.push("requests may steer faults by x-brownout-fault and x-brownout-skip".to_owned());
    }
    if parts.is_empty() {
        return;
    }
    text.push_str("  safety\n");
    for part in parts {
        let _ = writeln!(text, "    {part}");
    }
}
