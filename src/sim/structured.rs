//! Values that fit a JSON Schema: arguments of tool calls and answers in JSON mode.

use serde_json::{Map, Value, json};

use super::text::{self, Prompt};
use super::words;
use crate::dice::Dice;

/// Schemas may refer to themselves; this deep an answer goes.
const DEPTH: usize = 8;

/// Fills a schema with words of the prompt.
pub(super) fn fill(schema: &Value, prompt: &Prompt, dice: &mut Dice) -> Value {
    Filler { root: schema, prompt, dice }.value(schema, "", 0)
}

/// An object for JSON mode without a schema.
pub(super) fn object(prompt: &Prompt, dice: &mut Dice) -> Value {
    json!({
        "answer": text::sentence(prompt, dice),
        "topic": prompt.topic(),
        "confidence": (dice.between(0.6, 0.99) * 100.0).round() / 100.0,
    })
}

struct Filler<'a> {
    root: &'a Value,
    prompt: &'a Prompt,
    dice: &'a mut Dice,
}

impl Filler<'_> {
    fn value(&mut self, schema: &Value, name: &str, depth: usize) -> Value {
        if depth > DEPTH {
            return Value::Null;
        }
        if let Some(value) = given(schema) {
            return value;
        }
        if let Some(target) = self.reference(schema) {
            return self.value(&target, name, depth + 1);
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema[choice].get(0) {
                return self.value(&first.clone(), name, depth + 1);
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "integer" => json!(self.number(schema) as i64),
            "number" => json!(self.number(schema)),
            "boolean" => json!(self.dice.unit() < 0.5),
            "null" => Value::Null,
            _ => json!(self.string(schema, name)),
        }
    }

    fn reference(&self, schema: &Value) -> Option<Value> {
        let pointer = schema["$ref"].as_str()?.strip_prefix('#')?;
        self.root.pointer(pointer).cloned()
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut filled = Map::new();
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            filled.insert(name.clone(), self.value(inner, name, depth + 1));
        }
        Value::Object(filled)
    }

    fn array(&mut self, schema: &Value, name: &str, depth: usize) -> Value {
        let least = schema["minItems"].as_u64().unwrap_or(1).min(20);
        let most = schema["maxItems"].as_u64().unwrap_or(least.max(2));
        let length = if depth == DEPTH { least } else { least.max(1).min(most) };
        (0..length).map(|_| self.value(&schema["items"], name, depth + 1)).collect()
    }

    fn number(&mut self, schema: &Value) -> f64 {
        let low =
            schema["minimum"].as_f64().or_else(|| Some(schema["exclusiveMinimum"].as_f64()? + 1.0));
        let high = schema["maximum"].as_f64();
        let (low, high) = match (low, high) {
            (Some(low), high) => (low, high.unwrap_or(low + 9.0)),
            (None, Some(high)) => (high.min(1.0), high),
            (None, None) => (1.0, 10.0),
        };
        self.dice.between(low.ceil(), high + 1.0).floor().clamp(low, high.max(low))
    }

    fn string(&mut self, schema: &Value, name: &str) -> String {
        match schema["format"].as_str() {
            Some("date") => return "2026-01-15".to_owned(),
            Some("date-time") => return "2026-01-15T09:30:00Z".to_owned(),
            Some("email") => return "user@example.com".to_owned(),
            Some("uri") => return "https://example.com/".to_owned(),
            Some("uuid") => return "123e4567-e89b-42d3-a456-426614174000".to_owned(),
            _ => {}
        }
        let mut text = self.words_for(&name.to_lowercase());
        if let Some(most) = schema["maxLength"].as_u64() {
            text = text.chars().take(most as usize).collect();
        }
        text
    }

    fn words_for(&mut self, name: &str) -> String {
        let names_a_thing = ["city", "location", "place", "country", "name", "to", "from"]
            .iter()
            .any(|word| name.ends_with(word));
        if names_a_thing && let Some(proper) = proper_name(&self.prompt.question) {
            return proper;
        }
        if ["query", "question", "text", "input"].iter().any(|word| name.contains(word)) {
            return self.prompt.question.clone();
        }
        if ["answer", "summary", "description", "reason", "message"]
            .iter()
            .any(|word| name.contains(word))
        {
            return text::sentence(self.prompt, self.dice);
        }
        self.prompt.topic()
    }
}

/// A value that the schema itself gives.
fn given(schema: &Value) -> Option<Value> {
    let from_list = |key: &str| schema[key].get(0).cloned();
    schema.get("const").cloned().or_else(|| from_list("enum")).or_else(|| from_list("examples"))
}

/// The type of a schema; the first that is not null where several are allowed.
fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema["properties"].is_object() => "object",
        _ if schema["items"].is_object() => "array",
        _ => "string",
    }
}

/// Capitalised words within a sentence: `weather in New York` gives `New York`.
fn proper_name(text: &str) -> Option<String> {
    let found: Vec<&str> = words::of(text)
        .skip(1)
        .skip_while(|word| !is_capitalised(word))
        .take_while(|word| is_capitalised(word))
        .collect();
    (!found.is_empty()).then(|| found.join(" "))
}

fn is_capitalised(word: &str) -> bool {
    word.chars().count() > 1 && word.starts_with(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(schema: &Value, question: &str) -> Value {
        let prompt = Prompt::from_texts(&[], question);
        fill(schema, &prompt, &mut Dice::from_seed(1))
    }

    #[test]
    fn values_fit_their_schema() {
        let schema = json!({
            "$defs": { "node": { "type": "object", "properties": {
                "label": { "type": "string", "maxLength": 5 },
                "children": { "type": "array", "items": { "$ref": "#/$defs/node" } },
            }, "required": ["label"] } },
            "type": "object",
            "properties": {
                "city": { "type": "string" },
                "unit": { "type": "string", "enum": ["celsius", "fahrenheit"] },
                "days": { "type": "integer", "minimum": 1, "maximum": 7 },
                "share": { "type": "number", "minimum": 0, "maximum": 1 },
                "exact": { "type": ["boolean", "null"] },
                "tags": { "type": "array", "items": { "type": "string" }, "minItems": 2 },
            },
            "required": ["city", "unit", "days", "share", "exact", "tags"],
            "additionalProperties": false,
        });
        let value = filled(&schema, "What is the weather in New York?");
        assert_eq!(value["city"], "New York");
        assert_eq!(value["unit"], "celsius");
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(validator.is_valid(&value), "{value}");
    }

    #[test]
    fn schemas_that_refer_to_themselves_end() {
        let schema = json!({ "type": "object", "properties": { "next": { "$ref": "#" } } });
        assert!(filled(&schema, "loop").is_object());
    }
}
