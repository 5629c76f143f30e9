//! `faults`: lists the kinds of fault and the ready-made profiles, or explains one.

mod wire;

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::args::FaultsArgs;
use super::{Failed, exit, terminal};
use crate::config::profile::{self, Found, PROFILES, Profile};
use crate::fault::{KINDS, Kind};

/// Where descriptions begin.
const COLUMN: usize = 30;

/// The most characters of a profile's summary in the list.
const CLAUSE: usize = 88;

pub(crate) fn run(args: &FaultsArgs) -> Result<u8, Failed> {
    let text = match &args.name {
        None => {
            let found = Listed::of(args.find.as_deref().unwrap_or_default());
            if found.is_empty() {
                let word = args.find.as_deref().unwrap_or_default();
                let message =
                    format!("no fault or profile has `{word}` in it; `brownout faults` lists them");
                return Err(Failed::usage(message));
            }
            if args.json { pretty(&found.as_json()) } else { found.as_text() }
        }
        Some(name) => match KINDS.iter().find(|kind| kind.name == name) {
            Some(kind) if args.json => pretty(&(kind.schema)().to_value()),
            Some(kind) => explain(kind),
            None => explain_profile(name, args.json)?,
        },
    };
    terminal::out(&text)?;
    Ok(exit::PASS)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The kinds and profiles that a word is found in.
struct Listed {
    kinds: Vec<&'static Kind>,
    profiles: Vec<&'static Profile>,
}

impl Listed {
    /// All of them, where there is no word.
    fn of(word: &str) -> Self {
        let word = word.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&word);
        let kind = |kind: &&Kind| has(kind.name) || has(kind.summary) || has(kind.example);
        Self {
            kinds: KINDS.iter().filter(kind).collect(),
            profiles: PROFILES.iter().filter(|it| has(it.name) || has(it.text)).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.profiles.is_empty()
    }

    fn as_json(&self) -> Value {
        let kinds: Vec<Value> = self.kinds
        .iter()
        .map(|kind| json!({ "name": kind.name, "summary": kind.summary, "example": kind.example }))
        .collect();
        let profiles: Vec<Value> = self
            .profiles
            .iter()
            .map(|profile| json!({ "name": profile.name, "summary": summary(profile) }))
            .collect();
        json!({ "effects": kinds, "profiles": profiles })
    }

    fn as_text(&self) -> String {
        let mut text = String::new();
        if !self.kinds.is_empty() {
            text.push_str("Effects: keys of a fault, several may stand together\n");
        }
        for kind in &self.kinds {
            let _ = writeln!(text, "  {:<14} {}", kind.name, kind.summary);
        }
        if !self.profiles.is_empty() {
            text.push_str("\nProfiles: ready-made faults, taken up by `use: NAME`\n");
        }
        for profile in &self.profiles {
            let _ = writeln!(text, "  {:<32} {}", profile.name, summary(profile));
        }
        text.push_str("\nExplain one: brownout faults truncate\n");
        text
    }
}

fn explain(kind: &Kind) -> String {
    let schema = (kind.schema)().to_value();
    let mut text = format!("{}: {}\n", kind.name, kind.summary);
    if let Some(description) = schema.get("description").and_then(Value::as_str) {
        let _ = write!(text, "\n{description}\n");
    }
    let _ = write!(
        text,
        "\nExample\n  faults:\n    my-fault:\n      target: llm\n      {}: {}\n",
        kind.name, kind.example
    );
    text.push_str("\nOptions\n");
    options(&mut text, &schema, &schema, 2);
    text.push_str(&wire::shown(kind.name).unwrap_or_default());
    let using: Vec<&str> = PROFILES
        .iter()
        .filter(|profile| uses(profile, kind.name))
        .map(|profile| profile.name)
        .collect();
    if !using.is_empty() {
        let _ = write!(text, "\nProfiles with it\n  {}\n", using.join("\n  "));
    }
    text
}

/// Writes the options of an object, the choices of each below it.
fn options(text: &mut String, root: &Value, object: &Value, indent: usize) {
    let properties = object.get("properties").and_then(Value::as_object);
    for (name, option) in properties.into_iter().flatten() {
        entry(text, indent, name, description(option));
        let meant = resolved(root, option);
        for choice in meant.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
            if let Some(word) = choice.get("const").and_then(Value::as_str) {
                entry(text, indent + 2, word, description(choice));
            }
        }
        options(text, root, meant, indent + 2);
    }
}

/// A name and what it means, the further lines of it below each other.
fn entry(text: &mut String, indent: usize, name: &str, description: &str) {
    let width = COLUMN.saturating_sub(indent);
    for (number, line) in
        description.lines().chain(description.is_empty().then_some("")).enumerate()
    {
        let name = if number == 0 { name } else { "" };
        let _ = writeln!(text, "{:indent$}{name:<width$} {line}", "");
    }
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// What an option is, behind `anyOf` with null and `$ref`.
fn resolved<'a>(root: &'a Value, option: &'a Value) -> &'a Value {
    let some = option
        .get("anyOf")
        .and_then(Value::as_array)
        .and_then(|ways| ways.iter().find(|way| way.get("$ref").is_some()))
        .unwrap_or(option);
    let target = some.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
    target.and_then(|path| root.pointer(path)).unwrap_or(some)
}

fn explain_profile(name: &str, json: bool) -> Result<String, Failed> {
    let profile = match profile::find(name) {
        Found::One(profile) => profile,
        Found::Several(names) => {
            return Err(Failed::usage(format!("`{name}` could be {}", names.join(" or "))));
        }
        Found::Nothing => return Err(Failed::usage(unknown(name))),
    };
    if json {
        return Ok(pretty(&json!({ "name": profile.name, "yaml": profile.text })));
    }
    Ok(format!(
        "# {}\n{}\n\n# In a file:\n#   faults:\n#     my-fault: {{ use: {}, target: llm }}\n",
        profile.name,
        profile.text.trim_end(),
        profile.name
    ))
}

fn unknown(name: &str) -> String {
    let kinds = KINDS.iter().map(|kind| kind.name);
    let known = kinds.chain(PROFILES.iter().flat_map(|one| [one.name, one.short_name()]));
    let near = known
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = near.map(|(_, near)| format!(" did you mean `{near}`?")).unwrap_or_default();
    format!("there is no fault or profile `{name}`;{hint} `brownout faults` lists them")
}

/// The first clause of a profile's comment.
fn summary(profile: &profile::Profile) -> String {
    let comment = profile.comment();
    let outside_code = |at: &usize| comment[..*at].matches('`').count().is_multiple_of(2);
    let end = [". ", ": ", " (", "; "]
        .iter()
        .filter_map(|mark| comment.match_indices(mark).map(|(at, _)| at).find(outside_code))
        .min();
    let clause = comment[..end.unwrap_or(comment.len())].trim_end_matches('.');
    match clause.char_indices().nth(CLAUSE) {
        None => clause.to_owned(),
        Some((end, _)) => {
            let end = clause[..end].rfind(' ').unwrap_or(end);
            format!("{} …", clause[..end].trim_end_matches(','))
        }
    }
}

/// Whether a profile has this effect.
fn uses(profile: &profile::Profile, effect: &str) -> bool {
    profile
        .text
        .lines()
        .any(|line| line.strip_prefix(effect).is_some_and(|rest| rest.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_finds_faults_and_profiles() {
        let found = Listed::of("Bedrock");
        assert!(found.kinds.is_empty() && found.profiles.len() >= 3);
        assert!(found.as_text().starts_with("\nProfiles: "), "{}", found.as_text());
        assert!(Listed::of("truncate").kinds.iter().any(|kind| kind.name == "truncate"));
        assert_eq!(Listed::of("").profiles.len(), PROFILES.len());
        assert!(Listed::of("zebra").is_empty());
    }
}
