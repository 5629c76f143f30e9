//! Options for runtimes that read no proxy variables, or no others for certificates: Java and the
//! older Nodes. What the environment has there stays, in front of ours.

use super::{Environment, Variable, Variables, Wiring};

pub(super) fn set(wiring: &Wiring<'_>, environment: &Environment, variables: &mut Variables) {
    let mut java: Vec<String> = Vec::new();
    if let Some(forward) = wiring.forward {
        let place = wiring.place_of(forward);
        for scheme in ["http", "https"] {
            java.push(format!("-D{scheme}.proxyHost={}", place.host));
            java.push(format!("-D{scheme}.proxyPort={}", place.port));
        }
        let around = variables.0.iter().find(|known| known.name == "NO_PROXY");
        let around = around.map(|known| no_proxy_of_java(&known.value)).unwrap_or_default();
        java.push(format!("-Dhttp.nonProxyHosts={}", quoted(&around)));
        if let Some(trust) = wiring.trust {
            variables.set(appended("NODE_OPTIONS", &trust.node(), environment));
        }
    }
    java.extend(wiring.trust.map(super::Trust::java));
    if !java.is_empty() {
        variables.set(appended("JAVA_TOOL_OPTIONS", &java.join(" "), environment));
    }
}

/// A list of NO_PROXY as Java writes it. An empty one means no exceptions; to any other Java adds
/// loopback itself.
fn no_proxy_of_java(list: &str) -> String {
    let entries = list.split(',').filter(|entry| !entry.is_empty()).map(|entry| match entry {
        "127.0.0.1" => "127.*".to_owned(),
        "::1" => "[::1]".to_owned(),
        entry => match entry.strip_prefix('.') {
            Some(domain) => format!("*.{domain}"),
            None => entry.to_owned(),
        },
    });
    entries.collect::<Vec<_>>().join("|")
}

/// Scripts that start Java by a shell must not read a pipe in it.
fn quoted(value: &str) -> String {
    if value.contains(char::is_whitespace) { format!("'{value}'") } else { value.to_owned() }
}

/// Options behind those that a variable has already.
fn appended(name: &str, options: &str, environment: &Environment) -> Variable {
    match environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty()) {
        // As we set it: a shell that has our variables, and asks again.
        Some(own) if own == options || own.ends_with(&format!(" {options}")) => {
            Variable { name: name.to_owned(), value: own.to_owned(), secret: own != options }
        }
        Some(own) => {
            Variable { name: name.to_owned(), value: format!("{own} {options}"), secret: true }
        }
        None => Variable::new(name, options),
    }
}
