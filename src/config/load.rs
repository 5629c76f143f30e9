//! Loads an experiment: text in, plan or diagnostics out.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use super::diagnostic::{Collector, Diagnostics, Mistake, nearest};
use super::lower::{self, Lowering, Names};
use super::mask::Mask;
use super::place::{Place, SourceKind, Sources};
use super::plan::Plan;
use super::profile::{self, Found};
use super::schema::Experiment;
use super::tree::{self, Node, Value};
use super::vars::{self, Environment};
use super::words;
use super::{overlay, read};

/// How a file is loaded.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The overlay of `profiles` to lay over the file.
    pub profile: Option<&'a str>,
    /// `a.b.c=value`, in order, over file and profile.
    pub sets: &'a [String],
    /// Looks up a variable of the environment.
    pub environment: Environment<'a>,
    /// Where files named in the experiment are looked for.
    pub base_dir: &'a Path,
    /// The text alone is checked: a prompt file that is not there is no error, only a warning.
    pub text_alone: bool,
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("profile", &self.profile)
            .field("sets", &self.sets)
            .field("base_dir", &self.base_dir)
            .field("text_alone", &self.text_alone)
            .finish_non_exhaustive()
    }
}

impl Default for Options<'_> {
    /// No overlay, no settings, an empty environment, the current folder.
    fn default() -> Self {
        Self {
            profile: None,
            sets: &[],
            environment: &|_| None,
            base_dir: Path::new("."),
            text_alone: false,
        }
    }
}

/// A loaded experiment.
#[derive(Debug)]
pub struct Loaded {
    pub plan: Plan,
    /// What is worth knowing, but stops nothing.
    pub warnings: Diagnostics,
}

/// Larger files are no experiments.
const LARGEST: usize = 4 * 1024 * 1024;

/// Reads and loads a file; prompts are looked for beside it.
pub fn load_file(path: &Path, options: &Options<'_>) -> Result<Loaded, Diagnostics> {
    let name = path.display().to_string();
    let refuse = |reason: String| {
        let mistake = Mistake::nowhere(format!("`{name}` cannot be read: {reason}"));
        let mut found = Collector::default();
        found.error(mistake);
        found.finish(&Sources::default(), &|_, line| line.to_owned())
    };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(LARGEST as u64 + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(refuse(match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".into(),
            std::io::ErrorKind::IsADirectory => "it is a folder".into(),
            _ => error.to_string(),
        }));
    }
    if bytes.len() > LARGEST {
        return Err(refuse(format!("it is larger than {} MB", LARGEST / 1024 / 1024)));
    }
    let text = String::from_utf8(bytes).map_err(|_| refuse("it is no UTF-8 text".into()))?;
    let base_dir = path.parent().unwrap_or(Path::new("."));
    load(&name, &text, &Options { base_dir, ..*options })
}

/// Loads an experiment from its text. `name` stands in messages.
pub fn load(name: &str, text: &str, options: &Options<'_>) -> Result<Loaded, Diagnostics> {
    let mut found = Collector::default();
    let mut sources = Sources::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    sources.add(name, if text.len() > LARGEST { "" } else { text }, SourceKind::File);
    if text.len() > LARGEST {
        let limit = LARGEST / 1024 / 1024;
        found.error(Mistake::at(start(), format!("the file is larger than {limit} MB")));
        return Err(found.finish(&sources, &|_, line| line.to_owned()));
    }
    let root = match tree::parse(&sources, 0, text) {
        Ok(root) => root,
        Err(mistake) => {
            found.error(*mistake);
            return Err(found.finish(&sources, &|_, line| line.to_owned()));
        }
    };
    let mask = Mask::of(&root, &sources);
    let plan = assemble(&root, name, options, &mut sources, &mut found);
    check_profiles(&root, name, options, &sources, &mut found);
    let failed = found.has_errors();
    let hide = |place: Place, line: &str| {
        let from = place.start as usize - line_offset(&sources, place);
        if place.source == 0 { mask.apply(line, from) } else { line.to_owned() }
    };
    let diagnostics = found.finish(&sources, &hide);
    match plan {
        Some(mut plan) if !failed => {
            plan.source_name = name.to_owned();
            plan.source_text = mask.apply(text, 0);
            Ok(Loaded { plan, warnings: diagnostics })
        }
        _ => Err(diagnostics),
    }
}

/// The file's first character.
fn start() -> Place {
    Place { line: 1, column: 1, len: 1, ..Place::default() }
}

/// How far into its line a place begins, in bytes.
fn line_offset(sources: &Sources, place: Place) -> usize {
    let text = sources.get(place).map_or("", |source| &*source.text);
    let before = text.get(..place.start as usize).unwrap_or("");
    before.len() - before.rfind('\n').map_or(0, |at| at + 1)
}

/// Puts the tree together and makes the plan; what is wrong is collected.
fn assemble(
    parsed: &Node,
    name: &str,
    options: &Options<'_>,
    sources: &mut Sources,
    found: &mut Collector,
) -> Option<Plan> {
    let mut root = parsed.clone();
    match root.value {
        Value::Map(_) => {}
        Value::Null => {
            let mistake = Mistake::at(start(), "the file is empty");
            found.error(mistake.hint("begin with `version: 1` and `dependencies:`"));
            return None;
        }
        _ => {
            let text = format!("an experiment is a map of keys, not {}", root.described());
            found.error(Mistake::at(root.place, text));
            return None;
        }
    }
    if let Some(wanted) = options.profile {
        lay_over(&mut root, wanted, found);
    }
    for set in options.sets {
        overlay::set(&mut root, set, sources, found);
    }
    drop_empty_sections(&mut root);
    vars::fill(&mut root, sources, options.environment, found);
    start_from_profiles(&mut root, sources, found);
    let experiment: Experiment = read::read(&mut root, found)?;
    let title =
        Path::new(name).file_stem().map_or("experiment".into(), |stem| stem.to_string_lossy());
    let mut lowering = Lowering {
        root: &root,
        sources,
        base_dir: options.base_dir,
        text_alone: options.text_alone,
        found,
        names: Names::default(),
    };
    let plan = lower::lower(experiment, &mut lowering, &title);
    lowering.check_handshakes(&plan);
    Some(plan)
}

/// A section whose lines are all commented out is as good as none.
fn drop_empty_sections(root: &mut Node) {
    if let Value::Map(entries) = &mut root.value {
        entries.retain(|entry| {
            entry.value.value != Value::Null || matches!(entry.key.as_str(), "version")
        });
    }
}

/// Lays an overlay of `profiles` over the file.
fn lay_over(root: &mut Node, wanted: &str, found: &mut Collector) {
    let profiles = root.get("profiles").cloned();
    let entries = profiles.as_ref().map(Node::entries).unwrap_or_default();
    match entries.iter().find(|entry| entry.key == wanted) {
        Some(entry) => overlay::merge(root, entry.value.clone(), found),
        None => {
            let known: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
            let text = format!("the file has no profile `{wanted}` (--profile)");
            let place = root.entry("profiles").map_or_else(start, |entry| entry.key_place);
            let mistake = Mistake::at(place, text);
            found.error(match known.is_empty() {
                true => mistake.hint("it has no `profiles` at all"),
                false => mistake.meant(wanted, "profiles", known),
            });
        }
    }
}

/// Checks the overlays that were not chosen, so that a mistake in one is found before its day. A
/// variable that only another environment sets is none.
fn check_profiles(
    parsed: &Node,
    name: &str,
    options: &Options<'_>,
    sources: &Sources,
    found: &mut Collector,
) {
    const MOST: usize = 16;
    let Some(profiles) = parsed.entry("profiles") else { return };
    if !matches!(profiles.value.value, Value::Map(_) | Value::Null) {
        let what = profiles.value.described();
        let text = format!("`profiles` takes a map of names and overlays, not {what}");
        found.error(Mistake::at(profiles.key_place, text));
    }
    for entry in profiles.value.entries().iter().take(MOST) {
        if !matches!(entry.value.value, Value::Map(_)) {
            let text = format!("the profile `{}` is no map of keys", entry.key);
            found.error(Mistake::at(entry.key_place, text));
            continue;
        }
        if options.profile == Some(&entry.key) {
            continue;
        }
        let mut root = parsed.clone();
        let mut trial = Collector::default();
        let mut sources = sources.clone();
        overlay::merge(&mut root, entry.value.clone(), &mut trial);
        if !holds_variables(&entry.value) {
            let options = Options { profile: None, ..*options };
            assemble(&root, name, &options, &mut sources, &mut trial);
        }
        let (first, last) = (entry.value.place.start, entry.value.last_byte());
        trial.retain(|mistake| {
            mistake
                .place
                .is_some_and(|place| place.source == 0 && (first..=last).contains(&place.start))
        });
        found.append(trial);
    }
}

fn holds_variables(node: &Node) -> bool {
    node.text().is_some_and(|text| text.contains("${"))
        || node.items().iter().any(holds_variables)
        || node.entries().iter().any(|entry| holds_variables(&entry.value))
}

/// Puts the profiles that `use:` names under their faults: the keys beside it replace theirs.
fn start_from_profiles(root: &mut Node, sources: &mut Sources, found: &mut Collector) {
    let Some(faults) = root.get_mut("faults") else { return };
    let Value::Map(faults) = &mut faults.value else { return };
    for fault in faults {
        let Some(wanted) = fault.value.get("use") else { continue };
        // A wrong type is told by the typed reading.
        let Some(name) = wanted.text() else { continue };
        if wanted.refused {
            continue;
        }
        let shown = words::quoted(Some(wanted), sources.slice(wanted.place), name);
        let place = wanted.place;
        let profile = match profile::find(name) {
            Found::One(profile) => profile,
            Found::Several(names) => {
                let text = format!("{shown} is in several folders of the catalogue");
                let mistake = Mistake::at(place, text);
                found.error(mistake.hint(format!("write one of: {}", names.join(", "))));
                refuse(&mut fault.value);
                continue;
            }
            Found::Nothing => {
                found.error(unknown_profile(&shown, name, place));
                refuse(&mut fault.value);
                continue;
            }
        };
        let source = sources.add(
            &format!("faults/{}.yaml (built in)", profile.name),
            profile.text,
            SourceKind::File,
        );
        match tree::parse(sources, source, profile.text) {
            Ok(base) => underlay(&mut fault.value, base),
            Err(mistake) => found.error(*mistake),
        }
    }
}

fn refuse(fault: &mut Node) {
    if let Some(node) = fault.get_mut("use") {
        node.refused = true;
    }
}

fn unknown_profile(shown: &str, name: &str, place: Place) -> Mistake {
    let short: Vec<&str> = profile::PROFILES.iter().map(|one| one.short_name()).collect();
    let full: Vec<&str> = profile::PROFILES.iter().map(|one| one.name).collect();
    let mistake = Mistake::at(place, format!("the catalogue has no fault {shown}"));
    let near = nearest(name, full.iter().copied()).or_else(|| nearest(name, short));
    let mistake = match near {
        Some(near) => mistake.label(format!("did you mean `{near}`?")),
        None => mistake,
    };
    mistake.hint(format!("catalogue: {}", full.join(", ")))
}

/// Adds the keys of a profile that the fault does not have itself.
fn underlay(fault: &mut Node, base: Node) {
    let (Value::Map(own), Value::Map(below)) = (&mut fault.value, base.value) else { return };
    for entry in below {
        if !own.iter().any(|other| other.key == entry.key) {
            own.push(entry);
        }
    }
}
