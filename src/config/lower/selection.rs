//! `where`: what a fault asks of a request.

use std::sync::Arc;

use super::{Lowering, Step, named, way};
use crate::config::diagnostic::Mistake;
use crate::config::plan::Dependency;
use crate::config::schema::{self, Wanted, Where};
use crate::engine::identify::{self, Identify};
use crate::engine::selector::{Part, Probe, Wanted as Value, json_path};
use crate::engine::{Pattern, Selector};
use crate::exchange::Operation;
use crate::units::Bounds;

/// A key, what the file gives, and the part that it makes.
type Given<T, U> = (&'static str, Option<T>, fn(U) -> Part);

impl Lowering<'_> {
    pub(super) fn selector(&mut self, name: &str, asked: Where, identify: &Identify) -> Selector {
        let mut parts = Vec::new();
        parts.extend(asked.path.and_then(|path| self.path_pattern(name, &path)).map(Part::Path));
        if let Some(text) = &asked.method {
            let method = self.method(way!["faults", name, "where", "method"], text);
            parts.extend(method.map(Part::Method));
        }
        self.header_parts(name, asked.header.unwrap_or_default().0, &mut parts);
        let texts: [Given<schema::Pattern, Pattern>; 7] = [
            ("host", asked.host, Part::Host),
            ("model", asked.model, Part::Model),
            ("user", asked.user, Part::User),
            ("session", asked.session, Part::Session),
            ("collection", asked.collection, Part::Collection),
            ("prompt", asked.prompt, Part::Prompt),
            ("body", asked.body, Part::Body),
        ];
        for (key, text, part) in texts {
            let Some(text) = text else { continue };
            let path = way!["faults", name, "where", key];
            parts.extend(self.pattern(path, &text).map(part));
            self.check_identified(path, key, identify);
        }
        parts.extend(asked.stream.map(Part::Stream));
        parts.extend(asked.operation.map(Part::Operation));
        parts.extend(asked.has_tools.map(Part::HasTools));
        let numbers: [Given<Bounds, Bounds>; 3] = [
            ("turn", asked.turn, Part::Turn),
            ("prompt_tokens", asked.prompt_tokens, Part::PromptTokens),
            ("max_tokens", asked.max_tokens, Part::MaxTokens),
        ];
        for (key, bounds, part) in numbers {
            let Some(bounds) = bounds else { continue };
            if !bounds.counts() {
                let path = way!["faults", name, "where", key];
                self.error(path, format!("`{key}` counts whole things, from 0"));
            }
            parts.push(part(bounds));
        }
        if let Some(tools) = asked.tools {
            let path = way!["faults", name, "where", "tools"];
            let patterns: Vec<Pattern> =
                tools.0.iter().filter_map(|tool| self.pattern(path, tool)).collect();
            parts.push(Part::Tools(patterns));
        }
        parts.extend(asked.api_key.and_then(|key| self.api_key(name, &key)));
        for (path, wanted) in asked.json.unwrap_or_default().0 {
            parts.extend(self.json_probe(name, &path, wanted).map(Part::Json));
        }
        Selector::new(parts)
    }

    fn header_parts(
        &mut self,
        name: &str,
        headers: Vec<(String, schema::Pattern)>,
        parts: &mut Vec<Part>,
    ) {
        for (header, value) in headers {
            let path = way!["faults", name, "where", "header", &header];
            match header.parse::<http::HeaderName>() {
                Ok(header) => {
                    let value = self.pattern(path, &value);
                    parts.extend(value.map(|value| Part::Header(header, value)));
                }
                Err(_) => {
                    let place = self.key_place(path);
                    self.found.error(Mistake::at(place, format!("`{header}` is no header's name")));
                }
            }
        }
    }

    fn path_pattern(&mut self, name: &str, pattern: &schema::Pattern) -> Option<Pattern> {
        let path = way!["faults", name, "where", "path"];
        let schema::Pattern::Glob(text) = pattern else { return self.pattern(path, pattern) };
        if text.starts_with("http://") || text.starts_with("https://") {
            let mistake = Mistake::at(self.place(path), "a `path` is a path, not a URL");
            self.found.error(mistake.label("write for example /v1/chat/*"));
            return None;
        }
        if !text.starts_with(['/', '*']) {
            let shown = self.quoted(path, text);
            let text = format!("the path {shown} matches nothing, since paths begin with `/`");
            let mistake = Mistake::at(self.place(path), text);
            self.found.error(mistake.label("write for example /v1/chat/*"));
            return None;
        }
        self.pattern(path, pattern)
    }

    fn pattern(&mut self, path: &[Step<'_>], pattern: &schema::Pattern) -> Option<Pattern> {
        let (read, text, what) = match pattern {
            schema::Pattern::Glob(text) => (Pattern::glob(text), text, "pattern"),
            schema::Pattern::Regex(text) => {
                (Pattern::regex(text), text, "regular expression that can be used")
            }
        };
        let bad = match read {
            // What is missing was misspelt or refused.
            Ok(_) if text.is_empty() && self.told_within(path) => return None,
            Ok(pattern) if !text.is_empty() || matches!(pattern, Pattern::Glob(_)) => {
                return Some(pattern);
            }
            Ok(_) => {
                let mistake = Mistake::at(self.place(path), "there is no expression to look for");
                self.found.error(mistake.label("write for example { regex: \"v[12]/chat\" }"));
                return None;
            }
            Err(bad) => bad,
        };
        let mut path = path.to_vec();
        if matches!(pattern, schema::Pattern::Regex(_)) {
            path.push("regex".into());
        }
        let shown = self.quoted(&path, text);
        let text = format!("{shown} is no {what}: {}", bad.reason);
        let mistake = Mistake::at(self.place(&path), text);
        self.found.error(mistake.label(bad.form));
        None
    }

    fn json_probe(&mut self, name: &str, text: &str, wanted: Wanted) -> Option<Probe> {
        let at = way!["faults", name, "where", "json", text];
        let path = match json_path(text) {
            Ok(path) => path,
            Err(bad) => {
                let place = self.key_place(at);
                let shown = super::super::tree::clip(text);
                let mistake = Mistake::at(place, format!("`{shown}` is no JSONPath: {bad}"));
                self.found.error(mistake.label("write for example \"$.metadata.tier\""));
                return None;
            }
        };
        let wanted = match wanted {
            Wanted::Is(value) => Value::Equal(value.into()),
            Wanted::Nothing => Value::Equal(serde_json::Value::Null),
            Wanted::Number(bounds) => Value::Number(bounds),
            Wanted::Text(pattern) => Value::Text(self.pattern(at, &pattern)?),
        };
        Some(Probe::new(path, wanted))
    }

    /// A key written into the file would be in every report of it.
    fn api_key(&mut self, name: &str, key: &str) -> Option<Part> {
        let path = way!["faults", name, "where", "api_key"];
        if !self.is_secret(path) {
            let mistake = Mistake::at(self.place(path), "an API key does not belong into the file");
            self.found.error(mistake.label("write ${NAME}, and set NAME in the environment"));
            return None;
        }
        if key.trim().is_empty() {
            self.error(path, "the variable that holds the API key is empty");
            return None;
        }
        Some(Part::ApiKey(identify::key_hash(key)))
    }

    fn check_identified(&mut self, path: &[Step<'_>], key: &str, identify: &Identify) {
        let missing = match key {
            "user" => identify.user.is_none(),
            "session" => identify.session.is_none(),
            _ => return,
        };
        if missing && !self.was_refused(way!["identify", key]) {
            self.needs_identify(path, key);
        }
    }

    pub(super) fn method(&mut self, path: &[Step<'_>], text: &str) -> Option<http::Method> {
        const COMMON: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
        let upper = text.trim().to_uppercase();
        if COMMON.contains(&upper.as_str()) {
            return upper.parse().ok();
        }
        let text = format!("{} is no method", self.quoted(path, text));
        let mistake = Mistake::at(self.place(path), text);
        self.found.error(mistake.meant(&upper, "methods", COMMON.iter().copied()));
        None
    }

    /// A selector that can never match would make a fault that never fires.
    pub(super) fn check_operation(
        &mut self,
        name: &str,
        selector: &Selector,
        targets: &[Arc<str>],
        dependencies: &[Dependency],
    ) {
        let operation = selector.parts().iter().find_map(|part| match part {
            Part::Operation(operation) => Some(*operation),
            _ => None,
        });
        let Some(operation) = operation else { return };
        let possible = |kind: &str| match kind {
            // Known only when a request comes.
            "auto" => true,
            "mcp" => matches!(operation, Operation::Other | Operation::Read | Operation::Tool),
            "anthropic" | "anthropic-vertex" | "azure-openai" | "bedrock" | "cohere" | "gemini"
            | "llama-cpp" | "mistral" | "ollama" | "openai" | "openrouter" | "sglang" | "tgi"
            | "vertex" | "vllm" => {
                !matches!(operation, Operation::Search | Operation::Upsert | Operation::Delete)
            }
            "postgres" | "qdrant" | "redis" => {
                !matches!(operation, Operation::Chat | Operation::Embed)
            }
            _ => operation == Operation::Other,
        };
        let kinds: Vec<&str> = targets
            .iter()
            .filter_map(|target| named(dependencies, target))
            .map(|one| one.kind.as_str())
            .collect();
        if !kinds.is_empty() && !kinds.iter().any(|kind| possible(kind)) {
            let place = self.place(way!["faults", name, "where", "operation"]);
            let text = format!(
                "`{}` is no operation of kind `{}`, so fault `{name}` can never act",
                operation.as_str(),
                kinds[0]
            );
            self.found.warn(Mistake::at(place, text));
        }
    }
}
