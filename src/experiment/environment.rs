//! The variables that point an app at the proxy, by the conventions of each client library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A dependency as the app reaches it.
#[derive(Clone, Debug)]
pub struct Address<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub listen: SocketAddr,
}

/// The variables for all dependencies, in a stable order. The first dependency of a kind gets the
/// well-known names; each gets `BROWNOUT_<NAME>_URL`.
pub fn variables(dependencies: &[Address<'_>]) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: String, value: String| {
        if !variables.iter().any(|(known, _)| *known == name) {
            variables.push((name, value));
        }
    };
    for dependency in dependencies {
        set(format!("BROWNOUT_{}_URL", shouted(dependency.name)), url(dependency.listen));
    }
    // A model goes before embeddings that stand above it in the file.
    let (embeddings, others): (Vec<_>, Vec<_>) =
        dependencies.iter().partition(|dependency| dependency.name.starts_with("embed"));
    for dependency in others.into_iter().chain(embeddings) {
        for (name, path) in well_known(dependency.kind, dependency.name) {
            set((*name).to_owned(), format!("{}{path}", url(dependency.listen)));
        }
    }
    variables
}

/// The hosts that an app must not call through a proxy of its environment, where it has one: the
/// dependencies, which are here. Both spellings, since clients differ in which they read.
pub(super) fn bypass(
    dependencies: &[Address<'_>],
    environment: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let proxied = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .any(|name| environment(name).is_some_and(|value| !value.is_empty()));
    if !proxied {
        return Vec::new();
    }
    let spelled = ["NO_PROXY", "no_proxy"];
    let mut hosts: Vec<String> = spelled
        .iter()
        .filter_map(|name| environment(name))
        .flat_map(|list| list.split(',').map(|host| host.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    hosts.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    hosts.extend(dependencies.iter().map(|dependency| dependency.listen.ip().to_string()));
    let mut seen = std::collections::BTreeSet::new();
    hosts.retain(|host| !host.is_empty() && seen.insert(host.clone()));
    let list = hosts.join(",");
    spelled.iter().map(|name| ((*name).to_owned(), list.clone())).collect()
}

/// The URL of a listener; one that listens everywhere is called on loopback.
fn url(listen: SocketAddr) -> String {
    let host: IpAddr = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    format!("http://{}", SocketAddr::new(host, listen.port()))
}

/// Names and the path that the client expects behind the origin.
fn well_known(kind: &str, name: &str) -> &'static [(&'static str, &'static str)] {
    match kind {
        "openai" if name.starts_with("embed") => &[
            ("OPENAI_EMBEDDINGS_BASE_URL", "/v1"),
            ("EMBEDDINGS_BASE_URL", "/v1"),
            ("OPENAI_BASE_URL", "/v1"),
            ("OPENAI_API_BASE", "/v1"),
        ],
        "openai" => &[("OPENAI_BASE_URL", "/v1"), ("OPENAI_API_BASE", "/v1")],
        "azure-openai" => &[("AZURE_OPENAI_ENDPOINT", "")],
        "qdrant" => &[("QDRANT_URL", "")],
        _ => &[],
    }
}

/// `my-llm` as `MY_LLM`.
fn shouted(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_gets_the_well_known_names() {
        let listen = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let variables = variables(&[
            Address { name: "llm", kind: "openai", listen: listen(4001) },
            Address { name: "embeddings", kind: "openai", listen: listen(4002) },
            Address { name: "my-vectors", kind: "qdrant", listen: listen(4003) },
        ]);
        let value = |name: &str| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(value("OPENAI_BASE_URL"), Some("http://127.0.0.1:4001/v1"));
        assert_eq!(value("EMBEDDINGS_BASE_URL"), Some("http://127.0.0.1:4002/v1"));
        assert_eq!(value("QDRANT_URL"), Some("http://127.0.0.1:4003"));
        assert_eq!(value("BROWNOUT_MY_VECTORS_URL"), Some("http://127.0.0.1:4003"));
    }

    #[test]
    fn a_proxy_of_the_environment_does_not_come_between() {
        let dependencies =
            [Address { name: "llm", kind: "openai", listen: ([10, 1, 2, 3], 1).into() }];
        assert!(bypass(&dependencies, |_| None).is_empty(), "nothing to do");
        let variables = bypass(&dependencies, |name| match name {
            "http_proxy" => Some("http://proxy:3128".to_owned()),
            "NO_PROXY" => Some("intern.example, localhost".to_owned()),
            _ => None,
        });
        let hosts = "intern.example,localhost,127.0.0.1,::1,10.1.2.3".to_owned();
        let expected = ["NO_PROXY", "no_proxy"].map(|name| (name.to_owned(), hosts.clone()));
        assert_eq!(variables, expected);
    }

    #[test]
    fn the_model_goes_before_embeddings_wherever_it_stands() {
        let variables = variables(&[
            Address { name: "embeddings", kind: "openai", listen: ([0, 0, 0, 0], 1).into() },
            Address { name: "llm", kind: "openai", listen: ([0, 0, 0, 0], 2).into() },
        ]);
        let value = |name: &str| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(value("OPENAI_BASE_URL"), Some("http://127.0.0.1:2/v1"), "and no 0.0.0.0");
        assert_eq!(value("OPENAI_EMBEDDINGS_BASE_URL"), Some("http://127.0.0.1:1/v1"));
    }
}
