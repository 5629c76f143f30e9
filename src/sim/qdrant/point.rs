//! Points and their ids.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// A whole number or a UUID (kept with hyphens, in lower case).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(untagged, try_from = "Value")]
pub(super) enum PointId {
    Number(u64),
    Uuid(String),
}

/// What is kept under an id.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// The number of the last operation that wrote it.
    pub(super) version: u64,
    /// By name; the unnamed vector's name is empty.
    pub(super) vectors: BTreeMap<String, Vec<f32>>,
    pub(super) payload: Map<String, Value>,
}

/// Vectors as clients give them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum GivenVectors {
    Unnamed(Vec<f32>),
    Named(BTreeMap<String, Vec<f32>>),
}

impl GivenVectors {
    pub(super) fn by_name(self) -> BTreeMap<String, Vec<f32>> {
        match self {
            Self::Unnamed(vector) => BTreeMap::from([(String::new(), vector)]),
            Self::Named(vectors) => vectors,
        }
    }
}

impl PointId {
    /// An id in a path, where numbers are text.
    pub(super) fn from_path(text: &str) -> Result<Self, Refusal> {
        let value = text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from);
        Self::try_from(value).map_err(Refusal::bad_input)
    }
}

impl TryFrom<Value> for PointId {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let read = match &value {
            Value::Number(number) => number.as_u64().map(Self::Number),
            Value::String(text) => uuid(text).map(Self::Uuid),
            _ => None,
        };
        read.ok_or_else(|| {
            format!(
                "value {value} is not a valid point ID, valid values are either an unsigned \
                 integer or a UUID"
            )
        })
    }
}

/// A UUID in its usual form; None when the text is none.
fn uuid(text: &str) -> Option<String> {
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let digits: String = text.chars().filter(|c| *c != '-').collect::<String>().to_lowercase();
    let well_formed = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    well_formed.then(|| {
        let (a, b, c) = (&digits[..8], &digits[8..12], &digits[12..16]);
        format!("{a}-{b}-{c}-{}-{}", &digits[16..20], &digits[20..])
    })
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_or_uuids() {
        let read = |text: &str| serde_json::from_str::<PointId>(text);
        assert_eq!(read("7").unwrap(), PointId::Number(7));
        let uuid = PointId::Uuid("123e4567-e89b-42d3-a456-426614174000".to_owned());
        assert_eq!(read(r#""123E4567E89B42D3A456426614174000""#).unwrap(), uuid);
        assert_eq!(serde_json::to_string(&uuid).unwrap(), format!("\"{uuid}\""));
        let error = read("\"seven\"").unwrap_err().to_string();
        assert!(error.contains("not a valid point ID"), "{error}");
        assert!(read("-1").is_err());
    }
}
