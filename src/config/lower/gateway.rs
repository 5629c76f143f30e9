//! How apps reach the dependencies: listeners, gateways, and what tells dependencies apart there.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::{Lowering, Step, way};
use crate::config::diagnostic::Mistake;
use crate::config::plan::{Dependency, Upstream};
use crate::config::schema::{self, Redirection as Mode};
use crate::dialect::{self, speaks_http};
use crate::proxy::{Gateways, Redirection, Transparent};

/// The places that are listened on so far: whose, where, and in which line.
pub(super) type Ports = Vec<(String, SocketAddr, u32)>;

impl Lowering<'_> {
    pub(super) fn listen(
        &mut self,
        name: &str,
        listen: Option<schema::Listen>,
        ports: &mut Ports,
    ) -> Option<SocketAddr> {
        let schema::Listen(address) = listen?;
        self.take_port(&format!("`{name}`"), way!["dependencies", name, "listen"], address, ports);
        Some(address)
    }

    fn take_port(&mut self, who: &str, path: &[Step<'_>], address: SocketAddr, ports: &mut Ports) {
        let clash = ports.iter().find(|(_, other, _)| {
            let same_host = other.ip() == address.ip()
                || other.ip().is_unspecified()
                || address.ip().is_unspecified();
            address.port() != 0 && other.port() == address.port() && same_host
        });
        if let Some((other, _, line)) = clash {
            let text = format!("{who} and {other} both listen on port {}", address.port());
            let label = format!("{other} has it in line {line}");
            self.found.error(Mistake::at(self.place(path), text).label(label));
        }
        ports.push((who.to_owned(), address, self.place(path).line));
    }

    /// The gateways, and whether each dependency can be reached and told apart.
    pub(super) fn gateways(
        &mut self,
        gateways: Option<schema::Gateways>,
        dependencies: &[Dependency],
        mut ports: Ports,
    ) -> Gateways {
        let given = gateways.unwrap_or_default();
        let shared = given.shared.map(|schema::Listen(address)| address);
        let forward = given.forward.map(|schema::Listen(address)| address);
        let transparent = given.transparent.and_then(|given| self.transparent(&given));
        let clients: Vec<(IpAddr, u8)> = given
            .clients
            .map(|list| list.0.into_iter().map(|network| (network.0, network.1)).collect())
            .unwrap_or_default();
        let mapped = self
            .node(way!["gateways", "transparent"])
            .is_some_and(|node| !node.entries().is_empty());
        let gateways = Gateways { shared, forward, transparent, clients };
        for (key, address) in gateways.listening() {
            let who = format!("the {key} gateway");
            let path: &[Step<'_>] = match key {
                "transparent" if mapped => way!["gateways", "transparent", "listen"],
                _ => way!["gateways", key],
            };
            self.take_port(&who, path, address, &mut ports);
            self.check_exposure(key, path, address, &gateways);
        }
        self.check_clients(&gateways);
        self.check_reach(dependencies, &gateways);
        self.check_hosts(dependencies, &gateways);
        self.check_paths(dependencies, &gateways);
        self.check_loops(dependencies, &gateways);
        gateways
    }

    fn transparent(&mut self, given: &schema::Transparent) -> Option<Transparent> {
        let Some(schema::Listen(listen)) = given.0.listen else {
            let here = way!["gateways", "transparent"];
            if !self.absence_is_told(here, "listen") {
                let place = self.place(here);
                let mistake = Mistake::at(place, "the transparent gateway needs `listen`");
                self.found.error(mistake.label("give it a port: { listen: 15001 }"));
            }
            return None;
        };
        let mode = match given.0.mode.unwrap_or_default() {
            Mode::Redirect => Redirection::Redirect,
            Mode::Tproxy => Redirection::Tproxy,
        };
        Some(Transparent { listen, mode })
    }

    /// Beyond loopback others can use a gateway: said, with who they are.
    fn check_exposure(
        &mut self,
        key: &str,
        path: &[Step<'_>],
        address: SocketAddr,
        gateways: &Gateways,
    ) {
        if address.ip().is_loopback() {
            return;
        }
        let place = self.place(path);
        let text = format!("the {key} gateway listens on {address}, beyond this machine");
        let label = match (key, gateways.clients.as_slice()) {
            ("shared", _) => "whoever reaches that address can call every dependency".to_owned(),
            (_, []) => "it serves this machine alone; name others in `gateways.clients`".to_owned(),
            (_, clients) => format!("it serves this machine and {}", networks(clients)),
        };
        self.found.warn(Mistake::at(place, text).label(label));
    }

    fn check_clients(&mut self, gateways: &Gateways) {
        let path = way!["gateways", "clients"];
        if gateways.clients.is_empty() {
            return;
        }
        if gateways.forward.is_none() && gateways.transparent.is_none() {
            let mistake = Mistake::at(self.key_place(path), "`clients` has no effect here");
            self.found.warn(mistake.label("it is for the forward and transparent gateways"));
        } else if gateways.clients.iter().any(|(_, bits)| *bits == 0) {
            let text = "`clients` lets everybody use the gateway, which makes it an open proxy";
            let mistake = Mistake::at(self.key_place(path), text);
            self.found.warn(mistake.label("name the networks that your apps are in"));
        }
    }

    /// A dependency that nothing reaches is a mistake.
    fn check_reach(&mut self, dependencies: &[Dependency], gateways: &Gateways) {
        let refused = ["shared", "forward", "transparent"];
        if refused.iter().any(|key| self.absence_is_told(way!["gateways"], key)) {
            return;
        }
        for one in dependencies.iter().filter(|one| one.listen.is_none()) {
            let here = way!["dependencies", &*one.name];
            if ways_in(one, dependencies, gateways).next().is_some()
                || self.absence_is_told(here, "listen")
            {
                continue;
            }
            let mistake = Mistake::at(self.place(here), format!("`{}` needs `listen`", one.name))
                .label("give it a port: 4001, or 0 for a free one");
            let why = match gateways {
                Gateways { shared: Some(_), .. } => format!(
                    "the shared gateway serves HTTP alone, which kind `{}` does not speak",
                    one.kind
                ),
                Gateways { forward: None, transparent: None, .. } => {
                    "or let a gateway reach it: gateways: { shared: 4000 }".to_owned()
                }
                _ => "or say which host means it at the gateways: hosts: [api.example.com]"
                    .to_owned(),
            };
            self.found.error(mistake.hint(why));
        }
    }

    /// A host means one dependency.
    fn check_hosts(&mut self, dependencies: &[Dependency], gateways: &Gateways) {
        let mut named: HashMap<&str, &Dependency> = HashMap::new();
        for one in dependencies {
            let path = ["dependencies", &*one.name, "hosts"];
            for (number, host) in one.hosts.iter().enumerate() {
                let [a, b, c] = path;
                let other = *named.entry(host).or_insert(one);
                if other.name != one.name {
                    let text =
                        format!("`{}` and `{}` both name the host `{host}`", one.name, other.name);
                    let label = format!("a port tells them apart: `{host}:8443`");
                    let place = match self.node(way![a, b, c, number]) {
                        Some(_) => self.place(way![a, b, c, number]),
                        None => self.place(way![a, b, c]),
                    };
                    self.found.error(Mistake::at(place, text).label(label));
                }
            }
            if !one.hosts.is_empty() && gateways.listening().next().is_none() {
                let [a, b, c] = path;
                let mistake =
                    Mistake::at(self.key_place(way![a, b, c]), "`hosts` has no effect here");
                self.found.warn(mistake.label("it is for gateways, and the file has none"));
            }
        }
        // The shared gateway can still tell them apart by their paths.
        if gateways.forward.is_none() && gateways.transparent.is_none() {
            return;
        }
        let mut owned: HashMap<String, &Dependency> = HashMap::new();
        for one in dependencies {
            let Some((host, port)) = own_host(one) else { continue };
            let with_port = format!("{host}:{port}");
            if named.contains_key(&*host) || named.contains_key(&*with_port) {
                continue;
            }
            let other = *owned.entry(with_port).or_insert(one);
            if other.name != one.name {
                let path = way!["dependencies", &*one.name, "upstream"];
                let text = format!(
                    "`{}` and `{}` are both {host} at port {port}: the gateways cannot tell them \
                     apart",
                    one.name, other.name
                );
                let mistake = Mistake::at(self.place(path), text);
                self.found.error(
                    mistake.label(format!("`{}` has it in line {}", other.name, other.line)).hint(
                        format!(
                            "say which of them it means: `hosts: [{host}]`; the other is then \
                             reached by its `listen`, or by hosts of its own"
                        ),
                    ),
                );
            }
        }
    }

    /// A prefix of the shared gateway means one dependency.
    fn check_paths(&mut self, dependencies: &[Dependency], gateways: &Gateways) {
        let mut taken: HashMap<String, &Dependency> = HashMap::new();
        for one in dependencies {
            let path = way!["dependencies", &*one.name, "path"];
            let http = is_http(one);
            let useless = match (&one.path, http) {
                (None, _) => None,
                (Some(_), false) => Some("kind speaks no HTTP"),
                (Some(_), true) if gateways.shared.is_none() => Some("file has no shared gateway"),
                _ => None,
            };
            if let Some(reason) = useless {
                let mistake = Mistake::at(self.key_place(path), "`path` has no effect here");
                self.found.warn(mistake.label(format!("the {reason}")));
            }
            if gateways.shared.is_none() || !http {
                continue;
            }
            let prefix = prefix_of(one);
            if one.path.is_none() && !prefix.is_ascii() {
                let place = self.key_place(way!["dependencies", &*one.name]);
                let text =
                    format!("the name `{}` makes no prefix for the shared gateway", one.name);
                self.found.error(Mistake::at(place, text).label("give it one: `path: /llm`"));
            }
            let other = *taken.entry(prefix.clone()).or_insert(one);
            if other.name != one.name {
                let text = format!(
                    "`{}` and `{}` both have the prefix `{prefix}` at the shared gateway",
                    one.name, other.name
                );
                let at: &[Step<'_>] = match one.path {
                    Some(_) => path,
                    None => way!["dependencies", &*one.name],
                };
                let label = format!("give one of them another `path`: `{prefix}-2`");
                self.found.error(Mistake::at(self.place(at), text).label(label));
            }
        }
    }

    /// The prefix at the shared gateway as written, without a slash at its end.
    pub(super) fn path(&mut self, name: &str, path: Option<String>) -> Option<String> {
        let given = path?;
        let trimmed = given.trim().trim_end_matches('/');
        let segment = |segment: &str| {
            !segment.is_empty()
                && segment.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c))
                && !matches!(segment, "." | "..")
        };
        let whole = given.trim() == "/";
        let good =
            trimmed.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment)) || whole;
        if !good {
            let at = way!["dependencies", name, "path"];
            let text = format!("{} is no prefix of paths", self.quoted(at, &given));
            let mistake = Mistake::at(self.place(at), text);
            self.found.error(mistake.label("write for example /openai, or / for all the rest"));
            return None;
        }
        Some(if whole { "/".to_owned() } else { trimmed.to_owned() })
    }

    /// A dependency whose upstream is one of our own listeners would call itself for ever.
    fn check_loops(&mut self, dependencies: &[Dependency], gateways: &Gateways) {
        for one in dependencies {
            let Upstream::Url(url) = &one.upstream else { continue };
            let port = url.port_or_known_default();
            if !is_local(url) {
                continue;
            }
            let path = way!["dependencies", &*one.name, "upstream"];
            let ours = |address: SocketAddr| address.port() != 0 && Some(address.port()) == port;
            if let Some((key, _)) = gateways.listening().find(|(_, address)| ours(*address)) {
                let text =
                    format!("the upstream of `{}` is the {key} gateway of this file", one.name);
                self.error(path, text);
                continue;
            }
            let other = dependencies.iter().find(|other| other.listen.is_some_and(ours));
            let Some(other) = other else { continue };
            if other.name == one.name {
                self.error(path, format!("`{}` has itself as its upstream", one.name));
            } else {
                let text = format!(
                    "the upstream of `{}` is where `{}` listens; faults would act twice",
                    one.name, other.name
                );
                let place = self.place(path);
                self.found.warn(Mistake::at(place, text));
            }
        }
    }
}

fn is_local(url: &url::Url) -> bool {
    match url.host() {
        // Only URLs of known schemes have their addresses read.
        Some(url::Host::Domain(domain)) => {
            domain == "localhost" || domain.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn is_http(one: &Dependency) -> bool {
    dialect::by_kind(&one.kind).is_none_or(speaks_http)
}

/// The prefix that means a dependency at the shared gateway.
pub(in crate::config) fn prefix_of(one: &Dependency) -> String {
    one.path.clone().unwrap_or_else(|| format!("/{}", one.name))
}

/// The upstream's own host and port, by which a gateway knows it too.
pub(in crate::config) fn own_host(one: &Dependency) -> Option<(String, u16)> {
    let Upstream::Url(url) = &one.upstream else { return None };
    Some((url.host_str()?.to_ascii_lowercase(), url.port_or_known_default()?))
}

/// The hosts that mean a dependency at the gateways: those that it names, and its own unless another
/// one names that.
pub(in crate::config) fn hosts_of(one: &Dependency, all: &[Dependency]) -> Vec<String> {
    let own = own_host(one).filter(|(host, port)| {
        let others = all.iter().filter(|other| other.name != one.name);
        !others.flat_map(|other| &other.hosts).any(|named| {
            named == host || named.strip_prefix(host.as_str()) == Some(&format!(":{port}"))
        })
    });
    let own = own.map(|(host, port)| format!("{host}:{port}"));
    own.into_iter().chain(one.hosts.iter().cloned()).collect()
}

/// The gateways that reach a dependency.
pub(in crate::config) fn ways_in<'a>(
    one: &Dependency,
    all: &[Dependency],
    gateways: &'a Gateways,
) -> impl Iterator<Item = (&'static str, SocketAddr)> + use<'a> {
    let http = is_http(one);
    let known_by_host = !hosts_of(one, all).is_empty();
    gateways.listening().filter(move |(key, _)| match *key {
        "shared" => http,
        _ => known_by_host,
    })
}

/// `10.0.0.0/8, fd00::/8`.
fn networks(clients: &[(IpAddr, u8)]) -> String {
    let list: Vec<String> = clients.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect();
    list.join(", ")
}
