//! The JSON Schema that editors use, and what derives cannot say.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::Experiment;
use crate::fault::KINDS;

/// The JSON Schema (draft 2020-12) of an experiment file, as `brownout schema` prints it.
pub fn schema_json() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Experiment>().to_value();
    drop_null(&mut schema);
    allow_variables(&mut schema);
    schema
}

/// The same as text.
pub fn schema_text() -> String {
    format!("{:#}\n", schema_json())
}

/// A field that may be left out is no field that may be null: editors should not offer it.
fn drop_null(schema: &mut Value) {
    let Value::Object(map) = schema else {
        if let Value::Array(items) = schema {
            items.iter_mut().for_each(drop_null);
        }
        return;
    };
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            map["type"] = one.clone();
        }
    }
    let is_null = |one: &Value| one == &json!({ "type": "null" });
    if let Some(Value::Array(choices)) = map.get_mut("anyOf")
        && choices.iter().any(is_null)
    {
        choices.retain(|one| !is_null(one));
        if let [Value::Object(one)] = choices.as_slice() {
            let one = one.clone();
            map.remove("anyOf");
            for (key, value) in one {
                map.entry(key).or_insert(value);
            }
        }
    }
    map.retain(|key, value| !(key == "default" && value.is_null()));
    if let Some(Value::Array(values)) = map.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    map.values_mut().for_each(drop_null);
}

/// Any number, boolean or text with a pattern may also be given as `${NAME}`.
fn allow_variables(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(allow_variables),
        Value::Object(map) => {
            map.values_mut().for_each(allow_variables);
            let narrow = match map.get("type").and_then(Value::as_str) {
                Some("boolean" | "integer" | "number") => true,
                Some("string") => map.contains_key("pattern"),
                _ => false,
            };
            if narrow {
                let kept = ["description", "examples"];
                let mut outer: Map<String, Value> = kept
                    .iter()
                    .filter_map(|key| map.remove(*key).map(|value| ((*key).to_owned(), value)))
                    .collect();
                let inner = Value::Object(std::mem::take(map));
                let variable = json!({ "type": "string", "pattern": "\\$\\{[^}]+\\}" });
                outer.insert("anyOf".into(), json!([inner, variable]));
                *map = outer;
            }
        }
        _ => {}
    }
}

/// Adds the real failure that an effect mimics, and an example, to its schema.
pub(super) fn effect(name: &str, schema: Value) -> Value {
    let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else { return schema };
    let mut schema = match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    schema.remove("description");
    schema.insert(
        "description".into(),
        json!(format!("{}. Example: {}: {}", kind.summary, kind.name, kind.example)),
    );
    if let Ok(example) = serde_yaml::from_str::<Value>(kind.example) {
        schema.insert("examples".into(), json!([example]));
    }
    Value::Object(schema)
}

pub(super) fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": 1 })
}

pub(super) fn kind(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": crate::dialect::KINDS })
}

pub(super) fn sim_model(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": crate::sim::MODELS })
}

pub(super) fn prompt_preset(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": crate::workload::prompt::PRESETS })
}

pub(super) fn profile(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = crate::config::profile::PROFILES.iter().map(|one| one.name).collect();
    json_schema!({ "type": "string", "examples": names })
}

/// Any JSON.
pub(super) struct Anything;

/// Names and plain values.
pub(super) struct Vars;

/// Names and parts of an experiment.
pub(super) struct Overlays;

macro_rules! only_schema {
    ($type:ident, $schema:tt) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

only_schema!(Anything, {});
only_schema!(Vars, {
    "type": "object",
    "additionalProperties": { "type": ["string", "number", "boolean"] }
});
only_schema!(Overlays, { "type": "object", "additionalProperties": { "type": "object" } });

/// Reads a type from text by its `FromStr`, and gives it a schema.
macro_rules! text_type {
    ($type:ident, $expects:literal, $schema:tt) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct FromText;

                impl serde::de::Visitor<'_> for FromText {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expects)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_any(FromText)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

pub(super) use text_type;
