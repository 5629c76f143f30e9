//! Holds the documentation to the code it describes: generated tables are current, every metric has
//! its formula. A stale table is told with the text that belongs there;
//! `BROWNOUT_WRITE_DOCS=1 cargo test docs` writes it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use brownout::config::profile::PROFILES;
use brownout::config::schema_json;
use brownout::fault::{EffectSpecs, KINDS};
use brownout::measure::{DecisionLine, Record};
use brownout::verdict::{Kind, METRICS};
use serde_json::Value;

/// The tables that each file must have, by the names in their marks.
const TABLES: &[(&str, &[&str])] = &[
    ("README.md", &["exit codes", "faults"]),
    (
        "docs/experiment-file.md",
        &[
            "keys",
            "keys dependencies",
            "keys gateways",
            "keys identify",
            "keys faults",
            "keys workload",
            "keys phases",
            "keys recovered",
            "keys expect",
            "keys safety",
            "keys outputs",
        ],
    ),
    (
        "docs/faults.md",
        &[
            "options tls",
            "options latency",
            "options outage",
            "options rate_limit",
            "options saturation",
            "options retrieval",
            "options embedding",
            "options degrade",
            "options structured",
            "options tool_calls",
            "options slow_stream",
            "options keep_alive",
            "options stall",
            "options drop",
            "options duplicate",
            "options reorder",
            "options strip",
            "options corrupt",
            "options error",
            "options truncate",
            "options burst",
            "options regroup",
            "options bandwidth",
            "options slice",
            "options slow_close",
            "profiles",
        ],
    ),
    ("docs/results.md", &["metrics", "exit codes", "results", "decisions"]),
    ("docs/ci.md", &["exit codes"]),
];

const BEGIN: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";

fn text_of(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// What a table must hold.
fn table(name: &str) -> String {
    match name.split_once(' ').unwrap_or((name, "")) {
        ("decisions", _) => fields(&schemars::schema_for!(DecisionLine).to_value()),
        ("exit", _) => exit_codes(),
        ("faults", _) => faults(),
        ("keys", section) => keys(section),
        ("metrics", _) => metrics(),
        ("options", kind) => options(kind),
        ("profiles", _) => profiles(),
        ("results", _) => fields(&schemars::schema_for!(Record).to_value()),
        _ => panic!("there is no table `{name}`"),
    }
}

/// As `brownout --help` gives them.
fn exit_codes() -> String {
    let help = Command::new(env!("CARGO_BIN_EXE_brownout")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, codes) = help.split_once("Exit codes:").expect("the help ends with the exit codes");
    let mut table = String::from("| code | meaning |\n|---|---|\n");
    for (code, meaning) in codes.lines().filter_map(|line| line.trim().split_once(' ')) {
        let _ = writeln!(table, "| {code} | {} |", cell(meaning.trim()));
    }
    table
}

fn faults() -> String {
    let mut table =
        String::from("| effect | the real failure that it mimics | example |\n|---|---|---|\n");
    for kind in KINDS {
        let (name, about) = (kind.name, cell(kind.summary));
        let example = cell(kind.example);
        let _ = writeln!(table, "| [`{name}`](docs/faults.md#{name}) | {about} | `{example}` |");
    }
    let _ = writeln!(table, "\n{} effects, {} ready-made profiles.", KINDS.len(), PROFILES.len());
    table
}

fn profiles() -> String {
    let mut table = format!(
        "{} profiles.\n\n| `use:` | what it mimics, and what a good app does |\n|---|---|\n",
        PROFILES.len()
    );
    for profile in PROFILES {
        let _ = writeln!(table, "| `{}` | {} |", profile.name, cell(&profile.comment()));
    }
    table
}

fn metrics() -> String {
    let mut table = String::from("| metric | in | what it is |\n|---|---|---|\n");
    for metric in METRICS {
        let unit = match metric.kind {
            Kind::Count => "a number",
            Kind::PerSecond => "per second",
            Kind::Seconds => "time",
            Kind::Share => "%",
            Kind::Times => "×",
        };
        let (form, about) = (cell(&metric.form()), cell(metric.doc));
        let _ = writeln!(table, "| `{form}` | {unit} | {about} |");
    }
    table
}

/// The keys of a section of the experiment file; without a section, those at its top.
fn keys(section: &str) -> String {
    let schema = schema_json();
    let mut table = String::from("| key | what it is |\n|---|---|\n");
    let mut rows = Rows { root: &schema, table: &mut table, deep: !section.is_empty() };
    match section {
        "" => rows.of(&schema, ""),
        section => rows.within(&schema["properties"][section], section),
    }
    table
}

/// The options of an effect.
fn options(kind: &str) -> String {
    let kind = KINDS.iter().find(|known| known.name == kind).expect("a kind of fault");
    let schema = (kind.schema)().to_value();
    let mut text =
        format!("`{}: {}`\n\n| option | what it is |\n|---|---|\n", kind.name, kind.example);
    Rows { root: &schema, table: &mut text, deep: true }.of(&schema, "");
    text
}

/// The fields of a file that is written.
fn fields(schema: &Value) -> String {
    let mut table = String::from("| field | what it is |\n|---|---|\n");
    Rows { root: schema, table: &mut table, deep: true }.of(schema, "");
    table
}

/// Writes the properties of schemas as rows.
struct Rows<'a> {
    root: &'a Value,
    table: &'a mut String,
    /// Objects in objects, too.
    deep: bool,
}

impl<'a> Rows<'a> {
    /// The properties of an object, those of the objects in it below them.
    fn of(&mut self, object: &'a Value, path: &str) {
        for (name, property) in object["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let in_fault = path.strip_prefix("faults.NAME.");
            if in_fault.is_some_and(|key| EffectSpecs::NAMES.contains(&key)) {
                continue;
            }
            // Said once: every pattern may be given so.
            if name == "regex" && path != "faults.NAME.where.path.regex" {
                continue;
            }
            // A way of a choice (`constant: { value: 1s }`) is described around its only key.
            let about = property["description"].as_str().or(object["description"].as_str());
            let about = one_line(about.unwrap_or_default());
            assert!(about.len() > 3, "`{path}` has no description; give its field a doc comment");
            let choices = self.choices(property);
            let _ = writeln!(self.table, "| `{path}` | {}{choices} |", cell(&about));
            if self.deep {
                self.within(property, &path);
            }
        }
    }

    /// The properties of the objects that a property may hold.
    fn within(&mut self, property: &'a Value, path: &str) {
        for way in ways(self.root, property) {
            self.of(way, path);
            for many in ways(self.root, &way["additionalProperties"]) {
                self.of(many, &format!("{path}.NAME"));
            }
            for many in ways(self.root, &way["items"]) {
                self.of(many, &format!("{path}[]"));
            }
        }
    }

    /// The words that a property may be, each with what it means.
    fn choices(&self, property: &'a Value) -> String {
        let mut words = String::new();
        for way in ways(self.root, property) {
            let listed = way["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let listed: Vec<String> = listed.map(|word| format!("`{word}`")).collect();
            if !listed.is_empty() {
                let _ = write!(words, "<br>One of {}.", listed.join(", "));
            }
            let Some(word) = way["const"].as_str() else { continue };
            let about = way["description"].as_str().map(one_line).unwrap_or_default();
            let about = if about.is_empty() { about } else { format!(": {}", cell(&about)) };
            let _ = write!(words, "<br>`{word}`{about}");
        }
        words
    }
}

/// A schema and its alternatives, references followed.
fn ways<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let path = schema["$ref"].as_str().map(|path| path.trim_start_matches('#'));
    let schema = path.and_then(|path| root.pointer(path)).unwrap_or(schema);
    match schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        Some(list) => list.iter().flat_map(|one| ways(root, one)).collect(),
        None => vec![schema],
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A cell: `|` would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn generated_tables_are_current() {
    let write = std::env::var_os("BROWNOUT_WRITE_DOCS").is_some();
    for (file, names) in TABLES {
        let mut text = text_of(file);
        for name in *names {
            let begin = format!("{BEGIN}{name} -->\n");
            let start =
                text.find(&begin).unwrap_or_else(|| panic!("{file} lacks `{}`", begin.trim()));
            let start = start + begin.len();
            let end = start + text[start..].find(END).expect("a table ends");
            let wanted = table(name);
            if text[start..end] != wanted {
                assert!(write, "the table `{name}` of {file} is stale; it should be\n{wanted}");
                text.replace_range(start..end, &wanted);
            }
        }
        assert_eq!(text.matches(BEGIN).count(), names.len(), "{file} has a table nobody holds");
        if write {
            fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), text).unwrap();
        }
    }
}

#[test]
fn each_effect_has_a_section() {
    let text = text_of("docs/faults.md");
    for kind in KINDS {
        assert!(text.contains(&format!("\n### {}\n", kind.name)), "no section on `{}`", kind.name);
    }
}

/// The first cells of the rows below a heading.
fn first_cells(text: &str, heading: &str) -> BTreeSet<String> {
    let (_, section) = text.split_once(heading).unwrap_or_else(|| panic!("no `{heading}`"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect()
}

#[test]
fn each_metric_has_its_formula() {
    let told = first_cells(&text_of("docs/results.md"), "\n## Formulas\n");
    let known: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(told, known);
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> =
        pages.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.extend(["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"].map(|name| root.join(name)));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        for (target, _) in targets.filter(|(target, _)| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: `{target}` leads nowhere", page.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&file).unwrap();
                let found = text
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| slug(line) == anchor);
                assert!(found, "{}: `{target}` names no heading", page.display());
            }
        }
    }
}

/// A heading as the anchor that hosts of code make of it.
fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
