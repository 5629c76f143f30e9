//! `dependencies` and `identify`.

use std::net::SocketAddr;

use super::{Lowering, shared, way};
use crate::config::diagnostic::{Mistake, nearest};
use crate::config::plan::{Dependency, Upstream};
use crate::config::schema::{self, Named, Simulate, SimulateOptions};
use crate::dialect::KINDS;
use crate::engine::identify::Identify;
use crate::sim;

/// Documents of a simulated vector store whose file does not say.
const DOCUMENTS: usize = 200;

impl Lowering<'_> {
    pub(super) fn dependencies(
        &mut self,
        dependencies: Named<schema::Dependency>,
    ) -> Vec<Dependency> {
        if self.names.dependencies.is_empty() && !self.absence_is_told(&[], "dependencies") {
            let place = self.place(way!["dependencies"]);
            self.found.error(Mistake::at(place, "the file names no dependencies of the app").hint(
                "write for example: dependencies: { llm: { kind: openai, listen: 4001, \
                     upstream: https://api.openai.com } }",
            ));
        }
        let mut lowered: Vec<Dependency> = Vec::new();
        let mut listeners = Vec::new();
        for (name, dependency) in dependencies.0 {
            let place = self.key_place(way!["dependencies", &name]);
            self.check_name("dependency", &name, place);
            let kind = self.kind(&name, dependency.kind);
            let listen = self.listen(&name, dependency.listen, &mut listeners);
            let upstream = self.upstream(
                &name,
                kind.unwrap_or_default(),
                dependency.upstream,
                dependency.simulate,
            );
            if let (Some(kind), Some(listen), Some(upstream)) = (kind, listen, upstream) {
                lowered.push(Dependency {
                    name: shared(&name),
                    kind: kind.to_owned(),
                    listen: Some(listen),
                    tls: None,
                    upstream,
                    upstream_tls: Default::default(),
                    http: Default::default(),
                    hosts: Vec::new(),
                    path: None,
                    region: dependency.region,
                    line: place.line,
                });
            }
        }
        self.check_loops(&lowered);
        lowered
    }

    fn kind(&mut self, name: &str, kind: Option<String>) -> Option<&'static str> {
        let path = way!["dependencies", name, "kind"];
        let Some(kind) = kind else {
            if !self.absence_is_told(way!["dependencies", name], "kind") {
                let mistake = Mistake::at(self.place(path), format!("`{name}` needs a `kind`"));
                self.found.error(mistake.hint(format!("kinds: {}", KINDS.join(", "))));
            }
            return None;
        };
        let known = KINDS.iter().find(|known| **known == kind).copied();
        if known.is_none() {
            let text = format!("unknown kind {}", self.quoted(path, &kind));
            let mistake = Mistake::at(self.place(path), text)
                .meant(&kind, "kinds", KINDS.iter().copied())
                .hint("`http` passes anything that speaks HTTP");
            self.found.error(mistake);
        }
        known
    }

    fn listen(
        &mut self,
        name: &str,
        listen: Option<schema::Listen>,
        others: &mut Vec<(String, SocketAddr, u32)>,
    ) -> Option<SocketAddr> {
        let path = way!["dependencies", name, "listen"];
        let Some(schema::Listen(address)) = listen else {
            if !self.absence_is_told(way!["dependencies", name], "listen") {
                let mistake = Mistake::at(self.place(path), format!("`{name}` needs `listen`"));
                self.found.error(mistake.label("give it a port: 4001, or 0 for a free one"));
            }
            return None;
        };
        let clash = others.iter().find(|(_, other, _)| {
            let same_host = other.ip() == address.ip()
                || other.ip().is_unspecified()
                || address.ip().is_unspecified();
            address.port() != 0 && other.port() == address.port() && same_host
        });
        if let Some((other, _, line)) = clash {
            let text = format!("`{name}` and `{other}` both listen on port {}", address.port());
            let label = format!("`{other}` has it in line {line}");
            self.found.error(Mistake::at(self.place(path), text).label(label));
        }
        others.push((name.to_owned(), address, self.place(path).line));
        Some(address)
    }

    fn upstream(
        &mut self,
        name: &str,
        kind: &str,
        upstream: Option<String>,
        simulate: Option<Simulate>,
    ) -> Option<Upstream> {
        let here = way!["dependencies", name];
        let simulate = match simulate {
            Some(Simulate::On(options)) => Some(options),
            Some(Simulate::Off) | None => None,
        };
        match (upstream, simulate) {
            (Some(_), Some(_)) => {
                let place = self.key_place(way!["dependencies", name, "simulate"]);
                self.found.error(
                    Mistake::at(place, format!("`{name}` has both `upstream` and `simulate`"))
                        .label("keep one of them"),
                );
                None
            }
            (None, None) => {
                let refused =
                    ["upstream", "simulate"].iter().any(|key| self.absence_is_told(here, key));
                if !refused {
                    let text = format!("`{name}` needs `upstream` or `simulate`");
                    self.found.error(Mistake::at(self.place(here), text).hint(
                        "write upstream: https://api.openai.com, or simulate: true for the \
                         embedded simulator",
                    ));
                }
                None
            }
            (Some(text), None) => {
                let path = way!["dependencies", name, "upstream"];
                let url = self.url(path, &text, "https://api.openai.com")?;
                if url.query().is_some() || url.fragment().is_some() {
                    self.error(path, "an `upstream` has no query and no fragment");
                    return None;
                }
                Some(Upstream::Url(url))
            }
            (None, Some(options)) => self.simulate(name, kind, &options).map(Upstream::Simulate),
        }
    }

    /// An http or https URL.
    pub(super) fn url(
        &mut self,
        path: &[super::Step<'_>],
        text: &str,
        example: &str,
    ) -> Option<url::Url> {
        let shown = self.quoted(path, text);
        let reason = match text.trim().parse::<url::Url>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                return Some(url);
            }
            // `localhost:8000` reads as a scheme.
            Ok(url) if url.cannot_be_a_base() || !url.has_host() => {
                format!("{shown} lacks http:// or https://")
            }
            Ok(url) if self.is_secret(path) || url.scheme().len() > 12 => {
                format!("{shown} is no http or https URL")
            }
            Ok(url) => {
                format!("{shown} is a {} URL; only http and https can be used", url.scheme())
            }
            Err(_) if !text.contains("://") => format!("{shown} lacks http:// or https://"),
            Err(error) => format!("{shown} is no URL: {error}"),
        };
        let mistake = Mistake::at(self.place(path), reason);
        self.found.error(mistake.label(format!("write for example {example}")));
        None
    }

    fn simulate(
        &mut self,
        name: &str,
        kind: &str,
        options: &SimulateOptions,
    ) -> Option<sim::Settings> {
        let sim_kind = match kind {
            "openai" | "azure-openai" => sim::Kind::OpenAi,
            "qdrant" => sim::Kind::Qdrant,
            // Already told.
            "" => return None,
            _ => {
                let place = self.key_place(way!["dependencies", name, "simulate"]);
                let text = format!("there is no simulator of kind `{kind}`");
                self.found.error(Mistake::at(place, text).hint(
                    "openai, azure-openai and qdrant can be simulated; others need an `upstream`",
                ));
                return None;
            }
        };
        let model = options.model.as_deref().unwrap_or("small");
        let Some(mut settings) = sim::Settings::preset(sim_kind, model) else {
            let path = way!["dependencies", name, "simulate", "model"];
            let text = format!("there is no simulated model {}", self.quoted(path, model));
            let mistake = Mistake::at(self.place(path), text);
            self.found.error(mistake.meant(model, "models", sim::MODELS.iter().copied()));
            return None;
        };
        let at = |key: &'static str| ["dependencies", name, "simulate", key];
        for (key, value) in [
            ("tokens_per_second", options.tokens_per_second),
            ("slots", options.slots.map(|slots| slots as f64)),
            ("dimensions", options.dimensions.map(|dimensions| dimensions as f64)),
            ("requests_per_minute", options.requests_per_minute.map(f64::from)),
        ] {
            if value.is_some_and(|value| value <= 0.0 || !value.is_finite()) {
                let [a, b, c, d] = at(key);
                self.error(way![a, b, c, d], format!("`{key}` must be above 0"));
            }
        }
        for (key, value, most) in [
            ("dimensions", options.dimensions, 16_384),
            ("documents", options.documents, 1_000_000),
        ] {
            if value.is_some_and(|value| value > most) {
                let [a, b, c, d] = at(key);
                self.error(way![a, b, c, d], format!("`{key}` can be {most} at most"));
            }
        }
        let whole = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        settings.tokens_per_second =
            options.tokens_per_second.unwrap_or(settings.tokens_per_second);
        if let Some(time) = options.time_to_first_token {
            settings.time_to_first_token = time.0;
        }
        settings.slots = options.slots.map_or(settings.slots, whole);
        settings.queue_limit = options.queue_limit.map_or(settings.queue_limit, whole);
        settings.answer_tokens = options.answer_tokens.unwrap_or(settings.answer_tokens);
        let documents = if settings.kind == sim::Kind::Qdrant { DOCUMENTS } else { 0 };
        settings.documents = options.documents.map_or(documents, whole);
        settings.embedding_dimensions =
            options.dimensions.map_or(settings.embedding_dimensions, whole);
        settings.latency = options.latency.map_or(settings.latency, |time| time.0);
        settings.requests_per_minute = options.requests_per_minute;
        Some(settings)
    }

    /// A dependency whose upstream is one of our own listeners would call itself for ever.
    fn check_loops(&mut self, dependencies: &[Dependency]) {
        for one in dependencies {
            let Upstream::Url(url) = &one.upstream else { continue };
            let local = match url.host() {
                Some(url::Host::Domain(domain)) => domain == "localhost",
                Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
                Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
                None => false,
            };
            let port = url.port_or_known_default();
            let ours = dependencies.iter().find(|other| {
                let listens = other.listen.map(|listen| listen.port()).filter(|port| *port != 0);
                local && listens.is_some() && listens == port
            });
            let Some(ours) = ours else { continue };
            let path = way!["dependencies", &*one.name, "upstream"];
            if ours.name == one.name {
                self.error(path, format!("`{}` has itself as its upstream", one.name));
            } else {
                let text = format!(
                    "the upstream of `{}` is where `{}` listens; faults would act twice",
                    one.name, ours.name
                );
                let place = self.place(path);
                self.found.warn(Mistake::at(place, text));
            }
        }
    }

    pub(super) fn identify(&mut self, identify: Option<schema::Identify>) -> Identify {
        let identify = identify.unwrap_or_default();
        Identify {
            user: identify.user.map(|source| source.0),
            session: identify.session.map(|source| source.0),
        }
    }

    /// A dependency that the file names; its absence is told with the nearest name.
    pub(super) fn check_dependency(&mut self, path: &[super::Step<'_>], name: &str) -> bool {
        if self.names.dependencies.iter().any(|known| known == name) {
            return true;
        }
        let text = format!("unknown dependency {}", self.quoted(path, name));
        let known: Vec<&str> = self.names.dependencies.iter().map(String::as_str).collect();
        let mut mistake = Mistake::at(self.place(path), text);
        if let Some(near) = nearest(name, known.iter().copied()) {
            mistake = mistake.label(format!("did you mean `{near}`?"));
        }
        self.found.error(mistake.hint(format!("dependencies: {}", known.join(", "))));
        false
    }
}
