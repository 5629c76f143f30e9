//! The wording of mistakes that the typed reading finds.

use super::diagnostic::Mistake;
use super::place::Place;
use super::tree::{Node, Value};
use crate::fault::EffectSpecs;

/// Puts what a type expects into the words of a YAML author.
pub(super) fn expected(text: &str) -> String {
    match text {
        "f32" | "f64" => "a number".into(),
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => "a whole number above 0".into(),
        "a boolean" => "true or false".into(),
        "a string" | "a str" => "text".into(),
        "a sequence" => "a list".into(),
        _ if text.starts_with("struct ") => "a map".into(),
        other => other.to_owned(),
    }
}

/// Splits "300 what? write 300ms" into what is wrong and the right form, which stands beside the
/// place.
pub(super) fn split_form(message: &str) -> (String, Option<String>) {
    for (end, mark) in [("", "; write "), ("?", "? write ")] {
        if let Some((what, form)) = message.split_once(mark) {
            return (format!("{what}{end}"), Some(format!("write {form}")));
        }
    }
    (message.to_owned(), None)
}

/// What trips people who know YAML 1.1 or other tools.
pub(super) fn type_trap(expected: &str, node: &Node) -> Option<String> {
    let text = node.text()?;
    if expected == "true or false" {
        return match text.to_lowercase().as_str() {
            "yes" | "on" | "y" => Some("write true".into()),
            "no" | "off" | "n" => Some("write false".into()),
            _ => None,
        };
    }
    if expected.starts_with("a list") && !node.secret {
        return Some(format!("write [{text}]"));
    }
    if expected.starts_with("a whole number") || expected == "a number" {
        return text.trim().parse::<f64>().is_ok().then(|| "take the quotes off".into());
    }
    None
}

/// A value from the environment does not fit: says so without showing it.
pub(super) fn secret_misfit(key: &str, mistake: &Mistake, place: Place) -> Mistake {
    let takes = mistake.message.split_once(" takes ").map(|(_, rest)| rest);
    let takes = takes.and_then(|rest| rest.rsplit_once(", not ")).map(|(expected, _)| expected);
    let text = match takes {
        Some(expected) => {
            format!("`{key}` takes {expected}, and what the environment gives is not")
        }
        None => format!("what the environment gives does not fit `{key}`"),
    };
    Mistake::at(place, text).hint("its value is not shown, since it may be a secret")
}

/// Words that mean one of ours in other tools.
const SYNONYMS: &[(&str, &str)] = &[
    ("on", "target"),
    ("true", "target"),
    ("upstreams", "upstream"),
    ("url", "upstream"),
    ("backend", "upstream"),
    ("port", "listen"),
    ("bind", "listen"),
    ("toxicity", "percent"),
    ("probability", "percent"),
    ("percentage", "percent"),
    ("match", "where"),
    ("filter", "where"),
    ("rps", "arrival_rate"),
    ("rate", "arrival_rate"),
    ("vus", "users"),
    ("delay", "latency"),
    ("abort", "error"),
    ("stages", "phases"),
    ("thresholds", "expect"),
    ("assertions", "expect"),
    ("proxies", "dependencies"),
    ("services", "dependencies"),
    ("toxics", "faults"),
    ("headers", "header"),
    ("header", "headers"),
];

/// A key that is not known where it stands.
pub(super) fn unknown_key(
    key: &str,
    owner: &str,
    type_name: Option<&str>,
    known: &[&'static str],
    place: Place,
) -> Mistake {
    let synonym = SYNONYMS
        .iter()
        .find(|(other, ours)| *other == key && known.contains(ours))
        .map(|(_, ours)| *ours);
    let with_synonym = |mistake: Mistake| match synonym {
        Some(ours) => mistake.label(format!("did you mean `{ours}`?")),
        None => mistake,
    };
    if type_name != Some("Fault") {
        let mistake = match owner {
            "here" => Mistake::at(place, format!("unknown key `{key}`")),
            "the file" => Mistake::at(place, format!("unknown key `{key}` in the file")),
            _ => Mistake::at(place, format!("unknown key `{key}` in `{owner}`")),
        };
        return with_synonym(mistake.meant(key, "keys", known.iter().copied()));
    }
    let mistake = Mistake::at(place, format!("unknown effect `{key}` in fault `{owner}`")).meant(
        key,
        "effects",
        EffectSpecs::NAMES.iter().copied(),
    );
    let own = known.iter().filter(|name| !EffectSpecs::NAMES.contains(name)).copied();
    let guess = super::diagnostic::nearest(key, own.clone());
    let mistake = match guess {
        Some(guess) if mistake.label.is_none() => mistake.label(format!("did you mean `{guess}`?")),
        _ => mistake,
    };
    with_synonym(mistake).hint(format!("other keys: {}", own.collect::<Vec<_>>().join(", ")))
}

/// Quotes a value for a message; what comes from the environment is quoted as written.
pub(super) fn quoted(node: Option<&Node>, written: &str, value: &str) -> String {
    match node {
        Some(node) if node.secret => format!("`{}`", super::tree::clip(written)),
        Some(Node { value: Value::Text(text), .. }) => format!("`{}`", super::tree::clip(text)),
        _ => format!("`{}`", super::tree::clip(value)),
    }
}
