//! Makes the plan of what was read, and finds every mistake of meaning on the way.

mod dependency;
mod fault;
pub(super) mod gateway;
mod handshake;
mod output;
mod phase;
mod safety;
mod selection;
mod sentence;
mod upstream;
mod when;
mod workload;

use std::path::Path;
use std::sync::Arc;

use super::diagnostic::{Collector, Mistake};
use super::place::{Place, Sources};
use super::plan::{Dependency, Plan};
use super::schema::Experiment;
use super::tree::{Node, Value};
use super::words;

/// What the lowering works on.
pub(super) struct Lowering<'a> {
    pub(super) root: &'a Node,
    pub(super) sources: &'a Sources,
    /// Where files named in the experiment are looked for.
    pub(super) base_dir: &'a Path,
    /// Files named in the experiment need not be there.
    pub(super) text_alone: bool,
    pub(super) found: &'a mut Collector,
    pub(super) names: Names,
}

/// The names that the file gives, whether or not what they name could be read.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) dependencies: Vec<String>,
    pub(super) faults: Vec<String>,
    pub(super) phases: Vec<String>,
}

/// A step down the tree.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    /// Of the items that could be read.
    Item(usize),
    Key(&'a str),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(key: &'a str) -> Self {
        Self::Key(key)
    }
}

impl<'a> From<&'a String> for Step<'a> {
    fn from(key: &'a String) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Step<'_> {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

/// Spells a way down the tree.
macro_rules! way {
    ($($step:expr),* $(,)?) => { &[$(crate::config::lower::Step::from($step)),*] };
}
pub(super) use way;

/// Makes the plan; None when what is wrong leaves none.
pub(super) fn lower(experiment: Experiment, lowering: &mut Lowering<'_>, title: &str) -> Plan {
    lowering.names = Names::of(lowering.root);
    lowering.check_version(experiment.version);
    let (dependencies, ports) = lowering.dependencies(experiment.dependencies.unwrap_or_default());
    let gateways = lowering.gateways(experiment.gateways, &dependencies, ports);
    let identify = lowering.identify(experiment.identify);
    let faults = experiment.faults.unwrap_or_default();
    let mut rules = lowering.faults(faults, &dependencies, &identify);
    let steered = experiment.safety.as_ref().is_some_and(|it| it.steer_by_header == Some(true));
    lowering.check_together(&rules, steered);
    if experiment.safety.as_ref().is_some_and(|safety| safety.shadow == Some(true)) {
        rules.iter_mut().for_each(|rule| rule.shadow = true);
    }
    let effect_texts = lowering.effect_texts(&rules);
    let workload = experiment.workload.map(|workload| lowering.workload(workload));
    let (workload, duration) = workload.unzip();
    let defaults = sentence::Defaults {
        confidence: experiment.confidence,
        min_samples: experiment.min_samples,
    };
    let phases =
        lowering.phases(experiment.phases, duration.flatten(), workload.is_some(), &defaults);
    let recovered = lowering.recovered(experiment.recovered, &phases);
    let expectations =
        lowering.expectations(experiment.expect, &phases, workload.is_some(), &defaults);
    let safety = lowering.safety(experiment.safety, &phases, &defaults);
    let outputs = lowering.outputs(experiment.outputs);
    Plan {
        name: experiment
            .name
            .filter(|name| !name.trim().is_empty())
            .unwrap_or_else(|| title.into()),
        description: experiment.description,
        seed: experiment.seed,
        dependencies,
        gateways,
        identify,
        rules,
        effect_texts,
        workload: workload.flatten(),
        phases,
        recovered,
        expectations,
        safety,
        outputs,
        source_name: String::new(),
        source_text: String::new(),
    }
}

impl Names {
    fn of(root: &Node) -> Self {
        let keys = |section: &str| {
            let entries = root.get(section).map(Node::entries).unwrap_or_default();
            entries.iter().map(|entry| entry.key.clone()).collect()
        };
        let phases = root.get("phases").map(Node::items).unwrap_or_default();
        let mut names = Self {
            dependencies: keys("dependencies"),
            faults: keys("faults"),
            phases: phases
                .iter()
                .filter_map(|phase| phase.get("name").filter(|name| !name.secret))
                .filter_map(|name| name.text().map(str::to_owned))
                .collect(),
        };
        if root.get("phases").is_none_or(|node| node.value == Value::Null) {
            names.phases = phase::IMPLIED.iter().map(|name| (*name).to_owned()).collect();
        }
        names
    }
}

impl Lowering<'_> {
    /// The node at the end of a way, if the file has one.
    fn node(&self, path: &[Step<'_>]) -> Option<&Node> {
        let mut node = self.root;
        for step in path {
            node = match step {
                Step::Key(key) => node.get(key)?,
                Step::Item(number) => {
                    node.items().iter().filter(|item| !item.refused).nth(*number)?
                }
            };
        }
        Some(node)
    }

    /// Where the value at the end of a way stands; scalars at themselves, the rest at their key,
    /// what is not there at the last thing on the way that is.
    fn place(&self, path: &[Step<'_>]) -> Place {
        let mut node = self.root;
        let mut place = Place { line: 1, column: 1, len: 0, ..Place::default() };
        for step in path {
            let next = match step {
                Step::Key(key) => node.entry(key).map(|entry| (entry.key_place, &entry.value)),
                Step::Item(number) => {
                    let item = node.items().iter().filter(|item| !item.refused).nth(*number);
                    item.map(|item| (item.place, item))
                }
            };
            let Some((key_place, value)) = next else { return place };
            place = match value.value {
                Value::List(_) | Value::Map(_) | Value::Null => key_place,
                _ => value.place,
            };
            node = value;
        }
        place
    }

    /// Where the key at the end of a way stands.
    fn key_place(&self, path: &[Step<'_>]) -> Place {
        if let Some((Step::Key(key), parents)) = path.split_last()
            && let Some(entry) = self.node(parents).and_then(|node| node.entry(key))
        {
            return entry.key_place;
        }
        self.place(path)
    }

    /// Quotes the value at the end of a way for a message, without showing the environment.
    fn quoted(&self, path: &[Step<'_>], value: &str) -> String {
        let node = self.node(path);
        words::quoted(node, node.map_or("", |node| self.sources.slice(node.place)), value)
    }

    /// Whether the value at the end of a way holds something from the environment.
    fn is_secret(&self, path: &[Step<'_>]) -> bool {
        self.node(path).is_some_and(Node::holds_secret)
    }

    /// Whether a key was given but refused: then its absence needs no words.
    fn was_refused(&self, path: &[Step<'_>]) -> bool {
        self.node(path).is_some_and(|node| node.refused)
    }

    /// Whether a mistake was told inside the value at the end of a way.
    fn told_within(&self, path: &[Step<'_>]) -> bool {
        self.node(path).is_some_and(|node| {
            let bytes = (node.place.start, node.last_byte());
            self.found.any_within(node.place.source, bytes, |_| true)
        })
    }

    /// Whether the absence of a key needs no words: it was given and refused, or misspelt.
    fn absence_is_told(&self, parent: &[Step<'_>], key: &str) -> bool {
        let Some(node) = self.node(parent) else { return false };
        let misspelt = format!("did you mean `{key}`?");
        let bytes = (node.place.start, node.last_byte());
        node.get(key).is_some_and(|node| node.refused)
            || self.found.any_within(node.place.source, bytes, |mistake| {
                mistake.label.as_deref() == Some(&misspelt)
            })
    }

    fn error(&mut self, path: &[Step<'_>], text: impl Into<String>) {
        let place = self.place(path);
        self.found.error(Mistake::at(place, text));
    }

    fn check_version(&mut self, version: Option<u64>) {
        match version {
            Some(1) => {}
            Some(other) => {
                let place = self.place(way!["version"]);
                self.found.error(
                    Mistake::at(
                        place,
                        format!("version {other} of the language is not known here"),
                    )
                    .label("write 1"),
                );
            }
            None if self.absence_is_told(&[], "version") => {}
            None => self.found.error(
                Mistake::at(self.place(&[]), "the file does not say its version")
                    .label("begin with `version: 1`"),
            ),
        }
    }

    /// Names go into sentences, metrics and URLs: letters, digits, `_` and `-`.
    fn check_name(&mut self, what: &str, name: &str, place: Place) {
        let good = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(good) || name.len() > 64 {
            self.found.error(
                Mistake::at(place, format!("`{}` cannot name a {what}", super::tree::clip(name)))
                    .label("use letters, digits, `-` and `_`"),
            );
        }
    }
}

/// The dependency of this name.
fn named<'a>(dependencies: &'a [Dependency], name: &str) -> Option<&'a Dependency> {
    dependencies.iter().find(|one| &*one.name == name)
}

/// A name that many share.
fn shared(name: &str) -> Arc<str> {
    Arc::from(name)
}
