//! Filters over payloads: `must`, `should`, `must_not` and the conditions in them.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::point::PointId;

/// Which points are wanted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default, deserialize_with = "one_or_many")]
    must: Vec<Condition>,
    #[serde(default, deserialize_with = "one_or_many")]
    should: Vec<Condition>,
    #[serde(default, deserialize_with = "one_or_many")]
    must_not: Vec<Condition>,
    min_should: Option<MinShould>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct MinShould {
    conditions: Vec<Condition>,
    min_count: usize,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
enum Condition {
    Field { key: String, test: Test },
    HasId(Vec<PointId>),
    Nested { key: String, filter: Filter },
    Filter(Filter),
}

/// What a field's value must be.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Is(Value),
    Any(Vec<Value>),
    Except(Vec<Value>),
    /// All of these words (`true`), or any of them.
    Words(Vec<String>, bool),
    Phrase(String),
    Range {
        above: Bound,
        below: Bound,
    },
    Count {
        above: Bound,
        below: Bound,
    },
    Empty,
    Null,
}

/// An end of a range, and whether the end itself belongs to it.
type Bound = Option<(Value, bool)>;

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Condition>, D::Error> {
    let read = |value| serde_json::from_value(value).map_err(serde::de::Error::custom);
    match Value::deserialize(from)? {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => list.into_iter().map(read).collect(),
        one => Ok(vec![read(one)?]),
    }
}

impl TryFrom<Map<String, Value>> for Condition {
    type Error = String;

    fn try_from(map: Map<String, Value>) -> Result<Self, String> {
        let read_field = |value: &Value, test| {
            let key = value["key"].as_str().ok_or("`key` of a condition is missing")?;
            Ok(Self::Field { key: key.to_owned(), test })
        };
        if let Some(key) = map.get("key") {
            let key = key.as_str().ok_or("`key` must be text")?.to_owned();
            return Ok(Self::Field { key, test: Test::read(&map)? });
        }
        if let Some(empty) = map.get("is_empty") {
            return read_field(empty, Test::Empty);
        }
        if let Some(null) = map.get("is_null") {
            return read_field(null, Test::Null);
        }
        if let Some(ids) = map.get("has_id") {
            let ids = serde_json::from_value(ids.clone()).map_err(|error| error.to_string())?;
            return Ok(Self::HasId(ids));
        }
        let (value, key) = match map.get("nested") {
            Some(nested) => {
                let key = nested["key"].as_str().ok_or("`key` of `nested` is missing")?;
                (nested["filter"].clone(), Some(key.to_owned()))
            }
            None => (Value::Object(map), None),
        };
        let filter: Filter = serde_json::from_value(value).map_err(|error| error.to_string())?;
        Ok(match key {
            Some(key) => Self::Nested { key, filter },
            None => Self::Filter(filter),
        })
    }
}

impl Test {
    fn read(map: &Map<String, Value>) -> Result<Self, String> {
        if let Some(wanted) = map.get("match").and_then(Value::as_object) {
            return Self::read_match(wanted);
        }
        if let Some(range) = map.get("range").filter(|range| range.is_object()) {
            return Ok(Self::Range { above: bound(range, "gt"), below: bound(range, "lt") });
        }
        if let Some(count) = map.get("values_count").filter(|count| count.is_object()) {
            return Ok(Self::Count { above: bound(count, "gt"), below: bound(count, "lt") });
        }
        if map.get("is_empty") == Some(&Value::Bool(true)) {
            return Ok(Self::Empty);
        }
        if map.get("is_null") == Some(&Value::Bool(true)) {
            return Ok(Self::Null);
        }
        let names: Vec<&str> = map.keys().map(String::as_str).filter(|key| *key != "key").collect();
        Err(format!("condition `{}` is not simulated", names.join(", ")))
    }

    fn read_match(wanted: &Map<String, Value>) -> Result<Self, String> {
        let Some((name, value)) = wanted.iter().next() else {
            return Err("`match` is empty".to_owned());
        };
        let list = || value.as_array().cloned().ok_or(format!("`match.{name}` must be a list"));
        let text = || value.as_str().ok_or(format!("`match.{name}` must be text"));
        match name.as_str() {
            "value" => Ok(Self::Is(value.clone())),
            "any" => Ok(Self::Any(list()?)),
            "except" => Ok(Self::Except(list()?)),
            "text" => Ok(Self::Words(split(text()?), true)),
            "text_any" => Ok(Self::Words(split(text()?), false)),
            "phrase" => Ok(Self::Phrase(text()?.to_lowercase())),
            other => Err(format!("`match.{other}` is not simulated")),
        }
    }

    fn passes(&self, values: &[&Value]) -> bool {
        let any = |test: &dyn Fn(&Value) -> bool| values.iter().any(|value| test(value));
        match self {
            Self::Is(wanted) => any(&|value| equal(value, wanted)),
            Self::Any(list) => any(&|value| list.iter().any(|wanted| equal(value, wanted))),
            Self::Except(list) => any(&|value| !list.iter().any(|other| equal(value, other))),
            Self::Words(wanted, all) => any(&|value| {
                let words = value.as_str().map(split).unwrap_or_default();
                let has = |word: &String| words.contains(word);
                if *all { wanted.iter().all(has) } else { wanted.iter().any(has) }
            }),
            Self::Phrase(phrase) => any(&|value| {
                value.as_str().is_some_and(|text| text.to_lowercase().contains(phrase))
            }),
            Self::Range { above, below } => any(&|value| within(value, above, below)),
            Self::Count { above, below } => within(&values.len().into(), above, below),
            Self::Empty => values.iter().all(|value| value.is_null()),
            Self::Null => any(&Value::is_null),
        }
    }
}

impl Filter {
    pub(super) fn matches(&self, id: &PointId, payload: &Map<String, Value>) -> bool {
        let holds = |condition: &Condition| condition.holds(id, payload);
        self.must.iter().all(holds)
            && (self.should.is_empty() || self.should.iter().any(holds))
            && !self.must_not.iter().any(holds)
            && self.min_should.as_ref().is_none_or(|least| {
                least.conditions.iter().filter(|one| holds(one)).count() >= least.min_count
            })
    }
}

impl Condition {
    fn holds(&self, id: &PointId, payload: &Map<String, Value>) -> bool {
        match self {
            Self::Field { key, test } => test.passes(&values(payload, key)),
            Self::HasId(ids) => ids.contains(id),
            Self::Nested { key, filter } => values(payload, key)
                .iter()
                .filter_map(|value| value.as_object())
                .any(|inner| filter.matches(id, inner)),
            Self::Filter(filter) => filter.matches(id, payload),
        }
    }
}

/// The values under a dotted key; lists count as their items.
fn values<'a>(payload: &'a Map<String, Value>, key: &str) -> Vec<&'a Value> {
    let mut found: Vec<&Value> = Vec::new();
    let mut parts = key.split('.').map(|part| part.trim_end_matches("[]"));
    found.extend(parts.next().and_then(|first| payload.get(first.trim_matches('"'))));
    for part in parts {
        found = items(&found).into_iter().filter_map(|value| value.get(part)).collect();
    }
    items(&found)
}

fn items<'a>(values: &[&'a Value]) -> Vec<&'a Value> {
    let mut found = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::Array(list) => found.extend(list),
            value => found.push(*value),
        }
    }
    found
}

fn equal(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b)
}

fn bound(range: &Value, word: &str) -> Bound {
    let ends = [(word.to_owned(), false), (format!("{word}e"), true)];
    ends.into_iter().find_map(|(word, included)| {
        let end = range.get(word).filter(|end| !end.is_null())?;
        Some((end.clone(), included))
    })
}

/// Whether a number, or a time as text, lies between two ends.
fn within(value: &Value, above: &Bound, below: &Bound) -> bool {
    let reaches = |bound: &Bound, sign: std::cmp::Ordering| match bound {
        None => true,
        Some((end, included)) => match compare(value, end) {
            None => false,
            Some(order) => order == sign || (*included && order.is_eq()),
        },
    };
    (above.is_some() || below.is_some())
        && reaches(above, std::cmp::Ordering::Greater)
        && reaches(below, std::cmp::Ordering::Less)
}

fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        // Times in one notation sort as text does.
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn split(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(filter: Value, payload: &Value) -> bool {
        let filter: Filter = serde_json::from_value(filter).unwrap();
        filter.matches(&PointId::Number(7), payload.as_object().unwrap())
    }

    #[test]
    fn conditions_hold_as_documented() {
        let payload = json!({
            "topic": "refund", "views": 120, "tags": ["a", "b"], "at": "2026-02-01T00:00:00Z",
            "text": "A refund takes five days", "none": null, "open": true,
            "author": { "name": "Ann", "books": [{ "year": 1999 }, { "year": 2020 }] },
        });
        let field =
            |key: &str, name: &str, test: Value| json!({ "must": [{ "key": key, name: test }] });
        let cases = [
            (field("topic", "match", json!({ "value": "refund" })), true),
            (field("topic", "match", json!({ "value": "Refund" })), false),
            (field("tags", "match", json!({ "value": "b" })), true),
            (field("tags[]", "match", json!({ "any": ["z", "a"] })), true),
            (field("topic", "match", json!({ "except": ["refund"] })), false),
            (field("open", "match", json!({ "value": true })), true),
            (field("text", "match", json!({ "text": "days refund" })), true),
            (field("text", "match", json!({ "text": "days later" })), false),
            (field("text", "match", json!({ "text_any": "days later" })), true),
            (field("text", "match", json!({ "phrase": "takes five" })), true),
            (field("views", "range", json!({ "gte": 120, "lt": 121 })), true),
            (field("views", "range", json!({ "gt": 120.0 })), false),
            (field("at", "range", json!({ "gte": "2026-01-01T00:00:00Z" })), true),
            (field("tags", "values_count", json!({ "gt": 1 })), true),
            (field("author.name", "match", json!({ "value": "Ann" })), true),
            (field("author.books[].year", "range", json!({ "lt": 2000 })), true),
            (json!({ "must": { "is_empty": { "key": "missing" } } }), true),
            (json!({ "must": [{ "is_null": { "key": "none" } }] }), true),
            (json!({ "must": [{ "has_id": [7] }] }), true),
            (json!({ "must_not": [{ "has_id": [7] }] }), false),
            (json!({ "should": [{ "has_id": [1] }, { "has_id": [7] }] }), true),
            (json!({ "must": [{ "should": [{ "has_id": [1] }] }] }), false),
            (json!({ "min_should": { "conditions": [{ "has_id": [7] }], "min_count": 2 } }), false),
            (
                json!({ "must": [{ "nested": { "key": "author.books", "filter": {
                    "must": [{ "key": "year", "match": { "value": 2020 } }] } } }] }),
                true,
            ),
            (json!({}), true),
        ];
        for (filter, expected) in cases {
            assert_eq!(matches(filter.clone(), &payload), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_not_simulated_is_refused_by_name() {
        let geo = json!({ "must": [{ "key": "at", "geo_radius": { "radius": 1 } }] });
        let error = serde_json::from_value::<Filter>(geo).unwrap_err().to_string();
        assert!(error.contains("geo_radius"), "{error}");
        assert!(serde_json::from_value::<Filter>(json!({ "most": [] })).is_err());
    }
}
