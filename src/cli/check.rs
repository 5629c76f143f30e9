//! `check`: validates a file, explains it, and sees whether app and upstreams answer.

use std::time::Duration;

use serde_json::json;

use super::args::CheckArgs;
use super::{Failed, exit, inputs, terminal};
use crate::config::explain::explain;
use crate::config::plan::{Plan, Upstream};
use crate::experiment::{Target, put};

/// How long an address may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn run(args: &CheckArgs) -> Result<u8, Failed> {
    let loaded = match args.offline {
        true => inputs::load_text_alone(&args.file),
        false => inputs::load(&args.file),
    };
    let plan = match loaded {
        Ok(plan) => plan,
        Err(failed) => {
            write_out(args, &json!({ "valid": false, "problems": failed.message }))?;
            return Err(failed);
        }
    };
    let reached =
        if args.offline { Vec::new() } else { terminal::runtime()?.block_on(reach(&plan)) };
    let result = json!({
        "valid": true,
        "name": plan.name,
        "explained": explain(&plan),
        "reached": reached.iter().map(|(name, what, answer)| json!({
            "name": name, "address": what,
            "reachable": answer.is_ok(), "detail": answer.as_ref().err(),
        })).collect::<Vec<_>>(),
    });
    write_out(args, &result)?;
    if args.json {
        terminal::out(&format!("{result:#}\n"))?;
        return Ok(exit::PASS);
    }
    let mut text = explain(&plan);
    if !reached.is_empty() {
        text.push_str("\nReachable now\n");
    }
    for (name, what, answer) in &reached {
        let said = match answer {
            Ok(()) => "✓ answers".to_owned(),
            Err(reason) => format!("✗ {reason}"),
        };
        text.push_str(&format!("  {name:<14} {what}  {said}\n"));
    }
    terminal::out(&text)?;
    Ok(exit::PASS)
}

fn write_out(args: &CheckArgs, result: &serde_json::Value) -> Result<(), Failed> {
    match &args.out {
        None => Ok(()),
        Some(folder) => put(&folder.join("check.json"), &format!("{result:#}\n"))
            .map_err(|error| Failed::run(error.to_string())),
    }
}

/// Connects to the app and to every upstream, once each; nothing is sent.
async fn reach(plan: &Plan) -> Vec<(String, String, Result<(), String>)> {
    let mut targets = Vec::new();
    if let Some(workload) = &plan.workload {
        targets.push(("app".to_owned(), &workload.app));
    }
    for dependency in &plan.dependencies {
        if let Upstream::Url(url) = &dependency.upstream {
            targets.push((dependency.name.to_string(), url));
        }
    }
    let mut reached = Vec::new();
    for (name, url) in targets {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        let target = Target::Port { host, port };
        let answer = tokio::time::timeout(PATIENCE, target.try_once())
            .await
            .unwrap_or_else(|_| Err("no answer within 3 s".to_owned()));
        reached.push((name, url.to_string(), answer));
    }
    reached
}
