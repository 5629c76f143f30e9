//! Which key of a JSON text is meant: by name, by path, or drawn from a schema.

use std::collections::BTreeSet;

use serde_json::Value;

use super::How;

/// Which key is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fault) enum Key {
    /// The first one of the first object.
    First,
    /// The first one with this name, however deep.
    Named(String),
    /// At this path from the top; None is any item of an array.
    Path(Vec<Option<String>>),
}

impl Key {
    /// `city`, or a path: `$.stops[*].city`, `stops.city`.
    pub(in crate::fault) fn read(text: &str) -> Self {
        let path = text.strip_prefix("$.").unwrap_or(text);
        if path == text && !text.contains(['.', '[']) {
            return Self::Named(text.to_owned());
        }
        let mut steps = Vec::new();
        for part in path.split('.') {
            let (name, items) = part.split_at(part.find('[').unwrap_or(part.len()));
            if !name.is_empty() {
                steps.push(Some(name.to_owned()));
            }
            steps.extend((0..items.matches('[').count()).map(|_| None));
        }
        Self::Path(steps)
    }

    /// A key of a schema that fits, drawn by a number in `[0, 1)`; the first key where no schema
    /// says more. None where the schema has no such key.
    pub(in crate::fault) fn draw(how: How, schema: Option<&Value>, drawn: f64) -> Option<Self> {
        let Some(properties) = schema.and_then(|schema| schema["properties"].as_object()) else {
            return (how != How::InvalidEnum).then_some(Self::First);
        };
        let required: BTreeSet<&str> = schema
            .and_then(|schema| schema["required"].as_array())
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let fits = |name: &str, schema: &Value| match how {
            How::InvalidEnum => schema.get("enum").is_some() || schema.get("const").is_some(),
            How::Null => !allows(schema, "null"),
            _ => required.is_empty() || required.contains(name),
        };
        let fitting: Vec<&String> =
            properties.iter().filter(|(name, about)| fits(name, about)).map(|(n, _)| n).collect();
        let at = (drawn * fitting.len() as f64) as usize;
        fitting.get(at).map(|name| Self::Path(vec![Some((*name).clone())]))
    }
}

/// Whether a schema says that this type is allowed.
fn allows(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => schema["anyOf"].as_array().is_some_and(|any| any.iter().any(|one| allows(one, kind))),
    }
}

/// Another name that a model might make up: `userName` for `user_name`, `city_value` for `city`.
pub(super) fn renamed(name: &str) -> String {
    if !name.contains('_') {
        return format!("{name}_value");
    }
    let mut parts = name.split('_').filter(|part| !part.is_empty());
    let mut new = parts.next().unwrap_or("value").to_owned();
    for part in parts {
        let mut letters = part.chars();
        new.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        new.push_str(letters.as_str());
    }
    if new == name { format!("{name}value") } else { new }
}
