//! Holds the documentation's generated tables to the code they describe. A stale one is told with
//! the text that belongs there; `BROWNOUT_WRITE_DOCS=1 cargo test docs` writes it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use brownout::config::profile::PROFILES;
use brownout::config::schema_json;
use brownout::fault::{EffectSpecs, KINDS};
use brownout::measure::Record;
use brownout::verdict::METRICS;
use serde_json::Value;

/// File, name of the table, what it must hold.
type Table = (&'static str, &'static str, fn() -> String);

const TABLES: &[Table] = &[
    ("README.md", "faults", faults),
    ("docs/experiment-file.md", "keys", keys),
    ("docs/faults.md", "options", fault_options),
    ("docs/faults.md", "profiles", profiles),
    ("docs/results.md", "fields", fields),
    ("docs/results.md", "metrics", metrics),
];

/// A cell: `|` would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn faults() -> String {
    let mut table = String::from("| fault | the real failure | example |\n|---|---|---|\n");
    for kind in KINDS {
        let _ = writeln!(
            table,
            "| `{}` | {} | `{}` |",
            kind.name,
            cell(kind.summary),
            cell(kind.example)
        );
    }
    let _ = writeln!(table, "\n{} ready-made profiles.", PROFILES.len());
    table
}

fn profiles() -> String {
    let mut table = String::from("| `use:` | what it mimics |\n|---|---|\n");
    for profile in PROFILES {
        let _ = writeln!(table, "| `{}` | {} |", profile.name, cell(&profile.comment()));
    }
    table
}

fn metrics() -> String {
    let mut table = String::from("| metric | what it is |\n|---|---|\n");
    for metric in METRICS {
        let _ = writeln!(table, "| `{}` | {} |", cell(&metric.form()), cell(metric.doc));
    }
    table
}

/// Every key of the experiment file but the options of the faults.
fn keys() -> String {
    let schema = schema_json();
    let mut table = String::from("| key | what it is |\n|---|---|\n");
    rows(&mut table, &schema, &schema, "", &|path| {
        let in_fault = path.strip_prefix("faults.NAME.");
        in_fault.is_some_and(|key| EffectSpecs::NAMES.contains(&key))
            || path.starts_with("profiles.")
    });
    table
}

/// The options of each fault.
fn fault_options() -> String {
    let mut text = String::new();
    for kind in KINDS {
        let schema = (kind.schema)().to_value();
        let about = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
        let _ = writeln!(text, "### `{}`: {}\n\n{about}\n", kind.name, kind.summary);
        let _ = writeln!(
            text,
            "`{}: {}`\n\n| option | what it is |\n|---|---|",
            kind.name, kind.example
        );
        rows(&mut text, &schema, &schema, "", &|_| false);
        text.push('\n');
    }
    text
}

/// The fields of results.json.
fn fields() -> String {
    let schema = schemars::schema_for!(Record).to_value();
    let mut table = String::from("| field | what it is |\n|---|---|\n");
    rows(&mut table, &schema, &schema, "", &|_| false);
    table
}

/// Rows for the properties of an object, those of the objects in it below them. `skip` leaves out
/// what lies below a path.
fn rows(table: &mut String, root: &Value, object: &Value, path: &str, skip: &dyn Fn(&str) -> bool) {
    for (name, property) in object["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if skip(&path) {
            continue;
        }
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        let choices = choices(root, property);
        let choices = if choices.is_empty() { choices } else { format!(" One of {choices}.") };
        let _ = writeln!(table, "| `{path}` | {}{} |", cell(&about), cell(&choices));
        for (suffix, inner) in inner(root, property) {
            rows(table, root, inner, &format!("{path}{suffix}"), skip);
        }
    }
}

/// The objects that a property may hold, with what their keys stand behind.
fn inner<'a>(root: &'a Value, property: &'a Value) -> Vec<(&'static str, &'a Value)> {
    let mut found = Vec::new();
    for way in ways(root, property) {
        if way["properties"].is_object() {
            found.push(("", way));
        }
        for many in ways(root, &way["additionalProperties"]) {
            found.extend(many["properties"].is_object().then_some((".NAME", many)));
        }
        for many in ways(root, &way["items"]) {
            found.extend(many["properties"].is_object().then_some(("[]", many)));
        }
    }
    found
}

/// A schema and its alternatives, references followed.
fn ways<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let target =
        schema["$ref"].as_str().and_then(|path| root.pointer(path.trim_start_matches('#')));
    let schema = target.unwrap_or(schema);
    let alternatives = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    match alternatives {
        Some(list) => list.iter().flat_map(|one| ways(root, one)).collect(),
        None => vec![schema],
    }
}

/// The words that a property may be.
fn choices(root: &Value, property: &Value) -> String {
    let mut words: Vec<String> = Vec::new();
    for way in ways(root, property) {
        let listed = way["enum"].as_array().into_iter().flatten().chain(way.get("const"));
        words.extend(listed.filter_map(Value::as_str).map(|word| format!("`{word}`")));
    }
    words.join(", ")
}

#[test]
fn generated_tables_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = std::env::var_os("BROWNOUT_WRITE_DOCS").is_some();
    for (file, name, make) in TABLES {
        let path = root.join(file);
        let text = fs::read_to_string(&path).unwrap();
        let begin = format!("<!-- generated: {name} -->\n");
        let start =
            text.find(&begin).unwrap_or_else(|| panic!("{file} lacks {begin}")) + begin.len();
        let end = start + text[start..].find("<!-- end -->").expect("a table ends");
        let wanted = make();
        if text[start..end] == wanted {
            continue;
        }
        assert!(write, "the table `{name}` of {file} is stale; it should be\n{wanted}");
        fs::write(&path, format!("{}{wanted}{}", &text[..start], &text[end..])).unwrap();
    }
}
