//! The variables that send an app through the forward gateway; where the file has none, those that
//! keep a proxy of the environment from coming between the app and us.

use super::urls::same_host;
use super::{Address, Environment, Variable, Variables, Wiring};

/// Clients differ in which spelling they read: gRPC reads the lower ones alone.
const PROXIES: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "grpc_proxy",
];
const BYPASS: &[&str] = &["NO_PROXY", "no_proxy"];

pub(super) fn set(wiring: &Wiring<'_>, environment: &Environment, variables: &mut Variables) {
    let Some(forward) = wiring.forward else {
        let proxied = PROXIES.iter().any(|name| is_set(environment, name));
        if proxied {
            bypass(wiring, environment, variables);
        }
        return;
    };
    let place = wiring.place_of(forward);
    for name in PROXIES {
        variables.set(Variable::new(*name, format!("http://{place}")));
    }
    bypass(wiring, environment, variables);
    // Node reads the proxy variables from 22.21 and 24 on, when it is asked to.
    variables.set(Variable::new("NODE_USE_ENV_PROXY", "1"));
}

/// The hosts that the app calls without a proxy: ours, and those of the environment, except hosts
/// that are reached through the gateway alone.
fn bypass(wiring: &Wiring<'_>, environment: &Environment, variables: &mut Variables) {
    let gateway_alone: Vec<&Address<'_>> =
        wiring.dependencies.iter().filter(|one| one.listen.is_none()).collect();
    let wanted = |host: &str| gateway_alone.iter().any(|one| covers(host, one));
    let mut hosts: Vec<String> = BYPASS
        .iter()
        .filter_map(|name| environment.get(*name))
        .flat_map(|list| list.split(','))
        .map(|host| host.trim().to_owned())
        .filter(|host| wiring.forward.is_none() || !wanted(host))
        .collect();
    let ours = wiring.dependencies.iter().filter_map(|one| wiring.place(one)).map(|at| at.host);
    let usual = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter();
    hosts.extend(usual.chain(ours).filter(|host| wiring.forward.is_none() || !wanted(host)));
    let mut seen = std::collections::BTreeSet::new();
    hosts.retain(|host| !host.is_empty() && seen.insert(host.clone()));
    for name in BYPASS {
        variables.set(Variable::new(*name, hosts.join(",")));
    }
}

/// Whether an entry of NO_PROXY covers a host of a dependency.
fn covers(entry: &str, dependency: &Address<'_>) -> bool {
    let entry = entry.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
    let upstream = dependency.upstream.and_then(url::Url::host_str);
    let hosts = dependency.hosts.iter().map(String::as_str).chain(upstream);
    hosts.map(|host| host.trim_matches(['[', ']']).to_ascii_lowercase()).any(|host| {
        entry.is_empty()
            || same_host(&host, &entry)
            || host.strip_suffix(&*entry).is_some_and(|front| front.ends_with('.'))
    })
}

fn is_set(environment: &Environment, name: &str) -> bool {
    environment.get(name).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::Wiring;
    use super::super::tests::{address, values};

    #[test]
    fn a_proxy_of_the_environment_does_not_come_between() {
        let mut llm = address("llm", "openai", 1);
        llm.listen = Some(([10, 1, 2, 3], 1).into());
        let wiring = Wiring { dependencies: vec![llm], ..Wiring::default() };
        assert!(!values(&wiring, &[]).contains_key("NO_PROXY"), "nothing to do");
        let environment =
            [("http_proxy", "http://proxy:3128"), ("NO_PROXY", "intern.example, localhost")];
        let values = values(&wiring, &environment);
        assert_eq!(values["NO_PROXY"], "intern.example,localhost,127.0.0.1,::1,10.1.2.3");
        assert_eq!(values["no_proxy"], values["NO_PROXY"]);
        assert!(!values.contains_key("HTTP_PROXY"));
    }

    #[test]
    fn the_gateway_is_named_to_every_client() {
        let upstream = Url::parse("https://vectors.intern:6333").unwrap();
        let mut vectors = address("vectors", "qdrant", 1);
        vectors.listen = None;
        vectors.upstream = Some(&upstream);
        let wiring = Wiring {
            dependencies: vec![address("llm", "openai", 4001), vectors],
            forward: Some(([127, 0, 0, 1], 8080).into()),
            ..Wiring::default()
        };
        let environment = [
            ("HTTPS_PROXY", "http://me:pw@corporate:3128"),
            ("NO_PROXY", ".intern,other.example,*"),
            ("JAVA_TOOL_OPTIONS", "-Xmx1g"),
        ];
        let values = values(&wiring, &environment);
        for name in super::PROXIES {
            assert_eq!(values[*name], "http://127.0.0.1:8080", "{name}");
        }
        assert_eq!(values["NO_PROXY"], "other.example,localhost,127.0.0.1,::1");
        assert_eq!(
            values["JAVA_TOOL_OPTIONS"],
            "-Xmx1g -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=8080 -Dhttps.proxyHost=127.0.0.1 \
             -Dhttps.proxyPort=8080 -Dhttp.nonProxyHosts=other.example|localhost|127.*|[::1]"
        );
        assert!(!values.contains_key("QDRANT_URL"), "it has no place of its own");
        assert_eq!(values["NODE_USE_ENV_PROXY"], "1");
    }

    #[test]
    fn loopback_goes_through_the_gateway_where_a_dependency_is_there() {
        let upstream = Url::parse("http://127.0.0.1:6333").unwrap();
        let mut vectors = address("vectors", "qdrant", 1);
        vectors.listen = None;
        vectors.upstream = Some(&upstream);
        let wiring = Wiring {
            dependencies: vec![vectors],
            forward: Some(([127, 0, 0, 1], 8080).into()),
            ..Wiring::default()
        };
        assert_eq!(values(&wiring, &[])["NO_PROXY"], "");
    }
}
