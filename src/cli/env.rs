//! `env`: the variables that point an app at the proxy, for a shell or a file. It starts nothing,
//! and shows nothing that the environment holds in confidence.

use std::net::SocketAddr;

use url::Url;

use super::args::{EnvArgs, EnvFormat};
use super::run::quoted;
use super::{Failed, control, exit, inputs, terminal};
use crate::admin::Status;
use crate::config::plan::Plan;
use crate::experiment::{
    Address, Environment, Trust, Variable, Wiring, own_environment, trust_for,
};

/// GitHub refuses it in `$GITHUB_ENV`.
const NOT_AT_GITHUB: &str = "NODE_OPTIONS";

pub(crate) fn run(args: &EnvArgs) -> Result<u8, Failed> {
    let environment = own_environment();
    let variables = match args.admin {
        Some(admin) => of_running(admin, args.host.as_deref(), &environment)?,
        None => {
            let plan = inputs::load_text_alone(&args.file)?;
            of_plan(&plan, args.host.as_deref(), &environment)?
        }
    };
    let (mut shown, hidden): (Vec<_>, Vec<_>) = variables.into_iter().partition(|one| !one.secret);
    if args.format == EnvFormat::Github {
        shown.retain(|one| one.name != NOT_AT_GITHUB);
    }
    terminal::out(&written(&shown, args.format))?;
    if !hidden.is_empty() {
        let names: Vec<&str> = hidden.iter().map(|one| one.name.as_str()).collect();
        terminal::note(&format!(
            "not shown, since the environment's own values may hold secrets: {}; `brownout exec` sets them",
            names.join(", ")
        ));
    }
    Ok(exit::PASS)
}

/// The variables for a file; its ports must be known.
fn of_plan(
    plan: &Plan,
    host: Option<&str>,
    environment: &Environment,
) -> Result<Vec<Variable>, Failed> {
    let free = |address: Option<SocketAddr>| address.is_some_and(|address| address.port() == 0);
    let gateway = plan.gateways.forward.filter(|forward| forward.port() == 0);
    let open = plan.dependencies.iter().find(|one| free(one.listen));
    let open = open.map(|one| &*one.name).or(gateway.map(|_| "gateways.forward"));
    if let Some(name) = open {
        return Err(Failed::usage(format!(
            "`{name}` listens on a free port (0), which is known only while it runs: give it a port, or ask a running `serve`: `brownout env --admin 127.0.0.1:8474`"
        )));
    }
    let trust = trust_for(plan, None).map_err(|error| Failed::run(error.to_string()))?;
    let mut wiring = Wiring::of(&plan.dependencies, |one| one.listen);
    wiring.forward = plan.gateways.forward;
    wiring.trust = trust.as_ref();
    wiring.host = host;
    Ok(wiring.variables(environment))
}

/// The variables for what runs there.
pub(crate) fn of_running(
    admin: SocketAddr,
    host: Option<&str>,
    environment: &Environment,
) -> Result<Vec<Variable>, Failed> {
    let status = control::ask(admin)?;
    let upstreams: Vec<Option<Url>> =
        status.dependencies.iter().map(|one| one.upstream.parse().ok()).collect();
    let trust = status.trust.as_deref().map(Trust::at);
    let wiring = Wiring {
        dependencies: addresses(&status, &upstreams),
        forward: status.gateways.get("forward").and_then(|url| place_of(url)),
        trust: trust.as_ref(),
        host,
    };
    Ok(wiring.variables(environment))
}

/// Where a gateway listens.
fn place_of(url: &str) -> Option<SocketAddr> {
    url.split_once("://")?.1.parse().ok()
}

fn addresses<'a>(status: &'a Status, upstreams: &'a [Option<Url>]) -> Vec<Address<'a>> {
    let address = |(one, upstream): (&'a crate::admin::DependencyStatus, &'a Option<Url>)| {
        let (scheme, place) = one.listen.split_once("://").unwrap_or_default();
        let (place, prefix) = place.split_at(place.find('/').unwrap_or(place.len()));
        Address {
            name: &one.name,
            kind: &one.kind,
            listen: place.parse().ok(),
            tls: matches!(scheme, "https" | "rediss"),
            upstream: upstream.as_ref(),
            hosts: &one.hosts,
            prefix: prefix.to_owned(),
        }
    };
    status.dependencies.iter().zip(upstreams).map(address).collect()
}

fn written(variables: &[Variable], format: EnvFormat) -> String {
    if format == EnvFormat::Json {
        let values: serde_json::Map<String, serde_json::Value> =
            variables.iter().map(|one| (one.name.clone(), one.value.clone().into())).collect();
        return format!("{:#}\n", serde_json::Value::Object(values));
    }
    let line = |Variable { name, value, .. }: &Variable| match format {
        EnvFormat::Sh => format!("export {name}={}\n", quoted(value)),
        EnvFormat::Dotenv => format!("{name}={}\n", dotenv(value)),
        // Both take a line as it is, with no quotes.
        EnvFormat::Github | EnvFormat::Docker | EnvFormat::Json => format!("{name}={value}\n"),
    };
    variables.iter().map(line).collect()
}

/// As a `.env` file wants it: quoted where a reader could see an end or a comment in it.
fn dotenv(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+[]".contains(c);
    if value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_gets_its_own_form() {
        let variable = |name: &str, value: &str| Variable {
            name: name.to_owned(),
            value: value.to_owned(),
            secret: false,
        };
        let variables =
            [variable("A", "http://127.0.0.1:1/v1"), variable("B", "-Da=b|c -De=\"f\"")];
        for (format, expected) in [
            (EnvFormat::Sh, "export A=http://127.0.0.1:1/v1\nexport B='-Da=b|c -De=\"f\"'\n"),
            (EnvFormat::Dotenv, "A=http://127.0.0.1:1/v1\nB=\"-Da=b|c -De=\\\"f\\\"\"\n"),
            (EnvFormat::Docker, "A=http://127.0.0.1:1/v1\nB=-Da=b|c -De=\"f\"\n"),
        ] {
            assert_eq!(written(&variables, format), expected, "{format:?}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&written(&variables, EnvFormat::Json)).unwrap();
        assert_eq!(json["B"], "-Da=b|c -De=\"f\"");
    }
}
