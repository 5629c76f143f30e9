//! `arm`, `disarm`, `stop`, `status`, `healthcheck`: one call to the admin API each.

use std::net::SocketAddr;

use http::{Method, StatusCode};

use super::args::{AdminArgs, ArmArgs, DisarmArgs, USUAL_ADMIN};
use super::{Failed, exit, terminal};
use crate::admin::{ArmRequest, FaultStatus, Status, client};

pub(crate) fn arm(args: &ArmArgs) -> Result<u8, Failed> {
    let request = ArmRequest {
        percent: args.percent,
        lease: args.lease,
        by: std::env::var("USER").ok().filter(|user| !user.is_empty()),
    };
    let body = serde_json::to_string(&request).map_err(|error| Failed::usage(error.to_string()))?;
    let path = format!("/v1/faults/{}/arm", escaped(&args.fault));
    let answer = call(args.admin.admin, Method::POST, &path, Some(body))?;
    let fault: FaultStatus = read(&answer)?;
    let end = fault.ends_in_s.map_or_else(
        || "until disarmed".to_owned(),
        |seconds| format!("ends by itself in {seconds:.0} s"),
    );
    terminal::out(&format!(
        "armed {} on {} · {end} · everything off: {}\n",
        fault.name,
        fault.target,
        stop_command(args.admin.admin)
    ))?;
    Ok(exit::PASS)
}

pub(crate) fn disarm(args: &DisarmArgs) -> Result<u8, Failed> {
    let path = format!("/v1/faults/{}/disarm", escaped(&args.fault));
    let fault: FaultStatus = read(&call(args.admin.admin, Method::POST, &path, None)?)?;
    terminal::out(&format!("disarmed {} · it hit {}\n", fault.name, exchanges(fault.tally.hit)))?;
    Ok(exit::PASS)
}

pub(crate) fn stop(args: &AdminArgs) -> Result<u8, Failed> {
    call(args.admin, Method::POST, "/v1/stop", None)?;
    terminal::out("everything is disarmed\n")?;
    Ok(exit::PASS)
}

/// What a running `serve` or `run` says of itself.
pub(crate) fn ask(admin: SocketAddr) -> Result<Status, Failed> {
    read(&call(admin, Method::GET, "/v1/status", None)?)
}

pub(crate) fn status(args: &AdminArgs) -> Result<u8, Failed> {
    let status = ask(args.admin)?;
    let mut text = format!("{} · up {:.0} s\n", status.name, status.uptime_s);
    for dependency in &status.dependencies {
        text.push_str(&format!(
            "  {:<14} {} -> {}\n",
            dependency.name, dependency.listen, dependency.upstream
        ));
    }
    for fault in &status.faults {
        let state = match (fault.armed, fault.ends_in_s) {
            (false, _) => "off".to_owned(),
            (true, _) if fault.shadow => {
                format!("in the SHADOW, would have hit {}", fault.tally.would_hit)
            }
            (true, None) => "ARMED".to_owned(),
            (true, Some(seconds)) => format!("ARMED for {seconds:.0} s more"),
        };
        text.push_str(&format!(
            "  {:<14} on {:<10} {state}  (armed {} · matched {} · hit {} · let go {} · impossible {})\n",
            fault.name,
            fault.target,
            fault.tally.armed,
            fault.tally.matched,
            fault.tally.hit,
            fault.tally.let_go,
            fault.tally.impossible
        ));
    }
    if let Some(replay) = &status.replay {
        text.push_str(&format!("  replay of {}\n", crate::report::replayed(replay)));
    }
    for failed in &status.failed_handshakes {
        let why = match failed.reason.as_str() {
            "distrusted" => "the app does not trust the certificate; see `brownout ca`",
            "plain_http" => "the app speaks plain HTTP; write https://",
            reason => reason,
        };
        text.push_str(&format!(
            "  {:<14} {} TLS handshakes failed: {why}\n",
            failed.dependency, failed.count
        ));
    }
    terminal::out(&text)?;
    Ok(exit::PASS)
}

pub(crate) fn healthcheck(args: &AdminArgs) -> Result<u8, Failed> {
    call(args.admin, Method::GET, "/healthz", None)?;
    Ok(exit::PASS)
}

fn call(
    admin: SocketAddr,
    method: Method,
    path: &str,
    body: Option<String>,
) -> Result<Vec<u8>, Failed> {
    let (status, body) = terminal::runtime()?
        .block_on(client::call(admin, method, path, body))
        .map_err(Failed::run)?;
    if status == StatusCode::OK {
        return Ok(body.to_vec());
    }
    let reason = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|value| value.get("error")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| format!("the admin API answered {status}"));
    Err(Failed::usage(reason))
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failed> {
    serde_json::from_slice(body)
        .map_err(|error| Failed::run(format!("the admin API's answer cannot be read: {error}")))
}

/// The command that disarms everything there.
pub(crate) fn stop_command(admin: SocketAddr) -> String {
    match admin.to_string() {
        usual if usual == USUAL_ADMIN => "brownout stop".to_owned(),
        other => format!("brownout stop --admin {other}"),
    }
}

fn exchanges(count: u64) -> String {
    let word = if count == 1 { "exchange" } else { "exchanges" };
    format!("{count} {word}")
}

/// A fault's name as part of a path.
fn escaped(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}
