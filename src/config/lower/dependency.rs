//! `dependencies` and `identify`.

use super::gateway::Ports;
use super::{Lowering, shared, way};
use crate::config::diagnostic::{Mistake, nearest};
use crate::config::plan::Dependency;
use crate::config::schema::{self, Named, SimulateOptions};
use crate::dialect::KINDS;
use crate::engine::identify::Identify;
use crate::sim;

/// Whatever speaks HTTP.
const AUTO: &str = "auto";

/// Documents of a simulated vector store whose file does not say.
const DOCUMENTS: usize = 200;

impl Lowering<'_> {
    pub(super) fn dependencies(
        &mut self,
        dependencies: Named<schema::Dependency>,
    ) -> (Vec<Dependency>, Ports) {
        if self.names.dependencies.is_empty() && !self.absence_is_told(&[], "dependencies") {
            let place = self.place(way!["dependencies"]);
            self.found.error(Mistake::at(place, "the file names no dependencies of the app").hint(
                "write for example: dependencies: { llm: { kind: openai, listen: 4001, \
                     upstream: https://api.openai.com } }",
            ));
        }
        let mut lowered: Vec<Dependency> = Vec::new();
        let mut ports = Ports::new();
        for (name, dependency) in dependencies.0 {
            let place = self.key_place(way!["dependencies", &name]);
            self.check_name("dependency", &name, place);
            let upstream = dependency.upstream.as_deref();
            let kind = self.kind(&name, dependency.kind, upstream);
            let listen = self.listen(&name, dependency.listen, &mut ports);
            let tls = self.listen_tls(&name, kind, dependency.tls, listen.is_some());
            let upstream = self.upstream(
                &name,
                kind.unwrap_or_default(),
                dependency.upstream,
                dependency.simulate,
            );
            let upstream_tls = self.upstream_tls(&name, dependency.upstream_tls, upstream.as_ref());
            let http = self.http_version(&name, kind, dependency.http);
            let path = self.path(&name, dependency.path);
            let hosts = dependency.hosts.map(|hosts| hosts.0).unwrap_or_default();
            if let (Some(kind), Some(upstream)) = (kind, upstream) {
                lowered.push(Dependency {
                    name: shared(&name),
                    kind: kind.to_owned(),
                    listen,
                    tls,
                    upstream,
                    upstream_tls,
                    http,
                    hosts: hosts.into_iter().map(|host| host.0).collect(),
                    path,
                    region: dependency.region,
                    line: place.line,
                });
            }
        }
        (lowered, ports)
    }

    /// Left out, the kind of what speaks HTTP is found out request by request.
    fn kind(
        &mut self,
        name: &str,
        kind: Option<String>,
        upstream: Option<&str>,
    ) -> Option<&'static str> {
        let path = way!["dependencies", name, "kind"];
        let Some(kind) = kind else {
            let is_http = |url: &str| url.starts_with("http://") || url.starts_with("https://");
            if upstream.is_some_and(is_http) {
                return Some(AUTO);
            }
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

    pub(super) fn simulate(
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
