//! `faults`: targets, selectors and effects, checked against each other.

use std::sync::Arc;

use super::{Lowering, Step, named, shared, way};
use crate::config::diagnostic::Mistake;
use crate::config::plan::Dependency;
use crate::config::schema::{self, Named, Target};
use crate::engine::identify::Identify;
use crate::engine::{Rule, Sticky};
use crate::fault::EffectSpecs;
use crate::units::Ramp;

impl Lowering<'_> {
    pub(super) fn faults(
        &mut self,
        faults: Named<schema::Fault>,
        dependencies: &[Dependency],
        identify: &Identify,
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (name, fault) in faults.0 {
            let place = self.key_place(way!["faults", &name]);
            self.check_name("fault", &name, place);
            let keys = fault.keys;
            let (targets, target_text) = self.targets(&name, keys.target, dependencies);
            let selector = self.selector(&name, keys.r#where.unwrap_or_default(), identify);
            self.check_operation(&name, &selector, &targets, dependencies);
            self.check_sticky(&name, keys.sticky, identify);
            if let Some(percent) = keys.percent {
                self.check_percent(way!["faults", &name, "percent"], percent);
            }
            let when = keys.when.map(|when| self.when(&name, when, identify)).unwrap_or_default();
            let escalation =
                keys.escalate.and_then(|steps| self.escalation(&name, &steps, keys.percent));
            let cause = keys.shared_cause.and_then(|cause| self.cause(&name, cause, identify));
            let effects = self.effects(&name, &fault.effects);
            rules.push(Rule {
                name: shared(&name),
                targets,
                target_text,
                selector,
                percent: keys.percent.unwrap_or(Ramp { from: 100.0, to: 100.0 }),
                escalation,
                sticky: keys.sticky,
                cause,
                when,
                opt_in: keys.opt_in.unwrap_or_default(),
                shadow: keys.shadow.unwrap_or_default(),
                effects,
            });
        }
        rules
    }

    fn targets(
        &mut self,
        name: &str,
        target: Option<Target>,
        dependencies: &[Dependency],
    ) -> (Vec<Arc<str>>, String) {
        let path = way!["faults", name, "target"];
        match target {
            None => {
                if !self.absence_is_told(way!["faults", name], "target") {
                    let known = self.names.dependencies.join(", ");
                    let mistake = Mistake::at(
                        self.key_place(way!["faults", name]),
                        format!("fault `{name}` has no `target`"),
                    );
                    self.found
                        .error(mistake.hint(format!("write target: NAME; dependencies: {known}")));
                }
                (Vec::new(), String::new())
            }
            Some(Target::Names(names)) => {
                if names.is_empty() {
                    self.error(path, format!("fault `{name}` has an empty `target`"));
                }
                let list = self.node(path).is_some_and(|node| node.text().is_none());
                for (number, target) in names.iter().enumerate() {
                    if list {
                        self.check_dependency(way!["faults", name, "target", number], target);
                    } else {
                        self.check_dependency(path, target);
                    }
                }
                let text = names.join(", ");
                let mut targets: Vec<Arc<str>> = Vec::new();
                for target in &names {
                    let known = named(dependencies, target).map(|one| one.name.clone());
                    if let Some(known) = known.filter(|known| !targets.contains(known)) {
                        targets.push(known);
                    }
                }
                (targets, text)
            }
            Some(Target::Region(region)) => {
                let targets: Vec<Arc<str>> = dependencies
                    .iter()
                    .filter(|one| one.region.as_deref() == Some(&region))
                    .map(|one| one.name.clone())
                    .collect();
                if targets.is_empty() {
                    self.unknown_region(name, &region, dependencies);
                }
                (targets, format!("region {region}"))
            }
        }
    }

    fn unknown_region(&mut self, name: &str, region: &str, dependencies: &[Dependency]) {
        let path = way!["faults", name, "target", "region"];
        let shown = |one: &&Dependency| !self.is_secret(way!["dependencies", &*one.name, "region"]);
        let mut known: Vec<&str> =
            dependencies.iter().filter(shown).filter_map(|one| one.region.as_deref()).collect();
        known.dedup();
        let text = format!("no dependency is in region {}", self.quoted(path, region));
        let mistake = Mistake::at(self.place(path), text);
        self.found.error(if known.is_empty() {
            mistake.hint("give the dependencies a region: llm: { region: eu, … }")
        } else {
            mistake.meant(region, "regions", known)
        });
    }

    fn check_sticky(&mut self, name: &str, sticky: Option<Sticky>, identify: &Identify) {
        let path = way!["faults", name, "sticky"];
        let (missing, key) = match sticky {
            Some(Sticky::User) => (identify.user.is_none(), "user"),
            Some(Sticky::Session) => (identify.session.is_none(), "session"),
            Some(Sticky::ApiKey) | None => return,
        };
        if missing && !self.was_refused(way!["identify", key]) {
            self.needs_identify(path, key);
        }
    }

    pub(super) fn needs_identify(&mut self, path: &[Step<'_>], key: &str) {
        let text = format!("nothing says how a {key} is recognised");
        let mistake = Mistake::at(self.place(path), text).label(format!("needs `identify.{key}`"));
        let hint = format!("add for example: identify: {{ {key}: header x-{key}-id }}");
        self.found.error(mistake.hint(hint));
    }

    /// `0.2` is more often meant as a fifth than as two in a thousand.
    pub(super) fn check_percent(&mut self, path: &[Step<'_>], percent: Ramp) {
        let highest = percent.from.max(percent.to);
        let place = self.place(path);
        if highest > 0.0 && highest < 1.0 {
            let meant = Ramp { from: percent.from * 100.0, to: percent.to * 100.0 };
            self.found.warn(
                Mistake::at(place, format!("`percent: {percent}` is {highest} in 100"))
                    .label(format!("did you mean {meant}?"))
                    .hint("percent counts from 0 to 100"),
            );
        } else if highest == 0.0 {
            let text = "at 0 percent this fault never acts";
            self.found.warn(Mistake::at(place, text));
        }
    }

    fn effects(
        &mut self,
        name: &str,
        specs: &EffectSpecs,
    ) -> Vec<(&'static str, Box<dyn crate::fault::Fault>)> {
        let mut effects = Vec::new();
        for (key, built) in specs.build() {
            match built {
                Ok(fault) => effects.push((key, fault)),
                // What is missing was misspelt or refused.
                Err(_) if self.told_within(way!["faults", name, key]) => {}
                Err(invalid) => {
                    let field = way!["faults", name, key, invalid.field];
                    let path = if invalid.field.is_empty() || self.node(field).is_none() {
                        way!["faults", name, key] as &[Step<'_>]
                    } else {
                        field
                    };
                    let text = match self.is_secret(way!["faults", name, key]) {
                        true => "what the environment gives does not fit".to_owned(),
                        false => invalid.reason,
                    };
                    let place = self.place(path);
                    let mistake = Mistake::at(place, format!("`{key}` in fault `{name}`: {text}"));
                    self.found.error(mistake);
                }
            }
        }
        if effects.is_empty() && !self.names_effect(name) {
            let place = self.key_place(way!["faults", name]);
            let effects = EffectSpecs::NAMES.join(", ");
            self.found.error(
                Mistake::at(place, format!("fault `{name}` does nothing: it has no effect"))
                    .hint(format!("effects: {effects}"))
                    .hint("or start from one of the catalogue: use: NAME (see `brownout faults`)"),
            );
        }
        effects
    }

    /// The options of each effect as written.
    pub(super) fn effect_texts(&self, rules: &[Rule]) -> Vec<(Arc<str>, &'static str, String)> {
        let mut texts = Vec::new();
        for rule in rules {
            for (key, _) in &rule.effects {
                let node = self.node(way!["faults", &*rule.name, *key]);
                let text = node.map_or_else(String::new, |node| node.flow(self.sources));
                texts.push((Arc::clone(&rule.name), *key, text));
            }
        }
        texts
    }

    /// Whether the file gives this fault an effect, well formed or not, or an unknown key that was
    /// probably meant as one.
    fn names_effect(&self, name: &str) -> bool {
        let Some(node) = self.node(way!["faults", name]) else { return true };
        let own = schema::OWN_KEYS;
        node.entries().iter().any(|entry| !own.contains(&entry.key.as_str()))
            || node.get("use").is_some_and(|node| node.refused)
    }
}
